#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A receiver that has all of a point and says nothing is given as the reason after half a minute; once it goes on the point is committed and there is none.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

start_pair
new_image "$W/a.raw" $((8 << 20))
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
n=$(newest_point vm1)
nbd_io vm1 vda 'write -P 0x31 1M 64k'
at_end "kill -CONT $RECEIVER"
kill -STOP "$RECEIVER"
at_source POST /v1/protections/vm1/cycle >/dev/null
commits() { [ "$(protection vm1 .state)" = committing ]; }
wait_for 20 commits
is "reason at first" "$(protection vm1 .reason)" ""
told() { [[ $(protection vm1 .reason) =~ ^"the receiver has not answered for "[0-9]+" s since it has all of the point" ]]; }
wait_for 45 told
commits || fail "it is $(protection vm1 .state) when that is told"
kill -CONT "$RECEIVER"
sealed() { [ "$(newest_point vm1)" != "$n" ]; }
wait_for 30 sealed
well() { [ "$(protection vm1 .state)" = idle ] && [ -z "$(protection vm1 .reason)" ]; }
wait_for 20 well
point_equals vm1 "$(newest_point vm1)" vda "$W/a.raw"
daemons_alive
