#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A replica that is broken answers every command with why it is, and with what to do next, for whatever it cannot give: never that it has no points, no disks or no
# failover. What recovery could read of it can be used, with a word on what is newer and lost. Of one that is failed over no boot command is given for disks that
# cannot be opened, and nothing is made final.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl script

new_image "$W/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
first=$(newest_point vm1)
nbd_io vm1 vda 'write -P 0x82 1M 1M'
second=$(cycle vm1)
nbd_io vm1 vda 'write -P 0x83 2M 1M'
third=$(cycle vm1)
is "points" "$(points vm1 | tr '\n' ' ')" "$first $second $third "
stop_replicator
stop_receiver
cp -a "$STORE" "$W/kept"

anew() { # the store as it was
	rm -rf --one-file-system "$STORE"
	cp -a "$W/kept" "$STORE"
}
flip() { # FILE
	local byte
	byte=$(od -An -tu1 -j 60 -N 1 "$1")
	printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek=60 conv=notrunc status=none
}
says() { # TEXT COMMAND...: it works, and says so
	local text=$1
	shift
	"$@" >"$W/said" 2>&1 </dev/null || fail "this should have worked: $* ($(cat "$W/said"))"
	grep -qE -- "$text" "$W/said" || fail "this: $*: says '$(cat "$W/said")', expected '$text'"
}
# Of a replica that has no point that can be used, for the reason TEXT.
all_refuse() { # TEXT
	refuses "vm1 is broken: .*$1" kagami points vm1
	refuses "vm1 is broken: .*$1" kagami points vm1 --json
	refuses "vm1 is broken: .*$1" kagami points "vm1@$third"
	refuses "vm1 is broken: .*$1" kagami failover vm1 --dry-run
	refuses "vm1 is broken: .*$1" kagami failover vm1 --yes
	refuses "vm1 is broken: .*$1" kagami failover "vm1@$first" --yes --verify
	refuses "vm1 is broken: .*$1" kagami failover vm1 --yes --verify
	refuses "vm1 is broken: .*$1" kagami export vm1 "$W/x.raw"
	refuses "vm1 is broken: .*$1" kagami test start vm1
	refuses "vm1 is broken: .*$1" kagami files vm1 ls
	refuses "vm1 is broken: .*$1" kagami retention vm1
	refuses "vm1 is broken: .*$1" kagami retention vm1 --points 3
	refuses "vm1 is broken: .*$1" kagami plan retention vm1
	refuses "vm1 is broken: .*$1" kagami scrub vm1
	refuses "vm1 is broken: .*$1" kagami pin "vm1@$first"
	mkdir -p "$W/mnt"
	refuses "vm1 is broken: .*$1" kagami mount vm1 "$W/mnt"
	is "state" "$(replica vm1 .state)" broken
	is "points that cannot be used" "$(replica vm1 '.unread | "\(.points) \(.newest)"')" "3 $third"
	kagami status vm1 >"$W/said"
	grep -qE "reason .*$1" "$W/said" || fail "status says: $(cat "$W/said")"
	grep -q "points  *3 that cannot be used, the newest of them $third" "$W/said" || fail "status says: $(cat "$W/said")"
	! grep -q 'none yet' "$W/said" || fail "status says: $(cat "$W/said")"
	! protection_why | grep -q 'no point yet' || fail "the health says: $(protection_why)"
	echo n | script -qec 'kagami forget vm1' /dev/null >"$W/said" || true
	grep -q "it is broken, and 3 of them, the newest $third, cannot be used" "$W/said" || fail "forget asks: $(cat "$W/said")"
}
protection_why() { at_target GET /v1/protections/vm1 | jq -r '.why[].text'; }

# Nobody knows whose it is.
flip "$STORE/vm1/protection.json"
flip "$STORE/vm1/protection.json.copy"
start_receiver
all_refuse 'nor is its copy whole: .*is not guessed; copy points with qemu-img'
refuses 'vm1 is broken: .*is not guessed' kagami failover vm1 --commit
refuses 'vm1 is broken: .*is not guessed' kagami failover vm1 --rollback --yes
stop_receiver

# All points stand on the base.
anew
rm "$STORE/vm1/base/vda.raw"
start_receiver
all_refuse 'all points stand on it: put that file back'
refuses 'not failed over' kagami failover vm1 --commit
stop_receiver

# A point in the middle is gone: the one below it is there for whoever wants it, and everybody is told what is not.
anew
mv "$STORE/vm1/points/$second" "$W/second"
start_receiver
gone="vm1/points/$second: missing, and point $third stands on it: put that directory back"
lost="1 point on disk, $third, is newer and cannot be used"
says "vm1 is broken: $gone" kagami points vm1
says "$lost" kagami points vm1
says "$lost" kagami points "vm1@$first"
is "points in the list" "$(kagami points vm1 --json | jq -c '[[.points[].point], .broken, .unread]')" "[[$first],true,{\"points\":1,\"newest\":$third}]"
refuses "vm1 is broken: $gone" kagami points "vm1@$third"
refuses "vm1 is broken: $gone" kagami export "vm1@$third" "$W/x.raw"
refuses "vm1 is broken: $gone" kagami test start "vm1@$third"
refuses "vm1 is broken: $gone" kagami failover "vm1@$third" --yes
refuses "vm1 is broken: $gone" kagami failover "vm1@$third" --dry-run
refuses "vm1 is broken: $gone" kagami retention vm1
says "would take point $first " kagami failover vm1 --dry-run
says "vm1 is broken: $gone" kagami failover vm1 --dry-run
says "$lost" kagami failover vm1 --dry-run
! grep -q 'source is broken' "$W/said" || fail "the dry run says: $(cat "$W/said")"
echo n | script -qec 'kagami failover vm1' /dev/null >"$W/said" || true
grep -q "$lost" "$W/said" || fail "failover asks: $(cat "$W/said")"
echo n | script -qec 'kagami forget vm1' /dev/null >"$W/said" || true
grep -q "it is broken, and 1 of them, $third, cannot be used" "$W/said" || fail "forget asks: $(cat "$W/said")"
says "$lost" kagami failover vm1 --yes
says 'To boot it' kagami failover vm1 --yes
is "what is lost" "$(kagami failover vm1 --json | jq -c '[.broken, .unread.newest]')" "[true,$third]"
kagami status vm1 >"$W/said"
grep -q 'newest point .*none follows a failover' "$W/said" || fail "status says: $(cat "$W/said")"
! grep -q 'is kept: fenced\|VIOLATED' "$W/said" || fail "status says: $(cat "$W/said")"
says 'is final' kagami failover vm1 --commit --yes # its disks can be opened
stop_receiver

# Failed over to a point that is gone, or that has something gone below it.
failed_over_without() { # PATH REASON
	anew
	start_receiver
	kagami failover vm1 --yes >/dev/null
	disk=$(replica vm1 '.failover.disks[0].path')
	qemu-io -f qcow2 -c 'write -P 0x91 3M 64k' -c flush "$disk" >/dev/null
	stop_receiver
	mv "$STORE/vm1/$1" "$W/gone"
	start_receiver
	refuses "vm1 is failed over to point $third, .*vm1 is broken: .*$2" kagami failover vm1 --yes
	refuses "vm1 is broken: .*$2" kagami failover vm1 --yes --verify
	refuses "cannot be made final: vm1 is broken: .*$2" kagami failover vm1 --commit --yes
	is "command that boots it" "$(replica vm1 .failover.command)" null
	is "final" "$(replica vm1 .failover.final)" false
	kagami status vm1 >"$W/said"
	! grep -q 'is kept: fenced\|VIOLATED' "$W/said" || fail "status says: $(cat "$W/said")"
	protection_why | grep -q 'older than' && fail "the health says: $(protection_why)"
	stop_receiver
	mv "$W/gone" "$STORE/vm1/$1"
	start_receiver
	says 'To boot it' kagami failover vm1 --yes
	qemu-io -r -f qcow2 -c 'read -P 0x91 3M 64k' "$disk" | grep -q 'read 65536' || fail "what its guest wrote is lost"
	stop_receiver
}
failed_over_without base/vda.raw 'put that file back'
failed_over_without "points/$second" 'put that directory back'
failed_over_without "points/$third" "points/$third back.*--rollback"

# Nobody knows whose it is, and a virtual machine may run there: its disks are named, and go only when that is said.
anew
start_receiver
kagami failover vm1 --yes >/dev/null
stop_receiver
flip "$STORE/vm1/protection.json"
flip "$STORE/vm1/protection.json.copy"
start_receiver
is "state" "$(replica vm1 .state)" broken
replica vm1 .reason >"$W/said"
grep -q "a virtual machine may run on the disks in $STORE/vm1/failover (vda.qcow2): .*copy" "$W/said" || fail "the reason is: $(cat "$W/said")"
refuses 'vm1 is broken: .*failover .vda.qcow2' kagami failover vm1 --commit --yes
refuses 'vm1 is broken: .*failover .vda.qcow2' kagami failover vm1 --yes
refuses 'say --discard-failover' kagami forget vm1 --yes
echo n | script -qec 'kagami forget vm1 --discard-failover' /dev/null >"$W/said" || true
grep -q "it is broken, and 3 of them, the newest $third, cannot be used" "$W/said" || fail "forget asks: $(cat "$W/said")"
kagami forget vm1 --yes --discard-failover >/dev/null
[ ! -e "$STORE/vm1" ] || fail "it is there still"
