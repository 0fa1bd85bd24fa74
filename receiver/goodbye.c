// SPDX-License-Identifier: Apache-2.0
// Goodbye: an operator ended the protection at its source. What it promises: what was answered is known until a session of that protection begins, through
// restarts; nothing else of the replica is changed by it (docs/store.md, "Goodbye").
#include "receiver/replica.h"

#include "base/log.h"

int replica_goodbye(struct replica *r, const struct wire_goodbye *goodbye, const unsigned char pin[OWNER_PIN_SIZE], bool *ret_news, struct err *err)
{
	const struct source_claim claim = {.name = goodbye->name, .protection = &goodbye->protection, .generation = &goodbye->generation, .pin = pin};
	LOCK_SCOPE(&r->lock);
	*ret_news = false;
	int rc = replica_source_check(r, &claim, err);
	if (rc || (r->prot.unprotected_wall_ns && r->prot_certain))
		return rc;
	struct protection next = r->prot;
	int64_t now_ns = env_wall_ns(r->root->env);
	if (!next.unprotected_wall_ns)
		next.unprotected_wall_ns = now_ns > 0 ? now_ns : 1;
	bool news = !r->prot.unprotected_wall_ns;
	rc = replica_save(r, &next, err);
	if (rc)
		return rc;
	*ret_news = news;
	log_info("the protection was ended at its source: its points are kept protection=%s", r->name);
	return 0;
}
