#!/usr/bin/env python3
"""Random operations on two directories, one in a mount and one that is native: each
must end alike, and leave the same.

    twin.py work MOUNTED NATIVE SEED OPERATIONS    does them
    twin.py compare TREE NATIVE [--links] [--exact]

compare says what differs in type, owner, mode, content, target, extended attributes, and in
times that were set (those are before 2015); --links: in hard links; --exact: in all times.
"""
import ctypes, errno, mmap, os, random, stat, sys, time

libc = ctypes.CDLL(None, use_errno=True)
EXCHANGE, FOLLOW = 2, 0x400
SET_BEFORE = 1420070400


def call(function, *args):
    if function(*(os.fsencode(a) if isinstance(a, str) else a for a in args)) != 0:
        raise OSError(ctypes.get_errno(), function.__name__)


def exchange(a, b):
    call(libc.renameat2, -100, a, -100, b, EXCHANGE)


def write(path, how, data):
    with open(path, how) as f:
        f.write(data)


def replace(path, data, mode, when):
    """As rsync does: whole under another name, its attributes, then in place."""
    temp = f"{os.path.dirname(path)}/.{os.path.basename(path)}.a8Kd2x"
    fd = os.open(temp, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data)
    os.close(fd)
    os.utime(temp, ns=when)
    os.chmod(temp, mode)
    os.rename(temp, path)


def store(path, data):
    """Into a mapping that is closed before the file is."""
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        if size:
            with mmap.mmap(fd, size) as m:
                m[:len(data)] = data[:size]
    finally:
        os.close(fd)


def unnamed(path, data):
    fd = os.open(os.path.dirname(path), os.O_TMPFILE | os.O_RDWR, 0o640)
    try:
        os.write(fd, data)
        call(libc.linkat, -100, f"/proc/self/fd/{fd}", -100, path, FOLLOW)
    finally:
        os.close(fd)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def paths(rnd):
    """A name in one of few directories, so that operations meet."""
    top = rnd.choice(("", "", "a/", "a/b/", "c/"))
    return top + rnd.choice("uvwxyz") + rnd.choice("12")


def choose(rnd):
    """One operation, as a function of the directory that it is done in."""
    p, q = paths(rnd), paths(rnd)
    d, e = (rnd.choice(("a", "a/b", "c", "c/d", "e")) for _ in range(2))
    data = rnd.randbytes(rnd.choice((0, 1, 100, 5000, 70000)))
    mode = rnd.choice((0o644, 0o600, 0o755, 0o440))
    when = (10 ** 18, 10 ** 18 + rnd.randrange(10 ** 17))
    key, value = f"user.{rnd.choice('mn')}", rnd.randbytes(5)
    n, owner = rnd.randrange(6000), rnd.choice((0, 1, 2, 54321))
    return rnd.choice((
        lambda t: write(f"{t}/{p}", "wb", data), lambda t: write(f"{t}/{p}", "wb", data),
        lambda t: write(f"{t}/{p}", "ab", data), lambda t: write(f"{t}/{p}", "r+b", data),
        lambda t: replace(f"{t}/{p}", data, mode, when), lambda t: replace(f"{t}/{p}", data, mode, when),
        lambda t: unnamed(f"{t}/{p}", data), lambda t: store(f"{t}/{p}", data),
        lambda t: os.truncate(f"{t}/{p}", n), lambda t: os.utime(f"{t}/{p}", ns=when, follow_symlinks=False),
        lambda t: os.utime(f"{t}/{p}", ns=when, follow_symlinks=False),
        lambda t: os.chmod(f"{t}/{p}", mode), lambda t: os.chmod(f"{t}/{p}", mode),
        lambda t: os.chmod(f"{t}/{d}", mode | 0o700),
        lambda t: os.setxattr(f"{t}/{p}", key, value), lambda t: os.removexattr(f"{t}/{p}", key),
        lambda t: os.setxattr(f"{t}/{d}", key, value), lambda t: os.removexattr(f"{t}/{d}", key),
        lambda t: os.lchown(f"{t}/{p}", owner, owner), lambda t: os.lchown(f"{t}/{d}", owner, owner),
        lambda t: os.rename(f"{t}/{p}", f"{t}/{q}"), lambda t: os.rename(f"{t}/{p}", f"{t}/{q}"),
        lambda t: os.rename(f"{t}/{p}", f"{t}/{q}"), lambda t: exchange(f"{t}/{p}", f"{t}/{q}"),
        lambda t: os.link(f"{t}/{p}", f"{t}/{q}", follow_symlinks=False), lambda t: os.unlink(f"{t}/{p}"),
        lambda t: os.symlink(q, f"{t}/{p}"), lambda t: os.mkdir(f"{t}/{d}", mode | 0o700),
        lambda t: os.mkdir(f"{t}/{d}", mode | 0o700), lambda t: os.rmdir(f"{t}/{d}"),
        lambda t: os.rename(f"{t}/{d}", f"{t}/{e}"), lambda t: exchange(f"{t}/{d}", f"{t}/{e}"),
        lambda t: exchange(f"{t}/{d}", f"{t}/{p}"), lambda t: read(f"{t}/{p}"),
        lambda t: sorted(os.listdir(f"{t}/{d}")), lambda t: stat.S_IMODE(os.lstat(f"{t}/{p}").st_mode)))


def outcome(op, top):
    try:
        return op(top)
    except OSError as e:
        return errno.errorcode[e.errno]


def work(mounted, native, seed, count):
    rnd = random.Random(seed)
    for n in range(count):
        op = choose(rnd)
        a, b = outcome(op, native), outcome(op, mounted)
        if a != b:
            sys.exit(f"operation {n}: {str(b)[:80]} and not {str(a)[:80]}")
        if rnd.randrange(40) == 0:
            time.sleep(rnd.choice((0.001, 0.02, 0.1)))


def entries(top):
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            yield os.path.relpath(os.path.join(where, name), top)


def looks(path, links):
    st = os.lstat(path)
    is_file = stat.S_ISREG(st.st_mode)
    return {"type": stat.S_IFMT(st.st_mode), "owner": (st.st_uid, st.st_gid),
            "mode": st.st_mode if not stat.S_ISLNK(st.st_mode) else 0,
            "content": hash(read(path)) if is_file else os.readlink(path) if stat.S_ISLNK(st.st_mode) else None,
            "links": st.st_nlink if links and is_file else None,
            "attributes": {k: os.getxattr(path, k, follow_symlinks=False)
                           for k in os.listxattr(path, follow_symlinks=False) if not k.startswith("user.sibfs")}}


def time_differs(a, b, exact):
    if not stat.S_ISREG(a.st_mode):
        return False
    if exact or b.st_mtime < SET_BEFORE:
        return a.st_mtime_ns != b.st_mtime_ns
    return a.st_mtime < SET_BEFORE


def compare(tree, native, links, exact):
    a, b = set(entries(tree)), set(entries(native))
    wrong = [f"{p} is missing" for p in b - a] + [f"{p} is too much" for p in a - b]
    for p in sorted(a & b):
        x, y = looks(f"{tree}/{p}", links), looks(f"{native}/{p}", links)
        wrong += [f"{p}: {k}: {x[k]}, not {y[k]}" for k in x if x[k] != y[k]]
        s, t = os.lstat(f"{tree}/{p}"), os.lstat(f"{native}/{p}")
        if time_differs(s, t, exact):
            wrong.append(f"{p}: time: {s.st_mtime_ns}, not {t.st_mtime_ns}")
    print("\n".join(wrong[:20]), end="")


if __name__ == "__main__":
    if sys.argv[1] == "work":
        work(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        compare(sys.argv[2], sys.argv[3], "--links" in sys.argv, "--exact" in sys.argv)
