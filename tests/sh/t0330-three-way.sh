#!/bin/bash
# Three replicas in a star edit one file; what comes of it is resolved on one
# that has no link of its own to the others but over the server.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
for n in laptop desktop server; do
	replica_new $n
done
replica_peer laptop server
replica_peer desktop server
for n in laptop desktop server; do
	replica_mount $n
done

# Two rounds carry everything everywhere in a star.
all_synced() {
	synced laptop server
	synced desktop server
	synced laptop server
}

echo common >laptop/mnt/f
within 20 "what the laptop writes is passed on to the desktop" 'has desktop/mnt/f common'

for n in laptop desktop server; do
	try sibfs pause "$T/$n/store"
done
echo from-laptop >laptop/mnt/f
sleep 0.05
echo from-desktop >desktop/mnt/f
sleep 0.05
echo from-server >server/mnt/f
all_synced
for n in laptop desktop server; do
	is "$n shows three versions" "$(names $n/mnt)" "f f.conflict-desktop f.conflict-laptop"
	is "$n shows each with its content" "$(cat $n/mnt/f $n/mnt/f.conflict-desktop $n/mnt/f.conflict-laptop | paste -sd' ')" \
		"from-server from-desktop from-laptop"
	is "$n lists one conflict of three" "$(conflict_names $n)" "f: f f.conflict-laptop f.conflict-desktop"
done
is "the vectors are the same everywhere" "$(vv laptop/mnt/f) $(vv desktop/mnt/f)" "$(vv server/mnt/f) $(vv server/mnt/f)"
is "and know all three" "$(vv laptop/mnt/f | tr ',' '\n' | cut -d: -f1 | paste -sd' ')" "desktop laptop server"

echo resolved >desktop/mnt/f
rm desktop/mnt/f.conflict-laptop desktop/mnt/f.conflict-desktop
all_synced
for n in laptop desktop server; do
	is "resolved on the desktop, $n shows one" "$(names $n/mnt):$(cat $n/mnt/f)" f:resolved
	ok "and $n has no conflict" sibfs conflicts "$T/$n/store"
done

# Resolved in part on each of two: what nobody removed is left.
echo a >laptop/mnt/g
sleep 0.05
echo b >desktop/mnt/g
sleep 0.05
echo c >server/mnt/g
all_synced
rm laptop/mnt/g.conflict-laptop
rm desktop/mnt/g.conflict-desktop
all_synced
for n in laptop desktop server; do
	is "one sibling removed here, one there: $n shows what is left" "$(names $n/mnt):$(cat $n/mnt/g)" "f g:c"
done
same_tree "laptop and server show the same" laptop server
same_tree "laptop and desktop too" laptop desktop

for n in laptop desktop server; do
	try sibfs resume "$T/$n/store"
done
echo live >desktop/mnt/h
within 60 "resumed, all goes by itself again" 'has laptop/mnt/h live'
done_testing
