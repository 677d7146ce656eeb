#!/bin/bash
# Both sides edit the same file while the link rests: both versions stand on
# both sides under the same names, until someone resolves.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

# conflict NAME: both edit it, the server last.
conflict() {
	echo common >$l/$1
	synced laptop server
	split laptop server
	echo "laptop's" >$l/$1
	sleep 0.05
	echo "server's" >$s/$1
	heal laptop server
}

conflict notes
is "the newest has the name on the laptop" "$(cat $l/notes)" "server's"
is "and the other stands beside it" "$(cat $l/notes.conflict-laptop)" "laptop's"
same_tree "both show the same" laptop server
exits "conflicts exits 1 while one is open" 1 sibfs conflicts "$T/laptop/store"
exits "so does status" 1 sibfs status "$T/laptop/store"
is "it is listed on the laptop, the main one first" "$(conflict_names laptop)" "notes: notes notes.conflict-laptop"
is "and on the server" "$(conflict_names server)" "notes: notes notes.conflict-laptop"
like "conflicts for people names both" "$(sibfs conflicts "$T/server/mnt")" 'notes.*notes\.conflict-laptop'
is "the list has who, when, how much" "$(sibfs conflicts "$T/laptop/store" --json | python3 -c '
import json, sys
v = json.load(sys.stdin)[0]["versions"]
print(*[x["node"] for x in v], *[x["size"] for x in v], *[all(x[k] for k in ("time", "vector", "dot")) for x in v])')" \
	"server laptop 9 9 True True"
is "status counts it" "$(status_get laptop "s['conflicts']")" 1

# ---- resolved by editing the main one and removing the other
echo merged >$l/notes
rm $l/notes.conflict-laptop
synced laptop server
is "edited and removed: one name is left on the server" "$(names $s)" notes
is "with the merged content" "$(cat $s/notes)" merged
ok "no conflict is open" sibfs conflicts "$T/server/store"

# ---- by editing the sibling and moving it over the main one
conflict plan
echo merged >$s/plan.conflict-laptop
mv $s/plan.conflict-laptop $s/plan
synced laptop server
is "moved over the main name: one name is left" "$(names $l)" "notes plan"
is "with the content of what was moved" "$(cat $l/plan)" merged
ok "no conflict is open then" sibfs conflicts "$T/laptop/store"

# ---- by making the two equal
conflict list
cat $l/list >$l/list.conflict-laptop
synced laptop server
is "made equal: shown once on the server" "$(names $s)" "list notes plan"
is "and on the laptop" "$(names $l)" "list notes plan"
ok "no conflict is open after that" sibfs conflicts "$T/server/store"

# ---- one version written while the other side resolves survives that
conflict race
split laptop server
echo resolved >$l/race
rm $l/race.conflict-laptop
echo "meanwhile" >$s/race.conflict-laptop
heal laptop server
same_tree "a sibling edited while it was resolved elsewhere: both show the same" laptop server
is "both contents survive" "$(cat $l/race $l/race.conflict-*| sort | paste -sd' ')" "meanwhile resolved"
rm $l/race*
synced laptop server
is "rm of all of them removes all" "$(names $s)" "list notes plan"

# ---- different files, equal edits: no conflict
split laptop server
echo same >$l/equal
echo same >$s/equal
echo a >$l/left
echo b >$s/right
heal laptop server
is "equal contents are no conflict" "$(names $l)" "equal left list notes plan right"
same_tree "and different files none either" laptop server

# ---- pause survives restarts
split laptop server
replica_umount laptop
replica_mount laptop
echo offline >$l/offline
sleep 1
is "a paused link rests after a restart" "$(peer_state laptop server)" paused
fails "nothing went over it" test -e $s/offline
heal laptop server
ok "until it is resumed" has $s/offline offline

# ---- the whole replica paused
try sibfs pause "$T/laptop/mnt"
echo p >$s/while-paused
sleep 1
fails "a paused replica gets nothing" test -e $l/while-paused
ok "but an explicit sync works" sibfs sync "$T/laptop/store" server --timeout=30
ok "and brings it" has $l/while-paused p
try sibfs resume "$T/laptop/mnt"
done_testing
