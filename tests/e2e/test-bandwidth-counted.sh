#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A limit of bandwidth against a counter of bytes that is not ours to move: a relay on the way. Over any 10 s no more than 5 % above it; and no more than 5 % below,
# which a host that is busy with something else may miss, so once of five times.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

RATE=1000000
front=$(free_port)
start_receiver
"$e2e/../../tools/slow_link.py" "$front" "$PORT" 10000 0 >"$W/relay.out" 2>"$W/relay.log" &
pids+=($!) relay=$!
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$front") 2>/dev/null; }
wait_for 10 listens
start_replicator
kagami pair dr "$(new_token "127.0.0.1:$front")" >/dev/null
new_image "$W/a.raw" $((4 << 20))
truncate -s 128M "$W/a.raw"
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --codec none >/dev/null
wait_for 60 has_point vm1
kagami set vm1 --bandwidth 1mbyte >/dev/null
dd if=/dev/urandom of="$W/random" bs=1M count=60 status=none
nbd_io vm1 vda "write -s $W/random 8M 60M"
kagami cycle vm1 >/dev/null
wait_for 20 eval '[ "$(protection vm1 .state)" = shipping ]'
sleep 1 # the depth of the bucket, and the questions

counted() { # since it was asked before: bytes in $bytes, us in $took
	local lines at
	lines=$(wc -l <"$W/relay.out")
	kill -USR1 "$relay"
	at=${EPOCHREALTIME/[.,]/}
	wait_for 5 eval "[ \$(wc -l <'$W/relay.out') -gt $lines ]"
	bytes=$(tail -n 1 "$W/relay.out" | cut -d' ' -f1)
	took=$((at - ${before:-$at})) before=$at
}
counted
held=
for _ in 1 2 3 4 5; do
	sleep 10
	counted
	echo "$bytes bytes in $took us"
	at_most "bytes in 10 s, in hundredths of the limit" $((bytes * 100 / (RATE * took / 1000000))) 105
	is "the state" "$(protection vm1 .state)" shipping
	[ $((bytes * 100 / (RATE * took / 1000000))) -lt 95 ] || held=1
	[ -z "$held" ] || break
done
[ -n "$held" ] || fail "in none of five times 10 s it gave 95 % of the limit"
daemons_alive
