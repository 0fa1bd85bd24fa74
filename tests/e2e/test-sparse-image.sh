#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The holes of a sparse image are not read: a sync of 20 GiB with 64 MiB of data reads those 64 MiB, the point is the disk, and so is
# the next one, after the guest has written into a hole and punched one.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

case $(stat -f -c %T "$W") in
ext2/ext3 | xfs | btrfs | tmpfs) ;;
*) skip "$W is on a file system whose holes are not believed" ;;
esac
truncate -s 20G "$W/a.raw"
for at in 0 4096 10000 20479; do # MiB
	head -c 16M /dev/urandom | dd of="$W/a.raw" bs=1M seek="$at" count=16 iflag=fullblock conv=notrunc status=none
done
truncate -s $((20495 << 20)) "$W/a.raw"
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
synced() {
	[ "$(kagami syncs vm1 --json | jq '.syncs | length')" = 1 ]
}
wait_for 10 synced
at_most "bytes read of 20 GiB" "$(kagami syncs vm1 --json | jq .syncs[0].read_bytes)" $((96 << 20))
at_least "bytes read, of 64 MiB of data" "$(kagami syncs vm1 --json | jq .syncs[0].read_bytes)" $((64 << 20))
at_most "bytes sent" "$(kagami syncs vm1 --json | jq .syncs[0].sent_bytes)" $((66 << 20))
point_equals vm1 1 vda "$W/a.raw"

qemu-io -f raw -c 'write -P 0x41 8G 1M' -c 'discard 4G 16M' "$(uri vm1 vda)" >/dev/null
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

# A digest sync of it all, block by block and by holes, changes nothing.
stop_replicator
touch "$W/a.raw"
start_replicator
wait_for 10 connected vm1
n=$(cycle vm1)
is "reason of the sync" "$(kagami syncs vm1 --json | jq -r .syncs[0].reason)" image-changed
at_most "bytes sent by a sync of an equal disk" "$(kagami syncs vm1 --json | jq .syncs[0].sent_bytes)" 65536
point_equals vm1 "$n" vda "$W/a.raw"

# Nor is a hole sent as data to who exports the point, however large it is.
content=$(at_target GET "/v1/protections/vm1/points/$n/disks/vda/content" | tail -c 200 | tr -d '\0' | grep -ao '"data_bytes": *[0-9]*' | tail -n 1 | tr -dc 0-9)
is "bytes of data in the content of the point" "$content" $((49 << 20))
kagami export vm1 "$W/out.raw" --disk vda --format raw >/dev/null
cmp "$W/a.raw" "$W/out.raw" || fail "what was exported is not the disk"
