#!/bin/bash
# Without an identity file the keys of the agent serve.
. "$(dirname "$0")/../lib/cluster.sh"
needs ssh-agent ssh-add
cluster_start
eval "$(ssh-agent -s -a "$T/ssh/agent")" >/dev/null
at_exit "kill $SSH_AGENT_PID"
try ssh-add -q ssh/user
rm ssh/user
replica_new laptop
replica_new server
try sibfs peer add "$T/laptop/store" server "ssh://127.0.0.1:$SSH_PORT$T/server/store"
replica_mount laptop
replica_mount server
echo hello >laptop/mnt/f
within 10 "a file travels with a key of the agent" 'has server/mnt/f hello'

replica_umount laptop
try ssh-add -q -D
replica_mount laptop
within 20 "without its key the link is refused" '[ "$(peer_state laptop server)" = refused ]'
echo more >laptop/mnt/f
has laptop/mnt/f more
done_testing
