#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the receiver is doing to a protection is one word in the status, with its cause and the time of the next try; and when the
# cause is gone the protection goes on by itself, and its waits start over with the point that is committed.
. "$(dirname "$0")/lib.sh"
requires qemu-img jq curl

new_image "$W/a.raw" $((8 << 20))
start_pair
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

in_state() { # NAME STATE
	[ "$(protection "$1" .state)" = "$2" ]
}
failures() { # NAME
	protection "$1" .connect_failures
}
waits() { # it waits for its next try, and says so
	[ "$(protection vm1 '.retry_in_ms != null and .connected == false')" = true ]
}

is "no wait while connected" "$(protection vm1 .retry_in_ms)" null
stop_receiver
wait_for 20 in_state vm1 target-down
wait_for 20 waits
is "its cause is there" "$(protection vm1 '.reason != ""')" true
kagami status vm1 | grep -q 'next try' || fail "the next try is not shown: $(kagami status vm1)"
failed_twice() { [ "$(failures vm1)" -ge 2 ]; }
wait_for 20 failed_twice

start_receiver
wait_for 40 in_state vm1 idle
is "no reason when it is well" "$(protection vm1 .reason)" ""
failed_twice || fail "a session alone is no progress: the waits started over without a point"
n=$(cycle vm1)
is "the waits start over with a point" "$(failures vm1)" 0
point_equals vm1 "$n" vda "$W/a.raw"
