#!/bin/bash
# A request that takes long, on a store whose disk stands still, holds up no
# other one; and the daemon ends cleanly once it is over.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs mkfs.ext4 fsfreeze sqlite3
cluster_start
truncate -s 64M disk
mkfs.ext4 -q -m 0 disk
mkdir laptop
mount -o loop disk laptop 2>/dev/null || skip_all "no loop devices here"
# It can be thawed by this, wherever it is mounted or not.
exec 9<laptop
at_exit "fsfreeze -u /proc/$$/fd/9 2>/dev/null; exec 9<&-"
replica_new laptop
try sibfs mount "$T/laptop/store" "$T/laptop/mnt" -o passthrough=no
l=laptop/mnt
for i in $(seq 20); do echo "$i" >$l/f$i; done
echo before >$l/slow
sync -f laptop

# What writes: it says when it is about to, and when it has.
cat >writer.py <<'END'
import os, sys, time
kind, path = sys.argv[1:]
fd = os.open(path, os.O_RDWR)
os.pwrite(fd, b"a", 0)
open(path.split("/")[-1] + ".ready", "w").close()
while not os.path.exists("go"):
    time.sleep(0.01)
if kind == "fsync":
    os.pwrite(fd, b"b" * 100000, 0)
    os.fsync(fd)
else:
    os.pwrite(fd, b"b" * 100000, 0)
os.close(fd)
open(path.split("/")[-1] + ".done", "w").close()
END
# Prints the median of 200 looks, in ms.
cat >looker.py <<'END'
import os, sys, time
top, took = sys.argv[1], []
for k in range(200):
    start = time.monotonic()
    os.stat("%s/f%d" % (top, k % 20 + 1))
    open("%s/f%d" % (top, k % 20 + 1)).read()
    os.listdir(top)
    took.append(time.monotonic() - start)
print(int(sorted(took)[100] * 1000))
END

# Waits until the daemon has written nothing for two seconds: what it had to note
# of the file is noted, and it has no business with the disk while that stands still.
written() { sed -n 's/^syscw: //p' "/proc/$(cat laptop/store/.sibfs/pid)/io"; }
rest() {
	local before=
	for _ in $(seq 10); do
		[ "$(written)" = "$before" ] && break
		before=$(written)
		sleep 2
	done
}

stuck() { [ ! -e "$1.done" ] && grep -q request_wait /proc/"$2"/wchan; }

for kind in write fsync; do
	rm -f go
	echo before >$l/$kind
	python3 writer.py $kind $l/$kind &
	writer=$!
	wait_for "[ -e $kind.ready ]" 10
	rest
	try fsfreeze -f laptop
	: >go
	within 10 "$kind: it waits for the disk" "stuck $kind $writer"
	median=$(timeout 20 python3 looker.py $l)
	ok "$kind: others are served meanwhile, within milliseconds" test "${median:-99999}" -lt 50
	ok "$kind: it still waits" stuck $kind $writer
	try fsfreeze -u laptop
	within 10 "$kind: when the disk goes on, so does it" "[ -e $kind.done ]"
	wait $writer
done
is "what was written is there" "$(stat -c %s $l/write)" 100000

# The daemon is told to end while one waits.
rm -f go slow.done
python3 writer.py write $l/slow &
writer=$!
wait_for "[ -e slow.ready ]" 10
rest
pid=$(cat laptop/store/.sibfs/pid)
try fsfreeze -f laptop
: >go
within 10 "it waits for the disk" "stuck slow $writer"
kill -TERM "$pid"
within 10 "the name is gone at once" '! mounted laptop'
sleep 3
ok "the daemon waits for it" is_sibfs "$pid"
try fsfreeze -u laptop
within 20 "and ends when it is done" "! is_sibfs $pid"
within 10 "who wrote has his answer" "! kill -0 $writer"
is "the daemon ended in good order" "$(sqlite3 laptop/store/.sibfs/index.db "select cast(value as text) from meta where key = 'clean'")" 1
replica_mount laptop
is "what was written is there" "$(stat -c %s $l/slow)" 100000
done_testing
