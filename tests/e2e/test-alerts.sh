#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Hooks and a webhook of a running daemon: an objective that is missed and kept again reaches both; a hook that hangs, one that fails and one that is
# missing keep nothing and nobody; a webhook that refuses is tried again, and one whose certificate is not trusted gets nothing.
. "$(dirname "$0")/lib.sh"
requires jq curl openssl

H=$W/hooks
P=$(free_port)
mkdir -m 700 "$H"
hook() { # NAME BODY
	printf '#!/bin/sh\n%s\n' "$2" >"$H/$1"
	chmod 700 "$H/$1"
}
hook any "printf '%s %s %s\n' \"\$KAGAMI_EVENT_ID\" \"\$KAGAMI_EVENT_CLASS\" \"\$KAGAMI_EVENT_PROTECTION\" >>$W/any"
hook state 'sleep 600' # hangs
hook sync 'exit 3'
hook rpo-missed "echo \"\$KAGAMI_EVENT_JSON\" >>$W/missed"
"$e2e/webhook_server.py" "$P" "$W/posted" 2 &
pids+=($!)
wait_for 10 test -e "$W/posted.ready"
echo "http://127.0.0.1:$P/secret-path" >"$W/url"

new_image "$W/a.raw" $((4 << 20))
start_receiver --hooks "$H" --webhook "@$W/url"
start_replicator --hooks "$H"
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 2s >/dev/null
wait_for 60 has_point vm1
kagami pause vm1
wait_for 30 grep -qs rpo-missed "$W/any"
wait_for 30 eval 'jq -e ".class == \"rpo-missed\" and .protection == \"vm1\" and .severity == \"critical\" and .data.cause != null" "$W/missed" >/dev/null 2>&1'
kagami resume vm1
wait_for 60 grep -qs 'rpo-kept vm1' "$W/any"

# The webhook: the first two tries were refused, and what they were for came all the same; in order, each once.
wait_for 60 eval 'grep -v ^refused "$W/posted" | grep -q rpo-kept'
grep -v ^refused "$W/posted" | jq -s -e '[.[].id] | . == ([range(1; length + 1)])' >/dev/null || fail "posted: $(cat "$W/posted")"
is "tries that were refused" "$(grep -c ^refused "$W/posted")" 2
at_target GET '/v1/events?class=rpo-kept&newest=1' | jq -c '.events[0]' >"$W/told"
is "what was posted" "$(grep -v ^refused "$W/posted" | jq -c 'select(.class == "rpo-kept") | .text' | head -n 1)" "$(at_target GET '/v1/events?class=rpo-kept' | jq -c '.events[0].text')"

# The failing hook of the source is an event of its own, and the hanging one is ended in its time; both daemons are well.
wait_for 30 eval 'at_source GET "/v1/events?class=alerts" | jq -e "[.events[].text] | any(contains(\"exit status 3\"))" >/dev/null'
wait_for 40 eval 'at_target GET "/v1/events?class=alerts" | jq -e "[.events[].text] | any(contains(\"did not end within 10 s\"))" >/dev/null'
refuses 'one of .*rpo-missed' kagami events --class rpo-misst
daemons_alive
! grep -rq secret-path "$W"/*.log || fail "the URL is in the log"

# A stop does not wait for a hook that hangs.
begin=$SECONDS
stop_receiver
at_most "seconds until the receiver stopped" $((SECONDS - begin)) 15
grep -q 'daemon' "$W/any" || fail "no event of the daemon: $(cat "$W/any")"

# A certificate that nobody vouches for.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$W/key.pem" -out "$W/cert.pem" -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 >/dev/null 2>&1
P=$(free_port)
"$e2e/webhook_server.py" "$P" "$W/tls" 0 "$W/cert.pem" "$W/key.pem" &
pids+=($!)
wait_for 10 test -e "$W/tls.ready"
start_receiver --webhook "https://127.0.0.1:$P/"
wait_for 40 eval 'at_target GET "/v1/events?class=alerts" | jq -e "[.events[].text] | any(contains(\"the webhook was not reached\"))" >/dev/null'
[ ! -s "$W/tls" ] || fail "posted without trust: $(cat "$W/tls")"
stop_receiver

refuses 'begins with https' kagami-receiver --run-dir "$R/run2" --store "$W" --listen 127.0.0.1:0 --webhook file:///etc/passwd
chmod 770 "$H"
refuses 'others may write to it' kagami-receiver --run-dir "$R/run2" --store "$W" --listen 127.0.0.1:0 --hooks "$H"

# The hook that we ship, with a mail program that writes down: a warning is mailed, what is none is not, and what was held back is told.
mkdir "$W/bin"
printf '#!/bin/sh\nprintf "%%s\\n" "$@" >>%s\ncat >>%s\n' "$W/mailed" "$W/mailed" >"$W/bin/mail"
chmod 755 "$W/bin/mail"
shipped() { # SEVERITY CLASS SUPPRESSED
	env -i PATH="$W/bin:/usr/bin:/bin" KAGAMI_EVENT_SEVERITY="$1" KAGAMI_EVENT_CLASS="$2" KAGAMI_EVENT_SUPPRESSED="$3" KAGAMI_EVENT_PROTECTION=vm1 \
		KAGAMI_EVENT_TEXT="text of $2" KAGAMI_EVENT_WHEN=2026-01-01T00:00:00.000Z KAGAMI_EVENT_JSON='{}' "$e2e/../../tools/hooks/any"
}
shipped info sync 0
! [ -e "$W/mailed" ] || fail "mailed: $(cat "$W/mailed")"
shipped critical rpo-missed 3
shipped info rpo-kept 0
for text in 'critical: vm1: rpo-missed (and 3 before it)' 'text of rpo-missed' 'info: vm1: rpo-kept' '{}'; do
	grep -qF -- "$text" "$W/mailed" || fail "the mail lacks '$text': $(cat "$W/mailed")"
done
