#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An image was written to behind the agent's back while it is served, which no dirty bit tells, and no note of rest, since the run directory is not in memory: `kagami cycle --compare` finds it, sends what differs, and says why; with the
# guest going on meanwhile, and through the death of the agent in the middle.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((64 << 20))
head -c $((16 << 20)) /dev/urandom | dd of="$W/a.raw" bs=1M seek=16 conv=notrunc status=none
export KAGAMI_RUN_DIR=$W/run
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
newest_sync() { kagami syncs vm1 --json | jq -r ".syncs[0] | $1"; }
behind_its_back() { head -c "$2" /dev/urandom | dd of="$W/a.raw" bs=4096 seek="$1" conv=notrunc status=none; } # PIECE BYTES

behind_its_back 5000 4096
behind_its_back 6001 4096
n=$(cycle vm1)
qemu-img compare -f qcow2 -F raw "$(point_disk vm1 "$n" vda)" "$W/a.raw" >/dev/null && fail "the test proves nothing: the change was seen without a comparison"
kagami cycle vm1 --wait --compare --json >"$W/last.json"
is "reason in the answer" "$(jq -r .sync_reason "$W/last.json")" asked
point_equals vm1 "$(jq .point "$W/last.json")" vda "$W/a.raw"
is "reason" "$(newest_sync .reason)" asked
is "blocks that went by their pieces" "$(newest_sync .piece_blocks)" 2
at_least "bytes read, of 64 MiB" "$(newest_sync .read_bytes)" $((48 << 20)) # but for holes
at_most "bytes sent for 8 KiB that differ" "$(newest_sync .sent_bytes)" 60000
count=$(kagami syncs vm1 --json | jq '.syncs | length')

# It is one comparison: the next cycle is a delta.
nbd_io vm1 vda 'write -P 7 1M 64k'
n=$(cycle vm1)
is "reason of the cycle after that" "$(protection vm1 .last_cycle.sync_reason)" null
is "syncs on record" "$(kagami syncs vm1 --json | jq '.syncs | length')" "$count"
point_equals vm1 "$n" vda "$W/a.raw"

# Killed in the middle, the agent compares everything again: marks tell nothing of what was written behind its back.
behind_its_back 4096 $((16 << 20))
nbd_io vm1 vda 'write -P 8 3M 64k'
kagami set vm1 --bandwidth 8mbit >/dev/null
at_source POST /v1/protections/vm1/cycle '{"compare": true}' >/dev/null
sending() { [ "$(protection vm1 .sync_reason)" = asked ] && [ "$(protection vm1 '.progress.done_bytes // 0')" -gt 0 ]; }
wait_for 30 sending
kill_replicator
start_replicator
kagami set vm1 --bandwidth none >/dev/null
wait_for 30 connected vm1
n=$(cycle vm1)
is "reason after the death" "$(newest_sync .reason)" image-changed # for want of a note
at_least "bytes read after it, of 64 MiB" "$(newest_sync .read_bytes)" $((48 << 20))
point_equals vm1 "$n" vda "$W/a.raw"

# Asked for while the receiver is away, it outlives the agent, too, and a power cut; it is one comparison even so. With notes of rest, so that a death costs no comparison by itself.
stop_replicator
stop_receiver
KAGAMI_RUN_DIR=$R/run
start_receiver
start_replicator
wait_for 30 connected vm1
cycle vm1 >/dev/null
stop_receiver
nbd_io vm1 vda 'write -P 8 3M 4k' # as it is there
price() { protection vm1 .crash_price.reread_bytes; }
at_most "price of a crash before it is asked for" "$(price)" $((32 << 20))
at_source POST /v1/protections/vm1/cycle '{"compare": true}' >/dev/null
is "price of a crash from then on" "$(price)" $((64 << 20)) # a comparison that is owed is not made cheaper by a death
kagami status vm1 | grep -q 'everything is compared by the next cycle' || fail "it is not shown: $(kagami status vm1)"
kill_replicator
start_replicator
is "price of a crash after the first" "$(price)" $((64 << 20))
start_receiver
wait_for 30 connected vm1
compared() { [ "$(newest_sync .reason)" = asked ] && [ "$(newest_sync .outcome)" = committed ]; }
wait_for 30 compared
point_equals vm1 "$(newest_point vm1)" vda "$W/a.raw"
count=$(kagami syncs vm1 --json | jq '.syncs | length')
stop_replicator
start_replicator
wait_for 30 connected vm1
cycle vm1 >/dev/null
is "syncs on record after another start" "$(kagami syncs vm1 --json | jq '.syncs | length')" "$count"

refuses 'paused' sh -c 'kagami pause vm1 >/dev/null; kagami cycle vm1 --compare'
is "status of a request that is none" "$(at_source POST /v1/protections/vm1/cycle '{"compare": 1}' 2>&1 | grep -c compare)" 1
daemons_alive
