#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Holes are told, and the record of them cannot be written: no state file may name the cut. The status says so, and what it costs; it ends with the first point after it can be,
# also where that is the moment in which this very point is committed.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl cc
cc -shared -fPIC -O1 -o "$W/held.so" "$e2e/rename_held.c" -ldl || skip "cannot build a library to preload"
preloads=${ASAN_OPTIONS:-}:verify_asan_link_order=0 # it wants to come before every other library, and does no harm behind this one

truncate -s 4G "$R/b.raw" # in memory, where a hole is told as what it is
start_receiver
ASAN_OPTIONS=$preloads LD_PRELOAD=$W/held.so KAGAMI_TEST_NAME=audit.json KAGAMI_TEST_HELD=$W/held start_replicator
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$R/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
rm -f "$STATE/protections/vm1/audit.json"
mkdir "$STATE/protections/vm1/audit.json"
nbd_io vm1 vda 'discard 0 1G' 'discard 1G 1G' flush
cycle vm1 >/dev/null
protection vm1 .needs_sync | grep -q 'cannot write the record of unproven holes .*: it is no regular file (since 20' || fail "needs_sync without a record of holes: $(protection vm1 .needs_sync)"
is "price of a crash without a record of holes" "$(protection vm1 .crash_price.reread_bytes)" $((4 << 30))
is "tracking_lost without a record of holes" "$(protection vm1 '.disks[0].tracking_lost')" false
kagami status | grep -q 'needs a sync' || fail "kagami status does not say that a sync is needed: $(kagami status)"
rmdir "$STATE/protections/vm1/audit.json"
cycle vm1 >/dev/null
is "needs_sync with a record of holes" "$(protection vm1 .needs_sync)" null
at_most "price of a crash with a record of holes" "$(protection vm1 .crash_price.reread_bytes)" $((2 << 30))

# Once more, by an error that passes before the point is committed.
nbd_io vm1 vda 'write -P 0x68 3G 64k' 'discard 0 1G' 'discard 1G 1G' flush
touch "$W/held"
cycle vm1 >"$W/point" &
waits=$!
sleep 1.5
kill -0 $waits 2>/dev/null || fail "the point did not wait for the record of its holes"
rm "$W/held"
wait $waits || fail "the cycle failed"
grep -q 'record of unproven holes cannot be written.*Input/output error' "$W/kagami-replicator.log" || fail "nothing failed"
is "needs_sync, as the record was written with the commit" "$(protection vm1 .needs_sync)" null
at_most "price of a crash then: what was emptied" "$(protection vm1 .crash_price.reread_bytes)" $(((2 << 30) + (8 << 20)))
kill_replicator
start_replicator
wait_for 15 connected vm1
n=$(cycle vm1)
is "reason of the start after it" "$(kagami syncs vm1 --json | jq -r '.syncs[0].reason')" unclean-stop
qemu-img compare -q -f qcow2 -F raw "$(point_disk vm1 "$n" vda)" "$R/b.raw" || fail "the point differs"
daemons_alive
stop_replicator
