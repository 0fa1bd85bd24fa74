#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A failover into a store that is all but full is done, and said to be of a virtual machine that cannot write for long: before it, with it, and by the status of it for as
# long as that is so. What retention would need is not asked for, since nothing of it is folded any more.
. "$(dirname "$0")/lib.sh"
requires jq qemu-io mkfs.ext4 mount fallocate
requires_root

truncate -s 120M "$W/store.img"
mkfs.ext4 -q -F -m 0 "$W/store.img"
mount -t ext4 -o loop "$W/store.img" "$STORE" 2>/dev/null || skip "cannot mount a loop device here"
at_end "umount -l '$STORE'"
image=$W/vda.raw
new_image "$image" $((8 << 20))
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h --points 2 >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 7 1M 3M'
cycle vm1 >/dev/null

dry_run() { kagami failover vm1 --dry-run >"$W/dry-run.out" 2>"$W/dry-run.err" || fail "the dry run failed: $(cat "$W/dry-run.err")"; }
check() { (kagami status --check || true) | tr ';' '\n' | grep 'vm1 (target)' || true; }
short="The target's store has [0-9.]+ [KM]iB free, less than its reserve of [0-9.]+ [KM]iB: once that is full, its virtual machine's writes will fail. Free space there."
dry_run
! grep -q 'reserve' "$W/dry-run.out" || fail "a store with room is said to be short: $(cat "$W/dry-run.out")"

free_kib() { df --output=avail -k "$STORE" | tail -n 1 | tr -d ' '; }
fallocate -l $((($(free_kib) - 1600) * 1024)) "$STORE/fill"
for n in 1 2; do # a head that is refused, and a fold that has no room
	nbd_io vm1 vda "write -P $((60 + n)) 0 4M"
	kagami cycle vm1 --wait --timeout 2s >/dev/null 2>&1 || true
done
dry_run
grep -qE "$short" "$W/dry-run.out" || fail "the dry run does not tell: $(cat "$W/dry-run.out")"
[[ $(check) =~ 'takes no new point' ]] || fail "of a store that takes no new point: $(check)"
kagami failover vm1 --yes >"$W/failover.out"
grep -qE "$short" "$W/failover.out" || fail "the failover does not tell: $(cat "$W/failover.out")"
failed_over="failed over, and the target's store has less free than its reserve of [0-9]+ MiB: once that is full, its virtual machine's writes will fail: free space there"
[[ $(check) =~ $failed_over ]] || fail "of a full store and a failover: $(check)"
[[ ! $(check) =~ 'takes no new point' ]] || fail "a point that is not to come is missed: $(check)"
is "health" "$(replica vm1 .health)" critical
is "reason, of retention" "$(replica vm1 .reason)" ''
is "stalled retention" "$(replica vm1 .retention_stalled)" null
kagami status vm1 >"$W/status.out"
grep -qE "! $failed_over" "$W/status.out" || fail "status vm1 does not tell: $(cat "$W/status.out")"
dry_run
grep -qE "$short" "$W/dry-run.out" || fail "of a failover that is done it is not told: $(cat "$W/dry-run.out")"

rm "$STORE/fill"
is "health with room" "$(replica vm1 '.why | map(select(.text | test("reserve"))) | length')" 0
