// SPDX-License-Identifier: Apache-2.0
// What is changed of a protection's configuration while it runs. The state directory is waited for with `saving` alone: whoever asks for the status, or for
// anything of another protection, does not wait for it.
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct protection *protection_state_asks(struct protection *p)
{
	(void)asked_begin(&p->state_asked, protection_now_ns(p));
	return p;
}

// All that is asked of it is a write and a sync: an answer to one is a sign that it is slow, and does not hang.
void protection_state_answered(struct protection **p)
{
	asked_end(&(*p)->state_asked);
	asked_moves(&(*p)->state_asked, protection_now_ns(*p));
}

uint64_t protection_state_silent_ns(const struct protection *p)
{
	uint64_t since_ns = asked_since_ns(&p->state_asked), now_ns = protection_now_ns(p);
	uint64_t spill_ns = p->export ? export_spill_silent_ns(p->export) : 0; // that file lies there, too
	return max_u64(since_ns && now_ns > since_ns ? now_ns - since_ns : 0, spill_ns);
}

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
	STATE_SCOPE(p);
	int rc = protection_config_save(p->place.state, config, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&p->lock);
	edit(&p->config, with);
	return 0;
}

// ---- where it was removed

static void edit_nothing(struct protection_config *config, const void *with)
{
	(void)config, (void)with;
}

static int write_anew(struct protection *p, const char *dir, struct err *err)
{
	int rc = env_mkdir(p->place.state, "protections");
	if (rc == 0 || rc == -EEXIST)
		rc = env_mkdir(p->place.state, dir);
	if (rc && rc != -EEXIST)
		return err_sys(err, rc, "make the state directory of %s", p->config.name);
	return protection_change(p, edit_nothing, NULL, err);
}

static void set_unknown(struct protection *p, const char *why)
{
	bool news;
	{
		LOCK_SCOPE(&p->lock);
		news = *why && !*p->unknown_why;
		(void)snprintf(p->unknown_why, sizeof(p->unknown_why), "%s", why);
	}
	if (!news)
		return;
	log_error("the configuration of a protection was removed while it runs, and cannot be written anew: the next start does not know it protection=%s: %s",
		  p->config.name, why);
	event_emit(EVENT_CRITICAL, "state", p->config.name, NULL,
		   "the configuration of %s was removed from the state directory while it runs, and cannot be written anew; the next start does not know it, and serves none of its disks: %s",
		   p->config.name, why);
}

bool protection_keep_config(struct protection *p)
{
	char dir[NAME_SIZE + 16], path[NAME_SIZE + 64];
	struct env_stat st;
	struct err err = {0};
	protection_dir(p->config.name, dir);
	(void)snprintf(path, sizeof(path), "%s/protection.json", dir);
	LOCK_SCOPE(&p->saving);
	STATE_LOOK_SCOPE(p);
	int rc = env_stat(p->place.state, path, &st);
	bool gone = rc == -ENOENT || rc == -ENOTDIR; // what fails otherwise tells nothing
	rc = gone ? write_anew(p, dir, &err) : 0;
	set_unknown(p, rc ? err.text : "");
	if (!gone || rc)
		return rc == 0;
	log_warning("the configuration of a protection was removed while it runs, and was written anew protection=%s", p->config.name);
	event_emit(EVENT_WARNING, "state", p->config.name, NULL,
		   "the configuration of %s was removed from the state directory while it runs, and was written anew: see who removes files there", p->config.name);
	return true;
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

void protection_known(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	p->known = true;
	p->unborn = false;
	protection_wake(p);
}

void protection_wait_unused(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	while (p->users)
		(void)pthread_cond_wait(&p->unused, &p->lock);
}
