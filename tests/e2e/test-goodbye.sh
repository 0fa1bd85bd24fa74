#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A protection that is ended on purpose says goodbye: its target shows that, alarms nobody, keeps it through a restart, and lets go of it when its source
# is back. Where the target cannot be told, unprotect says so, neither hangs nor fails, and all is as with a source that is down. A failover stays a failover.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((4 << 20)) 1
new_image "$W/b.raw" $((4 << 20)) 2
start_pair
for vm in a b; do
	kagami protect vm$vm vda="$W/$vm.raw" --to dr --rpo 2s >/dev/null
	wait_for 60 has_point vm$vm
done
states() { # CLASS: texts of its events at the target, of vma
	at_target GET "/v1/events?protection=vma&class=$1" | jq -r '.events[].text'
}
older() { # NAME MS
	[ "$(replica "$1" .age_ms)" -gt "$2" ]
}
cycle vma >/dev/null
stop_replicator
cp -a "$STATE" "$W/state.before"
start_replicator
wait_for 30 connected vma

# A guest that is connected is named, since its disks go away.
qemu-io -f raw -c 'sleep 120000' "$(uri vma vda)" >"$W/guest.out" 2>&1 &
guest=$!
at_end "kill $guest"
attached() { [ "$(protection vma '.disks[0].clients')" = 1 ]; }
wait_for 20 attached
kagami unprotect vma --yes >"$W/out"
kill $guest 2>/dev/null || true
grep -q 'vma is protected no more' "$W/out" || fail "unprotect: $(cat "$W/out")"
grep -q '^1 connection to its disks ended with it' "$W/out" || fail "unprotect of a disk with a guest: $(cat "$W/out")"
! grep -q 'not told' "$W/out" || fail "unprotect: $(cat "$W/out")"
gone_dark() { [ "$(replica "$1" .state)" != connected ]; }
wait_for 30 gone_dark vma
is "state" "$(replica vma .state)" unprotected
n=$(newest_point vma)
date=$(replica vma .unprotected)
[[ $date == 20* ]] || fail "no date: $date"
# Also long after its RPO, and after a restart.
missed=$(states rpo-missed | wc -l)
wait_for 30 older vma 6000
stop_receiver
start_receiver
wait_for 30 connected vmb
is "state after a restart" "$(replica vma .state)" unprotected
is "when, after a restart" "$(replica vma .unprotected)" "$date"
is "health" "$(replica vma .health)" ok
is "violated" "$(replica vma .rpo_violated)" false
is "deadline" "$(replica vma .deadline_in_ms)" null
is "missing" "$(replica vma .rpo.missing)" null
is "misses since" "$(states rpo-missed | wc -l)" "$missed"
is "newest point" "$(newest_point vma)" "$n"
states state | grep -q 'vma was unprotected at its source; its points are kept until `kagami forget vma`' || fail "events: $(states state)"
kagami status --check vma >"$W/check.out" || fail "check: $(cat "$W/check.out")"
grep -q '^KAGAMI OK - 1 unprotected at the source' "$W/check.out" || fail "check: $(cat "$W/check.out")"
kagami status >"$W/status.out"
grep -q "unprotected at the source on ${date%%T*}; its points are kept until .kagami forget vma" "$W/status.out" || fail "status: $(cat "$W/status.out")"
kagami status vma >"$W/status.out"
grep -q "unprotected *at the source, on ${date%%T*}" "$W/status.out" || fail "status: $(cat "$W/status.out")"
! grep -qE 'VIOLATED|the RPO of' "$W/status.out" || fail "status: $(cat "$W/status.out")"

# Its points serve as before, and a failover of it is one, also when it is taken back.
kagami failover vma >/dev/null
is "state after a failover" "$(replica vma .state)" failed-over
kagami failover vma --rollback --yes >/dev/null
is "state after it was taken back" "$(replica vma .state)" unprotected

# Protected anew it is another protection, which the name is not free for; that changes nothing.
kagami protect vma vda="$W/a.raw" --to dr --rpo 2s >/dev/null 2>&1 || true
refused() { protection vma .reason | grep -q 'exists here from an earlier protection.*kagami forget vma'; }
wait_for 30 refused
is "state beside another one of its name" "$(replica vma .state)" unprotected
kagami unprotect vma --yes >"$W/out"
grep -q 'The target was not told: .*earlier protection\|The target was not told: .*belongs to another' "$W/out" || fail "unprotect of the other: $(cat "$W/out")"
is "state after the other one went" "$(replica vma .state)" unprotected

# The state of the source is put back from a backup: the first session ends it.
stop_replicator
rm -r "$STATE"
cp -a "$W/state.before" "$STATE"
start_replicator
wait_for 60 connected vma
is "state at the target" "$(replica vma .state)" connected
is "unprotected" "$(replica vma .unprotected)" null
m=$(cycle vma)
at_least "newest point" "$m" $((n + 1))
point_equals vma "$m" vda "$W/a.raw"

# Nobody is there to be told.
stop_receiver
status=0
kagami unprotect vmb --yes >"$W/out" || status=$?
is "status of unprotect" $status 0
grep -q 'The target was not told: .*kagami forget vmb' "$W/out" || fail "unprotect: $(cat "$W/out")"
at_source GET '/v1/events?class=settings&protection=vmb&newest=1' | jq -e '.events[0].severity == "warning"' >/dev/null || fail "no event at the source"
start_receiver
is "state of what was not told" "$(replica vmb .state)" disconnected
status=0
kagami unprotect vma --json >"$W/out" || status=$?
is "status of unprotect --json" $status 0
jq -e '.told == true and .untold == ""' "$W/out" >/dev/null || fail "unprotect --json: $(cat "$W/out")"
# Most of the time that was missed the receiver itself was away, perhaps.
wait_for 30 older vmb 3000
refuses 'source-down|target-down|not connected' bash -c 'kagami status --check vmb >&2'
kagami forget vma --yes >/dev/null
kagami forget vmb --yes >/dev/null
daemons_alive
