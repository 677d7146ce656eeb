#!/bin/bash
# Programs work on one mount while changes come from the other: what they see is
# never old, never half of one thing and half of another, and what they write is
# never lost.  ARRIVALS_ROUNDS makes it longer, SIBFS_SEED other.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
random_seed
part() {
	ok "$2" timeout 100 python3 "$lib/arrivals.py" "$1" "$T/laptop" "$T/server" "$SIBFS"
}
part caches "once a round is over, no name, size, time or content is old"
part old_entries "a write right after a replacement lands in the new file"
part readers "who reads a file that is replaced has the old one, whole"
part programs "who runs a program that is replaced runs on"
part writers "what arrives for a file that is being written waits, and stands beside it"
part directories "who works in a directory that is moved notices nothing, and getcwd follows"
part busy "a round covers what was closed before it, and ends, where programs write all the time"
is "nothing went wrong in the daemons" \
	"$(grep -hE '(^| )error ' laptop/store/.sibfs/log server/store/.sibfs/log | head -n 5)" ""
done_testing
