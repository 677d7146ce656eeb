# shellcheck shell=bash
# TAP for shell tests: each claim is one line, "ok N - claim" or "not ok".
# A test sources this file (cluster.sh does), makes its claims and ends with
# done_testing.  A failed claim does not end the test; what went wrong follows
# it as a comment.  A test that dies early prints no plan, which is an error.

tap_count=0
tap_failed=0
tap_seed=

# diag TEXT: each line as a comment.
diag() {
	printf '%s\n' "$1" | sed 's/^/# /'
}

# random_seed [SEED]: $seed, from which all that is random comes: SEED, SIBFS_SEED or 1.
# The same ones each time; others are for soaks.  A claim that fails names it.
random_seed() {
	seed=${1:-${SIBFS_SEED:-1}}
	RANDOM=$((seed % 32768))
	tap_seed=$seed
	diag "seed $seed"
}

# Prints the verdict $1 (0: it holds) on the claim $2; $3 says what was seen.
tap_verdict() {
	tap_count=$((tap_count + 1))
	if [ "$1" -eq 0 ]; then
		echo "ok $tap_count - $2"
	else
		tap_failed=$((tap_failed + 1))
		echo "not ok $tap_count - $2${tap_seed:+ (seed $tap_seed)}"
		if [ -n "${3:-}" ]; then diag "$3"; fi
	fi
	return "$1"
}

# ok CLAIM COMMAND...: holds if the command succeeds.
ok() {
	local claim=$1 seen rc=0
	shift
	seen=$("$@" 2>&1) || rc=$?
	[ $rc -eq 0 ] || seen="$* exits $rc: $(printf '%s' "$seen" | head -n 30)"
	tap_verdict $((rc != 0)) "$claim" "$seen"
}

# fails CLAIM COMMAND...: holds if the command fails, other than by a signal.
fails() {
	local claim=$1 seen rc=0
	shift
	seen=$("$@" 2>&1) || rc=$?
	tap_verdict $((rc == 0 || rc >= 124)) "$claim" "$* exits $rc: $seen"
}

# exits CLAIM STATUS COMMAND...: holds if the command ends with that status.
exits() {
	local claim=$1 want=$2 seen rc=0
	shift 2
	seen=$("$@" 2>&1) || rc=$?
	tap_verdict $((rc != want)) "$claim" "$* exits $rc, expected $want: $seen"
}

# refuses CLAIM COMMAND...: holds if the command fails with one line on stderr
# and nothing on stdout.
refuses() {
	local claim=$1 rc=0 bad=0 err=$T/refuses.err out=$T/refuses.out
	shift
	"$@" >"$out" 2>"$err" || rc=$?
	{ [ $rc -ge 2 ] && [ $rc -lt 124 ] && [ ! -s "$out" ] && [ "$(wc -l <"$err")" -eq 1 ]; } || bad=1
	tap_verdict $bad "$claim" "$* exits $rc, stdout: $(cat "$out") stderr: $(cat "$err")"
}

# is CLAIM GOT EXPECTED
is() {
	local rc=0
	[ "$2" = "$3" ] || rc=1
	tap_verdict $rc "$1" "got:      $2
expected: $3"
}

# like CLAIM GOT REGEX (extended, of bash)
like() {
	local rc=0
	[[ $2 =~ $3 ]] || rc=1
	tap_verdict $rc "$1" "got:              $2
expected to match: $3"
}

# skip CLAIM WHY: counts, but neither for nor against.
skip() {
	tap_count=$((tap_count + 1))
	echo "ok $tap_count - $1 # SKIP $2"
}

# skip_all WHY: ends the test; nothing of it can run here.
skip_all() {
	echo "1..0 # SKIP $1"
	exit 0
}

done_testing() {
	echo "1..$tap_count"
	exit $((tap_failed != 0))
}
