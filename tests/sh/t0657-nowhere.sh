#!/bin/bash
# A file vanishes from a store behind its mount, and a peer is still to get it: status
# says so there, and once the store's owner has looked, both agree.
. "$(dirname "$0")/../lib/cluster.sh"
. "$lib/stress.sh"
cluster_start
pair laptop server
split laptop server
head -c 100000 /dev/urandom >laptop/mnt/gone
head -c 100000 /dev/urandom >laptop/mnt/here
replica_umount laptop
rm laptop/store/gone
replica_mount laptop
heal laptop server

within 10 "what is there comes" '[ -f server/mnt/here ]'
within 10 "what is not is named" '[ "$(status_get server "s[\"nowhere\"]")" = "['\''gone'\'']" ]'
is "in words, too" "$(sibfs status "$T/server/store" | grep -c "^gone: no peer that is linked can send its content now")" 1
is "the other one waits for nothing" "$(status_get laptop "s['nowhere']")" "[]"

replica_umount laptop
sibfs doctor "$T/laptop/store" --adopt >/dev/null
replica_mount laptop
synced laptop server
is "the server waits no more" "$(status_get server "s['wanted'], s['nowhere']")" "(0, [])"
same_tree "and both agree" laptop server
done_testing
