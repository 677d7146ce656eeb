#!/usr/bin/env python3
"""A bad network in front of a TCP port.

	proxy.py STATE PORT TARGET_HOST TARGET_PORT

listens on 127.0.0.1:PORT and passes on what comes, as the file STATE says,
which is read again whenever it changes; one word a line:

	pass                 (also when the file is empty)
	cut N or cut A-B     each connection is reset after N bytes, both
	                     directions counted, or a random number from A to B
	stall N or stall A-B the same, but it stands still then, without a word
	refuse               new connections are reset at once
	kill                 those that stand are reset, once
	delay MS             each piece is held back for that long
	rate BYTES           in each direction, per second
	piece A-B            passed on in pieces of a random size
	seed S               of what is random

STATE.count says "connections upstream-bytes downstream-bytes" so far.
"""
import asyncio
import os
import random
import socket
import struct
import sys

state_path, port, host, target = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
rules, rules_of = {}, None
rng = random.Random(1)
standing = set()
count = [0, 0, 0]


def read_rules():
    global rules, rules_of, rng
    try:
        st = os.stat(state_path)
        if (st.st_mtime_ns, st.st_size) == rules_of:
            return
        words = [line.split() for line in open(state_path)]
    except FileNotFoundError:
        return
    rules_of = (st.st_mtime_ns, st.st_size)
    rules = {w[0]: w[1:] for w in words if w}
    if "seed" in rules:
        rng = random.Random(int(rules["seed"][0]))
    if "kill" in rules:
        for c in list(standing):
            c.reset()
    for c in standing:
        c.pick()


def pick(word):
    if word not in rules:
        return None
    a, _, b = rules[word][0].partition("-")
    return rng.randint(int(a), int(b or a))


class Connection:
    """The two streams of one connection, and what is left of its life."""

    def __init__(self, near, far):
        self.writers = [near, far]
        self.pick()

    def pick(self):
        self.cut, self.stall = pick("cut"), pick("stall")

    def reset(self):
        standing.discard(self)
        for w in self.writers:
            s = w.get_extra_info("socket")
            if s is not None and s.fileno() >= 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            w.transport.abort()

    def allow(self, n):
        """How many of n bytes may pass before its life ends; notes them."""
        for left in (self.cut, self.stall):
            if left is not None:
                n = min(n, left)
        if self.cut is not None:
            self.cut -= n
        if self.stall is not None:
            self.stall -= n
        return n


async def move(c, reader, writer, way):
    try:
        while data := await reader.read(pick("piece") or 65536):
            if "delay" in rules:
                await asyncio.sleep(int(rules["delay"][0]) / 1000)
            n = c.allow(len(data))
            writer.write(data[:n])
            count[way] += n
            await writer.drain()
            if c.cut is not None and c.cut <= 0:
                c.reset()
                return
            while c.stall is not None and c.stall <= 0:
                await asyncio.sleep(0.1)
            if n < len(data):
                writer.write(data[n:])
                count[way] += len(data) - n
            if "rate" in rules:
                await asyncio.sleep(len(data) / int(rules["rate"][0]))
        writer.write_eof()
    except (OSError, asyncio.CancelledError, RuntimeError):
        c.reset()


async def connected(reader, writer):
    read_rules()
    count[0] += 1
    if "refuse" in rules:
        Connection(writer, writer).reset()
        return
    try:
        far_reader, far_writer = await asyncio.open_connection(host, target)
    except OSError:
        Connection(writer, writer).reset()
        return
    c = Connection(writer, far_writer)
    standing.add(c)
    await asyncio.gather(move(c, reader, far_writer, 1), move(c, far_reader, writer, 2))
    standing.discard(c)
    for w in c.writers:
        w.close()


async def watch():
    while True:
        read_rules()
        with open(state_path + ".new", "w") as f:
            print(*count, file=f)
        os.replace(state_path + ".new", state_path + ".count")
        await asyncio.sleep(0.05)


async def main():
    server = await asyncio.start_server(connected, "127.0.0.1", port)
    async with server:
        await watch()


asyncio.run(main())
