# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts of tests/e2e share. A script starts with
#
#	. "$(dirname "$0")/lib.sh"
#
# and then has a work directory $W of its own, which ends with it together with every process it started through here.
# Exit status: 0 passed, 77 skipped, anything else failed; then the last lines of the daemons' logs are printed.
set -Eeuo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath -m "${BUILD:-$root/build}")
export PATH=$build/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
e2e=$root/tests/e2e

W=$(mktemp -d "${TMPDIR:-/tmp}/k.XXXXXX")
# Run directories are in memory, as /run is: notes of images are kept there alone.
if [ "$(stat -f -c %T /dev/shm 2>/dev/null)" = tmpfs ]; then
	R=$(mktemp -d /dev/shm/k.XXXXXX)
else
	R=$(mktemp -d /tmp/k.XXXXXX)
fi
export KAGAMI_RUN_DIR=$R/run
pids=()
undo=() # commands run at the end, the last one first

fail() {
	trap - ERR
	echo "FAILED: $*" >&2
	exit 1
}

skip() {
	trap - ERR
	echo "$*" >&2
	exit 77
}

requires() { # COMMAND...
	local command
	for command; do
		command -v "$command" >/dev/null || skip "needs $command; to install it: sudo tools/setup"
	done
}

requires_root() {
	[ "$(id -u)" = 0 ] || skip "needs root"
}

at_end() { # COMMAND
	undo+=("$1")
}

finish() {
	local status=$? i
	trap - EXIT
	set +e
	for ((i = ${#undo[@]} - 1; i >= 0; i--)); do
		eval "${undo[i]}" >/dev/null 2>&1
	done
	for i in "${pids[@]}"; do
		kill "$i" 2>/dev/null
	done
	for i in "${pids[@]}"; do
		for _ in {1..50}; do
			kill -0 "$i" 2>/dev/null || break
			sleep 0.1
		done
		kill -9 "$i" 2>/dev/null
	done
	wait 2>/dev/null
	if [ $status = 0 ] && grep -sE 'ERROR: (Address|Leak)Sanitizer|runtime error:' "$W"/*.log; then
		status=99
	fi
	if [ $status != 0 ] && [ $status != 77 ]; then
		for i in "$W"/*.log; do
			[ -s "$i" ] && echo "--- ${i##*/}" && tail -n 25 "$i"
		done >&2
	fi
	rm -rf --one-file-system "$W" "$R"
	exit $status
}
trap finish EXIT
trap 'exit 143' TERM INT
trap 'echo "$(basename "$0"): line $LINENO: $BASH_COMMAND: status $?" >&2' ERR

# --- waiting and comparing ---

wait_for() { # SECONDS COMMAND...
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || fail "not within the time given: $*"
		sleep 0.1
	done
}

is() { # WHAT GOT WANTED
	[ "$2" = "$3" ] || fail "$1 is '$2', expected '$3'"
}

at_most() { # WHAT GOT BOUND
	[ "$2" -le "$3" ] || fail "$1 is $2, expected at most $3"
}

at_least() { # WHAT GOT BOUND
	[ "$2" -ge "$3" ] || fail "$1 is $2, expected at least $3"
}

# Runs a command that must fail with one line on standard error that holds TEXT (an extended regular expression); how a
# command is used may follow it.
refuses() { # TEXT COMMAND...
	local text=$1 status=0
	shift
	"$@" >"$W/out" 2>"$W/err" </dev/null || status=$?
	[ $status != 0 ] || fail "this should not have worked: $* ($(cat "$W/out"))"
	[ $status -lt 99 ] || fail "this crashed or was killed (status $status): $* ($(cat "$W/err"))"
	is "number of lines of the error of: $*: $(cat "$W/err")" "$(grep -cvE '^(usage:|  )' "$W/err")" 1
	grep -qiE -- "$text" "$W/err" || fail "the error of: $*: says '$(cat "$W/err")', expected '$text'"
}

# --- a file system that stops to answer

mount_freezable() { # DIRECTORY SIZE (of its file system, as truncate takes it)
	requires fsfreeze
	requires_root
	truncate -s "$2" "$1.img"
	mkfs.ext4 -q -F "$1.img" 2>/dev/null || skip "needs mkfs.ext4"
	mount -t ext4 -o loop "$1.img" "$1" 2>/dev/null || skip "cannot mount a loop device here"
	at_end "umount -l '$1'"
	at_end "fsfreeze -u '$1'"
}

# A disk over it: while the first is frozen, the file system of the second is not, but what that writes does not come back.
mount_over_freezable() { # DIRECTORY DISK [SIZE TYPE]
	local type=${4:-ext4} quiet=-q
	[ "$type" = xfs ] || quiet+=F
	truncate -s "${3:-128M}" "$1/fs.img"
	"mkfs.$type" $quiet "$1/fs.img" || skip "needs mkfs.$type"
	mount -t "$type" -o loop "$1/fs.img" "$2" 2>/dev/null || skip "cannot mount a loop device here"
	at_end "umount -l '$2'"
	at_end "fsfreeze -u '$1'" # once more: the first to be undone
}

# vm1: vda on $W/slow, whose storage is $W/storage, and vdb elsewhere.
protect_beside_freezable() { # [SIZE TYPE] (of the file system that the image lies on)
	mkdir "$W/storage" "$W/slow"
	mount_freezable "$W/storage" 512M
	mount_over_freezable "$W/storage" "$W/slow" "$@"
	new_image "$W/slow/a.raw" $((64 << 20))
	new_image "$W/b.raw" $((32 << 20)) 2
	start_pair
	kagami protect vm1 vda="$W/slow/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
	wait_for 30 has_point vm1
}

# A TRIM of that vda between 16 and 24 MiB, from here on: its pages are on their way to the storage, and it waits for that.
let_trim_hang() {
	nbdsh -u "$(uri vm1 vda)" -c 'for i in range(8): h.pwrite(b"\x71" * (1 << 20), (16 + i) << 20)' # and no flush
	freeze "$W/storage"
	python3 -c 'import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
ctypes.CDLL(None).sync_file_range(fd, ctypes.c_long(16 << 20), ctypes.c_long(8 << 20), 2)' "$W/slow/a.raw" &
	pids+=($!)
	sleep 1
}

freeze() { # DIRECTORY
	fsfreeze -f "$1" || skip "this kernel cannot freeze a file system for a test"
	(sleep 150 && fsfreeze -u "$1") >/dev/null 2>&1 & # whatever happens here
	thaw=$!
	pids+=($thaw)
}

unfreeze() { # DIRECTORY
	fsfreeze -u "$1"
	kill $thaw
}

# A disk that is slow from when slow_down says how much, in bits a second, on.
mount_slow() { # DIRECTORY SIZE
	requires nbdkit nbdfuse losetup mkfs.ext4 fusermount3
	requires_root
	[ -c /dev/fuse ] || skip "needs /dev/fuse"
	touch "$1.disk" "$1.rate"
	rm -f "$1.sock"
	nbdkit -f -U "$1.sock" --filter=rate memory "$2" rate-file="$1.rate" >"$1.nbdkit.log" 2>&1 &
	pids+=($!)
	wait_for 10 test -S "$1.sock"
	nbdfuse "$1.disk" --unix "$1.sock" >"$1.nbdfuse.log" 2>&1 &
	pids+=($!)
	at_end "umount -l '$1.disk'"
	wait_for 10 test -s "$1.disk"
	local device
	device=$(losetup --show -f "$1.disk" 2>/dev/null) || skip "cannot make a loop device here"
	at_end "losetup -d '$device'"
	mkfs.ext4 -q -F -E lazy_itable_init=0,nodiscard "$device"
	mount -t ext4 "$device" "$1" || skip "cannot mount a loop device here"
	at_end "umount -l '$1'"
	at_end "slow_down '$1' 1000M"
}
slow_down() { # DIRECTORY RATE
	echo "$2" >"$1.rate"
}

# A file that hangs, to be opened as well as to be read, while $server is stopped by kill -STOP.
mount_hangable() { # FILE SIZE
	requires qemu-storage-daemon fusermount3
	requires_root
	[ -c /dev/fuse ] || skip "needs /dev/fuse"
	new_image "$1.backing" "$2"
	touch "$1"
	qemu-storage-daemon --blockdev driver=file,node-name=f,filename="$1.backing" \
		--export type=fuse,id=e,node-name=f,mountpoint="$1",writable=on,growable=off >"$W/qsd.log" 2>&1 &
	server=$!
	pids+=($server)
	at_end "umount -l '$1'"
	at_end "kill -CONT $server"
	hangable="$1 $2"
	wait_for 20 hangable_or_gone
	is_hangable || skip "no file of qemu-storage-daemon by FUSE here: $(cat "$W/qsd.log")"
}

is_hangable() { [ "$(stat -c '%n %s' "${hangable% *}")" = "$hangable" ]; }
hangable_or_gone() { is_hangable || ! kill -0 $server 2>/dev/null; }

# --- daemons: start_X, stop_X (asks, and expects a clean exit), kill_X (kill -9) ---

free_port() {
	/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

PORT=$(free_port)
STORE=$W/store
STATE=$W/state
mkdir -p "$STORE" "$STATE"

answers() { # SOCKET
	"$build/tests/ask" "$KAGAMI_RUN_DIR/$1" /v1/version .version 5 >/dev/null 2>&1
}

start_daemon() { # VARIABLE SOCKET PROGRAM ARGUMENT...
	local variable=$1 socket=$2 program=$3 n
	shift 3
	"$program" --run-dir "$KAGAMI_RUN_DIR" "$@" >>"$W/$program.log" 2>&1 </dev/null &
	printf -v "$variable" %s $!
	pids+=($!)
	for ((n = 0; n < 200; n++)); do
		answers "$socket" && return 0
		kill -0 "${!variable}" 2>/dev/null || fail "$program did not start: $(tail -n 1 "$W/$program.log")"
		sleep 0.05
	done
	fail "$program does not answer"
}

start_receiver() { # ARGUMENT...
	start_daemon RECEIVER receiver.sock kagami-receiver --store "$STORE" --listen "127.0.0.1:$PORT" "$@"
}

start_replicator() { # ARGUMENT...
	start_daemon REPLICATOR replicator.sock kagami-replicator --state "$STATE" "$@"
}

stop_daemon() { # PID NAME
	local status=0
	kill "$1"
	wait "$1" || status=$?
	is "exit status of $2 when asked to stop" $status 0
}

stop_receiver() { stop_daemon "$RECEIVER" kagami-receiver; }
stop_replicator() { stop_daemon "$REPLICATOR" kagami-replicator; }

kill_daemon() { # PID
	kill -9 "$1"
	wait "$1" 2>/dev/null || true
}

kill_receiver() { kill_daemon "$RECEIVER"; }
kill_replicator() { kill_daemon "$REPLICATOR"; }

daemons_alive() {
	kill -0 "$REPLICATOR" && answers replicator.sock || fail "kagami-replicator is gone"
	kill -0 "$RECEIVER" && answers receiver.sock || fail "kagami-receiver is gone"
}

# Both daemons, paired: the receiver is the site "dr".
start_pair() {
	start_receiver
	start_replicator
	kagami pair dr "$(new_token)" >/dev/null
}

new_token() { # [ADDRESS] by which the source reaches the receiver
	at_target POST /v1/pair-tokens "$(jq -n --arg a "${1:-}" 'if $a == "" then {} else {address: $a} end')" | jq -r .token
}

# Sets $device to a loop device over FILE, which is detached at the end.
loop_device() { # FILE
	losetup -f >/dev/null 2>&1 || skip "needs a free loop device"
	device=$(losetup --show -f "$1") || skip "needs a free loop device"
	at_end "losetup -d $device"
}

# --- the control API ---

api() { # SOCKET METHOD PATH [BODY]
	local options=(-s --max-time 60 --unix-socket "$KAGAMI_RUN_DIR/$1" -X "$2")
	[ -z "${4:-}" ] || options+=(-H 'Content-Type: application/json' -d "$4")
	curl "${options[@]}" --fail-with-body "http://localhost$3"
}

# The same of a GET, and of its answer what FILTER says, as jq -r prints it: by a program that starts quickly, as far as it knows the filter.
value_of() { # SOCKET PATH FILTER
	local status=0
	"$build/tests/ask" "$KAGAMI_RUN_DIR/$1" "$2" "$3" || status=$?
	[ $status = 3 ] || return $status
	api "$1" GET "$2" | jq -r "$3"
}

at_source() { api replicator.sock "$@"; } # METHOD PATH [BODY]
at_target() { api receiver.sock "$@"; }

protection() { # NAME FILTER: from the source's view
	value_of replicator.sock "/v1/protections/$1" "$2"
}

replica() { # NAME FILTER: from the target's view
	value_of receiver.sock "/v1/protections/$1" "$2"
}

points() { # NAME: their numbers, oldest first
	value_of receiver.sock "/v1/protections/$1/points" '.points[].point'
}

newest_point() { # NAME
	local all
	all=$(points "$1") || return
	echo "${all##*$'\n'}"
}

point_disk() { # NAME POINT DISK: the path of the qcow2
	at_target GET "/v1/protections/$1/points" |
		jq -er --argjson n "$2" --arg d "$3" '.points[] | select(.point == $n) | .disks[] | select(.name == $d) | .path'
}

uri() { # NAME DISK
	protection "$1" ".disks[] | select(.name == \"$2\") | .uri"
}

connected() { # NAME
	[ "$(protection "$1" .connected)" = true ]
}

has_point() { # NAME
	[ -n "$(points "$1" 2>/dev/null)" ]
}

# A point of now, over all disks; prints its number.
cycle() { # NAME
	kagami cycle "$1" --wait >"$W/cycle.out" 2>&1 || fail "kagami cycle $1 --wait: $(cat "$W/cycle.out")"
	newest_point "$1"
}

# The file of a daemon that has seen much: more events than one answer of the API has.
many_events() { # PATH
	jq -nc 'range(1; 3001) | {id: ., when: "2026-01-31T12:00:00.000Z", when_ns: 1769860800000000000, class: "daemon", severity: "info", protection: null,
		text: "event of before \(.)", data: {}}' >"$1"
}

# --- an image that somebody changes while nobody serves it ---

rest_says() { # PROTECTION DISK STATE: what the note of its image says; 1: nothing was written since it was made
	[ "$(od -An -tu4 -j 16 -N 4 "$KAGAMI_RUN_DIR/rest/$1:$2" | tr -d ' ')" = "$3" ]
}

# The agent of vm1, whose disk vda is $image, is ended at rest by $ends, $before_death having been done; COMMAND is done before it starts again. The sync that
# follows has REASON, and its point is the disk.
before_death=true ends=kill_replicator
after_death() { # REASON WHAT COMMAND
	local n
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 9M 64k"
	cycle vm1 >/dev/null
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 20M 64k"
	wait_for 10 rest_says vm1 vda 1
	eval "$before_death"
	"$ends"
	eval "$3"
	start_replicator
	wait_for 15 connected vm1
	n=$(cycle vm1)
	is "reason of the sync after: $2" "$(at_source GET /v1/protections/vm1/syncs | jq -r '.syncs[0].reason')" "$1"
	point_equals vm1 "$n" vda "$image"
}

# --- images ---

# A raw image with content that compresses like real files do, holes, and the same on every run.
new_image() { # PATH SIZE (in bytes) [SEED]
	truncate -s "$2" "$1"
	"$e2e/fill_image.py" "$1" "${3:-1}"
}

nbd_io() { # NAME DISK QEMU-IO-COMMAND...: as a guest writes
	local where arguments=() command
	where=$(uri "$1" "$2")
	shift 2
	for command; do
		arguments+=(-c "$command")
	done
	qemu-io -f raw "${arguments[@]}" "$where" >"$W/qemu-io.out" 2>&1 || fail "qemu-io: $(cat "$W/qemu-io.out")"
	! grep -qiE 'failed|error' "$W/qemu-io.out" || fail "qemu-io: $(cat "$W/qemu-io.out")"
}

# The point is a sound qcow2 and holds what the raw file holds.
# A tool of QEMU's on a point. While it opens the chain, retention may fold what lies below: then the names have changed, and it looks again.
look() { # COMMAND...
	local try status=0
	for try in 1 2 3 4 5; do
		"$@" 2>"$W/look.log" && return
		status=$?
		grep -q 'No such file' "$W/look.log" || break
		sleep 0.$try
	done
	cat "$W/look.log" >&2
	return $status
}

point_equals() { # NAME POINT DISK RAW
	local path
	path=$(point_disk "$1" "$2" "$3") || fail "point $2 of $1 has no disk $3"
	look qemu-img check -q -f qcow2 "$path" || fail "qemu-img check of $1@$2 $3: status $?"
	look qemu-img compare -q -f raw -F qcow2 "$4" "$path" || fail "$1@$2 $3 differs from $4"
}
