#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A failover to the wrong point is taken back: never under a running guest, with a word on what is lost; the source goes on with a
# delta, another point can be taken, and a commit makes it final. With --rollback-after it happens by itself.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io qemu-nbd jq curl

new_image "$W/a.raw" $((16 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
old=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.old"
nbd_io vm1 vda 'write -P 0x82 1M 1M'
new=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.new"
fenced() { [ "$(protection vm1 .state)" = fenced ]; }
disk_of() { replica vm1 '.failover.disks[0].path'; }

refuses 'not failed over' kagami failover vm1 --rollback --yes
refuses 'not failed over' kagami failover vm1 --commit
kagami failover "vm1@$old" >"$W/failover.out"
grep -q -- --rollback "$W/failover.out" || fail "failover does not say how to take it back"
disk=$(disk_of)
qemu-io -f qcow2 -c 'write -P 0x91 2M 3M' -c flush "$disk" >/dev/null
nbd_io vm1 vda 'write -P 0x84 4M 64k'
at_source POST /v1/protections/vm1/cycle >/dev/null || true
wait_for 20 fenced

# What would be lost is said, and nothing is done without a yes.
kagami failover vm1 --rollback --dry-run --json >"$W/dry.json"
at_least "bytes that would be lost" "$(jq .written_bytes "$W/dry.json")" $((3 << 20))
kagami failover vm1 --rollback --dry-run | grep -q 'Nothing was done' || fail "the dry run does not say that it was one"
refuses '--yes' kagami failover vm1 --rollback
refuses 'exclude' kagami failover vm1 --rollback --commit
refuses 'point' kagami failover "vm1@$new" --rollback --yes
qemu-io -r -f qcow2 -c 'read -P 0x91 2M 64k' "$disk" | grep -q 'read 65536' || fail "a dry run lost the guest's writes"

# Never under a program that has it open.
qemu-nbd -f qcow2 -k "$R/nbd.sock" -t "$disk" 2>>"$W/qemu-nbd.log" &
nbd=$!
pids+=("$nbd")
busy() { [ -S "$R/nbd.sock" ]; }
wait_for 20 busy
refuses 'has .*vda.qcow2 open' kagami failover vm1 --rollback --yes
is "state" "$(replica vm1 .state)" failed-over
kagami set vm1 --rpo 1s >/dev/null
old() { [ "$(protection vm1 .age_ms)" -gt 2000 ]; }
wait_for 20 old
is "what a fenced source owes" "$(protection vm1 .rpo_violated)" false
is "why its point is old" "$(protection vm1 .cause)" fenced
kagami set vm1 --rpo 1h >/dev/null
kill $nbd && wait $nbd || true

kagami failover vm1 --rollback --yes >"$W/rollback.out"
grep -q "from point $new" "$W/rollback.out" || fail "rollback says: $(cat "$W/rollback.out")"
[ ! -e "$disk" ] || fail "the disk that was thrown away is still there"
is "failover" "$(replica vm1 .failover)" null
refuses 'not failed over' kagami failover vm1 --rollback --yes
point_equals vm1 "$old" vda "$W/a.old"
point_equals vm1 "$new" vda "$W/a.new"

# The source asks again, at the latest after a minute and when an operator wants a cycle, and goes on with what it marked meanwhile: no sync.
refuses 'asked now' kagami cycle vm1
wait_for 30 connected vm1
syncs=$(at_source GET /v1/protections/vm1/syncs | jq '.syncs | length')
n=$(cycle vm1)
at_least "point after the rollback" "$n" $((new + 1))
point_equals vm1 "$n" vda "$W/a.raw"
is "syncs" "$(at_source GET /v1/protections/vm1/syncs | jq '.syncs | length')" "$syncs"

# By itself, over a restart of the receiver, and not while a disk is open.
kagami failover "vm1@$old" --rollback-after 4s | grep -q 'taken back in' || fail "failover does not say when it is taken back"
qemu-nbd -f qcow2 -k "$R/nbd.sock" -t "$(disk_of)" 2>>"$W/qemu-nbd.log" &
nbd=$!
pids+=("$nbd")
sleep 6
is "state while a disk is open, after its time" "$(replica vm1 .state)" failed-over
at_least "time left then" "$(replica vm1 .failover.rollback_in_ms)" 290000
kill $nbd && wait $nbd || true

# Nor after a program that came, wrote and went between two looks.
kagami failover vm1 --rollback --yes >/dev/null
kagami failover "vm1@$old" --rollback-after 4s >/dev/null
qemu-io -f qcow2 -c 'write -P 0x93 2M 64k' -c flush "$(disk_of)" >/dev/null
written_seen() { [ "$(replica vm1 .failover.rollback_in_ms)" -gt 200000 ]; }
wait_for 20 written_seen
is "state after a write, after its time" "$(replica vm1 .state)" failed-over
kagami failover vm1 --rollback --yes >/dev/null
kagami failover "vm1@$old" --rollback-after 3s >/dev/null
kill_receiver
truncate -s -512 "$STORE/vm1/base/vda.raw" # it is kept of a replica that cannot be read, too
start_receiver
taken_back() { [ "$(replica vm1 .failover)" = null ]; }
wait_for 20 taken_back
is "state of one that cannot be read" "$(replica vm1 .state)" broken
kill_receiver
truncate -s +512 "$STORE/vm1/base/vda.raw"
start_receiver
kagami resume vm1 >/dev/null
wait_for 30 connected vm1
cycle vm1 >/dev/null

# Nobody says anything to the source: it is back within its RPO.
kagami set vm1 --rpo 8s >/dev/null
kagami failover "vm1@$(replica vm1 .last_point)" --rollback-after 5s >/dev/null
is_fenced() { [ "$(protection vm1 .state)" = fenced ]; }
wait_for 20 is_fenced
kagami status vm1 | grep -q 'none follows until the failover is taken back' || fail "status of a fenced source: $(kagami status vm1)"
wait_for 20 taken_back
wait_for 12 connected vm1
kagami set vm1 --rpo 1h >/dev/null
cycle vm1 >/dev/null

# Cut short between the fence and the disks: said, and asked again it has them.
kagami failover "vm1@$old" >/dev/null
kill_receiver
rm -r "$STORE/vm1/failover"
start_receiver
kagami status vm1 | grep -q 'failed over .*cut short: the source is fenced, and there are no disks' || fail "status says: $(kagami status vm1)"
kagami failover "vm1@$old" >/dev/null
qemu-img compare -q -f raw -F qcow2 "$W/a.old" "$(disk_of)" || fail "the disk differs from the point"
kagami failover vm1 --rollback --yes >/dev/null

# A record that does not read, nor its copy, is no failover without disks: said as critical, and they are thrown away only where that is said once more.
kagami failover "vm1@$old" --rollback-after 4s >/dev/null
qemu-io -f qcow2 -c 'write -P 0x77 2M 3M' -c flush "$(disk_of)" >/dev/null
flip() { # FILE OFFSET
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
flip "$STORE/vm1/failover/failover.json" 60
is "record, of which the copy is whole" "$(replica vm1 .failover.record_error)" null
flip "$STORE/vm1/failover/failover.json.copy" 60
[ "$(replica vm1 .failover.record_error)" = null ] && flip "$STORE/vm1/failover/failover.json" 60 # it was restored in between
kagami status vm1 >"$W/lost.out"
grep -q 'its record does not read, its disks are there: vm1/failover/failover.json does not check' "$W/lost.out" || fail "status says: $(cat "$W/lost.out")"
grep -qF "$(disk_of)" "$W/lost.out" || fail "status does not name the disk: $(cat "$W/lost.out")"
grep -q 'not taken back by itself, as it was to be: its record does not read' "$W/lost.out" || fail "status says: $(cat "$W/lost.out")"
kagami status --check vm1 >"$W/lost.out" && fail "the check is content: $(cat "$W/lost.out")"
grep -q 'CRITICAL.*record of that does not read' "$W/lost.out" || fail "the check says: $(cat "$W/lost.out")"
refuses 'up to [0-9]* bytes .*--discard-failover' kagami failover vm1 --rollback --yes
refuses 'up to [0-9]* bytes .*--discard-failover' kagami failover vm1 --rollback --dry-run
refuses '--discard-failover' kagami forget vm1 --yes
qemu-io -r -f qcow2 -c 'read -P 0x77 2M 64k' "$(disk_of)" | grep -q 'read 65536' || fail "the guest's writes are lost"
kagami failover vm1 --rollback --discard-failover --dry-run --json >"$W/dry.json"
at_least "bytes that would be lost" "$(jq .written_bytes "$W/dry.json")" $((3 << 20))
kagami failover vm1 --rollback --discard-failover --yes >/dev/null

# Another point, and this one for good.
kagami failover "vm1@$new" --rollback-after 2s >/dev/null
kagami failover vm1 --commit | grep -q final || fail "commit does not say that it is final"
kagami failover vm1 --commit >/dev/null
sleep 4
is "state" "$(replica vm1 .state)" failed-over
is "final" "$(replica vm1 .failover.final)" true
refuses 'committed' kagami failover vm1 --rollback --yes
qemu-img compare -q -f raw -F qcow2 "$W/a.new" "$(disk_of)" || fail "the disk differs from the point"
kagami status vm1 | grep -q 'it is final' || fail "status does not say that it is final"
daemons_alive
