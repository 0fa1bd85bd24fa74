#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What something else on this host may write past the tracking is refused, and the error names it: a file and a partition of a loop device over it, a file that is mounted, a loop device
# beside another over the same bytes, a device that is read-only for its guest and mounted for writing. What only reads is no reason to refuse. A protection that
# is there already does not start while its image is in such use, says why, harms no other, and starts by itself afterwards.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl losetup sfdisk mkfs.ext4 mount
requires_root

detach() { losetup -d "$1" && while losetup "$1" >/dev/null 2>&1; do sleep 0.05; done; }
protect() { kagami protect "$@" --to dr --rpo 1h >"$W/protect.out" 2>&1 || fail "kagami protect $*: $(cat "$W/protect.out")"; }
protect_refused() { # TEXT NAME DISK...
	local text=$1
	shift
	refuses "$text" kagami protect "$@" --to dr --rpo 1h
}
unprotect() { kagami unprotect "$1" --yes >/dev/null && kagami forget "$1" --yes >/dev/null; }
partition() { # of DEVICE NUMBER: its node, where nobody makes one
	local node=$1p$2
	[ -b "$node" ] || partx -a "$1" 2>/dev/null || true
	if [ ! -b "$node" ]; then
		[ -e "/sys/class/block/$(basename "$node")/dev" ] || skip "no partitions of loop devices here"
		mknod "$node" b $(tr : ' ' <"/sys/class/block/$(basename "$node")/dev")
		at_end "rm -f $node"
	fi
}

start_pair
new_image "$W/good.raw" $((4 << 20))
protect good vda="$W/good.raw"

# A file, and partitions of a loop device over it.
new_image "$W/a.raw" $((32 << 20))
printf 'start=2048, size=20480\nstart=24576, size=20480\n' | sfdisk -q "$W/a.raw"
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"
loop=$(losetup -P --show -f "$W/a.raw")
at_end '[ -z "$loop" ] || losetup -d $loop'
partition "$loop" 1
partition "$loop" 2
protect_refused "a.raw is the file under the loop device $loop, by which it may be written .*losetup -d $loop" vm1 vda="$W/a.raw"
protect vm1 vda="${loop}p1"
protect vm2 vda="${loop}p2" # beside each other
protect_refused "disk vda of vm1 already" vm3 vda="${loop}p1"
protect_refused "disk vda of vm1 already" vm3 vda="${loop}p1" --read-only vda
protect_refused "in use" vm3 vda="$loop"
protect_refused "in use" vm3 vda="$loop" --read-only vda
protect_refused "a.raw is in use, and it is the file under the loop device $loop" vm3 vda="$W/a.raw"
protect_refused "in use" vm3 vda="$W/a.raw" --read-only vda
for disk in vm1 vm2; do
	wait_for 30 has_point $disk
	unprotect $disk
done

# The partition of a loop device that is attached for reading, and the file itself: in either order, one of them.
detach "$loop"
losetup -r -P "$loop" "$W/a.raw"
partition "$loop" 1
protect vm1 vda="$W/a.raw" # who only reads it is no reason to refuse
protect_refused "image ${loop}p1: the file under the loop device $loop is in use" vm2 vda="${loop}p1" --read-only vda
wait_for 30 has_point vm1
unprotect vm1
protect vm2 vda="${loop}p1" --read-only vda
protect_refused "in use" vm1 vda="$W/a.raw"
unprotect vm2
detach "$loop"

# Two loop devices over one file: beside each other, and one over the other's.
first=$(losetup --show -o 0 --sizelimit $((16 << 20)) -f "$W/a.raw")
at_end '[ -z "$first" ] || losetup -d $first'
second=$(losetup --show -o $((16 << 20)) -f "$W/a.raw")
at_end '[ -z "$second" ] || losetup -d $second'
protect vm1 vda="$first"
protect vm2 vda="$second"
unprotect vm1
unprotect vm2
third=$(losetup --show -o $((12 << 20)) --sizelimit $((2 << 20)) -f "$W/a.raw")
at_end '[ -z "$third" ] || losetup -d $third'
protect_refused "what lies beneath $first is the file under the loop device $third, by which it may be written" vm1 vda="$first"
protect vm2 vda="$second"
unprotect vm2
for i in "$first" "$second" "$third"; do
	detach "$i"
done
first='' second='' third=''

# A loop device over a loop device.
losetup "$loop" "$W/a.raw"
second=$(losetup --show -f "$loop")
protect_refused "$loop is under the loop device $second, by which it may be written" vm1 vda="$loop"
protect_refused "a.raw is the file under the loop device $loop" vm1 vda="$W/a.raw"
protect vm1 vda="$second"
protect_refused "in use" vm2 vda="$loop"
protect_refused "in use" vm2 vda="$W/a.raw"
unprotect vm1
detach "$second"
second=''
detach "$loop"
loop=''

# A file that is mounted, by whatever name it has.
truncate -s 16M "$W/f.raw"
mkfs.ext4 -q -F "$W/f.raw"
ln "$W/f.raw" "$W/hard.raw"
mkdir "$W/m"
mount -o loop "$W/f.raw" "$W/m"
at_end 'mountpoint -q "$W/m" && umount "$W/m"'
for path in f.raw hard.raw; do
	protect_refused "$path is the file under the loop device /dev/loop[0-9]+, by which it may be written .*(umount|unmount)" vm1 vda="$W/$path"
	protect_refused "$path is the file under the loop device /dev/loop[0-9]+" vm1 vda="$W/$path" --read-only vda
done
umount "$W/m"
mount -o loop,ro "$W/f.raw" "$W/m"
protect vm1 vda="$W/f.raw" --read-only vda
umount "$W/m"
wait_for 30 has_point vm1

# It is there already, and is mounted while the agent is down.
stop_replicator
mount -o loop "$W/f.raw" "$W/m"
start_replicator
is "state" "$(protection vm1 .state)" failed
says_why() { protection vm1 .reason | grep -q "f.raw is the file under the loop device /dev/loop[0-9]*, by which it may be written .*kagami resume vm1"; }
says_why || fail "the reason is: $(protection vm1 .reason)"
sleep 3 # it was looked at again
says_why || fail "the reason is, later: $(protection vm1 .reason)"
wait_for 15 connected good
nbd_io good vda 'write -P 7 1M 64k'
point_equals good "$(cycle good)" vda "$W/good.raw"
refuses "f.raw is the file under the loop device /dev/loop" kagami resume vm1
echo x >"$W/m/x"
umount "$W/m"
wait_for 80 connected vm1
point_equals vm1 "$(cycle vm1)" vda "$W/f.raw"
unprotect vm1

# A device that is read-only for its guest.
loop_device "$W/f.raw"
mount "$device" "$W/m"
protect_refused "$device is read-only for its guest, but $device is mounted for writing at $W/m: .*remount,ro" vm1 cd="$device" --read-only cd
mount -o remount,ro "$W/m"
protect vm1 cd="$device" --read-only cd
unprotect vm1
umount "$W/m"
protect vm1 cd="$device" --read-only cd
mount -o ro "$device" "$W/m" # as ever
umount "$W/m"
unprotect vm1
/usr/bin/python3 -c 'import os, sys, time; os.open(sys.argv[1], os.O_RDWR | os.O_EXCL); print("has it", flush=True); time.sleep(300)' "$device" >"$W/holder.out" &
holder=$!
pids+=($holder)
wait_for 10 grep -q 'has it' "$W/holder.out"
protect_refused "$device is in use by another program, .* may write" vm1 cd="$device" --read-only cd
kill $holder
wait $holder 2>/dev/null || true

# Of which a partition is mounted.
printf 'start=2048\n' | sfdisk -q "$device" 2>/dev/null || true
at_end 'umount "$W/m"; partx -d "$device"'
partx -u "$device" 2>/dev/null || partx -a "$device" 2>/dev/null || true
partition "$device" 1
mkfs.ext4 -q -F "${device}p1"
mount "${device}p1" "$W/m"
protect_refused "${device}p1 is mounted for writing at $W/m" vm1 cd="$device" --read-only cd
protect_refused "${device}p1 is mounted for writing at $W/m" vm1 cd="${device}p1" --read-only cd
mount -o remount,ro "$W/m"
protect vm1 cd="$device" --read-only cd
# One of the whole is there: its partition is not for writing.
umount "$W/m"
protect_refused "in use" vm2 vda="${device}p1"
rm "$W/f.raw" # so the file cannot be asked, and the device itself is
protect_refused "${device}p1 is a partition of $device, which is in use" vm2 vda="${device}p1"
unprotect vm1
protect vm2 vda="${device}p1"
unprotect vm2
daemons_alive
