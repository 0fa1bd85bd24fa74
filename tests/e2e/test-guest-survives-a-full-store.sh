#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The store's disk is full: the new point is refused with a clear reason, the old ones stay true, the guest notices nothing,
# and when there is room again replication goes on by itself.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io jq curl

mount -t tmpfs -o size=40M none "$STORE" || skip "cannot mount a tmpfs"
at_end 'umount -l "$STORE"'
new_image "$W/a.raw" $((32 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --codec none >/dev/null
wait_for 30 has_point vm1
first=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.$first"

head -c 28M /dev/urandom >"$W/noise"
nbdcopy "$W/noise" "$(uri vm1 vda)" 2>/dev/null || nbd_io vm1 vda "write -s $W/noise 0 28M"
at_source POST /v1/protections/vm1/cycle >/dev/null
full() { [[ $(protection vm1 '.reason + .last_error') =~ [Ss]pace|full ]]; }
wait_for 30 full
nbd_io vm1 vda 'write -P 0xe1 1M 1M' 'read -P 0xe1 1M 1M' flush
for n in $(points vm1); do
	[ "$n" = "$first" ] && point_equals vm1 "$n" vda "$W/a.$first"
done
is "newest point" "$(newest_point vm1)" "$first"
daemons_alive
kagami status vm1 | grep -qF "the target's store $STORE is full" || fail "kagami status does not say which store is full"

mount -o remount,size=200M "$STORE"
wait_for 60 connected vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$first" vda "$W/a.$first"

# The inodes are used up but for one, and bytes are free: that it is full is told until there is a point, and nothing says that there is room.
roomy() { at_target GET '/v1/events?class=space' | jq '[.events[] | select(.text | test("room again"))] | length'; }
said=$(roomy)
mount -o remount,nr_inodes=$(($(df --output=iused "$STORE" | tail -n 1) + 1)) "$STORE"
nbd_io vm1 vda 'write -P 0xe2 1M 1M' flush
at_source POST /v1/protections/vm1/cycle >/dev/null
limited() { [ "$(replica vm1 .limited)" = target-full ]; }
wait_for 30 limited
wait_for 10 eval 'kagami retention vm1 --points 20 >/dev/null' # a round of retention, at once; what a try makes at that moment may be in its way
sleep 1
limited || fail "a store without inodes is not called full any more"
is "events that there is room" "$(roomy)" "$said"
mount -o remount,nr_inodes=100000 "$STORE"
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
is "limited" "$(replica vm1 .limited)" null
is "events that there is room" "$(roomy)" $((said + 1))
daemons_alive
