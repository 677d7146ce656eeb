#!/bin/bash
# A store that lost its index, with the marks on its files and without: mount
# says what to do, doctor does it, nothing is lost, and what was removed or
# edited elsewhere meanwhile is not undone.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start

forget_index() { rm -f "$1"/store/.sibfs/index.db*; }

for n in server laptop; do replica_new $n; done
replica_peer laptop server
for n in server laptop; do replica_mount $n; done
l=laptop/mnt s=server/mnt
mkdir $l/dir $l/dir/sub $l/old
for i in 1 2 3; do echo "of laptop $i" >$l/dir/sub/f$i; done
echo moved >$l/old/inside
echo first >$s/theirs
echo base >$l/conflict
ln -s theirs $l/link
printf x >"$l/a.conflict-looking"
synced laptop server
mv $l/old $l/new
synced laptop server
split laptop server
echo left >$l/conflict
echo right >$s/conflict
heal laptop server
is "there is a conflict" "$(conflict_names laptop)" "$(conflict_names server)"
conflict=$(conflict_names server)
split laptop server
echo "edited here, told to nobody" >$l/dir/sub/f1
echo "new here, told to nobody" >$l/dir/unsent
replica_umount laptop
echo "edited there" >$s/dir/sub/f2
rm $s/dir/sub/f3
echo "there too" >$s/new/more
forget_index laptop
refuses "mount refuses" sibfs mount "$T/laptop/store" "$T/laptop/mnt"
like "and says what to do" "$(sibfs mount "$T/laptop/store" "$T/laptop/mnt" 2>&1)" 'sibfs doctor .*/laptop/store'
refuses "so does serve" sibfs serve "$T/laptop/store"
refuses "init does not make it another store" sibfs init "$T/laptop/store" --node laptop
like "doctor makes the index anew, with the files' history" "$(sibfs doctor "$T/laptop/store" 2>&1)" \
	'10 files, 9 of them with their history.*all is well'
ok "the store is as healthy as any" sibfs doctor "$T/laptop/store"
replica_mount laptop
is "all shows as before" "$(cat $l/dir/sub/f1 $l/theirs $l/link $l/new/inside)" \
	"$(printf 'edited here, told to nobody\nfirst\nfirst\nmoved')"
heal laptop server
synced laptop server
same_tree "both agree again" laptop server
ok "what nobody was told of reaches the peer" has $s/dir/sub/f1 "edited here, told to nobody"
ok "new files too" has $s/dir/unsent "new here, told to nobody"
ok "what was edited there is not undone" has $l/dir/sub/f2 "edited there"
ok "what was removed there stays so" test ! -e $l/dir/sub/f3
ok "a directory that was moved is that one" has $l/new/more "there too"
is "the conflict is what it was" "$(conflict_names laptop)" "$conflict"
is "on both" "$(conflict_names server)" "$conflict"
like "status says what happened" "$(sibfs status "$T/laptop/store")" 'index of this store was lost.*new incarnation'
echo again >$l/dir/sub/f1
rm $l/conflict.conflict-*
synced laptop server
same_tree "and goes on as any" laptop server
ok "with its edits as edits" test -z "$(conflict_names server)"

# ---- stripped of the marks too -----------------------------------------

split laptop server
echo "unsent once more" >$l/dir/unsent
replica_umount laptop
echo "edited there again" >$s/dir/sub/f2
forget_index laptop
find laptop/store -not -path '*/.sibfs*' -exec setfattr -h -x user.sibfs {} \; 2>/dev/null
like "without marks all is taken in" "$(sibfs doctor "$T/laptop/store" 2>&1)" ', 0 of them with their history'
replica_mount laptop
heal laptop server
synced laptop server
same_tree "stripped: both agree again" laptop server
is "stripped: what only the peer edited is not in conflict" "$(cat $l/dir/sub/f2*)" "edited there again"
ok "stripped: what was edited here is there" grep -qx "unsent once more" $s/dir/unsent*
ok "stripped: and so is what it was before" grep -rqx "new here, told to nobody" $s/dir
ok "stripped: links are" test "$(readlink $s/link)" = theirs

# ---- damaged -----------------------------------------------------------

replica_umount laptop
dd if=/dev/urandom of=laptop/store/.sibfs/index.db bs=4096 count=4 conv=notrunc 2>/dev/null
rm -f laptop/store/.sibfs/index.db-*
refuses "a damaged index is refused" sibfs mount "$T/laptop/store" "$T/laptop/mnt"
like "with what to do" "$(sibfs mount "$T/laptop/store" "$T/laptop/mnt" 2>&1)" 'doctor --rebuild'
like "which makes it anew" "$(sibfs doctor --rebuild "$T/laptop/store" 2>&1)" 'made anew.*all is well'
ok "the old one is put aside" test -s laptop/store/.sibfs/index.db.old
replica_mount laptop
synced laptop server
same_tree "damaged: both agree again" laptop server
done_testing
