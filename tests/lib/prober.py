#!/usr/bin/env python3
"""Programs that work in a mount until they are ended by SIGTERM, and then say
in one number how it was.

	prober.py ops DIR        all kinds of operations in DIR: the longest one,
	                         in milliseconds
	prober.py write FILE     new contents again and again, of 1 byte to 300 kB,
	                         each whole only with its checksum: how many
	prober.py read FILE      reads them: how many were seen, or -1 for a torn one
"""
import hashlib
import os
import random
import signal
import sys
import time

what, path = sys.argv[1], sys.argv[2]
going = True


def stop(*_):
    global going
    going = False


signal.signal(signal.SIGTERM, stop)


def ops():
    longest = 0

    def timed(f, *a):
        nonlocal longest
        start = time.monotonic()
        r = f(*a)
        longest = max(longest, time.monotonic() - start)
        return r

    def put(name, data):
        with open(name, "wb") as f:
            f.write(data)

    def sync(name):
        with open(name, "r+b") as f:
            os.fsync(f.fileno())

    n = 0
    while going:
        a, b, d = (os.path.join(path, f"{k}{n % 20}") for k in ("a", "b", "d"))
        timed(put, a, b"x" * (n % 5000))
        timed(os.stat, a)
        timed(sync, a)
        timed(os.rename, a, b)
        timed(open, b).close()
        timed(os.listdir, path)
        timed(os.makedirs, d, 0o755, True)
        timed(os.chmod, b, 0o600 + n % 2)
        timed(os.setxattr, b, "user.n", str(n).encode())
        timed(os.getxattr, b, "user.sibfs.vv")
        if n % 3 == 0:
            timed(os.unlink, b)
            timed(os.rmdir, d)
        n += 1
        time.sleep(0.02)
    return int(longest * 1000)


def write():
    rng = random.Random(1)
    n = 0
    while going:
        body = os.urandom(rng.choice((1, 4000, 40000, 300000)))
        with open(path, "wb") as f:
            f.write(hashlib.sha256(body).hexdigest().encode() + body)
        n += 1
        time.sleep(0.1)
    return n


def read():
    seen = set()
    while going:
        try:
            with open(path, "rb") as f:
                data = f.read()
        except FileNotFoundError:
            data = b""
        if data:
            if hashlib.sha256(data[64:]).hexdigest().encode() != data[:64]:
                return -1
            seen.add(data[:64])
        time.sleep(0.01)
    return len(seen)


print({"ops": ops, "write": write, "read": read}[what]())
