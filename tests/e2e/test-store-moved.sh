#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The store is not where it was any more: it was moved and a copy put in its place, or a copy is mounted over it. What the receiver does itself goes by the directory that it
# has open; no path is told that leads into another one, no source is fenced for disks that nobody finds, and status says so until the store is back.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires jq qemu-io qemu-img mount umount
requires_root

image=$W/vda.raw
new_image "$image" $((8 << 20))
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
for n in 1 2; do
	nbd_io vm1 vda "write -P $((40 + n)) 1M 128k"
	cycle vm1 >/dev/null
done
kagami test start vm1 --name before >/dev/null

other='at .*/store is another directory than the store that this receiver has open, and no point comes there: move away or unmount what is there and put the open one back, or start the receiver again with the --store where that is now'
gone='the store that this receiver has open is not at .*/store any more, it was moved away or removed: move it back there, or start the receiver again with the --store where it is now'

told() { (kagami status --check || true) | grep -qE "^KAGAMI CRITICAL - .*$1"; } # TEXT
well() { ! (kagami status --check || true) | grep -qE 'another directory|is not at'; }
events() { kagami events --class state | grep -cE -- "$1" || true; } # TEXT
no_failover() { # DIRECTORY...
	local dir
	for dir; do
		[ ! -e "$dir/vm1/failover" ] && [ ! -e "$dir/vm1/failover.new" ] || fail "there are disks of a failover in $dir"
	done
}

refuses_all() { # TEXT
	local tests
	tests=$(ls "$open/vm1/tests")
	refuses "$1" kagami failover vm1 --yes
	refuses "$1" kagami failover vm1 --yes --verify
	refuses "$1" kagami failover vm1 --dry-run
	refuses "$1" kagami test start vm1
	refuses "$1" kagami mount vm1 "$W/mnt"
	refuses "$1" kagami files vm1 ls /
	refuses "$1" kagami seed vm9/vda "$image" --format raw --peer any
	is "tests there" "$(ls "$open/vm1/tests")" "$tests"
	told "$1" || fail "status --check does not tell: $(kagami status --check)"
	kagami status >"$W/status.out"
	grep -qE "! $1" "$W/status.out" || fail "status does not tell: $(cat "$W/status.out")"
	kagami status vm1 >"$W/status.out"
	grep -qE "! $1" "$W/status.out" || fail "status vm1 does not tell: $(cat "$W/status.out")"
	[[ $(at_target GET /v1/store | jq -r .displaced) =~ $1 ]] || fail "GET /v1/store does not tell"
	is "events of it" "$(events "$1")" "$2"
	is "paths of points that are told" "$(at_target GET /v1/protections/vm1/points | jq -c '[.points[].disks[].path] | unique')" '[null]'
	is "path and command of a test" "$(at_target GET /v1/tests | jq -c '.tests[0] | [.disks[0].path, .command]')" '[null,null]'
	is "state of the source" "$(protection vm1 .connected)" true
}
goes_on() { # the receiver's own work, by the directory that is open
	local n
	nbd_io vm1 vda "write -P $1 2M 128k"
	n=$(cycle vm1)
	[ -d "$open/vm1/points/$n" ] || fail "point $n is not in the store that is open"
	rm -f "$W/export.raw"
	kagami export "vm1@$n" "$W/export.raw" --format raw >/dev/null
	qemu-img compare -q -f raw -F raw "$image" "$W/export.raw" || fail "the export of point $n is not the disk"
	kagami store check >/dev/null || fail "the store that is open is said to be damaged"
}
mkdir "$W/mnt"

# Moved, and nothing in its place; then a copy, with cycles that do not come there.
mv "$STORE" "$STORE.open"
open=$STORE.open
refuses_all "$gone" 1
cp -a "$open" "$STORE"
refuses_all "$other" 1
goes_on 51
goes_on 52
no_failover "$STORE" "$open"

# What is in use is seen by the disk itself, whatever lies at the path.
hold() { # FILE COMMAND...: that is refused while a program has FILE open
	local file=$1
	shift
	mkfifo "$W/hold"
	qemu-io -f qcow2 "$file" <"$W/hold" >/dev/null 2>&1 &
	pids+=($!)
	exec 7>"$W/hold"
	echo 'write 0 64k' >&7
	sleep 1
	refuses 'a virtual machine has .* open: shut it down first' "$@"
	exec 7>&-
	wait "${pids[-1]}" || true
	rm "$W/hold"
}
hold "$open/vm1/tests/before/vda.qcow2" kagami test stop vm1 before
kagami test stop vm1 before >/dev/null
[ ! -e "$open/vm1/tests/before" ] && [ -e "$STORE/vm1/tests/before" ] || fail "the test was stopped in the other directory"

# Back again: it goes by itself, and a failover is what it says.
rm -r "$STORE"
mv "$open" "$STORE"
open=$STORE
kagami test start vm1 --name before >/dev/null
well || fail "what is over is told still: $(kagami status --check)"
is "events of its end" "$(events 'the store is where it was again')" 1

# A copy is mounted over it.
cp -a "$STORE" "$W/copy"
exec 8<"$STORE"
open=/proc/$$/fd/8
mount --bind "$W/copy" "$STORE"
at_end "umount '$STORE'"
wait_for 70 told "$other" # nobody asks for anything
refuses_all "$other" 2
goes_on 53
no_failover "$STORE" "$open"
umount "$STORE"
open=$STORE
wait_for 70 well # likewise
kagami test stop vm1 before >/dev/null

# Failed over, and then moved: the disks are those of the store that is open, also when they are taken back.
kagami failover vm1 --yes --verify >"$W/failover.out"
path=$(replica vm1 '.failover.disks[0].path')
is "path of the disk" "$path" "$STORE/vm1/failover/vda.qcow2"
grep -qF "$path" "$W/failover.out" || fail "the answer does not name the disk: $(cat "$W/failover.out")"
look qemu-img compare -q -f raw -F qcow2 "$image" "$path" || fail "the disk of the failover is not the disk"
mv "$STORE" "$STORE.open"
cp -a "$STORE.open" "$STORE"
open=$STORE.open
refuses "$other" kagami failover vm1 --yes
kagami status vm1 >"$W/status.out"
grep -qE "! $other" "$W/status.out" || fail "status vm1 does not tell: $(cat "$W/status.out")"
is "path and command that are told" "$(at_target GET /v1/protections/vm1 | jq -c '.failover | [.disks[0].path, .command]')" '[null,null]'
hold "$open/vm1/failover/vda.qcow2" kagami failover vm1 --rollback --yes
kagami failover vm1 --rollback --yes >/dev/null
[ ! -e "$open/vm1/failover" ] && [ -e "$STORE/vm1/failover" ] || fail "the failover was taken back in the other directory"
kagami resume vm1 >/dev/null 2>&1 || true
wait_for 90 connected vm1
goes_on 54
