#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A replicator that was stopped cleanly goes on with what was dirty, not with a sync: also when it was stopped with a
# cycle under way, and several times in a row.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((64 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null

nbd_io vm1 vda 'write -P 0x31 3M 4k' 'write -P 0x32 50M 64k' flush
stop_replicator
start_replicator
wait_for 10 connected vm1
is "reason for a sync after a clean stop" "$(protection vm1 .sync_reason)" null
nbd_io vm1 vda 'write -P 0x33 20M 4k'
n=$(cycle vm1)
is "reason of the cycle after a clean stop" "$(protection vm1 .last_cycle.sync_reason)" null
at_most "bytes sent after a clean restart" "$(protection vm1 .last_cycle.wire_bytes)" 200000
at_most "bytes read after a clean restart" "$(protection vm1 .last_cycle.read_bytes)" $((1 << 20))
point_equals vm1 "$n" vda "$W/a.raw"

for i in 1 2 3; do
	nbd_io vm1 vda "write -P $i ${i}0M 1M"
	at_source POST /v1/protections/vm1/cycle >/dev/null # under way, or not, when the stop comes
	stop_replicator
	start_replicator
	wait_for 10 connected vm1
	n=$(cycle vm1)
	is "reason of the cycle after clean stop $i" "$(protection vm1 .last_cycle.sync_reason)" null
	point_equals vm1 "$n" vda "$W/a.raw"
done

# What the table of the status had is there at once, before there is a session: from the state files, and the file of the history.
shown() { kagami status | awk '$1 == "vm1" && $2 != "connected" { print; exit }' | sed -nE 's/^.* of 1h +([0-9]+) +(.*, [0-9.]+ [KM]?i?B)(.*)$/\1|\2|\3/p'; }
before=$(shown)
[ -n "$before" ] || fail "the table has no point, or no last cycle: $(kagami status)"
sent=$(protection vm1 .last_cycle.wire_bytes)
stop_replicator
kill_receiver
start_replicator
is "newest point after a start without its receiver" "$(protection vm1 .point)" "$n"
is "what the last cycle sent, after a start" "$(protection vm1 .last_cycle.wire_bytes)" "$sent"
is "number of a cycle of the run before" "$(protection vm1 .last_cycle.cycle)" null
is "point and last cycle in the table" "$(shown | cut -d'|' -f1,2)" "$(cut -d'|' -f1,2 <<<"$before")"
start_receiver
wait_for 30 connected vm1

# After a crash the point is the newest one, and the cycle is told with the point that it made.
old=$n
n=$(cycle vm1)
[ "$n" -gt "$old" ]
kill_replicator
start_replicator
wait_for 30 connected vm1
is "newest point after a crash" "$(protection vm1 .point)" "$n"
is "point of the last cycle that was saved" "$(protection vm1 .last_cycle.point)" "$old"
[[ $(shown) == "$n|"*"|"*"($old)"* ]] || fail "the table does not say of which point the cycle was: $(kagami status)"
