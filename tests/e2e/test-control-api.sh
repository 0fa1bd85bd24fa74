#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/control.md holds, with curl; every command knows --json; the sockets are for their owner.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((8 << 20))
start_pair

has_members() { # WHAT JSON NAME...
	local what=$1 json=$2 name
	shift 2
	for name; do
		jq -e --arg n "$name" 'has($n)' <<<"$json" >/dev/null || fail "$what has no member '$name': $json"
	done
}

status_of() { # SOCKET METHOD PATH [BODY]
	local body=()
	[ -z "${4:-}" ] || body=(-d "$4")
	curl -s -o "$W/body" -w '%{http_code}' --max-time 20 --unix-socket "$KAGAMI_RUN_DIR/$1" -X "$2" "${body[@]}" "http://localhost$3"
}

expect() { # STATUS SOCKET METHOD PATH [BODY]
	local wanted=$1
	shift
	is "status of $*" "$(status_of "$@")" "$wanted"
	[ "$wanted" -lt 400 ] || jq -e '.error | (.code | startswith("E")) and (.message | length > 5)' "$W/body" >/dev/null ||
		fail "the body of $* is $(cat "$W/body")"
}

has_members version "$(at_source GET /v1/version)" program version pid
has_members version "$(at_target GET /v1/version)" program version pid
is "pid" "$(at_source GET /v1/version | jq .pid)" "$REPLICATOR"
has_members site "$(at_source GET /v1/sites | jq '.sites[0]')" name address fingerprint
has_members peer "$(at_target GET /v1/peers | jq '.peers[0]')" name fingerprint paired
has_members token "$(at_target POST /v1/pair-tokens '{}')" token expires

# A protection, by curl alone.
expect 201 replicator.sock POST /v1/protections \
	"{\"name\": \"vm1\", \"site\": \"dr\", \"rpo_ms\": 3600000, \"disks\": [{\"name\": \"vda\", \"path\": \"$W/a.raw\"}], \"points\": 4}"
wanted=$(at_source POST /v1/protections/vm1/cycle | jq .cycle)
committed() { [ "$(protection vm1 .cycles.committed)" -ge "$wanted" ]; }
wait_for 30 committed
answer=$(at_source GET /v1/protections/vm1)
has_members protection "$answer" name uuid site codec rpo_ms points_keep state reason connected sync_reason point age_ms rpo_violated \
	dirty_bytes progress next_cut_in_ms next_point_in_ms cycles last_cycle last_error disks
has_members cycle "$(jq .last_cycle <<<"$answer")" cycle point cut commit duration_ms hold_us sync_reason dirty_bytes read_bytes \
	sent_blocks wire_bytes
has_members disk "$(jq '.disks[0]' <<<"$answer")" name path size_bytes uri clients dirty_bytes error reads writes flushes read_bytes \
	written_bytes tracking_memory_bytes
jq -e '.disks[0].tracking_memory_bytes | . > 500 and . < 2000' <<<"$answer" >/dev/null || fail "memory of the maps of 8 MiB: $answer"
is "points kept" "$(jq .points_keep <<<"$answer")" 4
jq -r .last_cycle.cut <<<"$answer" | grep -qE '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}Z$' || fail "cut: $answer"
has_members replica "$(at_target GET /v1/protections/vm1)" name uuid state reason owner rpo_ms points_keep points last_point last_cut \
	age_ms rpo_violated head_bytes stored_bytes disks failover
has_members point "$(at_target GET /v1/protections/vm1/points | jq '.points[0]')" point cut commit consistency dirty_bytes wire_bytes \
	stored_bytes held disks
is "number at the two sides" "$(jq .last_cycle.point <<<"$answer")" "$(replica vm1 .last_point)"
is "number of the newest point" "$(jq .point <<<"$answer")" "$(replica vm1 .last_point)"
is "uuid at the two sides" "$(jq -r .uuid <<<"$answer")" "$(replica vm1 .uuid)"

# What is refused, and as what.
expect 404 replicator.sock GET /v1/protections/nobody
expect 404 replicator.sock GET /v1/nothing
expect 404 replicator.sock POST /v1/protections/nobody/cycle
expect 404 receiver.sock GET /v1/protections/nobody/points
expect 404 receiver.sock POST /v1/protections/vm1/failover '{"point": 99}'
expect 400 receiver.sock POST /v1/protections/vm1/failover '{"pont": 1}'
expect 400 receiver.sock POST /v1/protections/vm1/failover '{"point": "one"}'
expect 400 replicator.sock POST /v1/protections '{"name": "vm2"}'
expect 400 replicator.sock POST /v1/protections 'not json'
expect 400 replicator.sock POST /v1/protections '[1, 2]'
expect 400 replicator.sock POST /v1/protections '{"name": "vm2", "site": "dr", "rpo_ms": -5, "disks": []}'
expect 409 replicator.sock POST /v1/protections \
	"{\"name\": \"vm1\", \"site\": \"dr\", \"rpo_ms\": 1000, \"disks\": [{\"name\": \"vda\", \"path\": \"$W/a.raw\"}]}"
[ "$(status_of replicator.sock PUT /v1/protections)" -ge 400 ] || fail "PUT works"
head -c 3000000 /dev/zero | tr '\0' ' ' >"$W/long"
[ "$(curl -s -o /dev/null -w '%{http_code}' --unix-socket "$KAGAMI_RUN_DIR/replicator.sock" -d @"$W/long" http://localhost/v1/protections ||
	true)" != 201 ] || fail "a body of 3 MB is taken"

# Every command gives JSON.
for command in status 'status vm1' 'points vm1' 'cycle vm1 --wait' 'pause vm1' 'resume vm1' pair-token; do
	# shellcheck disable=SC2086 # words
	kagami $command --json >"$W/json" || fail "kagami $command --json: status $?"
	jq -e 'type == "object"' "$W/json" >/dev/null || fail "kagami $command --json: $(cat "$W/json")"
done
kagami points vm1 --json | jq -e '.points[0] | .point and .cut and .commit and .consistency and .disks[0].path' >/dev/null ||
	fail "kagami points --json: $(kagami points vm1 --json)"
for command in --help --version; do
	for program in kagami kagami-replicator kagami-receiver; do
		$program $command >"$W/help" || fail "$program $command: status $?"
		[ -s "$W/help" ] || fail "$program $command prints nothing"
	done
done

# Paused: no point until it is resumed.
kagami pause vm1
is "state" "$(protection vm1 .state)" paused
before=$(newest_point vm1)
nbd_io vm1 vda 'write -P 1 1M 64k'
sleep 1
is "newest point of a paused protection" "$(newest_point vm1)" "$before"
kagami resume vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

# The run directory and its sockets are for their owner.
[ "$(stat -c %a "$KAGAMI_RUN_DIR")" = 750 ] || fail "mode of the run directory: $(stat -c %a "$KAGAMI_RUN_DIR")"
stat -c '%a %n' "$KAGAMI_RUN_DIR"/*.sock | grep -vE '^6[06]0 ' && fail "modes of the sockets"

# Gone from the source, kept at the target, then gone there as well.
kagami unprotect vm1
expect 404 replicator.sock GET /v1/protections/vm1
is "points after unprotect" "$(newest_point vm1)" "$n"
gone() { ! answers_nbd; }
answers_nbd() { [ -S "$KAGAMI_RUN_DIR/nbd/vm1.sock" ]; }
wait_for 5 gone
expect 200 receiver.sock DELETE /v1/protections/vm1
expect 404 receiver.sock GET /v1/protections/vm1
is "what is left of it in the store" "$(find "$STORE" -path '*vm1*' -type f)" ''
daemons_alive
