#!/bin/bash
# A real partition: each replica in a network namespace of its own, the cable
# between them unplugged or swallowing everything; no command heals it.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs ip nsenter
ns=sibfs$$
ip netns add $ns-l 2>/dev/null && ip netns add $ns-r 2>/dev/null || skip_all "no network namespaces here"
at_exit "ip netns del $ns-l; ip netns del $ns-r"
trap 'ip netns del $ns-l; ip netns del $ns-r' EXIT	# until cluster_start takes over
ip -n $ns-l link add c0 type veth peer name c1 netns $ns-r 2>/dev/null || skip_all "no veth here"
for end in l:c0:1 r:c1:2; do
	IFS=: read -r side dev host <<<"$end"
	ip -n $ns-$side addr add 10.99.0.$host/24 dev $dev
	ip -n $ns-$side link set $dev up
	ip -n $ns-$side link set lo up
done
left=(nsenter "--net=/run/netns/$ns-l")
right=(nsenter "--net=/run/netns/$ns-r")

cluster_start
sshd_start far 10.99.0.2 "${right[@]}"
replica_new laptop
replica_new server
replica_peer laptop server "$SSH_PORT" 10.99.0.2
try "${left[@]}" timeout 60 "$SIBFS" mount "$T/laptop/store" "$T/laptop/mnt"
try "${right[@]}" timeout 60 "$SIBFS" mount "$T/server/store" "$T/server/mnt"
l=laptop/mnt s=server/mnt

echo common >$l/f
within 20 "a file goes over the cable" 'has $s/f common'

# both_work WHAT: each side writes, quickly, whatever the network does.
both_work() {
	local start=$SECONDS
	echo "$1 laptop" >$l/f
	echo "$1 laptop only" >"$l/laptop $1"
	sleep 0.05
	echo "$1 server" >$s/f
	echo "$1 server only" >"$s/server $1"
	ls -lR $l $s >/dev/null
	tap_verdict $((SECONDS - start > 5)) "$1: neither side waits" "it took $((SECONDS - start)) s"
}

# healed WHAT: both have all of it, by themselves.
healed() {
	within 90 "$1: both have the other's new file without a command" \
		'has "$s/laptop '"$1"'" "'"$1"' laptop only" && has "$l/server '"$1"'" "'"$1"' server only"'
	within 20 "$1: and both versions of the one that both edited" \
		'has $l/f.conflict-laptop "'"$1"' laptop" && has $s/f.conflict-laptop "'"$1"' laptop" && has $l/f "'"$1"' server"'
	rm $s/f.conflict-laptop
	within 20 "$1: resolved on one, resolved on both" '[ ! -e $l/f.conflict-laptop ]'
}

ip -n $ns-l link set c0 down
both_work unplugged
sleep 2
fails "unplugged: nothing goes over" test -e "$s/laptop unplugged"
ip -n $ns-l link set c0 up
healed unplugged

# The far address is gone, so packets vanish without a word.
ip -n $ns-r addr del 10.99.0.2/24 dev c1
both_work silent
sleep 3
fails "silent: nothing goes over" test -e "$s/laptop silent"
is "silent: status answers at once" "$(timeout 5 "$SIBFS" status "$T/laptop/store" --json | python3 -c "import json, sys; print(json.load(sys.stdin)['node'])")" laptop
ip -n $ns-r addr add 10.99.0.2/24 dev c1
healed silent

# Long enough for the link to be given up, and a restart without a network.
ip -n $ns-l link set c0 down
replica_umount laptop
try "${left[@]}" timeout 60 "$SIBFS" mount "$T/laptop/store" "$T/laptop/mnt"
within 20 "mounted without a network, the peer is unreachable" '[ "$(peer_state laptop server)" = unreachable ]'
both_work restarted
ip -n $ns-l link set c0 up
healed restarted
within 20 "in the end both agree" 'sibfs sync $T/laptop/store server --timeout=15'
same_tree "and show the same" laptop server
done_testing
