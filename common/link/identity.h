// SPDX-License-Identifier: Apache-2.0
// Who a daemon is: an Ed25519 key made at first start, a self-signed certificate around it, and its pin.
//
// The pin, SHA-256 of the certificate's SubjectPublicKeyInfo (RFC 7469), is what the other side keeps after
// pairing. There is no CA, and nothing else in a certificate is looked at.
#ifndef KAGAMI_LINK_IDENTITY_H
#define KAGAMI_LINK_IDENTITY_H

#include "base/env.h"
#include "base/err.h"

#include <openssl/ssl.h>
#include <stdbool.h>

enum { PIN_SIZE = 32, PIN_TEXT_SIZE = 65 };

struct pin {
	unsigned char bytes[PIN_SIZE];
};

void pin_format(const struct pin *pin, char text[PIN_TEXT_SIZE]); // lower-case hex
bool pin_read(const char *text, struct pin *ret_pin);
bool pin_equal(const struct pin *a, const struct pin *b);

struct identity;

// Loads `name` below `root`, or makes a key and writes it there (mode 0600, durable). -EBADMSG when the file holds no key.
int identity_load(struct env_root *root, const char *name, struct identity **ret_identity, struct err *err);
// Writes it to `name` below `root` where that is no more, as it was made: 1, and durable on return. 0: there is a file, whatever is in it, or that cannot be told.
int identity_keep(const struct identity *identity, struct env_root *root, const char *name, struct err *err);
void identity_free(struct identity *identity); // takes NULL
const struct pin *identity_pin(const struct identity *identity);

// A TLS context for one side: TLS 1.3 only, both sides authenticated, ALPN kagami/1, no tickets, no early data. It accepts any
// certificate: the caller compares the peer's pin after the handshake. The caller frees with SSL_CTX_free().
SSL_CTX *identity_context(const struct identity *identity, bool server, struct err *err);

#endif
