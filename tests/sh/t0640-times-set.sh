#!/bin/bash
# Times that are set after a file was told of, as cp -p, tar and rsync do: its
# content is still there for whoever asks.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt

# The answer comes after all that was done before.
told() {
	getfattr --only-values -n user.sibfs.origin "$@" >/dev/null 2>&1
}

try sibfs pause laptop/store
head -c 20000 /dev/urandom >$l/small
head -c 6000000 /dev/urandom >$l/large
head -c 3000 /dev/urandom >$l/opened
head -c 3000 /dev/urandom >$l/twice
told $l/*
python3 - $l <<'END_PY'
import os, sys
for name, times in (("small", [1e9]), ("large", [1e9]), ("twice", [1e9, 1.1e9])):
    for t in times:
        os.utime(f"{sys.argv[1]}/{name}", (t, t))
END_PY
touch $l/opened
told $l/*
try sibfs resume laptop/store
synced laptop server
same_tree "what was touched before it was sent arrives whole" laptop server
python3 -c "import os, sys; [os.utime(p, (1e9 + 5, 1e9 + 5)) for p in sys.argv[1:]]" $l/small $l/large $l/twice
synced laptop server
replica_new desk
replica_peer desk laptop
replica_mount desk
try sibfs pause laptop/store server
synced desk laptop
same_tree "what is touched later reaches one who has none of it" laptop desk

# What was noted of a file goes along with its time: it is not read once more to
# find that out.
try sibfs pause desk/store
mkdir $l/touched
for n in $(seq 100); do head -c 200000 /dev/urandom >$l/touched/$n; done
told $l/touched/100
sleep 2.5	# it rests
has_read() { sed -n 's/^rchar: //p' "/proc/$(cat laptop/store/.sibfs/pid)/io"; }
before=$(has_read)
python3 -c "import os, sys; [os.utime(p, (1e9 + 7, 1e9 + 7)) for p in sys.argv[1:]]" $l/touched/*
told $l/touched/100
try sibfs resume desk/store
synced desk laptop
read_bytes=$(($(has_read) - before))
ok "what is touched is read once, to be sent" test $read_bytes -lt 30000000 -a $read_bytes -ge 20000000
same_tree "and is what it was" laptop desk

try sibfs resume laptop/store
# A program that writes, closes and sets times, while the replica is at work.
python3 - $l <<'END_PY'
import os, sys
os.mkdir(f"{sys.argv[1]}/many")
for n in range(1000):
    path = f"{sys.argv[1]}/many/{n}"
    with open(path, "wb") as f:
        f.write(os.urandom(2000))
    os.utime(path, (1e9 + n, 1e9 + n))
END_PY
synced laptop server
same_tree "so does what is touched as soon as it is closed" laptop server

try sibfs pause laptop/store
head -c 20000 /dev/urandom >$l/behind
told $l/behind
touch -d 2003-03-03 laptop/store/behind
try sibfs resume laptop/store
synced laptop server
same_file() { cmp -s $l/behind server/mnt/behind; }
ok "and what was touched behind the mount" same_file

# What stands there is written once more, while it is read to be told.
python3 - $l <<'END_PY'
import os, random, sys, time
random.seed(1)
for k in range(8):
    path = f"{sys.argv[1]}/again{k}"
    with open(path, "wb") as f:
        f.write(os.urandom(2000000))
    time.sleep(0.03)
    for n in range(5):
        fd = os.open(path, os.O_RDWR)
        os.pwrite(fd, os.pread(fd, 10, 0), 0)
        os.close(fd)
        time.sleep(random.random() * 0.004)
END_PY
synced laptop server
times() { (cd "$1" && stat -c '%n %y' again*); }
is "what is written with the same content while it is read has its time" "$(diff <(times $l) <(times server/mnt))" ""
done_testing
