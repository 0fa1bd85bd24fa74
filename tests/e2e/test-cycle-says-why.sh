#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A cycle that is waited for ends with the reason that the source knows: at once where the receiver takes none until somebody acts, and else when its time is over.
. "$(dirname "$0")/lib.sh"
requires jq qemu-io

image=$W/vda.raw
new_image "$image" $((4 << 20))
start_pair
kagami protect vm1 vda="$image" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1

ends_with() { # STATUS TIMEOUT TEXT
	local status=0
	nbd_io vm1 vda "write -P $((RANDOM % 250 + 1)) 1M 64k"
	refuses "$3" kagami cycle vm1 --wait --timeout "$2"
	kagami cycle vm1 --wait --timeout "$2" >/dev/null 2>&1 || status=$?
	is "exit status of: $(cat "$W/err")" $status "$1"
}

# A replica that is broken.
stop_receiver
mv "$STORE/vm1/base/vda.raw" "$W/kept.raw"
start_receiver
ends_with 1 5m "cycle [0-9]+ will not be committed: .*vm1 is broken: .*; see the receiver's log"
is "whether it is stuck" "$(protection vm1 .stuck)" true
stop_receiver
ends_with 4 2s 'cycle [0-9]+ is not committed yet \(target-down: .*[Cc]onnection refused.*\); it goes on without this command'
is "whether it is stuck without a receiver" "$(protection vm1 .stuck)" false
mv "$W/kept.raw" "$STORE/vm1/base/vda.raw"
start_receiver
cycle vm1 >/dev/null
is "whether it is stuck afterwards" "$(protection vm1 .stuck)" false

# A receiver whose key is another one.
stop_receiver
mv "$STORE/.kagami/identity.pem" "$W/identity.pem"
start_receiver
ends_with 1 5m 'cycle [0-9]+ will not be committed: .* answers with another key than the one paired with: it is not that receiver, or its key was lost and it must be paired anew'
stop_receiver
mv "$W/identity.pem" "$STORE/.kagami/identity.pem"
start_receiver
cycle vm1 >/dev/null # found before it was asked, and no more now
daemons_alive
