// SPDX-License-Identifier: Apache-2.0
// Whose pass is left alone for now: one that cannot come on waits by itself, and keeps no other's waiting.
#include "receiver/scrub.h"

#include "receiver/replica.h"

bool scrub_rests(struct replica *r)
{
	LOCK_SCOPE(&r->lock);
	return r->broken || env_mono_ns(r->root->env) < r->scrub_rest_ns;
}

void scrub_rest(struct replica *r, uint64_t ns)
{
	LOCK_SCOPE(&r->lock);
	r->scrub_rest_ns = env_mono_ns(r->root->env) + ns;
}
