#!/bin/bash
# Peers that cannot be: each is one clear line in `status`, none disturbs the
# others, and nothing is lost.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
good_port=$SSH_PORT
ssh-keygen -q -t ed25519 -N '' -f ssh/stranger	# in no authorized_keys
sshd_start changed
changed_port=$SSH_PORT
sshd_start unknown
unknown_port=$SSH_PORT
# One host key differs from the known one, one is not known at all.
python3 - "$changed_port" "$unknown_port" "$(cut -d' ' -f2 ssh/stranger.pub)" <<'END'
import sys
changed, unknown, key = sys.argv[1:]
lines = [line.split() for line in open("ssh/known_hosts")]
lines = [l[:2] + [key] if l[0].endswith("]:" + changed) else l for l in lines if not l[0].endswith("]:" + unknown)]
open("ssh/known_hosts", "w").writelines(" ".join(l) + "\n" for l in lines)
END

replica_new laptop
replica_new server
replica_new otherset other
for n in laptop otherset; do
	replica_mount $n
	echo "of $n" >$n/mnt/own-$n
	replica_umount $n
done

at() { echo "ssh://127.0.0.1:$1$2"; }
peer() { try sibfs peer add "$T/laptop/store" "$1" "$2" --identity "$T/ssh/${3:-user}"; }
peer server "$(at "$good_port" "$T/server/store")"
peer unreachable "$(at "$(free_port)" "$T/server/store")"
peer nohost "ssh://nohost.invalid$T/server/store"
peer nokey "$(at "$good_port" "$T/server/store")" stranger
peer changedkey "$(at "$changed_port" "$T/server/store")"
peer unknownkey "$(at "$unknown_port" "$T/server/store")"
peer otherset "$(at "$good_port" "$T/otherset/store")"
peer nopath "$(at "$good_port" "$T/no/such/store")"
replica_mount laptop

within 20 "the good peer is connected, whatever the others are" '[ "$(peer_state laptop server)" = connected ]'
within 10 "and gets what is written" 'has server/store/own-laptop "of laptop"'

# error PEER: the line that status has for it.
error() { status_get laptop "peers['$1']['error']"; }

# bad PEER STATE REGEX
bad() {
	within 30 "$1 is $2" '[ "$(peer_state laptop '"$1"')" = '"$2"' ]'
	like "$1: the error says why" "$(error "$1")" "$3"
	is "$1: in one line" "$(error "$1" | wc -l)" 1
	ok "$1: status for people has it" grep -F -- "$(error "$1")" <(sibfs status "$T/laptop/store" 2>&1)
}
bad unreachable unreachable '.'
bad nohost unreachable 'nohost.invalid'
bad nokey refused '[Kk]ey|[Aa]uth'
bad changedkey refused '[Cc]hange|CHANGED|differ|match'
bad unknownkey refused '[Uu]nknown|not known|known_hosts'
bad otherset refused '[Ss]et'
bad nopath refused '.'

exits "sync with one that is unreachable exits 6" 6 sibfs sync "$T/laptop/store" unreachable --timeout=10
exits "with one that refuses too" 6 sibfs sync "$T/laptop/store" nokey --timeout=10
is "the other set got nothing" "$(names otherset/store)" ".sibfs own-otherset"
is "and gave nothing" "$(names laptop/mnt)" own-laptop

# Known after all: it mends itself.
echo "[127.0.0.1]:$unknown_port $(cut -d' ' -f1,2 ssh/host-unknown.pub)" >>ssh/known_hosts
try sibfs peer remove "$T/laptop/store" unknownkey
replica_new unknownkey
peer unknownkey "$(at "$unknown_port" "$T/unknownkey/store")"
within 60 "once its key is known, the peer is connected" '[ "$(peer_state laptop unknownkey)" = connected ]'
within 10 "and gets all" 'has unknownkey/store/own-laptop "of laptop"'

try sibfs peer remove "$T/laptop/store" nokey
fails "a removed peer is not listed" grep -w nokey <(sibfs peer list "$T/laptop/store")
ok "the others are" grep -w server <(sibfs peer list "$T/laptop/store")
refuses "a peer name must be a node name" sibfs peer add "$T/laptop/store" 'a b' "$(at "$good_port" /x)"
refuses "a URL must be one" sibfs peer add "$T/laptop/store" ok 'http://x/y'
done_testing
