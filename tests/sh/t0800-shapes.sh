#!/bin/bash
# The shapes that replicas stand in: a star whose ends never meet, a ring of
# four, a mesh of five, a server without a mount, and links that change.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start

# shape NODES...: replicas, mounted, of a set of their own.
shape() {
	local n
	for n; do
		replica_new "$n" "set-$1"
	done
}

# mount_all NODES...
mount_all() {
	local n
	for n; do
		replica_mount "$n"
	done
}

# all_have SECONDS CLAIM NODES...: each has the file that each wrote.
all_wrote() {
	local n
	for n in "${@:2}"; do
		echo "$1 of $n" >"$n/mnt/$1-$n"
	done
}
all_have() {
	local what=$1 claim=$2 a b condition=true
	shift 2
	for a; do
		for b; do
			condition="$condition && has $a/mnt/$what-$b '$what of $b'"
		done
	done
	within 20 "$claim" "$condition"
}

# trees_agree CLAIM NODES...: before long.
trees_agree() {
	local claim=$1 first=$2 n condition=true
	shift 2
	for n; do
		condition="$condition && [ \"\$(tree $first/mnt)\" = \"\$(tree $n/mnt)\" ]"
	done
	within 20 "$claim" "$condition"
}

# quiet NODES...: how many bytes the links of these store away in two seconds
# when nobody works, as journal and index: an echo would show.
writes_of() {
	local n sum=0
	for n; do
		sum=$((sum + $(awk '/^write_bytes/ { print $2 }' "/proc/$(cat "$n/store/.sibfs/pid")/io")))
	done
	echo $sum
}
# Marks on what rests and news of what members know come a little later.
silent() {
	within 15 "no echo goes round: nothing is written when nobody works" \
		'before=$(writes_of '"$*"'); sleep 2; [ "$(writes_of '"$*"')" -eq "$before" ]'
}

# A star: laptop and desktop call the server, which is not mounted.
shape laptop desktop server
replica_peer laptop server
replica_peer desktop server
mount_all laptop desktop
all_wrote star laptop desktop
all_have star "star: what the ends write meets, through a server without a mount" laptop desktop
has server/store/star-laptop "star of laptop"
try sibfs pause "$T/laptop/store"
echo laptop >laptop/mnt/both
sleep 0.05
echo desktop >desktop/mnt/both
mkdir -p desktop/mnt/d/e
echo deep >desktop/mnt/d/e/f
synced desktop server
replica_umount desktop
try sibfs resume "$T/laptop/store"
within 20 "star: while one end is away the other gets what it left at the server" 'has laptop/mnt/both desktop && has laptop/mnt/both.conflict-laptop laptop && has laptop/mnt/d/e/f deep'
mv laptop/mnt/d laptop/mnt/moved
rm laptop/mnt/both.conflict-laptop
synced laptop server
replica_umount laptop
replica_mount desktop
within 20 "star: and the other way round, though they never meet" 'has desktop/mnt/moved/e/f deep && [ ! -e desktop/mnt/d ] && [ ! -e desktop/mnt/both.conflict-laptop ]'
is "star: nothing is in conflict" "$(conflict_names desktop)" ""
replica_umount desktop

# A ring of four, one of which goes.
shape r1 r2 r3 r4
replica_peer r1 r2; replica_peer r2 r3; replica_peer r3 r4; replica_peer r4 r1
mount_all r1 r2 r3 r4
all_wrote ring r1 r2 r3 r4
all_have ring "ring: everything reaches everyone" r1 r2 r3 r4
silent r1 r2 r3 r4
kill9 r3
all_wrote broken r1 r2 r4
all_have broken "ring: one that fell out does not part the others" r1 r2 r4
mv r1/mnt/ring-r1 r1/mnt/renamed
rm r2/mnt/ring-r2
replica_mount r3
within 20 "ring: back, it has all" 'has r3/mnt/broken-r1 "broken of r1" && has r3/mnt/renamed "ring of r1" && [ ! -e r3/mnt/ring-r2 ]'
trees_agree "ring: all show the same" r1 r2 r3 r4
is "ring: and nothing is in conflict" "$(conflict_names r3)" ""
for n in r1 r2 r3 r4; do replica_umount $n; done

# A mesh of five, everyone with everyone.
nodes=(m1 m2 m3 m4 m5)
shape "${nodes[@]}"
for i in 0 1 2 3 4; do
	for ((j = i + 1; j < 5; j++)); do
		replica_peer "${nodes[i]}" "${nodes[j]}"
	done
done
mount_all "${nodes[@]}"
all_wrote mesh "${nodes[@]}"
all_have mesh "mesh: everything reaches everyone" "${nodes[@]}"
head -c 300000 /dev/urandom >m1/mnt/large
for n in "${nodes[@]}"; do
	echo "$n" >"$n/mnt/same" &
done
wait
within 20 "mesh: a large file, too" 'cmp m1/mnt/large m5/mnt/large && cmp m1/mnt/large m3/mnt/large'
trees_agree "mesh: five who write one file at once show the same" "${nodes[@]}"
is "mesh: and all versions that nobody replaced are there" "$(cat m1/mnt/same* | sort | paste -sd,)" "$(cat m4/mnt/same* | sort | paste -sd,)"
silent "${nodes[@]}"
# Everyone pauses all but one link: a chain is left.
for n in m1 m2 m3; do
	for ((j = ${n#m} + 2; j <= 5; j++)); do
		try sibfs pause "$T/$n/store" m$j
	done
done
echo end >m5/mnt/end
within 20 "mesh: through a chain that is left of it" 'has m1/mnt/end end'
for n in "${nodes[@]}"; do replica_umount $n; done
done_testing
