#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A failover gives a writable disk on exactly the chosen point, leaves the point as it is, and fences the source.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((8 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 3 >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 0x81 1M 1M'
chosen=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.chosen"
cp --sparse=always "$W/b.raw" "$W/b.chosen"
nbd_io vm1 vda 'write -P 0x82 1M 1M'
nbd_io vm1 vdb 'write -P 0x83 1M 1M'
newer=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.newer"

kagami failover "vm1@$chosen" >"$W/failover.out"
grep -q qemu-system "$W/failover.out" || fail "failover prints no QEMU command: $(cat "$W/failover.out")"
answer=$(at_target POST /v1/protections/vm1/failover "{\"point\": $chosen}")
is "point of the failover" "$(jq .point <<<"$answer")" "$chosen"
a=$(jq -r '.disks[] | select(.name == "vda") | .path' <<<"$answer")
b=$(jq -r '.disks[] | select(.name == "vdb") | .path' <<<"$answer")
is "format" "$(jq -r '.disks[0].format' <<<"$answer")" qcow2
grep -qF "$a" "$W/failover.out" || fail "failover does not print $a"
at_most "milliseconds of the failover" "$(jq .duration_ms <<<"$answer")" 5000
qemu-img compare -q -f raw -F qcow2 "$W/a.chosen" "$a" || fail "the overlay differs from the point"
qemu-img compare -q -f raw -F qcow2 "$W/b.chosen" "$b" || fail "the overlay differs from the point"

# Once more: the same answer, with what was written in between. Another point: refused.
qemu-io -f qcow2 -c 'write -P 0x91 2M 64k' -c flush "$a" >/dev/null
kagami failover "vm1@$chosen" >/dev/null
qemu-io -r -f qcow2 -c 'read -P 0x91 2M 64k' "$a" | grep -q 'read 65536' || fail "a second failover lost the first one's writes"
refuses 'already|failed over|point' kagami failover "vm1@$newer"
is "state at the target" "$(replica vm1 .state)" failed-over
kagami status vm1 >"$W/status.out"
sed -n '/(target)/,$p' "$W/status.out" | grep -q 'none follows a failover' || fail "the failed-over replica: $(cat "$W/status.out")"
! sed -n '/(target)/,$p' "$W/status.out" | grep -q 'RPO' || fail "a failed-over replica has no RPO: $(cat "$W/status.out")"

# The source is fenced, says so, and serves its guest on. No new point ever.
fenced() { [ "$(protection vm1 .state)" = fenced ]; }
nbd_io vm1 vda 'write -P 0x84 4M 64k' 'read -P 0x84 4M 64k'
at_source POST /v1/protections/vm1/cycle >/dev/null 2>&1 || true
wait_for 20 fenced
[ -n "$(protection vm1 .reason)" ] || fail "fenced without a reason"
kagami status vm1 >"$W/status.out" || true
grep -qi 'fenced\|failed over' "$W/status.out" || fail "kagami status does not say it: $(cat "$W/status.out")"
is "newest point" "$(newest_point vm1)" "$newer"
point_equals vm1 "$chosen" vda "$W/a.chosen"
point_equals vm1 "$newer" vda "$W/a.newer"

# All of that survives a restart of both.
stop_replicator
kill_receiver
start_receiver
start_replicator
wait_for 20 fenced
is "state at the target" "$(replica vm1 .state)" failed-over
is "path of the overlay" "$(at_target POST /v1/protections/vm1/failover '{}' | jq -r '.disks[0].path')" "$a"
qemu-io -r -f qcow2 -c 'read -P 0x91 2M 64k' "$a" | grep -q 'read 65536' || fail "the overlay lost its writes"
point_equals vm1 "$chosen" vda "$W/a.chosen"
daemons_alive

# Without a point: the newest.
new_image "$W/c.raw" $((4 << 20)) 3
kagami protect vm2 vda="$W/c.raw" --to dr --rpo 1h >/dev/null
n=$(cycle vm2)
stop_replicator
is "point of a failover that names none" "$(kagami failover vm2 --json | jq .point)" "$n"
