#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A limit on threads that is reached says nothing of a disk: the kernel has no worker for its I/O then, and cancels it. A guest whose first write comes when nothing
# can be started any more is served as always; where there is no worker from the beginning, another thread does all of it, the status says so, points are made, a stop
# is in order, and it ends by itself.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io jq curl cc
controller=/sys/fs/cgroup/pids
[ -e $controller/tasks ] || skip "needs the pids controller of cgroup version 1 at $controller: only there a thread can be put into a group without its process"
group=$controller/kagami-test-$$
mkdir "$group" "$group-ring" 2>/dev/null || skip "cannot make a control group below $controller"
leave() { # the groups, also where daemons are still in them
	local task
	for task in $(cat "$group/tasks" "$group-ring/tasks"); do
		echo "$task" >$controller/tasks
	done
	rmdir "$group" "$group-ring"
}
at_end leave
cc -shared -fPIC -O1 -o "$W/no_workers.so" "$e2e/no_workers.c" -ldl || skip "cannot build a library to preload"
preloads=${ASAN_OPTIONS:-}:verify_asan_link_order=0 # it wants to come before every other library, and does no harm behind this one

new_image "$W/a.raw" $((16 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
workers() { grep -l '^iou-wrk' /proc/"$REPLICATOR"/task/*/comm 2>/dev/null | wc -l; }
errors() { protection vm1 '.disks[0] | "\(.errors) \(.failed)"'; }
short() { protection vm1 .short_of; }
is_short() { [[ $(short) == *'no worker thread'*'TasksMax='* ]]; }
is_well() { [ -z "$(short)" ]; }
events() { # TEXT
	at_source GET '/v1/events?since=0&newest=1000' | jq --arg t "$1" '[.events[] | select(.text | contains($t))] | length'
}

# Nothing can be started any more, also no thread that answers an operator; and now the guest begins to write.
where=$(uri vm1 vda)
echo "$REPLICATOR" >"$group/cgroup.procs"
cat "$group/pids.current" >"$group/pids.max"
qemu-io -f raw -c 'write -P 5 1M 64k' -c flush -c 'write -P 6 3M 1M' -c 'write -f -P 7 8M 4k' -c flush "$where" >"$W/out" 2>&1 || fail "the guest was told: $(cat "$W/out")"
echo max >"$group/pids.max"
is "errors, and failed" "$(errors)" "0 false"
is "short of" "$(short)" ""
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"
is "events of missing workers" "$(events 'no worker thread')" 0

# There are none from the beginning.
stop_replicator
echo 1 >"$group-ring/pids.max"
ASAN_OPTIONS=$preloads LD_PRELOAD=$W/no_workers.so KAGAMI_TEST_TASKS=$group-ring/tasks start_replicator
wait_for 30 connected vm1
wait_for 10 is_short
is "reason" "$(protection vm1 .reason)" "$(short)"
status=0
kagami status vm1 --check >"$W/check" || status=$?
is "exit status of the check" $status 1
grep -q 'WARNING.*raise the limit on threads' "$W/check" || fail "the check says: $(cat "$W/check")"
before=$(points vm1 | wc -l)
nbd_io vm1 vda 'write -P 15 1M 64k' 'flush' 'write -P 16 2M 2M' 'write -P 17 5000001 70001' 'write -f -P 18 8M 4k' 'write -z 9M 1M' 'discard 10M 1M' 'read -P 16 2M 2M' 'flush' >/dev/null
sleep 0.1 # longer than a write is trusted
nbd_io vm1 vda 'read -P 15 1M 64k' 'read -P 17 5000001 70001' 'read -P 0 9M 1M' 'write -P 19 12M 1M' >/dev/null
is "workers" "$(workers)" 0
is "errors, and failed" "$(errors)" "0 false"
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"
is "points more" "$(points vm1 | wc -l)" $((before + 1))
is "events of missing workers" "$(events 'no worker thread')" 1

# With room for threads it ends by itself, and workers stay when the room is gone again.
echo max >"$group-ring/pids.max"
wait_for 30 is_well
is "reason" "$(protection vm1 .reason)" ""
is "events of workers" "$(events 'worker threads for the I/O of its disks again')" 1
at_least "workers" "$(workers)" 2
echo 1 >"$group-ring/pids.max"
sleep 6 # the kernel ends workers that idle for 5 s, but the last of each kind
nbd_io vm1 vda 'write -P 21 1M 1M' 'flush' >/dev/null
is_well || fail "it is short of: $(short)"
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"

# A stop without any: the images are synced when the loop takes nothing else, and the next start believes its state files.
stop_replicator
ASAN_OPTIONS=$preloads LD_PRELOAD=$W/no_workers.so KAGAMI_TEST_TASKS=$group-ring/tasks start_replicator
wait_for 30 connected vm1
wait_for 10 is_short
nbd_io vm1 vda 'write -P 22 4M 64k' >/dev/null
stop_replicator
start_replicator
wait_for 30 connected vm1
is "sync" "$(protection vm1 .sync_reason)" null
is "dirty bytes" "$(protection vm1 .dirty_bytes)" 65536
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"
is "short of" "$(short)" ""
daemons_alive
