#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kagami-load speaks the real protocol to a real receiver: every block that it says it sent is in a point, every point that it was told of is
# there and sound, and the receiver's memory, threads and descriptors stay within what docs/architecture.md says. Nothing here is timed.
. "$(dirname "$0")/lib.sh"
requires kagami-load qemu-img jq curl

protections=12 active=4 cycles=5 blocks=8 points=3 disk_blocks=64

refuses 'needs --token' kagami-load --keys "$W"
refuses 'more than --protections' kagami-load --token x --keys "$W" --protections 3 --active 4
refuses 'more than the disk has' kagami-load --token x --keys "$W" --blocks 65 --disk-size 4M
refuses 'not known' kagami-load --no-such-option
refuses 'fair' kagami-load --token x --keys "$W" --fair 99
mkdir "$W/keys"
refuses 'token' kagami-load --token x --keys "$W/keys"

start_receiver
kagami-load --token "$(new_token)" --token "$(new_token)" --keys "$W/keys" --pid "$RECEIVER" --protections $protections --active $active \
	--cycles $cycles --blocks $blocks --points $points --disk-size $((disk_blocks * 65536)) --json >"$W/load.json" ||
	fail "kagami-load: exit status $?"

figure() { # PHASE FILTER
	jq -r --arg p "$1" ".phases[] | select(.phase == \$p) | $2" "$W/load.json"
}

is "protections" "$(jq .protections "$W/load.json")" $protections
is "phases" "$(jq -r '[.phases[].phase] | join(" ")' "$W/load.json")" "idle alone equal probe after"
is "points made alone" "$(figure alone .points)" $cycles
is "points made by equal sessions" "$(figure equal .points)" $((active * cycles))
at_least "points made in the probe" "$(figure probe .points)" $cycles
is "blocks of small cycles" "$(figure alone .blocks_sent)" $cycles
is "blocks of equal sessions" "$(figure equal .blocks_sent)" $((active * cycles * blocks))
is "blocks of the probe" "$(figure probe .blocks_sent)" $((cycles + ($(figure probe .points) - cycles) * blocks))
is "cycles that were measured" "$(figure equal .cycle.count)" $((active * cycles))
is "the order of percentiles" "$(jq '[.phases[] | .commit | .p50_ms <= .p99_ms and .p99_ms <= .max_ms] | all' "$W/load.json")" true

# The receiver's own account.
total=$(at_target GET /v1/protections | jq '[.protections[].last_point // 0] | add')
made=$(jq '[.phases[].points] | add' "$W/load.json")
is "newest points of all protections, added up" "$total" "$made"
is "protections at the receiver" "$(at_target GET /v1/protections | jq '.protections | length')" $protections

few_points() {
	local n
	for ((n = 1; n <= active; n++)); do
		[ "$(points load-$n | wc -l)" = $points ] || return 1
	done
}
wait_for 30 few_points
for ((n = 1; n <= active; n++)); do
	for p in $(points load-$n); do
		qemu-img check -q -f qcow2 "$(point_disk load-$n "$p" vda)" || fail "load-$n@$p is not sound"
	done
done

# docs/architecture.md, "The receiver's resources": threads, descriptors, memory in KiB. With sanitizers each allocation has room around it,
# and stays for a while after it was freed.
sanitizers=0
! grep -q __asan_init "$(command -v kagami-receiver)" || sanitizers=65536
for phase in idle alone equal probe after; do
	at_most "threads in phase $phase" "$(figure $phase .receiver.threads)" $((protections + 13))
	at_least "threads in phase $phase" "$(figure $phase .receiver.threads)" $protections
	at_most "descriptors in phase $phase" "$(figure $phase .receiver.files)" $((2 * protections + 4 * active + 32))
	at_most "KiB of memory in phase $phase" "$(($(figure $phase .receiver.rss_bytes) / 1024))" \
		$((sanitizers + 32768 + protections * 3400 + active * 64 + protections * disk_blocks * 2 * 16 / 1024))
done
is "threads after, compared to before" "$(figure after .receiver.threads)" "$(figure idle .receiver.threads)"

# Of sessions that are measured one is the slowest: nobody is delayed by no more than nothing.
mkdir "$W/keys3"
status=0
kagami-load --token "$(new_token)" --keys "$W/keys3" --protections 2 --active 2 --cycles 4 --name fair --fair 100 >"$W/fair.out" 2>"$W/fair.err" || status=$?
is "the exit status of --fair 100" $status 3
grep -q 'delayed to' "$W/fair.err" || fail "--fair says: $(cat "$W/fair.err")"

# What is asked for a second time is another protection: it is refused, and says so.
mkdir "$W/keys2"
refuses 'load-1: .*(belongs|other|another)' kagami-load --token "$(new_token)" --keys "$W/keys2" --protections 2 --active 2
stop_receiver
