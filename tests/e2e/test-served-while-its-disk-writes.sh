#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The agent is killed over much that was written and waits for the disk, which takes its time, or hangs: the next one serves the guest at once all the same. What the page
# cache has is dropped behind that then, before the first cycle reads, and by a stop that comes before it.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh nbdinfo fincore
mkdir "$W/storage" "$W/slow"
mount_freezable "$W/storage" 256M
mount_over_freezable "$W/storage" "$W/slow"

image=$W/slow/a.raw
new_image "$image" $((64 << 20))
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
sync -f "$image"

# More pieces than any queue of a device holds.
nbdsh -u "$(uri vm1 vda)" -c 'for i in range(2000): h.pwrite(b"\x71" * 4096, i * 28672)'
freeze "$W/storage"
kill_replicator
start_replicator
timeout 10 nbdsh -u "$(uri vm1 vda)" -c 'assert h.pread(4096, 1999 * 28672) == b"\x71" * 4096' 2>"$W/err" ||
	fail "the guest waits for what was written before: $(cat "$W/err")"
unfreeze "$W/storage"
n=$(cycle vm1)
is "why" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
point_equals vm1 "$n" vda "$image"

# Of regions without a mark nothing is read: what the cache has of them in the end was not dropped.
cached() { # bytes
	fincore --bytes --noheadings --output RES "$image"
}
few_left() { [ "$(cached)" -lt $((24 << 20)) ]; }
few_marks() {
	n=$(cycle vm1)
	[ "$(protection vm1 .crash_price.reread_bytes)" -le $((8 << 20)) ]
}
warm() { # with 8 MiB that wait for the disk
	sync -f "$image"
	nbdsh -u "$(uri vm1 vda)" -c 'for i in range(8): h.pwrite(b"\x72" * (1 << 20), i << 20)'
	cat "$image" >/dev/null
	! few_left || fail "the page cache has no more than $(cached) bytes of the image"
}
wait_for 60 few_marks
warm
kill_replicator
start_replicator
n=$(cycle vm1)
few_left || fail "the page cache has $(cached) bytes of the image behind the first cycle"
point_equals vm1 "$n" vda "$image"

# Also where there is no cycle.
kagami pause vm1 >/dev/null
warm
kill_replicator
start_replicator
wait_for 30 few_left
is "state" "$(protection vm1 .state)" paused
stop_replicator
start_replicator
cat "$image" >/dev/null
kill_replicator
start_replicator
wait_for 30 few_left # nothing of it was to be written
kagami resume vm1 >/dev/null
n=$(cycle vm1)
point_equals vm1 "$n" vda "$image"
daemons_alive
