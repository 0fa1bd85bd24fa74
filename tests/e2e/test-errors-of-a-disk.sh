#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a failing image tells: each kind of error reaches the guest and is told with its time and place; a full disk that has space again is no
# alarm for ever; and a disk that takes no flush any more says so, whatever failed on it before.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl mkfs.xfs xfs_io losetup
requires_root
losetup -f >/dev/null 2>&1 || skip "needs a free loop device"

mkdir "$W/fs"
truncate -s 320M "$W/fs.img"
mkfs.xfs -q "$W/fs.img"
mount -o loop "$W/fs.img" "$W/fs"
at_end "umount -l '$W/fs'"
truncate -s 64M "$W/fs/d.raw"
new_image "$W/other.raw" $((1 << 20))
start_pair
kagami protect vm1 vdo="$W/other.raw" vda="$W/fs/d.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
disk() { # FILTER
	protection vm1 "[.disks[] | select(.name == \"vda\")][0] | $1"
}
events() { # TEXT: how many critical ones say it
	at_source GET '/v1/events?since=0&newest=1000' | jq --arg t "$1" '[.events[] | select(.severity == "critical" and (.text | contains($t)))] | length'
}
is "errors of a disk that has none" "$(disk '"\(.errors) \(.error) \(.failed) \(.error_ms_ago)"')" "0  false null"

# Full: the guest is told, and so is the operator.
fallocate -l "$(($(stat -f -c '%a * %S' "$W/fs")))" "$W/fs/filler" 2>/dev/null || dd if=/dev/zero of="$W/fs/filler" bs=1M status=none 2>/dev/null || true
dd if=/dev/zero of="$W/fs/filler2" bs=4k status=none 2>/dev/null || true
guest() { # QEMU-IO-COMMAND TEXT: what it is told
	qemu-io -f raw -c "$1" "$(uri vm1 vda)" >"$W/out" 2>&1 || true
	grep -qi "$2" "$W/out" || fail "$1: the guest was told: $(cat "$W/out")"
}
guest 'write -P 5 32M 4M' 'no space'
[[ $(disk .error) == *": write, image $W/fs/d.raw at byte "*": No space left on device" ]] || fail "the status says: $(disk .error)"
is "failed by that" "$(disk .failed)" false
is "events of it" "$(events 'disk vda of vm1 failed, and its guest was told')" 1
kagami status vm1 --check >"$W/out" && fail "it is well: $(cat "$W/out")"
grep -q 'CRITICAL.*No space left' "$W/out" || fail "the check says: $(cat "$W/out")"

# With space it goes on; what it says then is of the past, and how long that is.
rm "$W/fs/filler" "$W/fs/filler2"
nbd_io vm1 vda 'write -P 6 32M 4M' 'flush' >/dev/null
kagami cycle vm1 --wait >/dev/null
at_least "ms since the error" "$(disk .error_ms_ago)" 1

kagami set vm1 --rpo 4s >/dev/null
kagami cycle vm1 --wait >/dev/null
# Now the disk under it goes away. A sync or a write fails for good, and that takes the place of what was shown; also the next cut names the disk.
xfs_io -x -c shutdown "$W/fs"
guest 'write -f -P 7 0 4k' 'input/output error'
is "failed" "$(disk .failed)" true
is "cause at the source, at once" "$(protection vm1 .cause)" source-error
[[ $(disk .error) == *": Input/output error" ]] || fail "the status says: $(disk .error)"
is "events of it" "$(events 'disk vda of vm1 failed, and no flush of it is promised any more')" 1
kagami status vm1 --check >"$W/out" && fail "it is well: $(cat "$W/out")"
grep -q 'CRITICAL.*disk vda failed, no flush of it is promised.*Input/output error' "$W/out" || fail "the check says: $(cat "$W/out")"
status=0
began=$SECONDS
kagami cycle vm1 --wait --timeout 60s >"$W/out" 2>&1 || status=$?
is "exit status of a cycle of a dead disk ($(cat "$W/out"))" $status 1
at_most "seconds until it says so" $((SECONDS - began)) 20
grep -q 'will not be committed: disk vda failed, and no point is made of it until its guest is shut down, its storage repaired, and `kagami clear-error` given: .*Input/output error' "$W/out" || fail "the cycle says: $(cat "$W/out")"
is "cause at the source" "$(protection vm1 .cause)" source-error

# The receiver hears of it before the point is too old, and books it to that from the first moment.
missed() {
	at_target GET '/v1/events?class=rpo-missed&since=0&newest=9' >"$W/missed" && jq -e '.events | length > 0' "$W/missed" >/dev/null
}
wait_for 20 missed
jq -r '.events[0].text' "$W/missed" | grep -q ': source-error$' || fail "the receiver says: $(jq -c '.events[].text' "$W/missed")"
daemons_alive
