#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A state file that is truncated, damaged or of another disk, and an image that changed while the replicator was away: said in
# the status, and the next point is the disk. Never a guess.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((32 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
cycle vm1 >/dev/null

# The state file is what lies under the state directory and is not JSON or a key.
state_files() {
	find "$STATE" -type f | grep -vE '\.(json|pem|key|crt|new)$|lock$'
}

flip() { # FILE OFFSET
	printf '\377\377\377\377' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

after() { # WHAT WAS DONE, REASON OF THE SYNC ("": none is needed)
	local sync
	start_replicator
	wait_for 15 connected vm1
	n=$(cycle vm1)
	point_equals vm1 "$n" vda "$W/a.raw"
	sync=$(at_source GET /v1/protections/vm1/syncs | jq -c '.syncs[0]')
	is "reason of the sync of point $n, after $1" "$(jq -r --argjson n "$n" 'select(.point == $n).reason' <<<"$sync")" "$2"
	at_most "bytes sent after $1" "$(protection vm1 .last_cycle.wire_bytes)" 1000000
}

stop_replicator
printf 'XX' | dd of="$W/a.raw" bs=1 seek=12345678 conv=notrunc status=none
after 'the image was changed' image-changed

[ -n "$(state_files)" ] || fail "no state file in $STATE: $(find "$STATE")"
size=$(state_files | xargs -d '\n' stat -c %s | head -n 1)
for damage in "truncate -s $((size / 2))" 'truncate -s 0' 'truncate -s 100' flip-one flip-both rm; do
	nbd_io vm1 vda 'write -P 0x33 9M 64k'
	stop_replicator
	state_files | while read -r file; do
		case $damage in
		flip-one) flip "$file" 40 ;;
		flip-both) flip "$file" 40 && flip "$file" $((4096 + 40)) ;;
		*) $damage "$file" ;;
		esac
	done
	case $damage in
	rm) reason=state-missing ;;
	flip-one) reason= ;; # the other header says the same after a clean stop
	*) reason=state-unreadable ;;
	esac
	after "$damage" "$reason"
done
daemons_alive
