#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A source that is unpaired is shut out at once and for good: its session ends, it hears why, nothing more is committed, and its points stay.
. "$(dirname "$0")/lib.sh"
requires qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --points 3 >/dev/null
wait_for 30 has_point vm1
last=$(newest_point vm1)
is "state at the target" "$(replica vm1 .state)" connected
name=$(at_target GET /v1/peers | jq -r '.peers[0].name')
key=$(at_target GET /v1/peers | jq -r '.peers[0].fingerprint')

refuses 'yes' kagami unpair "$name" </dev/null
refuses 'no source' kagami unpair nobody --yes
refuses 'has a session' kagami forget vm1 --yes
kagami unpair "${key:0:12}" --yes >"$W/unpair.out"
grep -q 'shut out' "$W/unpair.out" || fail "unpair says: $(cat "$W/unpair.out")"
is "state at the target, when it was answered" "$(replica vm1 .state)" disconnected
is "peers" "$(at_target GET /v1/peers | jq '.peers | length')" 0

# It comes back, and hears why it is not let in; no cycle makes a point any more.
told() { protection vm1 .reason | grep -q 'not paired'; }
wait_for 30 told
nbd_io vm1 vda 'write -P 0x84 4M 64k'
at_source POST /v1/protections/vm1/cycle >/dev/null 2>&1 || true
is "newest point" "$(newest_point vm1)" "$last"

# So it stays through a restart of the receiver; and then what it left can be removed.
stop_receiver
start_receiver
wait_for 30 told
is "state at the target" "$(replica vm1 .state)" disconnected
is "newest point" "$(newest_point vm1)" "$last"
kagami forget vm1 --yes >/dev/null
