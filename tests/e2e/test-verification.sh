#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A byte of the store is flipped: whatever serves that point says so. An export ends with the block named; what is tested or failed over is
# proven beside its use, and the damage is told by the command, status and the log; --verify serves a sound point only.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((4 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 20 >/dev/null
wait_for 30 has_point vm1
declare -A damaged
for n in 1 2 3 4 5; do
	nbd_io vm1 vda "write -P $n 1M 192k"
	newest=$(cycle vm1)
	cp --sparse=always "$W/a.raw" "$W/a.$newest"
done
kagami pause vm1
first=$((newest - 4))
verify() { at_target GET "/v1/protections/vm1/verify?point=$1" | jq -r "$2"; }
state_is() { [ "$(verify "$1" .state)" = "$2" ]; }

# Before anybody uses it: what is known.
kagami failover vm1 --dry-run >"$W/dry.out"
grep -q 'Proof: the point was not read from end to end lately; of the replica, not every block was proven yet' "$W/dry.out" || fail "a dry run says: $(cat "$W/dry.out")"

# Sound: served at once, and proven by the time that the command is back, or beside it.
kagami test start "vm1@$first" --name good >"$W/start.out"
wait_for 30 state_is "$first" sound
is "bytes that were proven" "$(verify "$first" .done_bytes)" $((36 << 20))
grep -qE 'Proven: point|Being proven' "$W/start.out" || fail "test start says nothing of it: $(cat "$W/start.out")"
is "verify of the test" "$(kagami test list --json | jq -r '.tests[0].verify.state')" sound
kagami failover "vm1@$first" --dry-run | grep -qE "^Proof: point $first: every block was proven, 36 MiB, [0-9.]+m?s ago\.$" || fail "a dry run says: $(kagami failover "vm1@$first" --dry-run)"
ended() { verify "$first" .since_ms; }
before=$(ended)
sleep 0.1
at_least "time since it was proven" "$(ended)" $((before + 100))
kagami status vm1 | grep -q "verified .*point $first: every block was proven, 36 MiB, .* ago" || fail "status: $(kagami status vm1)"
kagami test stop vm1 good >/dev/null
kagami test start "vm1@$first" --verify >"$W/start.out"
grep -q "Proven: point $first: every block was proven" "$W/start.out" || fail "test start --verify prints: $(cat "$W/start.out")"
kagami test stop vm1 >/dev/null
is "held after the test" "$(at_target GET /v1/protections/vm1/points | jq -r '[.points[] | select(.held)] | length')" 0
refuses '--verify is for start' kagami test list --verify

# Export reads whole blocks, and proves each: the one that was flipped is named, and nothing is left behind.
p=$first
"$e2e/flip_cluster.py" "$(point_disk vm1 "$p" vda)" 16
refuses "vda of vm1@$p is damaged.*block 16 .*nothing was left behind" kagami export "vm1@$p" "$W/out.raw" --disk vda
[ -z "$(ls "$W"/out.raw* 2>/dev/null)" ] || fail "an export that failed left $(ls "$W"/out.raw*)"
kagami export "vm1@$p" "$W/b.out" --disk vdb >/dev/null || fail "the sound disk of that point does not export"
status=0
kagami export "vm1@$p" "$W/out.raw" --disk vda --damaged >"$W/export.out" 2>"$W/export.err" || status=$?
is "status of an export of what is damaged" $status 1
grep -q 'is not what was committed: 1 of its blocks' "$W/export.err" || fail "export --damaged says: $(cat "$W/export.err")"
grep -q 'Each block was proven' "$W/export.out" && fail "export --damaged says that each block was proven"
is "bytes that differ lie in that block" "$(cmp -l "$W/out.raw" "$W/a.$p" | awk '{print int(($1 - 1) / 65536)}' | sort -u)" 16
quarantined() { [ "$(at_target GET /v1/protections/vm1/points | jq --argjson n "$1" '.points[] | select(.point == $n).damaged_blocks > 0')" = true ]; }
wait_for 30 quarantined "$p" # by what the export found

# A test of a damaged point: served at once, and the damage is found beside it.
p=$((first + 1))
"$e2e/flip_cluster.py" "$(point_disk vm1 "$p" vda)" 17
kagami test start "vm1@$p" --name bad >"$W/start.out" 2>"$W/start.err" || fail "a test does not start at once: $(cat "$W/start.err")"
wait_for 30 state_is "$p" damaged
is "damaged blocks" "$(verify "$p" .damaged_blocks)" 1
is "verify of the test" "$(kagami test list --json | jq -r '.tests[0].verify.state')" damaged
kagami test list >"$W/list.out"
grep -q "! DAMAGED: point $p of vm1 is in quarantine: 1 of its blocks is damaged, the first in disk vda at byte $((17 << 16))" "$W/list.out" ||
	fail "test list prints: $(cat "$W/list.out")"
kagami status | grep -q "! DAMAGED: point $p of vm1" || fail "status prints: $(kagami status)"
grep -q "DAMAGE: do not trust what reads this point now.*point=$p " "$W/kagami-receiver.log" || fail "the log does not say it loudly"
quarantined "$p" || fail "point $p is not in quarantine"
kagami test stop vm1 bad >/dev/null
refuses "point $p of vm1 is in quarantine" kagami test start "vm1@$p"

# --verify proves first: nothing is served, unless it is asked for as it is.
p=$((first + 2))
"$e2e/flip_cluster.py" "$(point_disk vm1 "$p" vda)" 18
refuses "point $p of vm1 is in quarantine: 1 of its blocks" kagami test start "vm1@$p" --verify
is "tests" "$(kagami test list --json | jq '.tests | length')" 0
kagami test start "vm1@$p" --verify --damaged >"$W/start.out" 2>"$W/start.err" || fail "--damaged is refused: $(cat "$W/start.err")"
grep -q "kagami: WARNING: DAMAGED: point $p" "$W/start.err" || fail "--damaged says: $(cat "$W/start.err")"
kagami test stop vm1 >/dev/null

# A restart begins anew what was under way for a test.
p=$((first + 3))
kagami test start "vm1@$p" --name on >/dev/null
"$e2e/flip_cluster.py" "$(point_disk vm1 "$p" vda)" 16
kill_receiver
start_receiver
wait_for 30 state_is "$p" damaged
kagami test stop vm1 on >/dev/null

# Failover, to a point that is damaged: refused with --verify; without, the disks are there at once, and the warning soon.
p=$newest
"$e2e/flip_cluster.py" "$(point_disk vm1 "$p" vda)" 16
refuses "point $p of vm1 is in quarantine" kagami failover vm1 --yes --verify
is "state" "$(replica vm1 .failover)" null
refuses "quarantine" kagami failover vm1 --yes
kagami failover "vm1@$p" --yes --damaged >"$W/failover.out" 2>"$W/failover.err" || fail "failover --damaged: $(cat "$W/failover.err")"
at_most "duration of the failover" "$(replica vm1 .failover.duration_ms)" 5000
wait_for 30 state_is "$p" damaged
kagami status vm1 | grep -q "DAMAGED: point $p" || fail "status prints: $(kagami status vm1)"
kagami failover vm1 --rollback --yes >/dev/null
is "verifications after the rollback" "$(replica vm1 '.verifications | length')" 0

# What is being verified does not keep a protection from being removed.
at_target POST /v1/protections/vm1/verify '{}' >/dev/null
kagami forget vm1 --yes >/dev/null
daemons_alive
