#!/bin/bash
# `sibfs doctor`: what it finds that the index does not know, and --adopt.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt st=laptop/store
mkdir $l/dir $l/gone
for f in same changed missing; do echo $f >$l/dir/$f; done
echo x >$l/gone/x
synced laptop server
exits "a mounted store is not looked over" 5 sibfs doctor "$T/$st"
replica_umount laptop
exits "a store that is as its index says is healthy" 0 sibfs doctor "$T/$st"

# doctor_get EXPRESSION: of its JSON, o.
doctor_get() {
	sibfs doctor "$T/$st" --json | python3 -c 'import json, sys; o = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1"
}
is "as JSON too" "$(doctor_get "o['healthy'], o['index'], o['files'], o['directories'], o['marks']")" \
	"(True, 'ok', 4, 2, 0)"

sleep 0.01
echo "changed behind its back" >$st/dir/changed
mkdir -p $st/new/deep	# first: it is not to get the inodes of what goes
echo new >$st/new/deep/file
rm $st/dir/missing
rm -r $st/gone
printf 'x' >"$st/b$(printf '\377')d"
exits "what was changed behind its back is found" 1 sibfs doctor "$T/$st"
is "changed" "$(doctor_get "o['changed']")" "['dir/changed']"
is "missing" "$(doctor_get "sorted(o['missing'])")" "['dir/missing', 'gone', 'gone/x']"
is "unknown" "$(doctor_get "sorted(o['unknown'])")" "['b?d', 'new']"
is "nothing was done about it" "$(doctor_get "len(o['changed']), len(o['unknown'])")" "(1, 2)"
exits "adopted" 0 sibfs doctor "$T/$st" --adopt
exits "all is well then" 0 sibfs doctor "$T/$st"
is "with all that is there" "$(doctor_get "o['files'], o['directories']")" "(4, 3)"
replica_mount laptop
synced laptop server
same_tree "the peer has it all" laptop server
ok "edits" has server/mnt/dir/changed "changed behind its back"
ok "new files" has server/mnt/new/deep/file new
ok "and removals" test ! -e server/mnt/gone -a ! -e server/mnt/dir/missing
is "without conflicts" "$(conflict_names server)" ""
refuses "what is no store has no doctor" sibfs doctor "$T/home"
exits "nor has a wrong option" 2 sibfs doctor "$T/$st" --what
done_testing
