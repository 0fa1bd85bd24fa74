// SPDX-License-Identifier: Apache-2.0
// How the protections of an agent start, and start again. Their disks may not answer, nor may the state directory: each start that nobody asked for has a thread of its
// own, and none has the agent's lock while it opens what may hang.
//
//	start_aside ──► it runs
//	     ▲   └────► it could not: logged and told once, shown as `failed`, with what the state files know of its newest point
//	     └── agent_restart_due(): restart.h says when. A request to resume it tries at once.
#include "replicator/agent_private.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/image_beneath.h"
#include "replicator/image_path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { START_WAIT_S = 10, TRY_WAIT_S = 2, HINT_MAX = 160 };

// ---- what is left of a start that came to nothing

// Without the lock, for it waits for the disks and for the state directory; nobody changes the configuration of a seat that starts.
static struct seat_left look_at_left(const struct agent *agent, struct seat *seat)
{
	struct seat_left left = {.point = point_known_read(agent->place.state, &seat->config)};
	uint64_t seen[DISKS_MAX] = {0};
	struct stat st;
	for (uint16_t d = 0; d < seat->config.disk_count; d++) {
		bool gone;
		atomic_store(&seat->opening, d + 1u); // should it not answer
		seen[d] = image_path_digest(seat->config.disk[d].path, &gone);
		left.missing |= gone;
		if (!image_path_written(seat->config.disk[d].path))
			continue;
		left.written = true;
		if (!left.loop.text[0] && stat(seat->config.disk[d].path, &st) == 0)
			(void)image_beneath_of_loop(seat->config.disk[d].path, &st, &left.loop);
	}
	atomic_store(&seat->opening, 0);
	left.seen = XXH3_64bits(seen, sizeof(seen));
	return left;
}

static void say_not_started(const char *name, const struct err *err)
{
	log_error("protection does not start: its disks are not served protection=%s: %s", name, err->text);
	event_emit(EVENT_CRITICAL, "state", name_ok(name) ? name : NULL, NULL, "the protection %s does not start, and its disks are not served: %s", name, err->text);
}

// With the lock held. Each reason is told once, however often it is tried.
static void seat_failed(struct seat *seat, const struct seat_left *left, const struct err *err)
{
	const char *name = seat->config.name;
	(void)snprintf(seat->reason, sizeof(seat->reason), "%.*s%s; it is tried again by itself, or at once with `kagami resume %s`", ERR_TEXT_MAX - HINT_MAX, err->text,
		       left->missing ? ": put it back" : "", name);
	seat->point = left->point;
	restart_failed(&seat->restart, clock_mono_ns(), left->seen);
	if (strcmp(seat->said, err->text) == 0)
		return;
	(void)snprintf(seat->said, sizeof(seat->said), "%s", err->text);
	say_not_started(name, err);
}

static void seat_started(struct seat *seat)
{
	restart_end(&seat->restart);
	if (!seat->said[0])
		return;
	seat->said[0] = 0;
	log_info("protection starts after all: its disks are served protection=%s", seat->config.name);
	event_emit(EVENT_INFO, "state", seat->config.name, NULL, "the protection %s has started after all, and its disks are served", seat->config.name);
}

// ---- a start

// It may be waited for already, when its thread begins. One that is tried again is shown as it was.
static void seat_starts(struct seat *seat)
{
	if (!seat->starting)
		seat->starting_since_ms = clock_mono_ms();
	seat->leaving = seat->starting = true;
	if (!seat->trying)
		(void)snprintf(seat->reason, sizeof(seat->reason), "it is being started: its disks are opened, and its state is read");
}

static void seat_rests(struct seat *seat)
{
	seat->leaving = seat->starting = seat->trying = false;
}

int agent_seat_start(struct agent *agent, struct seat *seat, const struct protection_config *config, bool is_new, struct protection **ret_running,
		     struct err *err)
{
	struct protection_place place = agent->place;
	place.opening = &seat->opening;
	return protection_start(&place, config, is_new, ret_running, err);
}

int agent_start_begin(struct agent *agent, struct seat *seat, struct err *err)
{
	if (agent->over)
		return err_set(err, -ESHUTDOWN, "the replicator stops");
	seat_starts(seat);
	agent->starting++;
	(void)pthread_mutex_unlock(&agent->lock);
	return 0;
}

int agent_start_end(struct agent *agent, struct seat *seat, struct protection *running, int rc, const struct seat_left *left, struct err *err)
{
	(void)pthread_mutex_lock(&agent->lock);
	if (rc == 0 && agent->over) {
		seat->starting = seat->trying = false;
		agent_end_begin(seat, running, "the replicator stops");
		(void)pthread_mutex_unlock(&agent->lock);
		bool saved = agent_end(agent, seat, running, false);
		(void)pthread_mutex_lock(&agent->lock);
		agent->unsaved |= !saved;
		rc = err_set(err, -ESHUTDOWN, "the replicator stops");
	}
	seat_rests(seat);
	seat->leaving = seat->ends.since_ms != 0; // it ended with the agent
	seat->running = rc ? NULL : running;
	(void)snprintf(seat->reason, sizeof(seat->reason), "%s", rc ? err->text : "");
	if (rc == 0)
		protection_known(running);
	if (rc == 0)
		seat_started(seat);
	else if (left && !agent->over)
		seat_failed(seat, left, err);
	agent->starting--;
	(void)pthread_cond_broadcast(&agent->started);
	(void)pthread_cond_signal(&agent->ended); // the ticker has when it is tried again
	return rc;
}

static int start_seat(struct agent *agent, struct seat *seat, struct err *err)
{
	struct protection *running = NULL;
	struct seat_left left = {.missing = false};
	int rc = agent_start_begin(agent, seat, err);
	if (rc)
		return rc;
	rc = agent_seat_start(agent, seat, &seat->config, false, &running, err); // nobody changes the configuration of a seat that starts
	if (rc)
		left = look_at_left(agent, seat);
	return agent_start_end(agent, seat, running, rc, &left, err);
}

// With the configuration as it lies in the state directory: what is wrong may have been that. Without the lock.
static int start_anew(struct agent *agent, struct seat *seat, struct protection_config *config, bool *ret_read, struct protection **ret_running, struct err *err)
{
	int rc = protection_config_load(agent->place.state, seat->config.name, config, err);
	*ret_read = rc == 0;
	return rc ? rc : agent_seat_start(agent, seat, config, false, ret_running, err);
}

int agent_restart_seat(struct agent *agent, struct seat *seat, struct err *err)
{
	AUTO_FREE struct protection_config *config = malloc(sizeof(*config));
	struct protection *running = NULL;
	struct seat_left left = {.missing = false};
	bool read = false;
	if (!config)
		return err_sys(err, -ENOMEM, "start %s", seat->config.name);
	int rc = agent_start_begin(agent, seat, err);
	if (rc)
		return rc;
	rc = start_anew(agent, seat, config, &read, &running, err);
	if (rc)
		left = look_at_left(agent, seat);
	rc = agent_start_end(agent, seat, running, rc, &left, err);
	if (read) // only what was read whole takes the place of what was known
		seat->config = *config;
	return rc;
}

// By itself, and so only where nobody is just copying an image to its place (restart.h, R1): else it is looked at again.
static int try_again(struct agent *agent, struct seat *seat, struct err *err)
{
	(void)pthread_mutex_unlock(&agent->lock);
	const struct seat_left left = look_at_left(agent, seat);
	(void)pthread_mutex_lock(&agent->lock);
	if (restart_settled(&seat->restart, clock_mono_ns(), left.seen, left.written))
		return agent_restart_seat(agent, seat, err);
	if (left.loop.text[0])
		(void)snprintf(seat->reason, sizeof(seat->reason), "%.*s; it is started by itself once that is done, or at once with `kagami resume %s`", ERR_TEXT_MAX - HINT_MAX,
			       left.loop.text, seat->config.name);
	else if (left.written)
		(void)snprintf(seat->reason, sizeof(seat->reason),
			       "a program has one of its images open for writing, perhaps to copy it there: it is started by itself once none has, or at once with `kagami resume %s`", seat->config.name);
	else
		(void)snprintf(seat->reason, sizeof(seat->reason),
			       "its images are others than they were, and may still be changing: it is started by itself once they are as they are for %d s, or at once with `kagami resume %s`",
			       RESTART_QUIET_S, seat->config.name);
	return 0;
}

// ---- in a thread of its own

struct starter { // of one seat; frees itself
	struct agent *agent;
	struct seat *seat;
};

static void *run_starter(void *context)
{
	struct starter starter = *(struct starter *)context;
	struct agent *agent = starter.agent;
	struct err err = {0};
	free(context);
	LOCK_SCOPE(&agent->lock);
	if (starter.seat->trying)
		(void)try_again(agent, starter.seat, &err);
	else
		(void)start_seat(agent, starter.seat, &err);
	seat_rests(starter.seat); // where it did not come to a start
	agent->starting--; // what start_aside() counted
	(void)pthread_cond_broadcast(&agent->started);
	(void)pthread_cond_signal(&agent->ended);
	return NULL;
}

// So that a disk that hangs keeps nobody else from being served. With the lock held.
static int start_aside(struct agent *agent, struct seat *seat)
{
	struct starter *starter = malloc(sizeof(*starter));
	pthread_t thread;
	if (!starter)
		return -ENOMEM;
	*starter = (struct starter){.agent = agent, .seat = seat};
	seat_starts(seat);
	agent->starting++;
	int rc = -pthread_create(&thread, NULL, run_starter, starter);
	if (rc == 0)
		return -pthread_detach(thread);
	agent->starting--;
	seat_rests(seat);
	free(starter);
	return rc;
}

uint64_t agent_restart_due(struct agent *agent, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;
	for (size_t i = 0; i < agent->seats; i++) {
		struct seat *seat = agent->seat[i];
		if (seat->running || seat->leaving)
			continue; // of one that starts, who ends it says when
		if (now_ns >= restart_due_ns(&seat->restart)) {
			seat->trying = true;
			if (start_aside(agent, seat) == 0)
				continue;
			seat->trying = false;
			restart_failed(&seat->restart, now_ns, seat->restart.seen);
		}
		next_ns = min_u64(next_ns, restart_due_ns(&seat->restart));
	}
	return next_ns;
}

struct seat *agent_find_settled(struct agent *agent, const char *name)
{
	const struct timespec until = clock_mono_after(TRY_WAIT_S * UINT64_C(1000000000));
	struct seat *seat;
	int rc = 0;
	while ((seat = agent_find(agent, name)) && seat->trying && rc == 0)
		rc = pthread_cond_timedwait(&agent->started, &agent->lock, &until);
	return seat;
}

// ---- all of them, at the start of the agent

void agent_start_one(struct agent *agent, const char *name)
{
	struct err err = {0};
	AUTO_FREE struct protection_config *config = malloc(sizeof(*config));
	if (!config) {
		(void)err_sys(&err, -ENOMEM, "read its configuration");
		say_not_started(name, &err);
		return;
	}
	struct seat_left left = {.missing = false}; // of a protection of which nothing is known
	int rc = protection_config_load(agent->place.state, name, config, &err);
	if (rc && name_ok(name)) { // listed, so that it is missed
		memset(config, 0, sizeof(*config));
		(void)snprintf(config->name, sizeof(config->name), "%s", name);
	}
	LOCK_SCOPE(&agent->lock);
	struct seat *seat = name_ok(name) ? agent_add(agent, config) : NULL;
	if (!seat && rc == 0)
		rc = err_set(&err, -ENOSPC, "no room for another protection (at most %d)", PROTECTIONS_MAX);
	if (seat && rc == 0) {
		rc = start_aside(agent, seat);
		if (rc)
			(void)err_sys(&err, rc, "start a thread");
	}
	if (rc && seat)
		seat_failed(seat, &left, &err);
	else if (rc)
		say_not_started(name, &err);
}

static unsigned starting_seats(const struct agent *agent)
{
	unsigned count = 0;
	for (size_t i = 0; i < agent->seats; i++)
		count += agent->seat[i]->starting;
	return count;
}

void agent_wait_started(struct agent *agent, unsigned seconds)
{
	const struct timespec until = clock_mono_after((seconds ? seconds : START_WAIT_S) * UINT64_C(1000000000));
	int rc = 0;
	LOCK_SCOPE(&agent->lock);
	while (agent->starting && rc == 0)
		rc = pthread_cond_timedwait(&agent->started, &agent->lock, &until);
	if (agent->starting)
		log_warning("protections still open their disks, or read their state, and the others are served meanwhile: see `kagami status` and the storage under them "
			    "protections=%u",
			    starting_seats(agent));
}
