#!/bin/bash
# Trees as tools put them in, copy them about and take them out again: with times,
# modes and links as they were, at the peer too.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt

python3 - tree <<'END_PY'
import os, random, sys
top, rnd = sys.argv[1], random.Random(7)
for d in range(20):
    os.makedirs(f"{top}/d{d}/sub")
    for n in range(15):
        path = f"{top}/d{d}/{'sub/' if n % 3 else ''}f{n}"
        with open(path, "wb") as f:
            f.write(rnd.randbytes(rnd.choice((0, 10, 3000, 60000))))
        os.chmod(path, rnd.choice((0o644, 0o600, 0o755, 0o444)))
        os.utime(path, ns=(10 ** 18, 10 ** 18 + rnd.randrange(10 ** 17)))
    os.symlink(f"../d{d - 1}/f0", f"{top}/d{d}/link")
END_PY
tree tree >wanted
arrived() {	# CLAIM NAME
	synced laptop server
	is "$1" "$(diff wanted <(tree $l/$2) | head -n 10)" ""
	is "$1, at the peer" "$(diff wanted <(tree server/mnt/$2) | head -n 10)" ""
}

cp -a tree $l/cp
arrived "cp -a" cp
(cd tree && tar --format=posix -cf - .) | (mkdir $l/tar && cd $l/tar && tar -xpf -)
arrived "tar" tar
if command -v rsync >/dev/null; then
	rsync -a tree/ $l/rsync/
	arrived "rsync -a" rsync
	find $l/rsync -type f -exec touch '{}' +
	rsync -a tree/ $l/rsync/
	arrived "rsync -a once more" rsync
fi
cp -a $l/cp $l/within
arrived "cp -a within the mount" within
mv $l/within .
is "mv out of it" "$(tree within | diff wanted - | head -n 10)" ""
mv within $l/back
arrived "mv into it" back
python3 -c "import shutil; shutil.copytree('$l/cp', '$l/copytree', symlinks=True)"
arrived "Python's copytree" copytree
is "without conflicts" "$(conflict_names laptop)" ""
done_testing
