#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""tcp_proxy.py LISTEN_PORT PORT CONTROL: a network that can be cut, between two ports of 127.0.0.1.

What the file CONTROL holds decides, looked at ten times a second and before each chunk:
  pass        forward
  cut         end all connections, and end new ones at once
  hang        forward nothing, and keep the connections: a network that swallows packets
  after N     forward N more bytes to PORT, then end all connections; from then on as pass
  stop N      forward N more bytes to PORT, then as hang

CONTROL.sent says how many bytes went to PORT so far."""
import os
import select
import socket
import sys

listen_port, port, control = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", listen_port))
listener.listen(16)
pairs = {}  # each socket to the one at its other side
upward = set()  # the sockets whose bytes go to PORT


def end(sock):
    for one in (sock, pairs.pop(sock, None)):
        if one:
            pairs.pop(one, None)
            upward.discard(one)
            one.close()


def end_all():
    for sock in list(pairs):
        end(sock)


def accept(mode):
    near, _ = listener.accept()
    if mode == "cut":
        near.close()
        return
    try:
        far = socket.create_connection(("127.0.0.1", port), timeout=5)
    except OSError:
        near.close()
        return
    pairs[near], pairs[far] = far, near
    upward.add(near)


sent = 0


def count(more):
    global sent
    sent += more
    with open(control + ".sent.new", "w") as file:
        file.write(f"{sent}\n")
    os.rename(control + ".sent.new", control + ".sent")


def forward(sock, budget):
    """Forwards a chunk, of at most `budget` bytes where that is a number; returns what is left of it."""
    other = pairs.get(sock)
    if not other:
        return budget
    try:
        data = sock.recv(65536 if budget is None or sock not in upward else min(65536, budget))
        if data:
            other.sendall(data)
    except OSError:
        data = b""
    if not data:
        end(sock)
    if sock in upward:
        count(len(data))
    return budget - len(data) if budget is not None and sock in upward else budget


seen, budget, stopped = None, None, False
while True:
    try:
        mode = open(control).read().strip()
    except OSError:
        sys.exit(0)  # the test is over
    if mode != seen:
        seen = mode
        budget = int(mode.split()[1]) if mode.startswith(("after", "stop")) else None
        stopped = False
        if mode == "cut":
            end_all()
    watched = [] if mode == "hang" or stopped else list(pairs)
    for sock in select.select([listener] + watched, [], [], 0.1)[0]:
        if sock is listener:
            accept(mode)
            continue
        budget = forward(sock, budget)
        if budget == 0:
            budget = None
            stopped = mode.startswith("stop")
            if not stopped:
                end_all()
            break
