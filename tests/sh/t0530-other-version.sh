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
hello = field(1, 0, b"\x02") + text(2, b"test") + text(3, b"future") + field(4, 1, struct.pack("<Q", 77))
payload = text(1, hello)
check = zlib.crc32(payload, zlib.crc32(struct.pack(">IB", 0, 0)))
sys.stdout.buffer.write(struct.pack(">IBI", len(payload), 0, check) + payload)
sys.stdout.flush()
sys.stdin.buffer.read()
END
pretender() {
	ssh-keygen -q -t ed25519 -N '' -f "ssh/$1"
	echo "command=\"$2\",restrict $(cat "ssh/$1.pub")" >>ssh/authorized_keys
	try sibfs peer add "$T/laptop/store" "$1" "ssh://127.0.0.1:$SSH_PORT/store" --identity "$T/ssh/$1"
}
pretender future "python3 $T/greet.py"
pretender banner "echo Welcome; cat >/dev/null"
replica_mount laptop
echo mine >laptop/mnt/mine

error() { status_get laptop "peers['$1']['error']"; }
within 20 "another protocol version is refused" '[ "$(peer_state laptop future)" = refused ]'
like "and the line says so" "$(error future)" 'protocol 2.*version'
within 20 "what is no protocol at all is refused" '[ "$(peer_state laptop banner)" = refused ]'
like "with a reason" "$(error banner)" 'protocol|too large'
is "nothing was taken in" "$(names laptop/mnt)" mine
has laptop/mnt/mine mine
done_testing
