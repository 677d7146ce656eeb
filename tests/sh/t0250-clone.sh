#!/bin/bash
# `sibfs clone`: a new replica from a peer, usable while it fills, going on after
# cuts and kills, without fetching what lies there already.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
url=ssh://127.0.0.1:$SSH_PORT$T/server/store
clone() { sibfs clone "$@" --identity "$T/ssh/user"; }

replica_new server
replica_mount server
s=server/mnt
mkdir -p $s/photos/2024
head -c 12M /dev/urandom >$s/photos/2024/film
for i in {1..60}; do echo "$i" >"$s/photos/$i"; done
ln -s photos/1 $s/link
: >$s/empty
mkdir $s/nothing
head -c 3M /dev/urandom >$s/other
sibfs status "$T/server/store" >/dev/null

mkdir laptop
ok "clone makes a replica" eval 'clone "$url" "$T/laptop/store" --node laptop 2>clone.err'
is "and says nothing, where no terminal shows how far it is" "$(cat clone.err)" ""
is "with all that was there, without a mount" "$(tree laptop/store | grep -v sibfs)" "$(tree $s)"
mkdir laptop/mnt
replica_mount laptop
same_tree "its mount shows the same" laptop server
echo new >laptop/mnt/new
within 10 "and it is a peer as any other" 'has $s/new new'
is "of the same set" "$(status_get laptop "s['set']")" "$(status_get server "s['set']")"
ok "once more it has nothing to do, mounted too" clone "$url" "$T/laptop/store" --node laptop
refuses "a store of another name is refused" clone "$url" "$T/laptop/store" --node tablet
refuses "its own name is refused" clone "$url" "$T/tablet/store" --node server
fails "and makes nothing" test -e "$T/tablet"
refuses "so is a key that may not" sibfs clone "$url" "$T/tablet/store" --node tablet --identity /dev/null
refuses "a path without a store is told" clone "ssh://127.0.0.1:$SSH_PORT$T/nowhere" "$T/tablet/store" --node tablet
replica_new foreign other
refuses "a store of another set is refused" clone "$url" "$T/foreign/store" --node foreign
mkdir default
(cd default && clone "$url" --node default >/dev/null 2>&1)
ok "without STORE it takes the last part of the path" cmp default/store/other $s/other

# What lies there already is not fetched: the film under another name.
proxy_start net
slow=ssh://127.0.0.1:$PROXY_PORT$T/server/store
mkdir -p desk/store/old desk/mnt
cp $s/photos/2024/film desk/store/old/a-film
cp $s/other desk/store/other
echo mine >desk/store/mine
before=$(proxy_bytes net)
ok "a directory with files can be cloned into" clone "$slow" "$T/desk/store" --node desk
ok "all is there" cmp desk/store/photos/2024/film $s/photos/2024/film
ok "equal content did not travel" test $(($(proxy_bytes net) - before)) -lt 1000000
within 10 "what only lay there is shared" 'has $s/mine mine && cmp $s/old/a-film $s/photos/2024/film'
is "and nothing is in conflict" "$(conflict_names server)" ""

# Slow, killed, cut: usable for what has come, and what came is not sent again.
mkdir -p tab/mnt
proxy_says net 'rate 3000000'
before=$(proxy_bytes net)
"$SIBFS" clone "$slow" "$T/tab/store" --node tab --identity "$T/ssh/user" 2>tab.err &
pid=$!
within 15 "names and small files come first" 'has tab/store/photos/60 60 && [ ! -e tab/store/photos/2024/film ]'
# Parts have holes where nothing came yet.
arrived() { echo $((512 * $(stat -c %b tab/store/.sibfs/staging/*.part 2>/dev/null | sort -n | tail -1))); }
within 15 "part of the large one has come" '[ "$(arrived)" -gt 3000000 ]'
kill -9 $pid
wait $pid 2>/dev/null
"$SIBFS" clone "$slow" "$T/tab/store" --node tab --identity "$T/ssh/user" 2>tab.err &
pid=$!
within 10 "it goes on when it is called again" '[ "$(arrived)" -gt 5000000 ]'
proxy_says net 'kill' 'rate 20000000'
proxy_says net 'rate 3000000'
replica_mount tab
ok "a mount takes over" has tab/mnt/photos/7 7
echo there >tab/mnt/there
within 10 "and works" 'has $s/there there'
proxy_says net 'pass'
rc=0
wait $pid || rc=$?
is "and clone waits for the end of it" $rc 0
ok "which has come" cmp tab/mnt/photos/2024/film $s/photos/2024/film
sent=$(($(proxy_bytes net) - before))
ok "in all hardly more than once ($sent bytes)" test $sent -lt 18000000
replica_umount tab
done_testing
