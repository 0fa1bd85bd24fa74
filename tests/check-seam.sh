#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/check-seam.sh BUILD: proves that the core makes no system call of its own. Every symbol that an object of the core takes
# from outside of the project must be on the list in tests/seam.allow, which has nothing on it that reaches a file, a
# socket, a clock, another process or chance; those come through base/env.h, so that the simulated world can stand for them.
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
bad=0
ours=$(mktemp)
trap 'rm -f "$ours"' EXIT

# What the project defines itself, in any of its objects.
nm --defined-only -o "$build"/obj/{common/base,common/format,common/rpo,common/link,replicator,receiver}/*.o 2>/dev/null |
	awk '$2 ~ /^[TDBRVWtd]$/ || $3 ~ /./ { print $NF }' | grep -v '^clock_' | sort -u >"$ours" # base/clock.h is outside of the seam

core=$(sed -n '/^core:/,/^allowed:/{/^[a-z]*:/d;s/#.*//;p}' tests/seam.allow)
allowed=$(sed -n '/^allowed:/,${/^[a-z]*:/d;s/#.*//;p}' tests/seam.allow | tr -s ' \t\n' ' ')
count=0
for source in $core; do
	object=$build/obj/${source%.c}.o
	if [ ! -e "$object" ]; then
		echo "tests/seam.allow names $source, which is not compiled" >&2
		bad=1
		continue
	fi
	count=$((count + 1))
	for symbol in $(nm -u "$object" | awk '{ print $NF }' | grep -vxFf "$ours"); do
		case " $allowed " in
		*" $symbol "*) ;;
		*)
			echo "$source calls $symbol: the core goes through base/env.h, and tests/seam.allow does not list it" >&2
			bad=1
			;;
		esac
	done
done

# An include that climbs out of its folder would go around the arrows that the Makefile draws.
if grep -rn '#include "\.\./' common replicator receiver tools tests --include='*.[ch]' >&2; then
	bad=1
fi
[ $bad = 0 ] && echo "ok      seam: $count objects of the core make no system call of their own"
exit $bad
