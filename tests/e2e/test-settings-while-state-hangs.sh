#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A change of a protection waits for the state directory, and nobody else waits for it: the status of all, other changes' refusals, and the stop. What was asked
# for is durable once it is answered.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl
mount_freezable "$STATE" 32M
chmod 700 "$STATE"

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((32 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
wait_for 30 has_point vm2

asked() { # NAME COMMAND...
	local name=$1
	shift
	"$@" >"$W/$name.out" 2>&1 &
	pids+=($!)
	asked=$!
}
answers_meanwhile() {
	timeout 10 kagami status >/dev/null || fail "the status waits for the state directory"
	is "state of vm2" "$(protection vm2 .state)" idle
	nbd_io vm2 vda 'write -P 0x61 64k 4k' 'read -P 0x61 64k 4k'
	refuses 'no protection' timeout 10 kagami set vm3 --rpo 10m
	timeout 10 kagami syncs vm1 >/dev/null || fail "the record of syncs waits for the state directory"
}
has_cycled() { [ "$(protection "$1" .dirty_bytes)" = 0 ] && [ "$(protection "$1" .state)" = idle ]; }
nbd_io vm2 vda 'write -P 0x60 64k 4k' flush # its region is marked
freeze "$STATE"
asked set kagami set vm1 --rpo 30m
set=$asked
asked pause kagami pause vm1
pause=$asked
asked compare kagami cycle vm2 --compare
compare=$asked
sleep 1
answers_meanwhile
for pid in $set $pause $compare; do
	kill -0 "$pid" 2>/dev/null || fail "a change is answered before it is durable: $(cat "$W"/{set,pause,compare}.out)"
done
is "objective before it is durable" "$(protection vm1 .rpo_ms)" 3600000
hangs() { protection "$1" .reason | grep -qE "^the state directory $STATE has not answered for [0-9]+ s: see to the storage under it$"; }
for vm in vm1 vm2; do
	wait_for 20 hangs $vm
	is "health of $vm" "$(protection $vm .health)" warning
done
kagami status vm2 | grep -q "reason .* the state directory $STATE has not answered" || fail "status: $(kagami status vm2)"
says_so() { grep -q '^kagami: still waiting for kagami-replicator' "$W/$1.out"; }
for name in set pause compare; do
	wait_for 10 says_so $name
done
is "why a miss of vm2 would be one" "$(protection vm2 .cause)" source-error
unfreeze "$STATE"
wait $set || fail "set: $(cat "$W/set.out")"
wait $pause || fail "pause: $(cat "$W/pause.out")"
wait $compare || fail "cycle --compare: $(cat "$W/compare.out")"
is "objective" "$(protection vm1 .rpo_ms)" 1800000
is "paused" "$(protection vm1 .paused)" true

is "silence behind it" "$(protection vm2 .state_silent_ms)" null

# A point on its way waits for it, too: what the state files know of its cut is durable before the receiver is asked for it.
nbd_io vm2 vda 'write -P 0x63 64k 4k' flush
cycle vm2 >/dev/null
freeze "$STATE"
nbd_io vm2 vda 'write -P 0x64 64k 4k' flush
at_source POST /v1/protections/vm2/cycle >/dev/null
wait_for 20 hangs vm2
is "state of vm2" "$(protection vm2 .state)" shipping
unfreeze "$STATE"
wait_for 30 has_cycled vm2
[ "$(protection vm2 .last_cycle.stages.read)" -ge 4000 ] || fail "the wait was booked to $(protection vm2 .last_cycle.stages)"

# Two at once: each changes what it names, and nothing that the other one did.
freeze "$STATE"
asked set kagami set vm1 --rpo 25m
set=$asked
asked priority kagami set vm1 --priority high
priority=$asked
sleep 1
unfreeze "$STATE"
wait $set || fail "set: $(cat "$W/set.out")"
wait $priority || fail "set --priority: $(cat "$W/priority.out")"
is "objective, and" "$(protection vm1 .rpo_ms)" 1500000
is "priority" "$(protection vm1 .priority)" high

# What is unprotected goes when the directory answers, and nobody else waits for that.
new_image "$W/c.raw" $((8 << 20)) 3
kagami protect vm9 vda="$W/c.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm9
freeze "$STATE"
asked unprotect kagami unprotect vm9 --yes
unprotect=$asked
leaves() { protection vm9 .reason | grep -q 'it is being unprotected'; }
wait_for 10 leaves
timeout 10 kagami status >/dev/null || fail "the status waits for what is unprotected"
is "state of vm2" "$(protection vm2 .state)" idle
refuses 'is being unprotected' timeout 10 kagami pause vm9
refuses 'is being unprotected' timeout 10 kagami resume vm9
refuses 'is protected already' timeout 10 kagami protect vm9 vda="$W/c.raw" --to dr --rpo 1h
is "state of what is unprotected" "$(protection vm9 .state)" ending
ends_long() { protection vm9 '.why[0].text' | grep -qE "^has been ending for .*: it is being unprotected: the state directory $STATE has not answered for [0-9]+ s: see to the storage under it$"; }
wait_for 20 ends_long
kill -0 $unprotect || fail "unprotect is answered before it is durable: $(cat "$W/unprotect.out")"
unfreeze "$STATE"
wait $unprotect || fail "unprotect: $(cat "$W/unprotect.out")"
is "protections" "$(at_source GET /v1/protections | jq -c '[.protections[].name]')" '["vm1","vm2"]'
[ ! -e "$STATE/protections/vm9" ] || fail "its state is there still"

# Asked for before the stop, and waiting: the stop does not free what the request works with.
freeze "$STATE"
asked set kagami set vm1 --rpo 20m
sleep 1
kill -TERM "$REPLICATOR"
sleep 1
unfreeze "$STATE"
status=0
wait "$REPLICATOR" || status=$?
is "exit status of the stop" $status 0
wait $asked || true
start_replicator
is "paused after a restart" "$(protection vm1 .paused)" true
is "objective after a restart" "$(protection vm1 .rpo_ms)" 1200000
is "priority after a restart" "$(protection vm1 .priority)" high

# The record of syncs of one that does not run is read from the directory.
stop_replicator
rm "$W/a.raw"
start_replicator
is "state of one without its image" "$(protection vm1 .state)" failed
rm "$STATE/protections/vm1/syncs.json"
mount_hangable "$STATE/protections/vm1/syncs.json" $((1 << 20))
kill -STOP $server
asked syncs kagami syncs vm1
sleep 1
timeout 10 kagami status >/dev/null || fail "the status waits for the record of syncs"
is "state of vm2" "$(protection vm2 .state)" idle
kill -0 $asked || fail "the record was not read: $(cat "$W/syncs.out")"
kill -CONT $server
wait $asked || true
umount -l "$STATE/protections/vm1/syncs.json"
daemons_alive
