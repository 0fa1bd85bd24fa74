#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The image lies on a file system whose times are not those of this host (FUSE, as NFS and the like): nothing tells after a crash who changed it last, so all
# of it is compared, and the price says so before. A stop in order costs nothing, where a file keeps its times: that is bindfs here. QEMU's export has none, and says that it is always now.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl qemu-storage-daemon fusermount3 bindfs
requires_root
[ -e /dev/fuse ] || skip "needs /dev/fuse"

image=$W/a.raw
new_image "$W/behind.raw" $((32 << 20))
truncate -s $((32 << 20)) "$image"
qemu-storage-daemon --blockdev "driver=file,node-name=a,filename=$W/behind.raw,locking=off" \
	--export "type=fuse,id=a,node-name=a,mountpoint=$image,writable=on,growable=off,allow-other=off" >"$W/qsd.log" 2>&1 </dev/null &
behind=$!
pids+=($behind)
at_end "umount -l '$image'"
wait_for 10 eval '[ "$(stat -f -c %T "$image")" = fuseblk ] || [ "$(stat -f -c %t "$image")" = 65735546 ]'
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

newest_reason() { # PROTECTION
	at_source GET "/v1/protections/$1/syncs" | jq -r '.syncs[0].reason'
}

work() { # PROTECTION
	nbd_io "$1" vda "write -P $((RANDOM % 250 + 1)) 9M 64k"
	cycle "$1" >/dev/null
	nbd_io "$1" vda "write -P $((RANDOM % 250 + 1)) 20M 64k"
	is "what a death of the host would cost" "$(at_source GET "/v1/protections/$1" | jq .crash_price.reread_bytes)" $((32 << 20))
}

# QEMU's export takes a hole for a hint, says yes, and leaves what was there: zeros are not made by one.
nbd_io vm1 vda 'write -P 7 12M 64k' 'write -z -u 12M 64k' 'read -P 0 12M 64k' 'write -P 7 13M 64k' 'write -z -u 13317k 10k' 'read -P 0 13317k 10k' 'read -P 7 13M 5k'

# It may not answer: nobody who asks for the status waits for it.
kill -STOP $behind
timeout 10 kagami status >/dev/null || fail "status does not answer while an image does not"
timeout 10 kagami status vm1 >/dev/null || fail "status vm1 does not answer while its image does not"
kill -CONT $behind

work vm1
kill_replicator
start_replicator
wait_for 15 connected vm1
n=$(cycle vm1)
is "reason of the sync after a crash" "$(newest_reason vm1)" image-changed
point_equals vm1 "$n" vda "$image"
kagami unprotect vm1 --yes >/dev/null

mkdir "$W/below" "$W/seen"
new_image "$W/below/b.raw" $((32 << 20))
bindfs "$W/below" "$W/seen" 2>"$W/bindfs.log" || fail "bindfs: $(cat "$W/bindfs.log")"
at_end "umount -l '$W/seen'"
image=$W/seen/b.raw
kagami protect vm2 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm2
work vm2
stop_replicator
sleep 1.2 # what the kernel remembers of a file of FUSE, it remembers for a second
start_replicator
wait_for 15 connected vm2
n=$(cycle vm2)
is "syncs after a stop in order" "$(at_source GET /v1/protections/vm2/syncs | jq -c '[.syncs[].reason]')" '["initial"]'
point_equals vm2 "$n" vda "$image"

work vm2
kill_replicator
start_replicator
wait_for 15 connected vm2
n=$(cycle vm2)
is "reason of the sync after a crash" "$(newest_reason vm2)" image-changed
point_equals vm2 "$n" vda "$image"
daemons_alive
stop_replicator
