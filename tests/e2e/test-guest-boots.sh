#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A real guest, from end to end. It runs on the replicator's export, by the very options that `kagami protect` prints, and writes files; the agent is killed under it, and it sees no error. Then
# guests boot from a test, and from a failover, with the very command that kagami prints: their ext4 mounts without an error, every file that was
# synced before the cut is there as it was, and those of later are a prefix.
. "$(dirname "$0")/lib.sh"
. "$e2e/guest.sh"
requires qemu-img jq curl mkfs.ext4 e2fsck debugfs
requires_guest

mkdir "$W/tree"
cp /usr/share/common-licenses/GPL-3 "$W/tree/license"
truncate -s 96M "$W/a.raw"
truncate -s 16M "$W/b.raw"
mkfs.ext4 -q -d "$W/tree" "$W/a.raw"
mkfs.ext4 -q -L second "$W/b.raw"
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 5 >"$W/protect.out"
wait_for 60 has_point vm1

# --- the guest on the export ---

drives=$(sed -n 's/^  -drive/-drive/p' "$W/protect.out" | tr '\n' ' ')
guest_start "qemu-system-x86_64 -machine q35,accel=kvm:tcg -m 256 $drives"
guest 'mount -t ext4 /dev/vda /mnt && mount -t ext4 /dev/vdb /mnt2'
# Files of a content that tells their number, each synced on both disks before it is said; until it is told to stop.
guest 'write() { seq $1 $((2000 + $1)) >/mnt/f$1 && sync && echo $1 >/mnt2/last && sync && echo "WROTE $1"; }'
guest '(i=1; while [ ! -e /tmp/stop ] && write $i; do i=$((i + 1)); done; echo "WRITER-ENDED $i") &'
wrote() { # the newest file that was synced, as of now
	tr -d '\r' <"$W/guest.out" | sed -n 's/^WROTE \([0-9]*\)$/\1/p' | tail -n 1
}
wrote_more() { [ "$(wrote)" -gt "$1" ]; }
wait_for $GUEST_SECONDS wrote_more 0
before1=$(wrote)
point1=$(cycle vm1)
after1=$(wrote)
wait_for $GUEST_SECONDS wrote_more "$after1"

# The agent dies under it, and comes back: the guest waits, and goes on.
kill_replicator
sleep 1
start_replicator
wait_for 20 connected vm1
now=$(wrote)
wait_for $GUEST_SECONDS wrote_more $((now + 2))
before2=$(wrote)
point2=$(cycle vm1)
guest 'touch /tmp/stop; wait'
guest 'umount /mnt /mnt2'
guest_is_well
guest_off
written=$(wrote)
at_least "files written" "$written" "$before2"

# --- a guest on a point ---

check_guest() { # FILES THAT ARE THERE AT LEAST
	guest 'mount -t ext4 /dev/vda /mnt && mount -t ext4 /dev/vdb /mnt2'
	guest 'right() { seq $1 $((2000 + $1)) | cmp -s - /mnt/f$1; }'
	guest "i=1; while [ \$i -le $1 ]; do right \$i || { echo \"file \$i is wrong\"; false; break; }; i=\$((i + 1)); done; [ \$i -gt $1 ]"
	guest "[ \"\$(cat /mnt2/last)\" -ge $1 ]"
	# Past what is certain, whatever the second disk knows of was written to the first before: over both disks, a point is one instant.
	guest 'i=$(cat /mnt2/last); while [ $i -gt 0 ]; do right $i || { echo "file $i is wrong"; break; }; i=$((i - 1)); done; [ $i = 0 ]'
	[ "$(guest 'sha256sum </mnt/license' | cut -d ' ' -f 1)" = "$(sha256sum <"$W/tree/license" | cut -d ' ' -f 1)" ] || fail "another file differs"
	guest 'echo here >/mnt/booted && sync && umount /mnt /mnt2'
	guest_is_well
}
fsck_disks() { # DISK...: after the guest
	local disk
	for disk; do
		qemu-img convert -f qcow2 -O raw "$disk" "$W/fsck.raw"
		e2fsck -fn "$W/fsck.raw" >"$W/fsck.out" 2>&1 || fail "e2fsck of $disk: $(cat "$W/fsck.out")"
	done
}

kagami test start "vm1@$point1" --name boot >"$W/start.out"
command=$(grep -oE 'qemu-system-x86_64 .*' "$W/start.out")
guest_start "$command"
check_guest "$before1"
guest_off
mapfile -t disks < <(kagami test list --json | jq -r '.tests[0].disks[].path')
fsck_disks "${disks[@]}"
kagami test stop vm1 boot >/dev/null
is "state of the replica" "$(replica vm1 .state)" connected

kagami failover "vm1@$point2" --yes >"$W/failover.out"
command=$(grep -oE 'qemu-system-x86_64 .*' "$W/failover.out")
guest_start "$command"
check_guest "$before2"
guest_off
mapfile -t disks < <(replica vm1 '.failover.disks[].path')
fsck_disks "${disks[@]}"
qemu-img convert -f qcow2 -O raw "${disks[0]}" "$W/fsck.raw"
is "what the guest wrote after the failover" "$(debugfs -R 'cat /booted' "$W/fsck.raw" 2>/dev/null)" here
daemons_alive
