#!/bin/bash
# Contents are made smaller on their way, but on links that are faster than that
# they go as they are, some of the time or mostly; either way they arrive whole.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
fast=$(dirname "$SIBFS")/tests/lib/sibfs_fast_links
[ -x "$fast" ] || skip_all "$fast is missing: make check builds it"
mkdir bin
cat >bin/ssh <<'END'
#!/bin/sh
# In place of ssh.  What comes from the far end is kept, to be looked at.
. ./far-end
cat | $sibfs serve $store --peer $peer | tee frames-$peer
END
chmod +x bin/ssh
sed -i "s|\./far-end|$T/far-end|; s|frames|$T/frames|" bin/ssh
export PATH=$T/bin:$PATH

# Many different lines, which shrink by half.
python3 - <<'END'
import random
rng = random.Random(1)
words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
text = b" ".join(rng.choices(words, k=1200000))
with open("text", "wb") as f:
    for k in range(10):
        f.write(text[k * 1001:] + text[:k * 1001])
END
# How many large frames came packed, and plain.
cat >count.py <<'END'
import struct, sys
data = open(sys.argv[1], "rb").read()
at, packed, plain = 0, 0, 0
while at + 9 <= len(data):
    n, flags = struct.unpack(">IB", data[at:at + 5])
    if n > 20000:
        packed += flags != 0
        plain += flags == 0
    at += 9 + n
print(" ".join(["packed"] * (packed > 0) + ["plain"] * (plain > 0)))
END

# bring NAME PROGRAM [SETTING]: a file comes over a new link, served by that program.
bring() {
	replica_new "$1"
	replica_new "$1-far"
	replica_peer "$1" "$1-far"
	printf 'sibfs=%s store=%s peer=%s\n' "$2" "$T/$1-far/store" "$1" >far-end
	sed -i "/^\[peer/a transport = ssh\n${3:-}" "$1/store/.sibfs/config"
	cp text "$1-far/store/text"
	try sibfs doctor "$T/$1-far/store" --adopt
	replica_mount "$1"
	synced "$1" "$1-far"
	ok "$1: it arrives whole" cmp text "$1/mnt/text"
	replica_umount "$1"
	ways=$(python3 count.py "frames-$1")
}

bring fast "$fast"
is "fast: it came both ways" "$ways" "packed plain"
truncate -s 24M text
bring slow "$SIBFS" 'limit = 10M'
is "slow: all of it came packed" "$ways" "packed"
done_testing
