#!/usr/bin/env python3
"""Sessions between two replicas, recorded and played again.

	session.py record FILE COMMAND...   runs COMMAND (sibfs serve ...) for a
	                                    dialer on stdin and stdout, and notes each
	                                    frame with its direction
	session.py replay FILE COMMAND...   is the dialer of such a file: sends what it
	                                    sent, in order, but no sooner than it had
	                                    heard of the far end what made it do so
	session.py list FILE                what is in it
	session.py hold FILE COMMAND...     passes frames on; while FILE is there, the far
	                                    end's are held back from its next Watermark
	                                    on, and FILE.held is there

In the recorded file each frame has '>' (from the dialer) or '<' before it.
"""
import os
import selectors
import struct
import subprocess
import sys
import time
import zlib

HEADER = 9
# Frames that the dialer waited for before it went on: by the numbers in wire.proto.
HELLO, WATERMARK, WANT, ROUND_DONE, BYE = 1, 7, 9, 13, 14
WAITED = {HELLO: "Hello", WANT: "Want", ROUND_DONE: "RoundDone"}


def frames(data):
    """Whole frames at the start of data, and the rest."""
    out = []
    while len(data) >= HEADER:
        n = HEADER + struct.unpack(">I", data[:4])[0]
        if len(data) < n:
            break
        out.append(data[:n])
        data = data[n:]
    return out, data


def kind(frame):
    body = frame[HEADER:]
    if frame[4] & 1:
        body = zlib.decompress(body[4:])
    tag = shift = 0
    for b in body:
        tag |= (b & 0x7f) << shift
        shift += 7
        if b < 0x80:
            break
    return tag >> 3


def load(path):
    data, out = open(path, "rb").read(), []
    while data:
        way = data[:1]
        (frame,), rest = [(f[:1], r) for f, r in [frames(data[1:])]][0]
        out.append((way, frame))
        data = data[1 + len(frame):]
    return out


def pass_on(command, see):
    """Runs command for a dialer; see(way, frame) is called before each frame is passed on."""
    far = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    sel = selectors.DefaultSelector()
    sel.register(0, selectors.EVENT_READ, (b">", far.stdin.fileno()))
    sel.register(far.stdout.fileno(), selectors.EVENT_READ, (b"<", 1))
    rest = {b">": b"", b"<": b""}
    while sel.get_map():
        for key, _ in sel.select():
            way, to = key.data
            data = os.read(key.fd, 65536)
            if not data:
                sel.unregister(key.fd)
                if way == b">":
                    far.stdin.close()
                continue
            found, rest[way] = frames(rest[way] + data)
            for frame in found:
                see(way, frame)
                while frame:
                    frame = frame[os.write(to, frame):]
    sys.exit(far.wait())


def record(path, command):
    with open(path, "wb") as log:
        def see(way, frame):
            log.write(way + frame)
            log.flush()
        pass_on(command, see)


def hold(path, command):
    def see(way, frame):
        if way == b"<" and kind(frame) == WATERMARK:
            while os.path.exists(path):
                open(path + ".held", "w").close()
                time.sleep(0.01)
    pass_on(command, see)


def replay(path, command):
    far = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    os.set_blocking(far.stdout.fileno(), False)
    heard, needed, rest = {}, {}, b""
    for way, frame in load(path):
        k = kind(frame)
        if way == b">":
            try:
                far.stdin.write(frame)
            except BrokenPipeError:
                sys.exit("the far end has closed the link")
            continue
        if k not in WAITED:
            continue
        needed[k] = needed.get(k, 0) + 1
        end = time.monotonic() + 15
        while heard.get(k, 0) < needed[k]:
            data = far.stdout.read(65536)
            if data == b"":
                sys.exit(f"the far end has closed the link before {WAITED[k]} {needed[k]}")
            if time.monotonic() > end:
                sys.exit(f"{WAITED[k]} {needed[k]} does not come: {heard}")
            if data is None:
                time.sleep(0.01)
                continue
            found, rest = frames(rest + data)
            for f in found:
                if kind(f) == BYE:
                    sys.exit(f"refused: {f[HEADER:]}")
                heard[kind(f)] = heard.get(kind(f), 0) + 1
    far.stdin.close()
    far.wait()


what, path, command = sys.argv[1], sys.argv[2], sys.argv[3:]
if what == "record":
    record(path, command)
elif what == "replay":
    replay(path, command)
elif what == "hold":
    hold(path, command)
else:
    for way, frame in load(path):
        print(way.decode(), kind(frame), len(frame), "deflated" if frame[4] & 1 else "")
