#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What other objectives would cost: recorded while a guest writes, kept over a restart, in a table and as JSON.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((64 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
kagami plan vm1 --rpo 15s | grep -q 'Nothing has been recorded' || [ "$(kagami plan vm1 --rpo 15s --json | jq .samples)" -gt 0 ]

# A cut; then 4 MiB at once, and nothing more: that is what any stretch from then on has.
n=$(cycle vm1)
nbd_io vm1 vda 'write -P 0x11 4M 4M'
plan() { kagami plan vm1 --rpo 15s,1m,5m,1h --json | jq -r "$1"; }
wait_for 90 eval '[ "$(plan "all(.plans[]; .delta_bytes >= 1)")" = true ]'
is "plans" "$(plan '.plans | length')" 4
is "RPOs" "$(plan '[.plans[].rpo_ms] | join(" ")')" "15000 60000 300000 3600000"
for i in 0 1 2 3; do
	delta=$(plan ".plans[$i].delta_bytes")
	at_least "bytes of a delta" "$delta" 1
	at_most "bytes of a delta" "$delta" $((64 << 20))
	is "plan $i is kept" "$(plan ".plans[$i].kept")" null # nothing has shown what the line takes
	at_least "points at the target" "$(plan ".plans[$i].retention_bytes")" 1
done
is "rate and smallest RPO" "$(plan '"\(.rate) \(.smallest_rpo_ms)"')" 'null null'
is "why it is not known" "$(plan .smallest_rpo_unknown)" 'no cycle has shown yet what the line takes: the first one of 1 MiB or more does'
kagami plan vm1 --rpo 15s,1h >"$W/table"
grep -q '^The smallest RPO that it keeps is not known: no cycle has shown yet what the line takes' "$W/table" || fail "the table: $(cat "$W/table")"
grep -qE '^15s +\? ' "$W/table" || fail "the table: $(cat "$W/table")"
! grep -q 'present line takes' "$W/table" || fail "the table: $(cat "$W/table")"

# A cycle with those 4 MiB shows it.
cycle vm1 >/dev/null
wait_for 30 eval '[ "$(plan .rate)" != null ]'
is "why it is not known" "$(plan .smallest_rpo_unknown)" null
is "plans that are kept" "$(plan '[.plans[].kept] | all')" true
at_least "smallest RPO" "$(plan .smallest_rpo_ms)" 1000
at_most "smallest RPO" "$(plan .smallest_rpo_ms)" 3600000
kagami plan vm1 --rpo 15s,1h | grep -q 'smallest RPO' || fail "the table: $(kagami plan vm1 --rpo 15s,1h)"
refuses 'out of range' kagami plan vm1 --rpo 10ms
refuses 'rpo' kagami plan vm1
refuses 'no protection' kagami plan other --rpo 1m

before=$(plan .samples)
stop_replicator
start_replicator
wait_for 30 connected vm1
at_least "samples after a restart" "$(plan .samples)" "$before"
daemons_alive
