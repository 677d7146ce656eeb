#!/bin/bash
# What is closed on one side appears on the other by itself, both ways over the
# one link that the laptop opened.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server
within 20 "the link comes up by itself" '[ "$(peer_state laptop server)" = connected ]'
within 5 "the server sees it too" '[ "$(peer_state server laptop)" = connected ]'
l=laptop/mnt s=server/mnt

echo hello >$l/hello
within 5 "a file of the laptop appears on the server" 'has $s/hello hello'
echo back >$s/back
within 5 "one of the server appears on the laptop" 'has $l/back back'
echo again >$s/hello
within 5 "an edit on the server too" 'has $l/hello again'
echo oncemore >>$l/hello
within 5 "and one that appends" '[ "$(tail -n 1 $s/hello)" = oncemore ]'

: >$l/empty
within 5 "an empty file" '[ -f $s/empty ] && [ ! -s $s/empty ]'
mkdir -p $l/d/e/f
within 5 "directories" '[ -d $s/d/e/f ]'
echo deep >$s/d/e/f/deep
within 5 "a file deep in them" 'has $l/d/e/f/deep deep'
ln -s ../hello $l/d/link
within 5 "a symbolic link" '[ "$(readlink $s/d/link)" = ../hello ]'
ln -sfn elsewhere $l/d/link
within 5 "one that is changed" '[ "$(readlink $s/d/link)" = elsewhere ]'

chmod 600 $l/hello
within 5 "a mode" '[ "$(stat -c %a $s/hello)" = 600 ]'
chmod 750 $s/d
within 5 "the mode of a directory" '[ "$(stat -c %a $l/d)" = 750 ]'
touch -d '2001-02-03 04:05:06 UTC' $l/back
within 5 "a time set by hand" '[ "$(stat -c %Y $s/back)" = "$(date -d "2001-02-03 04:05:06 UTC" +%s)" ]'
setfattr -n user.color -v blue $l/back
within 5 "a user xattr" '[ "$(getfattr --only-values -n user.color $s/back)" = blue ]'
echo '#!/bin/sh' >$l/tool
chmod 755 $l/tool
within 5 "an executable" '[ -x $s/tool ]'
is "the mtime of what was written travels" "$(stat -c %Y $s/tool)" "$(stat -c %Y $l/tool)"

mv $l/hello $l/d/renamed
within 5 "a renamed file" '[ ! -e $s/hello ] && [ "$(head -n 1 $s/d/renamed)" = again ]'
mv $s/d $s/moved
within 5 "a renamed directory, with all in it" '[ ! -e $l/d ] && has $l/moved/e/f/deep deep'
echo new >$l/moved/e/new
within 5 "what is written in it afterwards" 'has $s/moved/e/new new'
echo first >$l/tmp1
mv $l/tmp1 $l/back
within 5 "a file saved by renaming over the old one" 'has $s/back first'
rm $s/empty
within 5 "a removed file goes" '[ ! -e $l/empty ]'
rm -r $l/moved/e
within 5 "so does a removed tree" '[ ! -e $s/moved/e ]'

head -c 5242880 /dev/urandom >big
cp big $l/big
within 20 "5 MiB of noise" 'cmp big $s/big'
printf changed | dd of=$s/big bs=1 seek=3000000 conv=notrunc status=none
within 20 "a change in its middle" 'cmp $l/big $s/big && ! cmp big $l/big'

echo linked >$l/one
ln $l/one $l/two
within 5 "a hard link is the same content under each name" 'has $s/one linked && has $s/two linked'

seq 300 | while read -r i; do echo "$i" >"$l/n$i"; done
within 30 "hundreds of small files" '[ "$(find $s -maxdepth 1 -name "n*" | wc -l)" = 300 ] && has $s/n300 300'

(cd $l && mkdir burst && for i in 1 2 3 4 5 6 7 8 9; do echo $i >burst/f; done)
within 5 "of many quick edits the last one" 'has $s/burst/f 9'

rm $l/two; rm $s/one
within 10 "all is handed over" 'sibfs wait $T/laptop/store --timeout=5 && sibfs wait $T/server/store --timeout=5'
ok "sync says so too" sibfs sync "$T/laptop/store" server --timeout=30
same_tree "both show the same" laptop server
ok "there are no conflicts" sibfs conflicts "$T/laptop/store"
ok "status exits 0 when nothing is to do" sibfs status "$T/laptop/mnt"
ok "on either side" sibfs status "$T/server/mnt"
is "status has nothing to send" "$(status_get laptop "peers['server']['to_send']['versions']")" 0
done_testing
