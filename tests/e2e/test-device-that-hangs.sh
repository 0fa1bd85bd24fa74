#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block device opens at once, whatever hangs under it: who protects it is told that it hangs, and how to see what became of it; so is who looks at a start.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl losetup blockdev
mount_hangable "$W/hung.raw" $((32 << 20))

new_image "$W/b.raw" $((32 << 20)) 2
device=$(losetup --show -f "$W/hung.raw") || skip "needs a free loop device"
at_end "losetup -d $device"
start_receiver
start_replicator --stop-wait 6
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm2

# The command line has no more to look at than its name: the replicator reads it, and is not waited for for ever.
blockdev --flushbufs "$device"
for ends in well badly; do
	kill -STOP $server
	status=0
	timeout 60 kagami protect vm3 vda="$device" --to dr --rpo 1h >"$W/out" 2>"$W/err" || status=$?
	is "exit status of protect with a device that hangs" $status 4
	grep -q "no answer within 15 s: the image $device of disk vda does not answer: see to the storage under it. The replicator goes on .*kagami status vm3" "$W/err" ||
		fail "protect says: $(cat "$W/err")"
	is "state of what is being protected" "$(protection vm3 .state)" starting
	kill -CONT $server
	if [ $ends = well ]; then
		wait_for 30 has_point vm3
		kagami unprotect vm3 --yes >/dev/null
		dd if=/dev/zero of="$device" bs=1M count=1 conv=fsync status=none
		printf conectix | dd of="$device" conv=notrunc,fsync status=none
		blockdev --flushbufs "$device"
	fi
done
ended_badly() { kagami events | grep -q 'vm3 is not protected, as was asked for: .* is a VHD'; }
wait_for 15 ended_badly
is "protections" "$(at_source GET /v1/protections | jq -c '[.protections[].name]')" '["vm2"]'
kagami protect vm4 vda="$device" --to dr --rpo 1h --force >/dev/null
wait_for 30 has_point vm4

# At a start it is synced, before anything is asked of it.
kill_replicator
kill -STOP $server
start_replicator --stop-wait 6
says_device() { [ "$(protection vm4 .state)" = starting ] && protection vm4 '.why[0].text' | grep -q "the image $device of disk vda does not answer"; }
wait_for 20 says_device
timeout 30 kagami cycle vm2 --wait >/dev/null || fail "vm2 gets no point"
kill -CONT $server
wait_for 30 connected vm4
kagami unprotect vm4 --yes >/dev/null
stop_replicator
