#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The state directory is brought back from a copy that was made during the same run, with no point in between: after a kill, and after a stop in
# order. Its file lacks what was marked since; the next start compares all, says why, and the next point is the disk.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

image=$W/a.raw
new_image "$image" $((64 << 20))
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

brought_back() { # HOW-IT-ENDS REASON COPY?
	cycle vm1 >/dev/null
	nbd_io vm1 vda "write -P 1 1M 64k" # a region that is marked in the copy
	rm -rf "$W/copy"
	cp -a "$STATE" "$W/copy"
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 2)) 33M 64k" # and one that is not
	"$1"
	if [ "$3" = yes ]; then
		rm -r "$STATE"
		cp -a "$W/copy" "$STATE"
	fi
	start_replicator
	wait_for 15 connected vm1
	n=$(cycle vm1)
	is "reason of the sync after $1, copy: $3" "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" "$2"
	point_equals vm1 "$n" vda "$image"
}

brought_back kill_replicator state-foreign yes
brought_back kill_replicator unclean-stop no
brought_back stop_replicator state-foreign yes
daemons_alive
