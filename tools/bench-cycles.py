#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench-cycles.py SOCKET PROTECTION [SECONDS]: one cycle after the other, until it is ended; or one every SECONDS.

One process and one connection: starting a program for each cycle takes more of a processor than a small cycle does."""
import http.client
import json
import socket
import sys
import time

POLL_S = 0.005
POLL_PART = 20  # or so much of the time that the cycle took so far, where that is more: to ask and to answer takes a processor


class UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])


def ask(connection, verb, path):
    connection.request(verb, path)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status >= 300:
        sys.exit(f"bench-cycles: {verb} {path}: {answer.status} {body.decode()}")
    return json.loads(body)


def main():
    connection = UnixConnection("localhost")
    path = f"/v1/protections/{sys.argv[2]}"
    every = float(sys.argv[3]) if len(sys.argv) > 3 else 0
    due = time.monotonic()
    while True:
        time.sleep(max(0, due - time.monotonic()))
        due += every
        number = ask(connection, "POST", path + "/cycle")["cycle"]
        begun = time.monotonic()
        while ask(connection, "GET", path)["cycles"]["committed"] < number:
            time.sleep(max(POLL_S, (time.monotonic() - begun) / POLL_PART))


main()
