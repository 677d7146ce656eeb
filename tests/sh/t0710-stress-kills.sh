#!/bin/bash
# Programs do all that can be done on two linked mounts, as in t0700, and one of
# the daemons is killed in the midst of it, again and again.  After each time both
# mounts and both stores show the same, and nothing is left to do.
# STRESS_KILLS says how many times, SIBFS_SEED where to begin.  A soak test.
. "$(dirname "$0")/../lib/cluster.sh"
. "$lib/stress.sh"
[ -n "${STRESS_KILLS:-}" ] || skip_all "for tests/run --soak, or with STRESS_KILLS set"
cluster_start
pair laptop server
random_seed

for ((round = 1; round <= STRESS_KILLS; round++)); do
	victim=laptop other=server
	[ $((RANDOM % 2)) -eq 0 ] || victim=server other=laptop
	python3 "$lib/stress.py" run $victim/mnt "$((seed + round * 1000))" 60 4 mortal >seen.victim 2>&1 & a=$!
	python3 "$lib/stress.py" run $other/mnt "$((seed + round * 1000 + 100))" 4 4 >seen.other 2>&1 & b=$!
	sleep "$((RANDOM % 4 + 1)).$((RANDOM % 10))"
	kill9 $victim || tap_verdict 1 "round $round: $victim is killed"
	wait $a
	is "round $round: the programs on $victim saw no error but its end" "$?: $(grep -v 'operations' seen.victim)" "0: "
	wait $b
	is "round $round: those on $other saw none" "$?: $(grep -v 'operations' seen.other)" "0: "
	ok "round $round: $victim mounts again" sibfs mount "$T/$victim/store" "$T/$victim/mnt"
	sleep 1.5	# names that editors use for a moment are told
	ok "round $round: a round succeeds" sibfs sync "$T/laptop/store" server --timeout=60
	ok "round $round: both mounts and both stores show the same" agree
	is "round $round: the laptop has nothing left to do" "$(left laptop server)" "0 0 0"
	is "round $round: nor has the server" "$(left server laptop)" "0 0 0"
done
is "no error is in the logs" "$(complaints | head -n 20)" ""
done_testing
