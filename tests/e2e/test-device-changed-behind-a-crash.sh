#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The image is a block device. The agent is killed, and somebody else writes to the device before it is started again: past the page cache, through it, and
# left there, to what lies beneath it. Each is seen, and the next point is the disk; a device that nobody wrote to costs the marked regions alone, and one of which nobody knows
# since the agent died between a write and its sync costs all of it.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl losetup
requires_root

file=$W/a.raw
new_image "$file" $((32 << 20))
loop_device "$file"
[ "$(cat "/sys/block/$(basename "$device")/queue/iostats")" = 1 ] || skip "the kernel does not count what is written to $device"
dd if=/dev/urandom of="$device" bs=64k count=1 conv=fsync status=none # so it has counted something
start_pair
kagami protect vm1 vda="$device" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

# What is written to the file beneath, or by another loop device over it, would not be tracked.
refuses "is in use, and it is the file under the loop device $device: .*losetup -d $device" kagami protect vm2 vda="$file" --to dr --rpo 1h
second=$(losetup --show -f "$file")
at_end 'losetup -d $second'
refuses 'the file under the loop device .* is in use' kagami protect vm2 vda="$second" --to dr --rpo 1h
losetup -d "$second"
second= # by now its name may be another's

image=$device
price() { is "what a death of the host would cost" "$(at_source GET /v1/protections/vm1 | jq .crash_price.reread_bytes)" $((32 << 20)); }
before_death=price

after_death unclean-stop 'nothing' true
after_death image-changed 'it was written directly' 'printf "%512s" X | dd of="$device" bs=512 seek=60000 oflag=direct status=none'
after_death image-changed 'it was written through the page cache' 'printf Y | dd of="$device" bs=1 seek=31000000 conv=notrunc,fsync status=none'
after_death unclean-stop 'it was read' 'cat "$device" >/dev/null'
after_death image-changed 'a write was left in the page cache' 'exec 9<>"$device"; printf Z | dd of="$device" bs=1 seek=31000001 conv=notrunc status=none; exec 9>&-'
after_death image-changed 'it was discarded' 'blkdiscard -o $((16 << 20)) -l $((1 << 20)) "$device"'
after_death image-changed 'it was attached anew' 'losetup -d "$device"; losetup "$device" "$file"; dd if=/dev/urandom of="$device" bs=64k count=1 conv=fsync status=none'
after_death image-changed 'its note was lost' 'rm -r "$KAGAMI_RUN_DIR/rest"'
after_death image-changed 'the file beneath was written' 'printf X | dd of="$file" bs=1 seek=31000000 conv=notrunc,fsync status=none'
after_death unclean-stop 'nothing again' true

syncs() { at_source GET /v1/protections/vm1/syncs | jq '.syncs | length'; }

# A stop in order: the map is the truth, and there is no sync.
before=$(syncs)
nbd_io vm1 vda 'write -P 77 20M 64k'
stop_replicator
start_replicator
wait_for 15 connected vm1
n=$(cycle vm1)
is "syncs after a stop in order" "$(syncs)" "$before"
point_equals vm1 "$n" vda "$device"

ends=stop_replicator
after_death image-changed 'it was written, after a stop in order' 'printf Q | dd of="$device" bs=1 seek=31000000 conv=notrunc,fsync status=none'
after_death image-changed 'a backup was copied over the file beneath, after a stop in order' 'cp --sparse=always "$file" "$W/backup"; printf R | dd of="$W/backup" bs=1 seek=31000000 conv=notrunc status=none; dd if="$W/backup" of="$file" bs=1M conv=notrunc,fsync status=none'
daemons_alive
