#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench`: what the export costs a guest, as ratios within one run, so that the machine falls out.
#
#	1. 4 KiB random writes and reads at queue depth 16 and 1, and 1 MiB sequential ones at depth 4, by fio's nbd engine, and
#	   4 KiB by qemu-img bench, against `nbdkit file` and `qemu-nbd`, with images of the same size on the same file system.
#	2. The same export without tracking (a build with tools/bench-untracked.patch). Half of the rounds are run after the two builds
#	   exchanged their images and started anew: where a file lies in memory makes more of a difference than tracking does.
#	3. The 99th percentile of a write while cycles run one after the other, and one a second, against the same without.
#
# The rounds of what is compared take turns, every other time in reverse, and the median of each counts: what else the machine
# does hits all alike. All images are filled, put out of the page cache and written at random in pieces of 4 KiB before: a file that was
# written in large steps lies in the page cache in large folios, and a small write into one of those costs several times as much. Two rows have
# them otherwise: read once through their servers, from a cold cache, as by a machine that reads its disk; and emptied by TRIM, as is a new disk.
#
# The client has one thread. How much of its time that was at work is shown, and what of it follows: the ceiling is what the client could ask for
# were it at work all the time, at what an I/O costs it with kagami.
#
# Prints tables, writes them with their commands to BENCH_TABLE (docs/benchmarks.md), and as JSON into BENCH_JSON where that is set.
# BENCH_SECONDS (2) a round, BENCH_ROUNDS (5), BENCH_MB (256), BENCH_DIR (/var/tmp), BENCH_PARTS ("others tracking cycles"). About ten minutes
# as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath -m "${BUILD:-build}")
export PATH=$build/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
seconds=${BENCH_SECONDS:-2} rounds=${BENCH_ROUNDS:-5} size=${BENCH_MB:-256} table=${BENCH_TABLE:-docs/benchmarks.md}
table=$(realpath -m "$table") parts=${BENCH_PARTS:-others tracking cycles}
servers=(kagami nbdkit qemu-nbd)
W=$(mktemp -d "${BENCH_DIR:-/var/tmp}/kagami-bench.XXXXXX")
pids=()
finish() {
	local status=$? pid
	trap - EXIT
	set +e # whatever has gone already, all is taken away, and the status is that of the work
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

# ---- the servers

untracked_build() { # the agent without tracking, in a copy of the sources
	local tree=$build/bench-untracked
	rm -rf "$tree"
	mkdir -p "$tree/tree"
	cp -r Makefile common replicator receiver tools "$tree/tree"
	patch -s -d "$tree/tree" -p1 <tools/bench-untracked.patch
	make -s -j2 -C "$tree/tree" BUILD="$tree/build" "$tree/build/bin/kagami-replicator" "$tree/build/bin/kagami-receiver" \
		"$tree/build/bin/kagami" >"$W/untracked-build.log" 2>&1
}

agent() { # NAME BIN-DIRECTORY IMAGE: an agent, a receiver, and a protection that had its first cycle
	local run=$W/run-$1 port
	rm -rf "$W/$1-store" "$W/$1-state"
	mkdir "$W/$1-store" "$W/$1-state"
	port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
	# The receiver belongs on another host: here it has what nobody else wants of the processors.
	chrt -i 0 "$2/kagami-receiver" --run-dir "$run" --store "$W/$1-store" --listen "127.0.0.1:$port" 2>"$W/$1-receiver.log" &
	pids+=($!) pid[$1-receiver]=$!
	"$2/kagami-replicator" --run-dir "$run" --state "$W/$1-state" 2>"$W/$1-replicator.log" &
	pids+=($!) pid[$1]=$!
	until_there "$run/receiver.sock"
	until_there "$run/replicator.sock"
	export KAGAMI_RUN_DIR=$run
	kagami pair dr "$(kagami pair-token --json | jq -r .token)" >/dev/null
	kagami protect bench vda="$3" --to dr --rpo 1h >/dev/null
	kagami cycle bench --wait >/dev/null
	uri[$1]=$(kagami status bench --json | jq -r '.replicator.disks[0].uri')
}

end_agent() { # NAME
	kill "${pid[$1]}" "${pid[$1-receiver]}"
	wait "${pid[$1]}" "${pid[$1-receiver]}" || true
	local i
	for i in "${!pids[@]}"; do
		[[ ${pids[i]} != "${pid[$1]}" && ${pids[i]} != "${pid[$1-receiver]}" ]] || unset "pids[i]"
	done
}

for image in "${servers[@]}" one other; do
	head -c "${size}M" /dev/urandom >"$W/$image.raw"
done
declare -A pid uri=([nbdkit]="nbd+unix:///?socket=$W/nbdkit.sock" [qemu-nbd]="nbd+unix:///?socket=$W/qemu-nbd.sock")
untracked_build
agent kagami "$build/bin" "$W/kagami.raw"
nbdkit -f -U "$W/nbdkit.sock" file "$W/nbdkit.raw" 2>"$W/nbdkit.log" &
pids+=($!) pid[nbdkit]=$!
qemu-nbd -f raw -t -e 8 --cache=writeback --aio=io_uring --discard=unmap -k "$W/qemu-nbd.sock" "$W/qemu-nbd.raw" 2>"$W/qemu-nbd.log" &
pids+=($!) pid[qemu-nbd]=$!
until_there "$W/nbdkit.sock"
until_there "$W/qemu-nbd.sock"

# ---- rounds

run_fio() { # SERVER RW BLOCK DEPTH FURTHER...
	(cd "$W" && fio --name=bench --ioengine=nbd --uri="${uri[$1]}" --rw="$2" --bs="$3" --iodepth="$4" --randrepeat=0 \
		--size="${size}M" --output-format=json --output="$W/fio.json" "${@:5}" >/dev/null)
}

condition() { # SERVER IMAGE: the same folios for all, see above
	sync "$2"
	dd if="$2" iflag=nocache count=0 status=none
	run_fio "$1" randwrite 4k 16
}

read_once() { # SERVER: through it, from a cold cache
	sync "$W/$1.raw"
	dd if="$W/$1.raw" iflag=nocache count=0 status=none
	nbdcopy "${uri[$1]}" null:
}

empty() { # SERVER: nothing of it is in memory, nor on disk
	/usr/bin/python3 - "${uri[$1]}" <<-'END'
	import nbd, sys
	disk, step = nbd.NBD(), 16 << 20
	disk.connect_uri(sys.argv[1])
	for at in range(0, disk.get_size(), step):
	    disk.trim(min(step, disk.get_size() - at), at)
	disk.flush()
	disk.shutdown()
	END
}

cpu_ticks() { # SERVER
	awk '{ print $14 + $15 }' "/proc/${pid[$1]}/stat"
}

round() { # SERVER RW BLOCK DEPTH: I/Os a second, the 99th percentile in us, the server's CPU time of one in us, the client's in % of the time
	local before after
	before=$(cpu_ticks "$1")
	run_fio "$@" --time_based --runtime="$seconds"
	after=$(cpu_ticks "$1")
	jq -r --argjson ticks $((after - before)) --argjson hz "$(getconf CLK_TCK)" '.jobs[0] | (.usr_cpu + .sys_cpu) as $client | (if .read.total_ios > 0 then .read else .write end) |
		"\(.iops | floor) \(.clat_ns.percentile["99.000000"] / 1000 | floor) \($ticks * 1e7 / $hz / .total_ios | floor | . / 10) \($client | floor)"' "$W/fio.json"
}

median() { # of a column of the lines on standard input
	sort -n -k "$1,$1" | awk -v c="$1" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'
}

line() { # FORMAT ARGUMENTS: a line of the table
	# shellcheck disable=SC2059 # the format is ours
	printf "$@" | tee -a "$W/table.md"
}

ratio() { # A B
	awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'
}

order() { # ROUND NAME...: the names, every other time in reverse
	local round=$1 names=("${@:2}") i
	for ((i = 0; i < ${#names[@]}; i++)); do
		echo "${names[round % 2 ? ${#names[@]} - 1 - i : i]}"
	done
}

result='{}'
keep() { # KEY SERVER JSON
	result=$(jq --arg k "$1" --arg s "$2" --argjson v "$3" '.[$k][$s] = $v' <<<"$result")
}

row() { # of the first table
	line '| %-29s | %7s | %7s | %8s | %5s | %7s | %-19s | %-22s | %-22s |\n' "$@"
}

compare() { # NAME RW BLOCK DEPTH [BEFORE]: a line of the table; BEFORE: what is done with each server before each round
	local n server best ceiling key=$2_$3_depth_$4${5:+_$5}
	for ((n = 0; n < rounds; n++)); do
		for server in $(order $n "${servers[@]}"); do
			[ -z "${5:-}" ] || "$5" "$server"
			round "$server" "${@:2:3}" >>"$W/$server.$key"
		done
	done
	local -A iops p99 cpu client
	for server in "${servers[@]}"; do
		iops[$server]=$(median 1 <"$W/$server.$key")
		p99[$server]=$(median 2 <"$W/$server.$key")
		cpu[$server]=$(median 3 <"$W/$server.$key")
		client[$server]=$(median 4 <"$W/$server.$key")
		keep "$key" "$server" "{\"iops\": ${iops[$server]}, \"p99_us\": ${p99[$server]}, \"cpu_us\": ${cpu[$server]}, \"client_percent\": ${client[$server]}}"
	done
	best=$((iops[nbdkit] > iops[qemu-nbd] ? iops[nbdkit] : iops[qemu-nbd]))
	ceiling=$(awk -v i="${iops[kagami]}" -v c="${client[kagami]}" -v b=$best 'BEGIN { printf "%.2f", i * 100 / (c ? c : 1) / b }')
	row "$1" "${iops[kagami]}" "${iops[nbdkit]}" "${iops[qemu-nbd]}" "$(ratio "${iops[kagami]}" $best)" "$ceiling" \
		"${client[kagami]} / ${client[nbdkit]} / ${client[qemu-nbd]}" "${p99[kagami]} / ${p99[nbdkit]} / ${p99[qemu-nbd]}" "${cpu[kagami]} / ${cpu[nbdkit]} / ${cpu[qemu-nbd]}"
}

qemu_img() { # SERVER DEPTH COUNT OPTIONS...: I/Os a second
	local seconds
	seconds=$(qemu-img bench -f raw -c "$3" -d "$2" -s 4096 -S 69632 "${@:4}" "${uri[$1]}" | sed -n 's/^Run completed in \([0-9.]*\) seconds.*/\1/p')
	awk -v c="$3" -v s="$seconds" 'BEGIN { printf "%d\n", c / s }'
}

compare_qemu_img() { # NAME DEPTH OPTIONS...
	local n server best key=qemu_img_${3:-read}_depth_$2 count=$((3600 * size / 256)) # one pass over the image, in steps of 68 KiB
	((count < 3600)) || count=$((count - 1))
	for ((n = 0; n < rounds; n++)); do
		for server in $(order $n "${servers[@]}"); do
			qemu_img "$server" "$2" "$count" "${@:3}" >>"$W/$server.$key"
		done
	done
	local -A iops
	for server in "${servers[@]}"; do
		iops[$server]=$(median 1 <"$W/$server.$key")
		keep "$key" "$server" "{\"iops\": ${iops[$server]}}"
	done
	best=$((iops[nbdkit] > iops[qemu-nbd] ? iops[nbdkit] : iops[qemu-nbd]))
	row "$1" "${iops[kagami]}" "${iops[nbdkit]}" "${iops[qemu-nbd]}" "$(ratio "${iops[kagami]}" $best)" '' '' '' ''
}

against_others() {
	row 'I/Os a second, medians' kagami nbdkit qemu-nbd ratio ceiling 'client %, k / n / q' 'p99 in us, k / n / q' 'CPU us each, k / n / q'
	line '|---|---|---|---|---|---|---|---|---|\n'
	for depth in 16 1; do
		compare "4 KiB random write, depth $depth" randwrite 4k $depth
		compare "4 KiB random read, depth $depth" randread 4k $depth
	done
	compare '1 MiB sequential write' write 1m 4
	compare '1 MiB sequential read' read 1m 4
	compare '1 MiB sequential write, of an emptied image' write 1m 4 empty
	compare '4 KiB random write, depth 16, after a first reading' randwrite 4k 16 read_once
	for server in "${servers[@]}"; do
		condition "$server" "$W/$server.raw"
	done
	for depth in 16 1; do
		compare_qemu_img "qemu-img bench, write, depth $depth" $depth -w
		compare_qemu_img "qemu-img bench, read, depth $depth" $depth
	done
}

tracking_rounds() { # RW DEPTH FIRST: from this round on
	local n server key=tracking_$1_depth_$2
	for ((n = $3; n < $3 + 2 * rounds; n++)); do
		for server in $(order $n tracked untracked); do
			round "$server" "$1" 4k "$2" >"$W/$server.$key"
			cat "$W/$server.$key" >>"$W/$server.$key.all"
		done
		paste -d' ' "$W/tracked.$key" "$W/untracked.$key" | awk '{ printf "%.4f %.4f\n", $1 / $5, $3 / $7 }' >>"$W/$key.ratios.$3"
	done
}

# Neighbouring rounds are divided, and the median of the ratios counts: it is a small difference that is looked for. Of the two halves,
# with the images exchanged, the geometric mean.
tracking() {
	local depth half images=("$W/one.raw" "$W/other.raw")
	for half in 0 1; do
		agent untracked "$build/bench-untracked/build/bin" "${images[half]}"
		agent tracked "$build/bin" "${images[1 - half]}"
		condition tracked "${images[1 - half]}"
		condition untracked "${images[half]}"
		for depth in 16 1; do
			tracking_rounds randwrite $depth $((half * 2 * rounds))
		done
		end_agent tracked
		end_agent untracked
	done
	export KAGAMI_RUN_DIR=$W/run-kagami
	for depth in 16 1; do
		local key=tracking_randwrite_depth_$depth column halves=()
		for column in 1 2; do
			halves+=("$(cat <(median $column <"$W/$key.ratios.0") <(median $column <"$W/$key.ratios.$((2 * rounds))") |
				awk '{ p = p ? p * $1 : $1; l = l (l ? " / " : "") $1 } END { printf "%.4f (%s)", sqrt(p), l }')")
		done
		keep "$key" ratio "${halves[0]%% *}"
		keep "$key" cpu_ratio "${halves[1]%% *}"
		line '| %-29s | %8d | %8d | %-24s | %-24s |\n' "4 KiB random write, depth $depth" "$(median 1 <"$W/tracked.$key.all")" \
			"$(median 1 <"$W/untracked.$key.all")" "${halves[@]}"
	done
}

committed() { kagami status bench --json | jq .replicator.cycles.committed; }

under_cycles() { # NAME RW DEPTH EVERY FIO-OPTIONS...: EVERY 0: one cycle after the other
	local n when key=cycle_$2_depth_$3_$4_${5:-} runner committed
	for ((n = 0; n < rounds; n++)); do
		for when in $(order $n idle cycling); do
			if [ $when = cycling ]; then
				# Who asks for them is no part of what is measured, and there are few cores.
				chrt -i 0 tools/bench-cycles.py "$KAGAMI_RUN_DIR/replicator.sock" bench "$4" 2>>"$W/cycles.log" &
				runner=$!
				pids+=($runner)
				sleep 0.3
				committed=$(committed)
			fi
			run_fio kagami "$2" 4k "$3" --time_based --runtime="$((2 * seconds))" "${@:5}"
			jq -r '.jobs[0].write | "\(.iops | floor) \(.clat_ns.percentile["99.000000"] / 1000 | floor)"' "$W/fio.json" >>"$W/$when.$key"
			if [ $when = cycling ]; then
				echo $(($(committed) - committed)) >>"$W/committed.$key"
				kill $runner
				wait $runner || true
				kagami cycle bench --wait >/dev/null # so that none is under way
			fi
		done
	done
	for when in idle cycling; do
		keep "$key" $when "{\"iops\": $(median 1 <"$W/$when.$key"), \"p99_us\": $(median 2 <"$W/$when.$key")}"
	done
	keep "$key" committed "$(median 1 <"$W/committed.$key")"
	line '| %-57s | %6d | %8d / %-8d | %6d | %8d | %5s |\n' "$1" "$(median 1 <"$W/committed.$key")" "$(median 1 <"$W/idle.$key")" "$(median 1 <"$W/cycling.$key")" "$(median 2 <"$W/idle.$key")" \
		"$(median 2 <"$W/cycling.$key")" "$(ratio "$(median 2 <"$W/cycling.$key")" "$(median 2 <"$W/idle.$key")")"
}

all() { # the parts of BENCH_PARTS
	local part
	for part in $parts; do
		[ "$part" = "${parts%% *}" ] || line '\n'
		"part_$part"
	done
}

part_others() {
	against_others
}

part_tracking() {
	line 'Tracking on against the same build with tools/bench-untracked.patch: medians of two times %d pairs of rounds,\nthe images exchanged in between; in brackets the two.\n\n' $((2 * rounds))
	line '| %-29s | %8s | %8s | %-24s | %-24s |\n' 'I/Os a second' tracked without ratio 'ratio of CPU time'
	line '|---|---|---|---|---|\n'
	tracking
}

part_cycles() {
	line 'While cycles run to a receiver under SCHED_IDLE on the same %d cores, against idle: p99 in us.\nPoints: that were committed in a round of %d s; 0: one cycle was under way all the time, on what the load left of the processors.\n\n' "$(nproc)" $((2 * seconds))
	line '| %-57s | %6s | %-19s | %6s | %8s | %5s |\n' 'cycles: load' points 'I/Os a second, idle / cycling' idle cycling ratio
	line '|---|---|---|---|---|---|\n'
	under_cycles 'one after the other: 4 KiB random write, depth 1' randwrite 1 0
	under_cycles 'one after the other: 4 KiB random write, depth 16' randwrite 16 0
	under_cycles 'one after the other: 4 KiB random write, depth 1, 2,000/s' randwrite 1 0 --rate_iops=2000
	under_cycles 'one a second: 4 KiB random write, depth 1, 2,000/s' randwrite 1 1 --rate_iops=2000
}

intro() {
	cat <<-END
	# Benchmarks

	Written by \`make bench\` ($rounds rounds of $seconds s, images of $size MiB) on $(date +%F), $(nproc) cores, Linux $(uname -r),
	load $(cut -d' ' -f1 /proc/loadavg) at its start. The ratio is kagami to the faster of the other two.
	Client: how much of the time its one thread was at work. Ceiling: the ratio were it at work all the time, at what an I/O costs it with kagami.
	What they mean, and what the machine does to them: [performance.md](performance.md).

	    kagami-replicator                     (protected and idle: tracking on, no cycle under way)
	    nbdkit -f -U SOCKET file IMAGE
	    qemu-nbd -f raw -t -e 8 --cache=writeback --aio=io_uring --discard=unmap -k SOCKET IMAGE
	    nbdcopy URI null:                     (the first reading, behind \`dd if=IMAGE iflag=nocache count=0\`)
	    qemu-img bench -f raw -c 3599 -d DEPTH -s 4096 -S 69632 [-w] URI
	    tools/bench-cycles.py SOCKET bench    (under way for the last table)
	    fio --ioengine=nbd --uri=URI --rw=RW --bs=BS --iodepth=DEPTH --time_based --runtime=$seconds --randrepeat=0 --size=${size}M

	END
}

for server in "${servers[@]}"; do
	condition "$server" "$W/$server.raw"
done
intro >"$W/table.md"
all
cp "$W/table.md" "$table"
[ "$table" != "$PWD/docs/benchmarks.md" ] || tools/bench-summary.sh
[ -z "${BENCH_JSON:-}" ] || echo "$result" >"$BENCH_JSON"
