#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two receivers on one host mount and unmount points at the same time, beside somebody else who takes and leaves loop devices:
# each sees its own files, every unmount is whole, and nothing is left. Who looks into a mount for a moment is no hindrance.
. "$(dirname "$0")/lib.sh"
requires_root
requires qemu-img qemu-storage-daemon mkfs.ext4 losetup jq curl
[ -c /dev/fuse ] || skip "needs /dev/fuse"
losetup -f >/dev/null 2>&1 || skip "needs loop devices"
rounds=${ROUNDS:-15}

mkdir "$W/plain"
for name in one two; do
	mkdir "$W/$name" "$W/files-$name"
	seq 1 20000 | sed "s/^/$name /" >"$W/files-$name/numbers"
	truncate -s 16M "$W/$name.raw"
	mkfs.ext4 -q -d "$W/files-$name" "$W/$name.raw"
	at_end "umount -l '$W/$name'"
done
truncate -s 8M "$W/plain.raw"
mkfs.ext4 -q "$W/plain.raw"

start_pair
kagami protect vm vda="$W/one.raw" --to dr --rpo 1h >/dev/null
cycle vm >/dev/null
first=$KAGAMI_RUN_DIR
export KAGAMI_RUN_DIR=$R/second
STORE=$W/store2 STATE=$W/state2 PORT=$(free_port)
mkdir "$STORE" "$STATE"
start_pair
kagami protect vm vda="$W/two.raw" --to dr --rpo 1h >/dev/null
cycle vm >/dev/null

mount_rounds() { # RUN-DIR NAME
	local i
	for ((i = 0; i < rounds; i++)); do
		KAGAMI_RUN_DIR=$1 kagami mount vm "$W/$2" >/dev/null || return
		cmp "$W/files-$2/numbers" "$W/$2/numbers" || return
		KAGAMI_RUN_DIR=$1 kagami umount "$W/$2" >/dev/null || return
		[ -z "$(ls "$W/$2")" ] || return
	done
}

# Loop devices come and go, and a new mount namespace copies whatever is mounted at the moment.
disturb() {
	local device
	trap - ERR
	set +e
	until [ -e "$W/enough" ]; do
		device=$(losetup --show -f "$W/plain.raw") || continue
		mount -o ro "$device" "$W/plain" && umount "$W/plain"
		losetup -d "$device"
		unshare -m ls "$W/one" "$W/two" >/dev/null
	done
}

# Somebody looks into the directories, each time for a moment: that is no use of a mount to be refused for.
look() {
	trap - ERR
	set +e
	until [ -e "$W/enough" ]; do
		ls "$W/one" "$W/two" >/dev/null
	done
}

look 2>"$W/look.txt" &
looker=$!
at_end "touch '$W/enough'; wait $looker"
disturb 2>"$W/disturb.txt" &
disturber=$!
at_end "touch '$W/enough'; wait $disturber"
mount_rounds "$first" one 2>"$W/err-one" &
one=$!
mount_rounds "$KAGAMI_RUN_DIR" two 2>"$W/err-two" &
two=$!
wait $one || fail "the first receiver: $(cat "$W/err-one")"
wait $two || fail "the second receiver: $(cat "$W/err-two")"
touch "$W/enough"
wait $disturber $looker
! losetup -l -n -O BACK-FILE | grep -F "$W/store" || fail "a loop device was left"
! grep -F "$W/store" /proc/self/mountinfo || fail "a mount was left"

# Who stays is not waited for, nor put out.
kagami mount vm "$W/two" >/dev/null
(cd "$W/two" && exec sleep 60) &
sitter=$!
at_end "kill $sitter"
sits() { [ "$(readlink /proc/$sitter/cwd)" = "$W/two" ]; }
wait_for 10 sits
refuses 'two is in use: end what uses it' kagami umount "$W/two"
cmp "$W/files-two/numbers" "$W/two/numbers"
kill $sitter
wait $sitter || true
kagami umount "$W/two"
is "what is in the directory" "$(ls "$W/two")" ''
