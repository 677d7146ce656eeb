#!/bin/bash
# More files than the daemon may open: all are seen, read and written, also again
# when their descriptors were closed meanwhile, and what is kept of each is little.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
many=30000

# fill DIRECTORY FILES: 1,000 in each directory.
fill() {
	python3 - "$1" "$2" <<-'END'
		import os, sys
		top, n = sys.argv[1], int(sys.argv[2])
		for k in range(n):
		    if k % 1000 == 0:
		        os.makedirs(f"{top}/d{k // 1000:03d}")
		    os.close(os.open(f"{top}/d{k // 1000:03d}/file-{k:06d}", os.O_CREAT | os.O_WRONLY))
	END
}
# Kilobytes of the daemon's own memory.
memory() { awk '$1 == "Anonymous:" { print $2 }' "/proc/$pid/smaps_rollup"; }
# one_of_each COMMAND...: runs it with a file of each directory.
one_of_each() { find laptop/mnt/many -name 'file-*500' -print0 | xargs -0 "$@"; }
open_files() { find "/proc/$pid/fd" -mindepth 1 | wc -l; }

fill laptop/store/many $many
fill laptop/store/first 2000
replica_new laptop
(ulimit -n 1000 && replica_mount laptop) || exit 1
pid=$(cat laptop/store/.sibfs/pid)
limit=$(awk '/Max open files/ { print $5 }' "/proc/$pid/limits")
is "the daemon may have 1,000 files open" "$limit" 1000

find laptop/mnt/first -printf '%s\n' >/dev/null
before=$(memory)
find laptop/mnt/many -type f -printf '%s %f\n' >found 2>errors
is "all of 30,000 files are found" "$(wc -l <found)" $many
is "without an error" "$(head -n 5 errors)" ""
each=$((($(memory) - before) * 1024 / many))
diag "$each bytes for each"
if ldd "$SIBFS" | grep -q asan; then
	diag "with sanitizers memory says nothing"
else
	ok "each takes at most 220 bytes of the daemon's memory" test "$each" -le 220
fi
ok "few files stay open" test "$(open_files)" -lt 400

ok "they can be read" one_of_each cat
ok "and written" one_of_each sh -c 'for f; do echo text >"$f" || exit 1; done' sh
is "the text is there" "$(one_of_each cat | sort | uniq -c | tr -s ' ')" " 30 text"
rm laptop/mnt/many/d007/file-007[0-4]*
is "what was removed is gone" "$(find laptop/mnt/many -type f | wc -l)" $((many - 500))
mv laptop/mnt/many/d008 laptop/mnt/d008
is "a directory that was moved has its files" "$(names laptop/mnt/d008 | wc -w)" 1000
ok "umount" sibfs umount laptop/mnt

done_testing
