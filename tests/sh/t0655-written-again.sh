#!/bin/bash
# What is being written again when the peer asks for it is not to be had.  A
# round that begins when all of it is closed brings it all the same.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
pair laptop server

cat >again.py <<'END'
import os, random, sys, time
random.seed(1)
names = ["%s/f%d" % (sys.argv[1], k) for k in range(30)]
for n in names:
    with open(n, "wb") as f:
        f.write(os.urandom(2000000))
for n in names:
    for _ in range(8):
        fd = os.open(n, os.O_RDWR)
        os.pwrite(fd, os.pread(fd, 10, 0), 0)
        os.close(fd)
        time.sleep(random.random() * 0.004)
END
for round in 1 2 3; do
	mkdir laptop/mnt/d$round
	python3 again.py laptop/mnt/d$round
	ok "$round: a round succeeds" sibfs sync "$T/laptop/store" server --timeout=60
	is "$round: and all is there" "$(ls server/mnt/d$round | wc -l)" 30
	is "$round: nothing is wanted" "$(status_get server "s['wanted']")" 0
done
done_testing
