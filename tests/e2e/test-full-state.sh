#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The state directory of a daemon is full: `pair`, `protect` and `pair-token` each say so in one line, leave nothing half made,
# and what runs goes on. With room again, the same commands work.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io jq curl

fill() { # DIRECTORY
	dd if=/dev/zero of="$1/filler" bs=4k status=none 2>/dev/null || true
}

new_image "$W/a.raw" $((4 << 20))
mkdir "$W/keys"
for dir in "$STATE" "$W/keys"; do
	mount -t tmpfs -o size=64K none "$dir" || skip "cannot mount a tmpfs"
	at_end "umount -l '$dir'"
done
start_receiver --state "$W/keys"
start_replicator
fill "$STATE"

# At the source. The receiver knows it from now on, which lets it in and gives it nothing.
refuses 'no space' kagami pair dr "$(new_token)"
is "sites" "$(at_source GET /v1/sites | jq -c .sites)" '[]'
is "half-made sites" "$(find "$STATE/sites" -type f 2>/dev/null)" ''
rm "$STATE/filler"
kagami pair dr "$(new_token)" >/dev/null

fill "$STATE"
held() { find "$STATE" \( -path "$STATE/lost+found" -o -name lease \) -prune -o -print | sort; } # the lease comes with the first disk that may be served
before=$(held)
refuses 'no space' kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h
is "protections" "$(at_source GET /v1/protections | jq -c .protections)" '[]'
is "what is in the state directory" "$(held)" "$before"
is "what the receiver keeps" "$(at_target GET /v1/protections | jq -c .protections)" '[]'
daemons_alive
rm "$STATE/filler"

# At the target: the source is not let in, and the token is used up.
fill "$W/keys"
rm "$W/keys/peers.json"
dd if=/dev/zero of="$W/keys/filler2" bs=4k status=none 2>/dev/null || true
refuses 'no space|full|remember|write the peers' kagami pair dr2 "$(new_token)"
is "half-made peers" "$(find "$W/keys" -name '*.new')" ''
daemons_alive
rm "$W/keys/filler" "$W/keys/filler2"

kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
daemons_alive
