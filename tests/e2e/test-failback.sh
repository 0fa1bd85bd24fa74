#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The way back after a failover, by the commands of docs/failback.md: what the machine wrote at the target comes home, only what differs travels, and it is
# protected again as before. Host A and host B are two run directories.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

MIB=$((1 << 20))
A=$KAGAMI_RUN_DIR B=$R/b
STORE_A=$W/store-a STORE_B=$W/store-b STATE_A=$W/state-a STATE_B=$W/state-b
mkdir "$STORE_A" "$STORE_B" "$STATE_A" "$STATE_B"
port_a=$(free_port) port_b=$(free_port)
on_a() { export KAGAMI_RUN_DIR=$A STORE=$STORE_A STATE=$STATE_A PORT=$port_a; }
on_b() { export KAGAMI_RUN_DIR=$B STORE=$STORE_B STATE=$STATE_B PORT=$port_b; }
made() { kagami cycle vm1 --wait >/dev/null; } # a point; who has it is another host
writes() { # QCOW2 COMMAND: the machine at the target
	qemu-io -f qcow2 -c "$2" "$1" >/dev/null
}

# As it was: A protects vm1 to B.
new_image "$W/vm1.raw" $((64 * MIB)) 5
on_b
start_receiver
token=$(new_token)
on_a
start_replicator
kagami pair b "$token" >/dev/null
kagami protect vm1 vda="$W/vm1.raw" --to b --rpo 1h >/dev/null
nbd_io vm1 vda 'write -P 0xa1 1M 64k'
made
nbd_io vm1 vda 'write -P 0xa2 2M 64k' # after the newest point: what an unplanned failover loses
kill_replicator

on_b
kagami failover vm1 >/dev/null
disk=$STORE/vm1/failover/vda.qcow2
writes "$disk" 'write -P 0xb1 30M 256k'

# 1. The machine is shut down at B; the failover is made final, and becomes a raw image there.
kagami failover vm1 --commit --yes >/dev/null
qemu-img convert -f qcow2 -O raw "$disk" "$W/vm1-b.raw"
qemu-img compare -q -f qcow2 -F raw "$disk" "$W/vm1-b.raw"

# 2. A is back: its agent is fenced. The protection there ends, and the old image becomes the seed of a replica at A.
on_a
start_replicator
start_receiver
token=$(new_token)
on_b
start_replicator
kagami pair a "$token" >/dev/null
on_a
refuses 'agent that protects it' kagami seed vm1/vda "$W/vm1.raw" --format raw --move --wait
kagami unprotect vm1 --yes >/dev/null
kagami seed vm1/vda "$W/vm1.raw" --format raw --move --wait >/dev/null

# 3. B protects the machine to A, which runs on there.
on_b
kagami protect vm1 vda="$W/vm1-b.raw" --to a --rpo 1h --seed >/dev/null
nbd_io vm1 vda 'write -P 0xb2 31M 64k'
made
at_most "bytes that travelled home first" "$(at_source GET '/v1/protections/vm1/syncs' | jq '[.syncs[].wire_bytes // 0] | max')" $((4 * MIB))

# 4. The switch: the machine is shut down at B, a last point is made, and A fails over to it.
nbd_io vm1 vda 'write -P 0xb3 32M 64k' 'flush'
made
kagami unprotect vm1 --yes >/dev/null
on_a
point_equals vm1 "$(newest_point vm1)" vda "$W/vm1-b.raw"
kagami failover vm1 >/dev/null
kagami failover vm1 --commit --yes >/dev/null
qemu-img convert -f qcow2 -O raw "$STORE/vm1/failover/vda.qcow2" "$W/home.raw"
qemu-img compare -q -f raw -F raw "$W/home.raw" "$W/vm1-b.raw"
qemu-io -f raw -r -c 'read -P 0xa1 1M 64k' -c 'read -P 0xb1 30M 256k' -c 'read -P 0xb3 32M 64k' "$W/home.raw" >"$W/read.out"
! grep -qi 'failed' "$W/read.out" || fail "what the machine wrote is not at home: $(cat "$W/read.out")"
kagami forget vm1 --discard-failover --yes >/dev/null

# 5. As it was again: what B had becomes the seed there.
on_b
kagami forget vm1 --discard-failover --yes >/dev/null
kagami seed vm1/vda "$W/vm1-b.raw" --format raw --move --wait >/dev/null
on_a
kagami protect vm1 vda="$W/home.raw" --to b --rpo 1h --seed >/dev/null
nbd_io vm1 vda 'write -P 0xa3 3M 64k'
made
at_most "bytes of the first sync of all" "$(at_source GET '/v1/protections/vm1/syncs' | jq '[.syncs[].wire_bytes // 0] | max')" $((4 * MIB))
on_b
point_equals vm1 "$(newest_point vm1)" vda "$W/home.raw"
kagami store check >/dev/null
