#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A replicator killed while a guest writes loses track of nothing: it compares the marked regions and nothing else, says why,
# sends only what differs, and the next point is the disk.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((64 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
first=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.$first"

marked() { # NAME: regions of its first disk
	protection "$1" '.disks[0].marked_regions'
}
written() { # NAME: its guest has written since the replicator started
	[ "$(protection "$1" '.disks[0].writes')" -gt 0 ]
}
newest_sync() { # NAME FILTER
	kagami syncs "$1" --json | jq -r ".syncs[0] | $2"
}

# What the marks would cost is shown before it is paid.
is "reason of the first sync" "$(newest_sync vm1 .reason)" initial
is "price in bytes" "$(protection vm1 .crash_price.reread_bytes)" $(($(marked vm1) * 4194304))
is "price in seconds is measured" "$(protection vm1 '.crash_price.seconds != null')" true

for i in 1 2 3; do
	qemu-io -f raw -c "write -P 0x4$i ${i}M 256k" -c 'sleep 60000' "$(uri vm1 vda)" >/dev/null 2>&1 &
	pids+=($!)
	wait_for 30 written vm1
	at_source POST /v1/protections/vm1/cycle >/dev/null
	kill_replicator
	start_replicator
	candidates=$(grep 'reason=unclean-stop' "$W/kagami-replicator.log" | tail -n 1 | sed 's/.*candidates=//')
	at_most "marked bytes, of 64 MiB" "$candidates" $((4 * 4194304))
	wait_for 10 connected vm1
	n=$(cycle vm1)
	# The sync may be the cycle that held the request, or one that had committed before it.
	log=$(grep -c 'unclean-stop' "$W/kagami-replicator.log") || true
	at_least "times that the log names the reason" "$log" "$i"
	is "reason of the newest sync" "$(newest_sync vm1 .reason)" unclean-stop
	is "its outcome" "$(newest_sync vm1 .outcome)" committed
	# The guest wrote to one region; the region of the round before may have kept its mark.
	is "bytes that were to be compared" "$(newest_sync vm1 .candidate_bytes)" "$candidates"
	at_least "bytes examined" "$(newest_sync vm1 .read_bytes)" 4194304
	at_most "bytes examined, of 64 MiB" "$(newest_sync vm1 .read_bytes)" "$candidates"
	point_equals vm1 "$n" vda "$W/a.raw"
	at_most "bytes sent by a sync of 256 KiB that differ" "$(protection vm1 .last_cycle.wire_bytes)" 500000
done
is "reason of the cycle after that" "$(cycle vm1 >/dev/null && protection vm1 .last_cycle.sync_reason)" null
point_equals vm1 "$first" vda "$W/a.$first"

kagami syncs vm1 | grep -q unclean-stop || fail "kagami syncs does not list the reason: $(kagami syncs vm1)"
is "syncs on record" "$(kagami syncs vm1 --json | jq '.syncs | length')" 4

# Killed before the first point: the initial sync starts again.
new_image "$W/b.raw" $((64 << 20)) 2
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
kill_replicator
start_replicator
wait_for 10 connected vm2
n=$(cycle vm2)
point_equals vm2 "$n" vda "$W/b.raw"
