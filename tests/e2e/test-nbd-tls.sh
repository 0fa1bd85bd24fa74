#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# NBD over TCP: with a certificate of the CA every client works as on the unix socket, on any disk of any protection; without
# one, with one of another CA, or in the clear, nobody gets further than a refusal, and those who are attached do not notice.
# Also with sanitizers, in each run of them.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/certificates.sh"
requires openssl qemu-img qemu-io nbdinfo nbdcopy nbdsh nbdkit jq curl

# --- a CA and a server, a client of that CA, and a client of another one

make_ca "$W/ca"
make_ca "$W/other"
issue "$W/ca" "$W/server" server
issue "$W/ca" "$W/client" client
issue "$W/other" "$W/stranger" client
cp "$W/ca/ca-cert.pem" "$W/stranger/" # it trusts the server; the server does not know it
mkdir "$W/nobody"
cp "$W/ca/ca-cert.pem" "$W/nobody/"

# --- how it is started

NBD=127.0.0.1:$(free_port)
cannot_start() { # STATUS TEXT ARGUMENT...
	local wanted=$1 text=$2 status=0
	shift 2
	timeout 10 kagami-replicator --run-dir "$R/no" --state "$STATE" "$@" >/dev/null 2>"$W/err" || status=$?
	is "exit status of kagami-replicator $*" $status "$wanted"
	grep -qE -- "$text" "$W/err" || fail "kagami-replicator $*: says $(cat "$W/err"), expected $text"
}
cannot_start 2 'needs --nbd-tls' --nbd-listen "$NBD"
cannot_start 2 'needs --nbd-listen' --nbd-tls "$W/server"
cannot_start 1 'server-cert.pem.*No such file' --nbd-listen "$NBD" --nbd-tls "$W/client"
cp -r "$W/server" "$W/mixed"
cp "$W/client/client-key.pem" "$W/mixed/server-key.pem"
cannot_start 1 'not the key of' --nbd-listen "$NBD" --nbd-tls "$W/mixed"
chmod 644 "$W/mixed/server-key.pem"
cannot_start 1 'everybody may use' --nbd-listen "$NBD" --nbd-tls "$W/mixed"
cannot_start 2 'not an address' --nbd-listen nowhere --nbd-tls "$W/server"

new_image "$W/a.raw" $((64 << 20)) 1
new_image "$W/b.raw" $((32 << 20)) 2
new_image "$W/c.raw" $((16 << 20)) 3
cp --sparse=always "$W/a.raw" "$W/a.before"
start_receiver
start_replicator --nbd-listen "$NBD" --nbd-tls "$W/server"
kagami pair dr "$(new_token)" >/dev/null
kagami protect vm1 vda="$W/a.raw" vdb="$W/b.raw" --to dr --rpo 1h >/dev/null
kagami protect vm2 vda="$W/c.raw" --to dr --rpo 1h --read-only vda >/dev/null
wait_for 30 has_point vm1

tls_uri() { # EXPORT [CERTIFICATES]
	echo "nbds://$NBD/$1?tls-certificates=${2:-$W/client}"
}

tls_sh() { # EXPORT SCRIPT: nbdsh opens files that a URI names only when told so
	nbdsh -c 'h.set_uri_allow_local_file(True)' -c "h.connect_uri('$(tls_uri "$1")')" -c "$2"
}

# --- who has a certificate

is "exports listed" "$(nbdinfo --list --json "$(tls_uri '')" | jq -r '[.exports[]."export-name"] | join(" ")')" \
	'vm1/vda vm1/vdb vm2/vda'
is "size by nbdinfo" "$(nbdinfo --size "$(tls_uri vm1/vdb)")" $((32 << 20))
nbdinfo --json "$(tls_uri vm1/vda)" | jq -e '(.TLS == true) and .structured and (.exports[0] | ."export-name" == "vm1/vda" and
	.can_multi_conn and .can_fua and (.is_read_only | not) and (.contexts | index("base:allocation")))' >/dev/null ||
	fail "nbdinfo: $(nbdinfo "$(tls_uri vm1/vda)")"
nbdinfo --is read-only "$(tls_uri vm2/vda)" || fail "a read-only disk is writable over TLS"
is "map over TLS" "$(nbdinfo --map "$(tls_uri vm1/vda)")" "$(nbdinfo --map "$(uri vm1 vda)")"
! nbdinfo --size "$(tls_uri vm1/nodisk)" >"$W/out" 2>&1 || fail "a disk that is not there can be attached"
grep -q 'no export named' "$W/out" || fail "a disk that is not there: $(cat "$W/out")"
! nbdinfo --size "$(tls_uri vda)" >/dev/null 2>&1 || fail "a disk can be attached without naming its protection"

nbdcopy "$(tls_uri vm1/vda)" "$W/copy.raw"
cmp "$W/a.before" "$W/copy.raw" || fail "what nbdcopy read over TLS differs"
tls_sh vm1/vda '
import os
data = os.urandom(32 << 20)
h.pwrite(data, 12345 * 512)
h.flush()
assert h.pread(32 << 20, 12345 * 512) == data
h.zero(1 << 20, 3 << 20)
h.trim(1 << 20, 5 << 20)
assert h.pread(1 << 20, 3 << 20) == bytes(1 << 20)
pieces = [nbd.Buffer.from_bytearray(bytearray([i]) * 4096) for i in range(64)]
for i, piece in enumerate(pieces):
    h.aio_pwrite(piece, 4096 * i)
while h.aio_in_flight():
    h.poll(-1)
assert h.pread(65536 * 4, 0) == b"".join(bytes([i]) * 4096 for i in range(64))
h.shutdown()
' || fail "nbdsh over TLS: status $?"

qemu_tls="tls-creds-x509,id=t,endpoint=client,dir=$W/client"
qemu_disk="driver=nbd,host=${NBD%:*},port=${NBD#*:},tls-creds=t,export"
qemu-io --object "$qemu_tls" --image-opts "$qemu_disk=vm1/vdb" -c 'write -P 0x5a 1M 2M' -c 'write -z 8M 1M' -c flush \
	-c 'read -P 0x5a 1M 2M' >"$W/out" 2>&1 || fail "qemu-io over TLS: $(cat "$W/out")"
! grep -qiE 'failed|error' "$W/out" || fail "qemu-io over TLS: $(cat "$W/out")"
qemu-img info --object "$qemu_tls" --image-opts "$qemu_disk=vm2/vda" >/dev/null || fail "qemu-img info over TLS"
qemu-img convert --object "$qemu_tls" --image-opts "$qemu_disk=vm1/vda" -O raw "$W/convert.raw"
cmp "$W/a.raw" "$W/convert.raw" || fail "what qemu-img read over TLS differs"
nbdkit -U - nbd hostname="${NBD%:*}" port="${NBD#*:}" export=vm1/vdb tls=require tls-certificates="$W/client" \
	--run 'nbdcopy "$uri" '"$W/kit.raw"
cmp "$W/b.raw" "$W/kit.raw" || fail "what nbdkit's nbd plugin read differs"

# TLS 1.2 is the oldest that is spoken. And a stranger's certificate that is really sent, as GnuTLS does not when it sees that
# the server asks for another CA's, is refused by that.
/usr/bin/python3 - "${NBD%:*}" "${NBD#*:}" "$W/client" "$W/stranger" <<'END' || fail "versions of TLS: status $?"
import socket, ssl, struct, sys, warnings

warnings.simplefilter("ignore")

def version(newest, who=sys.argv[3]):
    context = ssl.create_default_context(cafile=who + "/ca-cert.pem")
    context.load_cert_chain(who + "/client-cert.pem", who + "/client-key.pem")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = newest
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
    s.recv(18, socket.MSG_WAITALL)
    s.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", 5, 0))
    s.recv(20, socket.MSG_WAITALL)
    try:
        s = context.wrap_socket(s, server_hostname=sys.argv[1])
        s.sendall(struct.pack(">8sII", b"IHAVEOPT", 3, 0)) # in TLS 1.3 only an answer proves that we are let in
        return s.version() if s.recv(1) else None
    except (ssl.SSLError, ConnectionError):
        return None

assert version(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
assert version(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
assert version(ssl.TLSVersion.TLSv1_1) is None
assert version(ssl.TLSVersion.TLSv1_3, sys.argv[4]) is None
assert version(ssl.TLSVersion.TLSv1_2, sys.argv[4]) is None
END

# --- who has none, while one who has is at work

tls_sh vm1/vda '
import os, time
end = time.time() + 12
n = 0
while time.time() < end and not os.path.exists("'"$W"'/stop"):
    h.pwrite(bytes([n & 255]) * 65536, (n % 100) * 65536)
    n += 1
h.shutdown()
' >"$W/worker.log" 2>&1 &
worker=$!
pids+=($worker)

for who in stranger nobody; do
	! nbdinfo --size "$(tls_uri vm1/vda "$W/$who")" >"$W/out" 2>&1 || fail "$who was let in"
	! qemu-img info --object "tls-creds-x509,id=t,endpoint=client,dir=$W/$who" --image-opts "$qemu_disk=vm1/vda" \
		>"$W/out" 2>&1 || fail "$who was let in by QEMU's client"
done
grep -q 'an NBD client was refused peer=127.0.0.1' "$W/kagami-replicator.log" || fail "no word of who was refused"
! nbdinfo --size "nbd://$NBD/vm1/vda" >"$W/out" 2>&1 || fail "a client in the clear was let in"
grep -qi tls "$W/out" || fail "a client in the clear was refused without the reason: $(cat "$W/out")"
! qemu-img info "nbd://$NBD/vm1/vda" >"$W/out" 2>&1 || fail "QEMU in the clear was let in"
! nbdinfo --list "nbd://$NBD/" >"$W/out" 2>&1 || fail "the exports are listed in the clear"
/usr/bin/python3 - "${NBD%:*}" "${NBD#*:}" <<'END' || fail "a bad client: status $?"
# What no client says: each ends that connection alone, soon, and nothing else.
import os, socket, struct, sys

def dial():
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15)
    greeting = b""
    while len(greeting) < 18:
        greeting += s.recv(18 - len(greeting))
    assert greeting[:16] == b"NBDMAGICIHAVEOPT", greeting
    return s

def option(number, data=b""):
    return b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data

def ends(s):
    try:
        while s.recv(65536):
            pass
    except ConnectionError:
        pass

def reply(s):
    head = b""
    while len(head) < 20:
        got = s.recv(20 - len(head))
        assert got, "no reply"
        head += got
    kind, length = struct.unpack(">II", head[12:])
    while length:
        length -= len(s.recv(length))
    return kind

flags = struct.pack(">I", 3)
for words in (b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", 0), flags + option(1, b"vm1/vda"), flags + os.urandom(64),
              flags + b"IHAVEOPT" + struct.pack(">II", 5, 0xFFFFFFFF), flags + option(5) + os.urandom(500)):
    s = dial()
    s.sendall(words)
    ends(s)
s = dial()
s.sendall(flags)
for number in (3, 6, 7, 8, 9, 10, 99):
    s.sendall(option(number, struct.pack(">I", 7) + b"vm1/vda" + bytes(4)))
    assert reply(s) == 0x80000005, number
s.sendall(option(5, b"x"))
assert reply(s) == 0x80000003
s.sendall(option(2))
assert reply(s) == 1
ends(s)
# Said in the clear right behind STARTTLS: it must not be taken for something said inside.
s = dial()
s.sendall(flags + option(5) + option(3) + option(7, struct.pack(">I", 7) + b"vm1/vda" + bytes(2)))
assert reply(s) == 1
ends(s)
# So many strangers that there is no room for another, who all say nothing: their time ends.
strangers = [dial() for _ in range(60)]
for s in strangers:
    ends(s)
END

touch "$W/stop"
wait $worker || fail "who was at work was disturbed: $(cat "$W/worker.log")"
is "size after all that" "$(nbdinfo --size "$(tls_uri vm1/vda)")" $((64 << 20))

n=$(cycle vm1)
point_equals vm1 "$n" vda "$W/a.raw"
point_equals vm1 "$n" vdb "$W/b.raw"

# --- a disk that goes away, and a stop with clients attached

tls_sh vm2/vda 'h.pread(512, 0)
try:
    while True: h.pread(4096, 0)
except nbd.Error: pass' &
reader=$!
pids+=($reader)
sleep 0.5
kagami unprotect vm2 --yes >/dev/null
wait $reader || fail "a client of a disk that went away: status $?"
is "exports then" "$(nbdinfo --list --json "$(tls_uri '')" | jq '.exports | length')" 2
tls_sh vm1/vda 'import time; h.pread(512, 0); time.sleep(100)' 2>/dev/null &
pids+=($!)
sleep 0.5
daemons_alive
stop_replicator
stop_receiver
