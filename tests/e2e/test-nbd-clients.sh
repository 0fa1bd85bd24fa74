#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Clients by other authors as judges of the export: QEMU's blkverify compares each read with an independent copy, libnbd sends
# what no guest does, nbdkit passes on what it got, fio verifies. And a read-only disk is one, whoever asks.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io nbdinfo nbdcopy nbdsh nbdkit fio jq curl

size=$((96 << 20))
new_image "$W/a.raw" $size 1
new_image "$W/b.raw" $((16 << 20)) 2
cp --sparse=always "$W/b.raw" "$W/b.before"
chmod a-w "$W/b.raw"
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1s --read-only vdb >/dev/null
wait_for 30 has_point vm1
uri=$(uri vm1 vda)
socket=$KAGAMI_RUN_DIR/nbd/vm1.sock

# --- what it says it can

for can in flush fua trim zero multi-conn df structured-reply fast-zero connect; do
	nbdinfo --can $can "$uri" || fail "nbdinfo --can $can: status $?"
done
is "block sizes" "$(nbdinfo --json "$uri" | jq -c '.exports[0] | [.block_size_minimum, .block_size_preferred, .block_size_maximum]')" \
	"[1,4096,$((32 << 20))]"
is "exports listed" "$(nbdinfo --list --json "nbd+unix:///?socket=$socket" | jq -r '[.exports[]."export-name"] | join(" ")')" 'vda vdb'
nbdinfo --map --totals "$uri" >"$W/map"
is "bytes that the map is about" "$(awk '{ n += $1 } END { print n }' "$W/map")" $size
nbdinfo --map --json "$uri" | jq -e 'map(.type) | (index(0) != null) and (index(3) != null)' >/dev/null ||
	fail "the map has no data or no holes: $(cat "$W/map")"

# --- both ways by nbdcopy, over several connections

fill_random() { # PATH SIZE
	head -c "$2" /dev/urandom >"$1"
}
fill_random "$W/in.raw" $((48 << 20))
truncate -s $size "$W/in.raw"
nbdcopy --connections=4 --requests=16 --flush "$W/in.raw" "$uri"
cmp "$W/in.raw" "$W/a.raw" || fail "what nbdcopy wrote differs"
nbdcopy --connections=4 "$uri" "$W/out.raw"
cmp "$W/in.raw" "$W/out.raw" || fail "what nbdcopy read differs"
nbdcopy --synchronous --target-is-zero "$uri" "$W/out2.raw" 2>/dev/null || nbdcopy --synchronous "$uri" "$W/out2.raw"
cmp "$W/in.raw" "$W/out2.raw" || fail "what nbdcopy read one by one differs"

# --- everything a client may ask, by nbdsh: each answer is held against a model in memory

nbdsh -u "$uri" -c '
import os, random
random.seed(7)
BASE, LEN, MAX = 50 << 20, 40 << 20, 32 << 20
model = bytearray(h.pread(MAX, BASE) + h.pread(LEN - MAX, BASE + MAX))

def put(data, off, flags=0):
    h.pwrite(data, BASE + off, flags)
    model[off:off + len(data)] = data

def same(off, length):
    assert h.pread(length, BASE + off) == model[off:off + length], (off, length)

# The longest request, at odd places and at the last byte of the disk.
put(os.urandom(MAX), 512)
same(0, MAX)
same(513, MAX)
put(os.urandom(MAX), 1, nbd.CMD_FLAG_FUA)
same(0, MAX)
last = os.urandom(3)
h.pwrite(last, h.get_size() - 3)
assert h.pread(5, h.get_size() - 5)[2:] == last

# Unaligned in every way.
for _ in range(300):
    off, length = random.randrange(LEN - (1 << 17)), random.choice((1, 2, 511, 512, 513, 4095, 4096, 4097, 65535, 65537, 131072))
    kind = random.randrange(5)
    if kind == 0:
        put(os.urandom(length), off, random.choice((0, nbd.CMD_FLAG_FUA)))
    elif kind == 1:
        h.zero(length, BASE + off, random.choice((0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA)))
        model[off:off + length] = bytes(length)
    elif kind == 2:
        off, length = off & ~4095, (length + 4095) & ~4095
        h.trim(length, BASE + off)
        got = h.pread(length, BASE + off)
        model[off:off + length] = got # what a trimmed range reads as is the server s choice
        assert got == h.pread(length, BASE + off)
    elif kind == 3:
        try:
            h.zero(length, BASE + off, nbd.CMD_FLAG_FAST_ZERO)
            model[off:off + length] = bytes(length)
        except nbd.Error as error:
            assert error.errno in ("ENOTSUP", "EOPNOTSUPP"), error.errno
    same(off, length)
same(0, MAX)
same(LEN - MAX, MAX)

# Structured reads in chunks give every byte exactly once, and with DF in one chunk.
for flags in (0, nbd.CMD_FLAG_DF):
    seen = []
    def chunk(data, offset, status, error):
        assert status != nbd.READ_ERROR
        seen.append((offset, len(data)))
    h.pread_structured(1 << 20, BASE + 7, chunk, flags)
    assert sum(length for _, length in seen) == 1 << 20
    assert not flags or len(seen) == 1

# A map of a range starts where it was asked to and covers no more than that.
h2 = nbd.NBD()
h2.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h2.connect_uri("'"$uri"'")
for flags in (0, nbd.CMD_FLAG_REQ_ONE):
    entries = []
    h2.block_status(8 << 20, 12345, lambda context, offset, extents, error: entries.append((offset, list(extents))), flags)
    (offset, extents), = entries
    assert offset == 12345 and sum(extents[::2]) > 0
    assert not flags or len(extents) == 2
h2.zero(4 << 20, 4 << 20)
h2.flush()
entries = []
h2.block_status(4 << 20, 4 << 20, lambda context, offset, extents, error: entries.append(list(extents)))
assert entries[0][1] == nbd.STATE_HOLE | nbd.STATE_ZERO, entries

# Several connections see each other, and one FLUSH is for all.
for i in range(50):
    put(os.urandom(4096), i * 8192)
    assert h2.pread(4096, BASE + i * 8192) == model[i * 8192:i * 8192 + 4096]
    h2.flush()

# What is wrong is refused with the right error, and the connection lives.
h.set_strict_mode(0)
def refused(errors, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errno in errors, error.errno
        return
    raise SystemExit("a bad request was carried out")
size = h.get_size()
refused(("EINVAL",), lambda: h.pread(2, size - 1))
refused(("ENOSPC", "EINVAL"), lambda: h.pwrite(bytes(2), size - 1))
refused(("ENOSPC", "EINVAL"), lambda: h.zero(1 << 20, size - 4096))
refused(("EINVAL", "ENOSPC"), lambda: h.trim(1 << 20, size - 4096))
refused(("EINVAL",), lambda: h.trim(0, 0))
refused(("EINVAL",), lambda: h.flush(nbd.CMD_FLAG_DF))
refused(("EINVAL",), lambda: h.pread(512, 0, nbd.CMD_FLAG_FAST_ZERO))
refused(("EINVAL",), lambda: h.pread(512, (1 << 63) + 512))
refused(("EINVAL",), lambda: h.cache(4096, size - 512))
refused(("EINVAL",), lambda: h.cache(0, 0))
refused(("EINVAL",), lambda: h.pwrite(bytes(33 << 20), 0)) # libnbd is still sending when it is known to be too long
refused(("ENOSPC", "EINVAL"), lambda: h.pwrite(bytes(4 << 20), size - 512))
h.cache(4096, 0)
same(0, 65536)
h.shutdown()
h2.shutdown()
' || fail "nbdsh: status $?"

# --- QEMU's blkverify: every read of the export is compared with a plain copy that saw the same writes

qemu-io -f raw -c flush "$uri" >/dev/null
cp "$W/a.raw" "$W/verify.raw"
/usr/bin/python3 - >"$W/random.io" <<'END'
import random

random.seed(11)
for i in range(600):
    length = random.choice((512, 1024, 4096, 65536, 65536 + 512, 1 << 20))
    off = random.randrange((96 << 20) - length) & ~511
    kind = random.choice(("write", "write", "zero", "read", "read", "flush"))
    if kind == "write":
        print(f"aio_write -P {i & 255} {off} {length}" if i % 3 else f"write -P {i & 255} {off} {length}")
        print("aio_flush") # blkverify may not see two writes to one place in another order
    elif kind == "zero":
        print(f"write -P 0 {off} {length}")
    else:
        print(kind if kind == "flush" else f"read {off} {length}")
print(f"read 0 {96 << 20}")
END
qemu-io --image-opts "driver=blkverify,test.driver=nbd,test.server.type=unix,test.server.path=$socket,test.export=vda,raw.driver=file,raw.filename=$W/verify.raw" \
	<"$W/random.io" >"$W/blkverify.out" 2>&1 || fail "blkverify: $(tail -n 3 "$W/blkverify.out")"
! grep -qiE 'blkverify|fail|error' "$W/blkverify.out" || fail "blkverify: $(grep -iE 'blkverify|fail|error' "$W/blkverify.out" | head -n 3)"
at_least "operations of blkverify" "$(grep -c 'ops;\|ops,' "$W/blkverify.out")" 400
cmp "$W/verify.raw" "$W/a.raw" || fail "after blkverify the copy and the image differ"

for options in '-d 16 -s 4096' '-w -d 16 -s 4096' '-w -d 1 -s 512 --flush-interval=100' '-d 4 -s 1M -S 1M'; do
	# shellcheck disable=SC2086
	qemu-img bench -f raw -t none -c 500 $options "$uri" >"$W/bench.out" 2>&1 || fail "qemu-img bench $options: $(cat "$W/bench.out")"
done
qemu-img convert -n -f raw -O raw "$W/in.raw" "$uri"
qemu-img compare -q -f raw -F raw "$uri" "$W/in.raw" || fail "what qemu-img convert wrote differs"

# --- nbdkit as a client of ours, passing on to nbdinfo and nbdcopy

is "size by way of nbdkit" "$(nbdkit -U - nbd socket="$socket" export=vda --run 'nbdinfo --size "$uri"')" $size
nbdkit -U - nbd socket="$socket" export=vda shared=true --run 'nbdinfo --can multi-conn "$uri" && nbdcopy "$uri" '"$W/kit.raw"
cmp "$W/in.raw" "$W/kit.raw" || fail "what came by way of nbdkit differs"
nbdkit -U - nbd socket="$socket" dynamic-export=true --run 'nbdcopy '"$W/in.raw"' "nbd+unix:///vda?socket=$unixsocket"'

# --- fio, with data that says where it belongs

for job in '--rw=randwrite --bsrange=512-256k --blockalign=512 --iodepth=32' '--rw=write --bs=1M --iodepth=4' \
	'--rw=randrw --bs=4k --iodepth=16'; do
	# shellcheck disable=SC2086
	(cd "$W" && fio --name=v --ioengine=nbd --uri="$uri" --size=32M --offset=8M $job --verify=sha256 --verify_fatal=1 --do_verify=1 \
		--output="$W/fio.out") || fail "fio $job: $(tail -n 5 "$W/fio.out")"
done

# --- a read-only disk

ro=$(uri vm1 vdb)
nbdinfo --is read-only "$ro" || fail "vdb is not read-only"
is "read_only in the status" "$(protection vm1 '[.disks[].read_only] | map(tostring) | join(" ")')" 'false true'
nbdsh -u "$ro" -c '
h.set_strict_mode(0)
assert h.is_read_only()
for call in (lambda: h.pwrite(bytes(512), 0), lambda: h.zero(4096, 0), lambda: h.trim(4096, 0)):
    try:
        call()
    except nbd.Error as error:
        assert error.errno == "EPERM", error.errno
    else:
        raise SystemExit("a read-only disk was written to")
h.flush()
assert len(h.pread(4096, 0)) == 4096
' || fail "nbdsh on the read-only disk: status $?"
! qemu-io -f raw -c 'write 0 4k' "$ro" >/dev/null 2>&1 || fail "QEMU wrote to a read-only disk"
qemu-io -r -f raw -c 'read 0 1M' "$ro" >/dev/null
cmp "$W/b.before" "$W/b.raw" || fail "the image of the read-only disk changed"
refuses 'not one of the disks' kagami protect vm9 vda="$W/in.raw" --to dr --rpo 1h --read-only vdz

n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"
stop_replicator
start_replicator
is "read_only after a restart" "$(protection vm1 '[.disks[].read_only] | map(tostring) | join(" ")')" 'false true'
nbdinfo --is read-only "$ro" || fail "vdb is not read-only after a restart"
is "errors of the disks" "$(protection vm1 '[.disks[].error] | join("")')" ''
daemons_alive
stop_replicator
stop_receiver
