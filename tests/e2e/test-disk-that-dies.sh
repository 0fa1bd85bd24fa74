#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk that dies under its file system, which lives: a flush of it never comes back, and small writes follow. Whatever the file system
# (ext4 takes no write that must not wait, xfs does, btrfs says so alone), the other disk of the protection goes on, and so does the status.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl fsfreeze
requires_root

mkdir "$W/outer"
truncate -s 900M "$W/outer.img"
mkfs.ext4 -q -F "$W/outer.img" 2>/dev/null || skip "needs mkfs.ext4"
mount -t ext4 -o loop "$W/outer.img" "$W/outer" 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$W/outer'"
at_end "fsfreeze -u '$W/outer' 2>/dev/null"

new_image "$W/b.raw" $((32 << 20)) 2
start_pair
tried=0
for type in ext4 xfs btrfs; do
	command -v mkfs.$type >/dev/null || continue
	vm=vm-$type
	mkdir "$W/$type"
	truncate -s 400M "$W/outer/$type.img"
	mkfs.$type -q "$W/outer/$type.img" >/dev/null 2>&1 || continue
	mount -t $type -o loop "$W/outer/$type.img" "$W/$type" 2>/dev/null || continue
	at_end "umount -l '$W/$type'"
	at_end "fsfreeze -u '$W/outer' 2>/dev/null"
	tried=$((tried + 1))
	new_image "$W/$type/a.raw" $((32 << 20))
	cp "$W/b.raw" "$W/b-$type.raw"
	kagami protect $vm vda="$W/$type/a.raw" vdb="$W/b-$type.raw" --to dr --rpo 1h >/dev/null
	wait_for 30 has_point $vm
	cycle $vm >/dev/null
	nbd_io $vm vda 'write -P 0x60 0 16k' flush # marked

	sync -f "$W/$type"
	fsfreeze -f "$W/outer" || skip "this kernel cannot freeze a file system for a test"
	(sleep 120 && fsfreeze -u "$W/outer") >/dev/null 2>&1 &
	thaw=$!
	pids+=($thaw)
	before=$(protection $vm .disks[0].writes)
	qemu-io -f raw -c 'write -P 0x61 0 4k' -c flush "$(uri $vm vda)" >"$W/$type.out" 2>&1 &
	hung=$!
	pids+=($hung)
	written() {
		[ "$(protection $vm .disks[0].writes)" -gt "$before" ]
	}
	wait_for 10 written
	sleep 0.5 # and the flush is under way
	writes=()
	for ((i = 0; i < 200; i++)); do
		writes+=(-c "write -P 0x62 $((i * 4096)) 4k")
	done
	qemu-io -f raw "${writes[@]}" "$(uri $vm vda)" >"$W/$type.writes" 2>&1 &
	writer=$!
	pids+=($writer)
	for ((i = 0; i < 8; i++)); do
		nbd_io $vm vdb "write -P 0x7$i ${i}M 4k" "read -P 0x7$i ${i}M 4k" flush
		sleep 0.3
	done
	kill -0 $hung || fail "$type: the flush of vda has ended: the disk did not die"

	fsfreeze -u "$W/outer"
	kill $thaw
	wait $hung || fail "$type: the flush has failed: $(cat "$W/$type.out")"
	wait $writer || fail "$type: a write has failed: $(cat "$W/$type.writes")"
	n=$(cycle $vm)
	point_equals $vm "$n" vda "$W/$type/a.raw"
	point_equals $vm "$n" vdb "$W/b-$type.raw"
done
[ $tried -gt 0 ] || skip "no file system to try"
daemons_alive
