#!/bin/bash
# Several programs at once do all that can be done to names and files, in the
# same few directories of both mounts: linked, then apart, then linked again.
# Once they stop, both mounts and both stores show the same, nothing is left to
# do, and nothing went wrong on the way.  STRESS_SECONDS says for how long,
# SIBFS_SEED repeats a run as far as timing lets it.  A soak test: it looks for
# what happens once in many runs.
. "$(dirname "$0")/../lib/cluster.sh"
. "$lib/stress.sh"
[ -n "${STRESS_SECONDS:-}" ] || skip_all "for tests/run --soak, or with STRESS_SECONDS set"
cluster_start
pair laptop server
seconds=$STRESS_SECONDS
random_seed

# both SECONDS SEED: random operations on both mounts.
both() {
	local a b rc=0
	python3 "$lib/stress.py" run laptop/mnt "$2" "$1" 4 >seen.laptop 2>&1 & a=$!
	python3 "$lib/stress.py" run server/mnt "$(($2 + 100))" "$1" 4 >seen.server 2>&1 & b=$!
	wait $a || rc=1
	wait $b || rc=1
	tail -n 20 seen.laptop seen.server
	return $rc
}

# settled PART: what must hold once programs stopped, and names that editors use
# for a moment were told, too.
settled() {
	sleep 1.5
	ok "$1: a round succeeds" sibfs sync "$T/laptop/store" server --timeout=60
	ok "$1: the server's, too" sibfs sync "$T/server/store" laptop --timeout=60
	ok "$1: both mounts and both stores show the same" agree
	is "$1: no name is a sibling's sibling" \
		"$(grep -E '\.conflict-[^/]*\.conflict-' tree.laptop-mnt tree.server-mnt)" ""
	is "$1: the laptop has nothing left to do" "$(left laptop server)" "0 0 0"
	is "$1: nor has the server" "$(left server laptop)" "0 0 0"
}

ok "linked: no operation fails without reason" both "$((seconds / 2))" "$seed"
settled linked
split laptop server
ok "apart: no operation fails without reason" both "$((seconds / 4))" "$((seed + 1000))"
heal laptop server
settled "together again"
ok "in the end: no operation fails without reason" both "$((seconds / 4))" "$((seed + 2000))"
settled "in the end"
is "no error is in the logs" "$(complaints | head -n 20)" ""

# What is in memory is what was written down.
before=$(cat tree.laptop-mnt)
replica_umount laptop
replica_umount server
replica_mount laptop
replica_mount server
settled "mounted anew"
is "all is as it was" "$(cat tree.laptop-mnt)" "$before"
done_testing
