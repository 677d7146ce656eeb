#!/bin/bash
# What is deleted is forgotten once all members know of it, and not before; who
# was away, retired or not, brings nothing back and loses nothing.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
needs sqlite3
for n in laptop desktop server; do
	replica_new $n
done
replica_peer laptop server
replica_peer desktop server
for n in laptop desktop server; do
	replica_mount $n
done

tombstones() {
	sibfs status "$T/$1/store" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["tombstones"])'
}

# What status says of a member: retired and holds_up.
member() {
	sibfs status "$T/$1/store" --json | python3 -c '
import json, sys
for m in json.load(sys.stdin)["members"]:
    if m["node"] == sys.argv[1]:
        print(m["retired"], m["holds_up"])' "$2"
}

none_left() {
	local n
	for n; do
		[ "$(tombstones $n)" = 0 ] || { echo "$n: not yet"; sleep 0.5; return 1; }
	done
}

mkdir -p laptop/mnt/d/e laptop/mnt/keep
for i in 1 2 3 4 5; do
	echo $i >laptop/mnt/d/e/$i
	echo $i >laptop/mnt/keep/$i
done
echo old >laptop/mnt/f
within 20 "all is everywhere" 'has desktop/mnt/keep/5 5 && has desktop/mnt/f old'

rm -r laptop/mnt/d
rm desktop/mnt/keep/1
within 20 "what was deleted is so everywhere" '[ ! -e desktop/mnt/d ] && [ ! -e laptop/mnt/keep/1 ]'
within 20 "and is forgotten everywhere" 'none_left laptop desktop server'

# One that is offline is waited for.
try sibfs pause "$T/laptop/store"
rm -r desktop/mnt/keep/2 desktop/mnt/f
mkdir desktop/mnt/g
within 20 "the server knows" '[ ! -e server/mnt/f ] && [ -d server/mnt/g ]'
sleep 4
is "while one is away its deletions are remembered" "$(tombstones desktop) $(tombstones server)" "2 2"
is "it is not named before its time" "$(member server laptop)" "False False"
sed -i '/^\[replica\]/a absent_days = 0' server/store/.sibfs/config
try sibfs resume "$T/server/store"
is "but after it" "$(member server laptop)" "False True"
like "with what to do" "$(sibfs status "$T/server/store")" "sibfs peer retire STORE laptop"
echo new >laptop/mnt/2nd
try sibfs resume "$T/laptop/store"
within 20 "back again, it learns of them" '[ ! -e laptop/mnt/f ] && [ ! -e laptop/mnt/keep/2 ] && has desktop/mnt/2nd new'
within 20 "and all is forgotten" 'none_left laptop desktop server'

# One that is retired is not waited for.
try sibfs pause "$T/desktop/store"
rm -r laptop/mnt/keep/3
mkdir laptop/mnt/keep/sub
echo x >laptop/mnt/keep/sub/x
rm -r laptop/mnt/g
within 20 "the server knows" '[ -e server/mnt/keep/sub/x ] && [ ! -e server/mnt/g ]'
fails "who is connected cannot be retired" sibfs peer retire "$T/server/store" laptop
fails "nor who is none" sibfs peer retire "$T/server/store" nobody
ok "who is away can" sibfs peer retire "$T/laptop/store" desktop
within 20 "which all hear of" '[ "$(member server desktop)" = "True False" ]'
within 20 "then what it does not know is forgotten" 'none_left laptop server'
is "by the index too" "$(replica_umount laptop; sqlite3 laptop/store/.sibfs/index.db 'SELECT count(*) FROM regs WHERE NOT live')" 0
ok "where no daemon runs, too" sibfs peer retire "$T/laptop/store" desktop
replica_mount laptop

# It returns with old copies, and edits that nobody has seen.
echo mine >desktop/mnt/keep/4
echo mine >desktop/mnt/g/new
rm desktop/mnt/keep/5
ok "one round, while it is paused" sibfs sync "$T/desktop/store" server --timeout=60
is "and it has what the others have" "$(cd desktop/mnt && find . -type f | sort | paste -sd' ')" \
	"./2nd ./g/new ./keep/4 ./keep/sub/x"
try sibfs resume "$T/desktop/store"
within 30 "back from retirement, its edits come" 'has laptop/mnt/keep/4 mine && has laptop/mnt/g/new mine && [ ! -e laptop/mnt/keep/5 ]'
within 20 "and what it missed came to it" '[ ! -e desktop/mnt/keep/3 ] && has desktop/mnt/keep/sub/x x'
for n in laptop desktop server; do
	is "on $n nothing came back" "$(cd $n/mnt && find . -type f | sort | paste -sd' ')" "./2nd ./g/new ./keep/4 ./keep/sub/x"
done
within 20 "it is a member again" '[ "$(member server desktop)" = "False False" ] && [ "$(member laptop desktop)" = "False False" ]'
rm laptop/mnt/keep/4
within 20 "that is waited for" '[ ! -e desktop/mnt/keep/4 ] && none_left laptop desktop server'
same_tree "laptop and server show the same" laptop server
same_tree "laptop and desktop too" laptop desktop
done_testing
