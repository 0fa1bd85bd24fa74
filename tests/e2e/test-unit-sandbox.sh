#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the replicator's unit takes from it is nothing that it needs: with its mounts, its /proc, its capabilities and its system calls alone, it serves images of
# whatever owner and block devices, and knows after a stop and after a death what it may believe. And the unit is not laxer than it says.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl losetup unshare setpriv
requires_root
unit=tools/systemd/kagami-replicator.service
export ASAN_OPTIONS="${ASAN_OPTIONS:-exitcode=99}:detect_leaks=0" # which would trace a process that is traced, or may not be

says() { # OPTION
	sed -n "s/^$1=//p" $unit
}

if command -v systemd-analyze >/dev/null && systemd-analyze security --help 2>/dev/null | grep -q -- --offline; then
	sed 's|^ExecStart=[^ ]*|ExecStart=/bin/true|' $unit >"$W/kagami-replicator.service"
	level=$(systemd-analyze security --offline=true "$W/kagami-replicator.service" 2>/dev/null | sed -n 's/.*exposure level.*: \([0-9.]*\) .*/\1/p')
	awk -v level="${level:-10}" 'BEGIN { exit !(level <= 2.3) }' || fail "the exposure of the unit is ${level:-unknown}, expected 2.3 at most"
else
	echo "# no systemd-analyze: the exposure is not looked at"
fi

# What systemd does with these options, as far as the program can see it.
[ "$(says ProtectSystem)" = full ] && [ "$(says ProtectProc)" = invisible ] && [ "$(says ProtectKernelTunables)" = yes ] && [ "$(says NoNewPrivileges)" = yes ] &&
	[ "$(says CapabilityBoundingSet)" = CAP_DAC_OVERRIDE ] || fail "the unit is not the one that this test knows how to imitate"
proc=hidepid=invisible
[ "$(says ProcSubset)" = all ] || proc+=,subset=$(says ProcSubset)
cat >"$W/sandbox" <<'END'
set -e
mount -t proc -o "$1" proc /proc
for dir in /proc/sys /sys /usr /etc /boot; do
	[ -d $dir ] || continue
	mount --rbind $dir $dir
	mount -o remount,bind,ro $dir
done
shift
exec setpriv --bounding-set=-all,+dac_override --inh-caps=-all --no-new-privs "$@"
END
program=$(command -v kagami-replicator)
unshare --mount --propagation slave sh "$W/sandbox" "$proc" true 2>"$W/why" || skip "no such sandbox here: $(tail -n 1 "$W/why")"
kagami-replicator() {
	exec unshare --mount --propagation slave sh "$W/sandbox" "$proc" "$program" "$@"
}

new_image "$W/a.raw" $((32 << 20))
new_image "$W/b.raw" $((32 << 20)) 2
chown daemon "$W/a.raw" && chmod 600 "$W/a.raw"
device=$(losetup --show -f "$W/b.raw") || skip "needs a free loop device"
at_end "losetup -d $device"
dd if=/dev/urandom of="$device" bs=64k count=1 conv=fsync status=none # so it has counted something
start_pair
grep -q '^CapBnd:.*0000000002$' "/proc/$REPLICATOR/status" && grep -q '^CapEff:.*0000000002$' "/proc/$REPLICATOR/status" || fail "it has other capabilities"
kagami protect vm1 vda="$W/a.raw" vdb="$device" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
nbd_io vm1 vda 'write -P 0x61 9M 64k' flush
nbd_io vm1 vdb 'write -P 0x62 9M 64k' flush
stop_replicator
start_replicator
wait_for 15 connected vm1
n=$(cycle vm1)
is "sync after a clean stop" "$(protection vm1 .last_cycle.sync_reason)" null
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$device"
nbd_io vm1 vda 'write -P 0x63 9M 64k' flush
nbd_io vm1 vdb 'write -P 0x64 9M 64k' flush
rest_says() { [ "$(od -An -tu4 -j 16 -N 4 "$KAGAMI_RUN_DIR/rest/vm1:$1" | tr -d ' ')" = 1 ]; }
wait_for 10 rest_says vda
if [ "$(cat "/sys/block/$(basename "$device")/queue/iostats")" = 1 ]; then
	wait_for 10 rest_says vdb
	expected=unclean-stop
else
	expected=image-changed
fi
kill_replicator
start_replicator
wait_for 15 connected vm1
n=$(cycle vm1)
is "sync after a death" "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" "$expected"
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$device"
stop_replicator

# No system call that the unit's filter refuses. strace sees what the filter would.
if ! command -v strace >/dev/null || ! command -v systemd-analyze >/dev/null; then
	echo "# no strace, or no systemd-analyze: the system calls are not looked at"
	exit 0
fi
kagami-replicator() {
	exec unshare --mount --propagation slave sh "$W/sandbox.traced" "$proc" strace -D -f -qq -c -U name -o "$W/calls" "$program" "$@"
}
sed 's/^exec setpriv.*/exec "$@"/' "$W/sandbox" >"$W/sandbox.traced" # strace needs to trace
start_replicator
wait_for 30 connected vm1
nbd_io vm1 vda 'write -P 0x65 9M 64k' 'write -z 1M 64k' 'discard 2M 1M' flush 'read 0 4M'
cycle vm1 >/dev/null
stop_replicator
calls_there() { [ -s "$W/calls" ]; }
wait_for 10 calls_there
/usr/bin/python3 - $unit "$W/calls" <<'END' || fail "the unit's filter refuses what the program asks for"
import re, subprocess, sys

def group(name):
    calls = set()
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    for word in (line.strip() for line in text.splitlines()[1:]):
        if word and not word.startswith("#"):
            calls |= group(word) if word.startswith("@") else {word}
    return calls

allowed = set()
for line in open(sys.argv[1]):
    if not line.startswith("SystemCallFilter="):
        continue
    words = line.strip().split("=", 1)[1]
    denies = words.startswith("~")
    for word in words.lstrip("~").split():
        calls = group(word) if word.startswith("@") else {word}
        allowed = allowed - calls if denies else allowed | calls
used = {word for line in open(sys.argv[2]) for word in line.split()[:1] if re.fullmatch(r"[a-z][a-z0-9_]*", word)} - {"syscall", "total"}
print(len(used), "system calls")
if len(used) < 30 or "io_uring_enter" not in used:
    sys.exit("strace saw too little: %s" % sorted(used))
if used - allowed:
    sys.exit("refused: %s" % sorted(used - allowed))
END
