#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A link that somebody put into the store leads nowhere: not for a mount, not for a failover, not for the receiver's own keys. A FIFO there is waited for by nobody.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl

new_image "$W/a.raw" $((4 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
mkdir "$W/outside" "$W/mnt"

ln -s "$W/outside" "$STORE/vm1/tests"
refuses 'symbolic|mount|tests' kagami mount vm1 "$W/mnt"
ln -s "$W/outside" "$STORE/vm1/failover"
refuses 'not a directory' kagami failover vm1
rm "$STORE/vm1/failover"
kagami failover vm1 >/dev/null
mv "$STORE/vm1/failover" "$W/outside/failover"
ln -s "$W/outside/failover" "$STORE/vm1/failover"
refuses 'symbolic|links' kagami failover vm1 --rollback --yes
refuses 'symbolic|links' kagami failover vm1 --rollback --discard-failover --yes
is "files outside" "$(ls "$W/outside/failover" | tr '\n' ' ')" "failover.json failover.json.copy vda.qcow2 "
is "state" "$(replica vm1 .state)" failed-over
daemons_alive

stop_receiver
mv "$STORE/.kagami" "$W/outside/keys"
ln -s "$W/outside/keys" "$STORE/.kagami"
status=0
timeout 20 kagami-receiver --store "$STORE" --listen "127.0.0.1:$PORT" --run-dir "$KAGAMI_RUN_DIR" 2>"$W/err" || status=$?
is "exit status of a receiver whose keys are behind a link" $status 1
grep -q -- --state "$W/err" || fail "it says: $(cat "$W/err")"
start_receiver --state "$W/outside/keys"
