#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The receiver's account of ages: it is fed by commits, goes on when the source is dark and says so, survives a restart and a kill, and tells events
# that a caller can wait for; a wait ends when the daemon stops.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl

new_image "$W/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 2s >/dev/null
wait_for 60 has_point vm1
cycle vm1 >/dev/null

history() { # FILTER [WINDOW]
	at_target GET "/v1/protections/vm1/history?window=${2:-hour}" | jq -r "$1"
}
says() { # TEXT PATH: that is refused
	! at_target GET "$2" >"$W/out" || fail "this should not have worked: $2"
	grep -q "$1" "$W/out" || fail "$2 says $(cat "$W/out")"
}
event_ids() { # CLASS: of vm1
	at_target GET "/v1/events?protection=vm1&class=$1" | jq -r '.events[].id'
}

wait_for 20 eval '[ "$(history .observed_ms)" -gt 0 ]'
at_least "points in the history" "$(history '[.slots[].points] | add')" 1
is "window of the answer" "$(history .window day)" day
says 'hour, day or week' '/v1/protections/vm1/history?window=year'
is "missing" "$(replica vm1 .rpo.missing)" null
at_least "clock error" "$(replica vm1 .clock_error_ms)" 0
at_target GET /v1/protections/vm1 | jq -e '.rpo.age.hour.p99_ms > 0 and .rpo.objective == 0.995 and .rpo.budget_ms == 3024000' >/dev/null ||
	fail "the member rpo: $(replica vm1 .rpo)"

# The source goes dark: nobody but the receiver knows, and it alarms.
missed=$(event_ids rpo-missed | wc -l)
kill_replicator
wait_for 30 eval '[ "$(event_ids rpo-missed | wc -l)" -gt "$missed" ]'
is "cause that stands" "$(replica vm1 .rpo.missing)" source-down
is "violated" "$(replica vm1 .rpo_violated)" true
at_least "missed for that" "$(history '.missed_by["source-down"]')" 1
is "the newest miss goes on" "$(history '.misses[0].ended')" null

# A restart, and a kill of the receiver: numbers of events go on, the history is there, and the miss is the same one.
began=$(history '.misses[0].began')
before=$(history .missed_ms)
last=$(at_target GET /v1/events | jq .next)
stop_receiver
start_receiver
at_least "number of the newest event" "$(at_target GET /v1/events | jq .next)" "$((last + 2))"
at_least "missed after the restart" "$(history .missed_ms)" "$before"
is "the miss began" "$(history '.misses[0].began')" "$began"
at_target GET /v1/events | jq -e '[.events[].id] == ([range(1; (.events | length) + 1)])' >/dev/null || fail "events have holes"

# Somebody waits for an event that comes, and for one that does not.
since=$(at_target GET /v1/events | jq .next)
api receiver.sock GET "/v1/events?since=$since&wait_ms=30000&class=rpo-kept&protection=vm1" >"$W/kept.json" &
waiter=$!
start_replicator
wait $waiter
is "what was waited for" "$(jq -r '.events[0].class' "$W/kept.json")" rpo-kept
is "missing" "$(replica vm1 .rpo.missing)" null
at_least "misses kept" "$(history '.misses | length')" 1
is "the newest miss ended" "$(history '.misses[0].ended != null')" true
at_source GET '/v1/events?class=sync' | jq -e '.events | length >= 2' >/dev/null || fail "no events of syncs at the source: $(at_source GET /v1/events)"
at_source GET '/v1/events?class=settings&newest=1' | jq -e '.events[0].text | contains("vm1 is protected")' >/dev/null || fail "settings"
says 'none of this name' '/v1/events?class=weather'

since=$(at_target GET /v1/events | jq .next)
api receiver.sock GET "/v1/events?since=$since&wait_ms=30000&class=failover" >"$W/none.json" &
waiter=$!
api replicator.sock GET "/v1/events?since=100000000&wait_ms=30000&class=failover" >"$W/none2.json" &
waiter2=$!
sleep 0.5
begin=$SECONDS
stop_replicator
stop_receiver
wait $waiter
wait $waiter2
at_most "seconds until the daemons stopped under waiting callers" $((SECONDS - begin)) 15
is "events that came" "$(jq '.events | length' "$W/none.json")" 0

# kagami-receiver --check takes the history for what it is.
kagami-receiver --check "$STORE" >"$W/check.json" || fail "check: $(cat "$W/check.json")"
jq -e ".sound and (.protections[0].notes | length) == 0" "$W/check.json" >/dev/null || fail "check: $(cat "$W/check.json")"
