#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A point's file system is shown read-only, ext4 and xfs, also one that was cut while it was mounted, also a partition;
# replication goes on meanwhile, the point stays as it is, and nothing of the mount is left afterwards. All of it with a store that a symbolic link leads to.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io qemu-storage-daemon mkfs.ext4 mkfs.xfs losetup jq curl sfdisk
[ -c /dev/fuse ] || skip "needs /dev/fuse"
losetup -f >/dev/null 2>&1 || skip "needs loop devices"

files=$W/files
mkdir -p "$files/sub" "$W/dir"
cp -r /usr/share/common-licenses "$files/sub"
truncate -s 48M "$W/ext4.raw"
mkfs.ext4 -q -d "$files" "$W/ext4.raw"
truncate -s 400M "$W/xfs.raw"
mkfs.xfs -q "$W/xfs.raw"
truncate -s 72M "$W/parts.raw"
printf 'label: gpt\nstart=2048, size=16384\nstart=32768\n' | sfdisk -q "$W/parts.raw"
dd if="$W/ext4.raw" of="$W/parts.raw" bs=512 seek=32768 conv=notrunc,sparse count=$((48 << 11)) status=none

mkdir -p "$W/behind/store"
ln -s behind "$W/link"
store=$W/behind/store STORE=$W/link/store
start_pair
at_end 'umount "$W/dir"'
nothing_left() {
	! mountpoint -q "$W/dir" || fail "it stays mounted"
	is "mounts" "$(at_target GET /v1/mounts | jq -c .mounts)" '[]'
	is "what is left of mounts" "$(find "$store" -path '*/tests/mount-*' | wc -l)" 0
	! losetup -n -O BACK-FILE | grep -qF "$store/" || fail "a loop device is left: $(losetup -n -O NAME,BACK-FILE)"
	! grep -qF "$store/" /proc/mounts || fail "a mount is left: $(grep -F "$store/" /proc/mounts)"
}
for kind in ext4 xfs parts; do
	kagami protect "$kind" vda="$W/$kind.raw" --to dr --rpo 1h >/dev/null
	cycle "$kind" >/dev/null
done

kagami mount ext4 "$W/dir"
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point differ"
! touch "$W/dir/new" 2>/dev/null || fail "a mounted point can be written to"
is "file system" "$(at_target GET /v1/mounts | jq -r '.mounts[0].filesystem')" ext4
refuses 'mount|use' kagami mount ext4 "$W/dir"
nbd_io ext4 vda 'write -P 0x1 40M 64k'
n=$(cycle ext4) # goes on, and the mounted point does not change
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point changed"
kagami umount "$W/dir"
is "what is in the directory" "$(ls "$W/dir")" ''
nothing_left
kagami files ext4 ls / >/dev/null
nothing_left

# A store that is renamed meanwhile: what is mounted is not found, and nobody says that it is gone.
kagami mount ext4 "$W/dir"
mv "$store" "$W/behind/elsewhere"
refuses 'is mounted still, but not from .*move it back' kagami umount "$W/dir"
is "mounts" "$(at_target GET /v1/mounts | jq '.mounts | length')" 1
mv "$W/behind/elsewhere" "$store"
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point changed"
kagami umount "$W/dir"
nothing_left

# Unmounted by hand, and something else is mounted there, to which the kernel gives the same number: that one stays.
kagami mount ext4 "$W/dir"
umount "$W/dir"
mount -t tmpfs none "$W/dir"
kagami umount "$W/dir"
is "mounts" "$(at_target GET /v1/mounts | jq '.mounts | length')" 0
umount "$W/dir" || fail "what was mounted over is gone"
nothing_left

# xfs, cut while it is mounted: what its log holds must show.
# The image changes while the replicator is away, which is seen, and synced.
stop_replicator
mkdir "$W/live"
loop=$(losetup --show -f "$W/xfs.raw")
at_end 'umount "$W/live"; losetup -d "$loop"'
mount "$loop" "$W/live"
cp -r "$files/." "$W/live"
sync -f "$W/live"
cp --sparse=always "$W/xfs.raw" "$W/xfs.live" # as it is in the middle of its life
umount "$W/live"
losetup -d "$loop"
mv "$W/xfs.live" "$W/xfs.raw"
start_replicator
wait_for 15 connected xfs
n=$(cycle xfs)
kagami mount "xfs@$n" "$W/dir"
diff -r "$files" "$W/dir" || fail "the files of the mounted xfs differ"
is "file system" "$(at_target GET /v1/mounts | jq -r '.mounts[0].filesystem')" xfs
kagami umount "$W/dir"

# A path with spaces is shown as the shell takes it.
mkdir "$W/a dir"
at_end 'umount "$W/a dir"'
kagami mount ext4 "$W/a dir" >"$W/out"
grep -qxF "To end it: kagami umount '$W/a dir'" "$W/out" || fail "mount prints: $(cat "$W/out")"
bash -c "$(sed -n 's/^To end it: //p' "$W/out")"

kagami mount parts "$W/dir" --partition 2
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted partition differ"
kagami umount "$W/dir"
refuses 'partition' kagami mount parts "$W/dir" --partition 7
refuses 'file system|filesystem|partition' kagami mount parts "$W/dir" --partition 1

# A mount that stays lets the points below it gather: at 60 too many the target says why, and when it has gone retention catches up.
truncate -s 1M "$W/small.raw"
mkfs.ext4 -q "$W/small.raw"
kagami protect small vda="$W/small.raw" --to dr --rpo 1h --points 1 >/dev/null
kagami retention small --points 90 --floor none >/dev/null
while [ "$(replica small .points)" -lt 61 ]; do
	held=$(cycle small)
done
kagami mount "small@$held" "$W/dir"
is "reason with a policy that keeps them" "$(replica small .reason)" ''
kagami retention small --points 1 >/dev/null
kagami cycle small --wait >/dev/null
kagami status small >"$W/out"
grep -qE "retention waits: 6[0-9] of 6[0-9] points are to go, but point $held, which needs them, is held by a mount" "$W/out" ||
	fail "kagami status does not say that retention waits: $(cat "$W/out")"
kagami plan retention small --points 1 >"$W/out"
grep -qE "^ *1 .* goes, once $held is not held" "$W/out" && grep -qE "^ *$held .* goes, but is held" "$W/out" || fail "the plan does not say what waits: $(cat "$W/out")"
sleep 1
is "lines in the log" "$(grep -c 'retention waits' "$W/kagami-receiver.log")" 1
qemu-img check -q "$(point_disk small "$(newest_point small)" vda)" || fail "QEMU does not read the long chain"
kagami umount "$W/dir"
one_point() { [ "$(replica small .points)" = 1 ]; }
kagami cycle small --wait >/dev/null
wait_for 30 one_point
is "reason when it is over" "$(replica small .reason)" ''

# Stopped with a mount: the next one does not trip over it.
kagami mount ext4 "$W/dir"
stop_receiver
wait_for 10 bash -c "! mountpoint -q '$W/dir' || umount '$W/dir'"
start_receiver
wait_for 15 connected ext4
kagami mount ext4 "$W/dir"
diff -r "$files" "$W/dir" --exclude lost+found || fail "the files of the mounted point differ"
kagami umount "$W/dir"
daemons_alive

# A receiver without root, which may not open /dev/fuse, says so in one line.
if ! setpriv --reuid=65534 --regid=65534 --clear-groups test -r /dev/fuse; then
	stop_receiver
	mkdir "$W/nobody" "$W/nobody/run"
	cp -r --sparse=always "$STORE" "$W/nobody/store"
	mkdir "$W/nobody/dir"
	cp "$(command -v kagami-receiver)" "$W/nobody"
	chmod 711 "$W"
	chown -R 65534:65534 "$W/nobody"
	setpriv --reuid=65534 --regid=65534 --clear-groups "$W/nobody/kagami-receiver" --run-dir "$W/nobody/run" \
		--store "$W/nobody/store" --listen "127.0.0.1:$PORT" >>"$W/nobody.log" 2>&1 &
	pids+=($!)
	KAGAMI_RUN_DIR=$W/nobody/run
	wait_for 10 answers receiver.sock
	refuses 'mount needs root, or access to /dev/fuse and fuse2fs: start the receiver as root' kagami mount ext4 "$W/nobody/dir"
	at_most "bytes of the error" "$(wc -c <"$W/err")" 160
	is "mounts" "$(at_target GET /v1/mounts | jq -c .mounts)" '[]'
fi
