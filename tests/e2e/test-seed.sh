#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An older copy of a disk at the target becomes the base of its replica, and only what differs travels: copied, moved or carried as qcow2; larger and
# smaller than the disk; wrong; with the receiver killed while it is read.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

MIB=$((1 << 20))
new_image "$W/old.raw" $((96 * MIB)) 7
cp --sparse=always "$W/old.raw" "$W/a.raw"
for i in 3 30 70; do # what changed since
	head -c 65536 /dev/urandom | dd of="$W/a.raw" bs=64K seek=$((i * 16)) conv=notrunc status=none
done
dd if=/dev/zero of="$W/a.raw" bs=1M seek=50 count=2 conv=notrunc status=none # and zeros where the seed has something

start_receiver
refuses 'no source is paired' kagami seed vm1/vda "$W/old.raw" --format raw
start_replicator
kagami pair dr "$(new_token)" >/dev/null

sync_of() { # NAME IMAGE MOST-BYTES: protects it, and proves the first point and what it took
	kagami protect "$1" vda="$2" --to dr --rpo 1h >/dev/null
	wait_for 90 has_point "$1"
	point_equals "$1" "$(newest_point "$1")" vda "$2"
	at_most "bytes of the first sync of $1" "$(protection "$1" .last_cycle.wire_bytes)" "$3"
	is "seeds that are left after $1" "$(kagami --json seed list | jq '.seeds | length')" 0
	kagami store check >/dev/null || fail "the store is not sound after $1"
}

# What is refused, in one line, and changes nothing.
refuses '--format is missing' kagami seed vm1/vda "$W/old.raw"
refuses 'no qcow2 image' kagami seed vm1/vda "$W/old.raw" --format qcow2
refuses 'not the name or' kagami seed vm1/vda "$W/old.raw" --format raw --peer nobody
refuses 'neither a file nor' kagami seed vm1/vda "$W" --format raw
refuses 'no such file' kagami seed vm1/vda "$W/none.raw" --format raw
refuses 'in vm1/vda' kagami seed vm1 "$W/old.raw" --format raw
refuses 'there is no seed' kagami seed drop vm1/vda
qemu-img create -q -f qcow2 -b "$W/old.raw" -F raw "$W/backed.qcow2"
refuses 'backing file' kagami seed vm1/vda "$W/backed.qcow2" --format qcow2
qemu-img create -q -f qcow2 -o data_file="$W/data.raw" "$W/apart.qcow2" 1M
refuses 'another file' kagami seed vm1/vda "$W/apart.qcow2" --format qcow2
kagami seed vm1/vda "$W/old.raw" --format raw --dry-run | grep -q 'would become'
is "seeds after a dry run" "$(kagami --json seed list | jq '.seeds | length')" 0

# Copied; a second one is refused; one that is dropped is gone.
kagami seed vm1/vda "$W/old.raw" --format raw --wait >/dev/null
refuses 'already' kagami seed vm1/vda "$W/old.raw" --format raw
kagami seed list | grep -q '^vm1/vda'
kagami seed drop vm1/vda >/dev/null
kagami seed vm1/vda "$W/old.raw" --format raw --wait >/dev/null
kill_receiver # with a seed that nobody took yet
start_receiver
sync_of vm1 "$W/a.raw" $((300 * 1024))
refuses 'in the store already' kagami seed vm1/vda "$W/old.raw" --format raw

# Carried as qcow2, as docs/man has it, of a larger disk.
qemu-img convert -f raw -O qcow2 "$W/old.raw" "$W/carried.qcow2"
qemu-img resize -q -f qcow2 "$W/carried.qcow2" 128M
kagami seed vm2/vda "$W/carried.qcow2" --format qcow2 --wait >/dev/null
cp --sparse=always "$W/a.raw" "$W/b.raw"
sync_of vm2 "$W/b.raw" $((300 * 1024))

# Moved, and smaller than the disk.
head -c $((40 * MIB + 512)) "$W/old.raw" >"$W/short.raw"
cp --sparse=always "$W/a.raw" "$W/c.raw"
ln "$W/short.raw" "$W/short.too"
refuses 'another name' kagami seed vm3/vda "$W/short.raw" --format raw --move
rm "$W/short.too"
refuses 'part of the store' kagami seed vm3/vda "$W/store/vm1/base/vda.raw" --format raw --move --dry-run
[ -e "$W/store/vm1/base/vda.raw" ] || fail "a base was moved away"
kagami seed vm3/vda "$W/short.raw" --format raw --move --wait >/dev/null
[ ! -e "$W/short.raw" ] || fail "a seed that was moved is still where it was"
sync_of vm3 "$W/c.raw" $((40 * MIB))

# Wrong from front to back: everything travels, and the point is right. The receiver is killed while it reads the seed, most likely.
head -c $((96 * MIB)) /dev/urandom >"$W/wrong.raw"
kagami seed vm4/vda "$W/wrong.raw" --format raw --wait >/dev/null
cp --sparse=always "$W/a.raw" "$W/d.raw"
kagami protect vm4 vda="$W/d.raw" --to dr --rpo 1h >/dev/null
taken() { grep -q 'seed is taken as the base protection=vm4' "$W/kagami-receiver.log"; }
wait_for 60 taken
kill_receiver
start_receiver
wait_for 90 has_point vm4
point_equals vm4 "$(newest_point vm4)" vda "$W/d.raw"

# With --seed nothing begins before the seed is there: said at the command, in the status, and after a restart; then by itself.
cp --sparse=always "$W/a.raw" "$W/e.raw"
kagami protect vm5 vda="$W/e.raw" --to dr --rpo 1h --seed >"$W/protect.out" 2>&1
grep -q 'waits for its seed: no seed of vm5/vda' "$W/protect.out" || fail "protect --seed does not say what it waits for: $(cat "$W/protect.out")"
is "the state of vm5" "$(protection vm5 .state)" waiting-for-seed
kagami status vm5 | grep -q 'kagami seed vm5/vda FILE' || fail "the status of vm5 does not say what to do"
[ "$(protection vm5 .seed_since)" != null ] || fail "the status does not say since when vm5 waits"
[ ! -e "$W/store/vm5" ] || fail "a replica was made without its seed"
stop_replicator
start_replicator
waits() { [ "$(protection vm5 .state)" = waiting-for-seed ]; }
wait_for 30 waits
[ "$(protection vm5 .retry_in_ms)" -le 30000 ] || fail "the next try of vm5 is not within 30 s"
kagami seed vm5/vda "$W/old.raw" --format raw --wait >/dev/null
wait_for 90 has_point vm5
served() { [ "$(protection vm5 .state)" = idle ] && [ "$(protection vm5 .seed_since)" = null ]; } # the source hears of its point after the receiver has it
wait_for 30 served
at_most "bytes of the first sync of vm5" "$(protection vm5 .last_cycle.wire_bytes)" $((300 * 1024))
point_equals vm5 "$(newest_point vm5)" vda "$W/e.raw"
cp --sparse=always "$W/a.raw" "$W/f.raw"
kagami protect vm6 vda="$W/f.raw" --to dr --rpo 1h --seed >/dev/null 2>&1
is "the state of vm6" "$(protection vm6 .state)" waiting-for-seed
kagami resume vm6 --without-seed >/dev/null
wait_for 90 has_point vm6
point_equals vm6 "$(newest_point vm6)" vda "$W/f.raw"

kagami scrub vm4 --wait >/dev/null # every digest, also of what came with the seed
daemons_alive
