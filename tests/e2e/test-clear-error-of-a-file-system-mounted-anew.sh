#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The file system of an image is shut down, as ext4 does that cannot write its journal: `clear-error` cannot end that while the agent holds the image, and says what does. After a
# stop, a mount anew and a start the disk has still failed, and is cleared.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl mkfs.ext4 losetup python3
requires_root
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"

mkdir "$W/d"
truncate -s 200M "$W/fs.img"
mkfs.ext4 -q -b 4096 -E lazy_itable_init=0 "$W/fs.img"
mount -o loop "$W/fs.img" "$W/d" || skip "cannot mount a loop device here"
at_end "umount -l '$W/d'"
dd if=/dev/zero bs=1M count=4 status=none | tr '\0' A >"$W/d/a.raw"
sync -f "$W/d"
start_pair
kagami protect vm1 vda="$W/d/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1

disk() { # FILTER
	protection vm1 ".disks[0] | $1"
}
has_failed() {
	[ "$(disk .failed)" = true ]
}
# EXT4_IOC_SHUTDOWN, without its journal.
python3 -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))' "$W/d" || skip "ext4 cannot be shut down here"
(nbd_io vm1 vda 'write -P 0x42 0 64k' flush) >/dev/null 2>&1 && fail "it takes a flush"
wait_for 20 has_failed
unattached() { [ "$(disk .clients)" = 0 ]; }
wait_for 20 unattached
kagami clear-error vm1 vda >"$W/out" 2>&1 && fail "it was cleared: $(cat "$W/out")"
grep -q 'stop the replicator, repair, start it, then `kagami clear-error vm1 vda`' "$W/out" || fail "it says: $(cat "$W/out")"
has_failed || fail "a clear that failed has ended it"

kill "$REPLICATOR"
wait "$REPLICATOR" || true # its final sync fails
umount "$W/d"
mount -o loop "$W/fs.img" "$W/d"
start_replicator
wait_for 20 connected vm1
has_failed || fail "a mount anew has ended it"
kagami clear-error vm1 vda >/dev/null
is "failed" "$(disk .failed)" false
nbd_io vm1 vda 'write -P 0x43 1M 64k' flush >/dev/null
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/d/a.raw"
daemons_alive
