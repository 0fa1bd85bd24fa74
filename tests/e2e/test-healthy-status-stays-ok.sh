#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# status --check of a protection that keeps its RPO warns at no moment of its periods, though its age comes near the RPO in each by design.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"

rpo_ms=6000
start_pair
new_image "$W/d.raw" $((8 << 20))
kagami protect vm1 vda="$W/d.raw" --to dr --rpo 6s >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null # a second one: what a cycle takes is known
next_known() { [ "$(protection vm1 .next_point_in_ms)" != null ]; }
wait_for 30 next_known

# Until the age was seen above 80 % of the RPO in three periods. One that a busy host keeps from its cut misses its RPO: that is said, and is no warning.
declare -A near=()
looks=0
while [ ${#near[@]} -lt 3 ]; do
	looks=$((looks + 1))
	at_most "looks" $looks 2000
	status=0
	line=$(kagami status --check vm1) || status=$?
	[ $status != 1 ] || fail "a protection that keeps its RPO is a warning: $line"
	age_ms=$(sed -E "s/.*'vm1 age'=([0-9]+)\.([0-9]{3})s.*/\1\2/" <<<"$line")
	[ "$status" = 0 ] && [ "$((10#$age_ms))" -gt $((rpo_ms * 8 / 10)) ] && near[$(protection vm1 .point)]=1
	[ "$status" = 0 ] || [ "$((10#$age_ms))" -gt $rpo_ms ] || fail "exit status $status: $line"
	sleep 0.1
done
daemons_alive
