#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The host loses its power a moment after a clean stop. What the guest wrote last moved nothing of the image but its times, which its file system keeps in memory
# for a while: they are on the disk by then all the same, and the next start compares nothing.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl
requires_root

truncate -s 256M "$W/disk.img"
mkfs.ext4 -q -F "$W/disk.img" 2>/dev/null || skip "needs mkfs.ext4"
mkdir "$W/d"
loop=$(losetup --show -f "$W/disk.img" 2>/dev/null) || skip "cannot make a loop device here"
at_end "losetup -d $loop"
mount -t ext4 -o commit=300 "$loop" "$W/d" 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$W/d'"

new_image "$W/d/a.raw" $((64 << 20))
head -c $((16 << 20)) /dev/urandom | dd of="$W/d/a.raw" bs=1M conv=notrunc status=none
sync -f "$W/d"
start_pair
kagami protect vm1 vda="$W/d/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 1 1M 64k' flush
cycle vm1 >/dev/null
nbd_io vm1 vda 'write -P 2 3M 64k' flush
was=$(stat -c %z "$W/d/a.raw")
stop_replicator

# What the disk has, and not what memory has.
cp --sparse=always "$W/disk.img" "$W/then.img"
umount "$W/d"
losetup -d "$loop"
mv "$W/then.img" "$W/disk.img"
losetup "$loop" "$W/disk.img"
mount -t ext4 "$loop" "$W/d"
rm -rf "${KAGAMI_RUN_DIR:?}"/{rest,state,lost}
is "time of the last change after the power cut" "$(stat -c %z "$W/d/a.raw")" "$was"

start_replicator
wait_for 15 connected vm1
n=$(cycle vm1)
is "reason of the cycle after it" "$(protection vm1 .last_cycle.sync_reason)" null
is "bytes read by it" "$(protection vm1 .last_cycle.read_bytes)" 65536
point_equals vm1 "$n" vda "$W/d/a.raw"
daemons_alive
