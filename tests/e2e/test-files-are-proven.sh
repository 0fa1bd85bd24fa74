#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What `kagami files` reads of a point is proven block by block: a file on a damaged block is not given out, its neighbours and the listing are;
# and a directory on a damaged block is not listed. With --damaged it is read as it is.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-storage-daemon jq curl mkfs.ext4 debugfs losetup
requires_root
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"
[ -e /dev/fuse ] || skip "needs /dev/fuse"

mkdir "$W/tree" "$W/tree/deep"
head -c 700000 /dev/urandom >"$W/tree/good.bin"
head -c 700000 /dev/urandom >"$W/tree/bad.bin"
echo below >"$W/tree/deep/file"
for n in {1..40}; do # so that the directories have blocks of their own, far apart
	echo "$n" >"$W/tree/deep/n$n"
done
truncate -s 48M "$W/a.raw"
mkfs.ext4 -q -F -d "$W/tree" "$W/a.raw"
block_of() { # PATH N: the block of 64 KiB in which its n-th file system block lies
	local size
	size=$(debugfs -R stats "$W/a.raw" 2>/dev/null | awk '/^Block size/ {print $3}')
	echo $(($(debugfs -R "blocks $1" "$W/a.raw" 2>/dev/null | awk -v n="$2" '{print $n}') * size / 65536))
}
bad=$(block_of /bad.bin 100)
[ "$bad" != "$(block_of /good.bin 100)" ] || fail "the two files share a block"

start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
p=$(newest_point vm1)
kagami pause vm1 >/dev/null
kagami files "vm1@$p" get /bad.bin "$W/bad" >/dev/null
cmp "$W/bad" "$W/tree/bad.bin" || fail "a sound file comes out different"
kagami files "vm1@$p" get /deep/file - | cmp - "$W/tree/deep/file" || fail "a small file comes out different"
no_mounts() { [ "$(kagami mounts --json | jq '.mounts | length')" = 0 ]; }
is "mounts left" "$(kagami mounts --json | jq '.mounts | length')" 0
is "damage" "$(at_target GET /v1/protections/vm1/scrub | jq .damaged_blocks)" 0
rm "$W/bad"

"$e2e/flip_cluster.py" "$(point_disk vm1 "$p" vda)" "$bad"
kagami files "vm1@$p" ls / >"$W/ls.out" || fail "the listing needs no damaged block"
kagami files "vm1@$p" get /good.bin - | cmp - "$W/tree/good.bin" || fail "a sound file comes out different"
refuses "disk vda of vm1@$p is damaged in the store: block $bad .*--damaged takes it as it is.*nothing was left behind" \
	kagami files "vm1@$p" get /bad.bin "$W/bad"
[ -z "$(ls "$W"/bad* 2>/dev/null)" ] || fail "a file was left: $(ls "$W"/bad*)"
wait_for 20 no_mounts # what is read of it in that moment keeps it for some more

# What was found is in quarantine by then, for every command.
quarantined() { [ "$(at_target GET /v1/protections/vm1/points | jq '.points[-1].damaged_blocks')" -gt 0 ]; }
wait_for 30 quarantined
refuses "point $p of vm1 is in quarantine" kagami files "vm1@$p" get /good.bin "$W/good"
not_held() { [ "$(at_target GET /v1/protections/vm1/points | jq -r '[.points[] | select(.held)] | length')" = 0 ]; }
wait_for 30 not_held
kagami files "vm1@$p" get /good.bin "$W/good" --damaged >/dev/null
cmp "$W/good" "$W/tree/good.bin" || fail "--damaged does not read what is sound"

# Neither does a mount show it: the next sync repairs the block, and it is damaged again while the new point is mounted.
kagami resume vm1 >/dev/null
p=$(cycle vm1)
kagami pause vm1 >/dev/null
mkdir "$W/mnt"
at_end 'umount "$W/mnt"'
kagami mount "vm1@$p" "$W/mnt" >"$W/mount.out" || fail "the repaired point cannot be mounted: $(cat "$W/mount.out")"
grep -q 'Each block is proven before it is shown' "$W/mount.out" || fail "mount prints: $(cat "$W/mount.out")"
is "proven" "$(kagami mounts --json | jq '.mounts[0].proven')" true
for n in $(at_target GET /v1/protections/vm1/points | jq '.points | reverse | .[].point'); do # the newest that holds it
	"$e2e/flip_cluster.py" "$(point_disk vm1 "$n" vda)" "$bad" 2>/dev/null && break
done
cmp "$W/mnt/good.bin" "$W/tree/good.bin" || fail "a sound file of a mount differs"
! cat "$W/mnt/bad.bin" >"$W/bad.out" 2>/dev/null || fail "a mount shows a damaged block"
cmp -n "$(stat -c %s "$W/bad.out")" "$W/bad.out" "$W/tree/bad.bin" || fail "a mount shows other bytes than were committed"
wait_for 30 quarantined
kagami umount "$W/mnt" >/dev/null
kagami mount "vm1@$p" "$W/mnt" --damaged >"$W/mount.out" 2>&1
grep -q 'shown as it is stored' "$W/mount.out" || fail "mount --damaged prints: $(cat "$W/mount.out")"
kagami mounts | grep -q 'shown as it is stored' || fail "mounts prints: $(kagami mounts)"
kagami umount "$W/mnt" >/dev/null
daemons_alive
