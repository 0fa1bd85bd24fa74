#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A receiver that is stopped or killed, also in the middle of a sync or a cycle, comes back with every point it had, and the
# source goes on by itself.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((96 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
kill_receiver # in the initial sync, most likely
start_receiver
wait_for 60 has_point vm1
n=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.$n"
point_equals vm1 "$n" vda "$W/a.$n"
first=$n

for how in stop_receiver kill_receiver kill_receiver; do
	nbd_io vm1 vda "write -P 0x5$((n % 10)) $((n % 30))M 12M"
	at_source POST /v1/protections/vm1/cycle >/dev/null
	$how
	nbd_io vm1 vda 'write -P 0x66 70M 64k' # the guest does not notice
	start_receiver
	point_equals vm1 "$first" vda "$W/a.$first"
	wait_for 60 connected vm1
	n=$(cycle vm1)
	point_equals vm1 "$n" vda "$W/a.raw"
	is "reason of the cycle after $how" "$(protection vm1 .last_cycle.sync_reason)" null
	at_most "bytes read by the cycle after $how" "$(protection vm1 .last_cycle.read_bytes)" $((32 << 20))
done
daemons_alive
