#!/bin/bash
# What belongs to files besides their content, and names of all kinds.
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs setfacl getfacl
cluster_start
pair laptop server
l=laptop/mnt s=server/mnt

# look DIRECTORY: everything of everything that replicas agree on, times in ns.
look() {
	(cd "$1" && find . -mindepth 1 -printf '%P|%y|%m|%U|%G|%s|%l|' \( -type d -printf '\n' -o -printf '%T@\n' \)) | sort
	(cd "$1" && getfattr -R -h -d -m '^user\.' . 2>/dev/null; getfacl -R -n . 2>/dev/null)
}
# alike CLAIM: both mounts, before long.
alike() {
	within 15 "$1" '[ "$(look $l)" = "$(look $s)" ]' || diag "$(diff <(look $l) <(look $s) | head -20)"
}

: >$l/empty
# Large enough to be read for its hash, and for the peer, after this.
head -c 20M /dev/urandom >$l/atime
touch -a -d '2001-01-01 UTC' $l/atime
mkdir -p $l/nothing/in/here
for m in 0 400 644 755 1777; do echo $m >$l/mode$m; chmod $m $l/mode$m; done
mkdir -m 2770 $l/setgid
mkdir -m 700 $l/private
mkdir -m 1777 $l/sticky
ln -s 'a target that is not there' $l/dangling
ln -s /etc/passwd $l/absolute
ln -s "$(printf 'x%.0s' {1..4000})" $l/long
echo t >$l/time
touch -d '1995-04-01 12:00:00.123456789' $l/time
touch -d '2150-01-01 00:00:00.000000001' $l/future
touch -d '1960-01-01 00:00:00.5' $l/past
touch -h -d '2001-02-03 04:05:06.789' $l/dangling
setfattr -n user.comment -v hello $l/empty
setfattr -n user.binary -v 0x00ff10 $l/empty
setfattr -n user.blank -v '' $l/empty
setfattr -n user.dir -v d $l/nothing
setfattr -n user.big -v "$(printf 'v%.0s' {1..1500})" $l/time
setfacl -m u:12345:rw,g:54321:r $l/empty
setfacl -m u:12345:rwx -d -m u:12345:rx,g::r $l/private
chown 4711:4712 $l/mode644 $l/private
chown -h 4711:4712 $l/dangling
alike "modes, times, links, attributes, ACLs and owners arrive"
is "neither hashing nor sending a file moves its atime" "$(stat -c %X $l/atime)" "$(date -d '2001-01-01 UTC' +%s)"
rm $l/atime
chmod 640 $s/mode644
chown 1:2 $s/mode644
touch -d '1999-09-09 09:09:09.987654321' $s/time
setfattr -x user.binary $s/empty
setfattr -n user.comment -v other $s/empty
setfacl -x u:12345 $s/empty
setfacl -b $s/private
chmod 711 $s/nothing
touch -h -d '2002-02-03 04:05:06.789' $s/dangling
alike "changes of them go back"
echo more >>$l/time
alike "also those that a write makes"
is "no attribute of ours is among them" "$(getfattr -d -m - $s/empty 2>/dev/null | grep -c sibfs)" 0

# Set-id bits.
cp /bin/true $l/suid
chmod 4755 $l/suid
within 10 "a set-user-id file arrives" '[ -e $s/suid ]'
is "without that bit" "$(stat -c %a $s/suid)" 755
echo >>$s/empty
synced laptop server
is "which stays where it was set" "$(stat -c %a $l/suid)" 4755
sed -i 's/^\[replica\]$/[replica]\nsetuid = yes/' server/store/.sibfs/config
try sibfs resume "$T/server/store"
cp /bin/true $l/suid2
chmod 6755 $l/suid2
within 10 "with setuid = yes it arrives" '[ "$(stat -c %a $s/suid2)" = 6755 ]'
rm $l/suid $l/suid2

# Owners.
sed -i 's/^setuid = .*/owners = no/' server/store/.sibfs/config
try sibfs resume "$T/server/store"
echo o >$l/owned
chown 4711:4712 $l/owned
echo p >$l/owned
within 10 "with owners = no" 'has $s/owned p'
is "files are the daemon's" "$(stat -c %u:%g $s/owned)" 0:0
echo q >$s/owned
within 10 "what is written there" 'has $l/owned q'
is "changes no owner elsewhere" "$(stat -c %u:%g $l/owned)" 4711:4712
rm $l/owned
sed -i 's/^owners = .*/owners = number/' server/store/.sibfs/config
try sibfs resume "$T/server/store"

# Holes.
truncate -s 64M $l/sparse
printf end | dd of=$l/sparse bs=1 seek=40000000 conv=notrunc status=none
within 15 "a sparse file arrives" 'cmp $l/sparse $s/sparse'
ok "as one ($(stat -c %b $s/sparse) blocks)" test "$(stat -c %b $s/sparse)" -lt 4096
cp --sparse=always $l/sparse $l/sparse2
within 15 "so does its copy" 'cmp $l/sparse $s/sparse2'
ok "as one, too ($(stat -c %b $s/sparse2) blocks)" test "$(stat -c %b $s/sparse2)" -lt 4096
truncate -s 1M $l/hole
within 10 "a hole and nothing else arrives" 'cmp $l/hole $s/hole'

# Names.
mkdir $l/names
bad=$(printf 'latin-\xe9-\xff')
echo 1 >"$l/names/$bad"
mkdir "$l/names/dir-$bad"
echo 2 >"$l/names/dir-$bad/in"
echo 3 >"$l/names/new
line"
echo 4 >"$l/names/ space and \"quotes\" and \\backslash\\ \$(x) "
echo 5 >"$l/names/-rf"
echo 6 >"$l/names/a.conflict-nobody"
echo 7 >"$l/names/…日本語"
long=$(printf 'n%.0s' {1..255})
echo 8 >"$l/names/$long"
wide=$(printf '\xe6\x97\xa5%.0s' {1..85})
echo 9 >"$l/names/$wide"
alike "names of all kinds arrive"
mv "$l/names/$bad" "$l/names/renamed-$bad"
alike "and are renamed"
split laptop server
for n in "$long" "$wide" "renamed-$bad"; do
	echo left >"$l/names/$n"
	sleep 0.02
	echo right >"$s/names/$n"
done
heal laptop server
alike "in conflict their siblings have the same names on both"
is "all of them are there" "$(cat $l/names/nnn* $l/names/$'\xe6\x97\xa5'* "$l"/names/renamed* | sort | uniq -c | tr -s ' \n' ' ')" " 3 left 3 right "
ok "none too long" test "$(LC_ALL=C ls $s/names | LC_ALL=C awk 'length > 255' | wc -l)" = 0
is "and status can say them" "$(sibfs conflicts "$T/server/store" --json | python3 -c 'import json, sys; print(len(json.load(sys.stdin)))')" 3

# Paths of nearly 4,000 bytes below the mount.
part=$(printf 'd%.0s' {1..199})
(cd $l && for i in {1..19}; do mkdir $part && cd $part || exit; done; echo deep >file)
deep() { (cd "$1" && for i in {1..19}; do cd $part || exit 1; done; cat file); }
within 15 "so does a path of 3,800 bytes" '[ "$(deep $s)" = deep ]'
(cd $s && for i in {1..19}; do cd $part; done; echo deeper >file)
within 15 "and an edit there goes back" '[ "$(deep $l)" = deeper ]'
mv $l/$part $l/short
within 15 "its top is renamed" '[ -e $s/short ] && [ ! -e $s/$part ]'

# Of directories that come to stand under one name, that moved first has the say.
color() { getfattr --only-values -n user.color "$1" 2>/dev/null; }
mkdir $l/first $l/second
synced laptop server
setfattr -n user.color -v red $l/second
synced laptop server
split laptop server
mv $l/first $l/united
sleep 0.02
mv $s/second $s/united
is "which has none where it stood alone" "$(color $l/united)" ""
is "and one there" "$(color $s/united)" red
heal laptop server
synced laptop server
is "one that has no attribute hides that of the other" "$(color $l/united)$(color $s/united)" ""
is "in the stores, too" "$(color laptop/store/united)$(color server/store/united)" ""

# What is made anew has not the attributes of what stood there before.
again="file dir over linked moved"
for f in file over linked moved; do echo old >$l/$f; done
mkdir $l/dir
for f in $again; do setfattr -n user.color -v red $l/$f; done
synced laptop server
is "attributes arrive" "$(for f in $again; do color $s/$f; done)" redredredredred
rm $l/file $l/linked $l/moved
rmdir $l/dir
synced laptop server
echo new >$l/file
mkdir $l/dir
echo new >$l/plain
ln $l/plain $l/linked
cp $l/plain $l/aside
mv $l/aside $l/over
cp $l/plain $l/aside
mv $l/aside $l/moved
synced laptop server
for f in $again; do
	is "$f, made anew, has none" "$(color $l/$f)$(color $s/$f)$(color server/store/$f)" ""
done
done_testing
