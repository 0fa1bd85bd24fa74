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

before_death='cp -p --sparse=always "$image" "$W/before"'

after_death unclean-stop 'nothing' true
case $(stat -f -c %T "$W") in
ext2/ext3 | xfs | btrfs | tmpfs) ;;
*) skip "needs a work directory on ext4, xfs, btrfs or tmpfs (TMPDIR)" ;;
esac
after_death image-changed 'one byte was written' 'printf X | dd of="$image" bs=1 seek=31000000 conv=notrunc status=none'
after_death image-changed 'one byte was written, and the time set back' \
	'printf Y | dd of="$image" bs=1 seek=31000000 conv=notrunc status=none; touch -r "$W/before" "$image"'
after_death image-changed 'another file took its name' 'cp -p --sparse=always "$W/backup" "$image.new"; mv "$image.new" "$image"'
after_death image-changed 'it was removed, and a copy made there' 'rm "$image"; cp -p --sparse=always "$W/backup" "$image"'
after_death image-changed 'a copy was written over it' 'cp -p --sparse=always "$W/backup" "$image"'
after_death image-changed 'it was cut short and grew again' 'truncate -s 8M "$image"; truncate -s 32M "$image"; touch -r "$W/before" "$image"'
after_death unclean-stop 'nothing again' true

# A host that was started anew has no note: what was changed since then is seen by its time.
after_death image-changed 'the run directory is new' 'rm -r "$KAGAMI_RUN_DIR/rest"'
daemons_alive
