#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Retention that people use: many points, of which tiers and pins keep some, and those equal what the disk held. Points in the
# middle are merged; the receiver is killed meanwhile. TIER_CYCLES=180 makes hundreds of it, with E2E_SECONDS for it.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((24 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --points 90 >/dev/null
wait_for 30 has_point vm1
kagami retention vm1 --points 190 --floor none >/dev/null

# What is there says which policy counts, and nonsense is refused.
is "policy" "$(replica vm1 '.retention | "\(.set_by) \(.points) \(.keep) \(.floor_hours)"')" "operator 190  0"
refuses 'keep' kagami retention vm1 --keep 15x:3
refuses '200' kagami retention vm1 --points 150 --keep 1m:51
refuses 'no point 9999' kagami pin vm1@9999 "not there"
refuses 'name the point' kagami pin vm1 "which?"
refuses 'no plan' kagami plan mounts vm1
refuses 'hours' kagami retention vm1 --floor 90m

write_some() { # N: a whole block, some pieces of another, zeros, and pieces of one that all share
	nbd_io vm1 vda "write -P $(($1 % 250 + 1)) $(($1 % 300 * 64))k 64k" "write -P $(($1 % 240 + 3)) $(($1 * 7 % 370 * 64 + 8))k 12k" \
		"write -z $(($1 * 13 % 380 * 64))k 64k" "write -P $(($1 % 200 + 9)) $((23 * 1024 + $1 % 16 * 4))k 4k"
}
cycles=${TIER_CYCLES:-50}
for ((i = 1; i <= cycles; i++)); do
	write_some $i
	n=$(cycle vm1)
	if ((i % 10 == 0)); then
		cp --sparse=always "$W/a.raw" "$W/a.$n"
		kagami pin "vm1@$n" "round $i" >/dev/null
	fi
done
cp --sparse=always "$W/a.raw" "$W/a.$n"
before=$(points vm1 | wc -l)
at_least "points before" "$before" "$((cycles < 190 ? cycles : 180))"

# The plan says what will be, and changes nothing.
kagami plan retention vm1 --points 2 --keep 1h:5 --json >"$W/plan"
is "points after the plan" "$(points vm1 | wc -l)" "$before"
kept=$(jq '[.points[] | select(.kept_by | length > 0) | .point]' -c "$W/plan")
is "what the plan counts" "$(jq .kept "$W/plan")" "$(jq length <<<"$kept")"
at_least "pinned points in the plan" "$(jq '[.points[] | select(.kept_by | index("pin"))] | length' "$W/plan")" $((cycles / 10))
kagami plan retention vm1 --points 2 --keep 1h:5 >"$W/out"
grep -q 'Nothing was changed' "$W/out" || fail "the plan does not say that nothing was changed"

# It becomes true, though the receiver is killed while it works.
kagami retention vm1 --points 2 --keep 1h:5 >/dev/null
sleep 0.3
kill_receiver
start_receiver
settled() { [ "$(at_target GET /v1/protections/vm1/retention | jq .removed)" = 0 ]; }
wait_for 90 settled
is "the points that stayed" "$(points vm1 | jq -s -c .)" "$kept"
for n in $(points vm1); do
	qemu-img check -q -f qcow2 "$(point_disk vm1 "$n" vda)" || fail "point $n: qemu-img check"
	[ ! -e "$W/a.$n" ] || point_equals vm1 "$n" vda "$W/a.$n"
done
for path in "$STORE"/vm1/points/*; do
	points vm1 | grep -qx "$(basename "$path")" || fail "the store still has $path"
done
is "what is left of the merges" "$(find "$STORE/vm1/merge" "$STORE/vm1/trash" -mindepth 1)" ""

# Pins are shown, outlive a restart, and are taken back; the next points stand on what was merged.
kagami points vm1 | grep -q 'pinned: round 10' || fail "kagami points does not show the pin"
for n in $(points vm1 | head -n 3); do
	kagami unpin "vm1@$n" >/dev/null
done
write_some 999
n=$(cycle vm1)
kagami retention vm1 --points 2 >/dev/null # so that the merge does not wait for more
wait_for 60 settled
for kept in $(points vm1); do
	[ ! -e "$W/a.$kept" ] || point_equals vm1 "$kept" vda "$W/a.$kept"
done
point_equals vm1 "$n" vda "$W/a.raw"

# The source's wish again: as many as it asked for, and the floor.
kagami retention vm1 --source >/dev/null
is "policy" "$(replica vm1 '.retention | "\(.set_by) \(.points) \(.floor_hours)"')" "source 90 24"

# Pins that are lost with their copy are not taken for none: every point stays, the status says what to do, and it goes on.
n=$(newest_point vm1)
kagami pin "vm1@$n" "to be lost" >/dev/null
stop_receiver
for path in "$STORE/vm1/pins.json" "$STORE/vm1/pins.json.copy"; do
	printf '~' | dd of="$path" bs=1 seek=30 conv=notrunc status=none
done
start_receiver
wait_for 15 connected vm1
kept=$(points vm1 | wc -l)
kagami status vm1 >"$W/out"
grep -q 'kagami unpin vm1 --lost' "$W/out" || fail "kagami status does not say what to do: $(cat "$W/out")"
refuses 'kept because the pins were lost' kagami unpin "vm1@$n"
kagami retention vm1 --points 1 --floor none >/dev/null
m=$(cycle vm1)
is "points" "$(points vm1 | wc -l)" $((kept + 1))
kagami pin "vm1@$n" "to stay" >/dev/null
refuses 'protection|name' kagami unpin "vm1@$n" --lost
kagami unpin vm1 --lost >/dev/null
two() { [ "$(points vm1 | tr '\n' ' ')" = "$n $m " ]; }
wait_for 60 two
is "reason" "$(replica vm1 .reason)" ''
refuses 'no pins of vm1 were lost' kagami unpin vm1 --lost
