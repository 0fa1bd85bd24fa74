#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# webhook_server.py PORT FILE FAILURES [CERT KEY]: an HTTP server that writes each body that is posted to FILE, a line each, and answers the first
# FAILURES of them with 503. Ready when FILE.ready is there.
import http.server, ssl, sys

port, path, failures = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global failures
        body = self.rfile.read(int(self.headers["Content-Length"]))
        failures -= 1
        with open(path, "ab") as out:
            out.write((b"refused " if failures >= 0 else b"") + body + b"\n")
        self.send_response(503 if failures >= 0 else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
open(path + ".ready", "w").close()
server.serve_forever()
