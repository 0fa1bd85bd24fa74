// SPDX-License-Identifier: Apache-2.0
// The certificates of NBD over TCP, looked at by a thread of its own for each look: their directory may lie on a network file system that does not answer, and neither a client nor a stop waits for
// that. Clients are served meanwhile with those that are in use (nbd_credentials.h, N1).
//
//	look ──answers in time──► what nbd_credentials_renew() says
//	  └─ does not ──► those from before, said once for as long as none does; no other client waits until that look has ended: then the next one's is another
//
// One thread uses it. What it hands out may be used by any.
#ifndef KAGAMI_REPLICATOR_NBD_RENEWAL_H
#define KAGAMI_REPLICATOR_NBD_RENEWAL_H

#include "base/err.h"

#include <openssl/ssl.h>

enum { NBD_RENEWAL_WAIT_MS = 2000, NBD_RENEWAL_START_MS = 10000 };

struct nbd_renewal;

int nbd_renewal_open(const char *directory, struct nbd_renewal **ret_renewal, struct err *err); // as nbd_credentials_open(). -ETIMEDOUT: the directory has not answered for NBD_RENEWAL_START_MS
// As nbd_credentials_renew(). -ETIMEDOUT: it has not answered.
int nbd_renewal_look(struct nbd_renewal *renewal, struct err *err);
SSL_CTX *nbd_renewal_context(const struct nbd_renewal *renewal); // until the next look; SSL_CTX_up_ref() keeps it
const char *nbd_renewal_directory(const struct nbd_renewal *renewal);
void nbd_renewal_close(struct nbd_renewal *renewal); // takes NULL, and waits for nothing

#endif
