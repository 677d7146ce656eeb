#!/bin/bash
# The version vector: shown by the mount, kept in the store's xattrs, the same
# on all replicas in sync, never carried elsewhere, never set by hand.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

mkdir $l/d
echo one >$l/f
echo deep >$l/d/deep
echo color >$l/colored
setfattr -n user.color -v blue $l/colored
synced laptop server

like "a file has a vector" "$(vv $l/f)" '^laptop:[0-9]+$'
like "a directory has one" "$(vv $l/d)" '^laptop:[0-9]+$'
like "a file deep in it has one" "$(vv $l/d/deep)" '^laptop:[0-9]+$'
for f in f d d/deep colored; do
	is "$f has the same vector on both" "$(vv $s/$f)" "$(vv $l/$f)"
done
like "the dot is one of its events" "$(dot $l/f)" '^laptop:[0-9]+$'
is "the same on both" "$(dot $s/f)" "$(dot $l/f)"
like "the origin is who wrote it" "$(getfattr --only-values -n user.sibfs.origin $s/f)" laptop

was=$(vv $l/f)
echo two >$s/f
synced laptop server
like "an edit elsewhere adds that replica, in the order of names" "$(vv $l/f)" '^laptop:[0-9]+,server:[0-9]+$'
is "what the laptop had seen stays in it" "$(vv $l/f | cut -d, -f1)" "$was"
split laptop server
echo l >$l/f
sleep 0.05
echo s >$s/f
heal laptop server
is "siblings are of one register: one vector" "$(vv $l/f)" "$(vv $l/f.conflict-laptop)"
is "each its own dot" "$(dot $l/f | cut -d: -f1) $(dot $l/f.conflict-laptop | cut -d: -f1)" "server laptop"
like "the siblings of a name are listed" "$(getfattr --only-values -n user.sibfs.siblings $l/f)" 'f\.conflict-laptop'
rm $l/f.conflict-laptop
synced laptop server
is "resolved, the vectors agree again" "$(vv $l/f)" "$(vv $s/f)"

within 5 "a file in the store carries the raw value" "getfattr -n user.sibfs laptop/store/f"
within 5 "so does what arrived" "getfattr -n user.sibfs server/store/f"
within 5 "and a directory" "getfattr -n user.sibfs laptop/store/d"
size=$(getfattr --only-values -n user.sibfs laptop/store/d/deep | wc -c)
ok "a file's value is small ($size bytes)" test "$size" -le 64

for name in user.sibfs user.sibfs.vv user.sibfs.anything; do
	fails "$name cannot be set" setfattr -n $name -v x $l/f
	like "$name: EPERM" "$(setfattr -n $name -v x $l/f 2>&1)" 'not permitted'
done
fails "nor removed" setfattr -x user.sibfs.vv $l/f
is "listing names none of them" "$(getfattr --absolute-names -d -m - $l/colored | grep -o '^user[^=]*')" user.color
cp -a $l/colored copied
is "cp -a carries the user's xattr and no other" "$(getfattr --absolute-names -d -m - copied | grep -o '^user[^=]*')" user.color
cp -a laptop/store/colored $l/again
like "a copied raw value is not believed" "$(vv $l/again)" '^laptop:[0-9]+$'
is "it is a new file with a dot of its own" "$([ "$(dot $l/again)" != "$(dot $l/colored)" ] && echo differs)" differs
done_testing
