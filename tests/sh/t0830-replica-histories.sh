#!/bin/bash
# Histories of whole replicas that failed once: tests/sim/replica-histories.
. "$(dirname "$0")/../lib/tap.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)

if [ ! -x tests/sim/replica_sim ]; then
	echo "1..0 # SKIP needs make check"
	exit 0
fi
exec tests/sim/replica_sim --stored "$top/tests/sim/replica-histories"
