#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The source's own record of ages, and what its REPORT tells the receiver: the causes are the same at both ends, also while the operator
# has paused, and the record survives a restart.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 2s >/dev/null
wait_for 60 has_point vm1
history() { at_source GET "/v1/protections/vm1/history?window=hour" | jq -r "$1"; }
wait_for 30 eval '[ "$(history .observed_ms)" -ge 3000 ]'
is "RPO" "$(history .rpo_ms)" 2000
kagami pause vm1 >/dev/null
is "cause" "$(protection vm1 .cause)" paused
wait_for 30 eval '[ "$(history ".missed_by.paused // 0")" -ge 1000 ]'
wait_for 30 eval '[ "$(history ".missed_by.paused // 0")" -ge 4000 ]'
queued=$(protection vm1 .totals.stage_ms.queue)
wait_for 30 eval '[ "$(replica vm1 .source_paused)" = true ]' # it said good-bye
wait_for 30 eval '[ "$(replica vm1 .rpo.missing)" = paused ]'
kagami resume vm1 >/dev/null
kagami set vm1 --rpo 1m >/dev/null
n=$(cycle vm1)
at_most "ms of waiting for a slot, of which a pause is none" $(($(protection vm1 .totals.stage_ms.queue) - queued)) 3000
wait_for 30 eval '[ "$(replica vm1 .rpo_ms)" = 60000 ] || [ "$(at_target GET /v1/protections/vm1/history | jq .rpo_ms)" = 60000 ]'
before=$(history .observed_ms)
# A pause that ends a cycle, and with it the connection, is told over another, as is one that finds its receiver away.
kagami set vm1 --bandwidth 100kbyte >/dev/null
head -c 8M /dev/urandom >"$W/noise"
nbd_io vm1 vda "write -s $W/noise 0 8M"
kagami cycle vm1 >/dev/null
wait_for 20 eval '[ "$(protection vm1 .state)" = shipping ]'
kagami pause vm1 >/dev/null
wait_for 30 eval '[ "$(replica vm1 .source_paused)" = true ]'
wait_for 5 eval '! connected vm1'
is "state" "$(protection vm1 .state)" paused
kagami resume vm1 >/dev/null
kagami set vm1 --bandwidth unlimited >/dev/null
cycle vm1 >/dev/null
stop_receiver
kagami pause vm1 >/dev/null
start_receiver
wait_for 60 eval '[ "$(replica vm1 .source_paused)" = true ]'
is "state" "$(protection vm1 .state)" paused
kagami resume vm1 >/dev/null
wait_for 30 connected vm1

# One on a line that is dead, which nobody has noticed yet: it leaves, and is not heard.
kill -STOP "$RECEIVER"
kagami pause vm1 >/dev/null
wait_for 5 eval '[ "$(protection vm1 .state)" = paused ]'
sleep 5 # for longer than an answer is waited for
kill_receiver
start_receiver
wait_for 60 eval '[ "$(replica vm1 .source_paused)" = true ]'
stop_receiver # nobody tells it again
start_receiver
is "paused" "$(replica vm1 .source_paused)" true
kagami resume vm1 >/dev/null
is "state" "$(protection vm1 .paused)" false
wait_for 30 connected vm1
[ "$(protection vm1 .state)" != paused ] || fail "it is resumed, and says that it is paused"

stop_replicator
start_replicator
wait_for 30 connected vm1
at_least "observed after a restart" "$(history .observed_ms)" "$before"
at_least "missed after a restart" "$(history .missed_by.paused)" 1000
refuses 'no protection' kagami history other
daemons_alive
