#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A point from before a disk grew keeps its size wherever it is used: read by QEMU, mounted, failed over to. A newer one over it is read
# through it, and has its own size.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl mkfs.ext4

old_a=$((48 << 20)) old_b=$(((8 << 20) + 512 * 5)) # ends within a piece
new_a=$((96 << 20)) new_b=$(((12 << 20) + 512))
files=$W/files
mkdir -p "$files/sub" "$W/dir"
cp -r /usr/share/common-licenses "$files/sub"
truncate -s $old_a "$W/a.raw"
mkfs.ext4 -q -d "$files" "$W/a.raw"
new_image "$W/b.raw" $old_b 2
cp --sparse=always "$W/a.raw" "$W/a.old"
cp --sparse=always "$W/b.raw" "$W/b.old"
start_pair
for vm in vm1 vm2; do
	cp --sparse=always "$W/a.old" "$W/$vm.a"
	cp --sparse=always "$W/b.old" "$W/$vm.b"
	kagami protect $vm vda="$W/$vm.a" vdb="$W/$vm.b" --to dr --rpo 1h --points 9 >/dev/null
	old=$(cycle $vm)
	kagami resize $vm vda --size $new_a >/dev/null
	kagami resize $vm vdb --size $new_b >/dev/null
	wait_for 20 connected $vm
	nbd_io $vm vda "write -P 0x71 $((new_a - 65536)) 64k" "write -P 0x72 $((old_a + 4096)) 4k" flush
	nbd_io $vm vdb "write -P 0x73 $old_b 512" "write -P 0x74 $((new_b - 512)) 512" flush
	new=$(cycle $vm)
done
cp --sparse=always "$W/vm1.a" "$W/a.new"
cp --sparse=always "$W/vm1.b" "$W/b.new"

equals() { # RAW QCOW2; to compare is content with QEMU, whose shorter image goes on with zeros
	is "size of $2" "$(qemu-img info --output=json "$2" | jq '."virtual-size"')" "$(stat -c %s "$1")"
	qemu-img compare -q -f raw -F qcow2 "$1" "$2" || fail "$2 differs from $1"
}
equals "$W/a.old" "$(point_disk vm1 "$old" vda)"
equals "$W/b.old" "$(point_disk vm1 "$old" vdb)"
equals "$W/a.new" "$(point_disk vm1 "$new" vda)"
equals "$W/b.new" "$(point_disk vm1 "$new" vdb)"

if [ "$(id -u)" = 0 ] && [ -c /dev/fuse ] && losetup -f >/dev/null 2>&1 && command -v qemu-storage-daemon >/dev/null; then
	at_end 'umount "$W/dir"'
	for case in "$old $old_a" "$new $new_a"; do
		read -r point size <<<"$case"
		kagami mount "vm1@$point" "$W/dir" --disk vda
		is "size of the view of point $point" "$(stat -c %s "$STORE"/vm1/tests/mount-*/disk)" "$size"
		diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of point $point differ"
		kagami umount "$W/dir"
	done
fi
equals "$W/a.old" "$(point_disk vm1 "$old" vda)"

# Failed over to the small point, and to the large one.
disk_of() { # ANSWER DISK
	jq -r --arg d "$2" '.disks[] | select(.name == $d) | .path' <<<"$1"
}
answer=$(at_target POST /v1/protections/vm1/failover "{\"point\": $old}")
equals "$W/a.old" "$(disk_of "$answer" vda)"
equals "$W/b.old" "$(disk_of "$answer" vdb)"
qemu-io -f qcow2 -c "write -P 0x75 $((old_b - 512)) 512" "$(disk_of "$answer" vdb)" >/dev/null || fail "the failed-over disk takes no write"
! qemu-io -f qcow2 -c "write -P 0x75 $old_b 512" "$(disk_of "$answer" vdb)" >/dev/null 2>&1 || fail "the failed-over disk is too long"
answer=$(at_target POST /v1/protections/vm2/failover "{\"point\": $new}")
equals "$W/a.new" "$(disk_of "$answer" vda)"
equals "$W/b.new" "$(disk_of "$answer" vdb)"

# Both are there after a restart of the receiver, as are the points.
kill_receiver
start_receiver
is "state of vm1" "$(replica vm1 .state)" failed-over
equals "$W/a.old" "$(point_disk vm1 "$old" vda)"
equals "$W/a.new" "$(point_disk vm1 "$new" vda)"
daemons_alive
