#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A host that dies while its state directory hangs leaves a state file that knows nothing of the last writes, and no note. The receiver was
# told before those writes went on: the next start compares the disk, once, for that reason. Where the receiver could not be told, the
# status says what that means, and it is told as soon as it can be.
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
told() { # INDEX
	[ "$(protection vm1 ".disks[$1].tracking_told")" = true ]
}
doubted() { # INDEX: whether the target says so
	at_target GET /v1/protections | jq -r ".protections[] | select(.name == \"vm1\") | .disks[$1].doubted"
}
# The host's power: what was in memory is gone, and the state files are as the disk has them.
host_dies() {
	mkdir "$W/then"
	cp "$STATE"/protections/vm1/*.state "$W/then"
	kill -9 "$REPLICATOR"
	fsfreeze -u "$STATE"
	kill $thaw
	wait "$REPLICATOR" 2>/dev/null || true
	cp "$W/then"/*.state "$STATE/protections/vm1/"
	rm -r "$W/then" "$KAGAMI_RUN_DIR/lost"
}
reason() {
	kagami syncs vm1 --json | jq -r '.syncs[0].reason'
}

new_image "$W/a.raw" $((64 << 20))
new_image "$W/b.raw" $((64 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 0x60 1M 64k' flush
nbd_io vm1 vdb 'write -P 0x60 1M 64k' flush
is "tracking_told while all is well" "$(protection vm1 .disks[0].tracking_told)" null
is "doubted while all is well" "$(doubted 0)" false

freeze
nbd_io vm1 vda 'write -P 0x61 33M 64k' 'read -P 0x61 33M 64k' flush
told 0 || fail "the write went on before the receiver knew"
is "vda: doubted at the target" "$(doubted 0)" true
is "vdb: doubted at the target" "$(doubted 1)" false
kagami status vm1 | grep -q 'the source lost track of disk vda' || fail "kagami status does not tell of the doubt: $(kagami status vm1)"
is "bytes that a crash has compared" "$(protection vm1 .crash_price.reread_bytes)" $(((64 << 20) + (4 << 20)))
nbd_io vm1 vda 'write -P 0x63 45M 64k' flush
kill_receiver # and it keeps that
start_receiver
is "vda: doubted after the receiver was killed" "$(doubted 0)" true
host_dies

start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason" "$(reason)" tracking-doubt
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
is "vda: doubted after the sync" "$(doubted 0)" false
read_bytes=$(kagami syncs vm1 --json | jq '.syncs[0].read_bytes')
is "bytes that a crash has compared after the sync" "$(protection vm1 .crash_price.reread_bytes)" "$(protection vm1 '[.disks[].marked_regions] | add * 4194304')"
at_most "bytes read by the sync: one disk, and the marked regions of the other" "$read_bytes" $(((64 << 20) + (8 << 20)))
kill_replicator
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason of the start after that" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
point_equals vm1 "$n" vda "$W/a.raw"

# The receiver is away: the guest goes on, the status says that no start would know, and a try that gets through ends that.
kill_receiver
freeze
nbd_io vm1 vdb 'write -P 0x64 21M 64k' flush
is "vdb: tracking_told without a receiver" "$(protection vm1 .disks[1].tracking_told)" false
protection vm1 .needs_sync | grep -q 'disk vdb: .* neither its state file nor the receiver says so yet.*remove protections/vm1/vdb.state' ||
	fail "needs_sync says: $(protection vm1 .needs_sync)"
kagami status | grep -q 'neither its state file nor the receiver' || fail "kagami status does not say it: $(kagami status)"
start_receiver
wait_for 60 told 1
is "vdb: doubted" "$(doubted 1)" true
nbd_io vm1 vdb 'write -P 0x65 57M 64k' flush
host_dies
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason" "$(reason)" tracking-doubt
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
is "vdb: doubted after the sync" "$(doubted 1)" false
daemons_alive
