#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A state directory that does not answer makes a guest's write wait for a bounded time, and no longer: then the disk's tracking is
# lost, the status says so and why, and the next start compares the whole disk, whether the directory came back before or not.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl fsfreeze
requires_root

truncate -s 32M "$W/state.img"
mkfs.ext4 -q -F "$W/state.img" 2>/dev/null || skip "needs mkfs.ext4"
mount -t ext4 -o loop "$W/state.img" "$STATE" 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$STATE'"
at_end "fsfreeze -u '$STATE'"
chmod 700 "$STATE"

freeze() {
	fsfreeze -f "$STATE" || skip "this kernel cannot freeze a file system for a test"
	(sleep 120 && fsfreeze -u "$STATE") >/dev/null 2>&1 & # whatever happens here
	thaw=$!
	pids+=($thaw)
}
unfreeze() {
	fsfreeze -u "$STATE"
	kill $thaw
}

new_image "$W/a.raw" $((64 << 20))
new_image "$W/b.raw" $((64 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null
for disk in vda vdb; do
	nbd_io vm1 $disk 'write -P 0x60 1M 64k' flush
done

lost() { # INDEX
	protection vm1 ".disks[$1].tracking_lost"
}

# The write to a region without a mark is answered while the directory hangs; the other disk keeps its marks.
freeze
nbd_io vm1 vda 'write -P 0x61 33M 64k' 'read -P 0x61 33M 64k' flush
nbd_io vm1 vdb 'write -P 0x62 1M 64k' flush # marked before
is "vda: tracking_lost" "$(lost 0)" true
is "vdb: tracking_lost" "$(lost 1)" false
protection vm1 .needs_sync | grep -qE 'disk vda: .*the state directory has not answered for [5-9] s' ||
	fail "needs_sync says: $(protection vm1 .needs_sync)"
kagami status | grep -q 'needs a sync' || fail "kagami status does not say that a sync is needed: $(kagami status)"
[ -e "$KAGAMI_RUN_DIR/lost/vm1:vda" ] || fail "there is no note for the next start"
[ ! -e "$KAGAMI_RUN_DIR/lost/vm1:vdb" ] || fail "there is a note for a disk that lost nothing"
nbd_io vm1 vda 'write -P 0x63 45M 64k' flush # nobody waits a second time

# Killed while it hangs. A thread inside of the frozen file system ends when that thaws, and does nothing any more.
kill -9 "$REPLICATOR"
unfreeze
wait "$REPLICATOR" 2>/dev/null || true
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after the kill" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" tracking-lost
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
is "needs_sync after the sync" "$(protection vm1 .needs_sync)" null

# It answers again: points go on, and the file itself says that it is not to be believed, without the note.
freeze
nbd_io vm1 vda 'write -P 0x64 21M 64k' flush
is "vda: tracking_lost for the second time" "$(lost 0)" true
unfreeze
said() {
	protection vm1 .disks[0].tracking_error | grep -q '(since 20'
}
wait_for 20 said
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
nbd_io vm1 vda 'write -P 0x65 57M 64k' flush
kill_replicator
rm "$KAGAMI_RUN_DIR/lost/vm1:vda" # as a reboot does
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason by the file alone" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" tracking-lost
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"

# The records of ages are written every minute, and wait: whoever asks for the status does not. It thaws by itself long after.
freeze
for _ in {1..14}; do
	sleep 5
	timeout 20 kagami status >/dev/null || fail "the status is not answered while the state directory hangs"
done
unfreeze
daemons_alive
