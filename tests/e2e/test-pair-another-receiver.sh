#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The name of a site is that of its receiver: the token of another one does not take it, and nothing is copied anew, until --replace says that the old one is lost.
. "$(dirname "$0")/lib.sh"
requires qemu-io jq curl

new_image "$W/a.raw" $((8 << 20))
start_pair
for name in vm1 vm2; do
	cp "$W/a.raw" "$W/$name.raw"
	kagami protect "$name" vda="$W/$name.raw" --to dr --rpo 1h >/dev/null
	wait_for 30 has_point "$name"
done
site() { at_source GET /v1/sites | jq -r '.sites[] | "\(.name) \(.address) \(.fingerprint)"'; }
before=$(site)
last=$(newest_point vm1)

# The same one again, at any time.
kagami pair dr "$(new_token)" >/dev/null
is "sites" "$(site)" "$before"

# Another one.
first=$KAGAMI_RUN_DIR old_store=$STORE
KAGAMI_RUN_DIR=$R/run2 STORE=$W/store2 PORT=$(free_port)
mkdir "$STORE"
mv "$W/kagami-receiver.log" "$W/first.log"
start_receiver
token=$(new_token)
second=$KAGAMI_RUN_DIR
KAGAMI_RUN_DIR=$first
refuses 'used by vm1, vm2: choose another name .*--replace' kagami pair dr "$token"
is "sites" "$(site)" "$before"
answer=$(at_source POST /v1/sites "$(jq -n --arg t "$token" '{name: "dr", token: $t}')" || true)
is "answer" "$(jq -r .error.code <<<"$answer")" EEXIST
n=$(cycle vm1) # goes on, where it was
at_most "points in between" $((n - last)) 2
is "what the other one has" "$(find "$STORE" -maxdepth 1 -name 'vm*')" ''

# Its token is good still: under another name, and, once it is said, under this one.
kagami pair elsewhere "$token" >/dev/null
is "sites" "$(site | wc -l)" 2
refuses 'which no protection uses: choose another name .*--replace' kagami pair elsewhere "$(new_token)"
is "sites" "$(site | head -n 1)" "$before"
token=$(KAGAMI_RUN_DIR=$second new_token)
kagami pair dr "$token" --replace | grep -q 'is now the site "dr"' || fail "it is not paired"
[ "$(site | head -n 1)" != "$before" ] || fail "the site is the old one still"
arrived() { [ -d "$STORE/vm1/points" ] && [ -n "$(ls "$STORE/vm1/points")" ]; }
wait_for 30 arrived
[ -d "$old_store/vm1/points/$n" ] || fail "the old replica is not where it was"
daemons_alive
