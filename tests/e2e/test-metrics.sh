#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Metrics of both daemons, on the control socket and on --metrics: judged by promtool and by Prometheus' own Python parser; the dashboard and the alert
# rules name nothing that there is not. And whom the listeners serve: no POST, no Host of elsewhere, no address but loopback without a token.
. "$(dirname "$0")/lib.sh"
requires promtool jq curl
/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null || skip 'needs python3-prometheus-client; to install it: sudo tools/setup'

M1=$(free_port) M2=$(free_port) W1=$(free_port) W2=$(free_port)
token=$(openssl rand -hex 32)
echo "$token" >"$W/token"
new_image "$W/a.raw" $((4 << 20))
start_receiver --metrics "127.0.0.1:$M2" --web "0.0.0.0:$W2" --web-token "$W/token"
start_replicator --metrics "127.0.0.1:$M1" --web "127.0.0.1:$W1"
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
cycle vm1 >/dev/null
kagami limit vm1 --quota 1G >/dev/null

fetch() { # URL [OPTION...]
	curl -s --max-time 20 --noproxy '*' "${@:2}" "$1"
}
status() { # URL [OPTION...]: that it is answered with
	curl -s -o "$W/body" -w '%{http_code}' --max-time 20 --noproxy '*' "${@:2}" "$1"
}

at_source GET /metrics >"$W/source.om"
fetch "http://127.0.0.1:$M2/metrics" >"$W/target.om"
tail -n 1 "$W/source.om" | grep -qx '# EOF' || fail "no end: $(tail -n 1 "$W/source.om")"
families=$("$e2e/metrics_named.py" "$W/source.om" "$W/target.om" -- "$root/tools/grafana-dashboard.json" "$root/tools/prometheus-alerts.yml")
at_least families "$families" 45
fetch "http://127.0.0.1:$M1/metrics" -D "$W/headers" -o "$W/source2.om"
grep -qi '^content-type: application/openmetrics-text; version=1.0.0' "$W/headers" || fail "$(cat "$W/headers")"
for port in $M1 $M2; do
	fetch "http://127.0.0.1:$port/metrics" -H 'Accept: text/plain' | promtool check metrics >"$W/promtool.out" 2>&1 || fail "promtool: $(cat "$W/promtool.out")"
done
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
is "objective" "$(value source 'kagami_rpo_seconds{protection="vm1"}')" 3600
at_least "wire bytes" "$(value source 'kagami_wire_bytes_total{protection="vm1"}')" 1000000

# What a listener of metrics has besides them, and what the web listener has.
is "status of the status at --metrics" "$(status "http://127.0.0.1:$M1/v1/protections")" 404
is "status of a POST at --metrics" "$(status "http://127.0.0.1:$M1/metrics" -X POST)" 405
is "status of the list" "$(status "http://127.0.0.1:$W1/v1/protections")" 200
jq -e '.protections[0].name == "vm1"' "$W/body" >/dev/null
is "status of metrics at --web" "$(status "http://127.0.0.1:$W1/metrics")" 200
is "status of a POST" "$(status "http://127.0.0.1:$W1/v1/protections/vm1/pause" -X POST)" 405
is "paused" "$(protection vm1 .paused)" false
is "status of a DELETE" "$(status "http://127.0.0.1:$W1/v1/protections/vm1" -X DELETE)" 405
is "status with a Host of elsewhere" "$(status "http://127.0.0.1:$W1/v1/protections" -H 'Host: evil.example')" 403
is "status with a Host that looks like ours" "$(status "http://127.0.0.1:$W1/v1/protections" -H 'Host: 127.0.0.1.evil.example')" 403
is "status with localhost" "$(status "http://localhost:$W1/v1/protections")" 200
is "status without an HTTP/1.1 Host" "$(status "http://127.0.0.1:$W1/v1/version" -0 -H 'Host:')" 403
fetch "http://127.0.0.1:$W1/v1/version" -D "$W/headers" -o "$W/body"
for header in 'content-security-policy: default-src .self.' 'x-content-type-options: nosniff' 'cache-control: no-store' 'x-frame-options: DENY'; do
	grep -qi "^$header" "$W/headers" || fail "no $header: $(cat "$W/headers")"
done

web=http://127.0.0.1:$W2
is "status without a token" "$(status "$web/v1/protections")" 401
is "status with a wrong one" "$(status "$web/v1/protections" -H "Authorization: Bearer ${token}0")" 401
is "status with a part of it" "$(status "$web/v1/protections" -H "Authorization: Bearer ${token:0:32}")" 401
is "status with the token" "$(status "$web/v1/protections" -H "Authorization: Bearer $token")" 200
is "status with the token as a cookie" "$(status "$web/v1/protections/vm1/history" -b "kagami_token=$token")" 200
is "status with any Host" "$(status "$web/v1/protections" -H "Authorization: Bearer $token" -H 'Host: backup.example')" 200
# No content of a disk, and nothing that only the socket has.
point=$(newest_point vm1)
for path in "/v1/protections/vm1/points/$point/disks/vda/content" '/v1/protections/vm1/files?path=/' '/v1/protections/vm1/files/content?path=/x' /v1/peers /v1/pair-tokens \
	/v1/protections/../protections /../state/identity.pem /v1/protections/vm1/points/%2e%2e/x; do
	is "status of $path" "$(status "$web$path" -H "Authorization: Bearer $token" --path-as-is)" 404
done

# What is refused at the start.
refuses 'only loopback is served without a token' kagami-receiver --run-dir "$R/run2" --store "$W" --listen 127.0.0.1:0 --web 0.0.0.0:0
echo short >"$W/short"
refuses 'the first line is to be 16 to 256' kagami-receiver --run-dir "$R/run2" --store "$W" --listen 127.0.0.1:0 --web 0.0.0.0:0 --web-token "$W/short"
refuses 'needs --web' kagami-receiver --run-dir "$R/run2" --store "$W" --listen 127.0.0.1:0 --web-token "$W/token"
refuses 'in use by another program' kagami-receiver --run-dir "$R/run2" --store "$W" --listen 127.0.0.1:0 --metrics "127.0.0.1:$M2"
daemons_alive
