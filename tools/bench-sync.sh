#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `make bench`, its part about the way between: seven rows, each against what else one would use, with source and receiver on loopback
# of this machine. Every command is printed, behind "$".
#
#	tools/bench-sync.sh [ROW...]	1 to 7; all of them by default
#
# Writes BENCH_SYNC_TABLE (docs/benchmarks-sync.md, up to what it says there about the rows; with rows named, only prints), and its rows into docs/benchmarks.md.
# BENCH_SYNC_MB (1024): real dirty data; BENCH_SYNC_IMAGE_MB (3072): images of rows 3 and 4; BENCH_SYNC_RPO (15) and BENCH_SYNC_SECONDS (ten of them): of each
# database run; BENCH_DIR (/var/tmp). Rows 6 and 7 need root (a loop device). About eleven minutes on 2 cores.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath -m "${BUILD:-build}")
tools=$PWD/tools
export PATH=$build/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
mb=${BENCH_SYNC_MB:-1024} image_mb=${BENCH_SYNC_IMAGE_MB:-3072} rpo=${BENCH_SYNC_RPO:-15}
seconds=${BENCH_SYNC_SECONDS:-$((10 * rpo))}
table=$(realpath -m "${BENCH_SYNC_TABLE:-docs/benchmarks-sync.md}")
rows=("${@:-all}")
W=$(mktemp -d "${BENCH_DIR:-/var/tmp}/kagami-sync.XXXXXX")
pids=() undo=()
finish() {
	local status=$? i
	trap - EXIT
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
		eval "${undo[i]}" >/dev/null 2>&1 || true
	done
	for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
		kill "${pids[i]}" 2>/dev/null || true
	done
	wait
	[ $status = 0 ] || tail -n 5 "$W"/*.log >&2 || true
	rm -rf --one-file-system "$W"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- helpers

now() { echo "${EPOCHREALTIME/[.,]/}"; } # in us
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.2f", (b - a) / 1e6 }'; }
per() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / (b > 0 ? b : 1e-9) }'; }
timed() { # COMMAND...: the seconds that it takes in $took
	echo "\$ $*" >&2
	local begin
	begin=$(now)
	eval "$*" >/dev/null 2>>"$W/commands.log"
	took=$(since "$begin")
}
row() { # NUMBER TEXT...
	printf '| %s ' "$@" >>"$W/table.md"
	echo '|' >>"$W/table.md"
	tail -n 1 "$W/table.md"
}
wanted() { [ "${rows[0]}" = all ] || [[ " ${rows[*]} " == *" $1 "* ]]; }
free_port() { /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_true() { # COMMAND...
	local n
	for ((n = 0; n < 600; n++)); do
		eval "$*" >/dev/null 2>&1 && return
		sleep 0.05
	done
	echo "bench-sync: in 30 s it did not come to: $*" >&2
	exit 1
}
met() { awk -v a="$1" -v op="$2" -v b="$3" 'BEGIN { print (op == ">=" ? a >= b : a <= b) ? "met" : "missed" }'; }

# Data as machines have it: programs, libraries and documents of this one, one behind the other.
real_data() { # FILE MB
	(set +o pipefail; tar cf - /usr/bin /usr/lib /usr/share 2>/dev/null | head -c "$2M" >"$1")
	[ "$(stat -c %s "$1")" = $(($2 << 20)) ] || truncate -s "$2M" "$1"
}

start_replicator() {
	kagami-replicator --run-dir "$W/run" --state "$W/state" 2>>"$W/replicator.log" &
	pids+=($!) replicator=$!
	until_true "kagami sites"
}

stop_replicator() {
	kill "$replicator"
	wait "$replicator" || true
}

start_pair() {
	mkdir "$W/store" "$W/state"
	port=$(free_port)
	kagami-receiver --run-dir "$W/run" --store "$W/store" --listen "127.0.0.1:$port" 2>"$W/receiver.log" &
	pids+=($!)
	export KAGAMI_RUN_DIR=$W/run
	until_true "[ -S $W/run/receiver.sock ]"
	start_replicator
	kagami pair dr "$(kagami pair-token --json | jq -r .token)" >/dev/null
}

of() { kagami status "$1" --json | jq -r ".replicator$2"; } # PROTECTION PATH
last_sync() { kagami syncs "$1" --json | jq -r ".syncs[0]$2"; }
protect() { # NAME PATH RPO [OPTION...]: and its first cycle
	kagami protect "$1" "vda=$2" --to "${site:-dr}" --rpo "$3" "${@:4}" >/dev/null
	kagami cycle "$1" --wait >/dev/null
}
unprotect() { kagami unprotect "$1" --yes >/dev/null; }

# ---- rows 1 and 2: real dirty data

row_1() {
	real_data "$W/real.raw" "$mb"
	truncate -s "${mb}M" "$W/a.raw"
	protect dirty "$W/a.raw" 1h
	local uri zstd ours both
	uri=$(of dirty '.disks[0].uri')
	echo "\$ nbdcopy $W/real.raw $uri    (dirty; not timed)" >&2
	nbdcopy "$W/real.raw" "$uri"
	sync "$W/a.raw"
	timed "zstd -1 -q -c $W/real.raw"
	zstd=$took
	timed "zstd -1 -T0 -q -c $W/real.raw"
	both=$took
	timed "kagami cycle dirty --wait"
	ours=$took
	local ratio
	ratio=$(per "$zstd" "$ours")
	row 1 "$mb MiB of real dirty data, dirty to committed" "$ours s, $(of dirty .last_cycle.wire_bytes) bytes on the wire" "zstd -1: $zstd s (-T0: $both s)" "$ratio" "≥ 0.8" "$(met "$ratio" '>=' 0.8)"
	cycle_seconds=$ours
}

# The plain ways: the same bytes through a pipe of TLS 1.3 with zstd -1 on it, to a file that is synced.
tls_pipe() { # COMMAND THAT WRITES: in $took
	local tls_port server
	tls_port=$(free_port)
	(openssl s_server -quiet -tls1_3 -accept "127.0.0.1:$tls_port" -cert "$W/cert.pem" -key "$W/key.pem" -naccept 1 <>"$W/never" 2>/dev/null |
		zstd -q -d -c >"$W/piped.raw"; sync "$W/piped.raw") &
	server=$!
	sleep 0.5
	echo "\$ openssl s_server -quiet -tls1_3 -naccept 1 ... | zstd -d -c >FILE; sync FILE" >&2
	timed "($1) | zstd -1 -q -c | openssl s_client -quiet -no_ign_eof -nocommands -tls1_3 -connect 127.0.0.1:$tls_port; wait $server"
	cmp -s "$W/piped.raw" "$W/real.raw" || echo "bench-sync: what came through the pipe differs" >&2
}

row_2() {
	[ -n "${cycle_seconds:-}" ] || row_1 >/dev/null
	mkfifo "$W/never" # its standard input, which must not end
	openssl req -x509 -newkey ed25519 -nodes -subj /CN=bench -keyout "$W/key.pem" -out "$W/cert.pem" 2>/dev/null
	local uri copy convert
	uri=$(of dirty '.disks[0].uri')
	tls_pipe "nbdcopy '$uri' -"
	copy=$took
	tls_pipe "qemu-img convert -f raw -O raw '$uri' $W/converted.raw && cat $W/converted.raw"
	convert=$took
	rm -f "$W/piped.raw" "$W/converted.raw"
	row 2 "the same" "$cycle_seconds s" "nbdcopy: $copy s; qemu-img convert: $convert s" "$(per "$copy" "$cycle_seconds"), $(per "$convert" "$cycle_seconds")" "> 1 each" \
		"$(met "$(per "$copy" "$cycle_seconds")" '>=' 1), $(met "$(per "$convert" "$cycle_seconds")" '>=' 1)"
}

# ---- rows 3 and 4: syncs by digest

image_made() {
	[ -n "${image_there:-}" ] && return
	image_there=1
	real_data "$W/half.raw" $((image_mb / 2))
	(set +o pipefail; cat "$W/half.raw" "$W/half.raw") >"$W/s.raw"
	cp "$W/s.raw" "$W/rsync.raw"
	rm "$W/half.raw"
	protect sync "$W/s.raw" 1h
}

# All of it is compared, whatever is known to have changed, with the page cache as it is.
compared() { # in $took
	echo "\$ kagami cycle sync --compare --wait" >&2
	kagami cycle sync --compare --wait >/dev/null
	sync_took asked
}

# The agent was stopped and the image touched: the next start cannot know what changed. It trusts nothing of the image that is in the page cache, and reads it all from the disk.
compared_cold() { # in $took
	start_replicator
	echo "\$ kagami-replicator ... ; kagami cycle sync --wait" >&2
	kagami cycle sync --wait >/dev/null
	sync_took image-changed
}

sync_took() { # REASON
	[ "$(last_sync sync .reason)" = "$1" ] || { echo "bench-sync: the newest sync is none for the reason $1" >&2; exit 1; }
	took=$(last_sync sync .duration_ms | awk '{ printf "%.2f", $1 / 1000 }')
}

out_of_cache() { # FILE: and out of the agent's sight
	touch "$1"
	echo "\$ dd of=$1 oflag=nocache conv=notrunc,fdatasync count=0" >&2
	dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 2>/dev/null
}

row_3() {
	image_made
	/usr/bin/python3 - "$W/s.raw" <<-'CHANGE'
		import os, random, sys
		random.seed(1)
		image = open(sys.argv[1], "r+b")
		blocks = os.path.getsize(sys.argv[1]) // 65536
		for block in random.sample(range(blocks), blocks // 100):
		    image.seek(block * 65536 + 4096 * random.randrange(16))
		    image.write(random.randbytes(4096))
	CHANGE
	sync "$W/s.raw"
	cat "$W/s.raw" "$W/rsync.raw" >/dev/null # both read them from memory
	local ours wire theirs theirs_wire rsync_port
	compared
	ours=$took wire=$(last_sync sync .sent_bytes)
	if ! command -v rsync >/dev/null; then
		row 3 "sync, $image_mb MiB, 1 % of the blocks changed by 4 KiB" "$ours s, $wire bytes" "rsync is not installed" "" "≥ 5, ≤ 0.5 of the bytes" "not measured"
		return
	fi
	rsync_port=$(free_port)
	printf '[w]\npath = %s\nread only = no\nuse chroot = no\nuid = %s\ngid = %s\n' "$W" "$(id -un)" "$(id -gn)" >"$W/rsyncd.conf"
	rsync --daemon --no-detach --address 127.0.0.1 --port "$rsync_port" --config "$W/rsyncd.conf" &
	pids+=($!)
	sleep 0.5
	timed "rsync --inplace --no-whole-file -z --stats $W/s.raw rsync://127.0.0.1:$rsync_port/w/rsync.raw >$W/rsync.out"
	theirs=$took theirs_wire=$(sed -n 's/^Total bytes sent: //p' "$W/rsync.out" | tr -d ,)
	row 3 "sync, $image_mb MiB, 1 % of the blocks changed by 4 KiB" "$ours s, $wire bytes" "rsync -z: $theirs s, $theirs_wire bytes" \
		"$(per "$theirs" "$ours"), $(per "$wire" "$theirs_wire") of the bytes" "≥ 5, ≤ 0.5 of the bytes" \
		"$(met "$(per "$theirs" "$ours")" '>=' 5), $(met "$(per "$wire" "$theirs_wire")" '<=' 0.5)"
}

row_4() {
	image_made
	local cold warm ours_cold ours_warm wire
	cat "$W/s.raw" >/dev/null
	timed "cat $W/s.raw"
	warm=$took
	compared
	ours_warm=$took wire=$(last_sync sync .sent_bytes)
	stop_replicator
	out_of_cache "$W/s.raw"
	timed "cat $W/s.raw"
	cold=$took
	out_of_cache "$W/s.raw"
	compared_cold
	ours_cold=$took
	row 4 "sync, equal, $image_mb MiB" "cold $ours_cold s, warm $ours_warm s, $wire bytes" "cat: cold $cold s, warm $warm s" "$(per "$ours_cold" "$cold"), $(per "$ours_warm" "$warm")" \
		"≤ 1.2, ≤ 65536 bytes" "$(met "$(per "$ours_cold" "$cold")" '<=' 1.2), $(met "$(per "$ours_warm" "$warm")" '<=' 1.2); $(met "$wire" '<=' 65536)"
}

# ---- row 5: a sparse disk

row_5() {
	[ -e "$W/real.raw" ] || real_data "$W/real.raw" "$mb"
	local alone sparse
	cp "$W/real.raw" "$W/alone.raw"
	cp "$W/real.raw" "$W/sparse.raw"
	truncate -s 100G "$W/sparse.raw"
	timed "protect alone $W/alone.raw 1h"
	alone=$took
	timed "protect sparse $W/sparse.raw 1h"
	sparse=$took
	unprotect alone
	unprotect sparse
	rm "$W/alone.raw" "$W/sparse.raw"
	row 5 "initial sync of 100 GiB with $mb MiB of data" "$sparse s" "the $mb MiB alone: $alone s" "$(per "$sparse" "$alone")" "≤ 1.3" "$(met "$(per "$sparse" "$alone")" '<=' 1.3)"
}

# ---- rows 6 and 7: a database

pg=$(find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort | tail -n 1)
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups env PATH="$pg:$PATH" "$@"; }

# ext4 on the protected disk: NBD to a file by qemu-storage-daemon's FUSE export, a loop device on it, PostgreSQL in it.
database_start() { # PROTECTION
	local uri path
	uri=$(of "$1" '.disks[0].uri')
	path=${uri#*socket=}
	: >"$W/fuse.img"
	qemu-storage-daemon --blockdev "driver=nbd,node-name=n,server.type=unix,server.path=$path,export=vda" \
		--export "type=fuse,id=f,node-name=n,mountpoint=$W/fuse.img,writable=on,growable=off,allow-other=off" >"$W/qsd.log" 2>&1 &
	pids+=($!)
	until_true "[ \$(stat -c %s $W/fuse.img) != 0 ]"
	loop=$(losetup --find --show "$W/fuse.img")
	undo+=("losetup -d $loop")
	mkfs.ext4 -q "$loop"
	mkdir -p "$W/mnt"
	chmod 755 "$W"
	mount "$loop" "$W/mnt"
	undo+=("umount $W/mnt")
	install -d -o postgres "$W/mnt/pg" "$W/pgsock"
	as_postgres initdb -D "$W/mnt/pg" -A trust >"$W/initdb.log" 2>&1
	echo "checkpoint_timeout = 30s" >>"$W/mnt/pg/postgresql.conf"
	as_postgres pg_ctl -D "$W/mnt/pg" -w -o "-k $W/pgsock -c listen_addresses=''" -l "$W/mnt/pg/log" start >/dev/null
	undo+=("as_postgres pg_ctl -D $W/mnt/pg -m immediate stop")
	as_postgres createdb -h "$W/pgsock" bench
	as_postgres pgbench -h "$W/pgsock" -i -q -s 20 bench >"$W/pgbench.log" 2>&1
	sync -f "$W/mnt"
}

# p99 of a transaction in ms, over a run of as many seconds at a fixed rate.
pgbench_p99() { # SECONDS
	echo "\$ pgbench -c 2 -j 1 -R 50 -T $1 -l bench" >&2
	(cd "$W/pgsock" && rm -f pgbench_log.* && as_postgres pgbench -h "$W/pgsock" -c 2 -j 1 -R 50 -T "$1" -l bench >>"$W/pgbench.log" 2>&1)
	cat "$W"/pgsock/pgbench_log.* | awk '{ print $3 }' | sort -n | awk '{ v[NR] = $1 } END { printf "%.1f", v[int(NR * 0.99)] / 1000 }'
}

cycles_sum() { # PROTECTION AFTER_LINE: dirty bytes, those of their blocks, wire bytes, cycles, and the mean age of a point at its commit in ms, from the agent's log
	tail -n +"$2" "$W/replicator.log" | grep "point committed protection=$1 " |
		awk '{ for (i = 1; i <= NF; i++) { split($i, kv, "="); v[kv[1]] = kv[2] }; d += v["dirty_bytes"]; b += v["read_bytes"]; w += v["wire_bytes"]; m += v["ms"]; p += v["precopies"]; n++ }
			END { printf "%d %d %d %d %d %d\n", d, b, w, n, n ? m / n : 0, p }'
}

row_6() {
	local line dirty blocks wire n age precopies
	truncate -s 2G "$W/db.raw"
	protect db "$W/db.raw" "${rpo}s" --codec auto
	database_start db
	kagami cycle db --wait >/dev/null
	line=$(($(wc -l <"$W/replicator.log") + 1))
	p99_db=$(pgbench_p99 "$seconds")
	kagami cycle db --wait >/dev/null
	read -r dirty blocks wire n age precopies < <(cycles_sum db "$line")
	row 6 "a database, pgbench for $seconds s, RPO $rpo s: $n cycles" "$wire bytes on the wire; points $age ms old at commit, $precopies pre-copies" "$dirty bytes of 4 KiB pieces dirtied, $blocks of the 64 KiB blocks around them" "$(per "$wire" "$dirty"), $(per "$wire" "$blocks") of the blocks" "≤ 0.5" \
		"$(met "$(per "$wire" "$dirty")" '<=' 0.5)"
}

row_7() {
	[ -n "${p99_db:-}" ] || row_6 >/dev/null
	local link_port link idle p99 used line dirty blocks wire n age precopies carried down busy bursts all opening
	# The database's site, reached over the link from here on.
	kagami pause db >/dev/null
	idle=$(pgbench_p99 "$((seconds / 2))")
	link_port=$(free_port)
	echo "\$ tools/slow_link.py $link_port $port 20 100" >&2
	/usr/bin/python3 "$tools/slow_link.py" "$link_port" "$port" 20 100 >"$W/link.out" 2>"$W/link.log" &
	link=$!
	pids+=("$link")
	sleep 0.5
	kagami pair dr "$(kagami pair-token --address "127.0.0.1:$link_port" --json | jq -r .token)" >/dev/null
	# What the guest wrote while it was paused goes first, behind the opening of the connection, which has nothing to send but questions: told apart.
	kagami resume db >/dev/null
	kagami cycle db --wait >/dev/null
	sleep 1
	kill -USR1 "$link"
	until_true "[ -s $W/link.out ]"
	read -r carried down busy bursts <"$W/link.out"
	opening="$carried bytes in $bursts ms, $(per "$busy" "$bursts") of the link"
	line=$(($(wc -l <"$W/replicator.log") + 1))
	p99=$(pgbench_p99 "$seconds")
	kagami cycle db --wait >/dev/null
	read -r dirty blocks wire n age precopies < <(cycles_sum db "$line")
	kill -TERM "$link"
	wait "$link" || true
	read -r carried down busy bursts < <(tail -n 1 "$W/link.out")
	# From the first byte of a cycle to its last it should be filled. With the wait for the commit, of which nothing is sent: `all`.
	used=$(per "$busy" "$bursts")
	all=$(tail -n +"$line" "$W/replicator.log" | grep "point committed protection=db " | awk -v bytes="$wire" '{ for (i = 1; i <= NF; i++) { split($i, kv, "="); v[kv[1]] = kv[2] }; s += v["cycle_ms"] }
		END { printf "%.2f", s ? bytes / (s / 1000 * 2500000) : 0 }')
	row 7 "the same over 20 Mbit/s and 100 ms: $n cycles" "$carried bytes; $used of the link from the first byte of each burst to its last, $all of the cycles' whole time with their commits; before, with the opening of the connection, $opening ($(of db .packing.codec) level $(of db .packing.level)); points $age ms old at commit, $precopies pre-copies; pgbench p99 $p99 ms" "not replicated: p99 $idle ms" \
		"$used, p99 $(per "$p99" "$idle")" "≥ 0.9, p99 unchanged" "$(met "$used" '>=' 0.9), $(met "$(per "$p99" "$idle")" '<=' 1.1)"
}

for command in kagami-replicator kagami-receiver zstd nbdcopy qemu-img jq openssl; do
	command -v "$command" >/dev/null || { echo "bench-sync: $command is not there: make, and tools/setup" >&2; exit 1; }
done
start_pair
begin=$(now)
for number in 1 2 3 4 5; do
	! wanted $number || row_$number
done
for number in 6 7; do
	if ! wanted $number; then
		continue
	elif [ "$(id -u)" != 0 ] || [ -z "$pg" ] || [ ! -e /dev/fuse ] || [ ! -e /dev/loop-control ]; then
		row $number "a database" "" "needs root, PostgreSQL, /dev/fuse and a loop device" "" "" "not measured"
	else
		row_$number
	fi
done
[ "${rows[0]}" = all ] || exit 0
# What is said by hand about the rows stays.
notes=$(sed -n '/^What each row does/,$p' "$table" 2>/dev/null || true)
{
	echo "# Benchmarks of the way between"
	echo
	echo "Written by \`tools/bench-sync.sh\` in $(since "$begin") s on $(date -u +%F), $(nproc) cores, Linux $(uname -r), load $(cut -d' ' -f1 /proc/loadavg) at its end."
	echo "Source and receiver on loopback of the same cores; sizes: $mb MiB of this machine's /usr, images of $image_mb MiB, database runs of $seconds s."
	echo "Its output names every command."
	echo
	echo "|   | work | kagami | against | ratio | bar |   |"
	echo "|---|---|---|---|---|---|---|"
	cat "$W/table.md"
	[ -z "$notes" ] || printf '\n%s\n' "$notes"
} >"$table.new"
mv "$table.new" "$table"
[ "$table" != "$PWD/docs/benchmarks-sync.md" ] || tools/bench-summary.sh
