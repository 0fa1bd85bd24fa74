#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A `protect` that comes to nothing while its configuration is saved, since that fails or the replicator dies, leaves nothing at the receiver: the same command does it the next time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl cc
cc -shared -fPIC -O1 -o "$W/held.so" "$e2e/rename_held.c" -ldl || skip "cannot build a library to preload"
preloads=${ASAN_OPTIONS:-}:verify_asan_link_order=0 # it wants to come before every other library, and does no harm behind this one

replicas() { at_target GET /v1/protections | jq '.protections | length'; }
is_served() { grep -q ' protected protection=vm1' "$W/kagami-replicator.log"; }

try() { # in the background, until its configuration is about to be saved
	touch "$W/held"
	: >"$W/kagami-replicator.log"
	kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >"$W/out" 2>&1 &
	asked=$!
	wait_for 20 is_served
	sleep 1 # the receiver would know it by now
	is "replicas of a protection that is not made yet" "$(replicas)" 0
}

new_image "$W/a.raw" $((16 << 20))
start_receiver
token=$(new_token)
ASAN_OPTIONS=$preloads LD_PRELOAD=$W/held.so KAGAMI_TEST_NAME=protection.json KAGAMI_TEST_HELD=$W/held start_replicator
kagami pair dr "$token" >/dev/null

try
rm "$W/held"
wait $asked && fail "protect is done though its configuration could not be saved"
is "replicas after a protect that failed" "$(replicas)" 0

try
kill_replicator
wait $asked && fail "protect is done though the replicator died"
rm "$W/held"
is "replicas after a protect that died" "$(replicas)" 0
start_replicator
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null || fail "protect after two that came to nothing"
wait_for 30 has_point vm1
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"
daemons_alive
stop_replicator
