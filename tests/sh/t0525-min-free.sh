#!/bin/bash
# Replication leaves so much of the receiver's disk free: what fits comes, what
# does not waits, says so, holds up nothing and nobody, and comes by itself.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs mkfs.ext4
cluster_start
truncate -s 100M disk
mkfs.ext4 -q -m 0 disk
mkdir server
at_exit "umount -l $T/server"
mount -o loop disk server 2>/dev/null || skip_all "no loop devices here"
for n in laptop server desk; do replica_new $n; done
sed -i 's/^\[replica\]$/[replica]\nmin_free = 40M/' server/store/.sibfs/config
replica_peer laptop server
replica_peer laptop desk
for n in laptop server desk; do replica_mount $n; done
l=laptop/mnt s=server/mnt
free() { df --output=avail -B1M server | tail -1; }

head -c 20M /dev/urandom >$l/first
within 20 "what fits comes" 'cmp $l/first $s/first'
head -c 50M /dev/urandom >$l/large
head -c 4M /dev/urandom >$l/middle
for i in {1..20}; do echo $i >$l/small$i; done
within 20 "what fits beside what does not, too" 'cmp $l/middle $s/middle && has $s/small20 20'
within 20 "another peer is not held up" 'cmp $l/large desk/mnt/large'
fails "what does not fit waits" test -e $s/large
ok "and the reserve is free ($(free) MiB)" test "$(free)" -ge 40
like "status there says so" "$(status_get server "[p['error'] for p in s['peers']]")" "no room"
is "and what is wanted" "$(status_get server "s['wanted']")" 1
lacks() { status_get laptop "peers['server']['to_send']['versions'], peers['server']['to_send']['bytes'] > 45 << 20"; }
within 20 "and the sender's what it lacks" '[ "$(lacks)" = "(1, True)" ]'
fails "a round is not complete" sibfs sync "$T/laptop/store" server --timeout=5
is "one line in the log, not one a second" "$(grep -c 'no room' server/store/.sibfs/log)" 1
echo own >$s/own
within 10 "what is written there goes out" 'has $l/own own'
dd if=/dev/zero of=$s/users bs=1M count=10 status=none
ok "users may take from the reserve" test "$(stat -c %s $s/users)" = 10485760
rm $s/users $l/first
rm -rf server/store/.sibfs/trash/*
within 10 "the removal frees some" '[ ! -e $s/first ]'
rm -rf server/store/.sibfs/trash/*
sed -i 's/^min_free = .*/min_free = 10%/' server/store/.sibfs/config
try sibfs resume "$T/server/store"
within 20 "with room it comes by itself" 'cmp $l/large $s/large'
ok "and a round is complete" sibfs sync "$T/laptop/store" server --timeout=20
within 5 "status has nothing more to say" '[ "$(status_get server "[p[\"error\"] for p in s[\"peers\"]]")" = "[None]" ]'
for n in laptop server desk; do replica_umount $n; done
done_testing
