#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The agent is killed, and somebody else changes the image before it is started again: in place, with its time set back, in the place of another
# inode, from a copy. Each is seen, and named, and the next point is the disk; what nobody touched costs the marked regions alone.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

image=$W/a.raw
new_image "$image" $((32 << 20))
cp --sparse=always "$image" "$W/backup"
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

at_rest() { [ "$(od -An -tu4 -j 16 -N 4 "$KAGAMI_RUN_DIR/rest/vm1:vda" | tr -d ' ')" = 1 ]; }

after() { # REASON WHAT COMMAND
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 9M 64k"
	cycle vm1 >/dev/null
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 20M 64k"
	cp -p --sparse=always "$image" "$W/before"
	wait_for 10 at_rest
	kill_replicator
	eval "$3"
	start_replicator
	wait_for 15 connected vm1
	n=$(cycle vm1)
	is "reason of the sync after: $2" "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" "$1"
	point_equals vm1 "$n" vda "$image"
}

after unclean-stop 'nothing' true
case $(stat -f -c %T "$W") in
ext2/ext3 | xfs | btrfs | tmpfs) ;;
*) skip "needs a work directory on ext4, xfs, btrfs or tmpfs (TMPDIR)" ;;
esac
after image-changed 'one byte was written' 'printf X | dd of="$image" bs=1 seek=31000000 conv=notrunc status=none'
after image-changed 'one byte was written, and the time set back' \
	'printf Y | dd of="$image" bs=1 seek=31000000 conv=notrunc status=none; touch -r "$W/before" "$image"'
after image-changed 'another file took its name' 'cp -p --sparse=always "$W/backup" "$image.new"; mv "$image.new" "$image"'
after image-changed 'it was removed, and a copy made there' 'rm "$image"; cp -p --sparse=always "$W/backup" "$image"'
after image-changed 'a copy was written over it' 'cp -p --sparse=always "$W/backup" "$image"'
after image-changed 'it was cut short and grew again' 'truncate -s 8M "$image"; truncate -s 32M "$image"; touch -r "$W/before" "$image"'
after unclean-stop 'nothing again' true

# A host that was started anew has no note: what was changed since then is seen by its time.
after image-changed 'the run directory is new' 'rm -r "$KAGAMI_RUN_DIR/rest"'
daemons_alive
