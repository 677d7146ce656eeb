"""
Programs on one mount while changes arrive from the other.

    arrivals.py PART LAPTOP SERVER SIBFS

LAPTOP and SERVER are replicas' directories, with store/ and mnt/ in them.  What
goes wrong is printed; nothing is printed when all is well.
"""
import glob, hashlib, mmap, os, random, subprocess, sys, threading, time

part, laptop, server, sibfs = sys.argv[1:5]
L, S = laptop + "/mnt", server + "/mnt"
failed = False


def wrong(text):
    global failed
    failed = True
    print(text, flush=True)


def sync():
    subprocess.run([sibfs, "sync", laptop + "/store", "server", "--timeout=60"], check=True,
                   stdin=subprocess.DEVNULL)


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)


def replace(path, data):
    put(path + ".new", data)
    os.rename(path + ".new", path)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def wait_for(what, condition):
    end = time.monotonic() + 20
    while not condition():
        if time.monotonic() > end:
            wrong("never: " + what)
            return False
        time.sleep(0.002)
    return True


def version(n, rng):
    """A content of which each line says which version it is of."""
    return (b"version %06d\n" % n) * rng.randrange(1, 9000)


def snapshot(top):
    seen = {}
    for path, dirs, files in os.walk(top):
        for name in dirs + files:
            full = os.path.join(path, name)
            st = os.lstat(full)
            rel = os.path.relpath(full, top)
            if os.path.islink(full):
                seen[rel] = ("link", os.readlink(full))
            elif os.path.isdir(full):
                seen[rel] = ("dir", st.st_mode & 0o7777, tuple(sorted(os.listdir(full))))
            else:
                data = get(full)
                seen[rel] = ("file", st.st_mode & 0o7777, st.st_size, st.st_mtime_ns,
                             hashlib.sha1(data).hexdigest(), len(data))
    return seen


def change(rng, n):
    """One change on the server."""
    d = f"{S}/d{rng.randrange(3)}"
    f = f"{d}/f{rng.randrange(4)}"
    os.makedirs(d, exist_ok=True)
    kind = rng.randrange(10)
    if kind < 3:
        put(f, version(n, rng))
    elif kind < 5:
        replace(f, version(n, rng))
    elif kind == 5 and os.path.exists(f):
        os.chmod(f, rng.choice([0o600, 0o644, 0o755]))
    elif kind == 6 and os.path.exists(f):
        os.utime(f, ns=(0, rng.randrange(10**18)))
    elif kind == 7 and os.path.exists(f):
        os.unlink(f)
    elif kind == 8:
        other = f"{S}/d{rng.randrange(3)}"
        if not os.path.exists(other):
            os.rename(d, other)
    elif kind == 9:
        if os.path.lexists(f"{d}/link"):
            os.unlink(f"{d}/link")
        os.symlink(f"f{n}", f"{d}/link")


def part_caches():
    """Once a round is over, nothing that shows is old, however hot the caches are."""
    rng = random.Random(int(os.environ.get("SIBFS_SEED", "1")))
    over = threading.Event()

    def look():
        while not over.is_set():
            for path in glob.glob(L + "/d*/f*"):
                try:
                    os.stat(path)
                    data = get(path)
                    lines = set(data.split(b"\n")) - {b""}
                    if len(lines) > 1 and not path.endswith(".new"):
                        wrong(f"{path}: parts of several versions: {sorted(lines)[:3]}")
                except FileNotFoundError:
                    pass
                except OSError as e:
                    wrong(f"{path}: {e}")
            for d in glob.glob(L + "/d*"):
                try:
                    os.listdir(d)
                    os.listxattr(d)
                except FileNotFoundError:
                    pass
                except OSError as e:
                    wrong(f"{d}: {e}")

    readers = [threading.Thread(target=look) for _ in range(2)]
    for t in readers:
        t.start()
    for n in range(int(os.environ.get("ARRIVALS_ROUNDS", "40"))):
        for _ in range(rng.randrange(1, 6)):
            change(rng, n)
        sync()
        there, here = snapshot(S), snapshot(L)
        for path in sorted(set(there) | set(here)):
            if there.get(path) != here.get(path):
                wrong(f"round {n}: {path} is {there.get(path)}, but shows as {here.get(path)}")
        if failed:
            break
    over.set()
    for t in readers:
        t.join()


def part_old_entries():
    """A write that comes right after a replacement is not lost."""
    put(S + "/entry", b"first")
    sync()
    for n in range(60):
        there, mine = b"from the server %d" % n, b"written here %d" % n
        get(L + "/entry")
        os.stat(L + "/entry")
        replace(S + "/entry", there)
        wait_for("it arrives", lambda: get(laptop + "/store/entry") == there)
        with open(L + "/entry", "r+b" if n % 2 else "wb") as f:
            f.truncate(0)
            f.write(mine)
        if get(L + "/entry") != mine or get(laptop + "/store/entry") != mine:
            wrong(f"{n}: the write is lost: {get(L + '/entry')}")
            break
        sync()
        if get(S + "/entry") != mine:
            wrong(f"{n}: the server has {get(S + '/entry')}")
            break


def part_readers():
    """Who reads a file that is replaced reads the old one to its end."""
    old, new = b"old\n" * 500000, b"new\n" * 400000
    put(S + "/read", old)
    sync()
    fd = os.open(L + "/read", os.O_RDONLY)
    head = os.read(fd, 1000)
    mapped = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    replace(S + "/read", new)
    sync()
    if get(L + "/read") != new:
        wrong("the new file is not there")
    if bytes(mapped) != old:
        wrong("a mapping of the old file has changed")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    rest = b""
    while part := os.read(fd, 1 << 20):
        rest += part
    if head + rest != old:
        wrong("the old file is not read to its end")
    st = os.fstat(fd)
    if st.st_size != len(old) or st.st_nlink != 0:
        wrong(f"the old file is {st}")
    # What a program does with its descriptor works on.
    os.fchmod(fd, 0o600)
    os.utime(fd, ns=(1, 1))
    os.setxattr(fd, "user.mine", b"1")
    if os.fstat(fd).st_mode & 0o777 != 0o600 or os.stat(L + "/read").st_mode & 0o777 == 0o600:
        wrong("fchmod of the old file")
    mapped.close()
    os.close(fd)


def part_programs():
    """A program that runs while it is replaced runs on."""
    subprocess.run(["cp", "/bin/sleep", S + "/sleep"], check=True)
    sync()
    running = subprocess.Popen([L + "/sleep", "2"])
    subprocess.run(["cp", "/bin/echo", S + "/sleep.new"], check=True)
    os.rename(S + "/sleep.new", S + "/sleep")
    sync()
    if subprocess.run([L + "/sleep", "x"], capture_output=True).stdout != b"x\n":
        wrong("the new program does not run")
    if running.wait() != 0:
        wrong(f"the old one ends with {running.returncode}")


def versions_of(path):
    return sorted(get(p) for p in glob.glob(path + "*"))


def part_writers():
    """What arrives for a file that is being written waits for the close."""
    put(S + "/log", b"begun")
    sync()
    f = open(L + "/log", "r+b")
    f.write(b"here!")
    f.flush()
    put(S + "/log", b"there")
    sync()
    f.seek(0)
    if f.read() != b"here!" or get(L + "/log") != b"here!":
        wrong("it was replaced under its writer")
    f.write(b" more")
    f.close()
    sync()
    wait_for("both are there", lambda: versions_of(L + "/log") == [b"here! more", b"there"])
    sync()
    if versions_of(S + "/log") != [b"here! more", b"there"]:
        wrong(f"the server has {versions_of(S + '/log')}")
    # Mapped, and closed.
    put(S + "/map", b"m" * 8192)
    sync()
    fd = os.open(L + "/map", os.O_RDWR)
    m = mmap.mmap(fd, 8192)
    os.close(fd)
    m[0:5] = b"here!"
    put(S + "/map", b"t" * 8192)
    sync()
    m[4096:4101] = b"again"
    want = b"here!" + b"m" * 4091 + b"again" + b"m" * 4091
    if get(L + "/map") != want:
        wrong("it was replaced under its mapping")
    m.close()
    wait_for("both are there after the mapping", lambda: versions_of(L + "/map") == [want, b"t" * 8192])


def part_directories():
    """Who works in a directory that others move notices nothing."""
    os.makedirs(S + "/w0/sub")
    put(S + "/w0/sub/file", b"x")
    sync()
    os.chdir(L + "/w0/sub")
    over = threading.Event()

    def work():
        n = 0
        while not over.is_set():
            n += 1
            try:
                put(f"t{n % 5}", b"t")
                os.stat("file")
                os.rename(f"t{n % 5}", "u")
                os.listdir(".")
                get("../sub/u")
                os.mkdir("m")
                os.rmdir("m")
                os.unlink("u")
                os.chmod("file", 0o600 | n % 8)
                os.stat(".")
            except OSError as e:
                wrong(f"in a directory that is moved: {e}")
                return
            time.sleep(0.003)  # others want to get on, too

    t = threading.Thread(target=work)
    t.start()
    for n in range(8):
        os.rename(f"{S}/w{n}", f"{S}/w{n + 1}")
        sync()
        wait_for("getcwd shows the new place", lambda: os.getcwd() == os.path.realpath(L) + f"/w{n + 1}/sub")
        if failed:
            break
    over.set()
    t.join()
    os.chdir("/")


def part_busy():
    """A round covers what was closed before it, and ends, however much is written."""
    over = threading.Event()

    def write(at, size):
        n = 0
        while not over.is_set():
            put(f"{at}/busy{size}-{n % 6}", os.urandom(size))
            n += 1
            time.sleep(0.02)

    threads = [threading.Thread(target=write, args=a, daemon=True) for a in ((L, 40000), (S, 50000), (L, 5 << 20))]
    for t in threads:
        t.start()
    for n in range(3):
        put(f"{L}/said{n}", b"here %d" % n)
        put(f"{S}/said{n}s", b"there %d" % n)
        sync()
        if get(f"{S}/said{n}") != b"here %d" % n or get(f"{L}/said{n}s") != b"there %d" % n:
            wrong(f"round {n} did not bring what was written before it")
    over.set()
    for t in threads:
        t.join()


globals()["part_" + part]()
sys.exit(failed)
