#!/bin/bash
# Whom a server lets in and what they may: which set two replicas end in,
# `serve --peer`, `serve --read-only`.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
user_key=$(cat ssh/user.pub)
server=$T/server/store

# Both empty: each could take the other's set, so they must agree on whose.
mkdir -p laptop/mnt server/mnt
try sibfs init "$T/laptop/store" --node laptop
try sibfs init "$server" --node server
replica_peer laptop server
replica_mount laptop
within 20 "two empty replicas end in one set" \
	'[ "$(status_get laptop "s[\"set\"]")" = "$(status_get server "s[\"set\"]")" ]'
echo one >laptop/mnt/one
within 20 "and exchange files" 'has server/store/one one'
replica_umount laptop
replica_mount laptop
within 20 "also over the next link" '[ "$(peer_state laptop server)" = connected ]'
replica_umount laptop

# authorized_keys decides what a key may, whatever its owner asks for.
echo "command=\"sibfs serve $server --peer other\",restrict $user_key" >ssh/authorized_keys
replica_mount laptop
within 20 "serve --peer lets nobody else in" '[ "$(peer_state laptop server)" = refused ]'
like "the refusal says why" "$(status_get laptop "peers['server']['error']")" "only other may"
replica_umount laptop

echo "command=\"sibfs serve $server --peer laptop --read-only\",restrict $user_key" >ssh/authorized_keys
replica_mount laptop
mkdir laptop/mnt/d
echo two >laptop/mnt/d/two
ok "sync with a read-only server is no failure" sibfs sync "$T/laptop/store" server --timeout=30
is "it takes in nothing" "$(names server/store)" ".sibfs one"
replica_umount laptop
replica_mount server
echo three >server/mnt/three
replica_mount laptop
within 20 "what it has still comes" 'has laptop/mnt/three three'
is "the link stands" "$(peer_state laptop server)" connected

# A serve that nobody needs any more may end just when the next one asks it.
try sibfs init "$T/alone" --node alone
python3 - "$T/alone" <<'END' &
import os, socket, sys
store = os.stat(sys.argv[1])
place = "/run/sibfs" if os.geteuid() == 0 else f"/tmp/sibfs-{os.geteuid()}"
place += f"/{store.st_dev:x}-{store.st_ino:x}"
os.makedirs(place, 0o700, exist_ok=True)
with socket.socket(socket.AF_UNIX) as listener:
	listener.bind(place + "/control")
	listener.listen()
	open("listens", "w").close()
	asks = listener.accept()[0]
	asks.recv(1, socket.MSG_PEEK)
	os.unlink(place + "/control")
open("ended", "w").close()
END
ends=$!
within 20 "a daemon is there" '[ -e listens ]'
serve_alone() {
	sibfs serve "$T/alone" </dev/null >frames
}
ok "when it ends, serve is the replica itself" serve_alone
wait $ends
ok "it was asked" test -e ended
done_testing
