#!/bin/bash
# Two users chose the same node name: both replicate through a third, siblings
# have names of their own, and `status` says so.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new server
replica_new phone
mkdir -p other/mnt
try sibfs init "$T/other/store" --node phone --set test
replica_peer phone server
replica_peer other server
for n in server phone other; do replica_mount $n; done
within 20 "both are connected at once" \
	'[ "$(peer_state phone server)" = connected ] && [ "$(peer_state other server)" = connected ]'
echo "by one" >phone/mnt/file
echo "by the other" >other/mnt/file
echo one >phone/mnt/one
echo other >other/mnt/other
for i in 1 2; do synced phone server; synced other server; done
same_tree "all show the same" server phone
same_tree "the other one too" server other
is "each content has a name" "$(names server/mnt)" "file file.conflict-phone one other"
is "and is there" "$(cat server/mnt/file* | sort | paste -sd,)" "by one,by the other"
like "the server says it" "$(sibfs status "$T/server/store")" 'more than one replica is called phone'
is "for programs too" "$(status_get server "[x['node'] for x in s['same_names']]")" "['phone']"
rm other/mnt/file.conflict-phone
echo merged >other/mnt/file
for i in 1 2; do synced other server; synced phone server; done
ok "they resolve as any" has phone/mnt/file merged
is "for good" "$(conflict_names server)" ""
like "both stand in a vector" "$(vv server/mnt/file)" '^phone#2:[0-9]+,phone:[0-9]+$|^phone:[0-9]+,phone#2:[0-9]+$'
is "the same everywhere" "$(vv phone/mnt/file)" "$(vv other/mnt/file)"
n=$(grep -c ': connected' server/store/.sibfs/log)
sleep 2
is "nobody pushes anybody off" "$(grep -c ': connected' server/store/.sibfs/log)" "$n"

refuses "but a peer cannot be called by one's own name" \
	sibfs peer add "$T/phone/store" phone "ssh://127.0.0.1:$SSH_PORT$T/other/store"
done_testing
