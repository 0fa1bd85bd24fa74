#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/sim-seeds.sh PROGRAM SEEDS: makes seeds 1 to SEEDS of the simulation, in as many processes as there are processors, and says which
# failed: each is replayed by SEED=n PROGRAM. With SEED set only that one runs. Tells how often each fault and each reason for a sync happened;
# over EVERYTHING seeds or more all of them must have.
set -u
program=$1 seeds=$2 EVERYTHING=1000
[ -n "${SEED:-}" ] && exec "$program"
jobs=$(nproc)
share=$(((seeds + jobs - 1) / jobs))
out=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$out"' EXIT
for ((job = 0; job < jobs; job++)); do
	first=$((job * share + 1))
	count=$((first + share > seeds + 1 ? seeds + 1 - first : share))
	[ $count -gt 0 ] || continue
	KAGAMI_SIM_FIRST=$first KAGAMI_SIM_SEEDS=$count "$program" >"$out/$job" 2>&1 &
done
bad=0
for pid in $(jobs -p); do
	wait "$pid" || bad=$((bad + 1))
done
grep -h '^#' "$out"/* | grep -v '^# happened'
sed -n 's/^# happened //p' "$out"/* | awk '{ n[$1] += $2 } END { for (what in n) printf "# %-40s %d\n", what, n[what] }' | sort >"$out/sum"
cat "$out/sum"
if [ $bad = 0 ] && [ "$seeds" -ge $EVERYTHING ] && never=$(awk '$3 == 0 { print $2 }' "$out/sum") && [ -n "$never" ]; then
	echo "not ok  simulation: never happened:" $never
	bad=1
fi
[ $bad = 0 ] && echo "ok      simulation: $seeds seeds"
exit $((bad > 0))
