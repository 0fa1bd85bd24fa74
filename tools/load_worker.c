// SPDX-License-Identifier: Apache-2.0
// The lock guards `busy`, `failed`, `job` and the team's words; all that a job measures is its thread's until it is not busy.
#include "tools/load_worker.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/thread.h"

#include <errno.h>
#include <time.h>

enum { STACK_SIZE = 512 << 10, NS_PER_MS = 1000000 };

// --- a job ---

static int note(struct load_worker *worker, const struct load_cycle *cycle)
{
	if (worker->cycle_count == worker->cycle_room) {
		uint64_t room = worker->cycle_room ? 2 * worker->cycle_room : 64;
		struct load_cycle *more = realloc(worker->cycles, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		worker->cycles = more;
		worker->cycle_room = room;
	}
	worker->cycles[worker->cycle_count++] = *cycle;
	return 0;
}

static bool stopped(struct load_team *team)
{
	LOCK_SCOPE(&team->lock);
	return team->stop || team->quit;
}

// The rest of the interval; ends early when the team is told to.
static void pause_until(struct load_team *team, uint64_t until_ns)
{
	uint64_t now_ns = env_mono_ns(env_posix());
	struct timespec at;
	if (now_ns >= until_ns)
		return;
	at = clock_mono_after(until_ns - now_ns);
	LOCK_SCOPE(&team->lock);
	while (!team->stop && !team->quit && pthread_cond_timedwait(&team->wake, &team->lock, &at) == 0)
		;
}

static int job_run(struct load_worker *worker, const struct load_job *job)
{
	uint64_t began_ns = env_mono_ns(env_posix());
	int rc = 0;
	for (uint64_t n = 0; rc == 0 && (job->cycles ? n < job->cycles : !stopped(worker->team)); n++) {
		struct load_cycle cycle;
		uint64_t start_ns = env_mono_ns(env_posix());
		rc = load_client_cycle(&worker->client, job->blocks, &cycle, &worker->err);
		if (rc == 0 && note(worker, &cycle))
			rc = err_set(&worker->err, -ENOMEM, "out of memory");
		if (rc == 0)
			pause_until(worker->team, start_ns + job->interval_ms * NS_PER_MS);
	}
	worker->took_ns = env_mono_ns(env_posix()) - began_ns;
	return rc;
}

// --- the thread ---

enum todo { TODO_QUIT, TODO_PING, TODO_JOB };

static enum todo todo(struct load_worker *worker, struct load_job *ret_job)
{
	struct load_team *team = worker->team;
	struct timespec at;
	at = clock_mono_after(CHANNEL_PING_MS * UINT64_C(1000000));
	LOCK_SCOPE(&team->lock);
	while (!team->quit && !worker->busy)
		if (pthread_cond_timedwait(&team->wake, &team->lock, &at))
			return TODO_PING;
	*ret_job = worker->job;
	return team->quit ? TODO_QUIT : TODO_JOB;
}

static void ended(struct load_worker *worker, int rc)
{
	struct load_team *team = worker->team;
	LOCK_SCOPE(&team->lock);
	worker->failed |= rc != 0;
	if (worker->busy)
		team->busy--;
	worker->busy = false;
	(void)pthread_cond_broadcast(&team->idle);
}

static void *worker_thread(void *context)
{
	struct load_worker *worker = context;
	for (;;) {
		struct load_job job;
		enum todo next = todo(worker, &job);
		if (next == TODO_QUIT)
			return NULL;
		int rc = next == TODO_PING ? load_client_ping(&worker->client, &worker->err) : job_run(worker, &job);
		if (rc || next == TODO_JOB)
			ended(worker, rc);
		if (rc)
			return NULL;
	}
}

int load_team_start(struct load_team *team, struct load_worker *workers, unsigned count, struct err *err)
{
	pthread_attr_t small;
	int rc = 0;
	*team = (struct load_team){.worker = workers, .count = count};
	(void)pthread_mutex_init(&team->lock, NULL);
	thread_condition_init(&team->wake);
	thread_condition_init(&team->idle);
	(void)pthread_attr_init(&small);
	(void)pthread_attr_setstacksize(&small, STACK_SIZE);
	for (unsigned i = 0; rc == 0 && i < count; i++) {
		workers[i].team = team;
		rc = -pthread_create(&workers[i].thread, &small, worker_thread, &workers[i]);
		workers[i].started = rc == 0;
	}
	(void)pthread_attr_destroy(&small);
	return rc ? err_sys(err, rc, "start a thread") : 0;
}

void load_team_done(struct load_team *team)
{
	{
		LOCK_SCOPE(&team->lock);
		team->quit = true;
		(void)pthread_cond_broadcast(&team->wake);
	}
	for (unsigned i = 0; i < team->count; i++)
		if (team->worker[i].started)
			(void)pthread_join(team->worker[i].thread, NULL);
	(void)pthread_mutex_destroy(&team->lock);
	(void)pthread_cond_destroy(&team->wake);
	(void)pthread_cond_destroy(&team->idle);
}

void load_team_give(struct load_team *team, unsigned n, const struct load_job *job)
{
	LOCK_SCOPE(&team->lock);
	struct load_worker *worker = &team->worker[n];
	worker->cycle_count = 0;
	worker->took_ns = 0;
	if (worker->failed)
		return;
	team->stop = false;
	worker->job = *job;
	worker->busy = true;
	team->busy++;
	(void)pthread_cond_broadcast(&team->wake);
}

bool load_team_wait(struct load_team *team, unsigned workers, unsigned ms)
{
	struct timespec at;
	at = clock_mono_after(ms * NS_PER_MS);
	LOCK_SCOPE(&team->lock);
	while (team->busy > workers)
		if (pthread_cond_timedwait(&team->idle, &team->lock, &at))
			break;
	return team->busy <= workers;
}

void load_team_stop(struct load_team *team)
{
	LOCK_SCOPE(&team->lock);
	team->stop = true;
	(void)pthread_cond_broadcast(&team->wake);
}
