#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The store's part of `make bench`: what points cost the target, as ratios within one run on one file system.
#
#	commit		into the store, against `dd conv=fsync` and `dd oflag=dsync` on the same file system
#	fold		of points into the base, against `qemu-img commit` of the same overlays
#	merge		of points in the middle into the one above them, against `qemu-img rebase` of that one past them
#	at once		mount and failover of the newest of 1, 24 and 200 points, against `qemu-img convert` of it; and a scrub and a plan of them
#	chains		opening and first read, and 500 random reads, through 1, 24 and 200 overlays
#	load		200 protections connected, 50 active, over TLS (kagami-load)
#
# Stores are made by tests/bench/bench_store.c. What is compared takes turns, and medians count. Prints a table, and writes it with its commands
# to BENCH_STORE_TABLE (docs/benchmarks-store.md). BENCH_PARTS of it ("commits folds merges 1 24 200 load"; besides: depth), BENCH_ROUNDS (5), BENCH_MB (128) of a commit or fold, BENCH_CYCLES (60) of the load,
# BENCH_DIR (/var/tmp). About three minutes; mounting needs root and is left out without.
set -euo pipefail
cd "$(dirname "$0")/.."
build=$(realpath -m "${BUILD:-build}")
export PATH=$build/bin:$build/tests/bench:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
rounds=${BENCH_ROUNDS:-5} mib=${BENCH_MB:-128} cycles=${BENCH_CYCLES:-60}
table=$(realpath -m "${BENCH_STORE_TABLE:-docs/benchmarks-store.md}")
W=$(mktemp -d "${BENCH_DIR:-/var/tmp}/kagami-bench.XXXXXX")
export KAGAMI_RUN_DIR=$W/run
receiver=
mounted=
unfair=0
finish() {
	local status=$?
	trap - EXIT
	set +e # whatever has gone already, all is taken away, and the status is that of the work
	[ -z "$mounted" ] || kagami umount "$mounted" >/dev/null 2>&1
	[ -z "$receiver" ] || { kill "$receiver"; wait "$receiver"; } 2>/dev/null
	[ $status = 0 ] || tail -n 5 "$W"/*.log >&2
	rm -rf --one-file-system "$W"
	exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

line() { # FORMAT ARGUMENTS: a line of the table
	# shellcheck disable=SC2059 # a format it is
	printf "$@" | tee -a "$W/table.md"
}

median() { # of a column of the lines on standard input
	sort -n -k "$1,$1" | awk -v c="$1" '{ v[NR] = $c } END { print v[int((NR + 1) / 2)] }'
}

seconds_of() { # COMMAND...: how long it takes
	local began=$EPOCHREALTIME end
	"$@" >"$W/command.out" 2>&1 || { cat "$W/command.out" >&2; return 1; }
	end=$EPOCHREALTIME
	awk -v a="$began" -v b="$end" 'BEGIN { printf "%.4f\n", b - a }'
}

calc() { # FORMAT EXPRESSION
	awk "BEGIN { printf \"$1\", $2 }"
}

row() { # WHAT KAGAMI OTHER RATIO
	line '| %-62s | %8s | %27s | %6s |\n' "$@"
}

# ---- commit and fold

commits() {
	local n blocks=$((mib * 16)) stored other small
	for ((n = 0; n < rounds; n++)); do
		mkdir "$W/store"
		bench_store make "$W/store" 1 $blocks $((mib << 22)) >>"$W/commit.large"
		stored=$(stat -c %s "$W/store/vm1/points/1/vda.qcow2")
		seconds_of dd if="$W/random" of="$W/dd" bs=1M count=$((stored >> 20)) conv=fsync status=none >>"$W/dd.large"
		rm -rf "$W/store" "$W/dd"
		mkdir "$W/store"
		bench_store make "$W/store" 50 1 $((64 << 20)) >>"$W/commit.small"
		seconds_of dd if="$W/random" of="$W/dd" bs=64k count=50 oflag=dsync status=none >>"$W/dd.small"
		rm -rf "$W/store" "$W/dd"
	done
	large=$(median 1 <"$W/commit.large") other=$(median 1 <"$W/dd.large")
	row "commit of $mib MiB, $((stored >> 20)) MiB stored: stored MiB/s" "$(calc %.0f "$stored / 1048576 / $large")" \
		"dd conv=fsync: $(calc %.0f "$stored / 1048576 / $other")" "$(calc %.2f "$other / $large")"
	row "the same: MiB/s of the disk; each block is unpacked and proven" "$(calc %.0f "$mib / $large")" "" ""
	small=$(median 1 <"$W/commit.small") other=$(median 1 <"$W/dd.small")
	row "commits of one block a second" "$(calc %.0f "50 / $small")" "dd oflag=dsync: $(calc %.0f "50 / $other")" "$(calc %.2f "$other / $small")"
}

qemu_commit() { # a chain of 5: the 4 oldest, one after another, as a fold does
	local n
	for n in 1 2 3 4; do
		qemu-img commit -q -f qcow2 "$1/vm1/points/$n/vda.qcow2" || return
		qemu-img rebase -q -u -f qcow2 -F raw -b ../../base/vda.raw "$1/vm1/points/$((n + 1))/vda.qcow2" || return
	done
	sync -f "$1"
}

folds() {
	local n ours theirs
	for ((n = 0; n < rounds; n++)); do
		mkdir "$W/store"
		bench_store make "$W/store" 5 $((mib * 4)) $((mib << 22)) >/dev/null
		cp -a "$W/store" "$W/other"
		sync -f "$W"
		if ((n % 2)); then
			seconds_of qemu_commit "$W/other" >>"$W/fold.theirs"
			bench_store fold "$W/store" >>"$W/fold.ours"
		else
			bench_store fold "$W/store" >>"$W/fold.ours"
			seconds_of qemu_commit "$W/other" >>"$W/fold.theirs"
		fi
		cmp "$W/store/vm1/base/vda.raw" "$W/other/vm1/base/vda.raw" || { echo "bench: the two bases differ" >&2; exit 1; }
		rm -rf "$W/store" "$W/other"
	done
	ours=$(median 1 <"$W/fold.ours") theirs=$(median 1 <"$W/fold.theirs")
	row "fold of 4 points of $((mib / 4)) MiB each, with digests: MiB/s" "$(calc %.0f "$mib / $ours")" "qemu-img commit: $(calc %.0f "$mib / $theirs")" \
		"$(calc %.2f "$theirs / $ours")"
}

qemu_rebase() { # a chain of 5: the newest on the oldest; what lies between goes
	qemu-img rebase -q -f qcow2 -F qcow2 -b ../1/vda.qcow2 "$1/vm1/points/5/vda.qcow2" || return
	rm -r "$1"/vm1/points/[234]
	sync -f "$1"
}

merges() {
	local n ours theirs
	for ((n = 0; n < rounds; n++)); do
		mkdir "$W/store"
		bench_store make "$W/store" 5 $((mib * 4)) $((mib << 22)) >/dev/null
		cp -a "$W/store" "$W/other"
		sync -f "$W"
		if ((n % 2)); then
			seconds_of qemu_rebase "$W/other" >>"$W/merge.theirs"
			bench_store merge "$W/store" >>"$W/merge.ours"
		else
			bench_store merge "$W/store" >>"$W/merge.ours"
			seconds_of qemu_rebase "$W/other" >>"$W/merge.theirs"
		fi
		[ "$(echo "$W"/store/vm1/points/*)" = "$W/store/vm1/points/1 $W/store/vm1/points/5" ] || { echo "bench: that was no merge" >&2; exit 1; }
		qemu-img compare -q -f qcow2 -F qcow2 "$W/store/vm1/points/5/vda.qcow2" "$W/other/vm1/points/5/vda.qcow2" ||
			{ echo "bench: the two points differ" >&2; exit 1; }
		merged_bytes=$(stat -c %s "$W/store/vm1/points/5/vda.qcow2") rebased_bytes=$(stat -c %s "$W/other/vm1/points/5/vda.qcow2")
		rm -rf "$W/store" "$W/other"
	done
	ours=$(median 1 <"$W/merge.ours") theirs=$(median 1 <"$W/merge.theirs")
	row "merge of 3 points of $((mib / 4)) MiB each into the next: MiB/s" "$(calc %.0f "$mib * 3 / 4 / $ours")" 		"qemu-img rebase: $(calc %.0f "$mib * 3 / 4 / $theirs")" "$(calc %.2f "$theirs / $ours")"
	row "the same: MiB that the point takes then" "$(calc %.0f "$merged_bytes / 1048576")" "qemu-img rebase: $(calc %.0f "$rebased_bytes / 1048576")" 		"$(calc %.2f "$rebased_bytes / $merged_bytes")"
}

# ---- mount, failover, chains

receiver_start() { # STORE
	local n
	kagami-receiver --run-dir "$KAGAMI_RUN_DIR" --store "$1" --listen 127.0.0.1:0 2>"$W/receiver.log" &
	receiver=$!
	for ((n = 0; n < 200; n++)); do
		kagami status >/dev/null 2>&1 && return
		sleep 0.05
	done
	return 1
}

receiver_stop() {
	kill "$receiver"
	wait "$receiver" || true
	receiver=
}

random_reads() { # QCOW2 SIZE
	awk -v size="$2" 'BEGIN { srand(1); for (i = 0; i < 500; i++) printf "read -q %d 4k\n", int(rand() * size / 4096) * 4096 }' >"$W/reads"
	qemu-io -r -f qcow2 "$1" <"$W/reads"
}

at_once() { # POINTS
	local n disk=$((256 << 20)) newest mounts='' failovers first reads convert
	rm -f "$W"/once.*
	mkdir "$W/store"
	bench_store make "$W/store" "$1" 16 $disk "$W/image" >/dev/null
	newest=$W/store/vm1/points/$1/vda.qcow2
	for ((n = 0; n < rounds; n++)); do
		seconds_of qemu-io -r -f qcow2 -c "read -q $((disk - 65536)) 4k" "$newest" >>"$W/once.first"
		seconds_of random_reads "$newest" $disk >>"$W/once.reads"
		seconds_of qemu-img convert -f qcow2 -O raw "$newest" "$W/converted" >>"$W/once.convert"
		rm -f "$W/converted"
		cp -a "$W/store" "$W/copy" # a failover is for ever: each has a store of its own
		receiver_start "$W/copy"
		if [ "$(id -u)" = 0 ]; then
			mkdir -p "$W/mnt"
			mounted=$W/mnt
			seconds_of kagami mount vm1 "$W/mnt" >>"$W/once.mount"
			[ -e "$W/mnt/file" ] || { echo "bench: the mount does not show its file" >&2; exit 1; }
			kagami umount "$W/mnt" >/dev/null
			mounted=
		fi
		seconds_of kagami plan retention vm1 --points 10 --floor none >>"$W/once.plan"
		kagami scrub vm1 --rate 1T --wait --json >"$W/scrub.json"
		calc '%.3f\n' "$(date -d "$(jq -r .vm1.last.ended "$W/scrub.json")" +%s.%N) - $(date -d "$(jq -r .vm1.last.began "$W/scrub.json")" +%s.%N)" >>"$W/once.scrub"
		proven=$(jq -r 'if .vm1.last.mismatches == 0 then .vm1.last.proven_blocks else error("mismatches") end' "$W/scrub.json")
		seconds_of kagami failover vm1 --yes >>"$W/once.failover"
		qemu-img compare -q -f qcow2 -F qcow2 "$W/copy/vm1/failover/vda.qcow2" "$W/copy/vm1/points/$1/vda.qcow2"
		receiver_stop
		rm -rf "$W/copy"
	done
	rm -rf "$W/store"
	[ ! -e "$W/once.mount" ] || mounts=$(calc '%.0f ms' "1000 * $(median 1 <"$W/once.mount")")
	failovers=$(median 1 <"$W/once.failover") first=$(median 1 <"$W/once.first") reads=$(median 1 <"$W/once.reads") convert=$(median 1 <"$W/once.convert")
	row "failover to the newest of $1 points, by the command line" "$(calc '%.0f ms' "1000 * $failovers")" \
		"qemu-img convert: $(calc '%.0f ms' "1000 * $convert")" "$(calc %.1f "$convert / $failovers")"
	row "mount of the newest of $1 points (ext4)" "$mounts" "" ""
	scrub=$(median 1 <"$W/once.scrub")
	row "scrub of every version that $1 points show, $proven blocks: MiB/s" "$(calc %.0f "$proven / 16 / $scrub")" "$(calc '%.2f s' "$scrub")" ""
	row "plan retention, $1 points to 10, by the command line" "$(calc '%.0f ms' "1000 * $(median 1 <"$W/once.plan")")" "" ""
	row "qemu-io through $1 overlays: start, open and first read" "$(calc '%.0f ms' "1000 * $first")" "500 random reads: $(calc '%.0f ms' "1000 * $reads")" ""
}

# ---- many sessions

# How deep a chain may be (store.md): the best of three, in s and MiB.
best() { # COMMAND...
	local n
	for ((n = 0; n < 3; n++)); do
		/usr/bin/time -f '%e %M' "$@" 2>&1 >/dev/null | tail -n 1
	done | sort -n | head -n 1 | awk '{ printf "%.2f s, %d MiB", $1, $2 / 1024 }'
}

depth() {
	local n disk i reads=()
	for ((i = 0; i < 256; i++)); do
		reads+=(-c "read $((i << 22)) 4096")
	done
	ulimit -n "$(ulimit -Hn)"
	for n in 50 100 150 200 250 400; do
		mkdir "$W/store"
		bench_store make "$W/store" $n 16 $((1 << 30)) >/dev/null
		disk=$W/store/vm1/points/$n/vda.qcow2
		row "qemu-io -r of a chain of $n: open" "" "$(best qemu-io -r -f qcow2 -c quit "$disk")" ""
		row "the same, and 256 reads of 4 KiB all over the disk" "" "$(best qemu-io -r -f qcow2 "${reads[@]}" "$disk")" ""
		rm -rf "$W/store"
	done
}

load() {
	local token
	mkdir "$W/store" "$W/keys"
	receiver_start "$W/store"
	token=$(kagami pair-token --json | jq -r .token)
	line '\n## Many sessions\n\n    kagami-load --token TOKEN --keys DIR --pid PID --protections 200 --active 50 --cycles %d --blocks 16 --fair 200\n\n' "$cycles"
	kagami-load --token "$token" --keys "$W/keys" --pid "$receiver" --protections 200 --active 50 --cycles "$cycles" --blocks 16 --fair 200 > >(tee -a "$W/table.md") || unfair=$?
	wait $!
	receiver_stop
	rm -rf "$W/store"
}

intro() {
	cat <<-END
	# Benchmarks of the store

	Written by \`tools/bench-store.sh\`, the end of \`make bench\` (medians of $rounds rounds), on $(date +%F), $(nproc) cores, Linux $(uname -r),
	$(df --output=fstype "$W" | tail -n 1) on $(df --output=source "$W" | tail -n 1 | sed 's|/dev/||'), load $(cut -d' ' -f1-3 /proc/loadavg) (1, 5, 15 minutes) at its start, $(qemu-img --version | head -n 1 | sed 's/qemu-img version \([0-9.]*\).*/QEMU \1/').
	A ratio above 1 is in our favour.

	    bench_store make STORE POINTS BLOCKS SIZE       commits as a session makes them, without network and packing (tests/bench)
	    dd bs=1M conv=fsync    dd bs=64k count=50 oflag=dsync    (of random data from the page cache)
	    bench_store fold STORE
	    qemu-img commit -f qcow2 OVERLAY; qemu-img rebase -u ...   (four times), sync -f
	    bench_store merge STORE
	    qemu-img rebase -f qcow2 -F qcow2 -b ../1/vda.qcow2 points/5/vda.qcow2; rm -r points/[234]; sync -f
	    kagami scrub vm1 --rate 1T --wait    kagami plan retention vm1 --points 10 --floor none
	    kagami failover vm1 --yes    kagami mount vm1 DIR    qemu-img convert -f qcow2 -O raw OVERLAY FILE
	    qemu-io -r -f qcow2 OVERLAY  (one read of 4 KiB; 500 at random)

	END
}

head -c "${mib}M" /dev/urandom >"$W/random"
truncate -s 64M "$W/image"
mkfs.ext4 -q "$W/image"
echo 'write /dev/stdin file' | sed "s|/dev/stdin|$0|" | debugfs -w "$W/image" >/dev/null 2>&1
intro >"$W/table.md"
row what kagami against ratio
line '|---|---|---|---|\n'
for part in ${BENCH_PARTS:-commits folds merges 1 24 200 load}; do # a number: at_once of so many points
	case $part in [0-9]*) at_once "$part" ;; *) "$part" ;; esac
done
cat >>"$W/table.md" <<-END

	## What it says

	- A commit costs about ten syncs (each file, then each directory: store.md, "Commit"), so single small commits are a tenth of what single synced writes are;
	  sessions at the same time share them, as "equal" shows.
	- A large commit is slower than \`dd\` because each block that came packed is unpacked to prove its digest before it is stored. That is one core's work
	  for each session.
	- A merge copies packed clusters as they are; \`qemu-img rebase\` unpacks them and writes them plain.
	- Failover does not depend on the size of the disk, and hardly on the number of points. Mounting and reading depend on the depth of the chain, which retention
	  keeps at 200 at most (store.md, "Retention"). All of the point is proven beside that; the command looks for up to 0.12 s how far it is.
	- "No session delays another more than 2 times": both shares above, in one run with 50 of 200 active, are to stay below 2; else \`make bench\` fails (\`--fair 200\`).
	END
cp "$W/table.md" "$table"
exit "$unfair"
