#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# --points N keeps the newest N: older ones are folded into the base, and no byte of those that stay changes.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --points 3 >/dev/null
wait_for 30 has_point vm1
kagami retention vm1 --floor none >/dev/null # else one more point stays when an hour ends meanwhile

few_points() { [ "$(points vm1 | wc -l)" -le 3 ]; }
for i in 1 2 3 4 5 6 7 8; do
	nbd_io vm1 vda "write -P $i ${i}M 300k" "write -P 1$i 20M 4k" "write -z $((i + 10))M 100k"
	n=$(cycle vm1)
	cp --sparse=always "$W/a.raw" "$W/a.$n"
	for kept in $(points vm1 | tail -n 3); do
		[ ! -e "$W/a.$kept" ] || point_equals vm1 "$kept" vda "$W/a.$kept"
	done
done
wait_for 10 few_points
is "points kept" "$(points vm1 | wc -l)" 3
for n in $(points vm1); do
	point_equals vm1 "$n" vda "$W/a.$n"
done
is "newest point" "$(points vm1 | tail -n 1)" "$n"
for path in "$STORE"/vm1/points/*; do
	points vm1 | grep -qx "$(basename "$path" | sed 's/^0*//')" || fail "the store still has $path"
done

# Killed while it folds: the same three points after the restart, or one more.
for i in 1 2 3; do
	nbd_io vm1 vda "write -P 0x8$i 0 8M"
	n=$(cycle vm1)
	kill_receiver
	cp --sparse=always "$W/a.raw" "$W/a.$n"
	start_receiver
	wait_for 20 few_points
	for kept in $(points vm1); do
		point_equals vm1 "$kept" vda "$W/a.$kept"
	done
	wait_for 30 connected vm1
done
