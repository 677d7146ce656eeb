#!/bin/bash
# A link that is cut, stalled and delayed at any byte: programs notice nothing,
# no half-written content shows, transfers go on where they were, and the links
# mend by themselves.  CUT_SECONDS makes it long, CUT_MIB the large file large.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
proxy_start net
replica_new laptop
replica_new server
replica_peer laptop server "$PROXY_PORT"
replica_mount laptop
replica_mount server
l=laptop/mnt s=server/mnt
mkdir $l/l $s/s
echo hello >$l/hello
within 20 "the link stands" 'has $s/hello hello'

prober_start l ops $l/l
prober_start s ops $s/s
prober_start writer write $l/versions
prober_start reader read $s/versions
cuts=$(awk '{ print $1 }' proxy-net.count)
random_seed
proxy_says net 'cut 3000-400000' 'delay 3' 'piece 1-9000' "seed $seed"
# On a slow machine it takes longer to be cut as often.
links() { echo $(($(awk '{ print $1 }' proxy-net.count) - cuts)); }
for ((end = SECONDS + ${CUT_SECONDS:-8}, last = end + 40; SECONDS < end || (SECONDS < last && $(links) <= 5); )); do
	head -c $((RANDOM * 10)) /dev/urandom >"$l/file$((RANDOM % 30))"
	head -c $((RANDOM * 10)) /dev/urandom >"$s/other$((RANDOM % 30))"
	sleep 0.2
done
longest_l=$(prober_stop l) longest_s=$(prober_stop s)
wrote=$(prober_stop writer)
proxy_says net pass
ok "the link was cut many times" test "$(links)" -gt 5
diag "longest operations: $longest_l and $longest_s ms; $(links) cuts"
ok "no operation hung at the one end" test "$longest_l" -lt 3000
ok "nor at the other" test "$longest_s" -lt 3000
within 30 "all arrives, by itself" 'cmp $l/versions $s/versions && [ "$(status_get laptop "s[\"wanted\"]")" = 0 ]'
seen=$(prober_stop reader)
ok "new contents came through ($seen of $wrote), none of them torn" test "$seen" -ge 1
ok "a round completes" sibfs sync "$T/laptop/store" server --timeout=30
same_tree "both show the same" laptop server
is "nothing is in conflict" "$(conflict_names laptop)" ""

# Transfers go on where they were: each cut costs what was on its way.
size=$((${CUT_MIB:-192} << 20))
head -c $size /dev/urandom >big
proxy_says net "cut $((32 << 20))"
before=$(proxy_bytes net) connections=$(awk '{ print $1 }' proxy-net.count)
cp big $l/big
within $((30 + size / 2000000)) "a large file comes through in pieces" 'cmp big $s/big'
sent=$(($(proxy_bytes net) - before))
ok "over many links" test $(($(awk '{ print $1 }' proxy-net.count) - connections)) -ge $((size >> 25))
diag "$sent bytes for $size"
ok "with at most 5 % more than its size" test $sent -lt $((size / 100 * 105))
done_testing
