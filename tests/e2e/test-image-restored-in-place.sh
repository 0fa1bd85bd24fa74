#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Somebody writes into an image while it is served: a backup is copied over it, an ISO is written anew in place. That is seen before the next cycle, before the next write of the
# guest hides it, and at a stop; all of that disk is compared, and nothing of the others. A growth of ours, under load, is nobody else's change.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl fio

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((64 << 20)) 2
new_image "$W/cd.iso" $((16 << 20)) 3
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" cd="$W/cd.iso" --read-only cd --to dr --rpo 1h >/dev/null
newest_sync() { at_source GET /v1/protections/vm1/syncs | jq -r ".syncs[0] | $1"; }
changed_images() { at_source GET /v1/protections/vm1/syncs | jq '[.syncs[] | select(.reason == "image-changed")] | length'; }
all_equal() { # POINT
	point_equals vm1 "$1" vda "$W/a.raw"
	point_equals vm1 "$1" vdb "$W/b.raw"
	point_equals vm1 "$1" cd "$W/cd.iso"
}
is_compared() { # MIB WHAT
	n=$(cycle vm1)
	all_equal "$n"
	is "syncs of images that changed, after $2" "$(changed_images)" $((before + 1))
	at_least "bytes that it had to compare after $2" "$(newest_sync .candidate_bytes)" $(($1 << 20))
	at_most "bytes that it had to compare after $2" "$(newest_sync .candidate_bytes)" $((($1 + 8) << 20))
}
wait_for 60 has_point vm1
cp -p "$W/a.raw" "$W/backup.raw"
written() { # by the guest, and shipped
	nbd_io vm1 vda "write -P $1 8M 8M" flush >/dev/null
	cycle vm1 >/dev/null
	before=$(changed_images)
	sleep 0.5 # its thread sleeps
}

written 1
cp -p "$W/backup.raw" "$W/a.raw"
is_compared 32 'a restore that a cycle is the first to see'

written 2
cp -p "$W/backup.raw" "$W/a.raw"
nbd_io vm1 vda 'write -P 3 24M 64k' flush >/dev/null
is_compared 32 'a restore, and a write of the guest behind it'

written 4
cp -p "$W/backup.raw" "$W/a.raw"
stop_replicator
start_replicator
is_compared 32 'a restore before a stop'

written 5
cp -p "$W/backup.raw" "$W/a.raw"
nbd_io vm1 vda 'write -P 6 24M 64k' flush >/dev/null
sleep 0.5
kill_replicator
start_replicator
is_compared 32 'a restore, a write of the guest, and a kill'

written 7
dd if="$W/b.raw" of="$W/cd.iso" bs=1M count=16 conv=notrunc status=none
is_compared 16 'a new image of a disk that is only read'

# Once, and not again; and what is ours is no change of somebody else's.
before=$(changed_images)
nbd_io vm1 vda 'write -P 8 0 4M' flush 'write -z 4M 1M' 'discard 6M 1M' >/dev/null
cycle vm1 >/dev/null
fio --name=load --ioengine=nbd --uri="nbd+unix:///vdb?socket=$KAGAMI_RUN_DIR/nbd/vm1.sock" --rw=randwrite --bs=4k --iodepth=4 --size=64M --time_based --runtime=6 --output="$W/fio" &
load=$!
for mib in 33 34 35 36 37 38 39 40; do
	kagami resize vm1 vda --size "${mib}M" >/dev/null
	nbd_io vm1 vda "write -P 9 $((mib - 1))M 64k" >/dev/null
	kagami resize vm1 vdb --size "$((mib + 64))M" >/dev/null
done
wait $load
cycle vm1 >/dev/null
all_equal "$(cycle vm1)"
stop_replicator
start_replicator
all_equal "$(cycle vm1)"
is 'syncs of images that changed, of what we did ourselves' "$(changed_images)" "$before"
daemons_alive
