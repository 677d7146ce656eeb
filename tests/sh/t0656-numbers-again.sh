#!/bin/bash
# Programs are ahead of what the replica has been told: a file is renamed and removed,
# and its inode's number is that of a directory under the new name before anyone
# looks.  What was renamed is not left over.
. "$(dirname "$0")/../lib/cluster.sh"
. "$lib/stress.sh"
cluster_start
pair laptop server

cat >again.py <<'END'
import os, sys
os.chdir(sys.argv[1])
again = 0
for i in range(200):
    old, new = "old%d" % i, "new%d" % i
    number = os.stat(old).st_ino
    os.rename(old, new)
    os.unlink(new)
    os.mkdir(new)
    again += os.stat(new).st_ino == number
print(again)
END
for ((i = 0; i < 200; i++)); do
	echo "content $i" >"laptop/mnt/old$i"
done
synced laptop server
diag "numbers that came back: $(python3 again.py laptop/mnt)"
synced laptop server
same_tree "both mounts show the directories" laptop server
is "and nothing else" "$(find server/mnt -mindepth 1 ! -type d)" ""
is "the laptop has nothing left to do" "$(left laptop server)" "0 0 0"
is "nor has the server" "$(left server laptop)" "0 0 0"
done_testing
