#!/bin/bash
# Random operations in a mount and in a native directory end alike and leave the same,
# at once, when the peer has it, after a clean start and after the daemon was killed.  TWIN_ROUNDS=50 makes
# it long, SIBFS_SEED=N begins with that one.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
twin() { python3 "$lib/twin.py" "$@"; }
random_seed

work() {	# NODE SEED
	twin work "$1/mnt/$1" "native-$1" "$2" 2000
}

for round in $(seq "${TWIN_ROUNDS:-3}"); do
	mkdir laptop/mnt/laptop server/mnt/server native-laptop native-server
	work laptop $seed >said-laptop 2>&1 &
	pid=$!
	work server $((seed + 1)) >said-server 2>&1
	wait $pid
	is "$seed: operations end as on the disk below" "$(cat said-*)" ""
	for n in laptop server; do
		is "$n: and leave the same" "$(twin compare $n/mnt/$n native-$n --links)" ""
	done
	synced laptop server
	for n in laptop server; do
		other=$([ $n = laptop ] && echo server || echo laptop)
		is "$n: the peer has the same" "$(twin compare $other/mnt/$n native-$n)" ""
		is "$n: with its times" "$(twin compare $other/mnt/$n $n/mnt/$n --exact)" ""
		is "$n: it stays" "$(twin compare $n/mnt/$n native-$n --links)" ""
	done
	replica_umount laptop
	replica_mount laptop
	twin work laptop/mnt/laptop native-laptop $((seed + 1)) 500
	is "laptop: the same after a start" "$(twin compare laptop/mnt/laptop native-laptop --links)" ""
	twin work server/mnt/server native-server $seed 500
	is "server: the same, once more" "$(twin compare server/mnt/server native-server --links)" ""
	kill9 server
	replica_mount server
	is "server: the same after it was killed" "$(twin compare server/mnt/server native-server --links)" ""
	synced laptop server
	is "laptop: and at the peer" "$(twin compare server/mnt/laptop native-laptop)" ""
	is "server: and at the peer" "$(twin compare laptop/mnt/server native-server)" ""
	is "without conflicts" "$(conflict_names laptop)" ""
	rm -rf laptop/mnt/laptop server/mnt/server native-laptop native-server
	synced laptop server
	random_seed $((seed + 2))
done
done_testing
