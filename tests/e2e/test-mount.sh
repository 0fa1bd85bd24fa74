#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A point's file system is shown read-only, ext4 and xfs, also one that was cut while it was mounted, also a partition;
# replication goes on meanwhile, the point stays as it is, and nothing of the mount is left afterwards.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io qemu-storage-daemon mkfs.ext4 mkfs.xfs losetup jq curl sfdisk
[ -c /dev/fuse ] || skip "needs /dev/fuse"
losetup -f >/dev/null 2>&1 || skip "needs loop devices"

files=$W/files
mkdir -p "$files/sub" "$W/dir"
cp -r /usr/share/common-licenses "$files/sub"
truncate -s 48M "$W/ext4.raw"
mkfs.ext4 -q -d "$files" "$W/ext4.raw"
truncate -s 400M "$W/xfs.raw"
mkfs.xfs -q "$W/xfs.raw"
truncate -s 72M "$W/parts.raw"
printf 'label: gpt\nstart=2048, size=16384\nstart=32768\n' | sfdisk -q "$W/parts.raw"
dd if="$W/ext4.raw" of="$W/parts.raw" bs=512 seek=32768 conv=notrunc,sparse count=$((48 << 11)) status=none

start_pair
at_end 'umount "$W/dir"'
for kind in ext4 xfs parts; do
	kagami protect "$kind" vda="$W/$kind.raw" --to dr --rpo 1h >/dev/null
	cycle "$kind" >/dev/null
done

kagami mount ext4 "$W/dir"
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point differ"
! touch "$W/dir/new" 2>/dev/null || fail "a mounted point can be written to"
is "file system" "$(at_target GET /v1/mounts | jq -r '.mounts[0].filesystem')" ext4
refuses 'mount|use' kagami mount ext4 "$W/dir"
nbd_io ext4 vda 'write -P 0x1 40M 64k'
n=$(cycle ext4) # goes on, and the mounted point does not change
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point changed"
kagami umount "$W/dir"
is "mounts" "$(at_target GET /v1/mounts | jq -c .mounts)" '[]'
is "what is in the directory" "$(ls "$W/dir")" ''

# xfs, cut while it is mounted: what its log holds must show.
# The image changes while the replicator is away, which is seen, and synced.
stop_replicator
mkdir "$W/live"
loop=$(losetup --show -f "$W/xfs.raw")
at_end 'umount "$W/live"; losetup -d "$loop"'
mount "$loop" "$W/live"
cp -r "$files/." "$W/live"
sync -f "$W/live"
cp --sparse=always "$W/xfs.raw" "$W/xfs.live" # as it is in the middle of its life
umount "$W/live"
losetup -d "$loop"
mv "$W/xfs.live" "$W/xfs.raw"
start_replicator
wait_for 15 connected xfs
n=$(cycle xfs)
kagami mount "xfs@$n" "$W/dir"
diff -r "$files" "$W/dir" || fail "the files of the mounted xfs differ"
is "file system" "$(at_target GET /v1/mounts | jq -r '.mounts[0].filesystem')" xfs
kagami umount "$W/dir"

kagami mount parts "$W/dir" --partition 2
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted partition differ"
kagami umount "$W/dir"
refuses 'partition' kagami mount parts "$W/dir" --partition 7
refuses 'file system|filesystem|partition' kagami mount parts "$W/dir" --partition 1

# Stopped with a mount: the next one does not trip over it.
kagami mount ext4 "$W/dir"
stop_receiver
wait_for 10 bash -c "! mountpoint -q '$W/dir' || umount '$W/dir'"
start_receiver
wait_for 15 connected ext4
kagami mount ext4 "$W/dir"
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point differ"
kagami umount "$W/dir"
daemons_alive
