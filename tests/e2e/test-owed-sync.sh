#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A sync that a start found to be due, and that came to no point before the agent stopped, failed or was killed, is recorded under its own reason by the
# start that makes it (B5).
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((8 << 20)) 2
new_image "$W/c.raw" $((8 << 20)) 3
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/c.raw" --to dr --rpo 1h >/dev/null
for vm in vm1 vm2; do
	wait_for 30 has_point $vm
	cycle $vm >/dev/null
done

change() { # IMAGE, behind the agent's back
	dd if=/dev/urandom of="$1" bs=4k count=1 seek=700 conv=notrunc status=none
}
recorded() { # NAME: the reasons, newest first
	kagami syncs "$1" --json | jq -c '[.syncs[].reason]'
}

# An agent that never reached its receiver in between.
stop_replicator
kill_receiver
change "$W/a.raw"
change "$W/c.raw"
for ((i = 0; i < 2; i++)); do
	start_replicator
	is "reason of vm1 at start $i" "$(protection vm1 .sync_reason)" image-changed
	is "reason of vm2 at start $i" "$(protection vm2 .sync_reason)" image-changed
	stop_replicator
done
start_receiver
start_replicator
for vm in vm1 vm2; do
	wait_for 30 connected $vm
	n=$(cycle $vm)
	is "syncs of $vm" "$(recorded $vm)" '["image-changed","initial"]'
done
point_equals vm2 "$n" vda "$W/c.raw"
n=$(newest_point vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
at_least "bytes read by the sync" "$(kagami syncs vm1 --json | jq '.syncs[0].read_bytes')" $((32 << 20))
stop_replicator
start_replicator
is "reason when it is done" "$(protection vm1 .sync_reason)" null

# A start that fails, and is tried again.
failures=0
failed_start() {
	local count
	count=$(grep -c 'protection does not start.*protection=vm2' "$W/kagami-replicator.log")
	[ "$count" -gt "$failures" ] && failures=$count
}
socket=$(uri vm2 vda)
socket=${socket#*socket=}
for reason in image-changed unclean-stop; do
	wait_for 30 connected vm2
	if [ $reason = unclean-stop ]; then
		nbd_io vm2 vda 'write -P 0x21 3M 64k' flush
		kill_replicator
	else
		stop_replicator
		change "$W/c.raw"
	fi
	rm -f "$socket"
	echo "in its place" >"$socket"
	start_replicator
	wait_for 10 failed_start
	rm "$socket"
	wait_for 60 connected vm2
	n=$(cycle vm2)
	is "newest sync of vm2" "$(recorded vm2 | jq -r '.[0]')" $reason
	point_equals vm2 "$n" vda "$W/c.raw"
done
is "syncs of vm2" "$(recorded vm2)" '["unclean-stop","image-changed","image-changed","initial"]'
