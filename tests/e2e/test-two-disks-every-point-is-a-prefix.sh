#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A writer alternates between two disks, each write acknowledged before the next: every point, whatever happens meanwhile,
# shows exactly the writes up to some moment (R1), and all that were acknowledged before its cut was asked for (R2).
. "$(dirname "$0")/lib.sh"
requires qemu-img nbdsh jq curl
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "needs python3-libnbd"

truncate -s 64M "$W/a.raw" "$W/b.raw"
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1s --points 90 >/dev/null
wait_for 30 has_point vm1

start_writer() { # continues where the last one ended
	"$e2e/stamp_writer.py" write "$W/acked" "$(uri vm1 vda)" "$(uri vm1 vdb)" >"$W/writer.log" 2>&1 &
	writer=$!
	pids+=("$writer")
}

acked() {
	sed 's/^0*\(.\)/\1/;q' "$W/acked"
}

more_than() { # STAMP
	[ "$(acked)" -gt "$1" ]
}

check_point() { # POINT LEAST
	local disk
	for disk in vda vdb; do
		qemu-img convert -f qcow2 -O raw "$(point_disk vm1 "$1" "$disk")" "$W/$disk.point"
	done
	"$e2e/stamp_writer.py" check "$2" "$W/vda.point" "$W/vdb.point" >>"$W/newest" ||
		fail "point $1 is not the disks at one instant"
}

# A point of now holds all that was acknowledged before.
check_now() {
	least=$(acked)
	n=$(cycle vm1)
	check_point "$n" "$least"
}

echo 0 >"$W/acked"
start_writer
wait_for 10 more_than 100
for _ in 1 2 3 4 5; do
	sleep 0.7
	check_now
done

# The receiver is gone for a while, and comes back.
kill_receiver
sleep 1
start_receiver
wait_for 30 connected vm1
check_now

# The replicator is killed under the writer.
kill_replicator
wait "$writer" 2>/dev/null && fail "the writer did not notice"
before=$(acked)
start_replicator
start_writer
wait_for 10 more_than "$before"
wait_for 30 connected vm1
check_now
sleep 2

kill "$writer"
wait "$writer" || fail "the writer failed: $(cat "$W/writer.log")"
check_now
is "the newest stamp, with the writer at rest" "$(tail -n 1 "$W/newest")" "$(acked)"
at_least "stamps written" "$(acked)" 1000

# All of them, also those that the scheduler made on its own; none is folded meanwhile, as no more are made.
kagami pause vm1 >/dev/null
all=$(points vm1)
: >"$W/newest"
for n in $all; do
	check_point "$n" 0
done
is "states of the points" "$(cat "$W/newest")" "$(sort -n "$W/newest")"
at_least "points checked" "$(wc -w <<<"$all")" 10
daemons_alive
