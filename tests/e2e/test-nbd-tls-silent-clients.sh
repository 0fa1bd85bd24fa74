#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Over TCP as on the unix socket: connections that never choose a disk lock nobody out who has a certificate, whether they say nothing or stop behind TLS; those who
# have a disk do not notice; the log says it a few times. An option that is too long is refused, and its connection lives.
# It waits most of the time.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/certificates.sh"
requires openssl nbdinfo nbdsh jq curl

make_ca "$W/ca"
issue "$W/ca" "$W/server" server
issue "$W/ca" "$W/client" client
NBD=127.0.0.1:$(free_port)
uri="nbds://$NBD/vm1/vda?tls-certificates=$W/client"
new_image "$W/a.raw" $((8 << 20))
start_receiver
start_replicator --nbd-listen "$NBD" --nbd-tls "$W/server"
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" --to dr --rpo 1h >/dev/null
wait_for 30 has_point vm1
is "size" "$(nbdinfo --size "$uri")" $((8 << 20))

cat >"$W/silent.py" <<'PY'
# COUNT connections that say nothing, or nothing behind TLS, each made again when it is closed where `again`; after SECONDS: how many were closed.
import select, socket, ssl, struct, sys, time
host, port, certificates, kind, count, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), float(sys.argv[6])
context = ssl.create_default_context(cafile=certificates + "/ca-cert.pem")
context.load_cert_chain(certificates + "/client-cert.pem", certificates + "/client-key.pem")
def dial():
    s = socket.create_connection((host, port), timeout=30)
    if kind == "known":
        s.recv(18, socket.MSG_WAITALL)
        s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0))
        s.recv(20, socket.MSG_WAITALL)
        s = context.wrap_socket(s, server_hostname=host)
    s.setblocking(False)
    return s
def closed(s):
    try:
        while s.recv(4096):
            pass
        return True
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
there = [dial() for _ in range(count)]
print("there", flush=True)
end, ended = time.time() + seconds, 0
while time.time() < end:
    ready, _, _ = select.select(there, [], [], max(0, end - time.time()))
    for s in ready:
        if closed(s):
            s.close()
            there.remove(s)
            ended += 1
            if kind == "again":
                there.append(dial())
print("closed", ended, flush=True)
PY
begin() { # KIND COUNT SECONDS
	/usr/bin/python3 "$W/silent.py" "${NBD%:*}" "${NBD#*:}" "$W/client" "$@" >"$W/silent.out" &
	silent=$!
	pids+=($silent)
	wait_for 20 grep -q there "$W/silent.out"
}

nbdsh -c 'h.set_uri_allow_local_file(True)' -c "h.connect_uri('$uri')" -c '
import time
end = time.time() + 36
n = 0
while time.time() < end:
    h.pwrite(bytes([n & 255]) * 4096, (n % 100) * 4096)
    n += 1
    time.sleep(0.01)
h.shutdown()' >"$W/worker.log" 2>&1 &
worker=$!
pids+=($worker)

# --- options that are too long

PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$root/tests/e2e /usr/bin/python3 - "${NBD%:*}" "${NBD#*:}" "$W/client" <<'END' || fail "options that are too long: status $?"
import long_options, socket, ssl, struct, sys
context = ssl.create_default_context(cafile=sys.argv[3] + "/ca-cert.pem")
context.load_cert_chain(sys.argv[3] + "/client-cert.pem", sys.argv[3] + "/client-key.pem")
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
s.recv(18, socket.MSG_WAITALL)
s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0))
s.recv(20, socket.MSG_WAITALL)
s = context.wrap_socket(s, server_hostname=sys.argv[1])
long_options.check(s, b"vm1/vda")
END

# --- connections that say nothing, and come again at once

begin again 64 18
for ((i = 0; i < 12; i++)); do
	size=$(timeout 10 nbdinfo --size "$uri") || fail "try $i beside 64 silent connections: a client with a certificate is kept out"
	is "size beside 64 silent connections" "$size" $((8 << 20))
	sleep 0.5
done
wait $silent
lines=$(grep -c 'an NBD client' "$W/kagami-replicator.log")
((lines < 40)) || fail "the log has $lines lines of 64 silent connections"
grep -q 'closed for the next one peer=127.0.0.1' "$W/kagami-replicator.log" || fail "the log says nothing of connections that were closed for others"

# --- connections that showed a certificate, and choose no disk

begin known 64 13
is "size beside 64 known ones without a disk" "$(timeout 10 nbdinfo --size "$uri")" $((8 << 20))
wait $silent
is "known ones without a disk that were closed" "$(tail -n 1 "$W/silent.out")" "closed 64"
grep -q 'it chose no disk for 10 s' "$W/kagami-replicator.log" || fail "the log says nothing of known ones that were closed"
wait $worker || fail "who has a disk was disturbed: $(cat "$W/worker.log")"
daemons_alive
