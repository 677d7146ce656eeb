#!/bin/bash
# Stores that were restored from an old copy, copied, or given an old index:
# nothing is lost on either side, all agree in the end, `status` says what
# happened, and no dot stands for two contents.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start

# dots NODE...: each dot in the stores' own marks, with its content, once.
dots() {
	python3 - "$@" <<'END'
import hashlib, os, sys, time
def wait_for_mark(path):
    for _ in range(100):
        try:
            return os.getxattr(path, "user.sibfs")
        except OSError:
            time.sleep(0.05)
    sys.exit(path + " has no mark")
seen = set()
for n in sys.argv[1:]:
    for top, dirs, files in os.walk(n + "/store/"):
        if ".sibfs" in dirs:
            dirs.remove(".sibfs")
        for f in files:
            path = os.path.join(top, f)
            mark = wait_for_mark(path)
            number = mark[25:25 + next(i for i, b in enumerate(mark[25:]) if b < 128) + 1]
            seen.add((mark[17:25].hex() + ":" + number.hex(), hashlib.sha256(open(path, "rb").read()).hexdigest()))
print(*sorted(" ".join(x) for x in seen), sep="\n")
END
}

# Files are marked anew once they have rested.
no_dot_twice() {
	[ -z "$(dots "$@" | cut -d' ' -f1 | uniq -d)" ]
}

# ends_well CLAIM NODE NODE...: synced with the first, same trees, no dot twice.
ends_well() {
	local claim=$1 hub=$2 n i
	shift 2
	for i in 1 2; do
		for n; do synced "$n" "$hub"; done
	done
	for n; do same_tree "$claim: $n shows what $hub shows" "$hub" "$n"; done
	within 10 "$claim: no dot stands for two contents" "no_dot_twice $hub $*"
}

# forked CLAIM NODE REGEX: its status says so, for people and programs, and its log.
forked() {
	like "$1: status says so" "$(sibfs status "$T/$2/store")" "$3"
	like "$1: and as JSON" "$(status_get "$2" "' '.join(f['text'] for f in s['forks'])")" "$3"
	like "$1: and the log" "$(cat "$2/store/.sibfs/log")" "$3"
}

incarnation() {
	sqlite_get "$1" incarnation
}
sqlite_get() {
	python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT hex(value) FROM meta WHERE key = ?", sys.argv[2:]).fetchone()[0])' \
		"$T/$1/store/.sibfs/index.db" "$2"
}

# ---- an old copy is put back -------------------------------------------

replica_new server
replica_new laptop
replica_new desk
replica_peer laptop server
replica_peer desk server
for n in server laptop desk; do replica_mount $n; done
mkdir laptop/mnt/dir
for i in 1 2 3; do echo "before $i" >laptop/mnt/dir/a$i; done
echo original >laptop/mnt/shared
synced laptop server
synced desk server
replica_umount laptop
before=$(incarnation laptop)
cp -a laptop/store backup
replica_mount laptop
is "opened again it is the same incarnation" "$(status_get laptop "len(s['forks'])")" 0
for i in 1 2 3; do echo "after $i" >laptop/mnt/dir/b$i; done
echo changed >laptop/mnt/shared
mv laptop/mnt/dir/a3 laptop/mnt/dir/moved
synced laptop server
replica_umount laptop
# As rsync -aX --delete would: the same directory, what it held before.
find laptop/store -mindepth 1 -delete
cp -a backup/. laptop/store/
replica_mount laptop
for i in 1 2 3 4; do echo "restored $i" >laptop/mnt/dir/c$i; done
echo "changed on the restored" >laptop/mnt/dir/a1
ends_well "restored" server laptop desk
forked "restored" laptop "restored from a copy.*new incarnation"
ok "restored: what it had forgotten is back" has laptop/mnt/dir/b3 "after 3"
ok "restored: what it wrote since is everywhere" has desk/mnt/dir/c4 "restored 4"
ok "restored: edits too" has desk/mnt/dir/a1 "changed on the restored"
ok "restored: and the newer edit of the peers is not undone" has laptop/mnt/shared changed
is "restored: nothing is in conflict" "$(conflict_names server)" ""
ok "restored: a rename that it forgot holds" test ! -e server/mnt/dir/a3
replica_umount laptop
ok "restored: it goes by another incarnation" test "$(incarnation laptop)" != "$before"

# ---- the same, with nothing to show it but what peers were told ----------

# An image of the whole store: same machine, file system, inodes.
if dd if=/dev/zero of=disk bs=1M count=24 2>/dev/null && mkfs.ext4 -q -F disk 2>/dev/null && mkdir -p image &&
    mount -o loop disk image 2>/dev/null; then
	at_exit 'umount -l "$T/image" 2>/dev/null'
	mkdir -p image/store tablet/mnt
	ln -s "$T/image/store" tablet/store
	try sibfs init "$T/image/store" --node tablet --set test
	replica_peer tablet server
	try sibfs mount "$T/image/store" "$T/tablet/mnt"
	for i in 1 2 3; do echo "tablet $i" >tablet/mnt/t$i; done
	synced tablet server
	replica_umount tablet
	umount image
	cp disk disk.old
	mount -o loop disk image
	try sibfs mount "$T/image/store" "$T/tablet/mnt"
	for i in 4 5; do echo "tablet $i" >tablet/mnt/t$i; done
	synced tablet server
	replica_umount tablet
	umount image
	mount -o loop disk.old image
	try sibfs pause "$T/image/store"
	try sibfs mount "$T/image/store" "$T/tablet/mnt"
	is "image: nothing on it shows that it is an old one" "$(status_get tablet "len(s['forks'])")" 0
	for i in 1 2 3; do echo "again $i" >tablet/mnt/u$i; done
	try sibfs resume "$T/image/store"
	ends_well "image" server tablet desk
	forked "image" tablet "forked.*new incarnation|another store wrote"
	ok "image: what it had forgotten is back" has tablet/mnt/t5 "tablet 5"
	ok "image: what it wrote under the same numbers is everywhere" has desk/mnt/u3 "again 3"
	is "image: nothing is in conflict" "$(conflict_names server)" ""
	replica_umount tablet

	# What it only passed on is sent to it again, too: nothing else may tell.
	replica_new phone
	replica_peer phone tablet
	replica_mount phone
	try sibfs mount "$T/image/store" "$T/tablet/mnt"
	synced tablet server
	replica_umount tablet
	umount image
	cp disk disk.old
	mount -o loop disk image
	try sibfs mount "$T/image/store" "$T/tablet/mnt"
	echo "of the phone" >phone/mnt/passed
	synced phone tablet
	synced tablet server
	has server/mnt/passed "of the phone" || diag "it was not passed on"
	replica_umount phone
	replica_umount tablet
	umount image
	mount -o loop disk.old image
	try sibfs mount "$T/image/store" "$T/tablet/mnt"
	synced tablet server
	ok "image: what it had passed on comes back" has tablet/mnt/passed "of the phone"
	replica_umount tablet
	umount image
else
	skip "image" "no loop devices, or no mkfs.ext4"
fi

# ---- a copy is mounted as one more -------------------------------------

mkdir -p copy/mnt
cp -a laptop/store copy/store
replica_mount laptop
replica_mount copy
is "copy: under the same name" "$(status_get copy "s['node']")" laptop
echo "by laptop" >laptop/mnt/both
echo "by its copy" >copy/mnt/both
echo "only there" >copy/mnt/copied
within 20 "copy: both are connected to the server at once" \
	'[ "$(peer_state laptop server)" = connected ] && [ "$(peer_state copy server)" = connected ]'
ends_well "copy" server laptop copy desk
forked "copy" copy "copied or moved here"
is "copy: the names in conflict are told apart" "$(conflict_names server)" "both: both both.conflict-laptop"
is "copy: both contents are there" "$(cat desk/mnt/both* | sort | paste -sd,)" "by its copy,by laptop"
like "copy: the server says that two have one name" "$(sibfs status "$T/server/store")" "more than one replica is called laptop"
n1=$(grep -c ': connected' server/store/.sibfs/log)
sleep 3
is "copy: neither pushes the other off" "$(grep -c ': connected' server/store/.sibfs/log)" "$n1"
rm desk/mnt/both.conflict-laptop
replica_umount copy

# ---- the index of yesterday --------------------------------------------

replica_umount laptop
cp laptop/store/.sibfs/index.db yesterday.db
replica_mount laptop
echo today >laptop/mnt/today
echo today >desk/mnt/dir/a2
rm laptop/mnt/copied
synced laptop server
synced desk server
synced laptop server
replica_umount laptop
rm -f laptop/store/.sibfs/index.db*
cp yesterday.db laptop/store/.sibfs/index.db
replica_mount laptop
echo "and more" >laptop/mnt/more
ends_well "old index" server laptop desk
forked "old index" laptop "index of this store is an old one"
ok "old index: what was written today is there" has laptop/mnt/today today
ok "old index: what came today too" has laptop/mnt/dir/a2 today
ok "old index: and what was written then" has desk/mnt/more "and more"
ok "old index: what was removed stays so" test ! -e desk/mnt/copied
is "old index: nothing is in conflict" "$(conflict_names server)" ""
done_testing
