#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The file system under an image fails while its guest is idle: that is an error of that disk, shown and told as any other, and no change of any image. A death of the agent costs
# what was marked; a stop that could not be one in order says once what the next start compares, and sends nobody to the state directory.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl mkfs.xfs xfs_io losetup
requires_root
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"

mkdir "$W/fs"
truncate -s 320M "$W/fs.img"
mkfs.xfs -q "$W/fs.img"
mount -o loop "$W/fs.img" "$W/fs"
at_end "umount -l '$W/fs'"
new_image "$W/fs/a.raw" $((32 << 20))
new_image "$W/b.raw" $((64 << 20)) 2
start_pair
kagami protect vm1 vda="$W/fs/a.raw" vdb="$W/b.raw" --to dr --rpo 1s >/dev/null
wait_for 60 has_point vm1
nbd_io vm1 vda 'write -P 5 1M 64k' flush
cycle vm1 >/dev/null
disk() { protection vm1 ".disks[] | select(.name == \"$1\") | $2"; }
newest_sync() { at_source GET /v1/protections/vm1/syncs | jq -r ".syncs[0] | $1"; }
cannot_be_asked() { protection vm1 .reason | grep -q 'the image of disk vda does not say what it is (stat image .*: Input/output error): repair the storage under it'; }

shut_down() {
	wait_for 10 rest_says vm1 vda 1
	sync -f "$W/fs" # the times of the image are on the disk: else it comes back as it was at some time before, and is compared for that
	xfs_io -x -c shutdown "$W/fs"
}

syncs=$(at_source GET /v1/protections/vm1/syncs | jq '.syncs | length')
shut_down
wait_for 30 cannot_be_asked
sleep 2.5 # more than two objectives
at_least 'errors of the disk' "$(disk vda .errors)" 1
[[ $(disk vda .error) == *": stat of image $W/fs/a.raw: Input/output error" ]] || fail "the status says: $(disk vda .error)"
is 'failed, cut short' "$(disk vda '"\(.failed) \(.cut_short)"')" 'false '
is 'errors of the other disk' "$(disk vdb '"\(.errors) \(.error)"')" '0 '
is 'a sync' "$(protection vm1 .sync_reason)" null
is 'what is dirty' "$(protection vm1 '[.disks[].dirty_bytes] | add')" 0
marked=$(protection vm1 '[.disks[].marked_regions] | add * 4194304')
is 'what a death would cost' "$(protection vm1 .crash_price.reread_bytes)" "$marked"
at_most 'of 96 MiB' "$marked" $((40 << 20))
is 'syncs on record' "$(at_source GET /v1/protections/vm1/syncs | jq '.syncs | length')" "$syncs"
at_source GET '/v1/events?since=0&newest=1000' | jq -e '[.events[] | select(.severity == "critical" and (.text | test("an operation on disk vda of vm1 failed: .*stat of image")))] | length == 1' >/dev/null ||
	fail "the events do not say it once"
kagami status vm1 --check >"$W/out" && fail "it is well: $(cat "$W/out")"

kill_replicator
remount() {
	umount "$W/fs"
	mount -o loop "$W/fs.img" "$W/fs"
}
remount
start_replicator
wait_for 30 connected vm1
n=$(cycle vm1)
is 'reason after a death' "$(newest_sync .reason)" unclean-stop
at_most 'bytes that it had to compare' "$(newest_sync .candidate_bytes)" "$marked"
point_equals vm1 "$n" vda "$W/fs/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"

# A stop: what is said of it is said once, and is true.
nbd_io vm1 vda 'write -P 6 2M 64k' flush
n=$(cycle vm1)
shut_down
wait_for 30 cannot_be_asked
lines=$(wc -l <"$W/kagami-replicator.log")
kill "$REPLICATOR"
status=0
wait "$REPLICATOR" || status=$?
is 'exit status of the stop' $status 3
tail -n +$((lines + 1)) "$W/kagami-replicator.log" >"$W/said"
is 'statements of what the next start compares' "$(grep -c 'the next start compares' "$W/said")" 1
grep -q 'the next start compares what its state files mark, .*the images of vm1 could not be synced.*repair the storage under them' "$W/said" || fail "the stop says: $(cat "$W/said")"
grep -q 'state directory' "$W/said" && fail "it sends to the state directory: $(cat "$W/said")"
remount
start_replicator
wait_for 30 connected vm1
kagami clear-error vm1 vda >/dev/null # its last sync failed, and a guest may wait for a flush
n=$(cycle vm1)
is 'reason after that stop' "$(newest_sync .reason)" unclean-stop
at_most 'bytes that it had to compare, of 96 MiB' "$(newest_sync .candidate_bytes)" $((40 << 20))
point_equals vm1 "$n" vda "$W/fs/a.raw"
daemons_alive
