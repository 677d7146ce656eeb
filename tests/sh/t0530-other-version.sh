#!/bin/bash
# A peer that speaks another protocol version, or none at all, is refused with
# one clear line, and nothing of it is taken in.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new laptop

# Keys that lead to programs which only pretend to be sibfs.
cat >greet.py <<'END'
import struct, sys, zlib
def field(n, kind, data): return bytes([n << 3 | kind]) + data
def text(n, s): return field(n, 2, bytes([len(s)]) + s)
name, more = sys.argv[1].encode(), bytes.fromhex(sys.argv[2] if len(sys.argv) > 2 else "")
hello = field(1, 0, b"\x02") + text(2, b"test") + text(3, name) + field(4, 1, struct.pack("<Q", sum(name))) + more
for number, payload in enumerate((text(1, hello), text(2, b""))):	# and Subscribe
    check = zlib.crc32(payload, zlib.crc32(struct.pack(">IB", number, 0)))
    sys.stdout.buffer.write(struct.pack(">IBI", len(payload), 0, check) + payload)
sys.stdout.flush()
out = open(f"{sys.path[0]}/said-{name.decode()}", "ab", 0)
while data := sys.stdin.buffer.read1(65536):
    out.write(data)
END
pretender() {
	ssh-keygen -q -t ed25519 -N '' -f "ssh/$1"
	echo "command=\"$2\",restrict $(cat "ssh/$1.pub")" >>ssh/authorized_keys
	try sibfs peer add "$T/laptop/store" "$1" "ssh://127.0.0.1:$SSH_PORT/store" --identity "$T/ssh/$1"
}
pretender future "python3 $T/greet.py future"
pretender both "python3 $T/greet.py both 6001"	# and protocol 1
pretender deflated "python3 $T/greet.py deflated 60016a047a6c69626a03737576"	# and can "zlib", "suv"
pretender banner "echo Welcome; cat >/dev/null"
replica_mount laptop
echo mine >laptop/mnt/mine

error() { status_get laptop "peers['$1']['error']"; }
within 20 "another protocol version is refused" '[ "$(peer_state laptop future)" = refused ]'
like "and the line says so" "$(error future)" 'protocol 2.*version'
within 20 "what is no protocol at all is refused" '[ "$(peer_state laptop banner)" = refused ]'
like "with a reason" "$(error banner)" 'protocol|too large'
within 20 "one that speaks ours too is spoken to" '[ "$(peer_state laptop both)" = connected ]'
within 20 "what else it can and we do not know does not matter" '[ "$(peer_state laptop deflated)" = connected ]'
head -c 20000 /dev/zero >laptop/mnt/zeros

# frames NAME FLAGS: how many with these flags it was sent.
frames() {
	python3 - "$T/said-$1" "$2" <<-'END'
	import struct, sys
	data, n = open(sys.argv[1], "rb").read(), 0
	while len(data) >= 9:
	    length, flags = struct.unpack(">IB", data[:5])
	    n += flags == int(sys.argv[2])
	    data = data[9 + length:]
	print(n)
	END
}
within 10 "who can inflate is sent deflated frames" '[ "$(frames deflated 1)" -gt 0 ]'
within 10 "who does not say so is told of the same" '[ "$(stat -c %s said-both)" -gt 20000 ]'
is "and sent none" "$(frames both 1)" 0
is "nothing was taken in" "$(names laptop/mnt)" "mine zeros"
has laptop/mnt/mine mine
done_testing
