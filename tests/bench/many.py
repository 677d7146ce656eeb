#!/usr/bin/env python3
"""What a large tree costs while nothing happens in it, and after that.

    SIBFS=./sibfs tests/bench/many.py [--files 1000000] [--each 1000] [--dir DIR] [--json FILE]

A tree is taken in by `sibfs init`, goes to an empty replica over loopback and a
real sshd, and both are stopped and started again.  With --copies both begin with
the same files instead, each with a version of its own of everything.  Shown are the times of all that, how soon the first changes after
the start arrive, what processor time both daemons take while nobody does
anything, their memory, and the size of the index.  As root: it has a network
namespace of its own.  A file takes 4 KiB at each end, so a million need 12 GB.
"""
import argparse, json, os, shutil, signal, statistics, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from replication import SIBFS, Ssh, run, wait, write  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def timed(what, *cmd):
    start = time.time()
    run(*cmd)
    took = time.time() - start
    print(f"  {what:44} {took:9.3f} s", flush=True)
    return took


def grow(top, files, each):
    """Directories of `each` files, 100 of them in one above, all of them in one."""
    for d in range((files + each - 1) // each):
        path = f"{top}/all/d{d // 100:03d}/d{d:05d}"
        os.makedirs(path)
        for i in range(min(each, files - d * each)):
            write(f"{path}/file-{i:05d}", b"%d %d\n" % (d, i))


def pid_of(store):
    return int(open(f"{store}/.sibfs/pid").read())


def processor(pid):
    words = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / TICKS


def resident(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def propagate(a, b, name):
    data = os.urandom(50)
    write(f"{a}/{name}", data)
    start = time.time()
    return wait(lambda: open(f"{b}/{name}", "rb").read() == data, name) - start


def move(a, b, old, new):
    """Until a directory is where it was moved to, and only there."""
    os.rename(f"{a}/{old}", f"{a}/{new}")
    start = time.time()
    return wait(lambda: os.path.isdir(f"{b}/{new}") and not os.path.exists(f"{b}/{old}"), new) - start


class Pair:
    def __init__(self, top, ssh):
        self.top, self.ssh = top, ssh
        self.stores = [f"{top}/a.store", f"{top}/b.store"]
        self.mounts = [f"{top}/a", f"{top}/b"]
        for m in self.mounts:
            os.mkdir(m)

    def up(self):
        return [timed(f"mount, {'ab'[i]}", SIBFS, "mount", self.stores[i], self.mounts[i]) for i in (0, 1)]

    def down(self, quiet=False):
        for m in self.mounts:
            if quiet:
                run(SIBFS, "umount", m, check=False)
            else:
                timed("umount", SIBFS, "umount", m)

    def processors(self):
        return [processor(pid_of(s)) for s in self.stores]


def measure(pair, args):
    out, n = {"files": args.files}, args.files
    a, b = pair.mounts
    grow(pair.stores[0], n, args.each)
    if args.copies:
        run("cp", "-a", pair.stores[0], pair.stores[1])
    out["init"] = [timed("init", SIBFS, "init", s, "--node", "ab"[i], "--set", "many")
                   for i, s in enumerate(pair.stores)]
    run(SIBFS, "peer", "add", pair.stores[0], "b", f"ssh://127.0.0.1:{pair.ssh.port}{pair.stores[1]}",
        "--identity", f"{pair.ssh.dir}/user")
    pair.up()
    out["meet"] = timed("in sync for the first time", SIBFS, "sync", a, "b", "--timeout=3600")
    out["resident_met"] = [resident(pid_of(s)) for s in pair.stores]
    pair.down()
    out["index"] = [os.path.getsize(f"{s}/.sibfs/index.db") for s in pair.stores]
    out["mount"] = pair.up()
    out["first"] = propagate(a, b, "first")
    print(f"  {'the first change after the start':44} {out['first']:9.3f} s")
    out["next"] = [propagate(a, b, f"next{i}") for i in range(20)]
    print(f"  {'the next ones (median of 20; most)':44} {statistics.median(out['next']):9.3f} s  {max(out['next']):.3f} s")
    out["back"] = [propagate(b, a, f"back{i}") for i in range(20)]
    print(f"  {'in the other direction':44} {statistics.median(out['back']):9.3f} s  {max(out['back']):.3f} s")
    out["move"] = [move(a, b, "all", "moved"), move(b, a, "moved", "all"), move(a, b, "all", "again")]
    print(f"  {'the directory with all of them moved (3 times)':44} ", *("%.3f s" % t for t in out["move"]))
    time.sleep(5)
    before = pair.processors()
    time.sleep(args.idle)
    out["idle"] = [(now - old) / args.idle for now, old in zip(pair.processors(), before)]
    out["resident"] = [resident(pid_of(s)) for s in pair.stores]
    for i in (0, 1):
        print(f"  {'ab'[i]}: idle {out['idle'][i] * 100:.3f} % of a processor, resident {out['resident'][i] / 1e6:.1f} MB"
              f" ({out['resident'][i] / n:.0f} bytes a file; {out['resident_met'][i] / n:.0f} after they met),"
              f" index {out['index'][i] / n:.0f} bytes a file")
    out["reconnect"] = timed("a round in which nothing is new", SIBFS, "sync", a, "b")
    return out


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--files", type=int, default=1000000)
    p.add_argument("--each", type=int, default=1000, help="files in a directory")
    p.add_argument("--copies", action="store_true", help="both ends have the files beforehand")
    p.add_argument("--idle", type=int, default=60, help="seconds to watch the idle daemons for")
    p.add_argument("--dir", help="where there is room")
    p.add_argument("--json", help="a file for all numbers")
    p.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = p.parse_args()
    if not args.inside:
        os.execvp("unshare", ["unshare", "--net", sys.executable, __file__, "--inside"] + sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # cleans up on its way out
    run("ip", "link", "set", "lo", "up")
    top = tempfile.mkdtemp(prefix="sibfs-many.", dir=args.dir)
    os.mkdir(f"{top}/home")
    os.environ.pop("SSH_AUTH_SOCK", None)
    os.environ["HOME"] = f"{top}/home"
    ssh = Ssh(top)
    os.environ["SIBFS_KNOWN_HOSTS"] = ssh.known
    pair = Pair(top, ssh)
    try:
        out = measure(pair, args)
        if args.json:
            write(args.json, json.dumps(out, indent=1).encode())
    finally:
        pair.down(quiet=True)
        ssh.stop()
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
