#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk that cannot grow now: the state directory is full, the receiver hangs in a cycle (409), the receiver's store has no room. Each time the
# reason is said, the guest goes on, and the same command succeeds later.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io jq curl

mount -t tmpfs -o size=512K none "$STATE" || skip "cannot mount a tmpfs"
at_end 'umount -l "$STATE"'
mount -t tmpfs -o size=40M none "$STORE" || skip "cannot mount a tmpfs"
at_end 'umount -l "$STORE"'
chmod 700 "$STATE"
fill() { # DIRECTORY
	dd if=/dev/zero of="$1/filler" bs=4k status=none 2>/dev/null || true
}
new_image "$W/a.raw" $((16 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null

# The state directory is full.
fill "$STATE"
refuses 'no space' kagami resize vm1 vda --size 24M
is "size after a refusal" "$(protection vm1 '.disks[0].size_bytes')" $((16 << 20))
is "length of the image after a refusal" "$(stat -c %s "$W/a.raw")" $((16 << 20))
is "tracking_lost after a refusal" "$(protection vm1 '.disks[0].tracking_lost')" false
nbd_io vm1 vda 'write -P 0x11 1M 64k' flush
rm "$STATE/filler"
kagami resize vm1 vda --size 24M >/dev/null
is "size" "$(protection vm1 '.disks[0].size_bytes')" $((24 << 20))
wait_for 20 connected vm1
cycle vm1 >/dev/null

# The receiver hangs in the middle of a cycle.
kill -STOP "$RECEIVER"
at_end 'kill -CONT $RECEIVER'
nbd_io vm1 vda 'write -P 0x12 20M 64k' flush
at_source POST /v1/protections/vm1/cycle >/dev/null
in_cycle() { [[ $(protection vm1 .state) =~ shipping|committing|syncing|cutting ]]; }
wait_for 10 in_cycle
code=$(curl -s -o "$W/answer" -w '%{http_code}' --max-time 60 --unix-socket "$KAGAMI_RUN_DIR/replicator.sock" -H 'Content-Type: application/json' \
	-d "{\"disk\": \"vda\", \"size_bytes\": $((32 << 20))}" http://localhost/v1/protections/vm1/resize)
is "status of a resize in a cycle that hangs: $(cat "$W/answer")" "$code" 409
grep -q 'kagami pause' "$W/answer" || fail "the answer does not say what to do: $(cat "$W/answer")"
is "size after it" "$(protection vm1 '.disks[0].size_bytes')" $((24 << 20))
kill -CONT "$RECEIVER"
wait_for 30 connected vm1
cycle vm1 >/dev/null
is "size after the cycle went on" "$(protection vm1 '.disks[0].size_bytes')" $((24 << 20))
kagami resize vm1 vda --size 32M >/dev/null
wait_for 20 connected vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

# The receiver has no room to write the new size down: the source serves it, and says why there is no point.
rm "$STORE/vm1/protection.json.copy" # what it takes would be room enough
fill "$STORE"
kagami resize vm1 vda --size 40M >/dev/null
nbd_io vm1 vda 'write -P 0x13 39M 64k' 'read -P 0x13 39M 64k' flush
full() { [[ $(protection vm1 '.reason + .last_error') =~ is\ full ]]; }
wait_for 30 full
is "size at the receiver" "$(replica vm1 '.disks[0].size_bytes')" $((32 << 20))
is "newest point" "$(newest_point vm1)" "$n"
kagami resize vm1 vda --size 44M >/dev/null || true # perhaps while it connects
rm "$STORE/filler"
wait_for 60 connected vm1
[ "$(protection vm1 '.disks[0].size_bytes')" = $((44 << 20)) ] || kagami resize vm1 vda --size 44M >/dev/null
wait_for 60 connected vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
is "size at the receiver when there is room" "$(replica vm1 '.disks[0].size_bytes')" $((44 << 20))
daemons_alive
