#!/usr/bin/env python3
"""Stops one thread of a process, and only that one.

	hold_thread.py PID NAME FILE    stops the thread of that name for as long as
	                                FILE is there; says so by FILE.held

Exits 3 where that is not allowed.
"""
import ctypes
import os
import sys
import time

SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
pid, name, path = sys.argv[1:]


def thread():
    for tid in os.listdir(f"/proc/{pid}/task"):
        if open(f"/proc/{pid}/task/{tid}/comm").read().strip() == name:
            return int(tid)
    sys.exit(f"no thread {name}")


tid = thread()
if libc.ptrace(SEIZE, tid, None, None) != 0 or libc.ptrace(INTERRUPT, tid, None, None) != 0:
    sys.exit(3)
os.waitpid(tid, WALL)
open(path + ".held", "w").close()
while os.path.exists(path):
    time.sleep(0.01)
libc.ptrace(DETACH, tid, None, None)
