#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block device that zeroes no range by itself keeps what its guest wrote, synced or not, when a TRIM or a fast WRITE_ZEROES of it comes to nothing; and the point is
# what the device holds, not what the kernel's cache of it did. A partition of such a device is one, too. So is that of a device that can, wherever the range begins and ends.
. "$(dirname "$0")/lib.sh"
requires qemu-img nbdsh jq curl losetup blockdev addpart delpart
requires_root

mkdir "$W/ram"
mount -t ramfs ramfs "$W/ram" 2>/dev/null || skip "needs ramfs, whose files have no holes to make"
at_end "umount -l '$W/ram'"
truncate -s 64M "$W/ram/a.raw"
truncate -s 65M "$W/ram/c.raw"
truncate -s 64M "$W/b.raw"
loop_device "$W/ram/a.raw"
cannot=$device
loop_device "$W/ram/c.raw"
addpart "$device" 1 2048 131072 || skip "needs a kernel with partitions of loop devices"
at_end "delpart '$device' 1"
partition=${device}p1
loop_device "$W/b.raw"
can=$device
zeroes() { cat "/sys/block/${1#/dev/}/queue/write_zeroes_max_bytes"; }
[ "$(zeroes "$cannot")" = 0 ] || skip "a loop device over ramfs zeroes by itself here"
[ "$(zeroes "$can")" != 0 ] || skip "no loop device over $W zeroes by itself"
start_pair
kagami protect vm1 vda="$cannot" vdb="$can" vdc="$partition" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

for disk in vda vdb vdc; do
	DISK=$disk nbdsh -u "$(uri vm1 $disk)" -c '
import os
fast, can = nbd.CMD_FLAG_FAST_ZERO, os.environ["DISK"] == "vdb"
def written(old, new): # what is on the device, and what is not yet
    h.pwrite(old * (1 << 20), 8 << 20)
    h.flush()
    if new:
        h.pwrite(new * (1 << 20), 8 << 20)
def refused(length, off, flags):
    try:
        h.zero(length, off, flags)
    except nbd.Error as error:
        assert error.errno in ("ENOTSUP", "EOPNOTSUPP"), error.errno
        return True
    return False
def holds(value, off, length):
    assert h.pread(length, off) == value * length, (off, length)
for flags in (fast, fast | nbd.CMD_FLAG_NO_HOLE):
    written(b"A", b"B")
    assert refused(1 << 20, 8 << 20, flags) != can
    holds(b"\0" if can else b"B", 8 << 20, 1 << 20)
    written(b"A", b"B")
    assert refused(8192, (8 << 20) + 512, flags)
    holds(b"B", 8 << 20, 1 << 20)
if not can:
    written(b"A", b"B")
    h.trim(1 << 20, 8 << 20)
    holds(b"B", 8 << 20, 1 << 20)
for new in (None, b"B"):
    for flags in (0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA):
        written(b"A", new)
        h.zero(8192, (8 << 20) + 512, flags)
        holds(new or b"A", 8 << 20, 512)
        holds(b"\0", (8 << 20) + 512, 8192)
        holds(new or b"A", (8 << 20) + 8704, 8192)
written(b"A", None)
h.trim(8192, (8 << 20) + 512) # the cache may not show what the device does not hold
h.trim(512, (8 << 20) + 65536)
' || fail "$disk: see above"
	# The point, from the cache; then the device alone.
	n=$(cycle vm1)
	case $disk in vda) device=$cannot ;; vdb) device=$can ;; vdc) device=$partition ;; esac
	blockdev --flushbufs "$device"
	dd if="$device" of="$W/held" bs=1M iflag=direct status=none
	point_equals vm1 "$n" $disk "$W/held"
done
stop_replicator
