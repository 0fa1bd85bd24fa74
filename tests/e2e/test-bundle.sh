#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The support bundle: what is in it, of both daemons and of the one that answers; and that no secret is: no private key, pairing token, digest secret, web
# token, nor the URL of the webhook.
. "$(dirname "$0")/lib.sh"
requires jq curl tar openssl

secret_url=https://hooks.example/T0123456789abcdefSECRETPART
openssl rand -hex 32 >"$W/token"
new_image "$W/a.raw" $((4 << 20))
start_receiver --webhook "$secret_url" --web 127.0.0.1:0 --web-token "$W/token"
start_replicator
used=$(new_token)
kagami pair dr "$used" >/dev/null
unused=$(new_token)
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1

kagami bundle "$W/b.tar.gz" >"$W/out"
is "mode of the bundle" "$(stat -c %a "$W/b.tar.gz")" 600
refuses 'is there' kagami bundle "$W/b.tar.gz"
kagami bundle "$W/b.tar.gz" --force --fast --json | jq -e '.daemons == 2 and .missing <= 3' >/dev/null || fail "$(cat "$W/out")"
mkdir "$W/x"
tar -xzf "$W/b.tar.gz" -C "$W/x"
B=$W/x/kagami-bundle
for file in README.txt host.json replicator/{version,configuration,events,log,sites,protections}.json replicator/metrics.txt \
	receiver/{version,configuration,events,log,peers,store,store-check,protections,vm1-history-hour,vm1-points,vm1-scrub}.json receiver/metrics.txt; do
	[ -s "$B/$file" ] || fail "no $file in the bundle: $(cd "$B" && find . -type f | sort)"
	case $file in *.json) jq . "$B/$file" >/dev/null || fail "$file is no JSON" ;; esac
done
jq -e '.lines | any(contains("session opened protection=vm1"))' "$B/receiver/log.json" >/dev/null || fail "the log: $(cat "$B/receiver/log.json")"
jq -e '.events | any(.class == "settings")' "$B/replicator/events.json" >/dev/null || fail "the events"
jq -e '.options.store != null and .options.webhook == "(left out)"' "$B/receiver/configuration.json" >/dev/null || fail "$(cat "$B/receiver/configuration.json")"
jq -e '.report.sound' "$B/receiver/store-check.json" >/dev/null || fail "the check: $(cat "$B/receiver/store-check.json")"
tail -n 1 "$B/receiver/metrics.txt" | grep -qx '# EOF' || fail "metrics"

# Every secret that there is, in each form that it has on disk; and the check would find one.
secrets=("$used" "$unused" "$(cat "$W/token")" SECRETPART)
while read -r line; do secrets+=("$line"); done < <(cat "$STATE"/identity.pem "$STORE"/.kagami/identity.pem | grep -v -e ----- )
for file in "$STATE"/protections/vm1/protection.json "$STORE"/vm1/protection.json; do
	while read -r secret; do secrets+=("$secret"); done < <(jq -r '.. | objects | to_entries[] | select(.key | test("secret")) | .value | strings' "$file")
done
at_least "secrets that are looked for" "${#secrets[@]}" 10
for secret in "${secrets[@]}"; do
	[ ${#secret} -ge 8 ] || continue
	! grep -rqF -- "$secret" "$B" || fail "a secret is in the bundle: $(grep -rlF -- "$secret" "$B")"
	! grep -rqF -- "${secret:0:32}" "$B" || fail "a part of a secret is in the bundle: $(grep -rlF -- "${secret:0:32}" "$B")"
done
! grep -rqF 'PRIVATE KEY' "$B" || fail "a private key"

# Of the daemon that answers; of none there is no bundle.
stop_receiver
kagami bundle "$W/c.tar.gz" >"$W/out"
grep -q 'of 1 of the two daemons' "$W/out" || fail "$(cat "$W/out")"
tar -tzf "$W/c.tar.gz" | grep -q replicator/log.json || fail "no replicator"
stop_replicator
status=0
kagami bundle "$W/d.tar.gz" >"$W/out" 2>&1 || status=$?
is "exit status without a daemon" $status 3
[ ! -e "$W/d.tar.gz" ] && [ ! -e "$W/d.tar.gz.part" ] || fail "something is left"
