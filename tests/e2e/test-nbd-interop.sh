#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The tools of QEMU and libnbd, and fio's nbd engine, use the export unchanged, several at a time, while cycles run.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io nbdinfo nbdcopy nbdsh fio jq curl

new_image "$W/a.raw" $((64 << 20))
cp --sparse=always "$W/a.raw" "$W/a.before"
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1s >/dev/null
wait_for 30 has_point vm1
uri=$(uri vm1 vda)

# What it says about itself.
is "size by nbdinfo" "$(nbdinfo --size "$uri")" $((64 << 20))
nbdinfo --json "$uri" | jq -e '.exports[0] | .can_flush and .can_fua and .can_trim and .can_zero and .can_multi_conn and
	(.is_read_only | not)' >/dev/null || fail "nbdinfo: $(nbdinfo "$uri")"
is "exports listed" "$(nbdinfo --list --json "${uri%%/vda*}/${uri#*/vda}" | jq -r '.exports[]."export-name"')" vda
nbdinfo --map "$uri" >"$W/map"
grep -q data "$W/map" && grep -q hole "$W/map" || fail "no map of the disk: $(cat "$W/map")"
! nbdinfo "${uri/vda/nodisk}" >/dev/null 2>&1 || fail "a disk that is not there can be attached"

# Reading it whole gives the image.
nbdcopy "$uri" "$W/copy.raw"
cmp "$W/a.before" "$W/copy.raw" || fail "what nbdcopy read differs"
qemu-img compare -q -f raw -F raw "$uri" "$W/a.before" || fail "what qemu-img read differs"

# Every kind of request.
nbdsh -u "$uri" -c '
import os
pieces = [(0, 512), (511 * 512, 1024), (3 << 20, 2 << 20), (5000 * 512, 65536 + 512)]
for off, length in pieces:
    data = os.urandom(length)
    h.pwrite(data, off, nbd.CMD_FLAG_FUA)
    assert h.pread(length, off) == data
h.zero(1 << 20, 8 << 20)
assert h.pread(1 << 20, 8 << 20) == bytes(1 << 20)
h.zero(1 << 20, 10 << 20, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(1 << 20, 10 << 20) == bytes(1 << 20)
h.trim(1 << 20, 12 << 20)
h.flush()
assert h.can_cache()
h.cache(1 << 20, 3 << 20)
h.cache(64 << 20, 0)
assert h.pread(512, 3 << 20) is not None
for off in (1 << 62, (64 << 20) - 512):
    try:
        h.set_strict_mode(0)
        h.pread(1024, off)
        raise SystemExit("a read past the end of the disk worked")
    except nbd.Error as error:
        assert error.errno in ("EINVAL", "ENOSPC", "EOVERFLOW"), error.errno
    try:
        h.cache(1024, off)
        raise SystemExit("caching past the end of the disk worked")
    except nbd.Error as error:
        assert error.errno in ("EINVAL", "EOVERFLOW"), error.errno
    try:
        h.pwrite(bytes(1024), off)
        raise SystemExit("a write past the end of the disk worked")
    except nbd.Error as error:
        assert error.errno in ("EINVAL", "ENOSPC"), error.errno
assert h.pread(512, 0) is not None
' || fail "nbdsh: status $?"
nbd_io vm1 vda 'aio_write -P 0xa1 20M 1M' 'aio_write -P 0xa2 21M 1M' 'aio_flush' 'write -z -u 22M 128k' 'writev -P 0xa3 23M 4k 8k 512'

# fio writes with four connections' worth of depth, reads back and verifies.
(cd "$W" && fio --name=verify --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --size=32M --iodepth=16 --verify=crc32c \
	--verify_backlog=256 --fsync=64 --output="$W/fio.out") || fail "fio: $(tail -n 5 "$W/fio.out")"
(cd "$W" && fio --name=mixed --ioengine=nbd --uri="$uri" --rw=randtrimwrite --bsrange=512-128k --blockalign=512 --offset=32M \
	--size=24M --iodepth=8 --output="$W/fio2.out") || fail "fio: $(tail -n 5 "$W/fio2.out")"

# Two clients at once, and one that goes away without a word.
qemu-io -f raw -c 'write -P 0xb1 40M 4M' "$uri" >/dev/null &
first=$!
qemu-io -f raw -c 'write -P 0xb2 50M 4M' "$uri" >/dev/null
wait $first
timeout -s KILL 0.5 nbdsh -u "$uri" -c 'while True: h.pwrite(bytes(65536), 60 << 20)' 2>/dev/null || true
head -c 5000 /dev/urandom | timeout 2 nc -U "$KAGAMI_RUN_DIR/nbd/vm1.sock" >/dev/null 2>&1 || true

gone() { [ "$(protection vm1 '.disks[0].clients')" = 0 ]; }
wait_for 10 gone
is "error of the disk" "$(protection vm1 '.disks[0].error')" ''
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
daemons_alive
stop_replicator
stop_receiver
