#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Three hundred points through the real daemons: the chain stays as deep as is stated and no deeper, pins and tiers keep exactly the points that they
# should, every point is a sound qcow2, and a sample of them, the pinned ones too, holds what the disk held.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl mkfs.ext4 debugfs xargs
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "needs python3-libnbd"

rounds=${POINTS_ROUNDS:-300} size=$((16 << 20))
depth_most=200 waiting=8 # docs/store.md, Retention: the limit of a policy, and how many may wait to be merged
mkdir "$W/tree" "$W/is"
printf '%-16s' empty >"$W/tree/marker"
truncate -s $size "$W/a.raw"
truncate -s 16M "$W/b.raw"
mkfs.ext4 -q -O ^inline_data -d "$W/tree" "$W/b.raw"
block=$(debugfs -R 'blocks /marker' "$W/b.raw" 2>/dev/null | awk '{print $1}')
block_size=$(debugfs -R stats "$W/b.raw" 2>/dev/null | awk '/^Block size/ {print $3}')

start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 200 >/dev/null
wait_for 30 has_point vm1
kagami retention vm1 --points $((depth_most)) --floor none >/dev/null
make_points() { # COUNT
	"$e2e/many_points.py" "$KAGAMI_RUN_DIR/replicator.sock" vm1 "$1" $size $((block * block_size)) "$(uri vm1 vda)" "$(uri vm1 vdb)" "$W/is" 25 ||
		fail "the points were not made"
}
pinner() { # pins each hundredth round while more come
	local at point
	for at in 50 100 150; do
		until point=$(awk -v i=$at '$1 == i {print $2}' "$W/is/points" 2>/dev/null) && [ -n "$point" ]; do sleep 0.1; done
		kagami pin "vm1@$point" "round $at" >/dev/null || return 1
	done
}
pinner &
pinner=$!
pids+=($pinner)
make_points "$rounds"
wait $pinner || fail "a point could not be pinned"
pids=("${pids[@]/$pinner/}")
point_of() { awk -v i="$1" '$1 == i {print $2}' "$W/is/points"; }
round_of() { awk -v p="$1" '$2 == p {print $1}' "$W/is/points"; }

# As deep as is stated: what the policy keeps, the pins that it would not keep, and what waits to be merged.
settled() { [ "$(points vm1 | wc -l)" -le $((depth_most + 3 + waiting)) ]; }
wait_for 60 settled
points vm1 >"$W/numbers"
at_least "points" "$(wc -l <"$W/numbers")" $((rounds < depth_most ? rounds : depth_most))
for at in 50 100 150; do
	grep -qx "$(point_of $at)" "$W/numbers" || fail "the pinned point of round $at is gone"
done
is "the newest $depth_most" "$(tail -n $depth_most "$W/numbers" | paste -sd' ')" \
	"$(tail -n $depth_most "$W/is/points" | awk '{print $2}' | paste -sd' ')"
chain=$(qemu-img info -f qcow2 --backing-chain --output json "$(point_disk vm1 "$(newest_point vm1)" vda)" | jq length)
at_most "depth of the chain, as QEMU sees it" "$chain" $((depth_most + 3 + waiting + 1))
kagami points vm1 >"$W/points.out"
grep -qE "^ *$(point_of 50) .*pinned: round 50" "$W/points.out" || fail "points does not show the pin: $(cat "$W/points.out")"

# Each is sound, and a sample is what it was.
check_points() { # ROUND...: those are compared
	local path
	for path in "$STORE"/vm1/points/*/*.qcow2; do # each by itself: opening what it stands on, too, costs the square of the depth
		printf '%s\0' "json:{\"driver\": \"qcow2\", \"backing\": null, \"file\": {\"driver\": \"file\", \"filename\": \"$path\"}}"
	done | xargs -0 -n 1 -P 2 qemu-img check -q >"$W/check.out" 2>&1 || fail "qemu-img check: $(cat "$W/check.out")"
	local at
	for at; do
		qemu-img compare -q -f raw -F qcow2 "$W/is/$at.raw" "$(point_disk vm1 "$(point_of "$at")" vda)" ||
			fail "the point of round $at is not what the disk held then"
	done
}
check_points 50 100 150 $((rounds / 2 / 25 * 25)) $((rounds - 50)) $((rounds / 25 * 25))

# The first, one in the middle and the last are mounted side by side, and each shows its own file.
if [ "$(id -u)" = 0 ] && [ -e /dev/fuse ] && losetup -f >/dev/null 2>&1 && command -v qemu-storage-daemon >/dev/null; then
	middle=$(sed -n "$(($(wc -l <"$W/numbers") / 2))p" "$W/numbers")
	for p in $(head -n 1 "$W/numbers") "$middle" "$(tail -n 1 "$W/numbers")"; do
		mkdir "$W/mnt-$p"
		at_end "umount -l $W/mnt-$p"
		kagami mount "vm1@$p" "$W/mnt-$p" --disk vdb >/dev/null
		round=$(round_of "$p")
		[ -n "$round" ] || continue # the initial one, which a fold may have left
		is "the file in point $p" "$(head -c 16 "$W/mnt-$p/marker")" "$(printf 'round %09d' "$round")"
	done
	for p in $(head -n 1 "$W/numbers") "$middle" "$(tail -n 1 "$W/numbers")"; do
		kagami umount "$W/mnt-$p" >/dev/null
	done
fi

# Tiers: which points they keep is computed here, from the times at which the receiver committed.
at_target GET /v1/protections/vm1/points >"$W/before.json"
wanted=$(jq -c '
	def seconds: (.[0:19] + "Z" | fromdateiso8601);
	[.points[] | {point, bucket: ((.commit | seconds) / 60 | floor), pinned: (.pin != null)}] as $all
	| ([$all[] | .point] | sort | .[-3:]) as $newest
	| ([$all | group_by(.bucket)[] | max_by(.point).point] | sort | .[-10:]) as $tier
	| [$all[] | select(.pinned) | .point] as $pinned
	| ($newest + $tier + $pinned) | unique' "$W/before.json")
kagami plan retention vm1 --points 3 --keep 1m:10 --json | jq -c '[.points[] | select(.kept_by | length > 0) | .point]' >"$W/plan"
is "what the plan keeps" "$(cat "$W/plan")" "$wanted"
kagami retention vm1 --points 3 --keep 1m:10 >/dev/null
merged() { [ "$(points vm1 | wc -l)" = "$(jq length <<<"$wanted")" ]; }
wait_for 60 merged
is "points that are left" "$(points vm1 | jq -sc .)" "$wanted"
check_points 50 100 150 $((rounds / 25 * 25))
kagami scrub vm1 --wait --rate 4G >/dev/null || fail "what is left does not prove"
daemons_alive
stop_replicator
stop_receiver
kagami store check "$STORE" >/dev/null || fail "the store is not sound: $(kagami store check "$STORE")"
