#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Makes many points, quickly: small writes over NBD, then a cycle over the control socket, and again. It knows what each point must hold.
#
#	many_points.py SOCKET PROTECTION COUNT SIZE MARKER URI-A URI-B DIR EVERY
#
# Disk A is of SIZE bytes of zeros at first; MARKER is where on disk B the number of the point's round goes, as text of 16 bytes. What disk A
# holds after each EVERY-th round is left in DIR/ROUND.raw, and DIR/points has a line "ROUND POINT" for each round.
import http.client
import json
import os
import random
import socket
import sys
import time

import nbd

BLOCK = 65536


class Control(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)


def ask(path, method, target):
    control = Control(path)
    control.request(method, target)
    answer = control.getresponse()
    body = json.loads(answer.read())
    if answer.status >= 300:
        sys.exit("%s %s: %s" % (method, target, body))
    control.close()
    return body


def cycle(path, name):
    wanted = ask(path, "POST", "/v1/protections/%s/cycle" % name)["cycle"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        protection = ask(path, "GET", "/v1/protections/%s" % name)
        if protection["cycles"]["committed"] >= wanted:
            return protection["last_cycle"]["point"]
        time.sleep(0.002)
    sys.exit("cycle %d does not end: %s" % (wanted, protection))


def change(disk, image, draw, round_number):
    size = len(image)
    for _ in range(draw.randint(1, 3)):
        kind = draw.randrange(4)
        index = draw.randrange(size // BLOCK)
        if kind == 0:
            at, data = index * BLOCK, bytes([round_number % 255 + 1]) * BLOCK  # a whole block
        elif kind == 1:
            at, data = index * BLOCK + 4096 * draw.randrange(15), draw.randbytes(4096)
        elif kind == 2:
            at, data = index * BLOCK, bytes(BLOCK)
        else:
            at, data = draw.randrange(size - 9000), b"%08d" % round_number * 1000  # over an edge, at no alignment
        image[at : at + len(data)] = data
        disk.pwrite(data, at)


def main():
    control, name, count, size, marker, uri_a, uri_b, out, every = sys.argv[1:]
    count, size, marker, every = int(count), int(size), int(marker), int(every)
    draw, image = random.Random(count), bytearray(size)
    a, b = nbd.NBD(), nbd.NBD()
    a.connect_uri(uri_a)
    b.connect_uri(uri_b)
    with open(os.path.join(out, "points"), "w", buffering=1) as points:
        for i in range(1, count + 1):
            change(a, image, draw, i)
            b.pwrite(b"round %09d\n" % i, marker)
            points.write("%d %d\n" % (i, cycle(control, name)))
            if i % every == 0 or i == 1:
                with open(os.path.join(out, "%d.raw" % i), "wb") as copy:
                    copy.write(image)
    a.shutdown()
    b.shutdown()


main()
