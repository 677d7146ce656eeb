#!/bin/bash
# Large files are hashed aside: small ones overtake them, `sync` covers them,
# and a stop in the middle loses nothing.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server

head -c 300M /dev/urandom >laptop/mnt/large
echo small >laptop/mnt/small
within 5 "a small file does not wait for a large one" 'has server/mnt/small small'
ok "sync covers what was closed before" sibfs sync "$T/laptop/store" server --timeout=100
ok "the large one is there, whole" cmp laptop/mnt/large server/mnt/large
is "no version is invented" "$(vv laptop/mnt/large)" "$(vv server/mnt/large)"

# Written while it is hashed: what counts is what was closed last.
head -c 100M /dev/urandom >laptop/mnt/twice
head -c 100M /dev/urandom >laptop/mnt/twice
synced laptop server
ok "written twice in a row: the last one arrives" cmp laptop/mnt/twice server/mnt/twice

# The daemon is asked to stop while it hashes.
head -c 200M /dev/urandom >laptop/mnt/late
replica_umount laptop
replica_mount laptop
synced laptop server
ok "a stop meanwhile loses nothing" cmp laptop/mnt/late server/mnt/late
is "and makes one version of it" "$(vv server/mnt/late)" "laptop:$(vv server/mnt/late | sed 's/.*://')"

# Moved while it is hashed.
head -c 100M /dev/urandom >laptop/mnt/before
cp laptop/mnt/before reference
mv laptop/mnt/before laptop/mnt/after
synced laptop server
ok "moved meanwhile: it arrives under the new name" cmp reference server/mnt/after
is "and under that alone" "$(ls server/mnt | paste -sd' ')" "after large late small twice"
done_testing
