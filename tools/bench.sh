#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench`: what the export costs a guest, as ratios within one run, so that the machine falls out.
#
#	4 KiB random writes through the export, by fio's nbd engine, at queue depth 16 and 1,
#	against `nbdkit file` and `qemu-nbd`, with images of the same size on the same file system.
#
# The rounds of the three take turns, and the median of each counts: what else the machine does hits all alike. Prints a table,
# and the same as JSON into BENCH_JSON where that is set. BENCH_SECONDS (5) a round, BENCH_ROUNDS (3), BENCH_DIR (/var/tmp).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$(realpath -m "${BUILD:-build}")/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
seconds=${BENCH_SECONDS:-5} rounds=${BENCH_ROUNDS:-3} size=${BENCH_MB:-512}
W=$(mktemp -d "${BENCH_DIR:-/var/tmp}/kagami-bench.XXXXXX")
export KAGAMI_RUN_DIR=$W/run
pids=()
finish() {
	local status=$? pid
	trap - EXIT
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null
	done
	wait
	[ $status = 0 ] || tail -n 5 "$W"/*.log >&2
	rm -rf --one-file-system "$W"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

until_there() { # SOCKET
	for _ in {1..100}; do
		[ -S "$1" ] && return
		sleep 0.1
	done
	echo "bench: $1 did not appear" >&2
	exit 1
}

mkdir "$W"/{store,state}
for image in kagami nbdkit qemu-nbd; do
	fallocate -l "${size}M" "$W/$image.raw"
done
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
kagami-receiver --run-dir "$KAGAMI_RUN_DIR" --store "$W/store" --listen "127.0.0.1:$port" 2>"$W/receiver.log" &
pids+=($!)
kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$W/state" 2>"$W/replicator.log" &
pids+=($!)
until_there "$KAGAMI_RUN_DIR/receiver.sock"
until_there "$KAGAMI_RUN_DIR/replicator.sock"
kagami pair dr "$(kagami pair-token --json | jq -r .token)" >/dev/null
kagami protect bench vda="$W/kagami.raw" --to dr --rpo 1h >/dev/null
kagami cycle bench --wait >/dev/null
nbdkit -f -U "$W/nbdkit.sock" file "$W/nbdkit.raw" 2>"$W/nbdkit.log" &
pids+=($!)
qemu-nbd -f raw -t -e 8 --cache=writeback --aio=io_uring -k "$W/qemu-nbd.sock" "$W/qemu-nbd.raw" 2>"$W/qemu-nbd.log" &
pids+=($!)
until_there "$W/nbdkit.sock"
until_there "$W/qemu-nbd.sock"

declare -A uri=(
	[kagami]=$(kagami status bench --json | jq -r '.replicator.disks[0].uri')
	[nbdkit]="nbd+unix:///?socket=$W/nbdkit.sock"
	[qemu-nbd]="nbd+unix:///?socket=$W/qemu-nbd.sock"
)

round() { # SERVER DEPTH: I/Os a second and the 99th percentile in microseconds
	(cd "$W" && fio --name=write --ioengine=nbd --uri="${uri[$1]}" --rw=randwrite --bs=4k --iodepth="$2" --time_based \
		--runtime="$seconds" --ramp_time=1 --randrepeat=0 --size="${size}M" --output-format=json --output="$W/fio.json" >/dev/null)
	jq -r '.jobs[0].write | "\(.iops | floor) \(.clat_ns.percentile["99.000000"] / 1000 | floor)"' "$W/fio.json"
}

median() { # of a column of the lines on standard input
	sort -n -k "$1" | awk -v c="$1" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'
}

result='{}'
printf '%-28s %10s %10s %10s  %s\n' '4 KiB random write' kagami nbdkit qemu-nbd 'kagami / the faster other'
for depth in 16 1; do
	for ((n = 0; n < rounds; n++)); do
		for server in kagami nbdkit qemu-nbd; do
			round $server $depth >>"$W/$server.$depth"
		done
	done
	declare -A iops p99
	for server in kagami nbdkit qemu-nbd; do
		iops[$server]=$(median 1 <"$W/$server.$depth")
		p99[$server]=$(median 2 <"$W/$server.$depth")
		result=$(jq --arg s $server --arg d $depth --argjson i "${iops[$server]}" --argjson p "${p99[$server]}" \
			'.["depth_" + $d][$s] = {iops: $i, p99_us: $p}' <<<"$result")
	done
	best=$((iops[nbdkit] > iops[qemu-nbd] ? iops[nbdkit] : iops[qemu-nbd]))
	printf '%-28s %10d %10d %10d  %s\n' "  depth $depth, writes a second" "${iops[kagami]}" "${iops[nbdkit]}" "${iops[qemu-nbd]}" \
		"$(awk -v a="${iops[kagami]}" -v b=$best 'BEGIN { printf "%.2f", a / b }')"
	printf '%-28s %10d %10d %10d\n' "  depth $depth, p99 in us" "${p99[kagami]}" "${p99[nbdkit]}" "${p99[qemu-nbd]}"
done
[ -z "${BENCH_JSON:-}" ] || echo "$result" >"$BENCH_JSON"
