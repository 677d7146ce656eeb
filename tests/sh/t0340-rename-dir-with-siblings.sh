#!/bin/bash
# A directory is renamed with siblings in it, while others write in it: one
# event on the directory; all that stands in it comes along.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

mkdir $l/d
echo common >$l/d/f
echo plain >$l/d/plain
synced laptop server
split laptop server
echo laptop >$l/d/f
sleep 0.05
echo server >$s/d/f
heal laptop server
is "two versions stand in the directory" "$(names $s/d)" "f f.conflict-laptop plain"
before=$(vv $l/d/f)

mv $l/d $l/e
within 5 "renamed, it is found under the new name" '[ "$(names $s)" = e ]'
is "with the siblings" "$(names $s/e)" "f f.conflict-laptop plain"
is "and their contents" "$(cat $s/e/f $s/e/f.conflict-laptop | paste -sd' ')" "server laptop"
is "nothing in it was written" "$(vv $l/e/f)" "$before"
is "the conflict is listed under the new name" "$(conflict_names server)" "e/f: f f.conflict-laptop"

# Renamed here, written in there.
split laptop server
mv $l/e $l/moved
echo new >$s/e/new
echo edited >$s/e/plain
rm $s/e/f.conflict-laptop
mkdir $s/e/sub
heal laptop server
is "what was written at the old place is found at the new one" "$(names $l/moved)" "f new plain sub"
is "with its content" "$(cat $l/moved/new $l/moved/plain $l/moved/f | paste -sd' ')" "new edited server"
is "the old place is gone on the server" "$(names $s)" moved
ok "the conflict was resolved there" sibfs conflicts "$T/laptop/store"
same_tree "both show the same" laptop server

# Renamed on both: one name wins, the same one on both; nothing is lost.
split laptop server
mv $l/moved $l/mine
sleep 0.05
mv $s/moved $s/yours
heal laptop server
same_tree "renamed on both: both show the same" laptop server
is "under one name, the newest" "$(names $l)" yours
is "with everything in it" "$(names $l/yours)" "f new plain sub"

# Moved into each other.
mkdir $l/p $l/q
echo p >$l/p/p
echo q >$l/q/q
synced laptop server
split laptop server
mv $l/p $l/q/p
sleep 0.05
mv $s/q $s/p/q
heal laptop server
same_tree "moved into each other: both show the same" laptop server
is "and both files are there" "$(cd $l && find . -name p -type f -exec cat '{}' +; cd "$T/$l" && find . -name q -type f -exec cat '{}' +)" \
	"$(printf 'p\nq')"
done_testing
