#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kagami bundle: what is needed to help is in it, and no secret of either daemon is.
. "$(dirname "$0")/lib.sh"

start_receiver --webhook https://hooks.example.invalid/services/T0123456789abcdefghij
start_replicator
token=$(new_token)
kagami pair dr "$token" >/dev/null
unused=$(new_token)
new_image "$W/d.raw" $((8 << 20))
kagami protect vm1 vda="$W/d.raw" --to dr --rpo 60s >/dev/null
wait_for 30 has_point vm1

kagami bundle "$W/b.tar.gz" >"$W/out"
grep -q 'no keys or tokens' "$W/out" || fail "it says: $(cat "$W/out")"
is "its mode" "$(stat -c %a "$W/b.tar.gz")" 600
mkdir "$W/b"
tar -xzf "$W/b.tar.gz" -C "$W/b"
B=$W/b/kagami-bundle
for file in README.txt missing.txt replicator/version.json replicator/protections.json replicator/vm1/syncs.json replicator/configuration.json receiver/protections.json \
	receiver/vm1/points.json receiver/store.json receiver/check.json receiver/peers.json host/os-release.txt host/uname.txt; do
	[ -s "$B/$file" ] || [ $file = missing.txt ] || fail "$file is missing: $(cat "$B/missing.txt")"
done
is "the check of the store" "$(jq -r .state "$B/receiver/check.json")" done
is "the protection" "$(jq -r '.protections[0].name' "$B/replicator/protections.json")" vm1
[ "$(jq -r .options.store "$B/receiver/configuration.json")" = "$STORE" ] || fail "options: $(cat "$B/receiver/configuration.json")"
jq -e '.lines | any(contains("ready store="))' "$B/receiver/log.json" >/dev/null || fail "the log: $(cat "$B/receiver/log.json")"

# Every secret that the two have on disk, each line of a key by itself, and tokens that were and were not used.
secret_in() { # WHAT TEXT
	[ ${#2} -ge 20 ] || fail "the test found no $1"
	! grep -rqF -- "$2" "$B" || fail "$1 is in the bundle: $(grep -rlF -- "$2" "$B")"
}
secret_in "a token" "$token"
secret_in "a token" "$unused"
secret_in "the path of the webhook" T0123456789abcdefghij
secret_in "the secret of the digests" "$(jq -r .digest_secret "$STATE/protections/vm1/protection.json" | cut -c1-64)"
keys=0
while read -r file; do
	while read -r line; do
		secret_in "a private key ($file)" "$line"
		keys=$((keys + 1))
	done < <(sed -n '/PRIVATE KEY/,/END/p' "$file" | grep -v -- '-----')
done < <(grep -rl 'PRIVATE KEY' "$STATE" "$STORE")
at_least "lines of private keys that were looked for" $keys 2
! grep -rq 'PRIVATE KEY\|digest_secret' "$B" || fail "a key is in the bundle"

refuses 'exists|is there' kagami bundle "$W/b.tar.gz"
kagami bundle "$W/b.tar.gz" --force >/dev/null
[ ! -e "$W/b.tar.gz.part" ] || fail "a part was left"

# A limit on the size of files is an error as a full disk is one, and ends nobody by a signal.
limited() {
	(ulimit -f 1 && exec kagami "$@")
}
refuses 'File too large' limited bundle "$W/limited.tar.gz"
refuses 'File too large' limited export vm1 "$W/limited.raw"
[ ! -e "$W/limited.tar.gz.part" ] && [ ! -e "$W/limited.raw.part" ] || fail "a part was left"

# Of one that hangs nobody has to wait for the answer.
kill -STOP "$RECEIVER"
kagami bundle "$W/hung.tar.gz" >/dev/null 2>"$W/hung.err" &
bundle=$!
wait_for 30 test -e "$W/hung.tar.gz.part"
sleep 1
kill -INT $bundle
ended() {
	! kill -0 $bundle 2>/dev/null
}
wait_for 30 ended
kill -CONT "$RECEIVER"
! wait $bundle || fail "a bundle that was interrupted says it was made"
grep -q 'interrupted: .*hung.tar.gz was not made' "$W/hung.err" || fail "it says: $(cat "$W/hung.err")"
[ ! -e "$W/hung.tar.gz" ] && [ ! -e "$W/hung.tar.gz.part" ] || fail "an interrupted bundle left something"

# One of the two, and none: what can be had is still had, and what cannot is named.
stop_receiver
kagami bundle "$W/c.tar.gz" >/dev/null
tar -xzOf "$W/c.tar.gz" kagami-bundle/missing.txt | grep -q '^receiver/version.json: ' || fail "it is not said that the receiver is away"
KAGAMI_RUN_DIR=$R/nowhere kagami bundle "$W/d.tar.gz" | grep -q 'about the host alone' || fail "it is not said that neither answers"
refuses 'no such|not found|open|directory' kagami bundle "$W/none/x.tar.gz"
