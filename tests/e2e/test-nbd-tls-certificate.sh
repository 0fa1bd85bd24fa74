#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A server's certificate that NBD clients over TCP will refuse is told at the start, in the log and by an event, with what to do; the start and the guests on the unix
# socket do not suffer from it. What a client says when it refuses is in the log. New certificates are taken up while clients are attached, and those that cannot be used
# are told.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/certificates.sh"
requires openssl nbdinfo nbdsh jq curl

make_ca "$W/ca"
make_ca "$W/other"
issue "$W/ca" "$W/good" server
issue "$W/ca" "$W/soon" server -days 5
issue "$W/ca" "$W/expired" server -days -1
issue "$W/other" "$W/others" server
cp "$W/ca/ca-cert.pem" "$W/others/"
issue "$W/ca" "$W/client" client

new_image "$W/a.raw" $((8 << 20))
start_receiver
NBD=127.0.0.1:$(free_port)
start_with() { # DIR
	: >"$W/kagami-replicator.log"
	start_replicator --nbd-listen "$NBD" --nbd-tls "$W/$1"
}
log_has() { grep -qE -- "$1" "$W/kagami-replicator.log"; }
told() { # SEVERITY TEXT
	kagami events --json | jq -se --arg s "$1" --arg t "$2" 'map(select(.class == "daemon" and .severity == $s and (.text | test($t)))) | length > 0' >/dev/null
}
uri="nbds://$NBD/vm1/vda?tls-certificates=$W/client"

start_with good
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
is "size" "$(nbdinfo --size "$uri")" $((8 << 20))
! log_has server-cert.pem || fail "something is said of a certificate that is good"
stop_replicator

start_with soon
wait_for 5 log_has 'server-cert.pem from .* in [45] days, when it expires'
wait_for 5 told warning 'replace it'
is "size with a certificate that expires soon" "$(nbdinfo --size "$uri")" $((8 << 20))
stop_replicator

start_with others
wait_for 5 log_has 'will refuse .*/others/server-cert.pem: .*issuer'
wait_for 5 told critical 'others/server-cert.pem'
stop_replicator

start_with expired
wait_for 5 log_has 'will refuse .*/expired/server-cert.pem: certificate has expired, at 20.*sign a new one'
wait_for 5 told critical 'certificate has expired'
is "size on the unix socket" "$(nbdinfo --size "$(uri vm1 vda)")" $((8 << 20))
! nbdinfo --size "$uri" >"$W/out" 2>&1 || fail "a client takes a certificate that has expired"
wait_for 5 log_has 'an NBD client was refused peer=127.0.0.1.*(alert|does not trust)'
/usr/bin/python3 - "${NBD%:*}" "${NBD#*:}" "$W/client" <<'END' || fail "a client that says why: status $?"
import socket, ssl, struct, sys
context = ssl.create_default_context(cafile=sys.argv[3] + "/ca-cert.pem")
context.load_cert_chain(sys.argv[3] + "/client-cert.pem", sys.argv[3] + "/client-key.pem")
for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
    context.maximum_version = version
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0))
    s.recv(20, socket.MSG_WAITALL)
    try:
        context.wrap_socket(s, server_hostname=sys.argv[1])
        sys.exit("a certificate that has expired is taken")
    except ssl.SSLCertVerificationError:
        pass
END
said_twice() { [ "$(grep -c 'an NBD client was refused peer=127.0.0.1.*the alert "certificate expired"' "$W/kagami-replicator.log")" = 2 ]; }
wait_for 5 said_twice
stop_replicator

# Replaced under an attached client, by those of another CA.
cp -r "$W/good" "$W/live"
issue "$W/other" "$W/other-client" client
other_uri="nbds://$NBD/vm1/vda?tls-certificates=$W/other-client"
start_with live
sh_at() { # URI SCRIPT: nbdsh opens files that a URI names only when told so
	nbdsh -c 'h.set_uri_allow_local_file(True)' -c "h.connect_uri('$1')" -c "$2"
}
nbdsh -c 'h.set_uri_allow_local_file(True)' -c "h.connect_uri('$uri')" -c "
import os, time
h.pwrite(b'a' * 4096, 4096)
open('$W/attached', 'w').close()
while not os.path.exists('$W/replaced'): time.sleep(0.05)
assert h.pread(4096, 4096) == b'a' * 4096
h.pwrite(b'b' * 4096, 4096, nbd.CMD_FLAG_FUA)
" &
client=$!
pids+=($client)
wait_for 10 test -e "$W/attached"
! nbdinfo --size "$other_uri" >/dev/null 2>&1 || fail "a client of another CA is let in"
cp "$W/others/server-cert.pem" "$W/live/"
is "size, with a certificate replaced and its key not yet" "$(nbdinfo --size "$uri")" $((8 << 20))
wait_for 5 told warning 'new certificates cannot be used.*from before: .*/live/server-key.pem: not the key of'
cp "$W/others/server-key.pem" "$W/live/"
cp "$W/other/ca-cert.pem" "$W/live/"
is "size, by a client of the new CA" "$(nbdinfo --size "$other_uri")" $((8 << 20))
wait_for 5 told info 'served with the new certificates in .*/live'
! nbdinfo --size "$uri" >/dev/null 2>&1 || fail "a client of the CA from before is let in"
touch "$W/replaced"
wait "$client" || fail "the client that was attached: status $?"
unset "pids[-1]"
is "what it wrote behind that" "$(sh_at "$other_uri" 'print(h.pread(2, 4096))')" "bytearray(b'bb')"
cp "$W/expired/"{ca-cert,server-cert,server-key}.pem "$W/live/"
! nbdinfo --size "$uri" >/dev/null 2>&1 || fail "a client takes a certificate that has expired"
wait_for 5 told critical 'live/server-cert.pem: certificate has expired.*the next client'
daemons_alive
