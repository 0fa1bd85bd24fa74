// SPDX-License-Identifier: Apache-2.0
#include "receiver/watch.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/events.h"
#include "link/history.h"
#include "link/json.h"
#include "rpo/ledger_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { TICK_SECONDS = 1, SAVE_SECONDS = 60 };
#define S_NS UINT64_C(1000000000)
#define MS_NS INT64_C(1000000)

struct entry {
	struct entry *next;
	struct replica *replica;
	pthread_mutex_t lock; // over `watched`
	struct watched watched;
	// The saver's alone.
	struct ledger_file file;
	bool failing;
	// Under the watch's lock.
	bool gone; // from the store: freed once nobody uses it
	unsigned users;
};

struct watch {
	struct env *env;
	struct store *store;
	struct env_root *root; // the store's
	struct watch_config config;
	pthread_mutex_t lock; // over the list and `stop`; an entry that somebody uses stays in the list
	pthread_cond_t stopped;
	bool stop;
	struct entry *entries;
	pthread_t ticker, saver;
	struct ledger *copy; // the saver's alone
};

static struct watched_now now_of(struct watch *w)
{
	return (struct watched_now){.mono_ns = env_mono_ns(w->env), .wall_ns = env_wall_ns(w->env)};
}

// --- entries ---

// An entry is used by whoever got it from here, from entry_add() or entry_next(), until it gives it back.
static struct entry *entry_find(struct watch *w, struct replica *replica)
{
	LOCK_SCOPE(&w->lock);
	struct entry *e = w->entries;
	while (e && e->replica != replica)
		e = e->next;
	if (e)
		e->users++;
	return e;
}

static void entry_put(struct watch *w, struct entry *e) // takes NULL
{
	if (!e)
		return;
	LOCK_SCOPE(&w->lock);
	e->users--;
}

struct use {
	struct watch *watch;
	struct entry *entry; // NULL: none
};

static void use_end(struct use *use)
{
	entry_put(use->watch, use->entry);
}
#define AUTO_USE __attribute__((cleanup(use_end))) // declared before a lock of the entry's is taken, so that it ends after it

// Its ledger goes on from its file, or begins.
static void entry_load(struct watch *w, struct entry *e, const struct replica_info *info)
{
	struct watched_now now = now_of(w);
	struct err err = {0};
	char name[LEDGER_PATH_SIZE];
	(void)snprintf(name, sizeof(name), "%s/history.ledger", info->name);
	ledger_file_init(&e->file, w->root, name);
	int rc = ledger_file_load(&e->file, &e->watched.ledger, &err);
	if (rc && rc != -ENOENT)
		log_warning("the history begins anew protection=%s reason=\"%s\"", info->name, err.text);
	ledger_file_close(&e->file);
	if (rc)
		ledger_init(&e->watched.ledger, info->rpo_ms, w->config.objective_ppm, now.mono_ns, now.wall_ns);
	else
		ledger_resume(&e->watched.ledger, RPO_CAUSE_TARGET_DOWN, now.mono_ns, now.wall_ns);
	e->watched.ledger.objective_ppm = w->config.objective_ppm;
	watched_init(&e->watched, info->name, &now);
}

static struct entry *entry_add(struct watch *w, struct replica *replica)
{
	struct entry *e = calloc(1, sizeof(*e));
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!e || !info) {
		free(e);
		return NULL; // the next round tries again
	}
	e->replica = replica;
	(void)pthread_mutex_init(&e->lock, NULL);
	replica_info(replica, info);
	entry_load(w, e, info);
	LOCK_SCOPE(&w->lock);
	struct entry *other = w->entries;
	while (other && other->replica != replica)
		other = other->next;
	if (other) { // somebody was quicker
		ledger_file_close(&e->file);
		(void)pthread_mutex_destroy(&e->lock);
		free(e);
		other->users++;
		return other;
	}
	e->users = 1;
	e->next = w->entries;
	w->entries = e;
	return e;
}

// What is told of one that was removed meanwhile is of nobody: its name may be another one's by now.
static bool replica_gone(struct watch *w, struct replica *replica)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!info)
		return true;
	replica_info(replica, info);
	return store_find(w->store, info->name) != replica;
}

static struct entry *entry_of(struct watch *w, struct replica *replica)
{
	if (!w)
		return NULL;
	struct entry *e = entry_find(w, replica);
	return e || replica_gone(w, replica) ? e : entry_add(w, replica);
}

static void entry_free(struct entry *e)
{
	ledger_file_close(&e->file);
	(void)pthread_mutex_destroy(&e->lock);
	free(e);
}

// Gives `e` back; NULL: the first.
static struct entry *entry_next(struct watch *w, struct entry *e)
{
	LOCK_SCOPE(&w->lock);
	struct entry *next = e ? e->next : w->entries;
	if (next)
		next->users++;
	if (e)
		e->users--;
	return next;
}

static bool stopping(struct watch *w)
{
	LOCK_SCOPE(&w->lock);
	return w->stop;
}

// --- counting ---

static void entry_tick(struct watch *w, struct entry *e)
{
	struct replica_pulse pulse;
	bool fresh = replica_pulse(e->replica, &pulse);
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	watched_tick(&e->watched, &now, fresh ? &pulse : NULL);
}

// One that was removed is not counted any more; its name may be another one's by now.
static void entries_check(struct watch *w)
{
	for (struct entry *e = entry_next(w, NULL); e; e = entry_next(w, e)) {
		bool there = store_find(w->store, e->watched.name) == e->replica;
		LOCK_SCOPE(&w->lock);
		e->gone = !there;
	}
}

static void entries_reap(struct watch *w)
{
	LOCK_SCOPE(&w->lock);
	for (struct entry **at = &w->entries; *at;) {
		struct entry *e = *at;
		if (!e->gone || e->users) {
			at = &e->next;
			continue;
		}
		*at = e->next;
		entry_free(e);
	}
}

static bool entry_gone(struct watch *w, const struct entry *e)
{
	LOCK_SCOPE(&w->lock);
	return e->gone;
}

static void round_of_ticks(struct watch *w)
{
	struct replica *replica;
	entries_check(w);
	entries_reap(w);
	for (size_t n = 0; (replica = store_at(w->store, n)); n++) {
		struct entry *e = entry_find(w, replica);
		entry_put(w, e ? e : entry_add(w, replica));
	}
	for (struct entry *e = entry_next(w, NULL); e; e = entry_next(w, e))
		if (!entry_gone(w, e))
			entry_tick(w, e);
}

static void pause_for(struct watch *w, unsigned seconds)
{
	LOCK_SCOPE(&w->lock);
	struct timespec until = clock_mono_after(seconds * S_NS);
	while (!w->stop && pthread_cond_timedwait(&w->stopped, &w->lock, &until) == 0)
		;
}

static void *ticker_thread(void *context)
{
	struct watch *w = context;
	while (!stopping(w)) {
		round_of_ticks(w);
		pause_for(w, TICK_SECONDS);
	}
	return NULL;
}

// --- saving ---

static void changes_clear(struct ledger *l)
{
	for (size_t i = 0; i < LEDGER_SLOTS; i++)
		l->slot[i].changed = false;
	for (size_t i = 0; i < LEDGER_MISSES; i++)
		l->ended[i].changed = false;
}

static void entry_save(struct watch *w, struct entry *e)
{
	struct err err = {0};
	{
		LOCK_SCOPE(&e->lock);
		if (ledger_unknown(&e->watched.ledger))
			return;
		*w->copy = e->watched.ledger;
		changes_clear(&e->watched.ledger);
	}
	int rc = ledger_file_save(&e->file, w->copy, &err);
	ledger_file_close(&e->file); // hundreds of protections need no descriptor each
	if (rc) {
		LOCK_SCOPE(&e->lock);
		ledger_changed(&e->watched.ledger);
	}
	if (rc && !e->failing)
		log_warning("the history cannot be written protection=%s reason=\"%s\"", e->watched.name, err.text);
	e->failing = rc != 0;
}

static void *saver_thread(void *context)
{
	struct watch *w = context;
	bool last = false;
	while (!last) {
		pause_for(w, SAVE_SECONDS);
		last = stopping(w);
		for (struct entry *e = entry_next(w, NULL); e; e = entry_next(w, e))
			if (!entry_gone(w, e))
				entry_save(w, e);
	}
	return NULL;
}

// --- what sessions tell ---

void watch_connected(struct watch *w, struct replica *replica, int64_t their_wall_ns, const char *peer)
{
	AUTO_USE struct use use = {w, entry_of(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return;
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	if (watched_may_tell(&e->watched, &now))
		event_emit(EVENT_INFO, "state", e->watched.name, json_pack("{s:o}", "peer", json_text(peer)), "the source of %s has connected from %s", e->watched.name,
			   peer);
	watched_connected(&e->watched, &now, their_wall_ns);
}

void watch_disconnected(struct watch *w, struct replica *replica, const char *reason)
{
	AUTO_USE struct use use = {w, entry_of(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return;
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	if (watched_may_tell(&e->watched, &now))
		event_emit(EVENT_INFO, "state", e->watched.name, json_pack("{s:o}", "reason", json_text(reason)), "the session of %s has ended: %s", e->watched.name,
			   reason);
	watched_disconnected(&e->watched, &now);
}

void watch_report(struct watch *w, struct replica *replica, const struct wire_report *report)
{
	AUTO_USE struct use use = {w, entry_of(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return;
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	(void)watched_report(&e->watched, &now, report);
}

bool watch_time(struct watch *w, struct replica *replica, struct wire_time *ret_time)
{
	AUTO_USE struct use use = {w, entry_of(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return false;
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	*ret_time = watched_time(&e->watched, &now);
	return true;
}

void watch_goodbye(struct watch *w, struct replica *replica)
{
	AUTO_USE struct use use = {w, entry_of(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return;
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	watched_goodbye(&e->watched, &now);
}

void watch_committed(struct watch *w, struct replica *replica, const struct wire_seal *seal, const struct wire_committed *committed)
{
	AUTO_USE struct use use = {w, entry_of(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return;
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	watched_committed(&e->watched, &now, committed->number, seal->cut_wall_ns, seal->dirty_bytes, seal->wire_bytes);
	if (w->config.points)
		event_emit(EVENT_INFO, "point", e->watched.name,
			   json_pack("{s:o, s:o, s:o, s:o}", "point", json_count(committed->number), "cut", json_when(seal->cut_wall_ns), "wire_bytes",
				     json_count(seal->wire_bytes), "stored_bytes", json_count(committed->stored_bytes)),
			   "point %llu of %s was committed", (unsigned long long)committed->number, e->watched.name);
}

// --- what it knows ---

static struct entry *entry_now(struct watch *w, struct replica *replica)
{
	struct entry *e = w ? entry_find(w, replica) : NULL;
	if (e)
		entry_tick(w, e);
	return e;
}

static void view_fill(const struct watched *x, struct watch_view *v)
{
	*v = (struct watch_view){
		.has_point = x->ledger.has_point,
		.age_ms = ledger_age_ms(&x->ledger),
		.rpo_ms = x->ledger.rpo_ms,
		.missing = x->ledger.missing,
		.cause = rpo_cause_name((enum rpo_cause)x->cause),
		.clock_known = x->clock_known,
		.clock_offset_ns = x->clock_offset_ns,
		.clock_error_ns = x->clock_error_ns,
		.reported = x->reported,
		.paused = x->report.state == WIRE_REPORT_PAUSED,
		.dirty_bytes = x->report.dirty_bytes,
	};
}

bool watch_look(struct watch *w, struct replica *replica, struct watch_view *ret_view)
{
	AUTO_USE struct use use = {w, entry_now(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return false;
	LOCK_SCOPE(&e->lock);
	view_fill(&e->watched, ret_view);
	return true;
}

struct watched_ages watch_ages(struct watch *w, struct env *env, struct replica *replica)
{
	AUTO_USE struct use use = {w, entry_now(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return (struct watched_ages){.wall_ns = env_wall_ns(env)};
	LOCK_SCOPE(&e->lock);
	struct watched_now now = now_of(w);
	return watched_ages(&e->watched, &now);
}

size_t watch_count(struct watch *w)
{
	size_t count = 0;
	LOCK_SCOPE(&w->lock);
	for (const struct entry *e = w->entries; e; e = e->next)
		count++;
	return count;
}

json_t *watch_json(struct watch *w, struct replica *replica)
{
	AUTO_USE struct use use = {w, entry_now(w, replica)};
	struct entry *e = use.entry;
	if (!e)
		return NULL;
	LOCK_SCOPE(&e->lock);
	const struct watched *x = &e->watched;
	bool paused = x->report.state == WIRE_REPORT_PAUSED;
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "rpo", history_rpo_json(&x->ledger), "deadline_in_ms", history_deadline_json(&x->ledger), "clock_offset_ms",
			 x->clock_known ? json_integer((json_int_t)(x->clock_offset_ns / MS_NS)) : json_null(), "clock_error_ms",
			 x->clock_known ? json_count(x->clock_error_ns / (uint64_t)MS_NS) : json_null(), "source_dirty_bytes",
			 x->reported ? json_count(x->report.dirty_bytes) : json_null(), "source_paused", paused);
}

json_t *watch_history_json(struct watch *w, struct replica *replica, const char *name, const char *window, struct err *err)
{
	enum ledger_window which;
	if (history_window_read(window, &which, err))
		return NULL;
	AUTO_USE struct use use = {w, entry_now(w, replica)};
	struct entry *e = use.entry;
	if (!e) {
		(void)err_set(err, -ENOENT, "there is no history of %s yet", name);
		return NULL;
	}
	LOCK_SCOPE(&e->lock);
	json_t *json = history_json(&e->watched.ledger, name, which);
	if (!json)
		(void)err_set(err, -ENOMEM, "out of memory");
	return json;
}

// --- life ---

static void watch_free(struct watch *w)
{
	while (w->entries) {
		struct entry *e = w->entries;
		w->entries = e->next;
		entry_free(e);
	}
	(void)pthread_cond_destroy(&w->stopped);
	(void)pthread_mutex_destroy(&w->lock);
	free(w->copy);
	free(w);
}

static void stop_threads(struct watch *w, bool saver)
{
	{
		LOCK_SCOPE(&w->lock);
		w->stop = true;
		(void)pthread_cond_broadcast(&w->stopped);
	}
	(void)pthread_join(w->ticker, NULL);
	if (saver)
		(void)pthread_join(w->saver, NULL);
}

int watch_start(struct env *env, struct store *store, const struct watch_config *config, struct watch **ret_watch, struct err *err)
{
	struct watch *w = calloc(1, sizeof(*w));
	if (!w)
		return err_sys(err, -ENOMEM, "watch the protections");
	w->env = env;
	w->store = store;
	w->config = *config;
	(void)pthread_mutex_init(&w->lock, NULL);
	thread_condition_init(&w->stopped);
	w->copy = malloc(sizeof(*w->copy));
	w->root = store_root(store);
	int rc = w->copy ? 0 : -ENOMEM;
	if (rc == 0)
		round_of_ticks(w); // the histories are there before anybody asks
	if (rc == 0)
		rc = -pthread_create(&w->ticker, NULL, ticker_thread, w);
	if (rc == 0) {
		rc = -pthread_create(&w->saver, NULL, saver_thread, w);
		if (rc)
			stop_threads(w, false);
	}
	if (rc) {
		watch_free(w);
		return err_sys(err, rc, "watch the protections");
	}
	*ret_watch = w;
	return 0;
}

void watch_stop(struct watch *w)
{
	if (!w)
		return;
	stop_threads(w, true);
	watch_free(w);
}
