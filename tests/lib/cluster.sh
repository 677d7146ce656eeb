# shellcheck shell=bash
# Replicas on this machine, each with a mount, linked over a real sshd on
# loopback.  Everything lives in the directory $T, where the test stands too,
# so that laptop/mnt/file is a file in the mount of the replica `laptop`, and
# laptop/store/file the same one in its store.  When the test ends, in whatever
# way, mounts, daemons, sshd and $T end with it (SIBFS_KEEP=1 keeps $T).
#
#	. "$(dirname "$0")/../lib/cluster.sh"
#	cluster_start
#	replica_new laptop; replica_new server
#	replica_peer laptop server
#	replica_mount laptop; replica_mount server

set -u
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/lib/tap.sh
. "$lib/tap.sh"

SIBFS=$(realpath -m "${SIBFS:-$lib/../../sibfs}")	# tests change directory
T=
SSH_PORT=	# of the sshd started last
at_exit_commands=()

# ---- start and end -----------------------------------------------------

# needs PROGRAM...: skips the test where one is missing.
needs() {
	local p
	for p; do
		command -v "$p" >/dev/null || skip_all "$p is missing"
	done
}

needs_root() {
	[ "$(id -u)" -eq 0 ] || skip_all "only root can do this"
}

# at_exit COMMAND: run at the end, last one first, before $T is removed.
at_exit() {
	at_exit_commands=("$1" ${at_exit_commands[@]+"${at_exit_commands[@]}"})
}

# Makes $T and goes there.
tmpdir_start() {
	[ -x "$SIBFS" ] || { echo "Bail out! $SIBFS is missing: build it, or set SIBFS"; exit 1; }
	T=$(mktemp -d "${TMPDIR:-/tmp}/sibfs-test.XXXXXX") || exit 1
	chmod 755 "$T"
	trap cluster_end EXIT
	trap 'exit 130' INT TERM HUP
	unset SSH_AUTH_SOCK
	export HOME=$T/home LC_ALL=C
	mkdir "$T/home"
	cd "$T" || exit 1
	setfattr -n user.sibfs-test -v 1 "$T/home" 2>/dev/null ||
		skip_all "no user xattrs in ${TMPDIR:-/tmp}: set TMPDIR"
}

# What every test of mounts needs, and a first sshd.
cluster_start() {
	needs setfattr getfattr python3 ssh-keygen
	[ -c /dev/fuse ] || skip_all "/dev/fuse is missing"
	{ : <>/dev/fuse; } 2>/dev/null || skip_all "/dev/fuse cannot be opened"
	[ -x /usr/sbin/sshd ] || skip_all "sshd is missing (openssh-server)"
	tmpdir_start
	mkdir ssh
	chmod 700 ssh
	: >ssh/known_hosts
	export SIBFS_KNOWN_HOSTS=$T/ssh/known_hosts
	ssh-keygen -q -t ed25519 -N '' -f ssh/user
	sshd_start main
}

# Mounts below $T, deepest first; dead ones too.
mounts() {
	awk -v top="$T/" 'index($5, top) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

mounted() {
	awk -v at="$T/$1/mnt" '$5 == at { found = 1 } END { exit !found }' /proc/self/mountinfo
}

cluster_end() {
	local rc=$? m pid c
	trap - EXIT
	set +u
	cd /
	# Daemons may not see what at_exit takes away, so they go first.
	for m in $(mounts); do
		timeout 20 umount "$m" 2>/dev/null || umount -l "$m" 2>/dev/null || fusermount3 -uz "$m" 2>/dev/null
	done
	for m in "$T"/*/store/.sibfs/pid; do
		[ -f "$m" ] && pid=$(cat "$m" 2>/dev/null) && is_sibfs "$pid" && kill -9 "$pid" 2>/dev/null
	done
	for c in "${at_exit_commands[@]}"; do
		eval "$c"
	done
	for m in $(mounts); do
		umount -l "$m" 2>/dev/null
	done
	if [ -n "${SIBFS_KEEP:-}" ]; then diag "kept: $T"; else rm -rf "$T"; fi
	exit $rc
}

is_sibfs() {
	[ -n "$1" ] && [ "$(readlink "/proc/$1/exe" 2>/dev/null)" = "$(readlink -f "$SIBFS")" ]
}

# ---- sshd --------------------------------------------------------------

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# sshd_start NAME [ADDRESS [PREFIX...]]: an sshd with a host key of its own,
# known in known_hosts; sets SSH_PORT.  PREFIX runs it, as in nsenter.
sshd_start() {
	local name=$1 address=${2:-127.0.0.1} dir=$T/ssh i
	shift; [ $# -eq 0 ] || shift
	SSH_PORT=$(free_port)
	mkdir -p /run/sshd 2>/dev/null
	ssh-keygen -q -t ed25519 -N '' -f "$dir/host-$name"
	cp "$dir/user.pub" "$dir/authorized_keys"
	echo "[$address]:$SSH_PORT $(cut -d' ' -f1,2 "$dir/host-$name.pub")" >>"$dir/known_hosts"
	cat >"$dir/sshd_config-$name" <<-END
		ListenAddress $address
		Port $SSH_PORT
		HostKey $dir/host-$name
		AuthorizedKeysFile $dir/authorized_keys
		PidFile $dir/pid-$name
		StrictModes no
		UsePAM no
		PermitRootLogin prohibit-password
		PasswordAuthentication no
		SetEnv "PATH=$(dirname "$SIBFS"):$PATH"
	END
	"$@" /usr/sbin/sshd -E "$dir/log-$name" -f "$dir/sshd_config-$name"
	at_exit "sshd_stop $name"
	for ((i = 0; i < 100; i++)); do
		[ -s "$dir/pid-$name" ] && return
		sleep 0.05
	done
	echo "Bail out! sshd did not start: $(cat "$dir/log-$name")"
	exit 1
}

# Ends the sshd NAME and the connections that it serves.
sshd_stop() {
	local pid child
	pid=$(cat "$T/ssh/pid-$1" 2>/dev/null) || return 0
	for child in $(pgrep -P "$pid"); do
		kill "$child" 2>/dev/null
	done
	kill "$pid" 2>/dev/null
	rm -f "$T/ssh/pid-$1"
}

# ---- a bad network -----------------------------------------------------

# proxy_start NAME [PORT]: a proxy (lib/proxy.py) before that port, else before
# the sshd started last; sets PROXY_PORT, whose host key is known then.
proxy_start() {
	local name=$1 port=${2:-$SSH_PORT} i
	PROXY_PORT=$(free_port)
	: >"$T/proxy-$name"
	python3 "$lib/proxy.py" "$T/proxy-$name" "$PROXY_PORT" 127.0.0.1 "$port" 2>"$T/proxy-$name.log" &
	at_exit "kill $! 2>/dev/null"
	sed -n "s/^\[127\.0\.0\.1\]:$port /[127.0.0.1]:$PROXY_PORT /p" "$T/ssh/known_hosts" >>"$T/ssh/known_hosts"
	for ((i = 0; i < 100; i++)); do
		[ -s "$T/proxy-$name.count" ] && return
		sleep 0.05
	done
	echo "Bail out! the proxy did not start: $(cat "$T/proxy-$name.log")"
	exit 1
}

# proxy_says NAME [WORDS...]: from now on; each argument is one line of the rules.
proxy_says() {
	local name=$1
	shift
	printf '%s\n' "$@" >"$T/proxy-$name.rules"
	mv "$T/proxy-$name.rules" "$T/proxy-$name"
	sleep 0.12	# until it has looked
}

# proxy_bytes NAME: how many went through it so far, in both directions.
proxy_bytes() {
	sleep 0.12
	awk '{ print $2 + $3 }' "$T/proxy-$1.count"
}

# ---- replicas ----------------------------------------------------------

# The program, never for longer than two minutes.
sibfs() {
	timeout -k 5 120 "$SIBFS" "$@" </dev/null
}

# try COMMAND...: a step that must succeed for the test to make sense.
try() {
	local rc=0 seen
	seen=$("$@" 2>&1) || rc=$?
	[ $rc -eq 0 ] || { diag "$* exits $rc: $seen"; echo "Bail out! a step of the test failed"; exit 1; }
}

# replica_new NODE [SET]
replica_new() {
	mkdir -p "$1/mnt"
	try sibfs init "$T/$1/store" --node "$1" --set "${2:-test}"
}

# replica_peer A B [PORT [ADDRESS]]: A calls B; one link serves both ways.
replica_peer() {
	try sibfs peer add "$T/$1/store" "$2" "ssh://${4:-127.0.0.1}:${3:-$SSH_PORT}$T/$2/store" \
		--identity "$T/ssh/user"
}

replica_mount() {
	try sibfs mount "$T/$1/store" "$T/$1/mnt"
}

replica_umount() {
	try sibfs umount "$T/$1/mnt"
}

# pair A B: two replicas, mounted, A calling B.
pair() {
	replica_new "$1"
	replica_new "$2"
	replica_peer "$1" "$2"
	replica_mount "$1"
	replica_mount "$2"
}

# The daemon of NODE dies without warning; its dead mount stays.
kill9() {
	local pid i
	pid=$(cat "$T/$1/store/.sibfs/pid") || return 1
	is_sibfs "$pid" || { diag "no daemon of $1 under pid $pid"; return 1; }
	kill -9 "$pid"
	for ((i = 0; i < 100; i++)); do
		is_sibfs "$pid" || return 0
		sleep 0.02
	done
}

# split A B / heal A B: the link between them rests / stands again.
split() { try sibfs pause "$T/$1/store" "$2"; }
heal() { try sibfs resume "$T/$1/store" "$2"; try sibfs sync "$T/$1/store" "$2" --timeout=60; }
synced() { try sibfs sync "$T/$1/store" "$2" --timeout=60; }

# ---- programs at work --------------------------------------------------

# prober_start NAME WHAT PATH: lib/prober.py in the background.
prober_start() {
	python3 "$lib/prober.py" "$2" "$3" >"$T/prober-$1" 2>&1 &
	echo $! >"$T/prober-$1.pid"
	at_exit "kill $! 2>/dev/null"
}

# prober_stop NAME: ends it; prints what it says.
prober_stop() {
	local pid
	pid=$(cat "$T/prober-$1.pid")
	kill "$pid" 2>/dev/null
	while grep -q . "/proc/$pid/cmdline" 2>/dev/null; do
		sleep 0.02
	done
	tail -n 1 "$T/prober-$1"
}

# ---- looking -----------------------------------------------------------

# wait_for CONDITION SECONDS: until the shell condition holds.
wait_for() {
	local end=$((SECONDS + $2 + 1))
	until eval "$1" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.05
	done
}

# within SECONDS CLAIM CONDITION
within() {
	local rc=0
	wait_for "$3" "$1" || rc=1
	tap_verdict $rc "$2" "not within $1 s: $3
$(eval "$3" 2>&1 | head -n 5)
$(ls -lA ./*/mnt 2>&1 | head -n 60)"
}

# has FILE CONTENT: it is there and holds exactly that line.
has() {
	[ "$(cat "$1")" = "$2" ]
}

# names DIRECTORY: what stands in it, on one line.
names() {
	(cd "$1" && find . -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | paste -sd' ')
}

# tree DIRECTORY: type, mode, name, content and its time, of everything in it.
tree() {
	(cd "$1" && find . -mindepth 1 \( -type f -printf 'f %m %P %T@ ' -exec sha256sum '{}' ';' \) \
		-o -printf '%y %m %P %l\n') | sort -k3
}

# same_tree CLAIM A B: both mounts show the same.
same_tree() {
	local d rc=0
	d=$(diff <(tree "$2/mnt") <(tree "$3/mnt")) || rc=1
	tap_verdict $rc "$1" "$(echo "$d" | head -n 40)"
}

# vv FILE, dot FILE: as the mount shows them.
vv() { getfattr --absolute-names --only-values -n user.sibfs.vv "$1"; }
dot() { getfattr --absolute-names --only-values -n user.sibfs.dot "$1"; }

# status_get NODE EXPRESSION: of the status s, as a Python expression.
status_get() {
	sibfs status "$T/$1/store" --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(eval(sys.argv[1], {"s": s, "peers": {p["name"]: p for p in s["peers"]}}))' "$2"
}

# peer_state NODE PEER: connected, connecting, paused, unreachable, refused
peer_state() {
	status_get "$1" "peers['$2']['state']"
}

# conflict_names NODE: "path: names of its versions" of each open conflict.
conflict_names() {
	sibfs conflicts "$T/$1/store" --json | python3 -c '
import json, sys
for c in json.load(sys.stdin):
    print(c["path"] + ":", *[v["name"].rsplit("/", 1)[-1] for v in c["versions"]])'
}
