#!/bin/bash
# Programs that watch the mount with inotify hear of what comes from a peer: what
# is new, replaced, moved and removed, files and directories; nothing of how that
# is done; and a mount that is stopped meanwhile stops.
. "$(dirname "$0")/../lib/cluster.sh"
needs inotifywait
cluster_start
pair laptop server
l=$T/laptop/mnt s=$T/server/mnt

# watch DIRECTORY: its events go to the file `events`, "NAME EVENTS" a line.
watch() {
	: >events
	inotifywait -q -m -e create,moved_to,moved_from,delete,modify,close_write,attrib,move_self,delete_self \
		--format '%f %e' "$1" >>events 2>watch.err & watcher=$!
	at_exit "kill $watcher 2>/dev/null"
	sleep 0.3
}
unwatch() { kill "$watcher"; wait "$watcher" 2>/dev/null; }

# saw CLAIM REGEX: one of the events, soon.
saw() { within 10 "$1" "grep -qE '$2' events" || diag "events: $(head -n 20 events)"; }

mkdir "$s/d" "$s/e"
echo old >"$s/d/there"
echo gone >"$s/d/goner"
mkdir "$s/d/sub"
synced laptop server
watch "$l/d"

echo new >"$s/d/new"
saw "a new file" '^new (CREATE|MOVED_TO)'
ok "it is there, at once" has "$l/d/new" new
echo longer than before >"$s/d/there"
saw "a file with new content" '^there (MODIFY|MOVED_TO|CLOSE_WRITE)'
ok "which is read" has "$l/d/there" "longer than before"
mv "$s/d/new" "$s/d/newer"
saw "a renamed file: the old name" '^new (MOVED_FROM|DELETE)'
saw "and the new one" '^newer (MOVED_TO|CREATE)'
rm "$s/d/goner"
saw "a removed file, though nobody looked at it here" '^goner DELETE'
fails "it is gone" test -e "$l/d/goner"
mkdir "$s/d/dir"
saw "a new directory" '^dir (CREATE|MOVED_TO),ISDIR'
mv "$s/d/dir" "$s/d/dir2"
saw "a moved directory: the old name" '^dir (MOVED_FROM|DELETE),ISDIR'
saw "and the new one" '^dir2 (MOVED_TO|CREATE),ISDIR'
ls -l "$l/d" >/dev/null
rmdir "$s/d/dir2"
saw "a removed directory" '^dir2 DELETE,ISDIR'
ln -s target "$s/d/link"
saw "a symbolic link" '^link (CREATE|MOVED_TO)'
mv "$s/d/newer" "$s/e/"
saw "a file that leaves the directory" '^newer (MOVED_FROM|DELETE)'
mv "$s/e/newer" "$s/d/back"
saw "and comes back" '^back (MOVED_TO|CREATE)'
synced laptop server
is "no event is of a hidden name" "$(grep -E 'sibfs|echo' events)" ""
same_tree "both show the same" laptop server
unwatch

# A file that is watched itself, and a program that stands in what is moved.
inotifywait -q -e move_self,delete_self,attrib "$l/d/there" >self 2>&1 & watcher=$!
at_exit "kill $watcher 2>/dev/null"
sleep 0.3
echo again >"$s/d/there"
within 10 "who watches a file itself hears that it was replaced" "[ -s self ]"
bash -c 'cd "$1" && while [ ! -e "$2/stop" ]; do sleep 0.05; done; /bin/pwd' - "$l/d/sub" "$T" >cwd 2>&1 & shell=$!
sleep 0.3
mv "$s/d" "$s/moved"
synced laptop server
touch stop
wait $shell
is "a working directory goes along" "$(cat cwd)" "$(realpath "$l")/moved/sub"
fails ".sibfs stays hidden" ls -d "$l/.sibfs"
is "and is not listed" "$(find "$l" -maxdepth 1 -name .sibfs)" ""

# Stops while events are made.
watch "$l/moved"
(for ((i = 0; i < 400; i++)); do echo $i >"$s/moved/f$((i % 50))"; done) &
sleep 0.3
ok "a mount stops while events are made" timeout 20 "$SIBFS" umount "$l"
wait $!
kill "$watcher" 2>/dev/null
replica_mount laptop
synced laptop server
same_tree "and goes on where it was" laptop server
(for ((i = 0; i < 400; i++)); do echo $i $i >"$s/moved/f$((i % 50))"; done) &
writer=$!
ls -l "$l/moved" >/dev/null
sleep 0.2
kill9 laptop
wait $writer
replica_mount laptop
synced laptop server
same_tree "killed, too" laptop server
done_testing
