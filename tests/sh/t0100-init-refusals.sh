#!/bin/bash
# `sibfs init`: what it makes a store, what it refuses and with which words,
# and that a refusal leaves everything as it was.
. "$(dirname "$0")/../lib/cluster.sh"
needs setfattr getfattr
tmpdir_start

like "--version names the program and its version" "$(sibfs --version 2>&1)" '^sibfs [0-9]+\.[0-9]+'
like "--help lists the commands" "$(sibfs --help 2>&1)" 'init.*mount'
exits "an unknown command is a usage error" 2 sibfs frobnicate
exits "init without a node name is a usage error" 2 sibfs init "$T/nameless"

ok "init makes a missing directory" sibfs init "$T/fresh" --node fresh
ok "the store has its .sibfs" test -d fresh/.sibfs
mkdir empty
ok "init takes an empty directory" sibfs init "$T/empty" --node empty

mkdir -p full/dir
echo hello >full/hello.txt
echo deep >full/dir/deep.txt
ln -s hello.txt full/link
ok "init takes a directory with files" sibfs init "$T/full" --node full
is "the files stay where they are" "$(cat full/hello.txt full/dir/deep.txt)" "$(printf 'hello\ndeep')"
ok "a file taken in has its version vector" getfattr -n user.sibfs full/hello.txt
ok "so has a directory" getfattr -n user.sibfs full/dir

refuses "a store is not made a store again" sibfs init "$T/full" --node again
refuses "nor is a directory in a store" sibfs init "$T/full/dir" --node inner
refuses "nor a new one in a store" sibfs init "$T/full/new" --node inner
ok "which is not made then" test ! -e full/new

echo x >file
refuses "a file is no directory" sibfs init "$T/file" --node n
is "and keeps its content" "$(cat file)" x
refuses "a directory that cannot be made is refused" sibfs init "$T/none/such/dir" --node n

mkdir named
for name in -x _x a/b 'a b' a.b ä "$(printf 'a%.0s' {1..33})" ''; do
	fails "the node name '$name' is refused" sibfs init "$T/named" --node "$name"
done
is "a refused directory stays as it was" "$(names named)" ""
ok "a name of 32 characters is taken" sibfs init "$T/named" --node "$(printf 'a%.0s' {1..32})"

if [ "$(id -u)" -eq 0 ]; then
	mkdir ramfs
	if mount -t ramfs none ramfs 2>/dev/null; then
		echo kept >ramfs/kept
		refuses "a file system without user xattrs is refused" sibfs init "$T/ramfs" --node n
		is "and left alone" "$(names ramfs)" kept
		umount ramfs
	else
		skip "a file system without user xattrs is refused" "ramfs cannot be mounted"
		skip "and left alone" "ramfs cannot be mounted"
	fi

	mkdir locked world
	echo x >locked/x
	cp "$SIBFS" world/sibfs
	if setpriv --reuid=65534 --regid=65534 --clear-groups "$T/world/sibfs" --version >/dev/null 2>&1; then
		refuses "a directory that one may not write is refused" \
			setpriv --reuid=65534 --regid=65534 --clear-groups "$T/world/sibfs" init "$T/locked" --node n
	else
		skip "a directory that one may not write is refused" "no other user can run here"
	fi
	is "and left alone as well" "$(names locked)" x

	mkdir -p host/other
	echo ours >host/ours
	if mount -t tmpfs none host/other; then
		echo theirs >host/other/theirs
		ok "init takes a directory in which another file system is mounted" sibfs init "$T/host" --node host
		is "what is on the other file system stays" "$(cat host/other/theirs)" theirs
		fails "and gets no version" getfattr -n user.sibfs host/other/theirs
		umount host/other
	else
		skip "another file system is left alone" "tmpfs cannot be mounted"
	fi
else
	skip "file systems and users" "only root can make them"
fi

done_testing
