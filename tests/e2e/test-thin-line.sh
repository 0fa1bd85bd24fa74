#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A line of 1 Mbit/s that has megabytes to carry: what waits in the socket is the line's time and not the receiver's, the state says that it is still
# being shipped, and reports that come late of it are no clock that was set.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

front=$(free_port)
start_receiver
"$e2e/../../tools/slow_link.py" "$front" "$PORT" 1 20 >"$W/link.log" 2>&1 &
pids+=($!)
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$front") 2>/dev/null; }
wait_for 10 listens
start_replicator
kagami pair dr "$(new_token "127.0.0.1:$front")" >/dev/null

truncate -s 16M "$W/a.raw"
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
dd if=/dev/urandom of="$W/random" bs=1M count=2 status=none
nbd_io vm1 vda "write -s $W/random 4M 2M"
n=$(newest_point vm1)
at_source POST /v1/protections/vm1/cycle >/dev/null
sealed() { [ "$(newest_point vm1)" != "$n" ]; }
seen=()
until sealed; do
	seen+=("$(protection vm1 .state)")
	sleep 0.2
done
source_knows() { [ "$(protection vm1 .last_cycle.point)" = "$(newest_point vm1)" ]; }
count() { printf '%s\n' "${seen[@]}" | grep -c "^$1\$"; }
wait_for 20 source_knows
protection vm1 .last_cycle
at_least "ms of the network" "$(protection vm1 .last_cycle.stages.network)" 8000
at_most "ms of the receiver beside it" "$(($(protection vm1 .last_cycle.stages.apply) * 4))" "$(protection vm1 .last_cycle.stages.network)"
at_most "looks at a commit beside those at a shipment" "$(($(count committing) * 4))" "$(count shipping)"
is "warnings of a clock" "$(at_target GET '/v1/events?class=clock' | jq '.events | length')" 0
point_equals vm1 "$(newest_point vm1)" vda "$W/a.raw"

# The next cycle knows the line: most of its delta is away, and not only in the socket, before the cut.
dd if=/dev/urandom of="$W/random" bs=1M count=1 status=none
nbd_io vm1 vda "write -s $W/random 8M 1M"
kagami cycle vm1 --wait >/dev/null
protection vm1 .last_cycle
at_least "passes of pre-copy" "$(protection vm1 .last_cycle.precopies)" 1
at_most "ms from cut to commit, of a delta that takes 8 s" "$(protection vm1 .last_cycle.duration_ms)" 4000
point_equals vm1 "$(newest_point vm1)" vda "$W/a.raw"
daemons_alive
