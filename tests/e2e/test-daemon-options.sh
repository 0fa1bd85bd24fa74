#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The daemons' exit status tells an option that is wrong (2) from what this host cannot give (1), as their manuals say, and nothing is made where it is 2.
# What is theirs alone, and lies open to others, is told, and they start.
. "$(dirname "$0")/lib.sh"
requires jq curl

ends_with() { # STATUS TEXT COMMAND...
	local wanted=$1 text=$2 status=0
	shift 2
	refuses "$text" timeout 20 "$@"
	timeout 20 "$@" >/dev/null 2>&1 </dev/null || status=$?
	is "exit status of: $*" $status "$wanted"
}
echo 0123456789abcdef >"$W/token"
chmod 600 "$W/token"
replicator() { # STATUS TEXT ARGUMENT...
	ends_with "$1" "$2" kagami-replicator --run-dir "$R/run" --state "$STATE" "${@:3}"
}
receiver() { ends_with "$1" "$2" kagami-receiver --run-dir "$R/run" --store "$STORE" "${@:3}"; }
listen="--listen 127.0.0.1:0"

replicator 2 '--threads x: give 0' --threads x
replicator 2 '--threads 65536: give 0' --threads=65536
replicator 2 '--digest-cache' --digest-cache 1G
replicator 2 '--cycles 0: give 1' --cycles 0
replicator 2 '--syncs 257' --syncs 257
replicator 2 '--stop-wait 1h: give seconds' --stop-wait 1h
replicator 2 '--web: "x" is not an address' --web x
replicator 2 '--metrics: "1" is not an address' --metrics 1
replicator 2 'no loopback address' --web 0.0.0.0:0
replicator 2 '--web-token goes with --web' --web-token "$W/token"
replicator 2 'begins with https://' --webhook ftp://x
replicator 2 'needs --nbd-tls' --nbd-listen 127.0.0.1:0
replicator 2 'needs --nbd-listen' --nbd-tls "$W"
replicator 2 '--nbd-listen: "x" is not an address' --nbd-listen x --nbd-tls "$W"
replicator 2 '--threads is given twice' --threads 1 --threads=2
receiver 2 '--listen: "1" is not an address' --listen 1
receiver 2 '--scrub-rate 0: give a number' $listen --scrub-rate 0
receiver 2 '--scrub-days' $listen --scrub-days -1
receiver 2 '--verify-rate' $listen --verify-rate all
receiver 2 '--retention-rate' $listen --retention-rate 0
receiver 2 '--source-protections' $listen --source-protections 0
receiver 2 '--offpeak' $listen --offpeak 25:00-26:00
receiver 2 '"101%" is no part of the time' $listen --objective 101%
receiver 2 '--events all' $listen --events all
receiver 2 '--reserve 5%: give bytes' $listen --reserve 5%
receiver 2 '--web: "x" is not an address' $listen --web x
receiver 2 'begins with https://' $listen --webhook example.com
receiver 2 '--listen is given twice' $listen $listen
receiver 2 '--log-level is given twice' $listen --log-level info --log-level debug
[ -z "$(ls -A "$STATE" "$STORE" | grep -v '^/\|^$')" ] || fail "something was made: $(ls -A "$STATE" "$STORE")"

# What others may write to or read is told, with what to do, and the daemon starts.
chmod 1777 "$STORE"
chmod 644 "$W/token"
page=127.0.0.1:$(free_port)
start_receiver --web "$page" --web-token "$W/token"
warned() { grep -qF "warning: others may $1" "$W/kagami-receiver.log"; }
warned "write to the store directory $STORE," || fail "nothing is said of a store that everybody may write to"
warned "get at the token of --web-token in $W/token" || fail "nothing is said of a token that everybody may read"
! warned "get at the key" || fail "the key is as it should be"
is "events of it" "$(at_target GET '/v1/events?class=daemon' | jq '[.events[] | select(.severity == "warning")] | length')" 2
stop_receiver
chmod 700 "$STORE"
chmod 600 "$W/token"
chmod 644 "$STORE/.kagami/identity.pem"
: >"$W/kagami-receiver.log"
start_receiver --web "$page" --web-token "$W/token"
warned "get at the key in $STORE/.kagami/identity.pem: chown it to root, and chmod go=" || fail "nothing is said of a key that everybody may read"
is "events of it" "$(at_target GET '/v1/events?class=daemon' | jq '[.events[] | select(.severity == "warning")] | length')" 3
stop_receiver

# What another host, or another hour, would give.
/usr/bin/python3 -c 'import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); time.sleep(600)' "$PORT" &
pids+=($!)
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; }
wait_for 10 listens
used="127.0.0.1:$PORT is in use by another program: choose another port\$"
ends_with 1 'there is no state directory' kagami-replicator --run-dir "$R/run" --state "$W/missing"
replicator 1 'hooks' --log-level error --hooks "$W/missing"
replicator 1 "--web: $used" --log-level error --web "127.0.0.1:$PORT"
replicator 1 "--metrics: $used" --log-level error --metrics "127.0.0.1:$PORT"
receiver 1 "--listen: $used" --log-level error --listen "127.0.0.1:$PORT"
receiver 1 "--web: $used" --log-level error $listen --web "127.0.0.1:$PORT"
receiver 1 'no more than that' $listen --reserve 1000T
receiver 1 'token of --web-token' --log-level error $listen --web 127.0.0.1:0 --web-token "$W/missing"

# A damaged file is named with the directory that it lies in.
echo x >"$STORE/.kagami/peers.json"
receiver 1 "state directory $STORE/.kagami: peers.json \(restore it, or remove it" --log-level error $listen
rm "$STORE/.kagami/peers.json"
chmod 600 "$STORE/.kagami/identity.pem"
echo x >"$STORE/.kagami/identity.pem"
receiver 1 "state directory $STORE/.kagami: identity.pem holds no key" --log-level error $listen
