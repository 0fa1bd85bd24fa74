// SPDX-License-Identifier: Apache-2.0
// Whether clients will take the server's own certificate: told beforehand, since a client that does not take it goes away without a word, as a rule. Pure: time is an
// argument.
#ifndef KAGAMI_REPLICATOR_NBD_CERTIFICATE_H
#define KAGAMI_REPLICATOR_NBD_CERTIFICATE_H

#include "base/err.h"

#include <stdint.h>

#include <openssl/ssl.h>

enum { NBD_CERTIFICATE_SOON_DAYS = 14 };

// `directory` is where the context's certificates came from, for the text, which says what is wrong and what to do. 0; -EKEYREJECTED: whoever trusts the CA refuses
// it; -EKEYEXPIRED: not yet, but within so many days it, or one that has signed it, expires.
int nbd_certificate_check(SSL_CTX *context, const char *directory, int64_t now_s, struct err *err);

#endif
