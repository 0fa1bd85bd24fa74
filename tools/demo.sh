#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real files, in about a minute: protect a disk, change it while it is replicated, lose the source, fail over,
# and prove that what came back is what was there. `sudo make demo` builds first and then runs this.
#
# Works in a directory of its own and leaves nothing behind, also when it fails. Root is needed to mount.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$(realpath -m "${BUILD:-build}")/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C.UTF-8

RPO=${DEMO_RPO:-5}		 # seconds
FILES_MB=${DEMO_FILES_MB:-250} # real files in the image
IMAGE_MB=$((FILES_MB * 3 + 128))

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
note() { printf '   %s\n' "$*"; }
die() {
	printf '\ndemo: %s\n' "$*" >&2
	exit 1
}
ms() { echo $((${EPOCHREALTIME//[.,]/} / 1000)); }
mib() { awk -v b="$1" 'BEGIN { printf "%.1f MiB", b / 1048576 }'; }
seconds() { awk -v ms="$1" 'BEGIN { printf "%.2f s", ms / 1000 }'; }

[ "$(id -u)" = 0 ] || die 'needs root, to mount the disk and the replica: sudo make demo'
[ -c /dev/fuse ] || die 'there is no /dev/fuse here: load the module (modprobe fuse), or give the container the device'
losetup -f >/dev/null 2>&1 || die 'there is no free loop device here: load the module (modprobe loop), or give the container the devices'
[ -x "$(command -v kagami)" ] || die 'the programs are not built: sudo make demo'

W=$(mktemp -d "${DEMO_DIR:-/var/tmp}/kagami-demo.XXXXXX")
export KAGAMI_RUN_DIR=$W/run
pids=()
loops=()
mkdir "$W"/{store,state,disk,nbd,replica,files,manifests,boot}

cleanup() {
	local status=$? pid dir n
	trap '' INT TERM
	trap - EXIT
	set +e
	[ $status = 0 ] || tail -n 5 "$W"/*.log >&2
	for pid in "${worker:-}" "${writer:-}"; do
		[ -z "$pid" ] || kill "$pid"
	done 2>/dev/null
	kagami umount "$W/replica" >/dev/null 2>&1
	for dir in replica boot disk; do
		mountpoint -q "$W/$dir" && umount -l "$W/$dir"
	done
	for n in "${loops[@]}"; do
		losetup -d "$n" 2>/dev/null
	done
	mountpoint -q "$W/nbd" && umount -l "$W/nbd"
	[ ! -e "$W/overlay" ] || umount -l "$W/overlay" 2>/dev/null
	for pid in "${pids[@]}"; do
		kill "$pid" 2>/dev/null
	done
	for n in {1..50}; do
		for pid in "${pids[@]}"; do
			kill -0 "$pid" 2>/dev/null && sleep 0.1 && continue 2
		done
		break
	done
	for pid in "${pids[@]}"; do
		kill -9 "$pid" 2>/dev/null
	done
	wait 2>/dev/null
	rm -rf --one-file-system "$W"
	exit $status
}
trap cleanup EXIT
trap 'exit 130' INT TERM

wait_until() { # SECONDS COMMAND...
	local deadline=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $deadline ] || die "waited in vain for: $*"
		sleep 0.1
	done
}

protection() { kagami status vm1 --json | jq -r ".replicator | $1"; }
points() { kagami points vm1 --json | jq -r "$1"; }

manifest() { # DIRECTORY: the SHA-256 of every file in it
	(cd "$1" && find . -xdev -path ./lost+found -prune -o -type f -print0 | sort -z | xargs -0 -r sha256sum)
}

# --- 1 ---
say "1. A disk with real files of this machine"
find /usr/share /usr/lib /usr/include -xdev -type f -size +3k -size -4096k ! -name '*[[:cntrl:]]*' -printf '%s %P %H\n' 2>/dev/null |
	awk -v most=$((FILES_MB << 20)) -v more=$((80 << 20)) -v first="$W/first" -v later="$W/later" '{
		size = $1; root = $NF; sub(/^[0-9]+ /, ""); sub(/ [^ ]+$/, "")
		sum += size
		if (sum < most) print root "/" $0 > first
		else if (sum < most + more) print root "/" $0 > later
	}'
[ -s "$W/later" ] || die "this machine has too few files for a demo of $FILES_MB MB: DEMO_FILES_MB=50 make demo"
tar -cf - -C / --no-recursion -T "$W/first" 2>/dev/null | tar -xf - -C "$W/files" 2>/dev/null
truncate -s "${IMAGE_MB}M" "$W/vda.raw"
mkfs.ext4 -q -d "$W/files" "$W/vda.raw"
note "$(find "$W/files" -type f | wc -l) files, $(mib "$(du -sb "$W/files" | cut -f 1)"), in an ext4 image of $IMAGE_MB MiB"
rm -rf "$W/files"

# --- 2 ---
say "2. Protect it: RPO $RPO s, over TLS to a receiver (here on the same host)"
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
kagami-receiver --run-dir "$KAGAMI_RUN_DIR" --store "$W/store" --listen "127.0.0.1:$port" 2>"$W/receiver.log" &
pids+=($!)
wait_until 10 [ -S "$KAGAMI_RUN_DIR/receiver.sock" ]
kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$W/state" 2>"$W/replicator.log" &
replicator=$!
pids+=("$replicator")
wait_until 10 [ -S "$KAGAMI_RUN_DIR/replicator.sock" ]
kagami pair dr "$(kagami pair-token --json | jq -r .token)" >/dev/null
begin=$(ms)
kagami protect vm1 vda="$W/vda.raw" --to dr --rpo "${RPO}s" --points 50 >/dev/null
uri=$(protection '.disks[0].uri')
has_point() { [ "$(points '.points | length')" -ge 1 ]; }
wait_until 120 has_point
first=$(points '.points[0].point')
note "the disk is served at $uri"
note "initial sync in $(seconds $(($(ms) - begin))): point $first, $(mib "$(points '.points[0].wire_bytes')") on the wire for" \
	"$(mib "$(points '.points[0].dirty_bytes')") of disk"

# --- 3 ---
say "3. A machine uses the disk (nbdfuse and a loop mount), and changes it while cycles run"
nbdfuse "$W/nbd/vda" "$uri" >"$W/nbdfuse.log" 2>&1 &
pids+=($!)
disown # it will not like the disaster
wait_until 10 [ -s "$W/nbd/vda" ]
loops+=("$(losetup --show -f "$W/nbd/vda")")
mount -o noatime "${loops[0]}" "$W/disk"

# Copies real files in and deletes others, as long as it is let.
change() {
	local batch file i n=0
	mkdir -p "$W/disk/copied"
	while mapfile -t -n 12 batch && [ ${#batch[@]} -gt 0 ]; do
		cp --backup=numbered -t "$W/disk/copied" "${batch[@]}" || true
		for i in 1 2 3 4; do
			read -r file <&3 && rm -f "$W/disk/$file"
		done
		sleep 0.1
		n=$((n + 1))
		[ $((n % 8)) != 0 ] || sync -f "$W/disk"
	done
}

# Stops the changes for a moment, writes down what every file is, and takes a point of that.
known_point() {
	kill -STOP "$writer"
	sync -f "$W/disk"
	manifest "$W/disk" >"$W/manifests/new"
	known=$(kagami cycle vm1 --wait --json | jq .point)
	mv "$W/manifests/new" "$W/manifests/$known"
	note "point $known: $(wc -l <"$W/manifests/$known") files are written down by their SHA-256"
	kill -CONT "$writer"
}

watch_it() { # SECONDS
	local end=$((SECONDS + $1))
	while [ $SECONDS -lt $end ]; do
		sleep 2
		protection '"   \(.state), dirty \(.dirty_bytes / 1024 | floor) KiB, newest point \(.age_ms / 100 | floor / 10) s old, \(.cycles.committed) cycles"'
	done
}

change <"$W/later" 3<"$W/first" 2>/dev/null &
writer=$!
watch_it 8
known_point
a=$known
watch_it 8
echo
kagami status vm1 | sed 's/^/   /'

# --- 4 ---
say "4. The disaster: kill -9 of the replicator, two seconds after a point, while files are being copied"
known_point
b=$known
sleep 2
kill -9 "$replicator"
wait "$replicator" 2>/dev/null || true
note "$(date -u +%H:%M:%S) UTC: the source is gone, and its disk is taken as lost"
kill "$writer" 2>/dev/null || true
wait "$writer" 2>/dev/null || true
writer=
umount -l "$W/disk"
losetup -d "${loops[0]}"
umount -l "$W/nbd" 2>/dev/null || true
newest=$(points '.points[-1].point')
chosen=$b
[ "$newest" = "$b" ] || note "the newest point is $newest; the one with the list of files is $b"

# --- 5 ---
say "5. Fail over"
begin=$(ms)
kagami failover "vm1@$chosen" --json >"$W/failover.json"
took=$(($(ms) - begin))
overlay=$(jq -r '.disks[0].path' "$W/failover.json")
note "point $chosen, cut at $(jq -r .cut "$W/failover.json"); command to bootable disk in $(seconds "$took")"
note "what was written after it is lost: $(seconds "$(jq .lost_ms "$W/failover.json")") before the command"
note "$(jq -r .command "$W/failover.json" | cut -c 1-160)"

# --- 6 ---
say "6. Is it what was there?"
compare() { # POINT
	kagami mount "vm1@$1" "$W/replica" >/dev/null
	manifest "$W/replica" >"$W/found"
	kagami umount "$W/replica" >/dev/null
	cmp -s "$W/manifests/$1" "$W/found" || die "point $1 differs: $(diff "$W/manifests/$1" "$W/found" | head -n 5)"
	note "point $1, mounted: all $(wc -l <"$W/found") files have the SHA-256 they had at its cut"
}
compare "$chosen"
compare "$a"
for point in $(points '.points[].point'); do
	path=$(points ".points[] | select(.point == $point) | .disks[0].path")
	qemu-img check -q -f qcow2 "$path" || die "qemu-img check does not like point $point"
done
note "qemu-img check: all $(points '.points | length') points are sound qcow2 images"

: >"$W/overlay"
qemu-storage-daemon --blockdev driver=file,node-name=file,filename="$overlay" --blockdev driver=qcow2,node-name=disk,file=file \
	--export type=fuse,id=export,node-name=disk,mountpoint="$W/overlay",writable=on,growable=off >"$W/qsd.log" 2>&1 &
qsd=$!
pids+=("$qsd")
wait_until 10 [ -s "$W/overlay" ]
e2fsck -E journal_only -p "$W/overlay" >"$W/journal.log" 2>&1 || [ $? -le 1 ] || die "journal replay: $(cat "$W/journal.log")"
e2fsck -f -n "$W/overlay" >"$W/fsck.log" 2>&1 || die "fsck finds errors: $(cat "$W/fsck.log")"
note "fsck of the failed-over disk, after its journal was replayed: clean ($(tail -n 1 "$W/fsck.log" | sed 's/.*: //'))"
mount -o loop "$W/overlay" "$W/boot"
echo 'written after the failover' >"$W/boot/hello"
sync -f "$W/boot"
wait_until 10 umount "$W/boot" # who looks into it for a moment keeps it busy
note "and it can be mounted and written to"
kill "$qsd"
wait "$qsd" 2>/dev/null || true

# --- 7 ---
say "7. The old source comes back"
kagami-replicator --run-dir "$KAGAMI_RUN_DIR" --state "$W/state" 2>>"$W/replicator.log" &
pids+=($!)
is_fenced() { [ "$(protection .state)" = fenced ]; }
wait_until 15 is_fenced
note "$(protection '"\(.state): \(.reason)"')"

# --- the numbers ---
say "In numbers"
# A point protects until the next one is committed: the largest age is from a cut to the commit of the next.
worst=$(points '[.points[] | {c: .cut, m: .commit}] as $p |
	def at: (.[0:19] + "Z" | fromdate) * 1000 + (.[20:23] | tonumber);
	[range(1; $p | length) as $i | ($p[$i].m | at) - ($p[$i - 1].c | at)] | max')
note "RPO asked for: $RPO s; the newest point was never older than $(seconds "$worst")"
note "$(points '.points | length') points; after the initial sync $(mib "$(points '[.points[1:][].dirty_bytes] | add')") dirty," \
	"$(mib "$(points '[.points[1:][].wire_bytes] | add')") on the wire"
note "failover: $(seconds "$took")"
[ "$worst" -le $((RPO * 1000)) ] || die "the RPO was missed"
say "All of it is true."
