// SPDX-License-Identifier: Apache-2.0
#include "replicator/doubt.h"

#include "base/auto.h"
#include "base/log.h"
#include "replicator/greet.h"
#include "replicator/protection_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static uint64_t bit(unsigned disk)
{
	return UINT64_C(1) << disk;
}

void doubt_set_site(struct protection *p, const struct site *site)
{
	struct doubt *d = &p->doubt;
	LOCK_SCOPE(&d->lock);
	if (!d->site_known || strcmp(d->site.address, site->address) != 0 || memcmp(&d->site.pin, &site->pin, sizeof(site->pin)) != 0)
		d->backoff.not_before_ns = 0; // it may answer
	d->site = *site;
	d->site_known = true;
	doubt_wake(p);
}

bool doubt_site(struct protection *p, struct site *ret_site)
{
	LOCK_SCOPE(&p->doubt.lock);
	*ret_site = p->doubt.site;
	return p->doubt.site_known;
}

// ---- what is lost here

void doubt_raise(struct protection *p, unsigned disk, bool in_file)
{
	struct doubt *d = &p->doubt;
	LOCK_SCOPE(&d->lock);
	if (d->lost & bit(disk))
		return;
	d->lost |= bit(disk);
	d->in_file |= in_file ? bit(disk) : 0;
	d->backoff.not_before_ns = 0; // this is news
	doubt_wake(p);
}

bool doubt_wait(struct protection *p, unsigned disk)
{
	struct doubt *d = &p->doubt;
	uint64_t until_ns = protection_now_ns(p) + DOUBT_WAIT_MS * MS_NS;
	LOCK_SCOPE(&d->lock);
	uint64_t failures = d->failures;
	bool can = d->running;
	while (can && !d->stop && !(d->told & bit(disk)) && d->failures == failures && protection_now_ns(p) < until_ns)
		can = doubt_pause(p, until_ns);
	return d->told & bit(disk);
}

bool doubt_told(struct protection *p, unsigned disk)
{
	LOCK_SCOPE(&p->doubt.lock);
	return p->doubt.told & bit(disk);
}

void doubt_why(struct protection *p, char why[ERR_TEXT_MAX])
{
	LOCK_SCOPE(&p->doubt.lock);
	(void)snprintf(why, ERR_TEXT_MAX, "%s", p->doubt.why);
}

// ---- what the receiver says

uint64_t doubt_hear(struct protection *p, const struct wire_doubted *doubted)
{
	struct doubt *d = &p->doubt;
	LOCK_SCOPE(&d->lock);
	uint64_t before_us = d->heard ? 0 : doubted->disks & ~d->whole; // D2: later doubts are this process's own, whose maps are whole
	d->heard = true;
	d->receiver = *doubted;
	d->stands = doubted->disks;
	doubt_wake(p);
	return before_us;
}

// With every SEAL of the session: where the receiver could not write it down with the first, it can with a later one.
struct wire_doubted doubt_certain(struct protection *p)
{
	struct doubt *d = &p->doubt;
	LOCK_SCOPE(&d->lock);
	struct wire_doubted certain = d->receiver;
	certain.disks &= d->heard ? ~d->lost : 0;
	return certain;
}

void doubt_committed(struct protection *p)
{
	LOCK_SCOPE(&p->doubt.lock);
	p->doubt.stands &= p->doubt.lost; // D3
}

uint64_t doubt_stands(struct protection *p)
{
	LOCK_SCOPE(&p->doubt.lock);
	return p->doubt.stands;
}

// ---- the thread

static int ask(struct protection *p, struct channel *channel, uint64_t disks, struct wire_doubted *ret_doubted, struct err *err)
{
	struct wire_hello theirs;
	struct greet_clock clock;
	struct wire_frame frame;
	struct wire_failure failure = {.code = 0};
	struct wire_doubt doubt = {.protection = p->config.uuid, .generation = p->config.generation, .disks = disks};
	memcpy(doubt.name, p->config.name, NAME_SIZE);
	int rc = greet_clocks(channel, p->place.env, &theirs, &clock, err);
	if (rc)
		return rc;
	if (!(theirs.features & WIRE_FEATURE_DOUBT))
		return err_set(err, -EPROTONOSUPPORT, "the receiver is of a version that cannot be told: upgrade it");
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (to && channel_put(channel, wire_put_doubt(to, WIRE_FRAME_MAX, &doubt)))
		return err_set(err, -EMSGSIZE, "a message does not fit into its frame");
	rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_DOUBTED, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc == 0 && wire_get_doubted(&frame, ret_doubted))
		rc = err_set(err, -EBADMSG, "the receiver's DOUBTED is not one of ours");
	return rc;
}

static void channel_note(struct doubt *d, struct channel *channel)
{
	LOCK_SCOPE(&d->lock);
	d->channel = channel;
	if (channel && d->stop)
		channel_abort(channel);
}

static int tell(struct protection *p, uint64_t disks, struct err *err)
{
	struct doubt *d = &p->doubt;
	struct channel *channel = NULL;
	struct wire_doubted doubted;
	struct site site;
	int rc = 0;
	bool known;
	{
		LOCK_SCOPE(&d->lock);
		site = d->site;
		known = d->site_known;
	}
	if (!known)
		rc = site_load(p->place.state, p->config.site, &site, err);
	if (rc == 0)
		rc = channel_connect(p->tls, site.address, &site.pin, &channel, err);
	if (rc)
		return rc;
	channel_note(d, channel);
	rc = ask(p, channel, disks, &doubted, err);
	channel_note(d, NULL);
	channel_close(channel);
	// A receiver without a replica has nothing that could be believed to be newer than it is.
	return rc == 0 && doubted.disks && disks & ~doubted.disks ? err_set(err, -EBADMSG, "the receiver noted other disks") : rc;
}

static void try_to_tell(struct protection *p, uint64_t disks)
{
	struct doubt *d = &p->doubt;
	struct err err = {0};
	int rc = tell(p, disks, &err);
	uint64_t now_ns = protection_now_ns(p);
	uint32_t random = protection_random(p);
	LOCK_SCOPE(&d->lock);
	if (rc == 0) {
		d->told |= disks;
		d->why[0] = 0;
		backoff_progress(&d->backoff);
		log_info("the receiver knows that tracking is lost protection=%s disks=%#llx", p->config.name, (unsigned long long)disks);
	} else {
		if (strcmp(d->why, err.text) != 0 && !d->stop)
			log_warning("the receiver could not be told that tracking is lost, trying on protection=%s: %s", p->config.name, err.text);
		(void)snprintf(d->why, sizeof(d->why), "%s", err.text);
		backoff_failed(&d->backoff, now_ns, random);
		d->failures++;
	}
	doubt_wake(p);
}

// UINT64_MAX: there is nothing to tell. `ret_disks` 0: not yet.
static uint64_t due_ns(struct protection *p, uint64_t *ret_disks, bool *ret_stop)
{
	struct doubt *d = &p->doubt;
	uint64_t now_ns = protection_now_ns(p);
	LOCK_SCOPE(&d->lock);
	uint64_t untold = d->lost & ~d->told & ~(d->heard ? 0 : d->in_file); // D4
	*ret_stop = d->stop;
	*ret_disks = now_ns >= d->backoff.not_before_ns ? untold : 0;
	return untold ? d->backoff.not_before_ns : UINT64_MAX;
}

void *doubt_thread(void *context)
{
	struct protection *p = context;
	for (;;) {
		uint64_t disks;
		bool stop;
		uint64_t until_ns = due_ns(p, &disks, &stop);
		if (stop)
			return NULL;
		if (disks)
			try_to_tell(p, disks);
		else
			doubt_sleep(p, until_ns);
	}
}

int doubt_start(struct protection *p)
{
	struct site site;
	if (site_load(p->place.state, p->config.site, &site, NULL) == 0)
		doubt_set_site(p, &site);
	int rc = doubt_thread_start(p);
	LOCK_SCOPE(&p->doubt.lock);
	p->doubt.running = rc == 0;
	return rc;
}

void doubt_stop(struct protection *p)
{
	struct doubt *d = &p->doubt;
	bool running;
	{
		LOCK_SCOPE(&d->lock);
		running = d->running;
		d->stop = true;
		if (d->channel)
			channel_abort(d->channel);
		doubt_wake(p);
	}
	if (running)
		doubt_thread_join(p);
	LOCK_SCOPE(&d->lock);
	d->running = false;
}
