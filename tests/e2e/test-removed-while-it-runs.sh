#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Files that are removed, or replaced, under a running replicator: the state files, the configuration, an image. It is told within a minute or at the stop, the guest
# goes on, nothing that the guest wrote is lost, and no stop calls itself clean whose state is gone.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl cmp

new_image "$W/a.raw" $((8 << 20)) 1
new_image "$W/b.raw" $((8 << 20)) 2
new_image "$W/c.raw" $((8 << 20)) 3
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/c.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
wait_for 60 has_point vm2
cycle vm1 >/dev/null
cycle vm2 >/dev/null
healthy() { [ "$(protection "$1" .health)" = ok ]; }
healthy vm1 || fail "why: $(protection vm1 .why)"

stop_unsaved() {
	local status=0
	kill -TERM "$REPLICATOR"
	wait "$REPLICATOR" || status=$?
	is "exit status of a stop whose state is gone" $status 3
}

rm "$STATE/protections/vm1/vda.state"
rm -r "$STATE/protections/vm2"
cp "$W/b.raw" "$W/b.new"
mv "$W/b.new" "$W/b.raw"
ill() { ! healthy "$1"; }
wait_for 90 ill vm1
wait_for 10 ill vm2
wait_for 10 test -e "$STATE/protections/vm2/protection.json"
protection vm1 .needs_sync | grep -q '^disk vda: its state file was removed, or another put in its place, while the replicator ran' || fail "needs_sync: $(protection vm1 .needs_sync)"
is "what a crash costs" "$(protection vm1 '.crash_price.reread_bytes >= 8388608')" true
is "health of an image that was replaced" "$(protection vm1 .health)" critical
protection vm1 '.why[0].text' | grep -q '^disk vdb: its image .*/b.raw was replaced by another file while it is served' || fail "why: $(protection vm1 .why)"
kagami status vm1 >"$W/detail"
grep -q "^    ! its image .*/b.raw was replaced by another file while it is served: .* Copy it out before, its guest shut down (nbdcopy 'nbd+unix:" "$W/detail" || fail "the detail of vm1 says: $(cat "$W/detail")"
is "what is said of a disk that is where it was" "$(grep -c '^    ! its image' "$W/detail")" 1
event() { at_source GET /v1/events | jq -e --arg text "$1" '[.events[] | select(.text | contains($text))] | length == 1' >/dev/null; }
event 'the tracking of disk vda of vm1 is lost' || fail "no event of the state file"
event 'the configuration of vm2 was removed from the state directory while it runs, and was written anew' || fail "no event of the configuration"
event 'disk vdb of vm1: its image' || fail "no event of the image"

# The guest goes on, a point is made of it, and what has no name is copied out.
nbd_io vm1 vdb 'write -P 0x5a 64k 64k' flush
if command -v nbdcopy >/dev/null; then
	nbdcopy "$(protection vm1 '.disks[1].uri')" "$W/out.raw"
else
	qemu-img convert -f raw -O raw "$(protection vm1 '.disks[1].uri')" "$W/out.raw"
fi
n=$(cycle vm1)
point_equals vm1 "$n" vdb "$W/out.raw"
cmp -s "$W/b.raw" "$W/out.raw" && fail "the file in its place has what the guest wrote"

stop_unsaved
mv "$W/out.raw" "$W/b.raw"
start_replicator
wait_for 30 connected vm1
wait_for 30 connected vm2
cycle vm1 >/dev/null
cycle vm2 >/dev/null
is "protections" "$(at_source GET /v1/protections | jq -c '[.protections[].health]')" '["ok","ok"]'
point_equals vm1 "$(newest_point vm1)" vdb "$W/b.raw"

# All of it, and a stop before anybody looked. The next start is the same source to the receiver, and goes on with its replicas.
n=$(newest_point vm1)
cp "$STATE/identity.pem" "$W/identity.pem"
rm -rf "${STATE:?}"/*
stop_unsaved
cmp "$STATE/identity.pem" "$W/identity.pem" || fail "the key is another"
is "mode of the key" "$(stat -c %a "$STATE/identity.pem")" 600
grep -q 'files were removed from the state directory while the replicator runs, and were written anew: the key identity.pem, the site dr$' "$W/kagami-replicator.log" ||
	fail "the log does not say what was written anew"
start_replicator
is "protections after the state directory was emptied" "$(at_source GET /v1/protections | jq -c '[.protections[].name]')" '["vm1","vm2"]'
wait_for 30 connected vm1
wait_for 30 connected vm2
at_least "the next point" "$(cycle vm1)" $((n + 1))
cycle vm2 >/dev/null
daemons_alive
