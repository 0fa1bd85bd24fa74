#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Limits of bandwidth on a real line: what leaves is never above them, the time goes to "throttled", a pause does not wait for them, they
# are changed while a cycle runs, and they survive a restart. The counter is the program's own, of bytes that went into the socket.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((64 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --codec none --priority high --bandwidth "mon-sun 00:00-24:00 unlimited" >/dev/null
is "priority" "$(protection vm1 .priority)" high
wait_for 60 has_point vm1

# 8 MiB of what cannot be compressed away (the codec is none), at 2 MB a second and a depth of 200 kB: 4 s, and no less.
kagami set vm1 --bandwidth 2mbyte | grep -q 'bandwidth 16mbit' || fail "set does not say what is"
is "limit" "$(protection vm1 .bandwidth_limit)" 2000000
nbd_io vm1 vda 'write -P 0x71 8M 8M'
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
wire=$(protection vm1 .last_cycle.wire_bytes)
ms=$(protection vm1 .last_cycle.duration_ms) sum=$(protection vm1 '.last_cycle.stages | add') # each rounded down
at_least "bytes on the wire" "$wire" $((8 << 20))
throttled=$(protection vm1 .last_cycle.stages.throttled)
at_least "ms that the limit took" "$throttled" 2000
at_least "ms of all stages" "$((sum + 7))" "$ms"
ms=$((sum + 7)) # with pre-copy
[ $((wire - 200000)) -le $((ms * 2100)) ] || fail "$wire bytes in $ms ms, at 2000 a ms"

# All together: the lower one holds.
kagami set --bandwidth 1mbyte --cycles 3 >/dev/null
is "slots" "$(kagami set --json | jq .cycles)" 3
nbd_io vm1 vda 'write -P 0x72 8M 3M'
n=$(cycle vm1)
wire=$(protection vm1 .last_cycle.wire_bytes) ms=$(($(protection vm1 '.last_cycle.stages | add') + 7)) # with pre-copy
[ $((wire - 100000)) -le $((ms * 1050)) ] || fail "$wire bytes in $ms ms, at 1000 a ms"

# A cycle that would take more than a minute: a pause ends it at once, and what it had goes on later without the limit.
kagami set --bandwidth 100kbyte >/dev/null
nbd_io vm1 vda 'write -P 0x73 16M 8M'
kagami cycle vm1 >/dev/null
wait_for 20 eval '[ "$(protection vm1 .state)" = shipping ]'
kagami pause vm1 >/dev/null
wait_for 10 eval '[ "$(protection vm1 .state)" = paused ]'
is "cause" "$(protection vm1 .cause)" paused
kagami resume vm1 >/dev/null
kagami cycle vm1 >/dev/null
wait_for 20 eval '[ "$(protection vm1 .state)" = shipping ]'
kagami set --bandwidth none >/dev/null # while it runs: it is done within seconds
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

# Off-peak: what has no point yet waits for its window, unless it is told not to.
new_image "$W/b.raw" $((4 << 20))
hour=$(date -d '+3 hours' +%H)
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h --offpeak "$hour:00-$hour:30" --objective 99.9% >/dev/null
wait_for 20 eval 'protection vm2 .reason | grep -q off-peak'
is "point" "$(protection vm2 .age_ms)" null
n=$(cycle vm2)
point_equals vm2 "$n" vda "$W/b.raw"
is "objective" "$(protection vm2 .objective_ppm)" 999000

# One that is under way when its window is over ends, and goes on in the next one with what the receiver does not have yet.
new_image "$W/c.raw" $((24 << 20)) 3
kagami protect vm3 vda="$W/c.raw" --to dr --rpo 1h --codec none --offpeak daily --bandwidth 1mbyte >/dev/null
wait_for 20 eval '[ "$(protection vm3 ".progress.done_bytes // 0")" -gt 6291456 ]'
kagami set vm3 --offpeak "$hour:00-$hour:30" >/dev/null
wait_for 20 eval 'protection vm3 .reason | grep -q "off-peak window (.*:00-.*:30): .kagami cycle vm3. begins it now"'
is "state" "$(protection vm3 .state)" idle
is "point" "$(protection vm3 .age_ms)" null
is "failed cycles" "$(protection vm3 .totals.cycles.failed)" 0
at_least "ms until it begins again" "$(protection vm3 .next_cut_in_ms)" $((3600 * 1000))
kagami syncs vm3 | grep -q 'off-peak window is over' || fail "syncs: $(kagami syncs vm3)"
sent=$(at_source GET /v1/protections/vm3/syncs | jq '.syncs[0].sent_bytes')
kagami set vm3 --offpeak none --bandwidth unlimited >/dev/null
wait_for 60 has_point vm3
point_equals vm3 1 vda "$W/c.raw"
at_least "bytes of the first try" "$sent" 1000000
at_most "bytes of the next one, of 24 MiB" "$(protection vm3 .last_cycle.wire_bytes)" $(((24 << 20) - sent + (2 << 20)))

# What was set is there after a restart; nonsense changes nothing.
kagami set vm1 --rpo 5m --priority low --bandwidth "mon-fri 08:00-18:00 20mbit" --bandwidth 50mbit >/dev/null
kagami set --bandwidth 700mbit >/dev/null
refuses 'no rate' kagami set vm1 --bandwidth 20
refuses '--bandwidth is empty' kagami set vm1 --bandwidth ''
refuses 'give a rule' kagami set vm1 --bandwidth ';'
refuses 'give a rule' kagami set --bandwidth ' ; '
refuses 'priority' kagami set vm1 --priority urgent
refuses 'window' kagami set vm1 --offpeak 25:00-26:00
refuses 'out of range' kagami set vm1 --rpo 10ms
refuses 'objective' kagami set vm1 --objective 20%
stop_replicator
start_replicator
wait_for 30 eval '[ "$(protection vm1 .state)" = idle ]'
is "RPO" "$(protection vm1 .rpo_ms)" 300000
is "rules" "$(protection vm1 '.bandwidth | join("; ")')" "mon-fri 08:00-18:00 20mbit; 50mbit"
is "priority" "$(protection vm1 .priority)" low
is "limit of all" "$(kagami set --json | jq -r '.bandwidth[0]')" 700mbit
is "slots" "$(kagami set --json | jq .cycles)" 3
daemons_alive
