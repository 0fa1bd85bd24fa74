// SPDX-License-Identifier: Apache-2.0
// Who may send: the peers that were paired, and the one-time tokens by which they become so.
//
// A token has 128 random bits, lives ten minutes, serves once, and dies after five wrong proofs. Tokens are in memory
// only. Peers are in STATE/peers.json. Any thread.
#ifndef KAGAMI_RECEIVER_PAIRING_H
#define KAGAMI_RECEIVER_PAIRING_H

#include "base/env.h"
#include "base/err.h"
#include "link/identity.h"
#include "link/token.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { PAIRING_TOKENS_MAX = 16, PAIRING_TRIES_MAX = 5, PAIRING_SECONDS = 600, PAIRING_PEERS_MAX = 4096 };

struct pairing;

// Loads the peers below `state`. `own` must outlive it.
int pairing_open(struct env_root *state, const struct pin *own, struct pairing **ret_pairing, struct err *err);
void pairing_close(struct pairing *pairing); // takes NULL

// A new token for sources that reach this receiver at `address`. The oldest is dropped when there are too many.
int pairing_token(struct pairing *pairing, const char *address, char text[TOKEN_TEXT_SIZE], int64_t *ret_expires_wall_ns,
		  struct err *err);
// Checks a proof by the peer with key `peer`; when it is right, uses the token up, makes the peer known (durable) and stores our proof
// in `ret_answer`. -EACCES, with one text for wrong, used, expired and unknown alike.
int pairing_accept(struct pairing *pairing, const struct wire_pair *proof, const struct pin *peer,
		   struct wire_pair *ret_answer, struct err *err);
// The peer is not known any more, durably, and no token that was made before is good: it may know one. Its name is stored. -ENOENT.
// What it has open is server_cut()'s.
int pairing_remove(struct pairing *pairing, const struct pin *peer, char ret_name[NAME_SIZE], struct err *err);
bool pairing_known(struct pairing *pairing, const struct pin *peer);
json_t *pairing_json(struct pairing *pairing); // the array of peers, as docs/control.md has it

#endif
