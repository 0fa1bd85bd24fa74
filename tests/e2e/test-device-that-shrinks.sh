#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block device that becomes smaller while it is served gives no point, and says why; when it has its size again, all of its disk is compared, and the next point is
# what it holds now.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl losetup
requires_root

file=$W/a.raw
new_image "$file" $((32 << 20))
loop_device "$file"
start_pair
kagami protect vm1 vda="$device" --to dr --rpo 1s >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 7 20M 1M' flush >/dev/null
point_equals vm1 "$(cycle vm1)" vda "$file"

truncate -s 16M "$file"
losetup -c "$device"
says_why() { protection vm1 .reason | grep -q 'the image of disk vda was cut from 33554432 to 16777216 bytes'; }
wait_for 30 says_why
stuck=$(newest_point vm1)
sleep 2.5 # more than two objectives
is 'the newest point while the device is short' "$(newest_point vm1)" "$stuck"

truncate -s 32M "$file" # zeros where the guest's data was
losetup -c "$device"
went_on() { [ "$(newest_point vm1)" -gt "$stuck" ]; }
wait_for 30 went_on
cmp "$device" "$file" || fail "the device shows what is no more"
is 'reason of the sync' "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" image-changed
point_equals vm1 "$(cycle vm1)" vda "$file"
daemons_alive
