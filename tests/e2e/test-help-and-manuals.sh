#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a stranger reads first: every help fits into 80 columns, names every option that its manual has and the other way round, and the manuals are sound.
. "$(dirname "$0")/lib.sh"
requires mandoc

pages=$root/docs/man
fits() { # NAME FILE
	at_most "widest line of $1: $(awk 'length > 80' "$2" | head -n 1)" "$(awk '{ if (length > n) n = length } END { print n + 0 }' "$2")" 80
	! grep -qE '[[:space:]]$' "$2" || fail "$1 has blanks at the end of a line: $(grep -nE '[[:space:]]$' "$2" | head -n 1)"
	! grep -q "$(printf '\t')" "$2" || fail "$1 has tabs"
}
options() { { grep -oE -- '--[a-z][a-z-]*' || true; } | sort -u; }
of_manual() { mandoc -T ascii "$1" | col -b | options; }

kagami --help >"$W/help"
fits "kagami --help" "$W/help"
mapfile -t commands < <(sed -nE 's/^  ([a-z-]+) +[^ ].*$/\1/p' "$W/help")
at_least "commands of kagami" ${#commands[@]} 35
of_manual "$pages/kagami.1" >"$W/manual"
for command in "${commands[@]}"; do
	kagami "$command" --help >"$W/one"
	fits "kagami $command --help" "$W/one"
	grep -q "^usage: kagami $command\\b" "$W/one" || fail "kagami $command --help does not begin with how it is used"
	grep -qE "^\.It Ic $command( |\$)" "$pages/kagami.1" || fail "kagami.1 has no $command"
	missing=$(sed -n '/^usage:/,/^$/p' "$W/one" | options | comm -23 - "$W/manual")
	is "options of kagami $command that its manual lacks" "$missing" ""
	kagami "$command" --no-such-option >/dev/null 2>"$W/misused" || true
	fits "what is said of a misused kagami $command" "$W/misused"
done

for daemon in kagami-replicator kagami-receiver; do
	$daemon --help >"$W/one"
	fits "$daemon --help" "$W/one"
	is "options of $daemon that its help and its manual do not share" \
		"$(comm -3 <(options <"$W/one") <(grep '^\.It Fl Fl' "$pages/$daemon.8" | sed 's/Fl Fl /--/g' | options) | tr -d '\t\n')" ""
	# The column of what an option is for is the same for all of them.
	is "columns of the options of $daemon" "$(sed -nE 's/^(  --[a-z-]+ [A-Za-z:]+ +).*$/\1/p' "$W/one" | awk '{ print length }' | sort -u | wc -l)" 1
done
kagami-load --help >"$W/one"
fits "kagami-load --help" "$W/one"

for page in "$pages"/*.[18]; do
	warnings=$(cd "$pages" && mandoc -T lint -W warning "${page##*/}" 2>&1) || true
	is "warnings of mandoc" "$warnings" ""
done
