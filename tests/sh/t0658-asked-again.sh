#!/bin/bash
# What cannot be had when a round begins, as it is being written, is asked for
# again when the peer says that all that it has was told: by then it is closed.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
replica_new laptop
replica_new server
replica_peer laptop server
# In place of ssh: what passes between the two stops where we say.
mkdir bin
cat >bin/ssh <<END
#!/bin/sh
exec python3 $lib/session.py hold $T/hold $SIBFS serve $T/server/store --peer laptop
END
chmod +x bin/ssh
sed -i '/^\[peer/a transport = ssh' laptop/store/.sibfs/config
export PATH=$T/bin:$PATH
replica_mount laptop
replica_mount server
l=laptop/mnt s=server/mnt

# A writer that changes the file, until it is told to write what was there.
cat >writer.py <<'END'
import os, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
before = os.pread(fd, 8, 0)
n = 0
while not os.path.exists("close"):
    os.pwrite(fd, n.to_bytes(8, "big"), 0)
    open("writes", "w").close()
    n += 1
    time.sleep(0.1)
os.pwrite(fd, before, 0)
os.close(fd)
END
wants() { status_get laptop "s['wanted']"; }

within 20 "the link stands" '[ "$(peer_state laptop server)" = connected ]'
split laptop server
head -c 1000000 /dev/urandom >file
cp file $s/file
within 10 "the version is known there" 'dot $s/file'
python3 writer.py $s/file &
writer=$!
within 10 "it is being written" '[ -e writes ]'
try sibfs resume laptop/store server
within 20 "the peer hears of the version" '[ "$(wants)" = 1 ]'
fails "but cannot have it" test -e $l/file

: >hold
sibfs sync laptop/store server --timeout=30 &
sync=$!
within 20 "a round comes to its end there" '[ -e hold.held ]'
fails "and has not brought it" test -e $l/file
: >close
wait $writer
rm hold
wait $sync
is "the round succeeds" $? 0
ok "and brought it" cmp $l/file file
is "nothing is wanted" "$(wants)" 0
done_testing
