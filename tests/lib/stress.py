#!/usr/bin/env python3
"""Random operations on a directory, as several programs at once would do them.

    stress.py run DIR SEED SECONDS PROCESSES [mortal]
        Names come from a small pool, so that the processes, and those of the
        other replica, meet all the time.  Only errors that such meetings
        explain are expected; any other is printed, and the exit status is 1.
        mortal: the mount may die meanwhile, which ends it.
    stress.py tree DIR
        Type, mode, extended attributes, content or target of all below DIR, a line
        each, sorted.

The names of siblings are edited, removed and moved away, never made: a name
with two marks of a conflict in it can then only be the system's own doing.
"""
import errno
import hashlib
import multiprocessing
import os
import random
import stat
import sys
import time

MARK = ".conflict-"
DIRS = ["d1", "d2", "d3", "x"]		# x is a name of files, too
FILES = ["a", "b", "c", "x", "y", "n.txt", "back~", ".n.swp"]
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR,
            errno.EINVAL,		# a directory into itself
            errno.ENODATA,		# an attribute that nobody set
            errno.ENAMETOOLONG,		# a path into directories that were moved into each other
            errno.ELOOP, errno.EPERM,	# a symbolic link; a hard link to a directory
            errno.ESTALE}		# a directory was moved by the peer: the kernel tries twice
DEAD = {errno.ENOTCONN, errno.ECONNABORTED}
DEPTH = 4
HELD = 3


class Actor:
    def __init__(self, top, seed):
        self.random = random.Random(seed)
        self.top = top
        self.tag = "%s %d" % (os.path.basename(os.path.dirname(top)), seed)
        self.count = 0
        self.held = []
        self.ops = [
            (self.create, 10), (self.append, 8), (self.overwrite, 8), (self.truncate, 3),
            (self.save, 8), (self.rename, 8), (self.rename_dir, 5), (self.unlink, 8),
            (self.rmdir, 4), (self.mkdir, 6), (self.symlink, 2), (self.chmod, 4),
            (self.xattr, 4), (self.link, 2), (self.hold, 3), (self.write_held, 6), (self.drop, 3),
            (self.touch_sibling, 4), (self.exchange_by_hand, 1), (self.list, 4), (self.read, 4),
        ]

    def text(self):
        self.count += 1
        return ("%s %d\n" % (self.tag, self.count)).encode() * self.random.choice([1, 1, 1, 3, 400])

    def dir(self):
        """A directory that stands, most of the time."""
        path = self.top
        for _ in range(self.random.randrange(DEPTH)):
            below = os.path.join(path, self.random.choice(DIRS))
            if not os.path.isdir(below) or os.path.islink(below):
                break
            path = below
        return path

    def file(self):
        return os.path.join(self.dir(), self.random.choice(FILES))

    def there(self):
        """A file that stands, if there is one; siblings too."""
        path = self.dir()
        names = [e.name for e in os.scandir(path) if not e.is_dir(follow_symlinks=False)]
        return os.path.join(path, self.random.choice(sorted(names))) if names else self.file()

    def write(self, path, flags):
        fd = os.open(path, flags | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            for _ in range(self.random.choice([1, 1, 2])):
                os.write(fd, self.text())
        finally:
            os.close(fd)

    def create(self):
        self.write(self.file(), os.O_CREAT)

    def append(self):
        self.write(self.there(), os.O_APPEND)

    def overwrite(self):
        self.write(self.there(), os.O_TRUNC)

    def truncate(self):
        path = self.there()
        if not os.path.islink(path):
            os.truncate(path, self.random.choice([0, 3, 5000]))

    def save(self):
        """As editors do: a new file, renamed over the old one."""
        to = self.file()
        new = to + ".new%d" % os.getpid()
        self.write(new, os.O_CREAT | os.O_EXCL)
        try:
            os.rename(new, to)
        except OSError:
            os.unlink(new)
            raise

    def rename(self):
        os.rename(self.there(), self.file())

    def rename_dir(self):
        os.rename(os.path.join(self.dir(), self.random.choice(DIRS)),
                  os.path.join(self.dir(), self.random.choice(DIRS)))

    def unlink(self):
        os.unlink(self.there())

    def rmdir(self):
        path = os.path.join(self.dir(), self.random.choice(DIRS))
        if self.random.random() < 0.3 and not os.path.islink(path):
            for top, dirs, files in os.walk(path, topdown=False):
                for name in files:
                    os.unlink(os.path.join(top, name))
                for name in dirs:
                    below = os.path.join(top, name)
                    os.unlink(below) if os.path.islink(below) else os.rmdir(below)
        os.rmdir(path)

    def mkdir(self):
        os.mkdir(os.path.join(self.dir(), self.random.choice(DIRS)))

    def symlink(self):
        os.symlink("to-%d" % self.random.randrange(5), self.file())

    def chmod(self):
        path = self.there() if self.random.random() < 0.7 else self.dir()
        if path != self.top and not os.path.islink(path):
            os.chmod(path, self.random.choice([0o644, 0o600, 0o755, 0o700]) if os.path.isfile(path)
                     else self.random.choice([0o755, 0o700]))

    def xattr(self):
        path = self.there() if self.random.random() < 0.7 else self.dir()
        if path == self.top or os.path.islink(path):
            return
        name = self.random.choice(["user.color", "user.shape"])
        if self.random.random() < 0.3:
            os.removexattr(path, name, follow_symlinks=False)
        else:
            os.setxattr(path, name, self.text()[:200], follow_symlinks=False)

    def link(self):
        os.link(self.there(), self.file(), follow_symlinks=False)

    def hold(self):
        if len(self.held) < HELD:
            self.held.append(os.open(self.there(), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC))

    def write_held(self):
        if self.held:
            fd = self.random.choice(self.held)
            os.pwrite(fd, self.text(), os.fstat(fd).st_size)

    def drop(self):
        if self.held:
            os.close(self.held.pop(self.random.randrange(len(self.held))))

    def touch_sibling(self):
        path = self.there()
        if MARK not in path:
            return
        what = self.random.randrange(3)
        if what == 0:
            self.write(path, os.O_TRUNC)
        elif what == 1:
            os.unlink(path)
        else:
            os.rename(path, path.split(MARK)[0])

    def exchange_by_hand(self):
        path = self.dir()
        one, two, aside = (os.path.join(path, n) for n in ("d1", "d2", "d3"))
        os.rename(one, aside)
        os.rename(two, one)
        os.rename(aside, two)

    def list(self):
        for _ in os.walk(self.dir()):
            pass

    def read(self):
        fd = os.open(self.there(), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.read(fd, 1 << 16)
        finally:
            os.close(fd)

    def run(self, seconds, mortal):
        end = time.monotonic() + seconds
        ops, weights = zip(*self.ops)
        bad = done = 0
        while time.monotonic() < end:
            op = self.random.choices(ops, weights)[0]
            try:
                op()
            except OSError as e:
                if mortal and e.errno in DEAD:
                    return done, bad
                if e.errno not in EXPECTED:
                    print("%s: %s: %s" % (self.tag, op.__name__, e), flush=True)
                    bad += 1
            done += 1
            time.sleep(self.random.choice([0, 0, 0.001, 0.01]))
        for fd in self.held:
            os.close(fd)
        return done, bad


def work(args):
    top, seed, seconds, mortal = args
    return Actor(top, seed).run(seconds, mortal)


def run(top, seed, seconds, processes, mortal):
    jobs = [(os.path.abspath(top), seed + i, seconds, mortal) for i in range(processes)]
    with multiprocessing.Pool(processes) as pool:
        results = pool.map(work, jobs, chunksize=1)
    print("%s: %d operations, %d unexpected errors" % (
        top, sum(r[0] for r in results), sum(r[1] for r in results)))
    return any(r[1] for r in results)


def xattrs(path):
    """As a word: what users set."""
    values = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(
        os.listxattr(path, follow_symlinks=False)) if not name.startswith("user.sibfs")]
    return hashlib.sha256(repr(values).encode()).hexdigest()[:8] if values else "-"


def describe(path):
    st = os.lstat(path)
    mode = "%o" % stat.S_IMODE(st.st_mode)
    if stat.S_ISLNK(st.st_mode):
        return "l - " + os.readlink(path)
    if stat.S_ISDIR(st.st_mode):
        return "d %s %s" % (mode, xattrs(path))
    with open(path, "rb") as f:
        return "f %s %s %s" % (mode, xattrs(path), hashlib.sha256(f.read()).hexdigest()[:16])


def tree_here(prefix, lines):
    """Of the working directory: a path to what is deep below may be too long."""
    for name in os.listdir("."):
        if name == ".sibfs" and not prefix:
            continue
        try:
            lines.append("%s%s %s" % (prefix, name, describe(name)))
            if os.path.isdir(name) and not os.path.islink(name):
                os.chdir(name)
                tree_here(prefix + name + "/", lines)
                os.chdir("..")
        except OSError as e:
            lines.append("%s%s cannot be read: %s" % (prefix, name, e.strerror))


def tree(top):
    lines = []
    sys.setrecursionlimit(100000)
    os.chdir(top)
    tree_here("", lines)
    print(*sorted(lines), sep="\n")


if __name__ == "__main__":
    if sys.argv[1] == "tree":
        tree(sys.argv[2])
    else:
        sys.exit(run(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]), sys.argv[6:] == ["mortal"]))
