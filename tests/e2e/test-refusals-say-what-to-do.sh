#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What cannot be had, or makes no sense as it was written, is refused with what is meant instead: names that nobody knows, values that would change in silence,
# directories that are missing or read-only, and a user who may not ask.
. "$(dirname "$0")/lib.sh"
requires setpriv mount curl jq openssl
requires_root

fails_with() { # STATUS TEXT COMMAND...
	local wanted=$1 text=$2 status=0
	shift 2
	refuses "$text" "$@"
	"$@" >/dev/null 2>&1 </dev/null || status=$?
	is "exit status of: $*" $status "$wanted"
}
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

# Directories, before anything runs.
mkdir -p "$W/ro" "$W/st" "$R/other"
mount -t tmpfs none "$W/ro"
at_end "umount '$W/ro'"
mkdir "$W/ro/store" "$W/ro/state"
mount -o remount,ro "$W/ro"
listen="--listen 127.0.0.1:$(free_port)"
missing='there is no (store|state) directory .*/missing: make it first \(mkdir -m 0700 .*/missing\), or mount what it is on'
read_only='the (store|state) directory .*/ro/.* is on a file system that is read-only: mount it for writing'
refuses "$missing" kagami-replicator --run-dir "$R/other" --state "$W/missing"
refuses "$missing" kagami-receiver --run-dir "$R/other" --store "$W/missing" $listen
refuses "$missing" kagami-receiver --run-dir "$R/other" --store "$W/st" --state "$W/missing" $listen
refuses "$read_only" kagami-replicator --run-dir "$R/other" --state "$W/ro/state"
refuses "$read_only" kagami-receiver --run-dir "$R/other" --store "$W/ro/store" $listen
refuses "$missing" kagami-receiver --check "$W/missing"
mkdir "$W/tls"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 30 -keyout "$W/key.pem" -out "$W/tls/ca-cert.pem" 2>/dev/null
cp "$W/tls/ca-cert.pem" "$W/tls/server-cert.pem"
openssl pkey -in "$W/key.pem" -aes256 -passout pass:secret -out "$W/tls/server-key.pem"
chmod 600 "$W/tls/server-key.pem"
refuses 'server-key.pem is encrypted, and a daemon has nobody to ask for the passphrase: write it without one \(openssl pkey -in .*/server-key.pem -out NEW.pem\)' \
	kagami-replicator --run-dir "$R/other" --state "$W/st" --nbd-tls "$W/tls" --nbd-listen "127.0.0.1:$(free_port)"
chmod 755 "$W" "$R"
refuses 'this user may not write the state directory .*/st: run as the user that it belongs to, or give it to this one' \
	nobody kagami-replicator --run-dir "$R/other" --state "$W/st"

# A user who may not ask: UNKNOWN for a monitor, in one line that says why; an error for the others.
start_pair
for mode in 755 700; do
	chmod $mode "$KAGAMI_RUN_DIR"
	status=0
	nobody kagami status --check >"$W/check.out" 2>"$W/check.err" || status=$?
	is "exit status of status --check by another user" $status 3
	is "lines of it" "$(wc -l <"$W/check.out") $(wc -l <"$W/check.err")" "1 0"
	grep -q '^KAGAMI UNKNOWN - this user may not ask kagami-re[a-z]*: .*Permission denied: use sudo, or the user that it runs as$' "$W/check.out" ||
		fail "status --check by another user: $(cat "$W/check.out")"
	fails_with 3 'this user may not ask kagami-replicator: .*Permission denied: use sudo, or the user that it runs as' nobody kagami set
done
chmod 755 "$KAGAMI_RUN_DIR"

# Names that nobody knows.
kagami events >/dev/null
fails_with 1 'no protection is named "nope" here, and none was: "kagami status" lists them' kagami events nope
fails_with 1 'no protection is named "nope"' kagami events nope --class damage
fails_with 1 'no protection is named "nope"' kagami events nope --follow
fails_with 1 'no protection is named "nope"' kagami events nope --json
new_image "$W/a.raw" $((1 << 20))
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
kagami events vm1 >/dev/null
kagami events vm1 --class damage >/dev/null # known, though it has no such event
wait_for 30 has_point vm1
kagami unprotect vm1 --yes >/dev/null
kagami forget vm1 --yes >/dev/null
kagami events vm1 >"$W/out" # ended, and not forgotten
[ -s "$W/out" ] || fail "the events of a protection that was ended are gone"
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null

# Values.
fails_with 2 '99.99999% is finer than it is kept: give at most four digits behind the point' kagami set vm1 --objective 99.99999%
fails_with 2 '"100.00001%" is no part of the time' kagami set vm1 --objective 100.00001%
fails_with 2 '"49.9999" is no part of the time: give 50% to 100%' kagami set vm1 --objective 49.9999
refuses '99.99999 is finer than it is kept' kagami-receiver --run-dir "$R/other" --store "$W/st" $listen --objective 99.99999
kagami set vm1 --objective 99.9999% | grep -q 'for 99.9999% of the time' || fail "99.9999% is not told as it is kept: $(kagami set vm1 --objective 99.9999%)"
is "objective" "$(protection vm1 .objective_ppm)" 999999
is "objective with noughts behind it" "$(kagami set vm1 --objective 99.900000% --json | jq .objective_ppm)" 999000
for nothing in 0 0Mbit "mon-fri 0"; do
	fails_with 2 'would let nothing go: give at least 64kbit, or unlimited for no limit; `kagami pause` stops a protection' kagami set vm1 --bandwidth "$nothing"
done
is "rule in capital letters" "$(kagami set vm1 --bandwidth "Mon-Fri 08:00-18:00 50Mbit" --bandwidth 4MBYTE --json | jq -c .bandwidth)" \
	'["mon-fri 08:00-18:00 50mbit","32mbit"]'
is "no rule" "$(kagami set vm1 --bandwidth None --json | jq -c .bandwidth)" '[]'
is "window in capital letters" "$(kagami set vm1 --offpeak 'Sat,Sun 22:00-06:00' --json | jq -r .offpeak)" 'sat,sun 22:00-06:00'
refuses '--rollback-after: 0s would take it back at once: give the time that you need to look at it, such as 30m' kagami failover vm1 --rollback-after 0s --yes

disks=()
for i in {1..65}; do
	disks+=("d$i=$W/a.raw")
done
refuses '65 disks are too many: a protection has at most 64' kagami protect vm2 "${disks[@]}" --to dr --rpo 1h
daemons_alive

# A daemon that died has its socket left: this is the host for its command, though the other one answers.
kill_replicator
refuses 'no kagami-replicator answers at .*: start it on this' kagami cycle nope
