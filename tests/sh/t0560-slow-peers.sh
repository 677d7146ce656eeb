#!/bin/bash
# A slow peer holds up no other, in either direction, and `limit` keeps a link
# to a number of bytes per second, both ways.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
proxy_start net
for n in server fast slow; do replica_new $n; done
replica_peer server fast
replica_peer server slow "$PROXY_PORT"
for n in server fast slow; do replica_mount $n; done
within 20 "all are linked" '[ "$(peer_state server fast)$(peer_state server slow)" = connectedconnected ]'

# To both: 100 files that do not come along with their names.
proxy_says net 'rate 100000'
mkdir server/mnt/out
for i in {1..100}; do head -c 60000 /dev/urandom >server/mnt/out/$i; done
within 30 "the fast one has all" '[ "$(ls fast/mnt/out | wc -l)" = 100 ]'
ok "while the slow one has not" test "$(find slow/mnt/out -type f 2>/dev/null | wc -l)" -lt 60
proxy_says net pass
within 20 "but gets it" '[ "$(ls slow/mnt/out | wc -l)" = 100 ]'

# From both, the slow one first.
proxy_says net 'rate 100000'
mkdir slow/mnt/in fast/mnt/from
for i in {1..100}; do head -c 60000 /dev/urandom >slow/mnt/in/$i; done
sleep 1
for i in {1..20}; do head -c 60000 /dev/urandom >fast/mnt/from/$i; done
within 20 "what the fast one writes arrives" '[ "$(ls server/mnt/from | wc -l)" = 20 ]'
ok "while the slow one is still at it" test "$(find server/mnt/in -type f | wc -l)" -lt 80
proxy_says net pass
within 20 "and all comes" '[ "$(ls fast/mnt/in | wc -l)" = 100 ]'

# What both have, the fast one is asked for too.
within 10 "status is exact" '[ "$(status_get server "[p[\"to_receive\"][\"versions\"] for p in s[\"peers\"]]")" = "[0, 0]" ]'

# limit = 1M
sed -i 's/^\[peer slow\]$/[peer slow]\nlimit = 1M/' server/store/.sibfs/config
try sibfs resume "$T/server/store" slow
sleep 1.2
head -c 4M /dev/urandom >server/mnt/four
start=$(date +%s%N)
within 20 "a limited link carries a file" 'cmp server/mnt/four slow/mnt/four'
ms=$((($(date +%s%N) - start) / 1000000))
ok "at its limit, to the peer ($ms ms for 4 MiB at 1 MiB/s)" test $ms -gt 3000 -a $ms -lt 12000
head -c 4M /dev/urandom >slow/mnt/more
start=$(date +%s%N)
sleep 1
echo small >server/mnt/small
within 10 "what is small arrives" 'has slow/mnt/small small'
fails "before what is large" cmp server/mnt/more slow/mnt/more
within 20 "which comes too" 'cmp server/mnt/more slow/mnt/more'
ms=$((($(date +%s%N) - start) / 1000000))
ok "at its limit too ($ms ms)" test $ms -gt 2500 -a $ms -lt 12000
cmp -s server/mnt/four fast/mnt/four
is "the other has no limit" "$?" 0
sed -i 's/^limit = .*/limit = 1M 25:00-26:00/' server/store/.sibfs/config
refuses "a limit that is none is told" sibfs peer list "$T/server/store"
done_testing
