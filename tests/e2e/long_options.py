# SPDX-License-Identifier: Apache-2.0
"""Options of an NBD handshake that are too long, on a socket past the client's flags: each is refused, and the connection lives."""
import struct
import sys


def check(sock, name):
    def read(n):
        b = b""
        while len(b) < n:
            more = sock.recv(n - len(b))
            if not more:
                sys.exit("the connection ended")
            b += more
        return b

    def option(number, data):
        sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        magic, answered, kind, size = struct.unpack(">QIII", read(20))
        return answered, kind, read(size)

    for size in (16385, 70000, 1 << 20):
        answered, kind, _ = option(7, bytes(size))
        assert (answered, kind) == (7, 0x80000009), (size, answered, hex(kind))
    answered, kind, _ = option(7, struct.pack(">I", len(name)) + name + struct.pack(">H", 0))
    assert (answered, kind) == (7, 3), (answered, hex(kind))
