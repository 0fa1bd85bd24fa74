#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A test gives writable disks on exactly the chosen point, beside a replication that goes on. It changes nothing, holds its point
# through a killed receiver, is not taken from a running VM, and is gone when it is stopped.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io qemu-nbd jq curl

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((8 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 3 >/dev/null
kagami retention vm1 --floor none >/dev/null # else one more point stays when an hour ends meanwhile
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 0x81 1M 1M'
chosen=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.chosen"
cp --sparse=always "$W/b.raw" "$W/b.chosen"
nbd_io vm1 vda 'write -P 0x82 1M 1M'
nbd_io vm1 vdb 'write -P 0x83 1M 1M'
newer=$(cycle vm1)
of_points() { (cd "$STORE/vm1" && find points base -type f | sort | xargs sha256sum); }
of_points >"$W/before"

kagami test start "vm1@$chosen" --name fire >"$W/start.out"
grep -qF "To end it: kagami test stop vm1 fire" "$W/start.out" || fail "test start prints: $(cat "$W/start.out")"
list=$(kagami test list --json)
is "tests" "$(jq -r '.tests[] | [.protection, .name, .point, .in_use] | @csv' <<<"$list")" "\"vm1\",\"fire\",$chosen,false"
a=$(jq -r '.tests[0].disks[] | select(.name == "vda") | .path' <<<"$list")
b=$(jq -r '.tests[0].disks[] | select(.name == "vdb") | .path' <<<"$list")
grep -qF "$a" "$W/start.out" || fail "test start does not print $a"
qemu-img compare -q -f raw -F qcow2 "$W/a.chosen" "$a" || fail "the test's disk differs from the point"
qemu-img compare -q -f raw -F qcow2 "$W/b.chosen" "$b" || fail "the test's disk differs from the point"
is "held" "$(at_target GET /v1/protections/vm1/points | jq -r --argjson n "$chosen" '.points[] | select(.point == $n).held')" true
if command -v qemu-system-x86_64 >/dev/null; then # its own words, and nothing to boot from
	command=$(jq -r '.tests[0].command' <<<"$list")
	echo quit | timeout 60 bash -c "$command -S -display none -monitor stdio" >"$W/qemu.out" 2>&1 ||
		fail "QEMU refuses the command: $(cat "$W/qemu.out")"
fi

# What is written there is there, and nowhere else; replication goes on.
qemu-io -f qcow2 -c 'write -P 0x91 2M 1M' -c 'write -P 0x92 0 64k' -c flush "$a" >/dev/null
qemu-io -f qcow2 -c 'write -P 0x93 0 8M' -c flush "$b" >/dev/null
at_least "space of the test" "$(kagami test list vm1 --json | jq '.tests[0].stored_bytes')" $((9 << 20))
kagami test list >"$W/list.out"
grep -qE "^vm1 +fire +$chosen .* MiB" "$W/list.out" || fail "test list prints: $(cat "$W/list.out")"
of_points >"$W/after"
cmp "$W/before" "$W/after" || fail "a test changed a file of the store"
nbd_io vm1 vda 'write -P 0x84 4M 1M'
n=$(cycle vm1)
is "the next point" "$n" $((newer + 1))
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$chosen" vda "$W/a.chosen"
point_equals vm1 "$chosen" vdb "$W/b.chosen"

# A second one, of the newest point; what cannot be is refused.
is "the name of a test that was given none" "$(kagami test start vm1 --json | jq -r .name)" test-1
is "its point" "$(kagami test list --json | jq -r '.tests[] | select(.name == "test-1").point')" "$n"
refuses 'has a test fire already' kagami test start vm1 --name fire
refuses 'no point 99' kagami test start vm1@99
refuses 'no protection' kagami test start vm9
refuses 'cannot be the name of a test' kagami test start vm1 --name mount-1
refuses 'is not allowed|name' kagami test start vm1 --name ../x
refuses '2 tests: name one' kagami test stop vm1
refuses 'no test nope' kagami test stop vm1 nope
refuses 'it takes no --dry-run' kagami test stop vm1 --dry-run
kagami test stop vm1 test-1 >/dev/null

# While a VM has a disk open, it is not taken away.
qemu-nbd -f qcow2 -t -k "$W/vm.sock" "$b" >"$W/vm.log" 2>&1 &
vm=$!
pids+=($vm)
wait_for 10 test -S "$W/vm.sock"
in_use() { [ "$(kagami test list vm1 --json | jq '.tests[0].in_use')" = true ]; }
wait_for 10 in_use
refuses 'in use.*vdb.qcow2' kagami test stop vm1 fire
[ -e "$b" ] || fail "the refused stop took the disk away"

# A receiver that is killed keeps the test, what was written, and the hold: three points more, and none goes that it needs.
kill_receiver
start_receiver
wait_for 20 connected vm1
is "tests after a restart" "$(kagami test list --json | jq -r '.tests[] | [.name, .point, .reason] | @csv')" "\"fire\",$chosen,\"\""
qemu-io -r -f qcow2 -c 'read -P 0x91 2M 1M' "$a" | grep -q 'read 1048576' || fail "the test lost its writes"
for _ in 1 2 3; do
	nbd_io vm1 vda 'write -P 0x85 5M 64k'
	n=$(cycle vm1)
done
sleep 1
is "points up to its own, all kept" \
	"$(at_target GET /v1/protections/vm1/points | jq --argjson n "$chosen" '[.points[] | select(.point <= $n)] | length')" "$chosen"
point_equals vm1 "$chosen" vda "$W/a.chosen"
refuses 'has the test fire' kagami forget vm1 --yes

kill $vm
wait $vm 2>/dev/null || true
kagami test stop vm1 >/dev/null
is "tests" "$(kagami test list --json | jq -c .tests)" '[]'
is "what is left of it" "$(ls "$STORE/vm1/tests" "$STORE/vm1/trash" | grep -c fire || true)" 0
few() { [ "$(points vm1 | wc -l)" = 3 ]; }
nbd_io vm1 vda 'write -P 0x86 6M 64k'
n=$(cycle vm1)
wait_for 30 few
point_equals vm1 "$n" vda "$W/a.raw"

# A test whose record is damaged is told where everybody looks.
kagami test start vm1 --name lame >/dev/null
kagami status | grep -q 'the test' && fail "a test that is well is told: $(kagami status)"
stop_receiver
printf x | dd of="$STORE/vm1/tests/lame/test.json" bs=1 seek=40 conv=notrunc status=none
start_receiver
kagami status | grep -qF '! the test lame cannot be used any more; when no virtual machine has its disks, `kagami test stop vm1 lame --force` ends it: ' || fail "status says: $(kagami status)"
kagami test stop vm1 lame --force >/dev/null

# --force takes it from a VM.
kagami test start vm1 --name forced --json >"$W/forced.json"
b=$(jq -r '.disks[1].path' "$W/forced.json")
qemu-nbd -f qcow2 -t -k "$W/vm2.sock" "$b" >"$W/vm2.log" 2>&1 &
pids+=($!)
wait_for 10 in_use
kagami test stop vm1 forced --force >"$W/stop.out"
grep -q 'forced of vm1 is stopped' "$W/stop.out" || fail "test stop prints: $(cat "$W/stop.out")"
[ ! -e "$b" ] || fail "the disk of a stopped test is there"

# A test on a replica that was failed over, and beside the failover.
n=$(newest_point vm1)
kagami failover "vm1@$n" --yes >/dev/null
c=$(kagami test start "vm1@$n" --json | jq -r '.disks[0].path')
qemu-img compare -q -f qcow2 -F qcow2 "$(point_disk vm1 "$n" vda)" "$c" || fail "the test beside a failover differs from the point"
kagami test stop vm1 >/dev/null
daemons_alive
