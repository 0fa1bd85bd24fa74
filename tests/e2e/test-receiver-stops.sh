#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A receiver that is asked to stop while each of its threads has work (a sync arrives, a scrub, a check and a proof read, a seed is copied, a fold is due,
# a rollback is awaited, a test holds its point) ends them in an order in which none uses what another has closed: it exits with 0, says so in
# its log's last line, and comes back with all of it. With sanitizers a wrong order is found for certain.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

MIB=$((1 << 20))
new_image "$W/a.raw" $((64 * MIB))
new_image "$W/b.raw" $((8 * MIB)) 2
new_image "$W/old.raw" $((256 * MIB)) 3
start_receiver --verify-rate 1 --retention-rate 1
start_replicator
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --points 2 >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
wait_for 60 has_point vm2
kagami failover vm2 --yes --rollback-after 1h >/dev/null
oldest=$(newest_point vm1)
kagami test start "vm1@$oldest" --name held >/dev/null

for round in 1 2 3; do
	nbd_io vm1 vda "write -P 0x4$round 1M 24M"
	newest=$(cycle vm1)
	nbd_io vm1 vda "write -P 0x5$round $((round * 2))M 30M"
	kagami scrub vm1 --rate 1M >/dev/null
	at_target POST /v1/store/check >/dev/null
	kagami seed "vm$((round + 5))/vda" "$W/old.raw" --format raw >/dev/null
	at_source POST /v1/protections/vm1/cycle >/dev/null
	stop_receiver
	tail -n 1 "$W/kagami-receiver.log" | grep -q 'stopped' || fail "its last line is $(tail -n 1 "$W/kagami-receiver.log")"
	if grep -q ' error: ' "$W/kagami-receiver.log"; then
		fail "it says $(grep ' error: ' "$W/kagami-receiver.log" | head -n 1)"
	fi
	start_receiver --verify-rate 1 --retention-rate 1
	wait_for 60 connected vm1
	# Itself, or two newer ones: the one that was under way, and the next.
	points vm1 | grep -qx "$newest" || [ "$(points vm1 | awk -v n="$newest" '$1 > n' | wc -l)" -ge 2 ] || fail "point $newest is gone: $(kagami points vm1)"
	kagami test list | grep -q held || fail "the test is gone: $(kagami test list)"
done
wait_for 60 has_point vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
kagami failover vm2 --rollback --yes >/dev/null
kagami test stop vm1 held >/dev/null
kagami store check >/dev/null || fail "the store is not sound: $(kagami store check 2>&1 | tail -n 3)"
daemons_alive
