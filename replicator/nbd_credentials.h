// SPDX-License-Identifier: Apache-2.0
// The certificates that NBD over TCP uses now: those of the directory, looked at again before each client, so that an operator who replaces them need restart nothing.
//
//	N1	A client that comes after the files changed is served by what they hold now, or, while they cannot be used together, by what they held before.
//	N2	A client that is being served keeps the ones that it came with.
//
// One thread uses it. What it hands out may be used by any.
#ifndef KAGAMI_REPLICATOR_NBD_CREDENTIALS_H
#define KAGAMI_REPLICATOR_NBD_CREDENTIALS_H

#include "base/err.h"

#include <openssl/ssl.h>

struct nbd_credentials;

// `directory` holds ca-cert.pem, server-cert.pem and server-key.pem. 0, or negative with a text that names the file and what is wrong with it.
int nbd_credentials_open(const char *directory, struct nbd_credentials **ret_credentials, struct err *err);
// 1: the files changed, and are used from here on. 0: they did not, or what is wrong with them was said before. Negative: they changed and cannot be used; the text says
// why, once for each reason.
int nbd_credentials_renew(struct nbd_credentials *credentials, struct err *err);
SSL_CTX *nbd_credentials_context(const struct nbd_credentials *credentials); // until the next renewal; SSL_CTX_up_ref() keeps it
const char *nbd_credentials_directory(const struct nbd_credentials *credentials);
void nbd_credentials_close(struct nbd_credentials *credentials); // takes NULL

#endif
