#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench`: what the export costs a guest, as ratios within one run, so that the machine falls out.
#
#	4 KiB random writes and reads at queue depth 16 and 1, and 1 MiB sequential ones at depth 4, by fio's nbd engine,
#	against `nbdkit file` and `qemu-nbd`, with images of the same size on the same file system.
#
# The rounds of the three take turns, every other time in reverse, and the median of each counts: what else the machine does hits
# all alike. All images are filled, put out of the page cache and written at random in pieces of 4 KiB before: a file that was
# written in large steps lies in the page cache in large folios, and a small write into one of those costs several times as much.
#
# Prints a table, writes it with its commands to BENCH_TABLE (docs/benchmarks.md), and as JSON into BENCH_JSON where that is set.
# BENCH_SECONDS (2) a round, BENCH_ROUNDS (5), BENCH_MB (256), BENCH_DIR (/var/tmp). About five minutes as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$(realpath -m "${BUILD:-build}")/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
seconds=${BENCH_SECONDS:-2} rounds=${BENCH_ROUNDS:-5} size=${BENCH_MB:-256} table=${BENCH_TABLE:-docs/benchmarks.md}
table=$(realpath -m "$table")
servers=(kagami nbdkit qemu-nbd)
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

# ---- the three servers

mkdir "$W"/{store,state}
for server in "${servers[@]}"; do
	head -c "${size}M" /dev/urandom >"$W/$server.raw"
done
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
kagami-receiver --run-dir "$KAGAMI_RUN_DIR" --store "$W/store" --listen "127.0.0.1:$port" 2>"$W/receiver.log" &
pids+=($!)
kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$W/state" 2>"$W/replicator.log" &
pids+=($!)
declare -A pid=([kagami]=$!)
until_there "$KAGAMI_RUN_DIR/receiver.sock"
until_there "$KAGAMI_RUN_DIR/replicator.sock"
kagami pair dr "$(kagami pair-token --json | jq -r .token)" >/dev/null
kagami protect bench vda="$W/kagami.raw" --to dr --rpo 1h >/dev/null
kagami cycle bench --wait >/dev/null
nbdkit -f -U "$W/nbdkit.sock" file "$W/nbdkit.raw" 2>"$W/nbdkit.log" &
pids+=($!) pid[nbdkit]=$!
qemu-nbd -f raw -t -e 8 --cache=writeback --aio=io_uring -k "$W/qemu-nbd.sock" "$W/qemu-nbd.raw" 2>"$W/qemu-nbd.log" &
pids+=($!) pid[qemu-nbd]=$!
until_there "$W/nbdkit.sock"
until_there "$W/qemu-nbd.sock"

declare -A uri=(
	[kagami]=$(kagami status bench --json | jq -r '.replicator.disks[0].uri')
	[nbdkit]="nbd+unix:///?socket=$W/nbdkit.sock"
	[qemu-nbd]="nbd+unix:///?socket=$W/qemu-nbd.sock"
)

# ---- rounds

run_fio() { # SERVER RW BLOCK DEPTH FURTHER...
	(cd "$W" && fio --name=bench --ioengine=nbd --uri="${uri[$1]}" --rw="$2" --bs="$3" --iodepth="$4" --randrepeat=0 \
		--size="${size}M" --output-format=json --output="$W/fio.json" "${@:5}" >/dev/null)
}

cpu_ticks() { # SERVER
	awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat"
}

round() { # SERVER RW BLOCK DEPTH: I/Os a second, the 99th percentile in us, and the server's CPU time of one in us
	local before after
	before=$(cpu_ticks "$1")
	run_fio "$@" --time_based --runtime="$seconds"
	after=$(cpu_ticks "$1")
	jq -r --argjson ticks $((after - before)) --argjson hz "$(getconf CLK_TCK)" '.jobs[0] | (if .read.total_ios > 0 then .read else .write end) |
		"\(.iops | floor) \(.clat_ns.percentile["99.000000"] / 1000 | floor) \($ticks * 1e7 / $hz / .total_ios | floor | . / 10)"' "$W/fio.json"
}

median() { # of a column of the lines on standard input
	sort -n -k "$1,$1" | awk -v c="$1" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'
}

line() { # FORMAT ARGUMENTS: a line of the table
	printf "$@" | tee -a "$W/table.md"
}

result='{}'
compare() { # NAME RW BLOCK DEPTH: a line of the table
	local n server order best
	for ((n = 0; n < rounds; n++)); do
		order=("${servers[@]}")
		((n % 2 == 0)) || order=(qemu-nbd nbdkit kagami)
		for server in "${order[@]}"; do
			round "$server" "${@:2}" >>"$W/$server.$2.$4"
		done
	done
	local -A iops p99 cpu
	for server in "${servers[@]}"; do
		iops[$server]=$(median 1 <"$W/$server.$2.$4")
		p99[$server]=$(median 2 <"$W/$server.$2.$4")
		cpu[$server]=$(median 3 <"$W/$server.$2.$4")
		result=$(jq --arg s "$server" --arg k "$2_$3_depth_$4" --argjson i "${iops[$server]}" --argjson p "${p99[$server]}" \
			--argjson c "${cpu[$server]}" '.[$k][$s] = {iops: $i, p99_us: $p, cpu_us: $c}' <<<"$result")
	done
	best=$((iops[nbdkit] > iops[qemu-nbd] ? iops[nbdkit] : iops[qemu-nbd]))
	line '| %-28s | %7d | %7d | %8d | %5s | %-22s | %-22s |\n' "$1" "${iops[kagami]}" "${iops[nbdkit]}" "${iops[qemu-nbd]}" \
		"$(awk -v a="${iops[kagami]}" -v b=$best 'BEGIN { printf "%.2f", a / b }')" \
		"${p99[kagami]} / ${p99[nbdkit]} / ${p99[qemu-nbd]}" "${cpu[kagami]} / ${cpu[nbdkit]} / ${cpu[qemu-nbd]}"
}

all() {
	line '| %-28s | %7s | %7s | %8s | %5s | %-22s | %-22s |\n' 'I/Os a second, medians' kagami nbdkit qemu-nbd ratio 'p99 in us, k / n / q' 'CPU us each, k / n / q'
	line '|---|---|---|---|---|---|---|\n'
	for depth in 16 1; do
		compare "4 KiB random write, depth $depth" randwrite 4k $depth
		compare "4 KiB random read, depth $depth" randread 4k $depth
	done
	compare '1 MiB sequential write' write 1m 4
	compare '1 MiB sequential read' read 1m 4
}

intro() {
	cat <<-END
	# Benchmarks

	Written by \`make bench\` ($rounds rounds of $seconds s, images of $size MiB) on $(date +%F), $(nproc) cores, Linux $(uname -r),
	load $(cut -d' ' -f1 /proc/loadavg) at its start. The ratio is kagami to the faster of the other two; what it means, and
	what the machine does to it: [performance.md](performance.md).

	    kagami-replicator                     (protected and idle: tracking on, no cycle under way)
	    nbdkit -f -U SOCKET file IMAGE
	    qemu-nbd -f raw -t -e 8 --cache=writeback --aio=io_uring -k SOCKET IMAGE
	    fio --ioengine=nbd --uri=URI --rw=RW --bs=BS --iodepth=DEPTH --time_based --runtime=$seconds --randrepeat=0 --size=${size}M

	END
}

for server in "${servers[@]}"; do # the same folios for all: see above
	sync "$W/$server.raw"
	dd if="$W/$server.raw" iflag=nocache count=0 status=none
	run_fio "$server" randwrite 4k 16
done
intro >"$W/table.md"
all
cp "$W/table.md" "$table"
[ -z "${BENCH_JSON:-}" ] || echo "$result" >"$BENCH_JSON"
