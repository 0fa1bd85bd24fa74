#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The image of a disk does not even open: who protects it, or starts the replicator with it, waits, and nobody else. The others are served and get points, the
# status shows it as starting, and a stop is clean for them. Once it opens, it goes on by itself.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl
mount_hangable "$W/hung.raw" $((32 << 20))

new_image "$W/b.raw" $((32 << 20)) 2
start_receiver
start_replicator --stop-wait 6
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm2

others_go_on() {
	timeout 10 kagami status >/dev/null || fail "the status waits for the disk"
	is "state of the one that waits" "$(protection vm1 .state)" starting
	nbd_io vm2 vda "write -P $1 64k 4k" "read -P $1 64k 4k" flush
	timeout 30 kagami cycle vm2 --wait >/dev/null || fail "vm2 gets no point"
	point_equals vm2 "$(newest_point vm2)" vda "$W/b.raw"
	refuses 'is being started' timeout 10 kagami pause vm1
	refuses 'is protected already' timeout 10 kagami protect vm1 vda="$W/b.raw" --to dr --rpo 1h
}
kill -STOP $server
# The command line looks at the image first: it does not hang with it, and says so.
sleep 2 # the kernel knows for a second what the file is
status=0
timeout 20 kagami protect vm1 vda="$W/hung.raw" --to dr --rpo 1h >"$W/out" 2>"$W/err" || status=$?
is "exit status of protect with an image that hangs" $status 4
grep -q 'hung.raw has not answered for 5 s: the storage under it hangs' "$W/err" || fail "protect says: $(cat "$W/err")"
is "protections" "$(at_source GET /v1/protections | jq -c '[.protections[].name]')" '["vm2"]'

jq -n --arg path "$W/hung.raw" '{name: "vm1", site: "dr", rpo_ms: 3600000, disks: [{name: "vda", path: $path}]}' >"$W/protect.json"
at_source POST /v1/protections "$(cat "$W/protect.json")" >"$W/protect.out" 2>&1 & # past the command line's own look
protect=$!
pids+=($protect)
starting() { [ "$(protection vm1 .state)" = starting ]; }
wait_for 10 starting
others_go_on 0x61

# What keeps it is said, by the daemon and by who asks it.
starts_long() { [ "$(protection vm1 .health)" = warning ]; }
wait_for 20 starts_long
protection vm1 '.why[0].text' | grep -qE "^has been starting for [0-9.]+ s: the image .*/hung.raw of disk vda does not answer" || fail "why: $(protection vm1 .why)"
[ "$(protection vm1 .starting_ms)" -gt 5000 ] || fail "starting_ms: $(protection vm1 .starting_ms)"
is "starting_ms of one that runs" "$(protection vm2 .starting_ms)" null
status=0
kagami status --check vm1 >"$W/out" || status=$?
is "exit status of the check" $status 1
grep -q '^KAGAMI WARNING - 1 of 1 not well: vm1: has been starting for' "$W/out" || fail "the check says: $(cat "$W/out")"
kagami status | grep -A1 '^vm1 ' | grep -q '! has been starting for' || fail "status: $(kagami status)"
kill -0 $protect || fail "protect has ended: $(cat "$W/protect.out")"
kill -CONT $server
wait $protect || fail "protect: $(cat "$W/protect.out")"
wait_for 30 has_point vm1
stop_replicator

# At the start of the replicator, and a stop meanwhile.
kill -STOP $server
start_replicator --stop-wait 6
starting || fail "vm1 is $(protection vm1 .state)"
grep -q 'still open their disks.* protections=1$' "$W/kagami-replicator.log" || fail "which of them still open their disks: $(grep 'still open' "$W/kagami-replicator.log")"
wait_for 10 connected vm2
others_go_on 0x62
kill -TERM "$REPLICATOR"
status=0
wait "$REPLICATOR" || status=$?
is "exit status of a stop that was given up" $status 3
grep -q 'stopped protection=vm2' "$W/kagami-replicator.log" || fail "the stop of vm2 was not clean"

# A start that fails, here for an address that the receiver has, does not wait for the disk either.
status=0
timeout 30 kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$STATE" --stop-wait 3 --web "127.0.0.1:$PORT" >"$W/failed.log" 2>&1 || status=$?
is "exit status of a start that failed" $status 1
grep -q "127.0.0.1:$PORT" "$W/failed.log" || fail "the start does not say what failed: $(cat "$W/failed.log")"

kill -CONT $server
start_replicator --stop-wait 6
wait_for 20 connected vm1
wait_for 20 connected vm2
cycle vm2 >/dev/null
is "reason of a sync of vm2" "$(protection vm2 .last_cycle.sync_reason)" null
cycle vm1 >/dev/null
stop_replicator
