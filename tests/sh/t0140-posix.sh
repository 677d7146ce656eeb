#!/bin/bash
# What a program may expect of a file system, as root and as another user: the
# claims of tests/posix, first on the file system of the store, to see that
# they are true there, then on mounts: one as the kernel allows, one that copies
# all data.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
posix=$(dirname "$SIBFS")/tests/posix/posix
[ -x "$posix" ] || skip_all "$posix is missing: make check TESTS= builds it"
cp "$posix" "$T/posix" && chmod 755 "$T/posix" || exit 1
user=12345
replica_new solo
replica_mount solo
replica_new copies
try sibfs mount "$T/copies/store" "$T/copies/mnt" -o passthrough=no

# run_as WHO DIRECTORY: the claims, in a new directory there.
run_as() {
	mkdir "$2" || return 1
	if [ "$1" = root ]; then
		(cd "$2" && "$T/posix" 2>&1)
	else
		chown $user:$user "$2"
		(cd "$2" && setpriv --reuid=$user --regid=$user --clear-groups "$T/posix" 2>&1)
	fi
}

# hold WHO MOUNT: each claim that holds below must hold there.
hold() {
	local who=$1 at=$2 line
	run_as "$who" "$T/$at/mnt/$who" >seen
	while IFS= read -r line; do
		if [[ $line == "ok - "* ]]; then
			tap_verdict 0 "$who, $at: ${line#ok - }"
		else
			tap_verdict 1 "$who, $at: ${line#not ok - }" "$line"
		fi
	done <seen
	is "$who, $at: as many claims as below" "$(wc -l <seen)" "$(wc -l <"below-$who.claims")"
}

claims() {
	run_as "$1" "$T/below-$1" >"below-$1.claims"
	is "$1, below the mount: all claims hold" "$(grep -v '^ok - ' "below-$1.claims")" ""
	hold "$1" solo
	# An ordinary user's own mount copies, too: t0150.
	[ "$1" != root ] || hold root copies
}

if [ "$(id -u)" -eq 0 ]; then
	claims root
	claims user
else
	claims root	# in name only: what is root's own is left out
fi
done_testing
