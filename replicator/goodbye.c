// SPDX-License-Identifier: Apache-2.0
#include "replicator/goodbye.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/thread.h"
#include "link/channel.h"
#include "replicator/greet.h"

#include <errno.h>
#include <stdlib.h>

struct goodbye {
	pthread_t thread;
	struct env *env;
	SSL_CTX *tls;
	struct site site;
	struct wire_goodbye what;
	bool waited; // for; under the lock of all
	pthread_mutex_t lock; // over the rest
	pthread_cond_t changed;
	struct channel *channel; // of the try; others may only abort it
	bool stop, ended;
	int rc; // once it has ended
	struct err err;
};

// ---- the try

static int ask(struct goodbye *g, struct channel *channel, struct err *err)
{
	struct wire_hello theirs;
	struct greet_clock clock;
	struct wire_frame frame;
	struct wire_failure failure = {.code = 0};
	struct wire_parted parted;
	int rc = greet_clocks(channel, g->env, &theirs, &clock, err);
	if (rc)
		return rc;
	if (!(theirs.features & WIRE_FEATURE_GOODBYE))
		return err_set(err, -EPROTONOSUPPORT, "the receiver is of a version that cannot be told: upgrade it before the next one");
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (to && channel_put(channel, wire_put_goodbye(to, WIRE_FRAME_MAX, &g->what)))
		return err_set(err, -EMSGSIZE, "a message does not fit into its frame");
	rc = channel_flush(channel, err);
	if (rc == 0)
		rc = channel_expect(channel, WIRE_PARTED, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc == -EREMOTEIO && failure.code == WIRE_E_FENCED) // for good: nobody there waits for this source
		return 0;
	if (rc == 0 && wire_get_parted(&frame, &parted))
		rc = err_set(err, -EBADMSG, "the receiver's PARTED is not one of ours");
	return rc;
}

static void channel_note(struct goodbye *g, struct channel *channel)
{
	LOCK_SCOPE(&g->lock);
	g->channel = channel;
	if (channel && g->stop)
		channel_abort(channel);
}

static void *goodbye_thread(void *context)
{
	struct goodbye *g = context;
	struct channel *channel = NULL;
	struct err err = {0};
	int rc = channel_connect(g->tls, g->site.address, &g->site.pin, &channel, &err);
	if (rc == 0) {
		channel_note(g, channel);
		rc = ask(g, channel, &err);
		channel_note(g, NULL);
		channel_close(channel);
	}
	LOCK_SCOPE(&g->lock);
	g->rc = rc;
	g->err = err;
	g->ended = true;
	(void)pthread_cond_broadcast(&g->changed);
	return NULL;
}

// ---- its life

static void goodbye_done(struct goodbye *g)
{
	SSL_CTX_free(g->tls);
	(void)pthread_cond_destroy(&g->changed);
	(void)pthread_mutex_destroy(&g->lock);
	free(g);
}

static void goodbye_end(struct goodbye *g) // takes NULL
{
	if (!g)
		return;
	{
		LOCK_SCOPE(&g->lock);
		g->stop = true;
		if (g->channel)
			channel_abort(g->channel);
	}
	(void)pthread_join(g->thread, NULL);
	goodbye_done(g);
}

static int goodbye_start(struct env *env, const struct identity *identity, const struct site *site, const struct wire_goodbye *what, struct goodbye **ret_goodbye,
			 struct err *err)
{
	struct goodbye *g = calloc(1, sizeof(*g));
	if (!g)
		return err_sys(err, -ENOMEM, "say goodbye");
	thread_condition_init(&g->changed);
	(void)pthread_mutex_init(&g->lock, NULL);
	g->env = env;
	g->site = *site;
	g->what = *what;
	g->tls = identity_context(identity, false, err);
	int rc = g->tls ? 0 : -EIO;
	if (rc == 0) {
		rc = -pthread_create(&g->thread, NULL, goodbye_thread, g);
		if (rc)
			(void)err_sys(err, rc, "start a thread");
	}
	if (rc) {
		goodbye_done(g);
		return rc;
	}
	*ret_goodbye = g;
	return 0;
}

static bool has_ended(struct goodbye *g)
{
	LOCK_SCOPE(&g->lock);
	return g->ended;
}

static int goodbye_wait(struct goodbye *g, struct err *err)
{
	struct timespec until = clock_mono_after(GOODBYE_WAIT_MS * UINT64_C(1000000));
	LOCK_SCOPE(&g->lock);
	while (!g->ended && pthread_cond_timedwait(&g->changed, &g->lock, &until) == 0)
		;
	if (!g->ended)
		return err_set(err, -ETIMEDOUT, "the receiver at %s has not answered for %d s", g->site.address, GOODBYE_WAIT_MS / 1000);
	*err = g->err;
	return g->rc;
}

// ---- all of them

void goodbyes_init(struct goodbyes *goodbyes)
{
	*goodbyes = (struct goodbyes){.place = {NULL}};
	(void)pthread_mutex_init(&goodbyes->lock, NULL);
}

void goodbyes_done(struct goodbyes *goodbyes)
{
	for (unsigned i = 0; i < GOODBYES_MAX; i++)
		goodbye_end(goodbyes->place[i]);
	(void)pthread_mutex_destroy(&goodbyes->lock);
}

// A place of one that has ended is free. NULL: there is none. With the lock held.
static struct goodbye **place_free(struct goodbyes *goodbyes)
{
	struct goodbye **place = NULL;
	for (unsigned i = 0; i < GOODBYES_MAX; i++) {
		struct goodbye **at = &goodbyes->place[i];
		if (*at && !(*at)->waited && has_ended(*at)) {
			goodbye_end(*at);
			*at = NULL;
		}
		place = *at ? place : at;
	}
	return place;
}

int goodbyes_say(struct goodbyes *goodbyes, struct env *env, const struct identity *identity, const struct site *site, const struct wire_goodbye *what, struct err *err)
{
	struct goodbye *g = NULL, **place;
	int rc = 0;
	{
		LOCK_SCOPE(&goodbyes->lock);
		place = place_free(goodbyes);
		rc = place ? goodbye_start(env, identity, site, what, &g, err) : err_set(err, -EBUSY, "receivers of %d others have not answered yet", GOODBYES_MAX);
		if (rc)
			return rc;
		*place = g;
		g->waited = true;
	}
	rc = goodbye_wait(g, err);
	LOCK_SCOPE(&goodbyes->lock);
	g->waited = false; // one that has not ended may be heard yet
	return rc;
}
