#!/bin/bash
# Files and directories that change places right after they were made, before
# they can have been looked at: all that is there travels, and nothing goes back.
# Who wrote much does not go through it again over the next link.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
cat >swap.py <<'END_PY'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def swap(a, b):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), 2) != 0:
        sys.exit(f"{a} and {b}: {os.strerror(ctypes.get_errno())}")

def put(path, text):
    with open(path, "w") as f:
        f.write(text)

for n in range(int(sys.argv[1])):
    d = f"d{n}"
    os.mkdir(d)
    os.mkdir(f"{d}/dir")
    put(f"{d}/dir/in", f"in {n}")
    put(f"{d}/x", f"x {n}")
    put(f"{d}/y", f"y {n}")
    swap(f"{d}/x", f"{d}/y")
    swap(f"{d}/x", f"{d}/dir")
    os.mkdir(f"{d}/empty")
    os.rename(f"{d}/x", f"{d}/empty")
    os.mkdir(f"{d}/other")
    swap(f"{d}/empty", f"{d}/other")
    put(f"{d}/late", f"late {n}")
    swap(f"{d}/late", f"{d}/y")
    seen = {p: open(f"{d}/{p}").read() for p in ("dir", "y", "late", "other/in")}
    if seen != {"dir": f"y {n}", "y": f"late {n}", "late": f"x {n}", "other/in": f"in {n}"}:
        sys.exit(f"{d}: {seen}")
    if sorted(os.listdir(d)) != ["dir", "empty", "late", "other", "y"] or os.listdir(f"{d}/empty"):
        sys.exit(f"{d}: {os.listdir(d)}")
END_PY
ok "all of it stands where it was put" sh -c 'cd laptop/mnt && python3 ../../swap.py 60'
tree laptop/mnt >before
synced laptop server
is "and stays there" "$(tree laptop/mnt | diff - before | head -n 20)" ""
same_tree "the peer shows the same" laptop server
is "without conflicts" "$(conflict_names laptop)" ""
is "and without complaints" "$(grep -hE ' (warn|error)' laptop/store/.sibfs/log | head -n 5)" ""

# query NODE SQL: of its index, when nobody has it open.
query() {
	python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])' "$1/store/.sibfs/index.db" "$2"
}

python3 -c 'import os
os.mkdir("laptop/mnt/many")
for n in range(3500):
    open(f"laptop/mnt/many/{n}", "w").write(f"{n}\n")'
within 30 "many files travel by themselves" '[ "$(ls server/mnt/many | wc -l)" = 3500 ]'
sleep 2
replica_umount laptop
replica_umount server
changes=$(query server "SELECT max(seq) FROM regs")
asked=$(query laptop "SELECT seq FROM peers WHERE node = 'server'")
ok "what came from here is not asked for again: $changes changes, from $asked" [ $((changes - asked)) -lt 1000 ]
done_testing
