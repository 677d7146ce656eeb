#!/bin/bash
# Mounting: over the store itself, elsewhere, twice, over a dead mount.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new over
refuses "what is no store is not mounted" sibfs mount "$T/over/mnt" "$T/over/mnt"
exits "that is exit status 4" 4 sibfs mount "$T/over/mnt" "$T/over/mnt"

s=$T/over/store
ok "a store is mounted over itself" sibfs mount "$s"
ok "a mount stands there" mountpoint -q "$s"
echo inside >"$s/file"
ok "a file is written in it" has "$s/file" inside
is ".sibfs is hidden" "$(names "$s")" file
mkdir "$s/sub"
like "what is in a mount needs no init" "$(sibfs init "$s/sub" --node n 2>&1)" 'replicated already'
rmdir "$s/sub"
ok "any path inside leads to the store" sibfs status "$s/file"
fails "a store that is mounted is not mounted again" sibfs mount "$s" "$T/over/mnt"
ok "umount takes any path inside" sibfs umount "$s/file"
fails "then nothing is mounted" mountpoint -q "$s"
ok "the file stands in the store" has "$s/file" inside

echo covered >over/mnt/covered
ok "a mount point may hold files" sibfs mount "$s" "$T/over/mnt"
is "which it hides" "$(names over/mnt)" file
ok "the daemon can be killed" kill9 over
fails "then its mount is dead" ls "$T/over/mnt"
ok "mount clears a dead mount" sibfs mount "$s" "$T/over/mnt"
ok "and serves" has over/mnt/file inside
like "what a library says at its end would be in the log" "$(readlink "/proc/$(cat "$s/.sibfs/pid")/fd/2")" '/\.sibfs/log$'
fails "a second mount elsewhere is refused" sibfs mount "$s" "$T/home"
ok "umount" sibfs umount "$T/over/mnt"
is "gives the mount point back" "$(cat over/mnt/covered)" covered

"$SIBFS" mount "$s" "$T/over/mnt" -f </dev/null >f.log 2>&1 &
pid=$!
within 10 "-f mounts" "mounted over"
ok "and stays in the foreground" kill -0 $pid
kill -TERM $pid
wait $pid
within 10 "a signal ends it and gives the mount back" '! mounted over'

out=$(sibfs mount "$s" "$T/over/mnt" 2>&1 | cat)
is "mount keeps no descriptor of its caller open" "$out" ""
ok "and with -o options" sibfs umount "$T/over/mnt"
ok "read-only, for one" sibfs mount "$s" "$T/over/mnt" -o ro
fails "nothing is written then" touch over/mnt/new
replica_umount over
done_testing
