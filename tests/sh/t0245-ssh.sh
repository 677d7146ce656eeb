#!/bin/bash
# SSH as users have it: what ssh_config says of a host counts, and what libssh2
# cannot do goes through the ssh program, by itself.
. "$(dirname "$0")/../lib/cluster.sh"
cluster_start
main_port=$SSH_PORT
needs ssh
# ssh finds its files by the passwd database, whatever HOME says, so the tests
# have an ssh of their own, which reads one configuration file.
mkdir bin
ssh=$(command -v ssh)
printf '#!/bin/sh\necho "$@" >>%q\nexec %q -F %q "$@"\n' "$T/ssh/args" "$ssh" "$T/ssh/config" >bin/ssh
chmod 755 bin/ssh
export PATH="$T/bin:$PATH"
unset SIBFS_KNOWN_HOSTS

replica_new server
replica_mount server
echo from-server >server/mnt/f

# config HOST LINES...: of ~/.ssh/config, that and nothing else.
config() {
	local host=$1
	shift
	{
		echo "Host $host"
		printf '\t%s\n' "$@"
		printf 'Host *\n\tGlobalKnownHostsFile /dev/null\n\tBatchMode yes\n'
	} >ssh/config
}
known="UserKnownHostsFile $T/ssh/known_hosts"
key="IdentityFile $T/ssh/user"

# works NAME URL [transport]: a replica of its own gets the file; sets $log.
works() {
	local n=$1
	log=
	replica_new "$n"
	try sibfs peer add "$T/$n/store" server "$2"
	[ -z "${3:-}" ] || sed -i "s/^url = .*/&\ntransport = $3/" "$n/store/.sibfs/config"
	replica_mount "$n"
	within 15 "$n: a file comes" "has $n/mnt/f from-server"
	log=$(cat "$n/store/.sibfs/log")
	replica_umount "$n"
}

config box "HostName 127.0.0.1" "Port $main_port" "User $(id -un)" "$known" "$key"
works alias "box:$T/server/store"
ok "by the built-in SSH" test "$log" = "${log/through the ssh program/}"
config box "HostName 127.0.0.1" "Port 9" "$known" "$key"
works port "ssh://box:$main_port$T/server/store"

# Names in known_hosts may be hashed.
cp ssh/known_hosts ssh/plain
ssh-keygen -q -H -f ssh/known_hosts >/dev/null 2>&1
fails "known_hosts is hashed" grep -q 127.0.0.1 ssh/known_hosts
config box "HostName 127.0.0.1" "Port $main_port" "$known" "$key"
works hashed "box:$T/server/store"
# The host may be known by another name.
sed "s/^[^ ]*/the-server/" ssh/plain >ssh/known_hosts
config box "HostName 127.0.0.1" "Port $main_port" "HostKeyAlias the-server" "$known" "$key"
works keyalias "box:$T/server/store"
cp ssh/plain ssh/known_hosts

# An agent, named by the configuration.
eval "$(ssh-agent -s -a "$T/ssh/agent")" >/dev/null
agent=$SSH_AGENT_PID
unset SSH_AUTH_SOCK
at_exit "kill $agent"
try env SSH_AUTH_SOCK="$T/ssh/agent" ssh-add -q ssh/user
config box "HostName 127.0.0.1" "Port $main_port" "IdentityAgent $T/ssh/agent" "IdentityFile none" "$known"
works agent "box:$T/server/store"

# An RSA key: libssh2 can sign with it only in a way that servers refuse.
ssh-keygen -q -t rsa -b 2048 -N '' -f ssh/rsa
cat ssh/rsa.pub >>ssh/authorized_keys
config box "HostName 127.0.0.1" "Port $main_port" "IdentityFile $T/ssh/rsa" "IdentitiesOnly yes" "$known"
works rsa "box:$T/server/store"
like "rsa: which the log says goes through the ssh program" "$log" 'through the ssh program: .*RSA'

# A jump host: two sshd in a row.
sshd_start jump
jump_port=$SSH_PORT
printf 'Host jump\n\tHostName 127.0.0.1\n\tPort %s\n\t%s\n\t%s\n' "$jump_port" "$known" "$key" >ssh/jump
config box "HostName 127.0.0.1" "Port $main_port" "ProxyJump jump" "$known" "$key"
cat ssh/jump >>ssh/config
works jump "box:$T/server/store"
like "jump: the log says how" "$log" 'through the ssh program'
ok "jump: and it did go there" grep -q "Accepted publickey" ssh/log-jump

# By choice.
config box "HostName 127.0.0.1" "Port $main_port" "$known" "$key"
: >ssh/args
works chosen "box:$T/server/store" ssh
if grep -qw aes /proc/cpuinfo; then
	like "the cipher that is fast for much data is preferred" "$(cat ssh/args)" 'Ciphers=aes128-gcm@openssh.com,'
else
	skip "the cipher that is fast for much data is preferred" "this processor does not know AES"
fi
config box "HostName 127.0.0.1" "Port $main_port" "$known" "$key" "Ciphers aes256-ctr,aes128-ctr"
: >ssh/args
works cipher "box:$T/server/store" ssh
is "unless ssh_config does not have it" "$(grep -c Ciphers= ssh/args)" 0
config box "HostName 127.0.0.1" "Port $main_port" "$known" "$key"
works built "box:$T/server/store" ssh2

# IPv6.
if ping -6 -c 1 -w 2 ::1 >/dev/null 2>&1 || ip -6 addr show dev lo 2>/dev/null | grep -q ::1; then
	sshd_start six ::1
	config '*' "$known" "$key"
	works six "ssh://[::1]:$SSH_PORT$T/server/store"
	config box "HostName ::1" "Port $SSH_PORT" "$known" "$key"
	works sixalias "box:$T/server/store"
else
	skip "an IPv6 address" "no ::1 here"
fi

# A key that a server does not know is refused in words, by either way.
: >ssh/authorized_keys
for kind in ssh2 ssh; do
	replica_new no$kind
	try sibfs peer add "$T/no$kind/store" server "ssh://127.0.0.1:$main_port$T/server/store"
	sed -i "s/^url = .*/&\ntransport = $kind/" no$kind/store/.sibfs/config
	config 127.0.0.1 "$known" "$key" "IdentitiesOnly yes"
	replica_mount no$kind
	within 15 "a key that is not allowed: refused by $kind" "[ \"\$(peer_state no$kind server)\" = refused ]"
	like "which says why" "$(status_get no$kind "peers['server']['error']")" '[Kk]ey|[Pp]ermission|[Aa]uth'
	replica_umount no$kind
done
done_testing
