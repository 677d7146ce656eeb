#!/bin/bash
# .sibfsignore: names that stay local, on the host whose rules say so.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
for n in laptop server desk; do replica_new $n; done
printf '%s\n' '*.o' '/build/' 'cache' >server/store/.sibfsignore
replica_peer laptop server
replica_peer desk server
for n in laptop server desk; do replica_mount $n; done
l=laptop/mnt s=server/mnt d=desk/mnt
echo x >$l/first
within 20 "linked" 'has $s/first x && has $d/first x'

# What the ignoring host writes stays there.
echo obj >$s/a.o
mkdir $s/build $s/src
echo out >$s/build/out
echo code >$s/src/a.c
echo obj >$s/src/a.o
within 10 "other names travel" 'has $l/src/a.c code'
synced laptop server
fails "ignored files do not" test -e $l/a.o
fails "nor ignored files in directories" test -e $l/src/a.o
fails "nor ignored directories" test -e $l/build
fails "nor the rules" test -e $l/.sibfsignore
echo more >>$s/a.o
mv $s/a.o $s/b.o
rm $s/src/a.o
setfattr -n user.x -v 1 $s/b.o
has $s/b.o "obj
more"
is "an ignored name is no version" "$(vv $s/b.o 2>/dev/null)" ""

# What others write under such names passes through, and does not show.
echo theirs >$l/c.o
head -c 100000 /dev/urandom >$l/large.o
mkdir -p $l/cache/deep
echo cached >$l/cache/deep/x
echo last >$l/last
within 10 "others' other names come" 'has $s/last last'
within 15 "a third replica gets a file through the one that ignores it" 'has $d/c.o theirs && has $d/cache/deep/x cached'
within 15 "a large one too" 'cmp $l/large.o $d/large.o'
head -c 5M /dev/urandom >$l/huge.o
within 15 "and a huge one" 'cmp $l/huge.o $d/huge.o'
fails "it does not show there" test -e $s/c.o
fails "nor does the directory" test -e $s/cache
is "nothing is wanted there" "$(status_get server "s['wanted']")" 0
ok "sync with it is complete" sibfs sync "$T/laptop/store" server --timeout=20
echo edited >$d/c.o
within 15 "edits pass back" 'has $l/c.o edited'
rm $l/c.o
within 15 "and removals" '[ ! -e $d/c.o ]'

# Moves in and out.
mv $s/src/a.c $s/src/a.o
within 10 "renamed to an ignored name it is gone for others" '[ ! -e $l/src/a.c ]'
has $s/src/a.o code
mv $s/src/a.o $s/src/b.c
within 10 "renamed back it is there" 'has $l/src/b.c code'
mkdir -p $s/tree/below
echo 1 >$s/tree/one
echo 2 >$s/tree/below/two
within 10 "a tree" 'has $l/tree/below/two 2'
mv $s/tree $s/build/tree
within 10 "moved into an ignored directory it is gone for others" '[ ! -e $l/tree ]'
mv $s/build/tree $s/tree2
within 10 "moved out it is there" 'has $l/tree2/below/two 2 && has $l/tree2/one 1'

# Removing a directory that holds ignored files.
echo local >$s/tree2/local.o
rm -r $l/tree2
within 10 "a directory removed elsewhere goes, but for what is local" '[ ! -e $s/tree2/one ] && has $s/tree2/local.o local'
sleep 0.5
fails "and does not come back" test -e $l/tree2
mkdir $l/tree2
echo again >$l/tree2/one
within 10 "made again, it is the same directory" 'has $s/tree2/one again && has $s/tree2/local.o local'
rm -r $s/tree2
within 10 "removed here, it goes everywhere" '[ ! -e $l/tree2 ]'

# Other rules, while mounted.
echo here >$s/d.o
echo there >$l/d.o
echo there >$l/e.o
sleep 0.5
printf '%s\n' '/build/' 'secret' >$s/.sibfsignore
within 10 "what is not ignored any more comes" 'has $s/e.o there && has $s/cache/deep/x cached && cmp $s/large.o $l/large.o'
within 10 "and goes" 'has $l/b.o "obj
more"'
within 10 "two files of one name are in conflict" '[ "$(conflict_names server)" = "$(conflict_names laptop)" ] && [ -n "$(conflict_names laptop)" ]'
is "both are there" "$(cat $l/d.o*|sort|paste -sd,)" here,there
echo shared >$s/secret2
echo shared >$s/later
within 10 "a file that is shared" 'has $l/later shared'
echo later >>$s/.sibfsignore
echo private >$s/later
echo theirs >$l/later
sleep 1
is "once ignored it is one's own" "$(cat $s/later)" private
is "on both sides" "$(cat $l/later)" theirs
replica_umount server
replica_mount server
is "also after a restart" "$(cat $s/later)" private
kill9 server
replica_mount server
is "and a crash" "$(cat $s/later)" private
rm $s/.sibfsignore
within 15 "without rules both versions meet" '[ "$(cat $l/later* | sort | paste -sd,)" = private,theirs ]'
within 15 "and what was in the ignored directory comes" 'has $l/build/out out'
ok "in the end all agree" sibfs sync "$T/server/store" --timeout=30
same_tree "and show the same" laptop server
replica_umount server

# Rules that change while nobody looks.
replica_mount server
echo '*.later' >$s/.sibfsignore
echo 1 >$s/x.later
echo 2 >$l/y.later
echo 3 >$l/z
within 10 "other rules" 'has $s/z 3'
replica_umount server
: >server/store/.sibfsignore
replica_mount server
within 10 "changed while it was not mounted, they hold" 'has $s/y.later 2 && has $l/x.later 1'
replica_umount server

# Files that are taken in.
mkdir -p fourth/store fourth/mnt
echo a >fourth/store/a.o
echo b >fourth/store/b.c
echo '*.o' >fourth/store/.sibfsignore
try sibfs init "$T/fourth/store" --node fourth --set four
replica_mount fourth
is "init does not take in what is ignored" "$(vv fourth/mnt/b.c),$(vv fourth/mnt/a.o 2>/dev/null)" "fourth:1,"
done_testing
