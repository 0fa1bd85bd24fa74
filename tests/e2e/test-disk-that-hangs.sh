#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk whose storage hangs costs its neighbours one bounded hold: the guest's writes to the other disk go on, cycles are given up
# and the status says for which disk; when the storage answers again everything goes on, and nothing was lost.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl fsfreeze
requires_root

mkdir "$W/slow"
truncate -s 96M "$W/slow.img"
mkfs.ext4 -q -F "$W/slow.img" 2>/dev/null || skip "needs mkfs.ext4"
mount -t ext4 -o loop "$W/slow.img" "$W/slow" 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$W/slow'"
at_end "fsfreeze -u '$W/slow'"

new_image "$W/slow/a.raw" $((32 << 20))
new_image "$W/b.raw" $((32 << 20)) 2
start_pair
kagami protect vm1 vda="$W/slow/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null
is "cuts given up while all is well" "$(protection vm1 .cuts.given_up)" 0

fsfreeze -f "$W/slow" || skip "this kernel cannot freeze a file system for a test"
(sleep 120 && fsfreeze -u "$W/slow") >/dev/null 2>&1 & # whatever happens here
thaw=$!
pids+=($thaw)
# Small and aligned: such a write is carried out in the thread that serves both disks, but for the first one after a pause. The file system
# cannot say that it would have to wait, and owes nothing yet.
qemu-io -f raw -c 'write -P 0x71 4k 4k' "$(uri vm1 vda)" >"$W/hung.out" 2>&1 &
hung=$!
pids+=($hung)
hanging() {
	[ "$(protection vm1 .disks[0].writes)" -ge 1 ]
}
wait_for 10 hanging
others_go_on() {
	timeout 30 qemu-io -f raw -c "write -P $1 17M 4k" -c "read -P $1 17M 4k" -c flush "$(uri vm1 vdb)" >"$W/other.out" 2>&1 ||
		fail "vdb waits for vda: $(cat "$W/other.out")"
	timeout 10 kagami status vm1 >/dev/null || fail "the agent does not answer"
	kill -0 $hung || fail "the write to vda has ended: the storage did not hang"
}
others_go_on 0x75

given_up() {
	[ "$(protection vm1 .cuts.given_up)" -ge "$1" ]
}
at_source POST /v1/protections/vm1/cycle >/dev/null
wait_for 20 given_up 1
wait_for 20 given_up 2 # it is tried again by itself
# The disk owes a write: all others go by the ring, too.
qemu-io -f raw -c 'write -P 0x74 64k 4k' "$(uri vm1 vda)" >"$W/hung2.out" 2>&1 &
hung2=$!
pids+=($hung2)
both_hang() {
	[ "$(protection vm1 .disks[0].writes)" -ge 2 ]
}
wait_for 10 both_hang
nbd_io vm1 vdb 'write -P 0x72 1M 128k' 'write -P 0x73 9M 4k' 'read -P 0x72 1M 128k' flush
others_go_on 0x76
protection vm1 .last_error | grep -q '^disk vda: a write has been in flight for [0-9]* s' ||
	fail "last_error says: $(protection vm1 .last_error)"
kagami status vm1 | grep -q 'disk vda: a write has been in flight' || fail "kagami status does not say why: $(kagami status vm1)"
is "cuts that held writes meanwhile" "$(protection vm1 '.cuts.buckets[] | select(.below_us > 900000) | .count')" 1

fsfreeze -u "$W/slow"
kill $thaw
wait $hung || fail "the write that hung has failed: $(cat "$W/hung.out")"
wait $hung2 || fail "the small write has failed: $(cat "$W/hung2.out")"
nbd_io vm1 vda 'read -P 0x71 4k 4k' 'read -P 0x74 64k 4k' flush
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/slow/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
is "sync after it" "$(protection vm1 .last_cycle.sync_reason)" null
daemons_alive
