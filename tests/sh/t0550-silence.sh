#!/bin/bash
# Links that say nothing any more: a stopped far end, a connection that stands
# still and a far end that sleeps (only with SILENCE_LONG=1), an address that changed.  Programs go on, and
# the links mend.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs ip nsenter tc
ns=sibfs$$
ip netns add $ns-l 2>/dev/null && ip netns add $ns-r 2>/dev/null || skip_all "no network namespaces here"
at_exit "ip netns del $ns-l; ip netns del $ns-r"
trap 'ip netns del $ns-l; ip netns del $ns-r' EXIT	# until cluster_start takes over
ip -n $ns-l link add c0 type veth peer name c1 netns $ns-r 2>/dev/null || skip_all "no veth here"
ip -n $ns-l addr add 10.98.0.1/24 dev c0
ip -n $ns-r addr add 10.98.0.2/24 dev c1
for end in l:c0 l:lo r:c1 r:lo; do
	ip -n "$ns-${end%:*}" link set "${end#*:}" up
done
left=(nsenter "--net=/run/netns/$ns-l")
right=(nsenter "--net=/run/netns/$ns-r")

cluster_start
main_port=$SSH_PORT
sshd_start far 10.98.0.2 "${right[@]}"
replica_new laptop
replica_new server
replica_peer laptop server "$SSH_PORT" 10.98.0.2
try "${left[@]}" timeout 60 "$SIBFS" mount "$T/laptop/store" "$T/laptop/mnt"
try "${right[@]}" timeout 60 "$SIBFS" mount "$T/server/store" "$T/server/mnt"
l=laptop/mnt s=server/mnt
echo one >$l/one
within 20 "the link stands" 'has $s/one one'

# The far end stops answering, and is not gone.
mkdir $l/ops
pid=$(cat server/store/.sibfs/pid)
kill -STOP "$pid"
prober_start l ops $l/ops
head -c 3M /dev/urandom >$l/large
for i in {1..50}; do echo "$i" >$l/many$i; done
sleep 2
is "while the far end is stopped, status answers" "$(status_get laptop "s['node']")" laptop
exits "and sync ends when its time is over" 7 sibfs sync "$T/laptop/store" server --timeout=2
longest=$(prober_stop l)
ok "programs do not notice ($longest ms)" test "$longest" -lt 1500
kill -CONT "$pid"
within 20 "it goes on as if nothing had been" 'cmp $l/large $s/large && has $s/many50 50'

# Another address, as after a journey: the connection is dead, and nothing says so.
ip -n $ns-l addr add 10.98.0.7/24 dev c0
ip -n $ns-l addr del 10.98.0.1/24 dev c0
ip -n $ns-l addr add 10.98.0.7/24 dev c0 2>/dev/null	# went with the first, perhaps
start=$SECONDS
echo moved >$l/moved
within 25 "with another address it calls anew" 'has $s/moved moved'
diag "after $((SECONDS - start)) s"
echo back >$s/back
within 5 "both ways" 'has $l/back back'

# A cable that was out for long: no minute of waiting when it is in again.
ip -n $ns-l link set c0 down
within 30 "without a cable the peer is unreachable" '[ "$(peer_state laptop server)" = unreachable ]'
sleep 4
start=$SECONDS
ip -n $ns-l link set c0 up
echo again >$l/again
within 6 "with it, it calls at once" 'has $s/again again'
diag "after $((SECONDS - start)) s"

# A slow cable: small files are not held up by a large one.
tc -n $ns-l qdisc add dev c0 root tbf rate 16mbit burst 64kb latency 300ms 2>/dev/null
head -c 8M /dev/urandom >$l/slow
sleep 0.5
echo small >$l/small
within 3 "over a slow cable a small file passes a large one" 'has $s/small small'
fails "which is still on its way" test -e $s/slow
within 20 "and comes" 'cmp $l/slow $s/slow'
[ -n "${SILENCE_LONG:-}" ] || { replica_umount laptop; done_testing; }

# All packets vanish, in both directions, and neither host has anything to notice:
# as with a far end that sleeps.
tc -n $ns-l qdisc del dev c0 root
prober_start l ops $l/ops
ip -n $ns-r addr del 10.98.0.2/24 dev c1
start=$SECONDS
echo asleep >$l/asleep
within 60 "a silent link is given up within a minute" '[ "$(peer_state laptop server)" = unreachable ]'
diag "after $((SECONDS - start)) s"
within 65 "at the other end, too" '[ "$(peer_state server laptop)" != connected ]'
ip -n $ns-r addr add 10.98.0.2/24 dev c1
start=$SECONDS
within 75 "and stands again by itself" 'has $s/asleep asleep'
diag "after $((SECONDS - start)) s"
longest=$(prober_stop l)
ok "programs do not notice ($longest ms)" test "$longest" -lt 1500
replica_umount laptop

# A connection that stands still in the middle of something.
proxy_start net "$main_port"
try sibfs peer add "$T/laptop/store" server "ssh://127.0.0.1:$PROXY_PORT$T/server/store" --identity "$T/ssh/user"
replica_mount laptop
within 20 "through a proxy" '[ "$(peer_state laptop server)" = connected ]'
proxy_says net 'stall 100000'
head -c 2M /dev/urandom >$l/stalled
sleep 0.5
proxy_says net pass
ok "a user's sync finds a dead link out, and makes another" sibfs sync "$T/laptop/store" server --timeout=40
ok "and all is there" cmp $l/stalled $s/stalled
done_testing
