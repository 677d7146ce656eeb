#!/bin/bash
# The test of the tests: each bug in tests/sim/bugs is put into a copy of the
# one file that it is in, that is linked into a simulator of its own, and the
# simulator must find it within so many histories, most in a few hundred.
# Without a bug the first of the same histories find nothing.
#
# `make check' says how to compile and link; SIM_BUGS names single bugs to try.
. "$(dirname "$0")/../lib/tap.sh"

histories=20000
top=$(cd "$(dirname "$0")/../.." && pwd)

if [ -z "${SIM_COMPILE:-}" ] || ! command -v patch >/dev/null; then
	echo "1..0 # SKIP needs make check, and patch"
	exit 0
fi
build=$PWD
T=$(mktemp -d "${TMPDIR:-/tmp}/sibfs-bugs.XXXXXX") || exit 1
trap 'rm -rf "$T"' EXIT
random_seed

# build_with BUG: the simulator with that bug, as $T/BUG/simulate.
build_with() {
	local patch=$top/tests/sim/bugs/$1.patch dir=$T/$1 file
	file=$(sed -n 's/^+++ b\///p' "$patch")
	mkdir -p "$dir/$(dirname "$file")"
	cp "$top/$file" "$dir/$file"
	patch -s -d "$dir" -p1 <"$patch" || return 1
	# shellcheck disable=SC2086
	(cd "$build" && $SIM_COMPILE -w -c "$dir/$file" -o "$dir/bug.o" &&
		$SIM_LINK -o "$dir/simulate" $SIM_OBJECTS "$dir/bug.o" $SIM_LIBS)
}

finds() {
	local out
	out=$("$T/$1/simulate" --no-shrink --seed "$seed" --histories $histories) && { echo "$out"; return 1; }
	echo "$out" | grep '^# seed' | sed "s/^#/# $1:/" >>"$T/found"
}

bugs=${SIM_BUGS:-$(cd "$top/tests/sim/bugs" && ls -- *.patch)}
for bug in $bugs; do
	bug=${bug%.patch}
	if ok "$bug: the patch applies" build_with "$bug"; then
		ok "$bug: the simulator finds it" finds "$bug"
	fi
	rm -rf "${T:?}/$bug"
done
[ ! -f "$T/found" ] || cat "$T/found"
ok "without a bug it finds nothing" "$build/tests/sim/simulate" --no-shrink --seed "$seed" --histories 1000
done_testing
