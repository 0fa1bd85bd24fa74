#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk grows under a running client that notices nothing; what is written past its old end is in the next point, the points of
# before stay what they were at their own size, through crashes of both sides and retention; smaller is refused. A disk that is
# found larger at start is taken as it is, with a sync that says so.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl fio cmp

size_of_point() { # POINT: of vda, as QEMU sees it
	qemu-img info --output=json "$(point_disk vm1 "$1" vda)" | jq '."virtual-size"'
}
old_size=$(((32 << 20) + 512 * 5)) # ends within a piece
new_size=$((48 << 20))
new_image "$W/a.raw" $old_size
new_image "$W/b.raw" $((8 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 4 >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 0x11 31M 1M' flush
before=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.before"

# What is refused, and what would happen.
refuses 'cannot become smaller' kagami resize vm1 vda --size 16M
refuses 'give a larger' kagami resize vm1 vda --size $old_size
refuses 'has no disk' kagami resize vm1 vdx --size 48M
refuses 'is not a size' kagami resize vm1 vda --size lots
kagami resize vm1 vda --size 48M --dry-run | grep -q 'would grow' || fail "the dry run does not say what would happen"
is "size after the dry run" "$(protection vm1 '.disks[0].size_bytes')" $old_size
is "length of the image after the dry run" "$(stat -c %s "$W/a.raw")" $old_size

# Under load.
where=$(uri vm1 vda)
(cd "$W" && exec fio --name=guest --ioengine=nbd --uri="$where" --rw=randwrite --bs=4k-64k --size=24m --iodepth=8 --time_based --runtime=6 \
	--verify=crc32c --verify_backlog=64 --verify_state_save=0) >"$W/fio.out" 2>&1 &
fio=$!
at_end "kill $fio 2>/dev/null || true"
sleep 1
kagami resize vm1 vda --size 48M | grep -q 'has grown' || fail "kagami resize does not say what it did"
is "size of the disk" "$(protection vm1 '.disks[0].size_bytes')" $new_size
is "length of the image" "$(stat -c %s "$W/a.raw")" $new_size
nbd_io vm1 vda 'write -P 0x22 32M 64k' 'write -P 0x23 47M 1M' 'read -P 0 40M 1M' flush
wait_for 10 connected vm1
cycle vm1 >/dev/null
wait "$fio" || fail "fio: $(cat "$W/fio.out")"
after=$(cycle vm1)
is "reason for a sync after growing" "$(protection vm1 .sync_reason)" null
point_equals vm1 "$after" vda "$W/a.raw"
point_equals vm1 "$after" vdb "$W/b.raw"
is "size of the point after" "$(size_of_point "$after")" $new_size
point_equals vm1 "$before" vda "$W/a.before"
is "size of the point before" "$(size_of_point "$before")" $old_size
is "size at the receiver" "$(replica vm1 '.disks[0].size_bytes')" $new_size

# Both sides are killed; only what was marked is looked at again.
nbd_io vm1 vda 'write -P 0x24 44M 128k' flush
kill_replicator
kill_receiver
start_receiver
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason after a kill" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$before" vda "$W/a.before"

# While paused, and with the receiver away: it grows there when it is back.
kagami pause vm1 >/dev/null
stop_receiver
kagami resize vm1 vdb --size 12M >/dev/null
nbd_io vm1 vdb 'write -P 0x31 11M 64k' flush
start_receiver
kagami resume vm1 >/dev/null
wait_for 20 connected vm1
n=$(cycle vm1)
point_equals vm1 "$n" vdb "$W/b.raw"

# Found larger at start.
stop_replicator
kept=$n
cp --sparse=always "$W/a.raw" "$W/a.kept"
truncate -s 56M "$W/a.raw"
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
reason=$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')
[ "$reason" = image-changed ] || [ "$reason" = resized ] || fail "reason for the sync of a disk found larger is '$reason'"
point_equals vm1 "$kept" vda "$W/a.kept"
is "size of the point from before it was found larger" "$(size_of_point "$kept")" $new_size
point_equals vm1 "$n" vda "$W/a.raw"
is "size of the point of the disk found larger" "$(size_of_point "$n")" $((56 << 20))

# Retention folds the small points into the large base.
for i in 1 2 3 4 5; do
	nbd_io vm1 vda "write -P $i $((i * 9))M 64k" flush
	n=$(cycle vm1)
done
folded() { [ "$(points vm1 | wc -l)" -le 4 ]; }
wait_for 30 folded
for p in $(points vm1); do
	qemu-img check -q "$(point_disk vm1 "$p" vda)" || fail "point $p is damaged after folds"
done
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"

# Found smaller at start: nothing is served, no point is lost, and it goes on by itself when the size is back.
stop_replicator
kept=$(points vm1)
truncate -s 40M "$W/a.raw"
start_replicator
failed() { [ "$(protection vm1 .state)" = failed ]; }
wait_for 20 failed
protection vm1 .reason | grep -q 'became smaller while it was not served' || fail "reason: $(protection vm1 .reason)"
is "points after a shrunken disk" "$(points vm1)" "$kept"
truncate -s 56M "$W/a.raw"
kagami resume vm1 >/dev/null
wait_for 30 connected vm1
n=$(cycle vm1)
is "reason of the sync of an image that was cut" "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" image-changed
point_equals vm1 "$n" vda "$W/a.raw"
