#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A guest's writes are lost behind the page cache, and it is a cycle's sync, or a resize's, that finds it. The guest's flush fails, also when the agent
# was killed, stopped or restarted before it asked, until its operator has shut it down and says `kagami clear-error`. Then points are the image again.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl stdbuf mkfs.ext4 filefrag losetup fallocate
requires_root
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"

# A file system on a sparse file in a file system of its own, which is full when $W/t/filler is there: what is written back then is lost.
mkdir "$W/t" "$W/d"
mount -t tmpfs -o size=64M kagami-test "$W/t" || skip "cannot mount a tmpfs here"
at_end "umount -l '$W/t'"
truncate -s 200M "$W/t/fs.img"
mkfs.ext4 -q -b 4096 -O ^has_journal -E lazy_itable_init=0 "$W/t/fs.img"
mount -o loop "$W/t/fs.img" "$W/d" || skip "cannot mount a loop device here"
at_end "umount -l '$W/d'"
for disk in a b; do
	dd if=/dev/zero bs=1M count=4 status=none | tr '\0' A >"$W/d/$disk.raw"
done
sync -f "$W/d"
start_pair
kagami protect vm1 vda="$W/d/a.raw" vdb="$W/d/b.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1

disk() { # DISK FILTER
	protection vm1 "[.disks[] | select(.name == \"$1\")][0] | $2"
}
has_failed() { # DISK
	[ "$(disk "$1" .failed)" = true ]
}
break_disk() { # IMAGE: what it holds loses its place, and there is none
	local place blocks
	filefrag -v "$1" | awk '/^ *[0-9]+:/ { gsub(/\.\./, " "); gsub(/:/, " "); print $4, $6 }' >"$W/extents"
	while read -r place blocks; do
		fallocate -p -o $((place * 4096)) -l $((blocks * 4096)) "$W/t/fs.img"
	done <"$W/extents"
	dd if=/dev/zero of="$W/t/filler" bs=1M status=none 2>/dev/null || true
}
mend_disk() {
	rm "$W/t/filler"
}
connects() { # DISK: a guest, that comes back when the agent does
	rm -f "$W/in"
	mkfifo "$W/in"
	: >"$W/guest"
	stdbuf -oL qemu-io -t writeback --image-opts "driver=nbd,server.type=unix,server.path=$KAGAMI_RUN_DIR/nbd/vm1.sock,export=$1,reconnect-delay=60" <"$W/in" >>"$W/guest" 2>&1 &
	guest=$!
	pids+=($guest)
	exec 7>"$W/in"
}
answered() {
	grep -qE 'wrote |failed' "$W/guest"
}
guest_flush_fails() { # WHEN
	: >"$W/guest"
	echo 'write -f -P 0x42 0 4k' >&7 # qemu-io says nothing of a flush alone
	wait_for 20 answered
	grep -qi 'failed: input/output error' "$W/guest" || fail "$1 the flush was answered: $(cat "$W/guest")"
}
guest_ends() {
	echo quit >&7 # the agent has the pipe, too
	wait $guest || true
}
wrote() {
	grep -q 'wrote ' "$W/guest"
}

# By the sync of a cycle.
connects vda
break_disk "$W/d/a.raw"
echo 'write -P 0x42 0 2M' >&7
wait_for 20 wrote
sleep 5 # marks rest for so long after a keep
kagami cycle vm1 --wait --timeout 60s >"$W/out" 2>&1 || true
has_failed vda || fail "the cycle's sync has not failed: $(cat "$W/out")"
error=$(disk vda .error)
kill_replicator
mend_disk
start_replicator
wait_for 20 connected vm1
has_failed vda || fail "a kill has ended it"
is "the error after a kill" "$(disk vda .error)" "$error"
guest_flush_fails "after a kill"
kill "$REPLICATOR"
wait "$REPLICATOR" || true # its final sync fails
start_replicator
wait_for 20 connected vm1
guest_flush_fails "after a stop"
is "the other disk has failed" "$(disk vdb .failed)" false
kagami status vm1 --check >"$W/out" && fail "it is well: $(cat "$W/out")"
grep -q 'CRITICAL.*disk vda failed, .*clear-error' "$W/out" || fail "the check says: $(cat "$W/out")"

# What ends it.
kagami clear-error vm1 vda >"$W/out" 2>&1 && fail "it was cleared under its guest: $(cat "$W/out")"
grep -q 'shut the guest down first' "$W/out" || fail "under its guest: $(cat "$W/out")"
refuses 'shut the guest down first' kagami unprotect vm1 --yes # nor does another protection of the same image take it over unaware
guest_ends
unattached() { [ "$(disk vda .clients)" = 0 ]; }
wait_for 20 unattached
kagami clear-error vm1 vda --dry-run >"$W/out"
has_failed vda || fail "it was cleared by --dry-run"
kagami clear-error vm1 vda >"$W/out"
grep -qF "$error" "$W/out" || fail "clear-error says: $(cat "$W/out")"
is "failed" "$(disk vda '"\(.failed) \(.error)"')" "false "
kagami clear-error vm1 vda >"$W/out" 2>&1 && fail "it was cleared twice"
nbd_io vm1 vda 'write -P 0x43 3M 64k' flush >/dev/null
n=$(cycle vm1)
echo 3 >/proc/sys/vm/drop_caches
point_equals vm1 "$n" vda "$W/d/a.raw"

# By the sync of a resize. This disk is cleared in the process that it failed in.
nbd_io vm1 vdb 'write -P 0x44 0 64k' flush >/dev/null
break_disk "$W/d/b.raw"
connects vdb
echo 'write -P 0x45 0 2M' >&7
wait_for 20 wrote
kagami resize vm1 vdb --size 8M >"$W/out" 2>&1 && fail "a resize of a disk that fails: $(cat "$W/out")"
is "size of the image of a resize that was refused" "$(stat -c %s "$W/d/b.raw")" $((4 << 20))
refuses 'disk vdb has failed, and cannot grow.*clear-error' kagami resize vm1 vdb --size 8M
mend_disk
guest_flush_fails "after a resize"
has_failed vdb || fail "the resize's sync has not failed: $(cat "$W/out")"
guest_ends
unattached() { [ "$(disk vdb .clients)" = 0 ]; }
wait_for 20 unattached
kagami clear-error vm1 vdb >/dev/null
n=$(cycle vm1)
echo 3 >/proc/sys/vm/drop_caches
point_equals vm1 "$n" vdb "$W/d/b.raw"
kagami resize vm1 vdb --size 8M >/dev/null
nbd_io vm1 vdb 'write -P 0x46 7M 64k' flush >/dev/null
kill_replicator
start_replicator
wait_for 20 connected vm1
is "failed for ever" "$(disk vdb .failed) $(disk vda .failed)" "false false"

# By a flush of so much that it is done in pieces: the one that fails tells it, and nobody else would.
nbd_io vm1 vdb 'write -P 0x47 0 8M' flush >/dev/null
break_disk "$W/d/b.raw"
connects vdb
echo 'write -P 0x48 0 7M' >&7
wait_for 20 wrote
guest_flush_fails "of much"
mend_disk
has_failed vdb || fail "the guest's flush has failed, and the disk has not"
guest_ends
wait_for 20 unattached
kagami clear-error vm1 vdb >/dev/null
n=$(cycle vm1)
echo 3 >/proc/sys/vm/drop_caches
point_equals vm1 "$n" vdb "$W/d/b.raw"

# What is protected anew has not failed.
: >"$KAGAMI_RUN_DIR/failed/vm1:vda"
kagami unprotect vm1 >/dev/null
[ ! -e "$KAGAMI_RUN_DIR/failed/vm1:vda" ] || fail "the note of a disk that is protected no more is left"
daemons_alive
