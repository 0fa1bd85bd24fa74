#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Either kind of digest gives the same points, through a restart, a sync and a scrub; the kind is shown, and stays.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((96 << 20))
start_pair
for kind in xxh3 blake2b; do
	cp --sparse=always "$W/a.raw" "$W/$kind.raw"
	kagami protect "$kind" vda="$W/$kind.raw" --to dr --rpo 1h --digest $kind >/dev/null
	is "kind" "$(protection "$kind" .digest)" $kind
	wait_for 60 has_point $kind
	nbd_io $kind vda 'write -P 0x5a 3M 4k' 'write -P 0x5b 7M 1M'
	n=$(cycle $kind)
	point_equals $kind "$n" vda "$W/$kind.raw"
done
stop_replicator
stop_receiver
for kind in xxh3 blake2b; do
	printf x | dd of="$W/$kind.raw" bs=1 seek=$((50 << 20)) conv=notrunc status=none # behind its back: a sync by digests
done
start_receiver
start_replicator
for kind in xxh3 blake2b; do
	is "kind after a restart" "$(protection $kind .digest)" $kind
	wait_for 20 connected $kind
	n=$(cycle $kind)
	is "reason of the sync" "$(kagami syncs $kind --json | jq -r .syncs[0].reason)" image-changed
	at_most "bytes sent" "$(kagami syncs $kind --json | jq .syncs[0].sent_bytes)" 131072
	point_equals $kind "$n" vda "$W/$kind.raw"
	kagami scrub $kind --wait >/dev/null || fail "the scrub of $kind found damage"
done
kagami status blake2b | grep -q 'digest blake2b' || fail "kagami status does not show the kind: $(kagami status blake2b)"
refuses 'digest' kagami protect other vda="$W/a.raw" --to dr --rpo 1h --digest md5
daemons_alive
