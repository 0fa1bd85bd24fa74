#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The directory of a protection leads over a symbolic link, which the replicator does not follow: it is listed as failed, with why, and the other one is served. What
# was never a protection is no failure.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl
new_image "$W/a.raw" $((8 << 20))
new_image "$W/b.raw" $((8 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
wait_for 30 has_point vm2
stop_replicator
mv "$STATE/protections/vm1" "$W/elsewhere"
ln -s "$W/elsewhere" "$STATE/protections/vm1"
mkdir "$STATE/protections/vm3"
touch "$STATE/protections/vm4"
start_replicator
is "state of the one that cannot be looked at" "$(protection vm1 .state)" failed
protection vm1 .reason | grep -q 'symbolic link' || fail "the reason is: $(protection vm1 .reason)"
is "protections" "$(at_source GET /v1/protections | jq -c '[.protections[].name]')" '["vm1","vm2"]'
status=0
kagami status --check >"$W/check" || status=$?
is "exit status of the check" $status 2
n=$(cycle vm2)
point_equals vm2 "$n" vda "$W/b.raw"

rm "$STATE/protections/vm1"
mv "$W/elsewhere" "$STATE/protections/vm1"
served() { [ "$(protection vm1 .state)" = idle ]; }
wait_for 60 served
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
daemons_alive
