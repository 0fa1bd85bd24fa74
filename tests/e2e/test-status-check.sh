#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kagami status --check as a monitor runs it: one line, figures behind a bar, and the exit status of a plugin. And the table for people.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"

check() { # STATUS TEXT [ARGUMENT...]
	local wanted=$1 text=$2 status=0
	shift 2
	kagami status --check "$@" >"$W/check.out" 2>"$W/check.err" || status=$?
	is "exit status of kagami status --check $* ($(cat "$W/check.out" "$W/check.err"))" $status "$wanted"
	is "lines of kagami status --check" "$(wc -l <"$W/check.out")" 1
	grep -qE -- "$text" "$W/check.out" || fail "kagami status --check $*: $(cat "$W/check.out"), expected $text"
}

KAGAMI_RUN_DIR=$R/nowhere check 3 '^KAGAMI UNKNOWN - no daemon runs at'
start_pair
check 3 '^KAGAMI UNKNOWN - nothing is protected'
new_image "$W/d.raw" $((8 << 20))
kagami protect vm1 vda="$W/d.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
wait_for 10 connected vm1
check 0 "^KAGAMI OK - 2 within their RPO \| 'vm1 age'=[0-9.]+s;3600.000;3600.000;0 'vm1 target age'="
check 0 "^KAGAMI OK - 2 within" vm1
check 3 "^KAGAMI UNKNOWN - no protection is named nobody here" nobody
check 3 "^KAGAMI UNKNOWN - " 'a/b'

# By the age: a minute of an hour is 1.7 %, so some seconds are not yet 1 %; the bounds are told to the monitor.
check 0 "'vm1 age'=[0-9.]+s;1800.000;5400.000;0" --warning 50% --critical 150
check 0 "'vm1 age'=[0-9.]+s;1800.000;1800.000;0" --critical 50%
# A warning comes before what is critical.
refuses_limits() { # TEXT ARGUMENT...
	local text=$1 status=0
	shift
	kagami status --check "$@" >"$W/check.out" 2>"$W/check.err" || status=$?
	is "exit status of kagami status --check $*" $status 3
	grep -q -- "$text" "$W/check.err" || fail "kagami status --check $*: $(cat "$W/check.err"), expected $text"
}
refuses_limits 'warning 150% is above --critical 100%, which it is by default: .* raise --critical to more than 150%' --warning 150
refuses_limits 'warning 90% is above --critical 80%: ' --warning 90% --critical 80%
kagami pause vm1 >/dev/null
wait_for 10 eval '[ "$(protection vm1 .state)" = paused ]'
check 1 '^KAGAMI WARNING - [12] of 2 not well: vm1: paused'
kagami resume vm1 >/dev/null
wait_for 30 connected vm1

# The age passes the RPO: a protection of one second that is paused.
new_image "$W/e.raw" $((1 << 20)) 2
kagami protect vm2 vda="$W/e.raw" --to dr --rpo 1s >/dev/null
wait_for 30 has_point vm2
kagami pause vm2 >/dev/null
late() { [ "$(protection vm2 .rpo_violated)" = true ]; }
wait_for 10 late
check 2 '^KAGAMI CRITICAL - .*vm2: the newest point is .* old, [0-9]+% of the RPO of 1 s'
check 2 '^KAGAMI CRITICAL' vm2
# Both daemons say it themselves, and what the check tells is what they told.
is "health of one that is late" "$(protection vm2 .health)" critical
is "level of the worst reason" "$(protection vm2 '.why[0].level')" critical
protection vm2 '.why[].text' | grep -q 'RPO of 1 s: paused' || fail "the reasons do not say that it is paused: $(protection vm2 .why)"
is "health at the target" "$(replica vm2 .health)" critical
is "reasons of one that is well" "$(protection vm1 '.health + (.why | length | tostring)')" ok0
check 0 '^KAGAMI OK' vm1
for wrong in 0 x 50%% ''; do
	status=0
	kagami status --check --warning "$wrong" >/dev/null 2>&1 || status=$?
	is "exit status of --warning '$wrong'" $status 3
done
refuses 'go with --check' kagami status --warning 50%

# The table: every column has its heading, and what is late has its reason below.
kagami status >"$W/status.out"
grep -qE '^SOURCE +STATE +NEWEST POINT +POINT +LAST CYCLE: TIME, SENT +DIRTY +CRASH +NEXT IN +TO$' "$W/status.out" || fail "headings: $(cat "$W/status.out")"
grep -qE '^vm1 +idle +.* of 1h +1 +[0-9a-z.]+, [0-9.]+ [KM]?i?B(, [0-9.]+x)? +0 B +.* dr$' "$W/status.out" || fail "vm1: $(cat "$W/status.out")"
grep -A1 '^vm2 ' "$W/status.out" | grep -q '! the newest point is .* of the RPO of 1 s' || fail "vm2: $(cat "$W/status.out")"

# One that hangs is not waited for as long as a monitor would.
kill -STOP "$REPLICATOR"
at_end "kill -CONT $REPLICATOR"
check 2 '^KAGAMI CRITICAL - (vm[12].*; )?kagami-replicator hangs: no answer from .*replicator.sock within 8 seconds.* \|'
# The other one's half of the table is there, and the failure is said.
status=0
kagami status >"$W/status.out" 2>"$W/status.err" || status=$?
is "exit status of kagami status while one daemon hangs" $status 4
grep -q '^vm1 .*connected' "$W/status.out" || fail "the other daemon's half is not shown: $(cat "$W/status.out")"
grep -q 'no answer from .*replicator.sock within 30 seconds' "$W/status.err" || fail "what hangs is not said: $(cat "$W/status.err")"
# Nor are two of them waited for one after the other.
kill -STOP "$RECEIVER"
at_end "kill -CONT $RECEIVER"
began=$SECONDS
check 2 '^KAGAMI CRITICAL - kagami-replicator hangs: .*; kagami-receiver hangs: .* \|$'
at_most "seconds for two that hang" $((SECONDS - began)) 10
kill -CONT "$REPLICATOR" "$RECEIVER"
wait_for 30 connected vm1

# One of the two dies: what the other one tells is not all. One that was stopped is not missed.
kagami unprotect vm2 --yes >/dev/null
kagami forget vm2 --yes >/dev/null
kill_receiver
check 2 '^KAGAMI CRITICAL - (vm1: .*; )?kagami-receiver died and does not run.* \|'
check 2 '^KAGAMI CRITICAL - .*kagami-receiver died' nobody
kagami status >"$W/status.out"
grep -q '^! kagami-receiver died and does not run' "$W/status.out" || fail "the table says nothing of the dead receiver: $(cat "$W/status.out")"
kill_replicator
check 2 '^KAGAMI CRITICAL - kagami-replicator died and does not run.*; kagami-receiver died and does not run.* \|$'
start_replicator
start_receiver
wait_for 30 connected vm1
stop_replicator
check 1 '^KAGAMI WARNING - 1 of 1 not well: vm1 \(target\): the source is not connected'
kagami status >"$W/status.out"
! grep -q died "$W/status.out" || fail "one that was stopped is said to have died: $(cat "$W/status.out")"
start_replicator
wait_for 30 connected vm1
check 0 '^KAGAMI OK - 2 within'
