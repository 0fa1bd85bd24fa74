// SPDX-License-Identifier: Apache-2.0
// Sites: the receivers that this replicator was paired with, each a name, an address and a pin.
// Kept in STATE/sites/<name>.json. Not thread-safe: the agent's lock guards them.
#ifndef KAGAMI_REPLICATOR_SITE_H
#define KAGAMI_REPLICATOR_SITE_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "link/identity.h"
#include "link/net.h"

struct site {
	char name[NAME_SIZE];
	char address[NET_ADDRESS_SIZE];
	struct pin pin;
};

// Proves the token to the receiver that it names (at `address` instead, when that is not NULL) and has it proven back.
// Nothing is stored. `own_name` is what the receiver will call this host.
int site_pair(const struct identity *identity, const char *own_name, const char *name, const char *token_text,
	      const char *address, struct site *ret_site, struct err *err);

// Whether the name may become that of the receiver with the key `pin`: nobody has it, or this receiver, or its file is damaged. -EEXIST: it is another one's, in *ret_site.
int site_free_for(struct env_root *state, const char *name, const struct pin *pin, struct site *ret_site, struct err *err);
int site_save(struct env_root *state, const struct site *site, struct err *err); // durable on return
// Writes it where it has no file: 1, and durable on return. 0: there is one, whatever is in it, or that cannot be told.
int site_keep(struct env_root *state, const struct site *site, struct err *err);
// -ENOENT when there is no such site; the text says how to pair.
int site_load(struct env_root *state, const char *name, struct site *ret_site, struct err *err);
// Names of all sites, sorted; freed with env_list_free().
int site_list(struct env_root *state, char ***ret_names, size_t *ret_count);

#endif
