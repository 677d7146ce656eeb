#!/usr/bin/env python3
"""A week of work in a tree, on one of two sides that do not hear of each other.

	week.py make DIR FILES          the tree from before
	week.py work DIR SIDE FILES CHANGES LEDGER
	                                side left or right: edits, new files,
	                                removals, renames of files and directories;
	                                each edits the same 50 files once
	week.py check DIR LEDGER LEDGER
	                                is all there that was written last, and
	                                nothing that was replaced or removed?

Each content is a line of its own kind, so it is found wherever it went.  The
sides work on different files, but for those 50, and write in directories that the
other one moves.
"""
import json
import os
import random
import sys

CONFLICTS = 50
DIRS = 20


def place(n):
    return f"dir{n % DIRS}/file{n}"


def put(path, text):
    with open(path, "w") as f:
        f.write(text + "\n")


def make(top, files):
    for d in range(DIRS):
        os.makedirs(f"{top}/dir{d}/sub")
        put(f"{top}/dir{d}/sub/old", f"sub {d}")
    for n in range(files):
        put(f"{top}/{place(n)}", f"before {n}")
    os.mkdir(f"{top}/both")
    for n in range(CONFLICTS):
        put(f"{top}/both/{n}", f"before both {n}")


def work(top, side, files, changes, ledger):
    rng = random.Random(side)
    mine = [n for n in range(files) if n // DIRS % 2 == (side == "right")]
    where = {n: place(n) for n in mine}
    alive = {n: f"before {n}" for n in mine}
    new = {}
    # Of every four directories each side moves one, early: the other one goes on
    # writing at the old place.
    for d in range(0 if side == "left" else 2, DIRS, 4):
        os.rename(f"{top}/dir{d}", f"{top}/{side}-moved-{d}")
        for n in mine:
            if n % DIRS == d:
                where[n] = f"{side}-moved-{d}/file{n}"
    for i in range(changes):
        what = rng.random()
        if what < 0.4 and alive:
            n = rng.choice(sorted(alive))
            alive[n] = f"{side} edit {i}"
            put(f"{top}/{where[n]}", alive[n])
        elif what < 0.75:
            d = where[rng.choice(mine)].split("/")[0]
            new[i] = f"{side} new {i}"
            put(f"{top}/{d}/{side}-new{i}", new[i])
        elif what < 0.85 and len(alive) > 1:
            n = rng.choice(sorted(alive))
            os.unlink(f"{top}/{where[n]}")
            del alive[n]
        elif alive:
            n = rng.choice(sorted(alive))
            to = where[n].rsplit("/", 1)[0] + f"/{side}-renamed{i}"
            os.rename(f"{top}/{where[n]}", f"{top}/{to}")
            where[n] = to
    for n in range(CONFLICTS):
        put(f"{top}/both/{n}", f"{side} both {n}")
    both = [f"{side} both {n}" for n in range(CONFLICTS)]
    json.dump(list(alive.values()) + list(new.values()) + both, open(ledger, "w"))


def check(top, ledgers):
    expected = {f"sub {d}" for d in range(DIRS)}
    for name in ledgers:
        expected |= set(json.load(open(name)))
    found = []
    for base, _, names in os.walk(top):
        for name in names:
            with open(os.path.join(base, name)) as f:
                found.append(f.read().rstrip("\n"))
    lost, extra = expected - set(found), set(found) - expected
    twice = len(found) - len(set(found))
    if lost or extra or twice:
        print(f"{len(lost)} lost: {sorted(lost)[:5]}; {len(extra)} not wanted: {sorted(extra)[:5]}; {twice} twice")
        sys.exit(1)


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]))
elif sys.argv[1] == "work":
    work(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
else:
    check(sys.argv[2], sys.argv[3:])
