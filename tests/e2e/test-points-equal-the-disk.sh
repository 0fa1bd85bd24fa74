#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every point is the disk as it was at its cut: for QEMU's tools a sound qcow2, byte for byte, also long after.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((48 << 20)) 1
new_image "$W/b.raw" $(((7 << 20) + 512 * 77)) 2 # neither whole blocks nor whole pieces
truncate -s $((20 << 20)) "$W/c.raw"		  # nothing but a hole
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" vdc="$W/c.raw" --to dr --rpo 1h >"$W/protect.out"
grep -q 'nbd+unix:///vda?socket=' "$W/protect.out" || fail "protect prints no URI: $(cat "$W/protect.out")"
is "number of URIs that protect prints" "$(grep -cE "^ *vd[abc] +nbd\+unix:" "$W/protect.out")" 3
wait_for 30 has_point vm1

# Keeps a raw copy of the images under the number of the point that shows them. No writer is attached meanwhile.
remember() {
	local n disk
	n=$(cycle vm1)
	for disk in a b c; do
		cp --sparse=always "$W/$disk.raw" "$W/$disk.$n"
	done
	remembered+=("$n")
}
remembered=()

remember
nbd_io vm1 vda 'write -P 0x11 0 64k' 'write -P 0x12 1000000 70000' 'write -P 0x13 33554432 512'
nbd_io vm1 vdc 'write -P 0x21 5M 3M'
remember
nbd_io vm1 vda 'write -z 0 32k' 'write -P 0x14 4096 4096' 'discard 8M 2M' 'write -z -u 12M 1M'
nbd_io vm1 vdb 'write -P 0x22 7378944 512' 'write -P 0x22 7364608 12288' # the last sectors
nbd_io vm1 vdc 'write -P 0x21 5M 3M' 'write -z 5M 64k'
remember
remember # nothing was written
nbd_io vm1 vda 'write -z 0 48M'
nbd_io vm1 vdb 'write -P 0x23 0 7379456'
remember
nbd_io vm1 vda 'write -P 0x15 47M 1M' flush

for n in "${remembered[@]}"; do
	point_equals vm1 "$n" vda "$W/a.$n"
	point_equals vm1 "$n" vdb "$W/b.$n"
	point_equals vm1 "$n" vdc "$W/c.$n"
done
is "number of different points" "$(printf '%s\n' "${remembered[@]}" | sort -un | wc -l)" 5
is "number of points whose cut is not before its commit" \
	"$(at_target GET /v1/protections/vm1/points | jq '[.points[] | select(.cut >= .commit)] | length')" 0
is "points, rising" "$(points vm1)" "$(points vm1 | sort -n)"
daemons_alive
stop_replicator
stop_receiver
