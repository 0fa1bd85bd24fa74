#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An image that is cut short while it is served gives no point, and says why; when it has its size again, everything is
# compared that is of its disk, and nothing of the others, also where the agent dies in between; the next point is what the image holds now. One that is cut while the agent is stopped is not served
# meanwhile.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((64 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1s >/dev/null
other() { protection vm1 ".disks[] | select(.name == \"vdb\") | $1"; }
newest_sync() { at_source GET /v1/protections/vm1/syncs | jq -r ".syncs[0] | $1"; }
# What a death of the agent would cost: all of the disk that is short, and of the other what is marked. Until all of the former is marked it is all of both.
priced() {
	protection vm1 '. as $p | [.disks[] | select(.name == "vdb") | .marked_regions][0] as $n | "\($p.crash_price.reread_bytes == 33554432 + $n * 4194304) \($n <= 2)"' |
		grep -q 'true true'
}
wait_for 60 has_point vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

truncate -s 1M "$W/a.raw"
says_why() { protection vm1 .reason | grep -q 'was cut from'; }
wait_for 30 says_why
stuck=$(newest_point vm1)
status=0
kagami cycle vm1 --wait --timeout 60s >"$W/out" 2>&1 || status=$?
is "exit status of a cycle of an image that is short ($(cat "$W/out"))" $status 1
grep -q 'will not be committed: the image of disk vda was cut from 33554432 to 1048576 bytes while it is served: give it its size back' "$W/out" || fail "the cycle says: $(cat "$W/out")"
sleep 2.5 # more than two objectives
is 'the newest point while the image is short' "$(newest_point vm1)" "$stuck"
is 'what is dirty of the other disk' "$(other .dirty_bytes)" 0
is 'errors of the other disk' "$(other '"\(.errors) \(.cut_short)"')" '0 '
wait_for 30 priced

truncate -s 32M "$W/a.raw"
went_on() { [ "$(newest_point vm1)" -gt "$stuck" ]; }
wait_for 30 went_on
is 'reason of the sync' "$(newest_sync .reason)" image-changed
at_least 'bytes that it had to compare' "$(newest_sync .candidate_bytes)" $((32 << 20))
at_most 'bytes that it had to compare, of 96 MiB' "$(newest_sync .candidate_bytes)" $((40 << 20))
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"

# A write of the guest gives it its size back before anybody has looked: what was cut off is compared all the same.
changed_images() { at_source GET /v1/protections/vm1/syncs | jq '[.syncs[] | select(.reason == "image-changed")] | length'; }
nbd_io vm1 vda 'write -P 11 8M 4M' flush >/dev/null
cycle vm1 >/dev/null
before=$(changed_images)
kagami pause vm1 >/dev/null
truncate -s 1M "$W/a.raw"
nbd_io vm1 vda 'write -P 9 33550336 4k' flush >/dev/null
is 'size after the write' "$(stat -c %s "$W/a.raw")" 33554432
kagami resume vm1 >/dev/null
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
is 'syncs of images that changed' "$(changed_images)" $((before + 1))
at_least 'bytes that it had to compare' "$(newest_sync .candidate_bytes)" $((32 << 20))

# Nor does anybody look before the agent ends: what it saw is in the file of a stop in order, and in the note that a kill leaves.
write_unseen() { # after which the image is 32 MiB again, and one piece is dirty
	nbd_io vm1 vda "write -P $1 8M 4M" flush >/dev/null
	cycle vm1 >/dev/null
	before=$(changed_images)
	kagami pause vm1 >/dev/null
	truncate -s 1M "$W/a.raw"
	nbd_io vm1 vda 'write -P 9 33550336 4k' flush >/dev/null
	is 'size after the write' "$(stat -c %s "$W/a.raw")" 33554432
}
is_compared() { # how the agent ended
	start_replicator
	kagami resume vm1 >/dev/null
	n=$(cycle vm1)
	point_equals vm1 "$n" vda "$W/a.raw"
	point_equals vm1 "$n" vdb "$W/b.raw"
	is "syncs of images that changed, after $1" "$(changed_images)" $((before + 1))
	at_most 'bytes that it had to compare, of 96 MiB' "$(newest_sync .candidate_bytes)" $((40 << 20))
}
write_unseen 12
stop_replicator
is_compared 'a stop'
write_unseen 13
sleep 1 # its thread sleeps
kill_replicator
is_compared 'a kill'

# One that is short is not made larger than it was, which would hide it.
nbd_io vm1 vda 'write -P 10 8M 4M' flush >/dev/null
cycle vm1 >/dev/null
before=$(changed_images)
kagami pause vm1 >/dev/null
truncate -s 1M "$W/a.raw"
refuses 'was cut from 33554432 to 1048576 bytes' kagami resize vm1 vda --size 48M
is 'size of the image' "$(stat -c %s "$W/a.raw")" 1048576
truncate -s 32M "$W/a.raw"
kagami resume vm1 >/dev/null
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"
is 'syncs of images that changed' "$(changed_images)" $((before + 1))

# The agent dies while it is short.
truncate -s 1M "$W/a.raw"
wait_for 30 says_why
stuck=$(newest_point vm1)
wait_for 30 priced
kill_replicator
truncate -s 32M "$W/a.raw"
start_replicator
wait_for 30 went_on
is 'reason of the sync after a death' "$(newest_sync .reason)" image-changed
at_least 'bytes that it had to compare' "$(newest_sync .candidate_bytes)" $((32 << 20))
at_most 'bytes that it had to compare, of 96 MiB' "$(newest_sync .candidate_bytes)" $((40 << 20))
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"

stop_replicator
truncate -s 16M "$W/a.raw"
start_replicator
says_smaller() { protection vm1 .reason | grep -q 'had 33554432: it became smaller while it was not served; restore its size'; }
wait_for 30 says_smaller
[ ! -e "$KAGAMI_RUN_DIR/nbd/vm1.sock" ] || fail "a disk is served half of which was cut off"
stuck=$(newest_point vm1)
truncate -s 32M "$W/a.raw"
wait_for 90 went_on
is 'reason of the sync' "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" image-changed
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

# It is compared by digests also on a connection on which what a guest writes goes without a question, since hardly any of it was equal.
kagami set vm1 --rpo 1h >/dev/null # no cycle but those below
for off in 0 8M; do
	head -c 8M /dev/urandom >"$W/random"
	nbd_io vm1 vdb "write -s $W/random $off 8M" flush >/dev/null
	cycle vm1 >/dev/null
done
at_least 'blocks that went without a question' "$(protection vm1 .last_cycle.unasked_blocks)" 32
truncate -s 62M "$W/b.raw"
nbd_io vm1 vdb 'write -P 9 67104768 4k' flush >/dev/null
n=$(cycle vm1)
point_equals vm1 "$n" vdb "$W/b.raw"
is 'reason of the sync' "$(newest_sync .reason)" image-changed
at_least 'bytes that it had to compare' "$(newest_sync .candidate_bytes)" $((64 << 20))
at_most 'bytes that it sent' "$(newest_sync .sent_bytes)" $((1 << 20))
is 'blocks that it sent without a question' "$(protection vm1 .last_cycle.unasked_blocks)" 0
daemons_alive
