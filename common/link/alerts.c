// SPDX-License-Identifier: Apache-2.0
// Threads: one for each class of hooks, so that there is one hook of a class at a time and one that hangs keeps its class only; one for the webhook; one
// for the journal. What fails is logged, and is an event of class `alerts`, but for events of that class: else it would never end.
#include "link/alerts.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "link/hooks.h"
#include "link/journal.h"
#include "link/webhook.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FOLLOW_MS = 10000, FOLLOWERS_MAX = 24, BACKOFF_MS = 1000, NAP_MS = 100 };

struct follower;
typedef void follower_tell(struct follower *follower, const struct event *event);

struct follower {
	struct alerts *alerts;
	pthread_t thread;
	const char *class; // NULL: all
	follower_tell *tell;
	uint64_t since; // every event up to this one was looked at, or counted as lost
	struct hook_rates rates; // of hooks
	bool failing;		 // of the webhook
};

struct alerts {
	struct alerts_config config;
	struct events *events;
	struct webhook *webhook;
	_Atomic uint64_t stop_ns; // by when all is to have ended; 0: not stopping
	struct follower *follower[FOLLOWERS_MAX];
	unsigned count;
};

static bool over(const struct alerts *a)
{
	uint64_t stop = atomic_load(&a->stop_ns);
	return stop && clock_mono_ns() >= stop;
}

// To tell takes time, and so many events are kept: those that were forgotten before they were looked at are counted.
static void lost_count(struct follower *f)
{
	uint64_t lost = events_lost(f->alerts->events, f->since);
	if (lost == 0)
		return;
	f->since += lost;
	log_warning("events were forgotten before they could be told of=%s count=%llu", f->class ? f->class : "any", (unsigned long long)lost);
}

// Follows the events until the end; what is told is told in order.
static void *follower_thread(void *context)
{
	struct follower *f = context;
	struct alerts *a = f->alerts;
	while (!over(a)) {
		struct event event;
		lost_count(f);
		uint64_t newest = events_newest(a->events);
		const struct event_filter filter = {.since = f->since, .class = f->class};
		if (events_next(a->events, &filter, FOLLOW_MS, &event) == 1) {
			f->since = event.id;
			f->tell(f, &event);
			event_done(&event);
		} else if (atomic_load(&a->stop_ns)) {
			break;
		} else {
			f->since = max_u64(f->since, newest);
			(void)usleep(NAP_MS * 1000); // after events_wake(), and before alerts_stop(), nothing is waited for
		}
	}
	return NULL;
}

static void failed(const struct event *event, const struct err *err)
{
	log_warning("an alert came to nothing event=%llu class=%s: %s", (unsigned long long)event->id, event->class, err->text);
	if (strcmp(event->class, "alerts") != 0)
		event_emit(EVENT_WARNING, "alerts", event->protection[0] ? event->protection : NULL,
			   json_pack("{s:I, s:s}", "event", (json_int_t)event->id, "class", event->class), "an alert came to nothing: %s", err->text);
}

// --- hooks ---

static void tell_hooks(struct follower *f, const struct event *event)
{
	struct alerts *a = f->alerts;
	const char *names[] = {event->class, "any"};
	unsigned suppressed = 0;
	if (!hook_rate_take(&f->rates, event->protection, clock_mono_ns(), &suppressed))
		return;
	for (unsigned i = 0; i < 2; i++) {
		struct err err = {.code = 0};
		int rc = hook_run(a->config.hooks, names[i], event, suppressed, HOOK_LIMIT_MS, &a->stop_ns, &err);
		if (rc && rc != -ENOENT)
			failed(event, &err);
	}
}

// --- the webhook ---

static void nap(const struct alerts *a, unsigned ms)
{
	for (unsigned waited = 0; waited < ms && !atomic_load(&a->stop_ns); waited += NAP_MS)
		(void)usleep(NAP_MS * 1000);
}

// Several tries while it works; while it does not, one for each event, or what waits would grow old.
static void tell_webhook(struct follower *f, const struct event *event)
{
	struct alerts *a = f->alerts;
	struct err err = {.code = 0};
	int rc = -EIO;
	unsigned tries = f->failing ? 1 : WEBHOOK_TRIES;
	for (unsigned i = 0; i < tries && rc && !over(a); i++) {
		if (i)
			nap(a, BACKOFF_MS << (i - 1));
		rc = webhook_post(a->webhook, event, &a->stop_ns, &err);
	}
	if (rc && !f->failing)
		failed(event, &err);
	else if (rc == 0 && f->failing)
		log_info("the webhook is reached again");
	f->failing = rc != 0;
}

// --- the journal ---

static void tell_journal(struct follower *f, const struct event *event)
{
	(void)f;
	journal_send(JOURNAL_SOCKET, program_invocation_short_name, event);
}

// --- life ---

static int follow(struct alerts *a, const char *class, follower_tell *tell, struct err *err)
{
	struct follower *f = a->count < FOLLOWERS_MAX ? calloc(1, sizeof(*f)) : NULL;
	if (!f)
		return err_sys(err, -ENOMEM, "start the alerts");
	f->alerts = a;
	f->class = class;
	f->tell = tell;
	f->since = events_before(a->events);
	int rc = -pthread_create(&f->thread, NULL, follower_thread, f);
	if (rc) {
		free(f);
		return err_sys(err, rc, "start the alerts");
	}
	a->follower[a->count++] = f;
	return 0;
}

static int start(struct alerts *a, struct err *err)
{
	int rc = a->config.hooks ? hooks_check(a->config.hooks, err) : 0;
	if (rc == 0 && a->config.webhook)
		rc = webhook_new(a->config.webhook, &a->webhook, err);
	for (unsigned i = 0; rc == 0 && a->config.hooks && i < event_class_count; i++)
		rc = follow(a, event_classes[i], tell_hooks, err);
	if (rc == 0 && a->webhook)
		rc = follow(a, NULL, tell_webhook, err);
	return rc ? rc : follow(a, NULL, tell_journal, err);
}

int alerts_check(const struct alerts_config *config, struct err *err)
{
	return config->webhook ? webhook_check(config->webhook, err) : 0;
}

int alerts_start(const struct alerts_config *config, struct alerts **ret_alerts, struct err *err)
{
	struct alerts *a = calloc(1, sizeof(*a));
	if (!a)
		return err_sys(err, -ENOMEM, "start the alerts");
	a->config = *config;
	a->events = events_default();
	int rc = a->events ? start(a, err) : err_set(err, -EINVAL, "there are no events to tell");
	if (rc) {
		alerts_stop(a);
		return rc;
	}
	*ret_alerts = a;
	return 0;
}

void alerts_stop(struct alerts *a)
{
	if (!a)
		return;
	if (a->count)
		events_wake(a->events);
	atomic_store(&a->stop_ns, clock_mono_ns() + ALERTS_STOP_MS * UINT64_C(1000000));
	for (unsigned i = 0; i < a->count; i++) {
		(void)pthread_join(a->follower[i]->thread, NULL);
		free(a->follower[i]);
	}
	webhook_free(a->webhook);
	free(a);
}
