#!/usr/bin/env python3
"""What the daemon keeps of files that the kernel knows.

    SIBFS=./sibfs tests/bench/walk.py [--files 1000000] [--each 1000] [--nofile 20000] [--dir DIR]

A store of empty files is mounted by a daemon with a hard limit of open files, and
walked by `find`, twice.  Shown are the time of each walk, and the growth of the
daemon's resident memory in the first, for each file.  As root.
"""
import argparse, os, resource, shutil, subprocess, sys, tempfile, time

SIBFS = os.path.abspath(os.environ.get("SIBFS", "./sibfs"))


def fill(top, files, each):
    for k in range(files):
        if k % each == 0:
            path = f"{top}/d{k // each:05d}"
            os.makedirs(path)
        os.close(os.open(f"{path}/file-{k:07d}", os.O_CREAT | os.O_WRONLY))


def resident(pid):
    for line in open(f"/proc/{pid}/smaps_rollup"):
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Rss")


def walk(top):
    """Files found, and seconds."""
    start = time.time()
    find = subprocess.run(["find", top, "-type", "f", "-printf", "%s\n"], capture_output=True)
    if find.returncode != 0:
        sys.exit(f"find: {find.stderr.decode()[:1000]}")
    return find.stdout.count(b"\n"), time.time() - start


def measure(top, args):
    store, mnt = f"{top}/store", f"{top}/mnt"
    os.makedirs(mnt)
    fill(f"{store}/many", args.files, args.each)
    fill(f"{store}/few", 1000, args.each)
    subprocess.run([SIBFS, "init", store, "--node", "walk"], check=True, stdout=subprocess.DEVNULL)
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, args.nofile), args.nofile))  # noqa: E731
    subprocess.run([SIBFS, "mount", store, mnt], check=True, preexec_fn=limit)
    try:
        pid = int(open(f"{store}/.sibfs/pid").read())
        walk(f"{mnt}/few")
        before = resident(pid)
        n, first = walk(f"{mnt}/many")
        if n != args.files:
            sys.exit(f"{n} files found of {args.files}")
        grown = resident(pid) - before
        _, again = walk(f"{mnt}/many")
        fds = len(os.listdir(f"/proc/{pid}/fd"))
        print(f"{n} files: {first:.1f} s, again {again:.1f} s; {grown / n:.1f} bytes each, {fds} descriptors")
    finally:
        subprocess.run([SIBFS, "umount", mnt], check=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--files", type=int, default=1000000)
    p.add_argument("--each", type=int, default=1000, help="files in a directory")
    p.add_argument("--nofile", type=int, default=20000, help="hard limit of open files")
    p.add_argument("--dir", help="where there is room")
    args = p.parse_args()
    top = tempfile.mkdtemp(prefix="sibfs-walk.", dir=args.dir)
    try:
        measure(top, args)
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
