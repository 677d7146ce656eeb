#!/bin/bash
# What a program may expect of a file system, as root and as another user: the
# claims of tests/posix, first on the file system of the store, to see that
# they are true there, then on the mount.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
posix=$(dirname "$SIBFS")/tests/posix/posix
[ -x "$posix" ] || skip_all "$posix is missing: make check TESTS= builds it"
cp "$posix" "$T/posix" && chmod 755 "$T/posix" || exit 1
user=12345
replica_new solo
replica_mount solo

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

# claims WHO: each claim that holds below must hold in the mount.
claims() {
	local who=$1 line below
	below=$(run_as "$who" "$T/below-$who")
	is "$who, below the mount: all claims hold" "$(grep -v '^ok - ' <<<"$below")" ""
	run_as "$who" "$T/solo/mnt/$who" >"seen.$who"
	while IFS= read -r line; do
		if [[ $line == "ok - "* ]]; then
			tap_verdict 0 "$who: ${line#ok - }"
		else
			tap_verdict 1 "$who: ${line#not ok - }" "$line"
		fi
	done <"seen.$who"
	is "$who: as many claims as below" "$(wc -l <"seen.$who")" "$(wc -l <<<"$below")"
}

if [ "$(id -u)" -eq 0 ]; then
	claims root
	claims user
else
	claims root	# in name only: what is root's own is left out
fi
done_testing
