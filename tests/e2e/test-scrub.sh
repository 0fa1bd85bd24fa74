#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Bytes are flipped in a point and in the base: the scrub names them, the points that show them are refused, the source sends the blocks again
# at once, and the newest point is sound and equal to the disk. All of it outlives the receiver.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((4 << 20)) 2
start_pair
is "a scrub of an empty store" "$(kagami scrub --all --json | jq -c .)" '{}'
kagami scrub --all --wait | grep -q 'nothing to scrub: the store has no protection' || fail "a scrub of an empty store does not say that there was none"
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 3 >/dev/null
wait_for 30 has_point vm1
for n in 1 2 3 4; do
	nbd_io vm1 vda "write -P $n 1M 192k" "write -P 7$n 4M 4k" "write -P 8$n 300k 100k"
	newest=$(cycle vm1)
done
folded() { [ "$(points vm1 | wc -l)" = 3 ]; }
wait_for 20 folded
oldest=$(points vm1 | head -n 1)

# Sound: every block is proven, those too that travelled in pieces.
kagami status vm1 | grep -q 'not every block was proven yet' || fail "nothing was proven yet: $(kagami status vm1)"
kagami scrub vm1 --wait --rate 1G >"$W/scrub.out" || fail "a sound replica does not prove: $(cat "$W/scrub.out")"
grep -q '100 % of blocks proven since .*, 0 mismatches' "$W/scrub.out" || fail "it says $(cat "$W/scrub.out")"
kagami status vm1 | grep -q '100 % of blocks proven since' || fail "status does not say it: $(kagami status vm1)"
at_least "versions of blocks" "$(at_target GET /v1/protections/vm1/scrub | jq .last.proven_blocks)" $((36 * 16 + 10))
kagami scrub "vm1@$newest" --wait --rate 1G >/dev/null || fail "point $newest does not prove"

# Flip a bit of block 16 (1M) in the newest point, and of the base at 20M, which no point holds.
quarantined() { # NUMBERS: exactly these are
	at_target GET /v1/protections/vm1/points | jq -r '[.points[] | select(.damaged_blocks > 0) | .point] | map(tostring) | join(" ")'
}
base=$STORE/vm1/base/vda.raw
kagami pause vm1
"$e2e/flip_cluster.py" "$(point_disk vm1 "$newest" vda)" 16
printf 'X' | dd of="$base" bs=1 seek=$((20 << 20)) conv=notrunc status=none
status=0
kagami scrub vm1 --wait --rate 1G >"$W/scrub.out" 2>"$W/scrub.err" || status=$?
is "status of a scrub that finds damage" $status 1
grep -q '2 mismatches\|3 mismatches\|4 mismatches' "$W/scrub.out" || fail "it says $(cat "$W/scrub.out")"
is "points in quarantine" "$(quarantined)" "$(points vm1 | paste -sd' ')" # the base is under all of them
is "damaged blocks of the newest" "$(at_target GET /v1/protections/vm1/points | jq '.points[-1].damaged_blocks')" 2
grep -q 'a block is not what its digest says.*disk=vda block=16 ' "$W/kagami-receiver.log" || fail "the log does not name block 16"
grep -q 'a block is not what its digest says.*disk=vda block=320 ' "$W/kagami-receiver.log" || fail "the log does not name block 320"
kagami points vm1 | grep -q 'in quarantine: 2 damaged blocks' || fail "points: $(kagami points vm1)"
kagami status | grep -q 'newest point is in quarantine' || fail "status: $(kagami status)"

# It is not served, also not after a kill.
mkdir "$W/mnt"
for _ in 1 2; do
	refuses 'quarantine.*--damaged' kagami mount "vm1@$newest" "$W/mnt"
	refuses 'quarantine.*--damaged' kagami test start "vm1@$newest"
	refuses 'quarantine.*--damaged' kagami files "vm1@$newest" ls
	refuses 'quarantine.*--damaged' kagami failover vm1 --yes
	kill_receiver
	start_receiver
done
is "points in quarantine after the kill" "$(quarantined)" "$(points vm1 | paste -sd' ')"
is "state" "$(replica vm1 .state)" disconnected # not failed over

# The source hears of it with its next session, and sends those two blocks again, whole, at once. Should it die before that, the next start does.
marked_bytes() { protection vm1 '[.disks[].marked_regions] | add * 4194304'; }
repairs() { [ "$(protection vm1 .sync_reason)" = replica-damaged ] && [ "$(protection vm1 .progress)" != null ]; }
kagami set vm1 --bandwidth 128kbit >/dev/null
kagami resume vm1
wait_for 30 repairs
is "price of a crash before the repair" "$(protection vm1 .crash_price.reread_bytes)" $(($(marked_bytes) + 2 * 65536))
kagami set vm1 --bandwidth none >/dev/null
repaired() { [ "$(newest_point vm1)" -gt "$newest" ]; }
wait_for 60 repaired
newer=$(newest_point vm1)
is "reason of the sync" "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" replica-damaged
is "price of a crash after it" "$(protection vm1 .crash_price.reread_bytes)" "$(marked_bytes)"
is "blocks of the repair" "$(protection vm1 .last_cycle.sent_blocks)" 2
is "damaged blocks of point $newer" "$(at_target GET /v1/protections/vm1/points | jq '.points[-1].damaged_blocks')" 0
point_equals vm1 "$newer" vda "$W/a.raw"
point_equals vm1 "$newer" vdb "$W/b.raw"
kagami scrub "vm1@$newer" --wait --rate 1G >/dev/null 2>&1 || true # the older ones stay damaged
is "points in quarantine" "$(quarantined)" "$(points vm1 | head -n -1 | paste -sd' ')"

# Damage that is found while the source is connected: the session ends, and the repair comes by itself.
nbd_io vm1 vda 'write -P 0x44 9M 64k'
newest=$(cycle vm1)
"$e2e/flip_cluster.py" "$(point_disk vm1 "$newest" vda)" 144
kagami scrub "vm1@$newest" --wait --rate 1G >/dev/null 2>&1 && fail "the scrub has not seen it"
wait_for 60 repaired
newer=$(newest_point vm1)
point_equals vm1 "$newer" vda "$W/a.raw"
is "damaged blocks of point $newer" "$(at_target GET /v1/protections/vm1/points | jq '.points[-1].damaged_blocks')" 0
kagami failover "vm1@$((newer))" --dry-run >/dev/null

# When the points that showed it are folded, nothing is in quarantine any more.
for n in 1 2 3 4; do
	nbd_io vm1 vda "write -P 5$n 11M 64k"
	cycle vm1 >/dev/null
done
kagami scrub vm1 --wait --rate 1G >"$W/scrub.out" 2>&1 || fail "damage is left: $(cat "$W/scrub.out")"
is "points in quarantine at the end" "$(quarantined)" ""
daemons_alive

# A slow scrub goes on where it was, after a clean stop.
kagami scrub vm1 --rate 2M >/dev/null
moved() { [ "$(at_target GET /v1/protections/vm1/scrub | jq .pass.done_bytes)" -gt 0 ]; }
wait_for 60 moved
stop_receiver
start_receiver
moved || fail "the scrub began anew: $(at_target GET /v1/protections/vm1/scrub)"
kagami scrub vm1 --stop >/dev/null
is "pass after --stop" "$(at_target GET /v1/protections/vm1/scrub | jq .pass)" null
is "of whom a scrub of all tells, and that it is over" "$(kagami scrub --all --wait --rate 1G --json | jq -c 'map_values(.pass)')" '{"vm1":null}'
refuses 'no point 999' kagami scrub vm1@999
refuses 'name a protection' kagami scrub

# In a window that is not now: what is asked for runs at once, and the status tells the window.
hour=$((10#$(date +%H)))
stop_receiver
refuses 'no window' kagami-receiver --store "$STORE" --listen "127.0.0.1:$PORT" --run-dir "$W/other" --offpeak 25:00-26:00
printf -v window '%02d:30-%02d:30' $(((hour + 3) % 24)) $(((hour + 4) % 24))
start_receiver --offpeak "$window"
is "window" "$(at_target GET /v1/protections/vm1/scrub | jq -r .window)" "$window"
kagami scrub vm1 --wait --rate 1G >/dev/null || fail "a scrub that was asked for, outside of the window"
is "late" "$(at_target GET /v1/protections/vm1/scrub | jq -r .late)" false
stop_replicator
stop_receiver
kagami store check "$STORE" >/dev/null || fail "the store is not sound: $(kagami store check "$STORE")"
