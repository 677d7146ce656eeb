#!/bin/bash
# A week without a network, much work on both sides, 50 files that both edited:
# nothing is lost, nothing comes back, and it is over soon.  WEEK_CHANGES=5000
# makes it a long week.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
changes=${WEEK_CHANGES:-600}
files=$((changes / 2))
pair laptop server
l=laptop/mnt s=server/mnt
python3 "$lib/week.py" make $l/tree $files
try sibfs sync "$T/laptop/store" server --timeout=60
same_tree "before: both have the same" laptop server
split laptop server

python3 "$lib/week.py" work $l/tree left $files $changes left.json &
left=$!
python3 "$lib/week.py" work $s/tree right $files $changes right.json &
wait $! $left
ok "both sides work" test -s left.json -a -s right.json
replica_umount laptop
replica_mount laptop

start=$(date +%s%N)
try sibfs resume "$T/laptop/store" server
ok "after the week one round does" sibfs sync "$T/laptop/store" server --timeout=110
diag "$changes changes on each side in $((($(date +%s%N) - start) / 1000000)) ms"
same_tree "both show the same" laptop server
ok "all that was written is there, once, and nothing else" python3 "$lib/week.py" check $l/tree left.json right.json
is "50 files are in conflict" "$(conflict_names laptop | wc -l)" 50
is "on the other side, too" "$(conflict_names server)" "$(conflict_names laptop)"
ok "what both moved is where each moved it" test -d $s/tree/left-moved-0 -a -d $l/tree/right-moved-2
fails "and nowhere else" test -e $l/tree/dir0 -o -e $s/tree/dir2

# Resolved in bulk on one side, it is resolved.
for n in {0..49}; do
	cat $l/tree/both/$n $l/tree/both/$n.conflict-* >merged
	cp merged $l/tree/both/$n
	rm $l/tree/both/$n.conflict-*
done
ok "50 resolutions travel" sibfs sync "$T/laptop/store" server --timeout=60
is "and nothing is in conflict any more" "$(conflict_names laptop)$(conflict_names server)" ""
same_tree "in the end both show the same" laptop server
done_testing
