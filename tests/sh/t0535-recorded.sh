#!/bin/bash
# A session of protocol 1, as it once went over a link, is still understood:
# played to a store of today, it brings and fetches what it did.
#
# RECORD=FILE makes such a recording; a later version keeps the old ones and adds
# its own.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start

# What the far end has, and what the dialer brings; the same in each run.
far_tree() {
	mkdir -p "$1/theirs/sub"
	echo 'from the far end' >"$1/theirs/file"
	seq 1 20000 >"$1/theirs/sub/long"
	echo 'far version' >"$1/both"
	chmod 640 "$1/theirs/file"
	find "$1" -exec touch -h -d '2020-01-01 00:00:00' '{}' +
}
near_tree() {
	mkdir -p "$1/ours/deep/er" "$1/empty"
	echo 'from the dialer' >"$1/ours/file"
	seq 20000 40000 >"$1/ours/deep/long"
	: >"$1/ours/nothing"
	ln -s ../file "$1/ours/deep/link"
	echo 'near version' >"$1/both"
	printf 'a name that is not UTF-8\n' >"$1/ours/$(printf 'caf\xe9')"
	chmod 755 "$1/ours/file"
	find "$1" -exec touch -h -d '2021-01-01 00:00:00' '{}' +
	setfattr -n user.colour -v blue "$1/ours/file"
}

# later MOUNT: what the dialer does while the link stands.
later() {
	mv "$1/ours/deep" "$1/ours/moved"
	rm "$1/ours/nothing"
	rmdir "$1/empty"
	echo 'edited' >>"$1/theirs/file"
	mv "$1/ours/moved/long" "$1/renamed"
	chmod 600 "$1/ours/file"
}

check() {
	local t=$1
	is "files have come" "$(cat "$t/ours/file")" "from the dialer"
	is "with mode and attributes" "$(stat -c '%a %.9Y' "$t/ours/file") $(getfattr --only-values -n user.colour "$t/ours/file" 2>/dev/null)" "600 1609459200.000000000 blue"
	ok "a large one, renamed since" cmp "$t/renamed" <(seq 20000 40000)
	is "a symbolic link in a directory that was moved" "$(readlink "$t/ours/moved/link")" ../file
	ok "an empty directory in it" test -d "$t/ours/deep/er" -o -d "$t/ours/moved"
	fails "what was removed is not there" test -e "$t/ours/nothing" -o -e "$t/empty" -o -e "$t/ours/deep"
	is "an edit of the far end's own file" "$(tail -n 1 "$t/theirs/file")" edited
	is "names that are not UTF-8" "$(cat "$t/ours/"caf*)" "a name that is not UTF-8"
	is "both versions of a file that both had" "$(cat "$t"/both* | sort | paste -sd,)" "far version,near version"
}

if [ -n "${RECORD:-}" ]; then
	mkdir -p laptop/store server/store laptop/mnt
	far_tree server/store
	near_tree laptop/store
	replica_new laptop recorded
	replica_new server recorded
	echo "command=\"python3 $lib/session.py record $T/session $SIBFS serve $T/server/store --peer laptop\" $(cat ssh/user.pub)" >ssh/authorized_keys
	replica_peer laptop server
	replica_mount laptop
	try sibfs sync "$T/laptop/store" server --timeout=30
	later laptop/mnt
	try sibfs sync "$T/laptop/store" server --timeout=30
	replica_umount laptop
	check server/store
	sleep 1
	cp session "$RECORD"
	done_testing
fi

recordings=$(dirname "$lib")/recorded
for recording in "$recordings"/protocol-*; do
	name=$(basename "$recording")
	mkdir -p "$name/store"
	far_tree "$name/store"
	try sibfs init "$T/$name/store" --node server --set recorded
	ok "$name: it plays to its end" timeout 60 python3 "$lib/session.py" replay "$recording" \
		"$SIBFS" serve "$T/$name/store" --peer laptop
	check "$name/store"
	# Without one of its frames it is not what it was, and is refused.
	python3 - "$recording" >broken <<-'END'
	import sys
	data = bytearray(open(sys.argv[1], "rb").read())
	data[len(data) // 2] ^= 1
	sys.stdout.buffer.write(data)
	END
	mkdir -p broken-store
	far_tree broken-store
	try sibfs init "$T/broken-store" --node server --set recorded
	fails "$name: with one bit changed it does not" timeout 60 python3 "$lib/session.py" replay broken \
		"$SIBFS" serve "$T/broken-store" --peer laptop
done
done_testing
