#!/bin/bash
# The same name, a directory here and a file there; the same directory twice.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt
wait_for '[ "$(peer_state laptop server)" = connected ]' 20
split laptop server
echo file >$l/x
mkdir $s/x
echo inside >$s/x/inside
mkdir $l/same $s/same
echo l >$l/same/l
echo s >$s/same/s
echo l >$l/same/both
sleep 0.05
echo s >$s/same/both
ln -s here $l/link
sleep 0.05
echo file >$s/link
heal laptop server

ok "the directory has the name on the laptop" has $l/x/inside inside
ok "the file stands beside it" has $l/x.conflict-laptop file
same_tree "both show the same" laptop server
is "a directory made on both is one" "$(names $s/same)" "both both.conflict-laptop l s"
ok "a file and a symbolic link are siblings" has $l/link file
is "the link keeps where it points" "$(readlink $s/link.conflict-laptop)" here
like "the conflict of the file is listed" "$(conflict_names server)" 'x: .*x.conflict-laptop'

mv $s/x.conflict-laptop $s/x/file
synced laptop server
ok "the file is moved into the directory" has $l/x/file file
is "and no conflict is left there" "$(names $l | tr ' ' '\n' | grep '^x')" x
rm $l/link.conflict-laptop $l/same/both.conflict-laptop
synced laptop server
ok "the others are resolved by removing one" sibfs conflicts "$T/server/store"
same_tree "both show the same in the end" laptop server
done_testing
