# SPDX-License-Identifier: Apache-2.0
# In the place of a service manager: notified.py SOCKET FILE [PROBE] writes what a program says of itself to FILE, a message a line. READY=1 is followed by whether
# the unix socket PROBE took a connection then.
import os
import socket
import sys

listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.bind(sys.argv[1])
while True:
    text = listener.recv(4096).decode().replace("\n", " ")
    if "READY=1" in text and len(sys.argv) > 3:
        probe = socket.socket(socket.AF_UNIX)
        text += " answers" if probe.connect_ex(sys.argv[3]) == 0 else " silent"
    with open(sys.argv[2], "a", encoding="utf-8") as out:
        out.write(text + "\n")
