#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Connections that use up the agent's descriptors keep other guests out: that is told a few times, not ten times a second, the status says it while it lasts, and an operator
# is answered, for some descriptors are kept for the agent itself. It ends by itself.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl prlimit

new_image "$W/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
socket=$KAGAMI_RUN_DIR/nbd/vm1.sock
short() { protection vm1 .short_of; }
is_short() { [[ $(short) == *'no guest can connect'*'LimitNOFILE='* ]]; }
is_well() { [ -z "$(short)" ]; }
events() { # TEXT
	at_source GET '/v1/events?since=0&newest=1000' | jq --arg t "$1" '[.events[] | select(.text | contains($t))] | length'
}

cat >"$W/connect.py" <<'PY'
import socket, sys, time
path, count = sys.argv[1], int(sys.argv[2])
held = []
for _ in range(count):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    held.append(s)
print("there", flush=True)
sys.stdin.read()
PY
limit=$(($(ls /proc/"$REPLICATOR"/fd | wc -l) + 30))
prlimit --pid "$REPLICATOR" --nofile="$limit:$limit"
mkfifo "$W/hold"
/usr/bin/python3 "$W/connect.py" "$socket" 48 <"$W/hold" >"$W/there" &
holder=$!
pids+=($holder)
exec 9>"$W/hold"
wait_for 10 grep -q there "$W/there"
wait_for 10 is_short
is "reason" "$(protection vm1 .reason)" "$(short)"
status=0
kagami status vm1 --check >"$W/check" || status=$?
is "exit status of the check" $status 1
grep -q 'WARNING.*no guest can connect' "$W/check" || fail "the check says: $(cat "$W/check")"
for ((n = 0; n < 20; n++)); do
	at_source GET /v1/protections/vm1 >/dev/null
	sleep 0.1
done
at_most "lines of the log that tell it" "$(grep -c 'no guest can connect' "$W/kagami-replicator.log")" 6
at_most "events" "$(events 'no guest can connect')" 6
at_least "events" "$(events 'no guest can connect')" 1
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw" # what the agent itself opens is there

# The connections end.
exec 9>&-
wait "$holder"
wait_for 15 is_well
at_least "events of the end" "$(events 'guests can connect again')" 1
nbd_io vm1 vda 'write -P 5 1M 64k' 'flush' >/dev/null
point_equals vm1 "$(cycle vm1)" vda "$W/a.raw"
daemons_alive
