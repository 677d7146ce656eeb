# shellcheck shell=bash
# What stress tests ask of two replicas, laptop and server, that are linked.
# Sourced after cluster.sh.

# Holds when all of the laptop, the server and their stores show the same.
agree() {
	local of rc=0
	for of in laptop/mnt server/mnt laptop/store server/store; do
		python3 "$lib/stress.py" tree "$of" >"tree.${of/\//-}"
	done
	for of in server-mnt laptop-store server-store; do
		diff -U 0 tree.laptop-mnt "tree.$of" | head -n 12 || rc=1
		cmp -s tree.laptop-mnt "tree.$of" || rc=1
	done
	return $rc
}

# left NODE PEER: what is wanted, to send and to receive.
left() {
	status_get "$1" "' '.join(str(n) for n in (s['wanted'],
	    peers['$2']['to_send']['versions'], peers['$2']['to_receive']['versions']))"
}

complaints() {
	grep -hE '(^| )error:? ' laptop/store/.sibfs/log server/store/.sibfs/log
}

