#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# More protections of one source than the receiver takes connections that it does not know yet: all connect after a start, and none says that it was turned away.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl

start_pair
for i in {1..18}; do
	truncate -s 1M "$W/$i.raw"
	kagami protect "vm$i" vda="$W/$i.raw" --to dr --rpo 1h >/dev/null
done
all_connected() {
	local i
	for i in {1..18}; do
		connected "vm$i" || return 1
	done
}
wait_for 60 all_connected
for again in 1 2 3; do
	stop_replicator
	start_replicator
	wait_for 60 all_connected
done
kagami events >"$W/events"
! grep -i 'handshake\|is connecting: .*reset by peer' "$W/events" || fail "a connection was turned away"
daemons_alive
