// SPDX-License-Identifier: Apache-2.0
// Inside of nbd_tls.h: one client from its greeting to its end, and a TLS context for it.
#ifndef KAGAMI_REPLICATOR_NBD_TLS_SESSION_H
#define KAGAMI_REPLICATOR_NBD_TLS_SESSION_H

#include "base/err.h"
#include "replicator/nbd_front.h"

#include <openssl/ssl.h>

enum nbd_tls_refusal { NBD_TLS_SILENT, NBD_TLS_REFUSED, NBD_TLS_REFUSALS }; // a stranger said nothing; all else: counted apart, so that silence hides no reason

struct nbd_tls_session {
	SSL_CTX *context;
	const struct nbd_front_exports *exports;
	const char *run_dir;
	int fd;	     // the client's, non-blocking; the caller's
	int stop_fd; // readable: end
	const char *peer; // for logs
	// Asked when it has shown its certificate, and when it has chosen a disk. -ECANCELED: its place was given to another; -EUSERS: too many have a disk.
	int (*known)(void *owner);
	int (*attaching)(void *owner);
	void (*refused)(void *owner, enum nbd_tls_refusal kind, const char *why); // logs it
	void *owner;
};

// Serves the client until it, its disk or the front ends. Blocks.
void nbd_tls_session(const struct nbd_tls_session *session);

// A server's context: TLS 1.2 or newer, and a client needs a certificate that the CA has signed. The caller frees it.
SSL_CTX *nbd_tls_context(const char *directory, struct err *err);

#endif
