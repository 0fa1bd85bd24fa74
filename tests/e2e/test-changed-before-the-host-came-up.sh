#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The agent is killed, and then the host is started anew: nothing of the run directory is left. What the agent served to the end costs the marked regions
# alone; what somebody changed on the image itself in between is seen, and all of it compared. So is what was written since a copy of the state directory
# was made that is brought back.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl unshare
case $(stat -f -c %T "$W") in
ext2/ext3 | xfs | btrfs | tmpfs) ;;
*) skip "needs a work directory on ext4, xfs, btrfs or tmpfs (TMPDIR)" ;;
esac

since_boot() { cut -d. -f1 /proc/uptime; }
unshare -T --boottime "-$(since_boot)" true 2>/dev/null || skip "needs root and time namespaces"

image=$W/a.raw
new_image "$image" $((32 << 20))
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
new_image "$W/b.raw" $((32 << 20))
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 24h >/dev/null
wait_for 30 has_point vm2
kagami pause vm2 # no point comes between the copy and what follows
cp -a "$STATE" "$W/state.copy"

# For this program the host came up a moment ago.
kagami-replicator() {
	exec unshare -T --boottime "-$(since_boot)" --kill-child=KILL "$(type -P kagami-replicator)" "$@"
}

in_order() {
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 9M 64k"
	cycle vm1 >/dev/null
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 20M 64k"
}

reboot() {
	rm -rf "${KAGAMI_RUN_DIR:?}"/{rest,state,lost}
	sleep 1.2 # when the host came up is known to a second here
	start_replicator
	unshared=$REPLICATOR REPLICATOR=$(pgrep -P "$REPLICATOR")
	wait_for 15 connected vm1
}

die() {
	kill -9 "$REPLICATOR"
	wait "$unshared" 2>/dev/null || true
}

is_compared() { # PROTECTION IMAGE WHAT REASON MARKED-REGIONS-ALONE
	n=$(cycle "$1")
	is "reason of the sync after: $3" "$(at_source GET "/v1/protections/$1/syncs" | jq -r '.syncs[0].reason')" "$4"
	is "marked regions alone after: $3" "$(at_source GET "/v1/protections/$1/syncs" | jq '.syncs[0].read_bytes < 32 * 1048576')" "$5"
	point_equals "$1" "$n" vda "$2"
}

in_order
kill_replicator
reboot
is_compared vm1 "$image" 'the host died with the agent' unclean-stop true

in_order
die
sleep 16 # until the lease of the agent ends
printf X | dd of="$image" bs=1 seek=31000000 conv=notrunc status=none
reboot
is_compared vm1 "$image" 'the agent died alone, and the image was changed' image-changed false

in_order
die
printf X | dd of="$STATE/lease" bs=1 seek=20 conv=notrunc status=none
reboot
is_compared vm1 "$image" 'nobody knows until when the agent may have changed it' image-changed false

in_order
die
reboot
is_compared vm1 "$image" 'the host died with the agent again' unclean-stop true

nbd_io vm2 vda 'write -P 77 30M 64k'
die
rm -r "$STATE"
cp -a "$W/state.copy" "$STATE"
reboot
kagami resume vm2
is_compared vm2 "$W/b.raw" 'the state directory is a copy of earlier' image-changed false
daemons_alive
