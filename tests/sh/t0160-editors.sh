#!/bin/bash
# How editors save, by their system calls: each save is one version of the right
# file, which replaces the version before it, and what they make for a moment
# does not reach the peer.
. "$(dirname "$0")/../lib/cluster.sh"
needs sed
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

cat >save.py <<'END'
"""Saves a file with a new text as an editor does."""
import os, sys
editor, path, text = sys.argv[1:4]
folder, name = os.path.split(path)
data = text.encode() + b"\n"
def at(other):
    return os.path.join(folder, other)
def write(p, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC, sync=False):
    fd = os.open(p, flags, 0o644)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)
def touch(p):
    os.close(os.open(p, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
if editor == "vim":		# backup by renaming, with a swap file and a probe
    touch(at("." + name + ".swp"))
    touch(at("." + name + ".swx"))
    os.unlink(at("." + name + ".swx"))
    touch(at("4913"))
    os.unlink(at("4913"))
    os.rename(path, path + "~")
    write(path, sync=True)
    os.chmod(path, 0o644)
    os.unlink(path + "~")
    os.unlink(at("." + name + ".swp"))
if editor == "vim-copy":	# backupcopy=yes: written in place
    with open(path, "rb") as old, open(path + "~", "wb") as backup:
        backup.write(old.read())
    write(path, sync=True)
    os.unlink(path + "~")
if editor == "emacs":		# a lock, an auto-save file, a backup that stays away
    os.symlink("user@host.1:2", at(".#" + name))
    write(at("#" + name + "#"))
    write(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, True)
    os.unlink(at("#" + name + "#"))
    os.unlink(at(".#" + name))
if editor == "nano":		# in place
    write(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
if editor == "gedit":		# GLib
    write(at(".goutputstream-X7Q2ZA"), sync=True)
    os.rename(at(".goutputstream-X7Q2ZA"), path)
if editor == "kate":		# QSaveFile
    write(path + ".QtzKxA", sync=True)
    os.rename(path + ".QtzKxA", path)
if editor == "vscode":		# in place: truncated, then written
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.ftruncate(fd, 0)
    os.write(fd, data)
    os.fdatasync(fd)
    os.close(fd)
if editor == "libreoffice":	# a lock, a copy made aside and moved over
    write(at(".~lock." + name + "#"))
    write(at("lu12345abcd.tmp"), sync=True)
    os.rename(at("lu12345abcd.tmp"), path)
    os.unlink(at(".~lock." + name + "#"))
END

# What names the peer ever shows: looked at all the time.
cat >watch.py <<'END'
import os, sys, time
seen, missed = set(), set()
before = set(os.listdir(sys.argv[1]))
while not os.path.exists("enough"):
    now = set(os.listdir(sys.argv[1]))
    seen |= now
    missed |= before - now
    time.sleep(0.002)
print(*sorted(seen), sep="\n")
print(*sorted(missed), sep="\n", file=open(sys.argv[2], "w"))
END

editors="vim vim-copy emacs nano gedit kate vscode libreoffice sed"
for e in $editors; do echo "first of $e" >$l/$e.txt; done
synced laptop server
python3 watch.py $s names-missed >names-seen &
watcher=$!
for e in $editors; do
	f=$e.txt
	was=$(vv $l/$f | sed 's/.*laptop:\([0-9]*\).*/\1/')
	for text in second third; do
		if [ $e = sed ]; then
			sed -i "s/.*/$text of sed/" $l/$f
		else
			python3 save.py $e $l/$f "$text of $e"
		fi
	done
	within 3 "$e: the peer has what was saved last" "has $s/$f '$text of $e'"
	is "$e: nobody is in conflict with himself" "$(ls $l $s | grep -c "^$e.*conflict")" 0
	ok "$e: a save is a version after the one before" test "$(vv $l/$f | sed 's/.*laptop:\([0-9]*\).*/\1/')" -gt "$was"
	is "$e: the same one on both" "$(dot $s/$f)" "$(dot $l/$f)"
done
synced laptop server
touch enough
wait $watcher
# LibreOffice's name for a copy is not one that is known to pass.
is "no passing name reached the peer" "$(grep -v '^lu.*tmp$' names-seen | sort -u)" \
	"$(for e in $editors; do echo $e.txt; done | sort)"
is "and no file was gone for a moment there" "$(grep 'txt$' names-missed)" ""

# A save on each side is a conflict of two: the second save of one replaces his first.
split laptop server
for e in $editors; do
	[ $e = sed ] && sed -i "s/.*/laptop, first/" $l/$e.txt || python3 save.py $e $l/$e.txt "laptop, first"
	[ $e = sed ] && sed -i "s/.*/laptop/" $l/$e.txt || python3 save.py $e $l/$e.txt laptop
	[ $e = sed ] && sed -i "s/.*/server/" $s/$e.txt || python3 save.py $e $s/$e.txt server
done
heal laptop server
for e in $editors; do
	is "$e: saved on both sides, two versions stand" "$(cat $l/$e.txt $l/$e.txt.conflict-* | sort | paste -sd' ')" "laptop server"
done
same_tree "both show the same" laptop server
done_testing
