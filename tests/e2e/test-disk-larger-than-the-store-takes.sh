#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk grows beyond what a file may be in the file system of the store: no point is made, the status says why and what to do, and the replica is not broken, with the points
# that it had, also after a start of the receiver. With the store where such files may be, points are made again. Likewise of a new disk.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh mkfs.xfs mkfs.ext4
requires_root
for fs in xfs ext4; do
	truncate -s 1G "$W/$fs.img"
	"mkfs.$fs" -q "$W/$fs.img"
	mkdir "$W/$fs"
	mount -o loop "$W/$fs.img" "$W/$fs" 2>/dev/null || skip "cannot mount a loop device with $fs here"
	at_end "umount -l '$W/$fs'"
done
STORE=$W/ext4/store
mkdir "$STORE"
new_image "$W/xfs/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/xfs/a.raw" --to dr --rpo 2s >/dev/null
wait_for 30 has_point vm1
n=$(cycle vm1)
cp "$W/xfs/a.raw" "$W/was.raw"
kagami resize vm1 vda --size 20T >/dev/null
new_image "$W/ext4/small.raw" $((8 << 20))
kagami protect small vda="$W/ext4/small.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point small
refuses 'the file system of image .*/ext4/small.raw, or a limit of this process, allows no file of [0-9]* bytes, and the disk stays as it is: give a smaller size' kagami resize small vda --size 20T
is "size of the disk whose image cannot grow" "$(protection small '.disks[0].size_bytes')" $((8 << 20))
point_equals small "$(cycle small)" vda "$W/ext4/small.raw"
kagami unprotect small --yes >/dev/null
says_it() { kagami status "$1" | tr -s ' \n' ' ' | grep -q "takes no file as large as the disk is.*move the store"; }
wait_for 30 says_it vm1
stop_receiver
start_receiver
sleep 3
wait_for 30 says_it vm1
kagami status vm1 --json | jq -e '.. | .state? // empty | select(. == "broken")' >/dev/null && fail "the replica is broken"
point_equals vm1 "$n" vda "$W/was.raw"
truncate -s 20T "$W/xfs/b.raw"
kagami protect vm2 vdb="$W/xfs/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 says_it vm2

# The store moves.
stop_receiver
cp -a --sparse=always "$STORE" "$W/xfs/store"
STORE=$W/xfs/store
start_receiver
nbdsh -u "$(uri vm1 vda)" -c 'h.pwrite(b"\x51" * 65536, 19 << 40); h.flush()'
m=$(cycle vm1)
[ "$m" -gt "$n" ] || fail "no point of the larger disk"
wait_for 60 has_point vm2
point_equals vm1 "$n" vda "$W/was.raw"
daemons_alive
