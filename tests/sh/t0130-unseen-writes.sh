#!/bin/bash
# What is written through kernel passthrough, of which the daemon hears nothing:
# each session of writes is one version, and a file is not replaced under who
# writes or maps it.  The same once more with data that is copied.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new laptop
replica_new server
replica_peer laptop server
replica_mount server

data_path() { sibfs status --json "$T/laptop/store" | python3 -c 'import json, sys; print(json.load(sys.stdin)["data"])'; }
# number FILE: of the event that wrote its version
number() { dot "$1" | cut -d: -f2; }

cat >writer.py <<'END'
"""Writes in one way or other, a step for each line that is read."""
import mmap, os, sys
path, how = sys.argv[1:3]
def step():
    print("done", flush=True)
    if not sys.stdin.readline():
        os._exit(0)
if how == "open":
    fd = os.open(path, os.O_RDWR)
    step()
    while True:
        os.pwrite(fd, b"W", 0)
        step()
if how == "fsync":
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"F", 0)
    os.fsync(fd)
    step()
if how in ("map", "map-msync"):
    fd = os.open(path, os.O_RDWR)
    m = mmap.mmap(fd, 0)
    m[0:1] = b"1"
    os.close(fd)
    step()
    m[0:1] = b"2"
    if how == "map-msync":
        m.flush()
    step()
    m.close()
    step()
if how == "times":	# content changes, times are set back
    before = os.stat(path)
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"T", 0)
    os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.close(fd)
if how == "nothing":
    os.close(os.open(path, os.O_RDWR))
if how == "trunc":
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
if how == "truncate":
    os.truncate(path, 2)
if how == "ftruncate":
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 3)
    os.close(fd)
if how == "fallocate":
    fd = os.open(path, os.O_RDWR)
    os.posix_fallocate(fd, 0, 100)
    os.close(fd)
if how == "copy":
    a, b = os.open(path + ".from", os.O_RDONLY), os.open(path, os.O_RDWR)
    os.copy_file_range(a, b, 4)
    os.close(b)
if how == "append":
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"end\n")
    os.close(fd)
END

# writer_start FILE HOW, writer_step, writer_end
writer_start() {
	coproc W { exec python3 writer.py "$@"; }
	read -r _ <&"${W[0]}"
}
writer_step() { echo >&"${W[1]}"; read -r _ <&"${W[0]}"; }
writer_end() {
	local pid=$W_PID
	eval "exec ${W[1]}>&-"
	wait "$pid" 2>/dev/null
}

l=laptop/mnt s=server/mnt
session() {
	local how was n
	for how in nothing times trunc truncate ftruncate fallocate copy append; do
		printf 'content of %s\n' $how >$l/$how
		printf 'from\n' >$l/$how.from
		synced laptop server
		was=$(number $l/$how)
		python3 writer.py $l/$how $how
		synced laptop server
		n=$(number $l/$how)
		if [ $how = nothing ]; then
			is "$1: to open and close is no version" "$n" "$was"
		else
			ok "$1: $how makes a version" test "$n" -gt "$was"
		fi
	done
	for how in times trunc truncate ftruncate fallocate copy append; do
		ok "$1: the peer has what $how wrote" cmp $l/$how $s/$how
	done

	echo first >$l/open
	was=$(number $l/open)
	writer_start $l/open open
	writer_step
	synced laptop server
	is "$1: what is written and still open has not come" "$(cat $s/open)" first
	within 6 "$1: after two quiet seconds it comes" "has $s/open Wirst"
	ok "$1: as one version" test "$(number $l/open)" -eq $((was + 1))
	echo server >$s/open
	sibfs sync server/store laptop --timeout=20
	sleep 0.3
	is "$1: an arriving version waits for the writer" "$(cat $l/open)" Wirst
	writer_end
	within 5 "$1: and comes when he has closed" "has $l/open server"

	echo first >$l/fsync
	writer_start $l/fsync fsync
	within 2 "$1: what is synced comes at once" "has $s/fsync First"
	writer_end

	# The kernel keeps stores to a mapping of data that is copied for a while.
	for how in map map-msync; do
		[ "$1" = passthrough ] || break
		echo first >$l/$how
		synced laptop server
		writer_start $l/$how $how
		within 5 "$1: $how: the store before close comes" "has $s/$how 1irst"
		echo server >$s/$how
		sibfs sync server/store laptop --timeout=20
		sleep 0.3
		is "$1: $how: an arriving version waits for the mapping" "$(cat $l/$how)" 1irst
		writer_step
		is "$1: $how: a store after close shows" "$(cat $l/$how)" 2irst
		writer_step
		within 5 "$1: $how: and is a sibling of what arrived" "ls $l/$how.conflict-laptop || ls $l/$how.conflict-server"
		synced laptop server
		within 5 "$1: $how: both are on the peer" "has $s/$how 2irst && has $s/$how.conflict-server server"
		writer_end
	done

	for how in ">>" ">" "1<>"; do
		echo first >$l/suid
		chmod 6777 $l/suid
		setpriv --reuid=65534 --regid=65534 --clear-groups sh -c "echo other $how$l/suid"
		is "$1: what others write into with $how loses setuid and setgid" "$(stat -c %a $l/suid)" 777
	done

	[ "$1" = copy ] || return 0
	echo first >$l/map
	writer_start $l/map map
	writer_step
	writer_step
	within 5 "$1: what was stored in a mapping comes when it ends" "has $s/map 2irst"
	writer_end
}

for path in passthrough copy; do
	if [ $path = copy ]; then
		replica_umount laptop
		replica_umount server
		rm -rf laptop server
		replica_new laptop
		replica_new server
		replica_peer laptop server
		replica_mount server
		try sibfs mount -o passthrough=no "$T/laptop/store" "$T/laptop/mnt"
	else
		replica_mount laptop
	fi
	echo probe >$l/probe
	[ $path = copy ] || [ "$(data_path)" = passthrough ] || { diag "no passthrough here"; continue; }
	is "status tells that data goes by $path" "$(data_path)" $path
	session $path
done
done_testing
