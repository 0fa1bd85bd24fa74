#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Several disks of a protection hang in large syncs of their guests, and the one that does not is served: each takes no more of the kernel's workers than a sync does.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh
mkdir "$W/storage" "$W/slow"
mount_freezable "$W/storage" 256M
mount_over_freezable "$W/storage" "$W/slow"

disks=()
for n in 0 1 2 3; do
	truncate -s 16M "$W/slow/$n.raw"
	disks+=("d$n=$W/slow/$n.raw")
done
new_image "$W/well.raw" $((16 << 20))
start_pair
kagami protect vm1 "${disks[@]}" well="$W/well.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
sync -f "$W/slow"

freeze "$W/storage"
for n in 0 1 2 3; do
	nbdsh -u "$(uri vm1 d$n)" -c 'for i in range(600): h.pwrite(b"\x71" * 4096, i * 20480)' -c 'h.flush()' >/dev/null 2>&1 &
	pids+=($!)
done
all_sync() { [ "$(protection vm1 '[.disks[] | select(.flushes > 0)] | length')" -ge 4 ]; }
wait_for 30 all_sync
sleep 1
for byte in A B C; do
	timeout 10 nbdsh -u "$(uri vm1 well)" -c "h.pwrite(b'$byte' * 70000, 4096); h.flush(); assert h.pread(70000, 4096) == b'$byte' * 70000" 2>"$W/err" ||
		fail "the guest of the disk that is well is not served: $(cat "$W/err")"
done
unfreeze "$W/storage"
n=$(cycle vm1)
point_equals vm1 "$n" well "$W/well.raw"
point_equals vm1 "$n" d3 "$W/slow/3.raw"
daemons_alive
