#!/bin/bash
# A daemon that was stopped in order starts where it was: no version changes,
# nothing is sent again.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

mkdir $l/d
seq 200 | while read -r i; do echo "$i" >"$l/d/$i"; done
ln -s d $l/link
echo x >$l/x
synced laptop server
split laptop server
echo laptop >$l/x
sleep 0.05
echo server >$s/x
heal laptop server
versions() { find $l -mindepth 1 ! -type l | sort | while read -r f; do echo "$f $(vv "$f")"; done; }
versions >before

replica_umount laptop
is "the store is readable meanwhile" "$(cat laptop/store/d/200 laptop/store/x laptop/store/x.conflict-laptop | paste -sd' ')" "200 server laptop"
replica_mount laptop
versions >after
ok "no version has changed" cmp before after
is "the conflict is still known" "$(conflict_names laptop)" "x: x x.conflict-laptop"
within 20 "the link comes up again" '[ "$(peer_state laptop server)" = connected ]'
is "nothing is to be sent again" "$(status_get laptop "peers['server']['to_send']['versions']")" 0
same_tree "both show the same" laptop server

replica_umount laptop
echo meanwhile >$s/d/meanwhile
rm $s/d/1
mv $s/d $s/e
replica_mount laptop
within 30 "what happened meanwhile comes in" 'has $l/e/meanwhile meanwhile && [ ! -e $l/e/1 ] && [ ! -e $l/d ]'

# Both down, in turn; what was closed last was not sent yet.
replica_umount server
echo unsent >$l/unsent
rm $l/e/2
replica_umount laptop
replica_mount server
replica_mount laptop
within 30 "what was closed before both went down arrives" 'has $s/unsent unsent && [ ! -e $s/e/2 ]'
synced laptop server
same_tree "both show the same in the end" laptop server
is "without a new conflict" "$(conflict_names server)" "x: x x.conflict-laptop"
done_testing
