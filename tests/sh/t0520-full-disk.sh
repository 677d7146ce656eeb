#!/bin/bash
# The receiver's disk is full: nothing half-written shows, the sender knows
# what is lacking, and it goes on by itself once there is room.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs mkfs.ext4
cluster_start
truncate -s 64M disk
mkfs.ext4 -q -m 0 disk
mkdir server
at_exit "umount -l $T/server"
mount -o loop disk server 2>/dev/null || skip_all "no loop devices here"
dd if=/dev/zero of=server/ballast bs=1M count=32 status=none
pair laptop server
l=laptop/mnt s=server/mnt

echo before >$l/before
within 20 "there is room for a small file" 'has $s/before before'
head -c 40M /dev/urandom >big
cp big $l/big
echo after >$l/after
ok "the sender lacks nothing" cmp big $l/big
sleep 5
fails "a file that does not fit does not show" test -e $s/big
ok "what was there is whole" has $s/before before
is "the sender knows that it is lacking" "$(status_get laptop "peers['server']['to_send']['versions'] > 0 or peers['server']['to_send']['bytes'] > 0")" True
fails "sync says that it could not" sibfs sync "$T/laptop/store" server --timeout=5

rm server/ballast
within 120 "with room it goes on by itself" 'cmp big $s/big'
within 20 "and all is there" 'has $s/after after'
ok "a round completes" sibfs sync "$T/laptop/store" server --timeout=60
same_tree "both show the same" laptop server

# Full for the user who writes there: an error, no damage, no hang.
dd if=/dev/zero of=$s/filler bs=1M count=64 >/dev/null 2>dd.err
like "a full disk is an error to who writes on it" "$(cat dd.err)" 'No space left'
rm $s/filler
echo again >$s/again
within 60 "with room again all goes on" 'has $l/again again'
replica_umount laptop
replica_umount server
done_testing
