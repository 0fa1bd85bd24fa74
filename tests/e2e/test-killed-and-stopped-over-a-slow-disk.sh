#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk that takes its time for what guests have written. An agent that is killed while it syncs that for a guest is gone at once, and the next serves the guest while the disk goes on writing. A stop
# brings it to the disk while all are served, also where they write on; only what they wrote last is written while they are not.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl nbdsh
mkdir "$W/slow"
mount_slow "$W/slow" 160M
truncate -s 64M "$W/slow/a.raw" # 16 MiB of which are 16 s, at the rate below
new_image "$W/b.raw" $((64 << 20)) 2
start_pair
kagami protect vm1 vda="$W/slow/a.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
for vm in vm1 vm2; do
	wait_for 60 has_point $vm
done
write_much() { nbdsh -u "$(uri vm1 vda)" -c "for i in range(4000): h.pwrite(b'$1' * 4096, i * 16384)"; } # BYTE
now() { date +%s; }

sync -f "$W/slow"
slow_down "$W/slow" 8M
write_much A
nbdsh -u "$(uri vm1 vda)" -c 'h.flush()' >/dev/null 2>&1 &
pids+=($!)
sleep 2
began=$(now)
kill_replicator
at_most "seconds until the agent was gone" $(($(now) - began)) 6
start_replicator
timeout 10 nbdsh -u "$(uri vm1 vda)" -c 'assert h.pread(4096, 3999 * 16384) == b"A" * 4096' 2>"$W/err" || fail "the guest waits for the disk: $(cat "$W/err")"
at_most "seconds until the guest was served" $(($(now) - began)) 8
sync -f "$W/slow"
at_least "seconds until the disk had all" $(($(now) - began)) 9
slow_down "$W/slow" 1000M
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/slow/a.raw"

# A stop. One guest writes at a fifth of what its disk does, the other 20 MiB meanwhile to one that is quick.
sync -f "$W/slow"
slow_down "$W/slow" 8M
write_much B
/usr/bin/python3 tests/e2e/slow_guest.py "$(uri vm1 vda)" 0.02 40 >"$W/guest.vm1" &
guests=$!
/usr/bin/python3 tests/e2e/slow_guest.py "$(uri vm2 vda)" 0.003 40 >"$W/guest.vm2" &
guests+=" $!"
pids+=($guests)
sleep 1
began=$(now)
stop_replicator
at_least "seconds that the stop took" $(($(now) - began)) 8
start_replicator
slow_down "$W/slow" 1000M
wait $guests || fail "a guest came to an end"
for vm in vm1 vm2; do
	at_most "ms that the guest of $vm was not served" "$(cat "$W/guest.$vm")" 5000
	n=$(cycle $vm)
	is "why $vm was synced last" "$(kagami syncs $vm --json | jq -r '.syncs[0].reason')" unclean-stop
	is "syncs of $vm" "$(kagami syncs $vm --json | jq '.syncs | length')" 2 # the first, and that for the kill: the stop was clean
done
daemons_alive
