#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A cycle whose point has time lives on what nobody else wants of the processors (SCHED_IDLE), and one that has no point to replace in time
# takes its share. Seen by the reader, which keeps the class of its last read.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl ps
requires_root # or an RLIMIT_NICE: without a way back nobody goes there

class() { # THREAD
	ps -L -o cls=,comm= -p "$REPLICATOR" | awk -v name="$1" '$2 == name { print $1 }'
}

new_image "$W/vda.raw" $((24 << 20))
start_pair
kagami protect vm1 vda="$W/vda.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
is "class of the reader after the first cycle" "$(class kagami-reader)" TS
nbd_io vm1 vda 'write -P 0x5a 3M 1M'
point_equals vm1 "$(cycle vm1)" vda "$W/vda.raw"
is "class of the reader after a cycle with time" "$(class kagami-reader)" IDL
is "class of the thread that sent it, between cycles" "$(class kagami-cycle)" TS
is "class of the export" "$(class kagami-export)" TS
daemons_alive
