#!/bin/bash
# What changes in a large file is what travels: counted in bytes on the link.
. "$(dirname "$0")/../lib/cluster.sh"
needs openssl
cluster_start
pair laptop server

# traffic: all bytes on the link so far, as the laptop counts them.
traffic() {
	status_get laptop "peers['server']['sent_bytes'] + peers['server']['received_bytes']"
}

# cheap CLAIM BYTES FILE COMMAND: after COMMAND both have the same FILE, for at
# most so many bytes on the wire.
cheap() {
	local claim=$1 most=$2 file=$3 before after
	shift 3
	before=$(traffic)
	try "$@"
	synced laptop server
	after=$(traffic)
	ok "$claim: it arrives" cmp "laptop/mnt/$file" "server/mnt/$file"
	ok "$claim: $((after - before)) bytes, at most $most" [ $((after - before)) -le "$most" ]
}

# random SEED BYTES: noise, the same each time, so that chunks are too.
random() {
	openssl enc -aes-128-ctr -nosalt -pass "pass:$1" -pbkdf2 -in /dev/zero 2>/dev/null | head -c "$2"
}

noise() {
	random "$1" "$2" >"laptop/mnt/$1"
}

overwrite() {
	random "$*" 4096 | dd of="laptop/mnt/$1" bs=4096 seek="$2" conv=notrunc status=none
}

overwrite_many() {
	local at
	for at in 5001 9002 11003 17004 21005 30000; do overwrite "$1" $at; done
}

insert() {
	{ random insert 100; cat "laptop/mnt/$1"; } >laptop/mnt/.new && mv laptop/mnt/.new "laptop/mnt/$1"
}

append() {
	random append 1000 >>"laptop/mnt/$1"
}

try noise large 128M
synced laptop server
ok "a new file arrives" cmp laptop/mnt/large server/mnt/large

limit=$((256 * 1024))
# Of the chunk, or the two chunks that it lies in, only blocks travel.
cheap "4 KiB in the middle" 32000 large overwrite large 15000
cheap "and again elsewhere" 32000 large overwrite large 3000
cheap "several at once" $limit large overwrite_many large
cheap "100 bytes inserted at the start, saved by rename" $limit large insert large
cheap "1000 bytes appended" $limit large append large
cheap "once more" $limit large append large
cheap "the end cut off" $limit large truncate -s 100000000 laptop/mnt/large

# What stands at the other end under any name is not sent.
cheap "a copy" 20000 copy cp laptop/mnt/large laptop/mnt/copy
cheap "renamed" 20000 other mv laptop/mnt/copy laptop/mnt/other
try mkdir laptop/mnt/d
cheap "renamed into a directory" 20000 d/moved mv laptop/mnt/other laptop/mnt/d/moved
try noise small 30K
synced laptop server
cheap "a small copy" 20000 small2 cp laptop/mnt/small laptop/mnt/small2

# Holes stay holes.
cheap "a sparse file" 200000 sparse truncate -s 200M laptop/mnt/sparse
ok "and it stays sparse" [ "$(du -k server/mnt/sparse | cut -f1)" -lt 2000 ]

# A reader of the old file keeps it, however often it changes.
exec 7<server/mnt/large
sum=$(sha256sum <laptop/mnt/large)
overwrite large 100; synced laptop server
overwrite large 200; synced laptop server
overwrite large 300; synced laptop server
is "who has the old file open goes on reading it" "$(sha256sum <&7)" "$sum"
exec 7<&-
ok "the new one is there" cmp laptop/mnt/large server/mnt/large

# Both ends start anew: their lists of chunks are still there.
replica_umount server
replica_umount laptop
replica_mount laptop
replica_mount server
synced laptop server
cheap "after a restart" $limit large overwrite large 1000
cheap "and the other way, renamed and changed" $((2 * limit)) d/moved overwrite d/moved 7000
same_tree "all is the same" laptop server

# Large files that change again and again do not fill the disk.
lists() { find "$1/store/.sibfs/chunks" -type f | wc -l; }
for i in 1 2 3 4 5 6; do
	overwrite large $((i * 100))
	synced laptop server
done
ok "many versions leave no more than one old one in the trash each time the daemon starts" \
	[ "$(find server/store/.sibfs/trash -name '*-large' | wc -l)" -le 3 ]
ok "there are lists of old contents" [ "$(lists server)" -gt 5 ]
touch -d '2 hours ago' server/store/.sibfs/chunks/*
replica_umount server
replica_mount server
within 20 "they go when nothing needs them" '[ "$(lists server)" -le 4 ]'
done_testing
