#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Each codec gives the same point; the ones that compress send less.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((24 << 20))
start_pair
wire=()
for codec in zstd zlib lz4 none auto; do
	cp --sparse=always "$W/a.raw" "$W/$codec.raw"
	kagami protect "$codec" vda="$W/$codec.raw" --to dr --rpo 1h --codec $codec >/dev/null
	is "codec" "$(protection "$codec" .codec)" $codec
	wait_for 60 has_point $codec
	nbd_io $codec vda 'write -P 0x5a 3M 4k' 'write -P 0x5b 7M 1M' 'write -P 0x5c 15000000 5000'
	n=$(cycle $codec)
	point_equals $codec "$n" vda "$W/$codec.raw"
	wire+=("$(protection $codec .last_cycle.wire_bytes)")
	blocks=$(protection $codec .last_cycle.sent_blocks)
done
# 1 MiB and a few pieces of equal bytes: sixteen blocks and three more, whole when plain.
at_least "blocks sent" "$blocks" 17
for i in 0 1 2 4; do
	[ "${wire[i]}" -lt $((${wire[3]} / 4)) ] || fail "bytes on the wire by zstd, zlib, lz4, none, auto: ${wire[*]}"
done
case $(protection auto .packing.level) in -5 | -1 | 1 | 3 | 6) ;; *) fail "level: $(protection auto .packing)" ;; esac
is "codec that packs" "$(protection auto .packing.codec)" zstd
is "reason of the cut" "$(protection auto .last_cycle.cut_because)" little-left
refuses 'codec' kagami protect other vda="$W/a.raw" --to dr --rpo 1h --codec brotli
daemons_alive
