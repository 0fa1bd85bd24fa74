#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# `kagami store check` finds a store sound, online and offline, and names each damage that is planted by hand.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((16 << 20))
new_image "$W/b.raw" $((4 << 20)) 2
start_pair
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h --points 2 >/dev/null
wait_for 30 has_point vm1
for n in 1 2 3 4; do
	nbd_io vm1 vda "write -P $n ${n}M 300k" 'write -P 9 100k 12k' 'write -z 5M 1M'
	cycle vm1 >/dev/null
done

checked() { # WANTED ARGUMENT...
	local status=0 wanted=$1
	shift
	kagami store check "$@" >"$W/check.out" 2>"$W/check.err" || status=$?
	is "status of kagami store check $* ($(cat "$W/check.out" "$W/check.err"))" $status "$wanted"
}
names() { # TEXT
	grep -qF -- "$1" "$W/check.out" || fail "the check does not name $1: $(cat "$W/check.out")"
}

# Online, beside a session; again and again while points come and are folded.
checked 0
names 'sound'
for n in 1 2 3; do
	nbd_io vm1 vda "write -P $n 2M 2M"
	cycle vm1 >/dev/null &
	checked 0
	wait $!
done
kagami store check --json >"$W/check.json"
is "sound, in JSON" "$(jq .sound "$W/check.json")" true
is "name, in JSON" "$(jq -r '.protections[0].name' "$W/check.json")" vm1

# A store in use is the receiver's to check; what is no store, and what makes no sense.
checked 3 "$STORE"
grep -q 'a receiver runs' "$W/check.err" || fail "it does not say who uses the store: $(cat "$W/check.err")"
checked 3 "$W/nowhere"
mkdir "$W/other" # a directory that is no store is not sound
checked 3 "$W/other"
checked 3 "$STORE/vm1"
grep -q 'is no store' "$W/check.err" || fail "it does not say what is wrong: $(cat "$W/check.err")"
checked 2 too much
kagami store mend >/dev/null 2>&1 && fail "there is no store mend"

stop_replicator
stop_receiver
checked 0 "$STORE"
names 'sound'
find "$STORE/vm1" -type f -printf '%p %s %T@\n' | sort >"$W/before"
checked 0 "$STORE"
find "$STORE/vm1" -type f -printf '%p %s %T@\n' | sort | cmp -s - "$W/before" || fail "the check has written"

# Each damage in turn, on a copy.
newest=$(find "$STORE/vm1/points" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n | tail -n 1)
damage() { # TEXT COMMAND...
	local text=$1
	shift
	rm -rf "$W/copy"
	cp -a --sparse=always "$STORE" "$W/copy"
	(cd "$W/copy/vm1" && "$@")
	checked 1 "$W/copy"
	names "$text"
	names DAMAGED
}
flip() { # FILE OFFSET
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	printf "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
damage "vm1/protection.json" flip protection.json 100
damage "vm1/points/$newest/point.json" flip "points/$newest/point.json" 100
damage "vm1/points/$newest/vda.digests: " flip "points/$newest/vda.digests" 600
damage "vm1/base/vda.digests" flip base/vda.digests 600
damage "vm1/points/$newest/vda.qcow2" truncate -s -65536 "points/$newest/vda.qcow2"
damage "vm1/points/$newest/vdb.qcow2" flip "points/$newest/vdb.qcow2" 3
damage "vm1/base/vdb.raw" truncate -s 1M base/vdb.raw
damage "vm1/points/$newest/vda.qcow2" rm "points/$newest/vda.qcow2"
below="not the point below it"
[ ! -d "$STORE/vm1/points/$((newest - 2))" ] || below="missing, and point $newest stands on it" # it was not folded yet when the receiver ended
damage "$below" rm -r "points/$((newest - 1))"
leak() { # by QEMU's own hand: a refcount that nothing needs
	local table block
	table=$(od -An -tu8 --endian=big -j 48 -N 8 "$1")
	block=$(od -An -tu8 --endian=big -j $((table)) -N 8 "$1")
	printf '\0\7' | dd of="$1" bs=1 seek=$((block + 2)) conv=notrunc status=none
	! qemu-img check -q -U -f qcow2 "$1" >/dev/null 2>&1 || fail "qemu-img finds the image sound"
}
damage "vm1/points/$newest/vda.qcow2: cluster at 65536" leak "points/$newest/vda.qcow2"

# A name that does not belong there is no damage.
rm -rf "$W/copy"
cp -a --sparse=always "$STORE" "$W/copy"
echo hello >"$W/copy/vm1/points/$newest/notes.txt"
checked 0 "$W/copy"
names "vm1/points/$newest/notes.txt: not part of the store"
