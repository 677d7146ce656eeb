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
done_testing
