#!/bin/bash
# What sibfs keeps on files for itself is not seen: it moves no time, is not
# listed, and is carried nowhere.
. "$(dirname "$0")/../lib/cluster.sh"
needs git rsync tar strace
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

times() { stat -c '%n %W %Y %Z %y %z' "$@" | sed "s|^[^ ]*/||"; }
all_times() { (cd "$1" && find . -path ./.git/index -prune -o ! -path ./.git -printf '%p %T@ %C@\n' | sort); }
marked() { getfattr -n user.sibfs "$1"; }
# opened DIRECTORY: how many of the repository's own files `git status` opens
opened() {
	strace -f -qq -e trace=openat -o opens git -C "$1" status >status-says
	grep -c 'file[0-9]' opens
}

export GIT_CONFIG_NOSYSTEM=1
git -c init.defaultBranch=main init -q source
for i in 1 2 3 4 5 6 7 8; do
	mkdir -p source/dir$i
	echo "content $i" | tee source/file$i >source/dir$i/file$i
done
git -C source add .
git -C source -c user.name=test -c user.email=test@localhost commit -qm first
git -c safe.directory='*' clone -q source $l/clone 2>/dev/null
# Git reads once what is as young as its index, anywhere.
sleep 1
git -C $l/clone status >/dev/null
all_times $l/clone >cloned
sleep 4
ok "files have their mark by now" marked laptop/store/clone/file1
ok "and directories" marked laptop/store/clone/dir1
fails "which moved the ctime below" test "$(stat -c %z laptop/store/clone/file1)" = "$(stat -c %z $l/clone/file1)"
is "some seconds after a clone git status opens no file" "$(opened $l/clone)" 0
all_times $l/clone >rested
is "no time of any file or directory moved" "$(diff cloned rested | head -n 9)" ""
replica_umount laptop
replica_mount laptop
all_times $l/clone >mounted
is "nor after a restart" "$(diff cloned mounted | head -n 9)" ""
is "when git opens none either" "$(opened $l/clone)" 0

was=$(times $l/clone/file1)
sleep 0.1
chmod 600 $l/clone/file1
fails "chmod moves ctime" test "$(times $l/clone/file1)" = "$was"
was=$(times $l/clone/file1)
sleep 5
is "and its mark does not" "$(times $l/clone/file1)" "$was"
setfattr -n user.color -v blue $l/clone/file1
fails "an attribute does" test "$(times $l/clone/file1)" = "$was"
was=$(times $l/clone/file2)
mv $l/clone/file2 $l/clone/renamed
fails "a rename does" test "$(times $l/clone/renamed)" = "$was"
was=$(times $l/clone/renamed)
ln $l/clone/renamed $l/clone/linked
fails "a link does" test "$(times $l/clone/renamed)" = "$was"

# Right after the mark, where it is hardest to tell: what a user does counts.
cat >late.py <<'END'
import os, sys, time
mount, store = sys.argv[1:3]
missed = 0
for i in range(8):
    name = "late%d" % i
    os.close(os.open(mount + "/" + name, os.O_CREAT | os.O_WRONLY))
    while True:
        try:
            os.getxattr(store + "/" + name, "user.sibfs")
            break
        except OSError:
            time.sleep(0.0005)
    before = os.stat(mount + "/" + name).st_ctime_ns
    if i % 4 == 0:
        os.chmod(mount + "/" + name, 0o640)
    if i % 4 == 1:
        os.setxattr(mount + "/" + name, "user.x", b"y")
    if i % 4 == 2:
        os.rename(mount + "/" + name, mount + "/" + name + "-moved")
        name += "-moved"
    if i % 4 == 3:
        os.link(mount + "/" + name, mount + "/" + name + "-too")
    if os.stat(mount + "/" + name).st_ctime_ns <= before:
        missed += 1
print(missed)
END
is "what is done right after the mark moves ctime" "$(python3 late.py $l laptop/store)" 0

# A rename waits for nothing: right after the mark it takes it away.
cat >dropped.py <<'END'
import os, sys, time
mount, store = sys.argv[1:3]
def marked(path):
    try:
        return os.getxattr(path, "user.sibfs") != b""
    except OSError:
        return False
def drops(make, name):
    make(mount + "/" + name)
    while not marked(store + "/" + name):
        time.sleep(0.0005)
    os.rename(mount + "/" + name, mount + "/" + name + "-moved")
    return not marked(store + "/" + name + "-moved")
def file(path):
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
# One that is too late has waited long enough.
for make in file, os.mkdir:
    for i in range(5):
        name = make.__name__ + str(i)
        if drops(make, name):
            print(name + "-moved")
            break
END
python3 dropped.py $l laptop/store >dropped
is "a rename of what was just marked takes the mark away" "$(sed 's/[0-9].*//' dropped | paste -sd' ')" "file mkdir"
while read -r name; do
	within 5 "$name has it again later" "marked laptop/store/$name"
done <dropped

echo more >$l/clone/file3
was=$(stat -c '%X %x' $l/clone/file3)
sleep 3
is "atime does not move" "$(stat -c '%X %x' $l/clone/file3)" "$was"

tar -C $l -cf full.tar --listed-incremental=snapshot clone 2>/dev/null
tar -C $l --listed-incremental=snapshot -cf increment.tar clone 2>/dev/null
is "an incremental tar has no file again" "$(tar -tf increment.tar | grep -v '/$')" ""

ours() { getfattr --absolute-names -d -m - "$@" 2>/dev/null | grep -c '^user\.sibfs'; }
is "listing names none of ours" "$(ours $l/clone/file1 $l/clone/dir1)" 0
cp -a $l/clone copied
tar -C $l --xattrs --xattrs-include='*' -cf - clone | tar -C "$T/home" --xattrs --xattrs-include='*' -xf -
mkdir rsynced
rsync -aXA $l/clone/ rsynced/
for at in copied home/clone rsynced; do
	is "$at carries the user's attribute" "$(getfattr --absolute-names --only-values -n user.color $at/file1)" blue
	is "and none of ours" "$(find $at -type f -o -type d | while read -r f; do ours "$f"; done | grep -vc '^0')" 0
done

synced laptop server
replica_new other else
replica_mount other
mv $l/clone/file4 other/mnt/moved
like "moved to another replica it is new there" "$(vv other/mnt/moved)" '^other:[0-9]+$'
sleep 3
cp -a laptop/store/clone/file5 other/mnt/raw
like "a raw mark that was copied is not believed" "$(vv other/mnt/raw)" '^other:[0-9]+$'
is "nor is its ctime" "$(stat -c %Z other/mnt/raw)" "$(stat -c %Z other/store/raw)"
done_testing
