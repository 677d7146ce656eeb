#!/bin/bash
# A file that is moved to a name that editors use for a moment is told a second
# later, as its old name may be made anew: what else is done to either name
# meanwhile, and what comes from the peer, is as right as if it had been told.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

for n in left back dir link over again early chmod gone fifo twice; do echo "first of $n" >$l/$n; done
synced laptop server

both_have() {
	[ "$(cat $l/"$1" 2>&1)" = "$2" ] && [ "$(cat $s/"$1" 2>&1)" = "$2" ]
}
names() { (cd "$1" && ls -d "$2"* 2>/dev/null | paste -sd' '); }

mv $l/left $l/left~
within 4 "one that is not made anew is moved" "both_have left~ 'first of left' && [ ! -e $s/left ]"

mv $l/back $l/back~
mv $l/back~ $l/back
mv $l/dir $l/dir~
mkdir $l/dir
mv $l/link $l/link~
ln -s elsewhere $l/link
mv $l/fifo $l/fifo~
mkfifo $l/fifo
mv $l/over $l/over~
echo "new of over" >$l/new
mv $l/new $l/over
mv $l/gone $l/gone~
rm $l/gone~
mv $l/chmod $l/chmod~
chmod 600 $l/chmod~
synced laptop server
is "moved back it is as before" "$(names $s back) $(cat $s/back)" "back first of back"
is "a directory in its place" "$(stat -c %F $s/dir) $(cat $s/dir~)" "directory first of dir"
is "a link in its place" "$(readlink $s/link) $(cat $s/link~)" "elsewhere first of link"
is "a FIFO in its place, which stays here" "$(names $s fifo) $(cat $s/fifo~)" "fifo~ first of fifo"
rm $l/fifo
is "a file moved to its place" "$(cat $s/over) $(cat $s/over~)" "new of over first of over"
is "it is gone if the backup is" "$(names $s gone)" ""
is "attributes go along" "$(names $s chmod) $(stat -c %a $s/chmod~)" "chmod~ 600"

mv $l/early $l/early~
synced laptop server
is "a round covers what waits" "$(names $s early)" "early~"

# Saved twice within the second: the first backup is replaced.
for k in second third; do
	mv $l/twice $l/twice~
	echo "$k of twice" >$l/twice
done
within 4 "saved twice, the last backup stands" "both_have twice~ 'second of twice' && both_have twice 'third of twice'"

# What comes meanwhile from the peer is concurrent with the move, and lost by neither.
split laptop server
echo "the server's" >$s/again
heal laptop server &
for _ in 1 2 3 4 5 6 7 8 9 10; do
	mv $l/again $l/again~ 2>/dev/null
	sleep 0.1
	mv -n $l/again~ $l/again
done
wait $!
synced laptop server
sleep 1.5
synced laptop server
is "what arrives meanwhile is there" "$(cat $s/again* | grep -c "the server's")" 1
same_tree "both show the same" laptop server

# Killed before it is told.
echo "first of killed" >$l/killed
echo "first of saved" >$l/saved
synced laptop server
mv $l/killed $l/killed~
mv $l/saved $l/saved~
echo "second of saved" >$l/saved
kill -9 "$(cat laptop/store/.sibfs/pid)"
sleep 0.3
replica_mount laptop
synced laptop server
sleep 1.5
synced laptop server
is "a daemon that was killed finds the move" "$(names $s killed)" "killed~"
is "and the save" "$(cat $s/saved) $(cat $s/saved~)" "second of saved first of saved"
same_tree "both show the same then" laptop server
is "no conflict came of all that" "$(find $l $s -name '*conflict*' ! -name 'again*')" ""
done_testing
