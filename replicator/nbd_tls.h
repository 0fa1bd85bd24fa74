// SPDX-License-Identifier: Apache-2.0
// NBD over TCP with mutual TLS: a front before the protections' own unix sockets. One thread for each client.
//
//	client ══ TLS ══► front: greeting, STARTTLS, options (nbd_front.h) ── unix socket ──► the protection's export
//
// TCP is never served without TLS, on no address: a disk's bytes and the right to write them are for those who hold a
// certificate. Bounds: those of nbd_seats.h, and 10 s to get through TLS, then 10 s to choose a disk.
#ifndef KAGAMI_REPLICATOR_NBD_TLS_H
#define KAGAMI_REPLICATOR_NBD_TLS_H

#include "base/err.h"
#include "replicator/nbd_front.h"

struct nbd_tls_config {
	const char *address;   // HOST:PORT
	const char *directory; // ca-cert.pem, server-cert.pem and server-key.pem, as QEMU, libvirt and nbdkit have them
	const char *run_dir;   // the protections' sockets are RUN_DIR/nbd/PROTECTION.sock
	struct nbd_front_exports exports;
};

struct nbd_tls;

// Reads the certificates (new ones are taken up when the next client comes: nbd_credentials.h), listens, and serves. On failure the text names the file or the address.
int nbd_tls_start(const struct nbd_tls_config *config, struct nbd_tls **ret_front, struct err *err);
// Ends all clients; the requests that have reached an export are carried out, their answers may not arrive. Takes NULL.
void nbd_tls_stop(struct nbd_tls *front);
const char *nbd_tls_address(const struct nbd_tls *front); // with the port that was chosen for port 0

#endif
