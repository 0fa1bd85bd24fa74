#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The web page of both daemons in a real browser, by keyboard, on a phone, light and dark; and who may not look.
# WEB_SHOTS=DIR keeps screenshots.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires chromedriver chromium curl

web=$(free_port) source_web=$(free_port) metrics=$(free_port)
many_events "$STATE/events.jsonl"
start_receiver --web "127.0.0.1:$web" --metrics "127.0.0.1:$metrics"
start_replicator --web "127.0.0.1:$source_web"
kagami pair dr "$(new_token)" >/dev/null
mkdir "$W/<b>"
new_image "$W/d.raw" $((8 << 20))
new_image "$W/<b>/e.raw" $((1 << 20)) 2
kagami protect vm1 vda="$W/d.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/<b>/e.raw" --to dr --rpo 1s >/dev/null
wait_for 30 has_point vm1
wait_for 30 has_point vm2
kagami cycle vm1 --wait >/dev/null
kagami pin vm1@1 "before upgrade" >/dev/null
kagami pause vm2 >/dev/null
late() { [ "$(protection vm2 .rpo_violated)" = true ]; }
wait_for 10 late

status_of() { # CURL-ARGUMENT...
	curl -s --max-time 20 -o "$W/body" -w '%{http_code}' "$@"
}
page=http://127.0.0.1:$web

# What there is, and with which headers.
is "the page" "$(status_of "$page/")" 200
curl -sI "$page/" >"$W/headers"
for wanted in "content-security-policy: default-src 'self'" 'x-content-type-options: nosniff' 'cache-control: no-store' 'x-frame-options: DENY' 'content-type: text/html'; do
	grep -qi "^$wanted" "$W/headers" || fail "the page has no header $wanted: $(cat "$W/headers")"
done
is "the API" "$(curl -s "$page/v1/protections" | jq -r '.protections | length')" 2
is "metrics beside the page" "$(status_of "$page/metrics")" 200
is "metrics alone" "$(status_of "http://127.0.0.1:$metrics/metrics")" 200
is "the page at the metrics' address" "$(status_of "http://127.0.0.1:$metrics/")" 404
is "the API at the metrics' address" "$(status_of "http://127.0.0.1:$metrics/v1/protections")" 404

# What there is not: anything that does something, the content of disks, other hosts' names, paths out.
for method in POST DELETE PUT; do
	is "$method" "$(status_of -X $method "$page/v1/protections/vm1/points/1/pin")" 405
done
is "a pin after a POST" "$(at_target GET /v1/protections/vm1/points | jq -r '.points[0].pin.text')" 'before upgrade'
for path in /v1/protections/vm1/points/1/disks/vda/content /v1/protections/vm1/files?path=/ /v1/peers /v1/mounts /v1/pair-tokens /etc/passwd /../../etc/passwd \
	/v1/protections/vm1%2fpoints%2f1%2fdisks%2fvda%2fcontent /kagami.css/ //; do
	is "$path" "$(status_of --path-as-is "$page$path")" 404
done
is "by another name" "$(status_of -H 'Host: attacker.example' "$page/v1/protections")" 421
is "by another name, a page" "$(status_of -H 'Host: 127.0.0.1.attacker.example' "$page/")" 421
is "by a loopback name" "$(status_of -H 'Host: localhost:8080' "$page/v1/protections")" 200

# More at a time than it takes: those wait or are refused, and the daemon goes on.
for _ in {1..40}; do
	curl -s --max-time 5 -o /dev/null "$page/v1/protections" &
	pids+=($!)
done
for ((i = ${#pids[@]} - 40; i < ${#pids[@]}; i++)); do wait "${pids[i]}" || true; done
daemons_alive
is "the API after a crowd" "$(status_of "$page/v1/protections")" 200

"$e2e/web_page.py" "http://127.0.0.1:$source_web/" "$page/" ${WEB_SHOTS:+"$WEB_SHOTS"}

# With a token: on any address, and only for who knows it.
stop_receiver
openssl rand -hex 32 >"$W/token"
start_receiver --web "0.0.0.0:$web" --web-token "$W/token"
is "the page without the token" "$(status_of -H 'Host: target.example' "$page/")" 200
is "the API without the token" "$(status_of -H 'Host: target.example' "$page/v1/protections")" 401
is "the API with another token" "$(status_of -H "Authorization: Bearer $(openssl rand -hex 32)" "$page/v1/protections")" 401
is "the API with a part of the token" "$(status_of -H "Authorization: Bearer $(head -c 40 "$W/token")" "$page/v1/protections")" 401
is "metrics without the token" "$(status_of "$page/metrics")" 401
is "the API with the token" "$(status_of -H "Authorization: Bearer $(cat "$W/token")" "$page/v1/protections")" 200
is "the form" "$(status_of -c "$W/jar" -H "Authorization: Bearer $(cat "$W/token")" "$page/login")" 200
is "the API with the form's cookie" "$(status_of -b "$W/jar" "$page/v1/protections")" 200
! grep -qF "$(cat "$W/token")" "$W/jar" || fail "the cookie is the token"
grep -q '#HttpOnly_' "$W/jar" || fail "scripts can read the cookie: $(cat "$W/jar")"
stop_receiver

# Options that would show it to whom it should not be shown.
starts_not() { # TEXT ARGUMENT...
	local text=$1
	shift
	refuses "$text" kagami-receiver --log-level error --run-dir "$KAGAMI_RUN_DIR" --store "$STORE" --listen "127.0.0.1:$PORT" "$@"
}
starts_not 'no loopback address.*--web-token' --web "0.0.0.0:$web"
starts_not 'goes with --web' --web-token "$W/token"
echo short >"$W/short"
starts_not '16 to 256 printable characters' --web "127.0.0.1:$web" --web-token "$W/short"
starts_not 'token of --web-token' --web "127.0.0.1:$web" --web-token "$W/none"
