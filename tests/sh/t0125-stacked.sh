#!/bin/bash
# A store on a file system that is stacked on another: the kernel passes nothing
# through to it.  The first open finds that out, says so once, and data is copied
# from then on.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || skip_all "the kernel has no overlayfs"
cluster_start
mkdir lower upper work laptop server
mount -t overlay overlay -o "lowerdir=$T/lower,upperdir=$T/upper,workdir=$T/work" laptop || skip_all "overlayfs cannot be mounted here"
pair laptop server
l=laptop/mnt s=server/mnt

path_of() { status_get "$1" "s['data']"; }
head -c 3000000 /dev/urandom >data
cp data $l/one
head -c 100000 data >>$l/one
cat data <(head -c 100000 data) | cmp - $l/one
ok "what is written there is what is read" cmp <(cat data <(head -c 100000 data)) $l/one
for k in 1 2 3 4 5; do echo "$k" >$l/f$k; cat $l/f$k; done >said
is "file by file" "$(paste -sd' ' said)" "1 2 3 4 5"
python3 - $l/mapped <<'END'
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 10000)
m = mmap.mmap(fd, 10000)
m[5000:5005] = b"hello"
m.close()
os.close(fd)
END
is "and what is stored to a mapping" "$(dd if=laptop/store/mapped bs=1 skip=5000 count=5 2>/dev/null)" hello
is "the log says once that data is copied" "$(grep -c 'data is copied' laptop/store/.sibfs/log)" 1
is "and status, too" "$(path_of laptop) $(path_of server)" "copy passthrough"
synced laptop server
ok "all arrives" cmp $l/one $s/one
echo edited >$s/f1
within 5 "and comes back" "has $l/f1 edited"
same_tree "both show the same" laptop server
replica_umount laptop
umount laptop 2>/dev/null
done_testing
