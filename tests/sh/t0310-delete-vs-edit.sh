#!/bin/bash
# An edit beats a concurrent removal: a removal covers only what was seen.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

mkdir -p $l/dir $l/gone
echo old >$l/a
echo old >$l/b
echo old >$l/both
echo old >$l/dir/kept
echo old >$l/dir/other
echo old >$l/gone/x
synced laptop server

split laptop server
rm $l/a
echo edited >$s/a
echo edited >$l/b
rm $s/b
rm $l/both $s/both
rm -r $l/dir
echo edited >$s/dir/kept
echo new >$s/dir/new
rm -r $l/gone
chmod 700 $s/gone/x
heal laptop server

ok "removed on the laptop, edited on the server: the edit stays" has $l/a edited
ok "and the other way round" has $s/b edited
fails "removed on both: gone" test -e $l/both
ok "a directory removed stands while something new is in it" has $l/dir/new new
ok "an edited file in it stays" has $l/dir/kept edited
fails "the one that nobody edited is gone" test -e $l/dir/other
same_tree "both show the same" laptop server
is "nothing stands as a conflict" "$(find $l $s -name '*conflict*')" ""
ok "nor is one listed" sibfs conflicts "$T/laptop/store"

rm -r $s/dir
synced laptop server
fails "removed again, with all in sight, it is gone" test -e $l/dir
same_tree "on both" laptop server

# A removal is no news for ever: the name can be used again.
echo fresh >$l/both
synced laptop server
ok "a removed name is written anew" has $s/both fresh
is "and is no conflict" "$(names $s | tr ' ' '\n' | grep -c conflict)" 0
done_testing
