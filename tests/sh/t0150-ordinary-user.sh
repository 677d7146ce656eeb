#!/bin/bash
# An ordinary user mounts by fusermount3: everything works, data is copied, others
# are kept out unless fuse.conf lets the user let them in.  In a mount namespace of
# its own, with a /dev/fuse that users may open.
if [ "$(id -u)" -eq 0 ] && [ -z "${SIBFS_IN_NAMESPACE:-}" ] && unshare -m true 2>/dev/null; then
	exec env SIBFS_IN_NAMESPACE=1 unshare -m --propagation private bash "$0" "$@"
fi
. "$(dirname "$0")/../lib/cluster.sh"
needs_root
needs setpriv fusermount3 unshare
[ -n "${SIBFS_IN_NAMESPACE:-}" ] || skip_all "no mount namespaces here"
cluster_start
user=$(id -u nobody)	# fusermount3 wants one with a name
posix=$(dirname "$SIBFS")/tests/posix/posix

mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse || skip_all "/dev/fuse cannot be replaced"
at_exit "umount /dev/fuse"
echo "mount_max = 100" >"$T/fuse.conf"
[ -e /etc/fuse.conf ] || skip_all "/etc/fuse.conf is missing"
mount --bind "$T/fuse.conf" /etc/fuse.conf
at_exit "umount /etc/fuse.conf"

cp "$SIBFS" "$T/sibfs"
chmod 755 "$T/sibfs"
mkdir -m 755 laptop
mkdir -m 700 run
mkdir laptop/mnt userhome
cp -r ssh/user ssh/known_hosts userhome/
chmod 600 userhome/user
chown -R $user:$user laptop run userhome

# as_user COMMAND...
as_user() {
	timeout -k 5 120 setpriv --reuid=$user --regid=$user --clear-groups \
		env HOME="$T/userhome" XDG_RUNTIME_DIR="$T/run" SIBFS_KNOWN_HOSTS="$T/userhome/known_hosts" "$@" </dev/null
}
mine() { as_user "$T/sibfs" "$@"; }

# The user's daemons are this very copy.
at_exit 'for pid in $(pgrep -U $user -f "^$T/sibfs"); do kill "$pid"; done'

ok "a user makes a store" mine init laptop/store --node laptop --set test
ok "and mounts it" mine mount laptop/store laptop/mnt
echo text >"$T/userhome/text"
ok "the user writes into it" as_user cp userhome/text laptop/mnt/file
is "and reads" "$(as_user cat laptop/mnt/file)" text
like "data is copied" "$(mine status laptop/mnt --json)" '"data": "copy"'
is "it belongs to the user" "$(as_user stat -c %u:%g laptop/mnt/file)" $user:$user
fails "nobody else looks into it, not even root" ls laptop/mnt

if [ -x "$posix" ]; then
	cp "$posix" "$T/posix" && chmod 755 "$T/posix"
	mkdir below && chown $user:$user below
	(cd below && as_user "$T/posix") >claims.below 2>&1
	as_user mkdir laptop/mnt/claims
	as_user sh -c "cd $T/laptop/mnt/claims && $T/posix" >claims.seen 2>&1
	# The daemon cannot read what its own user may not, even to have it executed.
	is "what a program may expect holds" "$(grep -v '^ok' claims.seen |
		grep -v 'and with no other right' | head -n 20)" ""
	is "as many claims as below" "$(wc -l <claims.seen)" "$(wc -l <claims.below)"
	as_user rm -rf laptop/mnt/claims
fi

# Linked with root's server.
mkdir server
try sibfs init "$T/server/store" --node server --set test
mkdir server/mnt
try sibfs mount "$T/server/store" "$T/server/mnt"
ok "a peer is added" mine peer add laptop/store server "ssh://root@127.0.0.1:$SSH_PORT$T/server/store" \
	--identity "$T/userhome/user"
ok "a round with it succeeds" mine sync laptop/mnt server --timeout=60
is "what the user wrote arrives there" "$(cat server/mnt/file)" text
echo "from the server" >server/mnt/file
mkdir server/mnt/dir
echo in >server/mnt/dir/in
ok "another round" mine sync laptop/mnt server --timeout=60
is "what is written there arrives here" "$(as_user cat laptop/mnt/file)" "from the server"
is "directories, too, and belong to the user" "$(as_user stat -c %u laptop/mnt/dir laptop/mnt/dir/in | sort -u)" $user
ok "the user changes what came" as_user sh -c "echo mine >>$T/laptop/mnt/dir/in"
ok "and a third" mine sync laptop/mnt server --timeout=60
is "which goes back" "$(cat server/mnt/dir/in)" "in
mine"

ok "the user unmounts" mine umount laptop/mnt
is "nothing is mounted any more" "$(mounts | grep -c laptop)" 0
refuses "allow_other is refused where fuse.conf forbids it" mine mount laptop/store laptop/mnt -o allow_other
like "with what to do" "$(cat refuses.err)" user_allow_other
is "and leaves nothing mounted" "$(mounts | grep -c laptop)" 0
echo user_allow_other >>"$T/fuse.conf"
ok "where it allows it, the mount stands" mine mount laptop/store laptop/mnt -o allow_other
is "and others read what they may" "$(cat laptop/mnt/file)" "from the server"
ok "killed, it is mounted again" eval \
	'kill -9 "$(cat laptop/store/.sibfs/pid)"; sleep 0.5; mine mount laptop/store laptop/mnt'
is "and is whole" "$(as_user cat laptop/mnt/dir/in)" "in
mine"
ok "and unmounted" mine umount laptop/mnt

# More files than the daemon may open; users cannot open by handle.
as_user sh -c "cd $T/laptop/store && mkdir many many/a many/b && for d in a b; do
	(cd many/\$d && seq 1000 | xargs touch) || exit 1; done"
ok "the user mounts with few descriptors" eval '(ulimit -n 400 && mine mount laptop/store laptop/mnt)'
all() { as_user find laptop/mnt/many -type f -printf '%s\n' 2>&1 | sort | uniq -c | tr -s ' '; }
is "2,000 files are seen" "$(all)" " 2000 0"
as_user sh -c "exec <$T/laptop/mnt/many/a/500 && rm $T/laptop/mnt/many/a/500 &&
	find $T/laptop/mnt/many/b -printf '%s' >/dev/null && stat -L -c %h /dev/stdin" >gone 2>&1
is "what is open without a name is seen, too" "$(cat gone)" 0
ok "many are written" as_user sh -c "cd $T/laptop/mnt/many/b && for n in \$(seq 100 100 1000); do
	echo text >\$n || exit 1; done"
ok "moved" as_user mv laptop/mnt/many/a laptop/mnt/many/c
is "and seen again" "$(all)" " 1989 0
 10 5"
ok "a round" mine sync laptop/mnt server --timeout=60
ok "their directory moves at the other end" mv server/mnt/many/b server/mnt/many/c/b
ok "and a round" mine sync laptop/mnt server --timeout=60
is "they are seen where they are now" "$(all)" " 1989 0
 10 5"
is "and read" "$(as_user cat laptop/mnt/many/c/b/700)" text
ok "the end" mine umount laptop/mnt
done_testing
