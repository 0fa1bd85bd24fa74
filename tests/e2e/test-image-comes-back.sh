#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A protection that cannot start, for an image is not there or a file lies in the place of its socket: the status shows the newest point that the state files know,
# and what to do; it is told once, and tried again by itself until it starts. Nobody's half of a copy is opened. One that is unprotected is not tried again.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((8 << 20)) 1
new_image "$W/b.raw" $((8 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
n=$(cycle vm1)
stop_replicator

mv "$W/b.raw" "$W/b.moved"
start_replicator
state_is() { [ "$(protection vm1 .state)" = "$1" ]; }
is "state without an image" "$(protection vm1 .state)" failed
is "newest point" "$(protection vm1 .point)" "$n"
is "whether the point is known" "$(protection vm1 .point_known)" true
[ "$(protection vm1 .age_ms)" -lt 3600000 ] || fail "age_ms: $(protection vm1 .age_ms)"
is "whether the RPO is missed" "$(protection vm1 .rpo_violated)" false
kagami status vm1 | grep -q "newest point *$n, " || fail "status: $(kagami status vm1)"
kagami status vm1 | grep -q 'no point yet\|none yet' && fail "status: $(kagami status vm1)"
protection vm1 .reason | grep -q 'b.raw: No such file or directory: put it back; it is tried again by itself, or at once with `kagami resume vm1`$' ||
	fail "reason: $(protection vm1 .reason)"
refuses 'b.raw: No such file' kagami resume vm1
sleep 4 # three tries more
is "state after some tries" "$(protection vm1 .state)" failed
is "lines of the log that say so" "$(grep -c 'protection does not start' "$W/kagami-replicator.log")" 1
is "events that say so" "$(at_source GET /v1/events | jq '[.events[] | select(.text | contains("does not start"))] | length')" 1

# Its copy takes longer than the time between two tries, and stalls for longer than the time between two looks.
begun=$SECONDS
for _ in $(seq 4); do
	head -c 4096 "$W/b.moved" >>"$W/b.raw"
	sleep 1
	is "state while the image is copied" "$(protection vm1 .state)" failed
done
exec 9>>"$W/b.raw"
for _ in $(seq 12); do
	sleep 1
	is "state while the copy stalls" "$(protection vm1 .state)" failed
done
protection vm1 .reason | grep -q 'a program has one of its images open for writing' || fail "reason: $(protection vm1 .reason)"
exec 9>&-
grep -q 'an image of another size' "$W/kagami-replicator.log" && fail "half of a copy was opened"
mv "$W/b.moved" "$W/b.raw"
wait_for 60 connected vm1
echo "came back after $((SECONDS - begun)) s"
is "events that it has started" "$(at_source GET /v1/events | jq '[.events[] | select(.text | contains("has started after all"))] | length')" 1
cycle vm1 >/dev/null
point_equals vm1 "$(newest_point vm1)" vdb "$W/b.raw"
stop_replicator

# A file in the place of the socket.
touch "$KAGAMI_RUN_DIR/nbd/vm1.sock"
start_replicator
is "state with a file in the place of the socket" "$(protection vm1 .state)" failed
protection vm1 .reason | grep -q 'vm1.sock exists and is not a socket: move it away; it is tried again by itself' || fail "reason: $(protection vm1 .reason)"
is "newest point" "$(protection vm1 .point)" "$(newest_point vm1)"
rm "$KAGAMI_RUN_DIR/nbd/vm1.sock"
wait_for 30 connected vm1
is "reason of a sync" "$(cycle vm1 >/dev/null; protection vm1 .last_cycle.sync_reason)" null
stop_replicator

# Nothing says whether there is a point; and an operator need not wait.
mv "$W/b.raw" "$W/b.moved"
rm "$STATE"/protections/vm1/*.state
start_replicator
is "newest point" "$(protection vm1 '[.point, .point_known, .age_ms]|@text')" '[null,false,null]'
kagami status vm1 | grep -q "newest point *not known" || fail "status: $(kagami status vm1)"
protection vm1 '.why[].text' | grep -q 'no point yet' && fail "why: $(protection vm1 .why)"
mv "$W/b.moved" "$W/b.raw"
kagami resume vm1 >/dev/null || fail "resume"
wait_for 30 connected vm1
cycle vm1 >/dev/null
stop_replicator

mv "$W/b.raw" "$W/b.moved"
start_replicator
state_is failed || fail "state: $(protection vm1 .state)"
kagami unprotect vm1 >/dev/null
mv "$W/b.moved" "$W/b.raw"
sleep 3
is "protections" "$(at_source GET /v1/protections | jq -c .protections)" '[]'
grep -q 'protection=vm1: .*tried' "$W/kagami-replicator.log" && fail "it was tried after it was unprotected"

# A link is kept as it was named: it leads to the image when that has another place.
mkdir "$W/here"
mv "$W/a.raw" "$W/here"
ln -s here "$W/link"
(cd "$W" && kagami protect vm3 vda=.//link/a.raw --to dr --rpo 1h >/dev/null)
is "path of the image" "$(protection vm3 '.disks[0].path')" "$W/link/a.raw"
wait_for 60 has_point vm3
stop_replicator
mv "$W/here" "$W/there"
ln -sfn there "$W/link"
start_replicator
wait_for 30 connected vm3
qemu-io -f raw -c 'write -P 5 1M 64k' -c flush "$(uri vm3 vda)" >/dev/null
cycle vm3 >/dev/null
is "reason of a sync behind another link" "$(protection vm3 .last_cycle.sync_reason)" null
point_equals vm3 "$(newest_point vm3)" vda "$W/there/a.raw"

# A device to which nothing is attached is no file that could be made longer. One of our own: the first that is free may be taken by whoever looks for one.
loop_control() { # ADD|REMOVE NUMBER
	/usr/bin/python3 -c 'import fcntl, sys; fcntl.ioctl(open("/dev/loop-control"), {"ADD": 0x4C80, "REMOVE": 0x4C81}[sys.argv[1]], int(sys.argv[2]))' "$@" 2>/dev/null
}
if [ "$(id -u)" = 0 ] && [ -c /dev/loop-control ]; then
	for number in {900..950}; do
		loop_control ADD $number && at_end "loop_control REMOVE $number" && break
	done
	[ ! -b /dev/loop$number ] || refuses 'has no size: nothing is attached to it' kagami protect vm2 vda=/dev/loop$number --to dr --rpo 1h
fi
daemons_alive
