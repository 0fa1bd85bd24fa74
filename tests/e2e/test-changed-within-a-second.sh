#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A file system whose times are whole seconds: somebody changes the image within the second of the guest's last write, behind a clean stop, a kill of a guest that rested, and one
# at work. That is seen each time, and the point is the image. Where nobody changed it, a stop costs no comparison, nor does a kill behind a rest that was long enough.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh mkfs.ext4
requires_root
truncate -s 200M "$W/fs.img"
mkfs.ext4 -q -F -I 128 "$W/fs.img" 2>/dev/null
mkdir "$W/fs"
mount -o loop "$W/fs.img" "$W/fs" 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$W/fs'"
[ $(($(stat -c %.9Z "$W/fs/lost+found" | cut -d. -f2 | sed 's/^0*//') + 0)) = 0 ] || skip "this file system has times of more than seconds"
new_image "$W/fs/a.raw" $((32 << 20))
sync -f "$W/fs"
start_pair
kagami protect vm1 vda="$W/fs/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

second_begins() { python3 -c 'import time; time.sleep(1.02 - time.time() % 1)'; }
write() { nbdsh -u "$(uri vm1 vda)" -c "h.pwrite(b'$1' * 4096, 2 << 20); h.flush()"; }
others() { printf %s "$1" | dd of="$W/fs/a.raw" bs=1 seek=20000000 conv=notrunc status=none; }
syncs() { kagami syncs vm1 --json | jq -r '[.. | .reason? // empty] | map(select(. == "image-changed")) | length'; }
same_after_a_cycle() {
	local n
	n=$(cycle vm1)
	point_equals vm1 "$n" vda "$W/fs/a.raw"
}

write x
second_begins
write y
stop_replicator
others BEHIND-A-STOP
sleep 2
start_replicator
same_after_a_cycle

for moment in rest work; do
	second_begins
	if [ $moment = rest ]; then
		write z
		sleep 0.1
	else
		nbdsh -u "$(uri vm1 vda)" -c 'import time
end = time.time() + 0.2
while time.time() < end: h.pwrite(b"w" * 4096, 2 << 20)'
	fi
	kill_replicator
	others "BEHIND-A-KILL-AT-$moment"
	sleep 2
	start_replicator
	same_after_a_cycle
done

# Nobody but the guest: of a stop, and of a kill once a cycle had looked at the rest again.
before=$(syncs)
is "changes that were seen" "$before" 3
second_begins
write v
stop_replicator
start_replicator
same_after_a_cycle
is "comparisons after a stop" "$(syncs)" "$before"
write u
sleep 2
same_after_a_cycle
sleep 0.2
kill_replicator
start_replicator
same_after_a_cycle
is "comparisons of all after a kill behind a rest" "$(syncs)" "$before"
