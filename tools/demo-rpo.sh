#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An RPO of one second, asked for through ten minutes in which fio writes 20 MB/s at random places of the disk: prints how old the newest point was,
# as a process outside of Kagami sampled it twenty times a second, and what the receiver itself counted.
#
#	DEMO_SECONDS=600 DEMO_RPO=1s DEMO_RATE=20m DEMO_DISK=1G DEMO_DIR=/var/tmp DEMO_SOURCE_DIR=/dev/shm tools/demo-rpo.sh
#
# A source and a receiver have disks of their own. Here they are on one machine, so the guest's disk is in memory, where there is room for it, and
# the receiver's store on the machine's disk; DEMO_SOURCE_DIR=DEMO_DIR has both there.
# Exit status 0 when 99 of 100 samples were within the RPO.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$(realpath -m "${BUILD:-build}")/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C

seconds=${DEMO_SECONDS:-600} rpo=${DEMO_RPO:-1s} rate=${DEMO_RATE:-20m} disk=${DEMO_DISK:-1G}
die() {
	echo "demo-rpo: $*" >&2
	exit 1
}
for program in fio jq curl python3; do
	command -v $program >/dev/null || die "needs $program; to install it: sudo tools/setup"
done
[ -x "$(command -v kagami)" ] || die 'the programs are not built: make'

W=$(mktemp -d "${DEMO_DIR:-/var/tmp}/kagami-rpo.XXXXXX")
source_dir=${DEMO_SOURCE_DIR:-/dev/shm}
room=$(df --output=avail -B1 "$source_dir" 2>/dev/null | tail -n 1)
[ -n "${DEMO_SOURCE_DIR:-}" ] || [ "${room:-0}" -gt $(($(numfmt --from=iec "$disk") + (1 << 30))) ] || source_dir=${DEMO_DIR:-/var/tmp}
S=$(mktemp -d "$source_dir/kagami-rpo.XXXXXX")
export KAGAMI_RUN_DIR=$W/run
pids=()
cleanup() {
	local status=$? pid
	trap - EXIT
	[ $status = 0 ] || tail -n 3 "$W"/*.log >&2
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	rm -rf --one-file-system "$W" "$S"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$W/store" "$S/state"
kagami-receiver --run-dir "$W/run" --store "$W/store" --listen "127.0.0.1:$port" >"$W/receiver.log" 2>&1 &
pids+=($!)
kagami-replicator --run-dir "$W/run" --state "$S/state" >"$W/replicator.log" 2>&1 &
pids+=($!)
until kagami version >/dev/null 2>&1 && kagami status >/dev/null 2>&1 && [ -S "$W/run/receiver.sock" ]; do sleep 0.1; done
truncate -s "$disk" "$S/disk.raw"
fio --name=fill --filename="$S/disk.raw" --rw=write --bs=1m --size="$disk" --refill_buffers --buffer_compress_percentage=50 --output="$W/fill.log" # a disk with data
kagami pair dr "$(kagami pair-token --json | jq -r .token)" >/dev/null
kagami protect vm1 vda="$S/disk.raw" --to dr --rpo "$rpo" >/dev/null
until kagami points vm1 >/dev/null 2>&1; do sleep 0.1; done
kagami cycle vm1 --wait >/dev/null

echo "RPO $rpo, fio writes $rate/s of 4 KiB at random places of $disk for $seconds s; $(nproc) cores carry the guest, the source and the receiver; the guest's disk is in $source_dir, the store in $(dirname "$W")"
uri="nbd+unix:///vda?socket=$W/run/nbd/vm1.sock"
fio --name=guest --ioengine=nbd --uri="$uri" --rw=randwrite --bs=4k --iodepth=16 --rate="$rate" --time_based --runtime="$seconds" \
	--size="$disk" --refill_buffers --buffer_compress_percentage=50 --output-format=json --output="$W/fio.json" >"$W/fio.log" 2>&1 &
fio=$!

python3 - "$W/run/replicator.sock" "$W/run/receiver.sock" "$seconds" "$W/ages" <<'PYTHON'
import http.client, json, socket, sys, time

class Unix(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

source, target, seconds, out = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
# The receiver's view: what it has committed, by its own clock.
connection, ages, end = Unix(target), [], time.monotonic() + seconds
next_at, shown = time.monotonic(), 0
while time.monotonic() < end:
    connection.request("GET", "/v1/protections/vm1")
    answer = json.loads(connection.getresponse().read())
    ages.append(answer["age_ms"])
    if sys.stderr.isatty() and time.monotonic() - shown > 1:
        shown = time.monotonic()
        print(f"\r{answer['age_ms']:6d} ms, oldest so far {max(ages)} ms, {end - shown:.0f} s left \033[K", end="", file=sys.stderr)
    next_at += 0.05
    time.sleep(max(0, next_at - time.monotonic()))
if sys.stderr.isatty():
    print("\r\033[K", end="", file=sys.stderr)
json.dump({"ages": ages, "rpo_ms": answer["rpo_ms"], "points": answer["last_point"]}, open(out, "w"))
PYTHON
wait $fio || die "fio failed: $(tail -n 2 "$W/fio.log")"

jq -r '.jobs[0] | "guest: \(.write.bw_bytes / 1e6 * 10 | round / 10) MB/s, p99 of a write \(.write.clat_ns.percentile["99.000000"] / 1000 | round) us, errors \(.error)"' "$W/fio.json"
kagami history vm1 --window hour 2>/dev/null | sed -n '/^age /p; /^missed /p' | sed 's/^/counted by Kagami: /' || true
python3 - "$W/ages" <<'PYTHON'
import json, sys
read = json.load(open(sys.argv[1]))
ages, rpo = sorted(read["ages"]), read["rpo_ms"]
at = lambda share: ages[min(len(ages) - 1, int(share * len(ages)))]
within = sum(age <= rpo for age in ages) / len(ages)
print(f"age of the newest point, {len(ages)} samples: p50 {at(0.5)} ms, p99 {at(0.99)} ms, p99.9 {at(0.999)} ms, most {ages[-1]} ms; "
      f"within the RPO {within:.3%} of the time; {read['points']} points")
# Each stretch outside of it: when it began, and how old the point became.
waits, since = [], None
for i, age in enumerate(read["ages"]):
    if age > rpo and since is None:
        since = i
    elif age <= rpo and since is not None:
        waits.append((max(read["ages"][since:i]), since / 20))
        since = None
if waits:
    longest = sorted(waits, reverse=True)[:5]
    print(f"{len(waits)} waits beyond it, the longest: " + ", ".join(f"{age} ms at {at:.0f} s" for age, at in longest))
sys.exit(at(0.99) > rpo)
PYTHON
