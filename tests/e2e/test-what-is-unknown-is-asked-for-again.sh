#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Digests of the newest point are lost, and the source cannot send what they were of for now: the point stays in quarantine, and the receiver asks for it again
# in each session, after a rest and after a restart of either side, until it came. What it did not ask for does not travel.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --points 20 >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 1 1M 192k'
older=$(cycle vm1)
nbd_io vm1 vda 'write -P 2 4M 256k'
newest=$(cycle vm1)

damaged() { # POINT
	at_target GET /v1/protections/vm1/points | jq --argjson n "$1" '.points[] | select(.point == $n).damaged_blocks'
}
is_refused() { [ "$(damaged "$1")" -gt 0 ]; }
in_state() { [ "$(protection vm1 .state)" = "$1" ]; }
times_asked() { grep -c 'blocks are damaged at the receiver, and are sent again protection=vm1 blocks=4$' "$W/kagami-replicator.log" || true; }
asked_more_than() { [ "$(times_asked)" -gt "$1" ]; }

# The sector of the list that names those four blocks; and no room for what makes them good.
kagami pause vm1 >/dev/null
kill_receiver
printf X | dd of="$STORE/vm1/points/$newest/vda.digests" bs=1 seek=600 conv=notrunc status=none
start_receiver
kagami limit vm1 --quota 1M >/dev/null
kagami resume vm1 >/dev/null
wait_for 30 is_refused "$newest"
wait_for 30 in_state quota-reached
is "damaged blocks of point $newest" "$(damaged "$newest")" 4
is "damaged blocks of point $older" "$(damaged "$older")" 0
refuses 'quarantine' kagami test start "vm1@$newest"

# A rest; then the receiver starts anew; then the source does.
asked_again_after() { # WHAT: what was done since $before was counted
	wait_for 40 asked_more_than "$before"
	wait_for 30 in_state quota-reached
	is "damaged blocks of point $newest after $1" "$(damaged "$newest")" 4
	is "newest point after $1" "$(newest_point vm1)" "$newest"
}
kagami pause vm1 >/dev/null
wait_for 30 in_state paused
before=$(times_asked)
at_least "times that it was asked for at first" "$before" 1
kagami resume vm1 >/dev/null
asked_again_after "a rest"
kill_receiver
before=$(times_asked)
start_receiver
asked_again_after "a restart of the receiver"
stop_replicator
before=$(times_asked)
start_replicator
asked_again_after "a restart of the source"
kill_replicator
before=$(times_asked)
start_replicator
kagami limit vm1 --quota none >/dev/null

repaired() { [ "$(newest_point vm1)" -gt "$newest" ]; }
wait_for 60 repaired
asked_more_than "$before" || fail "not asked after the death of the source"
newer=$(newest_point vm1)
is "damaged blocks of point $newer" "$(damaged "$newer")" 0
is "damaged blocks of point $newest" "$(damaged "$newest")" 4
is "blocks of the repair" "$(protection vm1 .last_cycle.sent_blocks)" 4
point_equals vm1 "$newer" vda "$W/a.raw"
kagami scrub "vm1@$newer" --wait --rate 1G >/dev/null 2>&1 || true # the one below stays damaged
is "damaged blocks of point $newer, after a proof of each" "$(damaged "$newer")" 0
kagami test start "vm1@$newer" --verify >/dev/null
kagami test stop vm1 >/dev/null
daemons_alive
