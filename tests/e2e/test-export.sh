#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An export is the disk at the cut, byte for byte, in a file that stands on nothing; damage is never written as data; and whatever
# ends it leaves nothing behind, and no hold.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((48 << 20))
new_image "$W/b.raw" $(((8 << 20) + 512 * 3)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 3 >/dev/null
wait_for 30 has_point vm1
for i in 1 2 3 4 5; do # some of it is in the base by now
	nbd_io vm1 vda "write -P 0x8$i ${i}M 1M" "write -P 0x9$i $((20 << 20 | i << 12)) 4k" 'write -z 30M 1M'
	cycle vm1 >/dev/null
done
chosen=$(newest_point vm1)
cp --sparse=always "$W/a.raw" "$W/a.chosen"
cp --sparse=always "$W/b.raw" "$W/b.chosen"
nbd_io vm1 vda 'write -P 0x77 1M 1M'
nbd_io vm1 vdb 'write -P 0x78 1M 64k'
newest=$(cycle vm1)
sum() { sha256sum "$1" | cut -d ' ' -f 1; }
left() { find "$W/files" -mindepth 1 | wc -l; }
held() { at_target GET /v1/protections/vm1/points | jq '[.points[] | select(.held)] | length'; }
mkdir "$W/files"

# Raw: the same bytes, and holes where there were holes.
kagami export "vm1@$chosen" "$W/files/a.raw" --disk vda >"$W/export.out"
grep -qE "^Disk vda of vm1@$chosen, .* is at $W/files/a.raw: raw, 48 MiB" "$W/export.out" || fail "export prints: $(cat "$W/export.out")"
is "SHA-256 of the export" "$(sum "$W/files/a.raw")" "$(sum "$W/a.chosen")"
at_most "bytes on disk" "$(($(stat -c '%b * %B' "$W/files/a.raw")))" "$(($(stat -c '%b * %B' "$W/a.chosen") + (1 << 20)))"
is "mode" "$(stat -c %a "$W/files/a.raw")" 600
(cd "$W/files" && kagami export "vm1@$chosen" b.raw --disk vdb --format raw --json >"$W/b.json")
is "SHA-256 of the second disk" "$(sum "$W/files/b.raw")" "$(sum "$W/b.chosen")"
is "answer" "$(jq -r '[.path, .format, .protection, .point, .disk, .size_bytes] | @csv' "$W/b.json")" \
	"\"b.raw\",\"raw\",\"vm1\",$chosen,\"vdb\",$(((8 << 20) + 1536))"

# qcow2: sound, complete, and on its own.
kagami export "vm1@$chosen" "$W/files/a.qcow2" --disk vda --format qcow2 >/dev/null
qemu-img check -q -f qcow2 "$W/files/a.qcow2"
qemu-img compare -q -f raw -F qcow2 "$W/a.chosen" "$W/files/a.qcow2" || fail "the qcow2 differs from the disk at the cut"
is "backing file" "$(qemu-img info --output=json "$W/files/a.qcow2" | jq -r '."backing-filename"')" null
kagami export vm1 "$W/files/b.qcow2" --disk vdb --format qcow2 >/dev/null # the newest
qemu-img compare -q -f raw -F qcow2 "$W/b.raw" "$W/files/b.qcow2" || fail "the qcow2 of the newest point differs"
is "files" "$(left)" 4

# What is there is not touched unasked.
refuses 'is there: name another file, or replace it with --force' kagami export "vm1@$newest" "$W/files/a.raw" --disk vda
is "SHA-256 of the file that is there" "$(sum "$W/files/a.raw")" "$(sum "$W/a.chosen")"
kagami export "vm1@$newest" "$W/files/a.raw" --disk vda --force >/dev/null
is "SHA-256 of the export" "$(sum "$W/files/a.raw")" "$(sum "$W/a.raw")"
ln -s a.raw "$W/files/link"
mkdir "$W/files/dir"
refuses 'no regular file' kagami export vm1 "$W/files/link" --disk vda --force
refuses 'no regular file' kagami export vm1 "$W/files/dir" --disk vda --force
refuses 'no regular file' kagami export vm1 /dev/null --disk vda --force
touch "$W/files/c.part"
refuses 'c.part is there' kagami export vm1 "$W/files/c" --disk vda
refuses 'No such file' kagami export vm1 "$W/nowhere/c" --disk vda
refuses '2 disks: name one' kagami export vm1 "$W/files/d"
refuses 'no disk vdx' kagami export vm1 "$W/files/d" --disk vdx
refuses 'no point 99' kagami export vm1@99 "$W/files/d" --disk vda
refuses 'no protection' kagami export vm9 "$W/files/d" --disk vda
refuses 'an export is a file' kagami export vm1 - --disk vda
refuses 'raw or qcow2' kagami export vm1 "$W/files/d" --disk vda --format vmdk
rm -r "$W/files"
mkdir "$W/files"
not_held() { [ "$(held)" = 0 ]; }
wait_for 10 not_held

# In the middle of it: the point is held, retention waits. Then the caller is interrupted.
pause_when_begun() { # a client that is stopped once it has received something
	kagami export "vm1@$newest" "$W/files/e.raw" --disk vda >"$W/e.out" 2>&1 &
	client=$!
	pids+=($client)
	until [ -s "$W/files/e.raw.part" ]; do kill -0 $client 2>/dev/null || return 1; done
	kill -STOP $client
	[ -e "$W/files/e.raw.part" ]
}
for _ in {1..50}; do
	pause_when_begun && [ "$(held)" = 1 ] && break
	kill -CONT $client 2>/dev/null || true
	wait $client || true
	rm -f "$W/files/e.raw"
done
is "points that are held by an export" "$(held)" 1
kill -INT $client
kill -CONT $client
status=0
wait $client || status=$?
is "exit status of an interrupted export" $status 1
grep -q 'nothing was left behind' "$W/e.out" || fail "an interrupted export says: $(cat "$W/e.out")"
is "files left behind" "$(left)" 0
not_held() { [ "$(held)" = 0 ]; }
wait_for 10 not_held

# The receiver dies in the middle of it.
for _ in {1..50}; do
	pause_when_begun && [ "$(held)" = 1 ] && break
	kill -CONT $client 2>/dev/null || true
	wait $client || true
	rm -f "$W/files/e.raw"
done
kill_receiver
kill -CONT $client
status=0
wait $client || status=$?
is "exit status of an export whose receiver died" $status 1
grep -q 'broke off' "$W/e.out" || fail "an export whose receiver died says: $(cat "$W/e.out")"
is "files left behind" "$(left)" 0
start_receiver
wait_for 20 connected vm1

# Full: it says so, and leaves nothing.
if [ "$(id -u)" = 0 ] && mkdir "$W/small" && mount -t tmpfs -o size=1m none "$W/small" 2>/dev/null; then
	at_end 'umount "$W/small"'
	refuses 'No space left' kagami export vm1 "$W/small/a.raw" --disk vda
	is "files left on the full file system" "$(find "$W/small" -type f | wc -l)" 0
fi

# Damage is found before it is served.
path=$STORE/vm1/base/vda.raw
at=$(/usr/bin/python3 - "$path" <<'PY'
import sys
data = open(sys.argv[1], 'rb').read()
print(next(i for i in range(33 << 20, len(data)) if data[i]))
PY
)
printf '\001' | dd of="$path" bs=1 seek="$at" conv=notrunc status=none
[ "$(od -An -tu1 -j "$at" -N 1 "$path")" -eq 1 ] || fail "the byte was not changed"
refuses "disk vda of vm1@$newest is damaged in the store: block $((at >> 16)) .*nothing was left behind" kagami export vm1 "$W/files/f.raw" --disk vda
is "files left behind" "$(left)" 0
kagami export vm1 "$W/files/g.raw" --disk vdb >/dev/null # the other disk is well
is "SHA-256 of the other disk" "$(sum "$W/files/g.raw")" "$(sum "$W/b.raw")"

# A sector of the digests that became zeros says that 31 blocks are zeros: they are read all the same.
printf '\000' | dd of="$path" bs=1 seek="$at" conv=notrunc status=none
dd if=/dev/zero of="$STORE/vm1/base/vda.digests" bs=512 seek=$((1 + (at >> 16) / 31)) count=1 conv=notrunc status=none
refuses "disk vda of vm1@$newest is damaged in the store: block .*nothing was left behind" kagami export vm1 "$W/files/h.raw" --disk vda
is "files left behind" "$(left)" 1
wait_for 10 not_held
daemons_alive
