#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The agent is killed again and again under guests that write and verify. QEMU waits for it (reconnect-delay) and sends again what
# was not answered: no guest sees an error, and none misses a byte (G4). Each restart re-examines the marked regions and
# no more (B5), and the point after it is the disk (B1).
#
# KILL_ROUNDS says how often: 3 unless it is set, `make test-kill` has 200.
. "$(dirname "$0")/lib.sh"
requires qemu-storage-daemon qemu-img fio nbdsh jq curl
/usr/bin/python3 -c 'import nbd' 2>/dev/null || skip "needs python3-libnbd"

rounds=${KILL_ROUNDS:-3}
region=$((4 << 20))

# The disks are large against what the guests write to, so that a sync which looks at all of one is seen. They are thin: beyond FROM each
# block has one page of data, and is read like a full one; what is nothing but a hole would not be.
thin_image() { # PATH FROM SIZE
	/usr/bin/python3 - "$@" <<-'END'
		import sys
		path, begin, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
		with open(path, "wb") as image:
		    image.truncate(size)
		    for at in range(begin, size, 1 << 16):
		        image.seek(at)
		        image.write(b"%15d\n" % at * 256)
	END
}

size_a=$((1 << 30)) size_b=$((512 << 20)) size_c=$size_b
export STAMP_SPAN=$((8 << 20))                   # of each of its disks
thin_image "$W/a.raw" 0 $size_a                  # QEMU's, with fio behind it
thin_image "$W/b.raw" "$STAMP_SPAN" $size_b      # the stamped writer's: two disks
thin_image "$W/c.raw" "$STAMP_SPAN" $size_c
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --points 3 >/dev/null
kagami protect vm2 vda="$W/b.raw" vdb="$W/c.raw" --to dr --rpo 1h --points 3 >/dev/null
wait_for 60 has_point vm1
wait_for 60 has_point vm2

# QEMU's block layer as a guest's machine has it: a client of ours that serves fio.
qemu-storage-daemon --blockdev "driver=nbd,node-name=d,export=vda,server.type=unix,server.path=$KAGAMI_RUN_DIR/nbd/vm1.sock,reconnect-delay=60" \
	--nbd-server addr.type=unix,addr.path="$R/q.sock" \
	--export type=nbd,id=e,node-name=d,name=vda,writable=on >"$W/qsd.log" 2>&1 &
qsd=$!
pids+=($qsd)
wait_for 10 test -S "$R/q.sock"

guest() { # NAME OFFSET: verifies everything it reads back, and goes on until it is stopped by a file
	local name=$1 offset=$2 n=0
	while [ ! -e "$W/stop" ]; do
		n=$((n + 1))
		(cd "$W" && fio --name="$name" --ioengine=nbd --uri="nbd+unix:///vda?socket=$R/q.sock" --rw=randwrite \
			--bs=4k --offset="$offset" --size=8M --io_size=8M --iodepth=16 --verify=crc32c --verify_fatal=1 \
			--verify_backlog=64 --fsync=128 --randseed=$n --output="$W/$name.out") || return 1
	done
	echo $n >"$W/$name.done"
}

start_writer() {
	"$e2e/stamp_writer.py" outlive "$W/acked" "$(uri vm2 vda)" "$(uri vm2 vdb)" >"$W/writer.log" 2>&1 &
	writer=$!
	pids+=("$writer")
}

acked() {
	sed 's/^0*\(.\)/\1/;q' "$W/acked"
}

more_than() { # STAMP
	[ "$(acked)" -gt "$1" ]
}

guests_alive() {
	kill -0 $qsd 2>/dev/null || fail "qemu-storage-daemon ended: $(cat "$W/qsd.log")"
	kill -0 $fio1 2>/dev/null || fail "fio saw an error: $(tail -n 5 "$W"/fio1*)"
	kill -0 $fio2 2>/dev/null || fail "fio saw an error: $(tail -n 5 "$W"/fio2*)"
	kill -0 "$writer" 2>/dev/null || fail "the stamped writer saw an error: $(cat "$W/writer.log")"
}

marked_bytes() { # NAME
	protection "$1" '[.disks[].marked_regions] | add // 0' | awk -v r=$region '{ printf "%d\n", $1 * r }'
}

# What the guests may write to between the look at the marks and the kill, and after it up to the cut, in whole regions.
reach_vm1=$(((8 + 8) << 20))   # two areas of 8 MiB that begin and end with a region
reach_vm2=$((2 * STAMP_SPAN))
passes_max=8 # of a cycle that was tried again nobody says how many it had (CYCLE_PASSES_MAX)

# Passes before the last one: what the guest writes meanwhile is looked at again, however slow this machine is.
precopies() { # NAME TRIES
	[ "$2" = 1 ] && protection "$1" .last_cycle.precopies || echo "$passes_max"
}

# A bound that all of the disks could stay under would say nothing: it is less than half of them.
examined_at_most() { # NAME MARKED SINCE REACH DISKS (bytes): the sync that the restart made
	local sync tries bound
	sync=$(at_source GET "/v1/protections/$1/syncs" | jq -c '.syncs[0]')
	jq -e --arg since "$3" '.began > $since and .reason == "unclean-stop" and .outcome == "committed"' <<<"$sync" >/dev/null ||
		fail "after a kill the newest sync of $1 is $sync"
	tries=$(jq .tries <<<"$sync")
	bound=$((($2 + $4 * $(precopies "$1" "$tries")) * tries))
	at_most "the bound for $1, of $5 bytes, with $tries tries," $bound $(($5 / 2 - 1))
	at_most "bytes of $1 that the sync after a kill re-examined" "$(jq .read_bytes <<<"$sync")" $bound
}

check_stamps() { # POINT LEAST
	local disk
	for disk in vda vdb; do
		look qemu-img convert -O raw --image-opts \
			"driver=raw,size=$STAMP_SPAN,file.driver=qcow2,file.file.filename=$(point_disk vm2 "$1" "$disk")" "$W/$disk.point"
	done
	"$e2e/stamp_writer.py" check "$2" "$W/vda.point" "$W/vdb.point" >/dev/null || fail "point $1 is not the disks at one instant"
}

# Everything is in a point: nothing is marked by what went before, but what stays marked for being hot.
cycle vm1 >/dev/null
cycle vm2 >/dev/null
echo 0 >"$W/acked"
guest fio1 $((16 << 20)) >"$W/fio1.log" 2>&1 &
fio1=$!
guest fio2 $((128 << 20)) >"$W/fio2.log" 2>&1 &
fio2=$!
pids+=($fio1 $fio2)
start_writer
wait_for 10 more_than 50

for ((round = 1; round <= rounds; round++)); do
	sleep 0.$((RANDOM % 900 + 100))
	if [ $((round % 2)) = 0 ]; then # with a cycle under way
		at_source POST /v1/protections/vm1/cycle >/dev/null
		at_source POST /v1/protections/vm2/cycle >/dev/null
	fi
	marked1=$(($(marked_bytes vm1) + reach_vm1))
	marked2=$(($(marked_bytes vm2) + reach_vm2))
	before=$(acked)
	kill_replicator
	killed=$(date -u +%FT%T.%3NZ)
	sleep 0.$((RANDOM % 500 + 100))
	start_replicator
	wait_for 30 more_than "$before"
	guests_alive
	wait_for 30 connected vm1
	wait_for 30 connected vm2
	least=$(acked)
	cycle vm1 >/dev/null
	examined_at_most vm1 "$marked1" "$killed" $reach_vm1 $size_a
	n=$(cycle vm2)
	examined_at_most vm2 "$marked2" "$killed" $reach_vm2 $((size_b + size_c))
	check_stamps "$n" "$least"
	guests_alive
done

touch "$W/stop"
kill "$writer"
wait "$writer" || fail "the stamped writer saw an error: $(cat "$W/writer.log")"
wait $fio1 || fail "fio saw an error: $(tail -n 5 "$W/fio1.log" "$W/fio1.out")"
wait $fio2 || fail "fio saw an error: $(tail -n 5 "$W/fio2.log" "$W/fio2.out")"
at_least "runs of fio" "$(cat "$W/fio1.done")" 1
! grep -qiE 'error|fail' "$W/qsd.log" || fail "qemu-storage-daemon: $(cat "$W/qsd.log")"

kill $qsd # while there is somebody for it to take leave of
wait $qsd 2>/dev/null || true

# At rest: the disks equal the points, and the points what the guests wrote.
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
n=$(cycle vm2)
point_equals vm2 "$n" vda "$W/b.raw"
point_equals vm2 "$n" vdb "$W/c.raw"
check_stamps "$n" "$(acked)"
is "errors of the disks" "$(protection vm1 .disks[0].error)$(protection vm2 '[.disks[].error] | join("")')" ''
stop_replicator
stop_receiver
