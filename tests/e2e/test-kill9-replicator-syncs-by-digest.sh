#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A replicator killed while a guest writes loses track of nothing: it compares digests, says why, sends only what differs,
# and the next point is the disk.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((64 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
first=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.$first"

for i in 1 2 3; do
	qemu-io -f raw -c "write -P 0x4$i ${i}M 256k" -c 'sleep 60000' "$(uri vm1 vda)" >/dev/null 2>&1 &
	pids+=($!)
	sleep 0.3
	at_source POST /v1/protections/vm1/cycle >/dev/null
	kill_replicator
	start_replicator
	wait_for 10 connected vm1
	n=$(cycle vm1)
	# The sync may be the cycle that held the request, or one that had committed before it.
	log=$(grep -c 'unclean-stop' "$W/kagami-replicator.log") || true
	at_least "times that the log names the reason" "$log" "$i"
	point_equals vm1 "$n" vda "$W/a.raw"
	at_most "bytes sent by a sync of 256 KiB that differ" "$(protection vm1 .last_cycle.wire_bytes)" 500000
done
is "reason of the cycle after that" "$(cycle vm1 >/dev/null && protection vm1 .last_cycle.sync_reason)" null
point_equals vm1 "$first" vda "$W/a.$first"

# Killed before the first point: the initial sync starts again.
new_image "$W/b.raw" $((64 << 20)) 2
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
kill_replicator
start_replicator
wait_for 10 connected vm2
n=$(cycle vm2)
point_equals vm2 "$n" vda "$W/b.raw"
