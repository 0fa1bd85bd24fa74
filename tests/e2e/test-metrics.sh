#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Metrics of both daemons, on the control socket and on --metrics: judged by promtool and by Prometheus' own Python parser; the dashboard and the alert
# rules name nothing that there is not, and each one that docs/rpo.md names has a sample.
. "$(dirname "$0")/lib.sh"
requires promtool qemu-io jq curl
/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || skip 'needs python3-prometheus-client; to install it: sudo tools/setup'

M1=$(free_port) M2=$(free_port)
new_image "$W/a.raw" $((4 << 20))
start_receiver --metrics "127.0.0.1:$M2"
start_replicator --metrics "127.0.0.1:$M1"
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h --bandwidth "mon-sun 00:00-24:00 1gbit" >/dev/null
kagami set --bandwidth 2gbit >/dev/null
wait_for 60 has_point vm1
for n in 1 2 3; do
	nbd_io vm1 vda "write -P $n 1M 64k"
	cycle vm1 >/dev/null
done
kagami limit vm1 --quota 1G >/dev/null

fetch() { # URL [OPTION...]
	curl -s --max-time 20 --noproxy '*' "${@:2}" "$1"
}
status() { # URL [OPTION...]: that it is answered with
	curl -s -o "$W/body" -w '%{http_code}' --max-time 20 --noproxy '*' "${@:2}" "$1"
}

at_socket() { # DAEMON [OPTION...]: the metrics on its control socket
	curl -s --max-time 20 --unix-socket "$KAGAMI_RUN_DIR/$1.sock" "${@:2}" http://localhost/metrics
}
om=(-H 'Accept: application/openmetrics-text; version=1.0.0, text/plain; q=0.5')
at_socket replicator "${om[@]}" >"$W/source.om"
fetch "http://127.0.0.1:$M2/metrics" "${om[@]}" >"$W/target.om"
for side in source target; do
	is "end of the $side's" "$(tail -n 1 "$W/$side.om")" '# EOF'
done
families=$("$e2e/metrics_named.py" "$W/source.om" "$W/target.om" -- "$root/tools/grafana-dashboard.json" "$root/tools/prometheus-alerts.yml")
at_least families "$families" 45
sampled=$("$e2e/metrics_sampled.py" "$root/docs/rpo.md" "$W/source.om" "$W/target.om")
at_least "documented metrics with samples" "$sampled" 60

# OpenMetrics is for who names it; a request that says nothing gets what promtool reads, at the address and on the control socket.
type_of() { # HEADERS
	sed -n 's/\r$//; s/^content-type: //Ip' "$1"
}
formats_of() { # WHAT CURL... : as it comes, as text/plain and as OpenMetrics, each with its type
	local what=$1 accept
	shift
	for accept in "" "Accept: */*" "Accept: text/plain"; do
		"$@" -H "${accept:-Accept:}" -D "$W/headers" >"$W/plain" || fail "$what ($accept): no answer"
		is "type of $what ($accept)" "$(type_of "$W/headers")" "text/plain; version=0.0.4; charset=utf-8"
		grep -c -e '^# EOF' -e '^# UNIT' "$W/plain" >"$W/standards" && fail "$what ($accept): $(cat "$W/standards") lines are OpenMetrics'"
		grep -q '^# TYPE kagami_events_total counter$' "$W/plain" || fail "$what ($accept): $(grep 'TYPE kagami_events' "$W/plain")"
		promtool check metrics <"$W/plain" >"$W/promtool.out" 2>&1 || fail "promtool, $what ($accept): $(cat "$W/promtool.out")"
	done
	"$@" "${om[@]}" -D "$W/headers" >"$W/standard" || fail "$what: no answer"
	is "type of $what in OpenMetrics" "$(type_of "$W/headers")" "application/openmetrics-text; version=1.0.0; charset=utf-8"
	is "end of $what" "$(tail -n 1 "$W/standard")" '# EOF'
}
formats_of "the source at --metrics" fetch "http://127.0.0.1:$M1/metrics"
formats_of "the target at --metrics" fetch "http://127.0.0.1:$M2/metrics"
formats_of "the source's control socket" at_socket replicator
formats_of "the target's control socket" at_socket receiver
promtool check rules "$root/tools/prometheus-alerts.yml" >"$W/promtool.out" 2>&1 || fail "$(cat "$W/promtool.out")"
promtool test rules "$root/tests/data/prometheus-alerts.test.yml" >"$W/promtool.out" 2>&1 || fail "$(cat "$W/promtool.out")"
jq -e '.panels | length > 15' "$root/tools/grafana-dashboard.json" >/dev/null

value() { # FILE SAMPLE
	awk -v s="$2" '$1 == s { print $2 }' "$W/$1.om"
}
is "points" "$(value target 'kagami_points{protection="vm1"}')" "$(points vm1 | wc -l)"
is "quota" "$(value target 'kagami_quota_bytes{protection="vm1"}')" $((1 << 30))
is "connected" "$(value target 'kagami_connected{protection="vm1"}')" 1
is "sessions" "$(value target kagami_sessions)" 1
is "state" "$(value source 'kagami_state{protection="vm1",state="idle"}')" 1
is "cycles" "$(value source 'kagami_cycles_total{protection="vm1",result="committed"}')" "$(protection vm1 .cycles.committed)"
is "cuts" "$(value source 'kagami_cut_hold_seconds_count{protection="vm1"}')" "$(protection vm1 .cuts.count)"
is "limit" "$(value source 'kagami_bandwidth_limit_bytes{protection="vm1"}')" 125000000
is "limit of all" "$(value source kagami_bandwidth_total_limit_bytes)" 250000000
is "objective" "$(value source 'kagami_rpo_seconds{protection="vm1"}')" 3600
at_least "wire bytes" "$(value source 'kagami_wire_bytes_total{protection="vm1"}')" 1000000

# What a listener of metrics has besides them (--web: test-web.sh).
is "status of the status at --metrics" "$(status "http://127.0.0.1:$M1/v1/protections")" 404
is "status of a POST at --metrics" "$(status "http://127.0.0.1:$M1/metrics" -X POST)" 405

# Each metric of a disk or a protection that tells that data is in doubt has its panel.
for name in kagami_unproven_hole_bytes kagami_tracking_lost kagami_damaged_blocks; do
	jq -e --arg name $name '[.panels[].targets[].expr | select(contains($name))] | length > 0' "$root/tools/grafana-dashboard.json" >/dev/null || fail "no panel shows $name"
done

# Once it was failed over no objective binds it: there is no deadline, at either end, and nothing of it goes on.
is "deadline of one that is well" "$(value source 'kagami_rpo_deadline_seconds{protection="vm1"}' | wc -l)$(value target 'kagami_rpo_deadline_seconds{protection="vm1"}' | wc -l)" 11
kagami set vm1 --rpo 1s >/dev/null
kagami failover vm1 --yes >/dev/null
fenced() { [ "$(protection vm1 .state)" = fenced ]; }
wait_for 90 fenced
sleep 2
at_socket replicator >"$W/source.om"
at_socket receiver >"$W/target.om"
for side in source target; do
	is "deadline at the $side" "$(value $side 'kagami_rpo_deadline_seconds{protection="vm1"}')" ""
	is "violated at the $side" "$(value $side 'kagami_rpo_violated{protection="vm1"}')" 0
done
is "deadline in the status" "$(protection vm1 .deadline_in_ms) $(replica vm1 .deadline_in_ms)" "null null"
daemons_alive
