#!/bin/bash
# A server need not mount: what arrives stands in its store under its name.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new laptop
replica_new server
replica_peer laptop server
replica_mount laptop
l=laptop/mnt

echo hello >$l/hello
within 20 "a file arrives in the store" 'has server/store/hello hello'
mkdir $l/d
echo deep >$l/d/deep
within 5 "so does a directory" 'has server/store/d/deep deep'
within 5 "it carries its version vector" "getfattr -n user.sibfs server/store/hello"
chmod 640 $l/hello
within 5 "a mode" '[ "$(stat -c %a server/store/hello)" = 640 ]'
mv $l/d $l/e
within 5 "a renamed directory" 'has server/store/e/deep deep && [ ! -e server/store/d ]'
rm $l/hello
within 5 "a removed file goes" '[ ! -e server/store/hello ]'
ok "sync works" sibfs sync "$T/laptop/store" server --timeout=30
replica_umount laptop
is "also without a mount, and says nothing" "$(sibfs sync "$T/laptop/store" server --timeout=30 2>&1)" ""
replica_mount laptop

replica_mount server
ok "the server can mount later" has server/mnt/e/deep deep
echo from >server/mnt/from
within 30 "what it writes then comes over the laptop's link" 'has $l/from from'
replica_umount server
echo after >$l/after
within 30 "after its umount files arrive again" 'has server/store/after after'
is "nothing came twice" "$(names server/store | tr ' ' '\n' | grep -c conflict)" 0
done_testing
