#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk that was changed behind the agent's back by 4 KiB here and there: the sync sends those pieces, says so, and the point equals the disk; with either
# kind of digest, over a base of a seed, and where a block in the store is damaged.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((96 << 20)) 7
head -c $((8 << 20)) /dev/urandom | dd of="$W/a.raw" bs=1M seek=64 conv=notrunc status=none

change() { # IMAGE: 4 KiB of each of 8 blocks, and all of another
	local i
	for i in 0 9 18 27 36 45 54 63; do
		head -c 4096 /dev/urandom | dd of="$1" bs=4096 seek=$((64 * 256 + i * 16 + i % 16)) conv=notrunc status=none
	done
	head -c 65536 /dev/urandom | dd of="$1" bs=64K seek=$((64 * 16 + 100)) conv=notrunc status=none
}
sync_of() { kagami syncs "$1" --json | jq ".syncs[0].$2"; }
went_by_pieces() { # NAME: its newest sync
	is "blocks by pieces of $1" "$(sync_of "$1" piece_blocks)" 8
	is "bytes kept of $1" "$(sync_of "$1" kept_bytes)" $((8 * 15 * 4096))
	at_most "bytes sent of $1" "$(sync_of "$1" sent_bytes)" $((8 * 4200 + 65536 + 60000))
}

start_pair
for kind in xxh3 blake2b; do
	cp --sparse=always "$W/a.raw" "$W/$kind.raw"
	kagami protect $kind vda="$W/$kind.raw" --to dr --rpo 1h --digest $kind >/dev/null
	wait_for 60 has_point $kind
	is "blocks by pieces of the first sync" "$(sync_of $kind piece_blocks)" 0
done
stop_replicator
for kind in xxh3 blake2b; do
	change "$W/$kind.raw"
done
start_replicator
for kind in xxh3 blake2b; do
	wait_for 20 connected $kind
	n=$(cycle $kind)
	went_by_pieces $kind
	point_equals $kind "$n" vda "$W/$kind.raw"
	kagami scrub $kind --wait >/dev/null || fail "the scrub of $kind found damage"
done
kagami syncs xxh3 | grep -q '480 KiB' || fail "kagami syncs does not show what was kept: $(kagami syncs xxh3)"

# A seed: there is no point yet, only a base.
kagami seed seeded/vda "$W/a.raw" --format raw --wait >/dev/null
cp --sparse=always "$W/a.raw" "$W/seeded.raw"
change "$W/seeded.raw"
kagami protect seeded vda="$W/seeded.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point seeded
went_by_pieces seeded
point_equals seeded "$(newest_point seeded)" vda "$W/seeded.raw"

# Damage in a base under blocks that differ: they travel whole, and the new point is right.
stop_replicator
change "$W/seeded.raw"
for i in 0 9; do
	printf damage | dd of="$W/store/seeded/base/vda.raw" bs=1 seek=$(((64 << 20) + i * 65536 + 30000)) conv=notrunc status=none
done
start_replicator
wait_for 20 connected seeded
n=$(cycle seeded)
is "blocks by pieces over a damaged base" "$(sync_of seeded piece_blocks)" 6
point_equals seeded "$n" vda "$W/seeded.raw"
daemons_alive
