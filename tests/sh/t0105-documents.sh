#!/bin/bash
# What the documents list is what there is: commands, settings, source files.
. "$(dirname "$0")/../lib/cluster.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
tmpdir_start

# lacking FILE PATTERN < WORDS: those for which FILE has no line that matches
# PATTERN, in which @ stands for the word.
lacking() {
	local word
	while read -r word; do
		grep -qE -- "${2//@/$word}" "$1" || printf '%s ' "$word"
	done
}

# The files of one layer as the README names them: `stem`, `stem.h` or `part_*`.
unnamed() {
	local file stem
	for file in "$top/$1"/*; do
		stem=$(basename "$file")
		case $stem in
		*.o | *.pb-c.*) continue ;;	# made by the build
		*.[ch]) stem=${stem%.*} ;;
		esac
		grep -qF -e "\`$stem\`" -e "\`$stem.h\`" -e "\`${stem%%_*}_*\`" "$top/README.md" || echo "$stem"
	done | sort -u | paste -sd' '
}

"$SIBFS" --help | sed -n 's/^sibfs \([a-z]*\) [A-Zap].*/\1/p' | grep -vx mounts | sort -u >commands
ok "--help names commands" test "$(wc -l <commands)" -gt 10
is "sibfs(1) has a synopsis of each" "$(sed -n '/^\.Sh SYN/,/^\.Sh DESC/p' "$top/man/sibfs.1" >synopsis
	lacking synopsis '^\.Cm (@|pause \| @)( |$)' <commands)" ""
is "and says what each does" "$(lacking "$top/man/sibfs.1" '^\.It .*Cm @' <commands)" ""
is "the shell completes each" "$(lacking "$top/tools/completions/sibfs" "words='.*\b@\b" <commands)" ""
sed -n '/^set_replica_key/,/^}/p; /^set_peer_key/,/^}/p' "$top/replication/settings.c" |
	sed -n 's/.*strcmp(key, "\([a-z_]*\)").*/\1/p' >keys
ok "there are settings" test "$(wc -l <keys)" -gt 10
is "sibfs.conf(5) has each" "$(lacking "$top/man/sibfs.conf.5" '^\.It Va @' <keys)" ""
for layer in replication fs tools; do
	is "the README says what each file of $layer/ is" "$(unnamed $layer)" ""
done
if command -v man >/dev/null; then
	is "man shows all pages without a warning" "$(for page in "$top"/man/*; do
		man -l --warnings "$page" 2>&1 >/dev/null; done)" ""
fi
done_testing
