#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Protections of different priority share a limit of all together by 1 to 2 to 4 while they want it, and no longer: on a real line, by the counter of
# what went into each connection in the last ten seconds. It is asked for until it shows the shares, while all have more to send; so a host that is
# busy makes this slower, and only other shares than those promised make it fail.
. "$(dirname "$0")/lib.sh"
requires qemu-io jq curl

start_pair
for n in 1 2 3; do
	truncate -s 64M "$W/$n.raw"
done
kagami protect low vda="$W/1.raw" --to dr --rpo 1h --codec none --priority low >/dev/null
kagami protect normal vda="$W/2.raw" --to dr --rpo 1h --codec none >/dev/null
kagami protect high vda="$W/3.raw" --to dr --rpo 1h --codec none --priority high >/dev/null
for name in low normal high; do
	wait_for 60 has_point $name
done

# All three have the same to send, which at 1.4 MB a second takes far longer than this needs.
kagami set --bandwidth 1400kbyte --cycles 3 >/dev/null
is "limit of all" "$(at_source GET /v1/settings | jq .bandwidth_limit)" 1400000
begin() { # all three have 48 MiB to send
	for name in low normal high; do
		nbd_io $name vda "write -P $1 1M 48M"
	done
	for name in low normal high; do
		kagami cycle $name >/dev/null
	done
	wait_for 30 eval '[ "$(protection low .state)$(protection normal .state)$(protection high .state)" = shippingshippingshipping ]'
}
shares() { # are they 1 : 2 : 4, each within a seventh, and the whole what it may be?
	at_source GET /v1/protections | jq -c '[.protections[] | {(.name): .bandwidth_used}] | add' >"$W/shares"
	jq -e '(.low + .normal + .high) as $all | $all > 1330000 and $all < 1470000 and
		([{of: .low, weight: 1}, {of: .normal, weight: 2}, {of: .high, weight: 4}] |
			all((.of * 7 / .weight / $all) > 0.857 and (.of * 7 / .weight / $all) < 1.143))' "$W/shares" >/dev/null
}
seen() { shares || [ "$(points high | wc -l)" != $before ]; }
# Who gets no processor asks for no bandwidth, and the others have it: on a host that does much else the shares may take a second round.
for round in 1 2; do
	before=$(points high | wc -l)
	begin 0x5$round
	wait_for 200 seen
	[ "$(points high | wc -l)" != "$before" ] || break
	[ $round = 1 ] || fail "the high one has no more to send, and it was never other than $(cat "$W/shares")"
	kagami set --bandwidth unlimited >/dev/null # the others end, and all begin together
	for name in low normal high; do
		wait_for 60 eval "[ \"\$(points $name | wc -l)\" = 2 ]"
	done
	kagami set --bandwidth 1400kbyte >/dev/null
done
used=$(at_source GET /v1/settings | jq .bandwidth_used)
[ "$used" -gt 1200000 ] && [ "$used" -lt 1470000 ] || fail "all together: $used"
is "points of the low one" "$(points low | wc -l)" "$before" # it has not starved, and is not first
kagami status high | grep -q 'bandwidth .*/s over the last 10 s, priority high' || fail "status does not tell it: $(kagami status high)"

# What is changed holds at once: the low one is let go first now, and takes what the others leave.
kagami set low --priority high >/dev/null
kagami set high --bandwidth 64kbyte >/dev/null
kagami set normal --bandwidth 64kbyte >/dev/null
left() {
	[ "$(points low | wc -l)" = "$before" ] || fail "the low one has no more to send, and it was never $(cat "$W/shares")"
	at_source GET /v1/protections | jq -c '[.protections[] | {(.name): .bandwidth_used}] | add' >"$W/shares"
	jq -e '.low > 1140000 and .low < 1400000 and .high < 68000 and .normal < 68000' "$W/shares" >/dev/null
}
wait_for 200 left
for name in high normal; do
	kagami set $name --bandwidth unlimited >/dev/null
done
kagami set --bandwidth unlimited >/dev/null
for name in low normal high; do
	wait_for 60 eval "[ \"\$(points $name | wc -l)\" = $((before + 1)) ]"
	point_equals $name $((before + 1)) vda "$W/$(case $name in low) echo 1 ;; normal) echo 2 ;; high) echo 3 ;; esac).raw"
done
daemons_alive
