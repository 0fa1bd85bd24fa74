#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two pairs run side by side on one host without root and without knowing of each other; one of them protects two machines.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

new_image "$W/a.raw" $((8 << 20)) 1
new_image "$W/b.raw" $((8 << 20)) 2
new_image "$W/c.raw" $((8 << 20)) 3

start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 2s >/dev/null
kagami protect vm2 vda="$W/b.raw" --to dr --rpo 2s >/dev/null
one=$KAGAMI_RUN_DIR

export KAGAMI_RUN_DIR=$R/two
STORE=$W/store2 STATE=$W/state2 PORT=$(free_port)
mkdir "$STORE" "$STATE"
start_pair
kagami protect vm1 vda="$W/c.raw" --to dr --rpo 2s >/dev/null

nbd_io vm1 vda 'write -P 0xc1 1M 64k'
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/c.raw"
is "protections of the second pair" "$(at_source GET /v1/protections | jq '.protections | length')" 1

KAGAMI_RUN_DIR=$one
nbd_io vm1 vda 'write -P 0xc2 2M 64k'
nbd_io vm2 vda 'write -P 0xc3 3M 64k'
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
n=$(cycle vm2)
point_equals vm2 "$n" vda "$W/b.raw"
is "protections of the first pair" "$(at_source GET /v1/protections | jq '.protections | length')" 2

# Left alone, each makes its points by the clock, and holds its RPO.
before=$(newest_point vm1)
sleep 5
at_least "newest point after 5 s" "$(newest_point vm1)" $((before + 2))
for name in vm1 vm2; do
	is "rpo_violated of $name" "$(protection $name .rpo_violated)" false
	at_most "age of the newest point of $name" "$(protection $name .age_ms)" 2000
done
