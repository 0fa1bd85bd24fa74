#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# status --check of a protection that keeps its RPO warns at no moment of its periods, though its age comes near the RPO in each by design. One whose line has
# become too slow for the point under way is a warning before it is late.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-io jq

rpo_ms=6000
start_pair
new_image "$W/d.raw" $((32 << 20))
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
# The line takes much; then 64 kB a second are left of it, for 16 MiB.
kagami set vm1 --rpo 1m >/dev/null
dd if=/dev/urandom of="$W/random" bs=1M count=16 status=none
nbd_io vm1 vda "write -s $W/random 0 16M"
cycle vm1 >/dev/null
rate_known() { [ "$(protection vm1 .forecast.rate)" != null ]; }
wait_for 30 rate_known
kagami set vm1 --bandwidth 512kbit >/dev/null
dd if=/dev/urandom of="$W/random" bs=1M count=16 status=none
nbd_io vm1 vda "write -s $W/random 0 16M"
at_source POST /v1/protections/vm1/cycle >/dev/null
status=0
until [ $status = 1 ]; do
	status=0
	line=$(kagami status --check vm1) || status=$?
	[ $status != 2 ] || fail "it was late without a warning: $line"
	sleep 0.2
done
grep -qE '^KAGAMI WARNING - .*vm1: the next point is expected in .*: by then the newest one is [0-9]+% of the RPO of 1 min old' <<<"$line" || fail "the warning: $line"
kagami set vm1 --bandwidth none >/dev/null
well() { kagami status --check vm1 >/dev/null; }
wait_for 60 well
daemons_alive
