#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An initial sync goes on where it was: the receiver is killed three times in the middle of one of 512 MiB, then the replicator in the
# middle of another, and what travels in all is the data and a bounded window for each kill.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

MIB=$((1 << 20))
WINDOW=$((40 * MIB)) # docs/protocol.md: 32 MiB in the head, and what was in the receiver's socket

front=$(free_port)
echo pass >"$W/net"
"$e2e/tcp_proxy.py" "$front" "$PORT" "$W/net" >"$W/proxy.log" 2>&1 &
pids+=($!)
start_receiver
start_replicator
kagami pair dr "$(new_token "127.0.0.1:$front")" >/dev/null

network() { # MODE
	echo "$1" >"$W/net.new"
	mv "$W/net.new" "$W/net"
}

sent() { cat "$W/net.sent"; }
sent_at_least() { [ "$(sent)" -ge "$1" ]; }

stop_after() { # BYTES
	target=$(($(sent) + $1))
	network "stop $1"
}

head -c $((512 * MIB)) /dev/urandom >"$W/a.raw" # of which nothing can be packed
stop_after $((100 * MIB))
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
for next in 110 120 rest; do
	wait_for 120 sent_at_least $target
	kill_receiver
	network cut # what still lay in the proxy is lost, too
	start_receiver
	kept=$(replica vm1 .head_bytes)
	at_least "bytes of the head after the receiver was killed" "$kept" $((100 * MIB - WINDOW))
	case $next in rest) network pass ;; *) stop_after $((next * MIB)) ;; esac
done
at_least "bytes of the head after the third time" "$kept" $((330 * MIB - 3 * WINDOW))
wait_for 120 has_point vm1
point_equals vm1 "$(newest_point vm1)" vda "$W/a.raw"
at_most "bytes sent with three kills of the receiver" "$(sent)" $((512 * MIB + 3 * WINDOW + 8 * MIB))
is "heads taken up again" "$(grep -c 'head found as its checkpoint has it' "$W/kagami-receiver.log")" 3

head -c $((256 * MIB)) /dev/urandom >"$W/b.raw"
first=$(sent)
stop_after $((60 * MIB))
kagami protect vm2 vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
for next in 70 50 rest; do
	wait_for 120 sent_at_least $target
	kill_replicator
	case $next in rest) network pass ;; *) stop_after $((next * MIB)) ;; esac
	start_replicator
done
wait_for 120 has_point vm2
point_equals vm2 "$(newest_point vm2)" vdb "$W/b.raw"
at_most "bytes sent with three kills of the replicator" $(($(sent) - first)) $((256 * MIB + 3 * WINDOW + 8 * MIB))
daemons_alive
