// SPDX-License-Identifier: Apache-2.0
// Pairing tokens: what the target's operator hands to the source's operator, once.
//
// A token names the receiver's address and key and holds a secret of 128 bits. The secret never travels: each side proves
// that it knows it by an HMAC that binds both keys, so that a token says which two daemons trust each other, and a man
// in the middle, who has another key, can use nothing of what he sees.
#ifndef KAGAMI_LINK_TOKEN_H
#define KAGAMI_LINK_TOKEN_H

#include "base/err.h"
#include "format/wire.h"
#include "link/identity.h"
#include "link/net.h"

enum { TOKEN_SECRET_SIZE = 16, TOKEN_TEXT_SIZE = 512 };

struct token {
	struct pin receiver;
	unsigned char secret[TOKEN_SECRET_SIZE];
	char address[NET_ADDRESS_SIZE];
};

// As one word of letters, digits, '-' and '_'. -EINVAL when the address does not fit.
int token_format(const struct token *token, char text[TOKEN_TEXT_SIZE]);
// -EBADMSG for anything that token_format() did not write: a checksum sees what was lost in copying.
int token_read(const char *text, struct token *ret_token, struct err *err);

// By what a receiver finds the token that a proof is for; says nothing about the secret.
void token_id(const unsigned char secret[TOKEN_SECRET_SIZE], unsigned char id[WIRE_TOKEN_ID_SIZE]);
// The proof of one side.
void token_proof(const unsigned char secret[TOKEN_SECRET_SIZE], bool by_receiver, const struct pin *source,
		 const struct pin *receiver, unsigned char mac[WIRE_MAC_SIZE]);

#endif
