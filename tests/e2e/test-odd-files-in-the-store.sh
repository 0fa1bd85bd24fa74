#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A FIFO in the place of any file of a replica holds up nobody: the offline check ends and says that something is wrong (but where a copy or nothing stands for the
# file), and the receiver starts, answers for the other replica and stops when it is told.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl

new_image "$W/a.raw" $((2 << 20))
new_image "$W/b.raw" $((2 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
wait_for 30 has_point vm2
n=$(cycle vm1)
kagami pin "vm1@$n" stays >/dev/null
kagami scrub vm1 --wait >/dev/null
stop_replicator
stop_receiver
cp -a "$STORE" "$W/kept"
files=$(cd "$STORE/vm1" && find . -type f)
at_least "files of a replica" "$(wc -l <<<"$files")" 10
found=0
while read -r file; do
	rm "$STORE/vm1/$file"
	mkfifo -m 600 "$STORE/vm1/$file"
	status=0
	timeout -s KILL 30 kagami store check "$STORE" >"$W/check.out" 2>&1 || status=$?
	at_most "exit status of the check with a FIFO for $file" $status 2
	[ $status = 0 ] || found=$((found + 1))
	start_receiver
	wait_for 20 eval '[ "$(replica vm2 .state)" != "" ]'
	stop_receiver
	rm -rf --one-file-system "$STORE"
	cp -a "$W/kept" "$STORE"
done <<<"$files"
at_least "files whose loss the check told" $found 6
start_receiver
qemu-img check -q -f qcow2 "$(point_disk vm1 "$n" vda)"
