// SPDX-License-Identifier: Apache-2.0
// What is changed of a protection's configuration while it runs. The state directory is waited for with `saving` alone: whoever asks for the status, or for
// anything of another protection, does not wait for it.
#include "replicator/protection_private.h"

#include "base/auto.h"

#include <errno.h>
#include <stdlib.h>

int protection_change(struct protection *p, protection_edit *edit, const void *with, struct err *err)
{
	AUTO_FREE struct protection_config *config = malloc(sizeof(*config));
	if (!config)
		return err_sys(err, -ENOMEM, "change %s", p->config.name);
	{
		LOCK_SCOPE(&p->lock);
		*config = p->config;
	}
	edit(config, with);
	int rc = protection_config_save(p->place.state, config, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&p->lock);
	edit(&p->config, with);
	return 0;
}

// ---- requests that go on without the agent's lock

void protection_use(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	p->users++;
}

void protection_unuse(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	if (--p->users == 0)
		(void)pthread_cond_broadcast(&p->unused);
}

void protection_wait_unused(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	while (p->users)
		(void)pthread_cond_wait(&p->unused, &p->lock);
}
