#!/bin/bash
# Many changes in a row are committed together, and not one by one; who asks for
# something meanwhile does not wait for that.  And nothing is done that need not be.
. "$(dirname "$0")/../lib/cluster.sh"
needs strace
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

# How long it took, in milliseconds.
cat >burst.py <<'END'
import os, sys, time
start = time.monotonic()
for i in range(int(sys.argv[2])):
    fd = os.open("%s/f%d" % (sys.argv[1], i), os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"%d\n" % i)
    os.close(fd)
print(int((time.monotonic() - start) * 1000))
END
# How many transactions the index has taken since it began its log anew.
cat >commits.py <<'END'
import struct, sys
wal = open(sys.argv[1] + "/.sibfs/index.db-wal", "rb").read()
page, = struct.unpack(">I", wal[8:12]) if wal else (4096,)
n = 0
for at in range(32, len(wal), 24 + page):
    number, size, salt = struct.unpack(">II8s", wal[at:at + 16])
    if salt != wal[16:24]:
        break
    n += size != 0
print(n)
END
mkdir $l/many
synced laptop server
before=$(python3 commits.py laptop/store)
ms=$(python3 burst.py $l/many 1500)
n=$(($(python3 commits.py laptop/store) - before))
diag "$n commits while 1500 files were written in $ms ms"
ok "files written in a row are committed together" test "$n" -le $((ms / 20 + 30))
tr '\0' '\n' <laptop/store/.sibfs/journal | grep ' f[0-9]*$' >named
is "the journal names them" "$(sort -u named | wc -l)" 1500
ok "and hardly any twice" test "$(wc -l <named)" -lt 1800
synced laptop server
is "and all arrive" "$(ls $s/many | wc -l)" 1500

mkdir $l/few
strace -f -qq -e trace=writev -p "$(cat laptop/store/.sibfs/pid)" -o answers &
tracer=$!
sleep 0.5
python3 burst.py $l/few 300 >took
kill $tracer
wait $tracer 2>/dev/null
# LOOKUP, GETATTR of the directory, CREATE, GETXATTR, RELEASE; a few more where
# something took long.
n=$(grep -c 'writev(' answers)
diag "$n answers and notices to the kernel"
ok "the kernel is told nothing that it knows" test "$n" -lt $((5 * 300 + 150))

# What is asked ends the waiting: each question comes in the midst of a burst.
cat >ask.py <<'END'
import os, sys, time
waited = []
def write(name, n):
    with open("%s/%s" % (sys.argv[1], name), "w") as f:
        f.write("%d\n" % n)
for i in range(20):
    for j in range(12):
        write("g%d" % j, i)
    time.sleep(0.004)
    for j in range(12):
        write("h%d" % j, i)
        start = time.monotonic()
        try:
            os.getxattr("%s/h%d" % (sys.argv[1], j), "user.sibfs.vv")
        except OSError:         # closing was not heard of yet
            pass
        waited.append(time.monotonic() - start)
print(int(sorted(waited)[len(waited) // 2] * 1e6))
END
us=$(python3 ask.py $l/many)
diag "an answer took $us us"
ok "who asks is answered at once" test "$us" -lt 15000
done_testing
