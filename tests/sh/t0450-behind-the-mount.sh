#!/bin/bash
# What someone changes in the store while it is not mounted, or below the mount, is
# found when it is first read, becomes a version and travels; what comes from a peer
# never takes its place unseen.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=$T/laptop/mnt s=$T/server/mnt st=$T/laptop/store
mkdir "$l/d"
for f in edited same replaced d/in; do echo first >"$l/$f"; done
synced laptop server
replica_umount laptop

echo "edited without a mount" >"$st/edited"
echo "new without a mount" >"$st/new"
mkdir "$st/newdir"
echo "in a new directory" >"$st/newdir/in"
echo "longer, in a directory" >"$st/d/in"
echo "replaced without a mount" >"$st/replaced.tmp"
mv "$st/replaced.tmp" "$st/replaced"
before=$(dot "$s/same")
replica_mount laptop
is "it is read as it is" "$(cat "$l/edited")" "edited without a mount"
cat "$l/new" "$l/same" "$l/replaced" "$l/d/in" >/dev/null
ls "$l/newdir" >/dev/null
within 10 "what was edited reaches the peer" "has '$s/edited' 'edited without a mount'"
within 10 "what was replaced, too" "has '$s/replaced' 'replaced without a mount'"
within 10 "what was edited in a directory" "has '$s/d/in' 'longer, in a directory'"
within 10 "what is new" "has '$s/new' 'new without a mount'"
within 10 "a new directory with what is in it" "has '$s/newdir/in' 'in a new directory'"
is "what is the same is no new version" "$(dot "$s/same")" "$before"
is "and there are no conflicts" "$(conflict_names laptop)" ""

# Below the mount, and something comes for it.
echo "below the mount" >"$st/same"
echo "from the server" >"$s/same"
within 10 "what was changed below stands beside what comes" "[ \$(cat $l/same* | sort | paste -sd+ | grep -c 'below the mount+from the server') = 1 ]"
synced laptop server
same_tree "on both" laptop server
echo "below, first" >"$st/unread"
within 10 "a new file below is found when it is read" "cat $l/unread && has $s/unread 'below, first'"
done_testing
