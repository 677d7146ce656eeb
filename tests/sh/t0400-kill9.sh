#!/bin/bash
# The daemon is killed while programs write: what was closed keeps its content,
# no version is invented, no dot is given twice, and both sides agree again.
# KILL_ROUNDS says how often (default 5).
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt
rounds=${KILL_ROUNDS:-5}
random_seed

# Writes under $1 until the mount dies.  A line in the log $2 says "NAME
# CONTENT" for each file whose close returned; a name that is written to
# repeatedly is saved by rename, so that an interrupted save leaves the old one.
writer() {
	local i=0
	while :; do
		i=$((i + 1))
		{ echo "$1 $i" >"$1/n$i"; } 2>/dev/null || return 0
		echo "n$i $1 $i" >>"$2"
		{ echo "$1 save $i" >"$1/save.new"; } 2>/dev/null || return 0
		mv "$1/save.new" "$1/save$((i % 5))" 2>/dev/null || return 0
		echo "save$((i % 5)) $1 save $i" >>"$2"
		if [ $((i % 7)) -eq 0 ]; then
			rm "$1/n$((i - 3))" 2>/dev/null || return 0
			echo "n$((i - 3)) -" >>"$2"
		fi
	done
}

# The last line of each name in the log $2 against the directory $1.  The one
# rename or rm that the kill may have interrupted, of the last file written, may
# have happened or not.
check_log() {
	python3 - "$1" "$2" <<'END'
import os, sys
top, log = sys.argv[1:]
want = {}
for line in open(log):
    name, content = line.rstrip("\n").split(" ", 1)
    want[name] = content
last = max((int(n[1:]) for n in want if n[0] == "n"), default=0)
bad = 0
for name, content in want.items():
    path = os.path.join(top, name)
    got = open(path).read().rstrip("\n") if os.path.exists(path) else "-"
    allowed = {content}
    if name == f"save{last % 5}":
        allowed.add(f"{content.split()[0]} save {last}")
    if name == f"n{last - 3}" and last % 7 == 0:
        allowed.add("-")
    if got not in allowed:
        print(f"{name}: shown {got!r}, closed as {content!r}")
        bad += 1
print(f"{len(want)} names, {bad} wrong")
sys.exit(bool(bad) or not want)
END
}

for ((round = 1; round <= rounds; round++)); do
	victim=laptop
	[ $((round % 3)) -ne 0 ] || victim=server
	dir=$victim/mnt/r$round
	log=$T/log$round
	mkdir $dir
	writer "$dir" "$log" &
	pid=$!
	wait_for '[ -s $log ]' 10
	sleep "0.$((RANDOM % 9 + 1))"
	kill9 $victim || tap_verdict 1 "round $round: $victim is killed"
	wait $pid
	ok "round $round: $victim mounts again over its dead mount" sibfs mount "$T/$victim/store" "$T/$victim/mnt"
	ok "round $round: all that was closed is there" check_log "$dir" "$log"
	ok "round $round: the two agree on a round" sibfs sync "$T/laptop/store" server --timeout=60
	ok "round $round: the other side has it too" check_log "${dir/$victim/$([ $victim = laptop ] && echo server || echo laptop)}" "$log"
	same_tree "round $round: both show the same" laptop server
done

is "no version was invented" "$(find $l $s -name '*conflict*')" ""
ok "no conflict is listed" sibfs conflicts "$T/laptop/store"
find $l $s -type f | while read -r f; do
	echo "${f#*/mnt/} $(dot "$f") $(vv "$f")"
done | sort -u >versions
is "each file has the same dot and vector on both" "$(cut -d' ' -f1 versions | uniq -d)" ""
is "no dot stands for two files" "$(cut -d' ' -f2 versions | sort | uniq -d)" ""

# The counter of what is written now lies beyond every one that the peer saw.
highest=$(find $s -type f | while read -r f; do vv "$f"; echo; done | tr ',' '\n' | sed -n 's/^laptop://p' | sort -n | tail -n 1)
echo next >$l/next
synced laptop server
ok "counting went on from there" test "$(vv $s/next | tr ',' '\n' | sed -n 's/^laptop://p')" -gt "${highest:-0}"
done_testing
