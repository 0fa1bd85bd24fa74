#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A state directory that takes no more writes costs the guest nothing: its I/O and the points go on, the status says that a
# sync is needed, why and since when; the next start compares the whole disk for that reason, and after it all is well.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl
requires_root

# Not a byte more.
fill() {
	dd if=/dev/zero of="$STATE/filler" bs=64k status=none 2>/dev/null || true
	dd if=/dev/zero of="$STATE/filler2" bs=512 status=none 2>/dev/null || true
}

# A small file system of its own as the state directory: to be filled, and then to be broken.
mount_state() {
	mount -t ext4 -o loop "$W/state.img" "$STATE"
}
truncate -s 8M "$W/state.img"
mkfs.ext4 -q -F -m 0 "$W/state.img" 2>/dev/null || skip "needs mkfs.ext4"
mount_state 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$STATE'"
chmod 700 "$STATE"

# Every write and sync on it fails from here on (EXT4_IOC_SHUTDOWN, as at a dead disk).
break_state() {
	/usr/bin/python3 - "$STATE" <<-'END'
		import fcntl, os, struct, sys
		fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack("I", 2))
	END
}

new_image "$W/a.raw" $((64 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null
is "tracking_lost while all is well" "$(protection vm1 '.disks[0].tracking_lost')" false
is "needs_sync while all is well" "$(protection vm1 .needs_sync)" null

# Full: marks and positions need no new space.
dd if=/dev/zero of="$STATE/filler" bs=64k status=none 2>/dev/null || true
nbd_io vm1 vda 'write -P 0x61 9M 64k' flush
cycle vm1 >/dev/null
is "tracking_lost with a full state directory" "$(protection vm1 '.disks[0].tracking_lost')" false
nbd_io vm1 vda 'write -P 0x62 13M 64k' flush
kill_replicator
rm "$STATE/filler"
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after a kill with a full state directory" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
point_equals vm1 "$n" vda "$W/a.raw"

# Full at the start as well: the file of the new run cannot be made, which this process's maps need not. The doubt that it raises is its own.
nbd_io vm1 vda 'write -P 0x67 21M 64k' flush
kill_replicator
fill
start_replicator
is "tracking_lost of a start in a full state directory" "$(protection vm1 '.disks[0].tracking_lost')" true
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after a start in a full state directory" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
point_equals vm1 "$n" vda "$W/a.raw"
told() { grep -q 'the receiver knows that tracking is lost protection=vm1' "$W/kagami-replicator.log"; }
wait_for 20 told
kill_replicator
rm "$STATE/filler" "$STATE/filler2"
start_replicator
wait_for 10 connected vm1
cycle vm1 >/dev/null
is "reason of the start after it, as was said" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" tracking-lost

# Broken: the mark of a new region cannot be made. The guest goes on, and so do the points.
again() { grep -c 'events are written again' "$W/kagami-replicator.log" || true; }
break_state || skip "this kernel cannot break a file system for a test"
said=$(again)
nbd_io vm1 vda 'write -P 0x63 33M 64k' 'read -P 0x63 33M 64k' flush
is "tracking_lost with a broken state directory" "$(protection vm1 '.disks[0].tracking_lost')" true
protection vm1 .needs_sync | grep -q 'disk vda: .*since 20.*restart the replicator' || fail "needs_sync says: $(protection vm1 .needs_sync)"
kagami status | grep -q 'needs a sync' || fail "kagami status does not say that a sync is needed: $(kagami status)"
is "price of a crash: the whole disk" "$(protection vm1 .crash_price.reread_bytes)" $((64 << 20))
nbd_io vm1 vda 'write -P 0x64 45M 128k' flush
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
is "reason of a cycle in the same run" "$(protection vm1 .last_cycle.sync_reason)" null

sleep 6 # an event, or a sync of none, is tried every 5 s
is "times that events were written again to a broken state directory" "$(again)" "$said"

# The disk under the state directory is mended, but the files on it are of before: nothing on them may be believed.
nbd_io vm1 vda 'write -P 0x65 53M 64k' flush
kill_replicator
umount "$STATE"
mount_state
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after tracking was lost" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" tracking-lost
at_least "bytes read by the sync after it" "$(kagami syncs vm1 --json | jq -r '.syncs[0].read_bytes')" $((64 << 20))
point_equals vm1 "$n" vda "$W/a.raw"
is "needs_sync after the sync" "$(protection vm1 .needs_sync)" null
stop_replicator
start_replicator
wait_for 10 connected vm1
is "reason for a sync after the next clean stop" "$(protection vm1 .sync_reason)" null

# A stop that cannot write says so, and is no clean one; what it costs is what is marked.
nbd_io vm1 vda 'write -P 0x66 57M 64k' flush
break_state
kill "$REPLICATOR"
status=0
wait "$REPLICATOR" || status=$?
is "exit status of a stop whose state was not saved" $status 3
grep -q 'the state of a protection was not saved.*protection=vm1' "$W/kagami-replicator.log" || fail "the log does not say whose state was not saved"
grep -q 'stopped, but not cleanly' "$W/kagami-replicator.log" || fail "the log does not say what it means"
umount "$STATE"
mount_state
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after it" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
at_most "compared after it" "$(kagami syncs vm1 --json | jq '.syncs[0].read_bytes')" $((16 << 20))
point_equals vm1 "$n" vda "$W/a.raw"
