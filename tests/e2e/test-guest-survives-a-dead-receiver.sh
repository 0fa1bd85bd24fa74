#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The guest's reads and writes go on when the receiver is dead or stopped in its tracks, from before the first point on; the
# status says what is wrong; and once it is back the points continue.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((48 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1s >/dev/null
wait_for 30 has_point vm1

guest_works() { # PATTERN
	timeout 20 bash -c "$(declare -f nbd_io uri protection value_of api fail); W=$W build=$build
		nbd_io vm1 vda 'write -P $1 3M 8M' 'read -P $1 3M 8M' flush" || fail "the guest waits"
}

kill -STOP "$RECEIVER" # takes connections and answers nothing
at_source POST /v1/protections/vm1/cycle >/dev/null
guest_works 0xd1
guest_works 0xd2
kill -CONT "$RECEIVER"
wait_for 60 connected vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

kill_receiver
guest_works 0xd3
violated() { [ "$(protection vm1 .rpo_violated)" = true ]; }
wait_for 10 violated
[ -n "$(protection vm1 .reason)" ] || fail "the receiver is dead, and the status has no reason"
guest_works 0xd4

# Restarted without a receiver: the guest can attach, and nothing is forgotten.
stop_replicator
start_replicator
guest_works 0xd5
start_receiver
wait_for 60 connected vm1
n=$(cycle vm1)
is "reason of the cycle after that" "$(protection vm1 .last_cycle.sync_reason)" null
point_equals vm1 "$n" vda "$W/a.raw"
healthy() { [ "$(protection vm1 .rpo_violated)" = false ] && [ -z "$(protection vm1 .reason)" ]; }
wait_for 10 healthy
