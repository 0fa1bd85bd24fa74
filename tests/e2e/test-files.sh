#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Single files of a point: listed and fetched without a mount of one's own, byte for byte, whatever their names. No path or link leads out
# of the guest's file system, nothing but files is opened, a copy has no rights of its own, and nothing stays mounted.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-io qemu-storage-daemon mkfs.ext4 mkfs.vfat losetup jq curl sfdisk
[ -c /dev/fuse ] || skip "needs /dev/fuse"
losetup -f >/dev/null 2>&1 || skip "needs loop devices"

guest=$W/guest
mkdir -p "$guest/etc" "$guest/dir/deep" "$W/here"
cp /usr/share/common-licenses/GPL-3 "$guest/dir/deep/license"
echo guest >"$guest/etc/passwd"
ln -s /etc/passwd "$guest/absolute"
ln -s ../../../../../../../../etc/passwd "$guest/up"
ln -s "$STORE/vm1/protection.json" "$guest/store"
ln -s /proc/self/environ "$guest/magic"
mkfifo "$guest/fifo"
mknod "$guest/null" c 1 3
cp /bin/true "$guest/suid"
chmod 4755 "$guest/suid"
echo odd >"$guest/dir/a b+c%41&d=é?#\"'\\x"
truncate -s 3G "$guest/sparse"
printf end | dd of="$guest/sparse" bs=1 seek=$((2 << 30)) conv=notrunc status=none
: >"$guest/empty"
truncate -s 48M "$W/a.raw"
mkfs.ext4 -q -d "$guest" "$W/a.raw"
truncate -s 72M "$W/b.raw"
printf 'label: gpt\nstart=2048, size=16384\nstart=32768\n' | sfdisk -q "$W/b.raw"
dd if="$W/a.raw" of="$W/b.raw" bs=512 seek=32768 conv=notrunc,sparse count=$((48 << 11)) status=none
printf 'LUKS\xba\xbe' | dd of="$W/b.raw" bs=512 seek=2048 conv=notrunc status=none

start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
n=$(cycle vm1)
clean() {
	is "mounts" "$(at_target GET /v1/mounts | jq -c .mounts)" '[]'
	is "what is left of a mount" "$(find "$STORE/vm1/tests" -mindepth 1 | wc -l)" 0
	is "points that are held" "$(at_target GET /v1/protections/vm1/points | jq '[.points[] | select(.held)] | length')" 0
	! grep -q "$STORE/vm1/tests" /proc/mounts || fail "something stays mounted: $(grep "$STORE" /proc/mounts)"
}

# Listing.
names() { kagami files "$@" --json | jq -r '[.entries[].name] | join(" ")'; }
is "the root" "$(names vm1 ls)" "absolute dir empty etc fifo lost+found magic null sparse store suid up"
is "a directory" "$(names "vm1@$n" ls /dir)" "a b+c%41&d=é?#\"'\\x deep"
is "through a path that goes up" "$(names vm1 ls ../../dir/deep)" license
is "a file" "$(names vm1 ls /etc/passwd)" passwd
kagami files vm1 ls >"$W/ls.out"
grep -qE '^link +0777 .* absolute -> /etc/passwd$' "$W/ls.out" || fail "files ls prints: $(cat "$W/ls.out")"
grep -qE '^file +4755 .* suid$' "$W/ls.out" || fail "files ls prints: $(cat "$W/ls.out")"
is "what it says of the point" "$(kagami files vm1 ls --json | jq -r '[.protection, .point, .disk, .partition, .filesystem, .path] | @csv')" \
	"\"vm1\",$n,\"vda\",,\"ext4\",\"/\""
clean

# Files.
kagami files vm1 get /dir/deep/license "$W/here" >"$W/get.out"
cmp "$W/here/license" "$guest/dir/deep/license" || fail "the file differs"
grep -qF "/dir/deep/license (34.3 KiB) of vm1@$n is at $W/here/license." "$W/get.out" || fail "files get prints: $(cat "$W/get.out")"
(cd "$W/here" && kagami files vm1 get "/dir/a b+c%41&d=é?#\"'\\x" odd --json >"$W/get.json")
is "the odd one" "$(cat "$W/here/odd")" odd
is "answer" "$(jq -r .out "$W/get.json")" odd
(cd "$W/here" && kagami files vm1 get suid >/dev/null)
is "mode of what was setuid root" "$(stat -c %a "$W/here/suid")" 600
cmp "$W/here/suid" "$guest/suid" || fail "the file differs"
kagami files vm1 get empty "$W/here/empty" >/dev/null
is "bytes of the empty file" "$(stat -c %s "$W/here/empty")" 0
kagami files vm1 get /sparse "$W/here/sparse" >/dev/null
is "bytes of the sparse file" "$(stat -c %s "$W/here/sparse")" $((3 << 30))
at_most "bytes that it takes" "$(($(stat -c '%b * %B' "$W/here/sparse")))" $((1 << 20))
is "its data" "$(dd if="$W/here/sparse" bs=1 skip=$((2 << 30)) count=3 status=none)" end
is "to standard output" "$(kagami files vm1 get /etc/passwd -)" guest
kagami files vm1 get /dir/deep/license - | cmp - "$guest/dir/deep/license" || fail "standard output differs"
clean

# Nothing leads out, nothing odd is opened, nothing is replaced unasked.
is "an absolute link" "$(kagami files vm1 get /absolute -)" guest
is "a link that goes up" "$(kagami files vm1 get /up -)" guest
refuses '/store is a link to .*, which is not in this file system' kagami files vm1 get /store "$W/here/x"
refuses '/magic is a link to .*, which is not in this file system' kagami files vm1 get /magic "$W/here/x"
refuses 'fifo is no regular file' kagami files vm1 get /fifo "$W/here/x"
refuses 'null is no regular file' kagami files vm1 get /null "$W/here/x"
refuses 'is a directory: list what is in it with ls' kagami files vm1 get /dir "$W/here/x"
refuses 'there is no /nowhere' kagami files vm1 get /nowhere "$W/here/x"
refuses 'there is no /nowhere' kagami files vm1 ls /nowhere
refuses 'is there: name another file' kagami files vm1 get /etc/passwd "$W/here/odd"
is "the file that is there" "$(cat "$W/here/odd")" odd
kagami files vm1 get /etc/passwd "$W/here/odd" --force >/dev/null
is "the file that was replaced" "$(cat "$W/here/odd")" guest
refuses 'File name too long' kagami files vm1 ls "/$(printf 'é%.0s' {1..1300})"
refuses 'has no name for a file here' kagami files vm1 get /dir/.. 
refuses 'no point 99' kagami files vm1@99 ls
refuses 'no protection' kagami files vm9 ls
refuses 'no disk vdx' kagami files vm1 ls --disk vdx
refuses 'is not ls or get' kagami files vm1 rm /etc/passwd
is "files made by what was refused" "$(find "$W/here" -name 'x*' | wc -l)" 0
clean

# Another disk, a partition, one that is encrypted.
is "the second partition" "$(kagami files vm1 get /etc/passwd - --disk vdb --partition 2)" guest
is "the only one that can be read" "$(kagami files vm1 get /etc/passwd - --disk vdb)" guest
refuses "partition 1 holds LUKS.*encrypted: fail over and open it with the guest's key" kagami files vm1 ls --disk vdb --partition 1
refuses 'no partition 7' kagami files vm1 ls --disk vdb --partition 7
clean

# Interrupted in the middle of 3 GiB, nothing is left: no file, no mount, no hold.
kagami files vm1 get /sparse "$W/here/stopped" >"$W/stopped.out" 2>&1 &
client=$!
pids+=($client)
wait_for 10 test -e "$W/here/stopped.part"
begun() { [ "$(at_target GET /v1/mounts | jq -c .mounts)" != '[]' ]; }
wait_for 10 begun # the file is there before the receiver has mounted anything
kill -INT $client
status=0
wait $client || status=$?
is "exit status when interrupted" $status 1
[ ! -e "$W/here/stopped" ] && [ ! -e "$W/here/stopped.part" ] || fail "an interrupted get leaves a file"
unmounted() { [ "$(at_target GET /v1/mounts | jq -c .mounts)" = '[]' ]; }
wait_for 20 unmounted
clean

# Killed in the middle of it: the next start undoes what is there.
kagami files vm1 get /sparse "$W/here/killed" >"$W/killed.out" 2>&1 &
client=$!
pids+=($client)
mounted() { [ "$(at_target GET /v1/mounts | jq '.mounts | length')" = 1 ]; }
wait_for 10 mounted
kill_receiver
status=0
wait $client || status=$?
is "exit status when the receiver died" $status 1
start_receiver
clean
daemons_alive
