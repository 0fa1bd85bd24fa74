#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A small file system, two protections. One reaches its quota: it is refused, named, and the other goes on. The disk gets full: new points
# are refused, old ones stay true, a failover works; when there is room again replication goes on by itself.
. "$(dirname "$0")/lib.sh"
requires_root
requires mkfs.ext4 qemu-img qemu-io jq curl

truncate -s 96M "$W/fs.img"
mkfs.ext4 -q -m 0 "$W/fs.img"
mount -o loop "$W/fs.img" "$STORE" || skip "cannot mount a file on a loop device"
at_end 'umount -l "$STORE"'
new_image "$W/a.raw" $((16 << 20))
new_image "$W/b.raw" $((16 << 20)) 2
start_receiver --reserve 8M
start_replicator
kagami pair dr "$(new_token)" >/dev/null
is "reserve" "$(at_target GET /v1/store | jq .reserve_bytes)" $((8 << 20))
for i in 1:a 2:b; do
	kagami protect "vm${i%:*}" vda="$W/${i#*:}.raw" --to dr --rpo 1h --codec none >/dev/null
	wait_for 30 has_point "vm${i%:*}"
done
a=$(cycle vm1)
cp --sparse=always "$W/a.raw" "$W/a.old"
state() { protection "$1" .state; }
in_state() { [ "$(state "$1")" = "$2" ]; }

# The quota: vm1 may take 4 MiB more, and its guest writes 10.
refuses 'quota' kagami limit vm1
refuses 'quota' kagami limit vm1 --quota much
kagami limit vm1 --quota $(($(replica vm1 .used_bytes) + (4 << 20))) | grep -q 'may take' || fail "limit does not say what it may take"
head -c 10M /dev/urandom >"$W/noise"
nbd_io vm1 vda "write -s $W/noise 1M 10M"
at_source POST /v1/protections/vm1/cycle >/dev/null
wait_for 30 in_state vm1 quota-reached
kagami status vm1 >"$W/status.out"
[ "$(grep -c 'kagami limit vm1' "$W/status.out")" -ge 2 ] || fail "status does not say at both sides what to do: $(cat "$W/status.out")"
is "limited" "$(replica vm1 .limited)" quota-reached
sleep 3
is "state after more tries" "$(state vm1)" quota-reached
nbd_io vm2 vda 'write -P 0x22 1M 1M'
b=$(cycle vm2)
point_equals vm2 "$b" vda "$W/b.raw"
is "state of the other" "$(state vm2)" idle
is "newest point" "$(newest_point vm1)" "$a"
point_equals vm1 "$a" vda "$W/a.old"
at_most "bytes used" "$(replica vm1 .used_bytes)" "$(replica vm1 .quota_bytes)"
kagami limit vm1 --quota 60M >/dev/null
wait_for 60 in_state vm1 idle
wait_for 60 eval '[ "$(newest_point vm1)" -gt "$a" ]'
point_equals vm1 "$(newest_point vm1)" vda "$W/a.raw"
a=$(newest_point vm1)
cp --sparse=always "$W/a.raw" "$W/a.old"
is "limited" "$(replica vm1 .limited)" null

# The disk: somebody else fills it up to the reserve.
free=$(at_target GET /v1/store | jq .free_bytes)
fallocate -l $((free - (10 << 20))) "$STORE/ballast"
nbd_io vm2 vda "write -s $W/noise 1M 10M"
at_source POST /v1/protections/vm2/cycle >/dev/null
wait_for 30 in_state vm2 target-full
kagami status vm2 | grep -qF "the target's store $STORE is full" || fail "kagami status does not say which store is full"
is "newest point" "$(newest_point vm2)" "$b"
at_least "bytes free" "$(at_target GET /v1/store | jq .free_bytes)" $((7 << 20))
nbd_io vm2 vda 'write -P 0x23 2M 1M' 'read -P 0x23 2M 1M' flush

# A test holds what is to go: it is named, and not a replica to forget.
kagami test start vm2 --name drill >/dev/null
kagami retention vm2 --points 1 --floor none >/dev/null
reason() { kagami status vm2 --json | jq -r .receiver.reason; }
wait_for 10 eval 'reason | grep -qF "kagami test stop vm2 drill"' || fail "the test that holds points of a full store is not named: $(reason)"
reason | grep -qF "the target's store $STORE is full" || fail "the reason does not say what is full: $(reason)"
kagami test stop vm2 drill >/dev/null

# A failover has the reserve, and the disk that it gives can be written to.
disk=$(kagami failover vm1 --json | jq -r '.disks[0].path')
qemu-img compare -q -f raw -F qcow2 "$W/a.old" "$disk" || fail "the failover on a full store differs from the point"
qemu-io -f qcow2 -c 'write -P 0x91 1M 1M' -c flush "$disk" >/dev/null || fail "the disk of the failover cannot be written to"
kagami failover vm1 --rollback --yes >/dev/null
kagami resume vm1 >/dev/null

# Nothing is left at all: a failover would be refused, and so it is said before.
head -c 96M /dev/zero >"$STORE/rest" 2>/dev/null || true
status=0
kagami status vm1 --check >"$W/check.out" || status=$?
is "status --check" "$status" 2
grep -qF 'no room for a failover' "$W/check.out" || fail "status --check says: $(cat "$W/check.out")"
refuses 'would be refused' kagami failover vm1 --dry-run
refuses 'the target.s store .*is full' kagami failover vm1
refuses "the target's store is full: free space there" kagami test start vm1
mkdir "$W/mnt"
refuses 'free space there' kagami mount vm1 "$W/mnt"
rm "$STORE/rest"
is "fenced after a refusal" "$(replica vm1 .failover)" null

rm "$STORE/ballast"
wait_for 90 in_state vm2 idle
wait_for 90 eval '[ "$(newest_point vm2)" -gt "$b" ]'
point_equals vm2 "$(newest_point vm2)" vda "$W/b.raw"
point_equals vm1 "$a" vda "$W/a.old"
daemons_alive
stop_receiver
refuses 'reserve' kagami-receiver --store "$STORE" --listen "127.0.0.1:$PORT" --run-dir "$KAGAMI_RUN_DIR" --reserve 10Q
refuses 'no more than that' kagami-receiver --store "$STORE" --listen "127.0.0.1:$PORT" --run-dir "$KAGAMI_RUN_DIR" --reserve 10T
start_receiver
is "reserve by default: 5 %" "$(($(at_target GET /v1/store | jq .reserve_bytes) >> 20))" 4
