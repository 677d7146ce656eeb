#!/bin/bash
# Attributes belong to a file and not to its name: those that are set on one which goes
# elsewhere at once, before that can have been looked at, and those of one that was there
# before.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt
mkdir $l/d
for n in $(seq 0 199); do
	echo "$n" >$l/d/f$n
	echo "other $n" >$l/d/g$n
done
synced laptop server
cat >change.py <<'END_PY'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
for n in range(200):
    os.chmod(f"f{n}", 0o755)
    os.setxattr(f"f{n}", "user.color", b"red")
    if n % 2:
        os.rename(f"f{n}", f"h{n}")
    elif libc.renameat2(-100, b"f%d" % n, -100, b"g%d" % n, 2) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))
END_PY
try python3 change.py $l/d
synced laptop server
changed() {
	(cd "$1/d" && grep -L other ./* | LC_ALL=C sort | xargs stat -c '%a %n' | grep -cv '^755')
}
is "modes stay" "$(changed $l)" 0
is "and travel" "$(changed server/mnt)" 0
colored() {
	(cd "$1/d" && grep -L other ./* | xargs getfattr -n user.color --only-values | wc -c)
}
is "so do extended attributes" "$(colored $l) $(colored server/mnt)" "600 600"
is "those of others are as they were" "$(cd $l/d && grep -l other ./* | xargs stat -c %a | sort -u)" 644
same_tree "the peer shows the same" laptop server

mkdir $l/again
echo 1 >$l/removed
echo 1 >$l/over
setfattr -n user.color -v red $l/again $l/removed $l/over
synced laptop server
rmdir $l/again
rm $l/removed
synced laptop server
mkdir $l/again
echo 2 >$l/removed
echo 2 >$l/new
mv $l/new $l/over
synced laptop server
for m in $l server/mnt; do
	is "what comes under a name has nothing of what was there, in $m" \
	    "$(cd $m && getfattr -d again removed over 2>&1)" ""
done
done_testing
