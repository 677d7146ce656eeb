#!/bin/bash
# A mount is a normal directory: what shells, compilers, git and SQLite do.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new solo
replica_mount solo
m=$T/solo/mnt
cd "$m" || exit 1

# ---- names, contents, attributes
echo one >a
ok "what is written is read" has a one
echo two >>a
is "appending appends" "$(cat a)" "$(printf 'one\ntwo')"
: >empty
is "an empty file is empty" "$(stat -c %s empty)" 0
truncate -s 5 a
is "truncating truncates" "$(stat -c %s a)" 5
ok "a directory is made" mkdir d
fails "a directory is not made twice" mkdir d
ok "directories are made at any depth" mkdir -p d/e/f/g
fails "a directory with something in it is not removed" rmdir d
ok "an empty one is" rmdir d/e/f/g
mv a d/b
is "a file is moved with its content" "$(head -c 3 d/b)" one
mv d/e moved
ok "a directory is moved with what it holds" test -d moved/f
echo target >t1
echo source >t2
mv t2 t1
is "a rename replaces" "$(cat t1)" source
fails "the old name is gone" test -e t2
ln -s t1 s
is "a symbolic link is read" "$(readlink s)" t1
is "and followed" "$(cat s)" source
ln t1 hard
is "a hard link is one file with two names" "$(stat -c '%h %i' t1)" "$(stat -c '%h %i' hard)"
echo through >hard
is "written through one, read through the other" "$(cat t1)" through
rm hard
is "removing one name leaves the other" "$(stat -c %h t1):$(cat t1)" 1:through
chmod 640 t1
is "a mode is set" "$(stat -c %a t1)" 640
touch -d '2001-02-03 04:05:06.789 UTC' t1
is "a time is set to the nanosecond" "$(date -u -r t1 +%FT%T.%N)" 2001-02-03T04:05:06.789000000
umask 027; echo x >masked; mkdir maskdir; umask 022
is "the caller's umask counts" "$(stat -c %a masked maskdir | paste -sd' ')" "640 750"
mkfifo fifo
is "a FIFO is made" "$(stat -c %F fifo)" fifo

long=$(printf 'n%.0s' {1..255})
ok "a name of 255 bytes is fine" touch "$long"
fails "one of 256 is not" touch "${long}n"
odd=$' a\nb\t*?"\\\xc3\xa4 '
echo odd >"$odd"
is "a name may hold any byte" "$(cat "$odd")" odd
is "listing shows it" "$(find . -maxdepth 1 -name $'*\xc3\xa4 ' -printf x)" x
fails ".sibfs cannot be made in the root" mkdir .sibfs
is "nor is it listed" "$(find . -maxdepth 1 -name .sibfs)" ""
many=$(mkdir many && cd many && seq 3000 | xargs touch && find . -type f | wc -l)
is "a directory may hold thousands" "$many" 3000
ok "and be removed with all of them" rm -r many
ok "statfs answers" stat -f .

# ---- what programs do with descriptors
cat >fd.py <<'END'
import ctypes, errno, fcntl, mmap, os, sys

def claim(text, holds):
    print(("ok" if holds else "not ok"), "-", text)

def refused(call, *args):
    try:
        call(*args)
    except OSError as e:
        return e.errno
    return 0

libc = ctypes.CDLL(None, use_errno=True)

f = os.open("open", os.O_RDWR | os.O_CREAT, 0o644)
os.write(f, b"before")
os.rename("open", "renamed")
os.write(f, b" after")
claim("a file stays open through a rename", open("renamed").read() == "before after")
os.unlink("renamed")
os.write(f, b" unlinked")
os.lseek(f, 0, 0)
claim("and through its removal", os.read(f, 100) == b"before after unlinked")
claim("then it has no links", os.fstat(f).st_nlink == 0)
os.close(f)

f = os.open("map", os.O_RDWR | os.O_CREAT, 0o644)
os.ftruncate(f, 8192)
m = mmap.mmap(f, 8192)
os.close(f)
m[4096:4101] = b"mmap!"
m.flush()
claim("a shared mapping writes to the file", open("map", "rb").read()[4096:4101] == b"mmap!")
m.close()
claim("and what it wrote stays", open("map", "rb").read()[4096:4101] == b"mmap!")

f = os.open("falloc", os.O_RDWR | os.O_CREAT, 0o644)
os.posix_fallocate(f, 0, 65536)
claim("fallocate allocates", os.fstat(f).st_size == 65536)
os.pwrite(f, b"x" * 65536, 0)
rc = libc.fallocate(f, 3, ctypes.c_long(4096), ctypes.c_long(8192))
claim("a hole is punched", rc == 0 and os.pread(f, 8192, 4096) == bytes(8192))
os.close(f)

f = os.open("hole", os.O_RDWR | os.O_CREAT, 0o644)
os.pwrite(f, b"end", 1 << 20)
claim("holes are found", os.lseek(f, 0, os.SEEK_DATA) > 0 and os.lseek(f, 0, os.SEEK_HOLE) == 0)
claim("and take no room", os.fstat(f).st_blocks * 512 < 1 << 19)
g = os.open("copy", os.O_RDWR | os.O_CREAT, 0o644)
n = os.copy_file_range(f, g, 3, 1 << 20, 0)
claim("copy_file_range copies", n == 3 and os.pread(g, 3, 0) == b"end")
os.close(f); os.close(g)

os.setxattr("copy", "user.color", b"blue")
claim("a user's xattr is set and read", os.getxattr("copy", "user.color") == b"blue")
claim("and listed, and nothing else is", os.listxattr("copy") == ["user.color"])
claim("XATTR_CREATE refuses what is there",
      refused(os.setxattr, "copy", "user.color", b"red", os.XATTR_CREATE) == errno.EEXIST)
os.removexattr("copy", "user.color")
claim("a removed one is gone", refused(os.getxattr, "copy", "user.color") == errno.ENODATA)

f, g = open("copy", "r+"), open("copy", "r+")
fcntl.flock(f, fcntl.LOCK_EX)
claim("flock excludes", refused(fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB) == errno.EWOULDBLOCK)
fcntl.flock(f, fcntl.LOCK_UN)
claim("until it is given back", refused(fcntl.flock, g, fcntl.LOCK_EX | fcntl.LOCK_NB) == 0)
fcntl.flock(g, fcntl.LOCK_UN)
fcntl.lockf(f, fcntl.LOCK_EX)
pid = os.fork()
if pid == 0:
    os._exit(refused(fcntl.lockf, g, fcntl.LOCK_EX | fcntl.LOCK_NB) in (errno.EAGAIN, errno.EACCES))
claim("a record lock excludes other processes", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1)

AT_FDCWD = -100
def renameat2(a, b, flags):
    if libc.renameat2(AT_FDCWD, a.encode(), AT_FDCWD, b.encode(), flags) == 0:
        return 0
    return ctypes.get_errno()

open("p", "w").write("p"); open("q", "w").write("q")
claim("RENAME_NOREPLACE does not replace", renameat2("p", "q", 1) == errno.EEXIST)
claim("RENAME_EXCHANGE exchanges", renameat2("p", "q", 2) == 0 and open("p").read() == "q")
f = os.open("p", os.O_WRONLY | os.O_APPEND); os.write(f, b"+"); os.fsync(f); os.close(f)
claim("O_APPEND and fsync", open("p").read() == "q+")
claim("O_EXCL refuses what is there", refused(os.open, "p", os.O_CREAT | os.O_EXCL) == errno.EEXIST)
f = os.open(".", os.O_DIRECTORY); os.fsync(f); os.close(f)
claim("a directory is fsynced", True)
try:
    f = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(f, b"anonymous")
    rc = libc.linkat(AT_FDCWD, f"/proc/self/fd/{f}".encode(), AT_FDCWD, b"linked", 0x400)
    claim("an O_TMPFILE file is linked into place", rc == 0 and open("linked").read() == "anonymous")
except OSError as e:
    claim("O_TMPFILE is refused cleanly", e.errno == errno.EOPNOTSUPP)
claim("access answers", os.access("p", os.R_OK) and not os.access("p", os.X_OK))
END
python3 fd.py >"$T/fd.out" 2>"$T/fd.err"
is "the descriptor tests run to their end" "$?:$(cat "$T/fd.err")" "0:"
while IFS= read -r line; do
	rc=0
	[[ $line == ok* ]] || rc=1
	tap_verdict $rc "${line#*- }"
done <"$T/fd.out"

# ---- programs
if command -v cc >/dev/null; then
	mkdir c
	printf 'int two(void);\nint two(void) { return 2; }\n' >c/two.c
	printf '#include <stdio.h>\nint two(void);\nint main(void) { printf("%%d\\n", two()); return 0; }\n' >c/main.c
	printf 'prog: main.o two.o\n\t$(CC) -o $@ main.o two.o\n' >c/Makefile
	ok "a C program is built" make -s -C c
	is "and runs" "$(c/prog)" 2
	is "make sees that nothing is to do" "$(make -C c | grep -c 'up to date')" 1
else
	skip "a C program is built" "no compiler"
fi

if command -v git >/dev/null; then
	git config --global user.name test
	git config --global user.email test@example.org
	git config --global init.defaultBranch main
	ok "git init" git init -q repo
	cd repo || exit 1
	seq 500 | while read -r i; do echo "$i" >"f$i"; done
	ok "git add" git add .
	ok "git commit" git commit -q -m first
	is "git status is clean" "$(git status --porcelain)" ""
	for i in 1 2 3; do echo "more $i" >>f1; git commit -q -a -m "more $i"; done
	ok "git gc" git gc -q
	ok "git fsck" git fsck --strict
	ok "git clone within the mount" git clone -q . ../clone
	is "the clone has all" "$(git -C ../clone log --oneline | wc -l):$(names ../clone | wc -w)" 4:501
	ok "git checks out an older commit" git -C ../clone checkout -q HEAD~2
	cd ..
else
	skip "git" "git is missing"
fi

cat >sql.py <<'END'
import sqlite3, sys
mode = sys.argv[1]
a, b = sqlite3.connect(f"{mode}.db"), sqlite3.connect(f"{mode}.db")
assert a.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] == mode
a.execute("CREATE TABLE t (i INTEGER PRIMARY KEY, s TEXT)")
for i in range(20):
    with a:
        a.executemany("INSERT INTO t (s) VALUES (?)", [("x" * 100,)] * 50)
    assert b.execute("SELECT count(*) FROM t").fetchone()[0] == 50 * (i + 1)
a.execute("BEGIN IMMEDIATE")
try:
    b.execute("PRAGMA busy_timeout=0")
    b.execute("BEGIN IMMEDIATE")
    sys.exit("two writers at once")
except sqlite3.OperationalError:
    a.rollback()
assert a.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
END
ok "SQLite with a rollback journal" python3 sql.py delete
ok "SQLite with a write-ahead log" python3 sql.py wal

mkdir -p copy1
cp -a c repo copy1/ 2>/dev/null
ok "cp -a copies trees alike" diff -r --no-dereference repo copy1/repo
tar cf "$T/t.tar" copy1 && mkdir untar && tar xf "$T/t.tar" -C untar
ok "tar packs and unpacks alike" diff -r --no-dereference copy1 untar/copy1
ok "rm -rf removes it all" rm -rf copy1 untar repo clone c

cd "$T" || exit 1
ok "the mount is given back" sibfs umount "$m"
ok "the store is readable without it" has solo/store/t1 through
ok "and mounts again" sibfs mount "$T/solo/store" "$m"
ok "with everything there" has solo/mnt/t1 through
done_testing
