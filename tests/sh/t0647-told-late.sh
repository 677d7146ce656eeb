#!/bin/bash
# What users did while the replica's thread was held up, and what it is about
# stands elsewhere by the time it is told; where the kernel has forgotten it
# besides, the mount does not know it by its inode any more either.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

# hold NAME / release NAME: that thread of laptop stands still in between.
declare -A holder
hold() {
	rm -f "$1.held"
	: >"$1"
	python3 "$lib/hold_thread.py" "$(cat laptop/store/.sibfs/pid)" "$1" "$1" &
	holder[$1]=$!
	wait_for "[ -e $1.held ] || ! kill -0 $!" 10
	[ -e "$1.held" ] || skip_all "no thread can be stopped here"
}
release() {
	rm "$1"
	wait "${holder[$1]}"
}
forget() {
	echo 2 2>/dev/null >/proc/sys/vm/drop_caches
}

mkdir $l/d $l/e $l/e/sub
for f in d/written d/set d/timed e/sub/written; do echo before >$l/$f; done
synced laptop server
hold sibfs-replica
echo after >$l/d/written
chmod 600 $l/d/set
setfattr -n user.color -v red $l/d/set
touch -d 2001-01-01 $l/d/timed
echo new >$l/d/new
mv $l/d $l/moved
echo after >$l/e/sub/written
mv $l/e/sub $l/moved/sub
mkdir -m 750 $l/made
setfattr -n user.color -v blue $l/made
echo in >$l/made/in
mv $l/made $l/placed
forget || diag "the kernel cannot be made to forget"
release sibfs-replica
synced laptop server
is "a file that was written before its directory was moved" "$(cat $s/moved/written)" after
is "one that was made" "$(cat $s/moved/new)" new
is "one whose attributes were set" "$(stat -c %a $s/moved/set) $(getfattr --only-values -n user.color $s/moved/set)" "600 red"
is "one whose time was set" "$(stat -c %Y $s/moved/timed)" "$(date -d 2001-01-01 +%s)"
is "one whose directory was moved into one that was moved" "$(cat $s/moved/sub/written)" after
is "a directory that was made under another name" "$(stat -c %a $s/placed) $(getfattr --only-values -n user.color $s/placed) $(cat $s/placed/in)" "750 blue in"
same_tree "both show the same" laptop server

# A round that is asked for covers all that was done before the mount was asked.
hold sibfs-barrier
sibfs sync server/store laptop --timeout=30 &
sync=$!
sleep 1
hold sibfs-replica
mkdir -m 700 $l/first
echo in >$l/first/in
mv $l/first $l/second
forget
release sibfs-barrier
sleep 0.5
release sibfs-replica
wait $sync
is "a round succeeds" $? 0
is "and brought it all" "$(stat -c %a $s/second) $(cat $s/second/in)" "700 in"

# Times that are set before what was written is told, and again after that.
hold sibfs-replica
for n in 1 2 3; do
	head -c 100000 /dev/urandom >$l/t$n
	touch -d 2002-02-02 $l/t$n
done
release sibfs-replica
within 10 "they are told" 'dot $l/t3'
hold sibfs-replica
touch -d 2003-03-03 $l/t1
touch -d 2003-03-03 $l/t2
touch -d 2004-04-04 $l/t2
touch -d 2003-03-03 $l/t3
head -c 100000 /dev/urandom >$l/t3
release sibfs-replica
synced laptop server
same_tree "times that are set one after another travel" laptop server



done_testing
