#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ext4, xfs and btrfs, each cut while it was mounted and written to: two points of one disk, mounted at the same time, show each its own
# files; so does any partition; and what cannot be mounted is named, with what to do.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-storage-daemon mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.vfat mkswap losetup jq curl sfdisk
[ -c /dev/fuse ] || skip "needs /dev/fuse"
losetup -f >/dev/null 2>&1 || skip "needs loop devices"
for kind in xfs btrfs; do
	grep -qw $kind /proc/filesystems || modprobe $kind 2>/dev/null || skip "needs a kernel with $kind"
done

mkdir "$W/live" "$W/one" "$W/two" "$W/part"
at_end 'umount "$W/live"; umount "$W/one"; umount "$W/two"; umount "$W/part"'

# Runs COMMAND in the mounted image, and leaves the image as it was in that moment: what was synced is in its journal or log alone.
live() { # IMAGE COMMAND
	local loop
	loop=$(losetup --show -f "$1")
	mount "$loop" "$W/live"
	(cd "$W/live" && eval "$2")
	cp --sparse=always "$1" "$1.cut"
	umount "$W/live"
	losetup -d "$loop"
	mv "$1.cut" "$1"
}

sizes=(ext4=64M xfs=320M btrfs=200M)
for kind in "${sizes[@]}"; do
	truncate -s "${kind#*=}" "$W/${kind%=*}.raw"
done
mkfs.ext4 -q "$W/ext4.raw"
mkfs.xfs -q "$W/xfs.raw"
mkfs.btrfs -q "$W/btrfs.raw" >/dev/null
for kind in ext4 xfs btrfs; do
	live "$W/$kind.raw" 'mkdir d; cp -r /usr/share/common-licenses d; echo first >file; sync -f .; echo more >d/more; sync d/more'
done

# A disk of many partitions.
truncate -s 640M "$W/parts.raw"
printf 'label: gpt\nsize=20M\nsize=320M\nsize=200M\nsize=8M\nsize=8M\nsize=8M\nsize=8M\n' | sfdisk -q "$W/parts.raw"
start_of() { sfdisk -d "$W/parts.raw" | sed -n "s/^.*raw$1 : start= *\([0-9]*\),.*/\1/p"; }
put() { dd if="$1" of="$W/parts.raw" bs=512 seek="$(start_of "$2")" conv=notrunc,sparse status=none; }
truncate -s 20M "$W/vfat.raw"
mkfs.vfat "$W/vfat.raw" >/dev/null
truncate -s 8M "$W/swap.raw"
mkswap -q "$W/swap.raw"
put "$W/vfat.raw" 1
put "$W/xfs.raw" 2
put "$W/btrfs.raw" 3
printf 'LABELONE' | dd of="$W/parts.raw" bs=1 seek=$((($(start_of 4) + 1) * 512)) conv=notrunc status=none
printf 'LVM2 001' | dd of="$W/parts.raw" bs=1 seek=$((($(start_of 4) + 1) * 512 + 24)) conv=notrunc status=none
printf 'LUKS\xba\xbe' | dd of="$W/parts.raw" bs=512 seek="$(start_of 5)" conv=notrunc status=none
put "$W/swap.raw" 6

# ext4 that is larger than its disk.
cp --sparse=always "$W/ext4.raw" "$W/short.raw"
truncate -s 48M "$W/short.raw"

# btrfs over two disks: no single one of them can be mounted.
truncate -s 200M "$W/m1.raw" "$W/m2.raw"
mkfs.btrfs -q "$W/m1.raw" "$W/m2.raw" >/dev/null

start_pair
for kind in ext4 xfs btrfs parts short; do
	kagami protect "$kind" vda="$W/$kind.raw" --to dr --rpo 1h >/dev/null
done
kagami protect multi vda="$W/m1.raw" vdb="$W/m2.raw" --to dr --rpo 1h >/dev/null
declare -A first
for kind in ext4 xfs btrfs; do
	first[$kind]=$(cycle $kind)
done
cycle parts >/dev/null
cycle short >/dev/null
cycle multi >/dev/null

# Changed behind the replicator's back, which it sees; and cut in the middle of it again.
stop_replicator
for kind in ext4 xfs btrfs; do
	live "$W/$kind.raw" 'rm -r d/common-licenses; echo second >file; echo new >d/new; sync -f .; echo again >d/again; sync d/again'
done
start_replicator
for kind in ext4 xfs btrfs; do
	wait_for 20 connected $kind
	second=$(cycle $kind)
	kagami mount "$kind@${first[$kind]}" "$W/one" >/dev/null
	if [ $kind = btrfs ] && ! printf '6.7\n%s\n' "$(uname -r)" | sort -VC; then
		refuses 'two copies of one btrfs.*unmount the other point' kagami mount "$kind@$second" "$W/two"
		is "the file at the first cut, $kind" "$(cat "$W/one/file")" first
		kagami umount "$W/one" >/dev/null
		continue
	fi
	kagami mount "$kind@$second" "$W/two" >/dev/null
	is "file systems" "$(at_target GET /v1/mounts | jq -r '[.mounts[].filesystem] | join(" ")')" "$kind $kind"
	is "the file at the first cut, $kind" "$(cat "$W/one/file")" first
	is "the file at the second cut, $kind" "$(cat "$W/two/file")" second
	is "what was synced just before the first cut, $kind" "$(cat "$W/one/d/more")" more
	is "what was synced just before the second cut, $kind" "$(cat "$W/two/d/again")" again
	diff -r /usr/share/common-licenses "$W/one/d/common-licenses" || fail "the files of $kind@${first[$kind]} differ"
	[ ! -e "$W/one/d/new" ] && [ ! -e "$W/two/d/common-licenses" ] || fail "two points of $kind show the same"
	! touch "$W/one/x" 2>/dev/null || fail "a mounted $kind can be written to"
	is "single files of $kind meanwhile" "$(kagami files "$kind@$second" get /d/new -)" new
	kagami umount "$W/one" >/dev/null
	is "the second mount when the first one has gone" "$(cat "$W/two/file")" second
	kagami umount "$W/two" >/dev/null
done
is "mounts" "$(at_target GET /v1/mounts | jq -c .mounts)" '[]'

# Any partition, also two of one disk at once.
kagami mount parts "$W/one" --partition 2 >/dev/null
kagami mount parts "$W/two" --partition 3 >/dev/null
vfat=
if grep -qw vfat /proc/filesystems; then
	kagami mount parts "$W/part" --partition 1 >/dev/null
	vfat=' 1=vfat'
else
	refuses 'No such device: run the receiver .* the vfat driver' kagami mount parts "$W/part" --partition 1
fi
is "file systems" "$(at_target GET /v1/mounts | jq -r '[.mounts[] | "\(.partition)=\(.filesystem)"] | join(" ")')" "2=xfs 3=btrfs$vfat"
is "the file on the xfs partition" "$(cat "$W/one/file")" first
is "the file on the btrfs partition" "$(cat "$W/two/d/more")" more
for dir in one two ${vfat:+part}; do
	kagami umount "$W/$dir" >/dev/null
done

# What is not mounted, and why.
refuses 'more than one file system, choose with --partition N: 1 \(vfat, 20 MiB\), 2 \(xfs, 320 MiB\), 3 \(btrfs, 200 MiB\), 4 \(LVM' kagami mount parts "$W/one"
refuses 'partition 4 holds LVM.*volume manager: fail over and activate' kagami mount parts "$W/one" --partition 4
refuses "partition 5 holds LUKS.*encrypted: fail over and open it with the guest's key" kagami mount parts "$W/one" --partition 5
refuses 'partition 6 holds swap.*no files' kagami mount parts "$W/one" --partition 6
refuses 'partition 7 holds no file system that is known here' kagami mount parts "$W/one" --partition 7
refuses 'no partition 9; the disk has 1 \(vfat' kagami mount parts "$W/one" --partition 9
kernels='this kernel refuses the ext4 file system \(dmesg has its reason\): look at it in a virtual machine \(kagami test start\), or take the disk as a whole \(kagami export\)'
for command in "kagami mount short $W/one" 'kagami files short ls'; do
	refuses "$kernels" $command
	status=0
	$command >/dev/null 2>&1 || status=$?
	is "exit status of: $command" $status 1 # the command is right, the file system is not
done
for disk in vda vdb; do
	refuses 'btrfs over several disks.*fail over and mount it in a virtual machine with all of them' kagami mount multi "$W/one" --disk $disk
done
is "mounts" "$(at_target GET /v1/mounts | jq -c .mounts)" '[]'
is "what is left of mounts" "$(find "$STORE"/*/tests -mindepth 1 | wc -l)" 0
! grep -q "$STORE" /proc/mounts || fail "something stays mounted: $(grep "$STORE" /proc/mounts)"
daemons_alive
