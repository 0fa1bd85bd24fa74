#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The network is cut in the middle of a sync and of cycles, after all sorts of numbers of bytes, or swallows everything for
# a while: points stay true, the guest goes on, and replication comes back by itself.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
requires qemu-img qemu-io jq curl

front=$(free_port)
echo pass >"$W/net"
"$e2e/tcp_proxy.py" "$front" "$PORT" "$W/net" >"$W/proxy.log" 2>&1 &
pids+=($!)
start_receiver
start_replicator
kagami pair dr "$(new_token "127.0.0.1:$front")" >/dev/null

network() { # MODE
	echo "$1" >"$W/net.new"
	mv "$W/net.new" "$W/net"
}

new_image "$W/a.raw" $((64 << 20))
network 'after 3000000'
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 60 has_point vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"

for bytes in 1 700 5000 70000 300000 2000000; do
	network "after $bytes"
	nbd_io vm1 vda "write -P $((bytes % 251)) $((bytes % 50))M 4M" 'write -P 0x71 60M 4k'
	n=$(cycle vm1)
	point_equals vm1 "$n" vda "$W/a.raw"
	cp --sparse=always "$W/a.raw" "$W/a.$n"
	kept+=("$n")
done

network cut
disconnected() { ! connected vm1; }
wait_for 20 disconnected
[ -n "$(protection vm1 .reason)" ] || fail "a cut network has no reason in the status"
nbd_io vm1 vda 'write -P 0x72 1M 1M' 'read -P 0x72 1M 1M'
network pass
wait_for 60 connected vm1
n=$(cycle vm1)
is "reason for a sync after a cut" "$(protection vm1 .last_cycle.sync_reason)" null
point_equals vm1 "$n" vda "$W/a.raw"

network hang
nbd_io vm1 vda 'write -P 0x73 2M 1M'
at_source POST /v1/protections/vm1/cycle >/dev/null
sleep 2
nbd_io vm1 vda 'write -P 0x74 2M 64k' 'read -P 0x74 2M 64k'
network pass
wait_for 60 connected vm1
n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
for n in "${kept[@]}"; do
	point_equals vm1 "$n" vda "$W/a.$n"
done
daemons_alive
