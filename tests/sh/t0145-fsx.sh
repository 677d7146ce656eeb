#!/bin/bash
# Random operations on a file, checked byte by byte (tests/posix/fsx): alone, in
# several at once, and what they leave in the store and at the peer.  FSX_OPS
# says how many, SIBFS_SEED does others.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
fsx=$(dirname "$SIBFS")/tests/posix/fsx
[ -x "$fsx" ] || skip_all "$fsx is missing: make check TESTS= builds it"
pair laptop server
ops=${FSX_OPS:-3000}
random_seed

ok "below the mount: the exerciser itself is right" "$fsx" "$T/below" "$seed" "$ops"
ok "on the mount: all is as in memory" "$fsx" laptop/mnt/alone "$seed" "$ops"
ok "a peer gets the same" synced laptop server
ok "byte by byte" cmp laptop/mnt/alone server/mnt/alone
ok "and so it stands in the store" cmp laptop/mnt/alone laptop/store/alone

# Several files at once, on both mounts, while they travel.
pids=()
for i in 1 2 3; do
	"$fsx" laptop/mnt/l$i $((seed + i)) $((ops / 2)) >out.l$i 2>&1 & pids+=($!)
	"$fsx" server/mnt/s$i $((seed + 10 + i)) $((ops / 2)) >out.s$i 2>&1 & pids+=($!)
done
rc=0
for pid in "${pids[@]}"; do wait "$pid" || rc=1; done
ok "six at once, on two mounts: all is as in memory" test $rc = 0 || diag "$(tail -n 5 out.*)"
synced laptop server
synced server laptop
same_tree "and both show the same" laptop server
is "without conflicts" "$(conflict_names laptop)" ""
done_testing
