// SPDX-License-Identifier: Apache-2.0
// A queue, a lock, two conditions: `work` for the threads, `ended` for those who wait.
//
//	IDLE ──start──► QUEUED ──a worker, or who waits──► RUNNING ──► ENDED ──start──► QUEUED
#include "base/crew.h"

#include "base/auto.h"

#include <assert.h>
#include <errno.h>

struct crew {
	struct crew_config config;
	pthread_mutex_t lock; // over the queue, every job's state, and `stop`
	pthread_cond_t work, ended;
	struct crew_job *first, *last;
	bool stop;
	unsigned threads;
	struct worker {
		struct crew *crew;
		pthread_t thread;
		void *kit;
	} worker[CREW_THREADS_MAX];
};

static void unlink_job(struct crew *crew, struct crew_job *job)
{
	*(job->previous ? &job->previous->next : &crew->first) = job->next;
	*(job->next ? &job->next->previous : &crew->last) = job->previous;
	job->previous = job->next = NULL;
}

// With the lock held, which is let go meanwhile. `turn`: of the crew's own threads.
static void do_job(struct crew *crew, struct crew_job *job, void *kit, void (*turn)(void))
{
	unlink_job(crew, job);
	job->state = CREW_JOB_RUNNING;
	(void)pthread_mutex_unlock(&crew->lock);
	if (turn)
		turn();
	job->run(job, kit);
	(void)pthread_mutex_lock(&crew->lock);
	job->state = CREW_JOB_ENDED; // from here on its owner may have it back
	(void)pthread_cond_broadcast(&crew->ended);
}

static void *worker_main(void *context)
{
	struct worker *worker = context;
	struct crew *crew = worker->crew;
	LOCK_SCOPE(&crew->lock);
	for (;;) {
		while (!crew->first && !crew->stop)
			(void)pthread_cond_wait(&crew->work, &crew->lock);
		if (!crew->first)
			return NULL;
		do_job(crew, crew->first, worker->kit, crew->config.turn);
	}
}

int crew_new(const struct crew_config *config, struct crew **ret_crew)
{
	assert(config->threads <= CREW_THREADS_MAX);
	struct crew *crew = calloc(1, sizeof(*crew));
	if (!crew)
		return -ENOMEM;
	crew->config = *config;
	(void)pthread_mutex_init(&crew->lock, NULL);
	(void)pthread_cond_init(&crew->work, NULL);
	(void)pthread_cond_init(&crew->ended, NULL);
	int rc = 0;
	while (rc == 0 && crew->threads < config->threads) {
		struct worker *worker = &crew->worker[crew->threads];
		worker->crew = crew;
		worker->kit = config->kit_new ? config->kit_new() : NULL;
		rc = config->kit_new && !worker->kit ? -ENOMEM : -pthread_create(&worker->thread, NULL, worker_main, worker);
		if (rc == 0)
			crew->threads++;
		else if (worker->kit)
			config->kit_free(worker->kit);
	}
	if (rc) {
		crew_free(crew);
		return rc;
	}
	*ret_crew = crew;
	return 0;
}

void crew_free(struct crew *crew)
{
	if (!crew)
		return;
	(void)pthread_mutex_lock(&crew->lock);
	assert(!crew->first);
	crew->stop = true;
	(void)pthread_cond_broadcast(&crew->work);
	(void)pthread_mutex_unlock(&crew->lock);
	for (unsigned i = 0; i < crew->threads; i++) {
		(void)pthread_join(crew->worker[i].thread, NULL);
		if (crew->worker[i].kit)
			crew->config.kit_free(crew->worker[i].kit);
	}
	(void)pthread_cond_destroy(&crew->work);
	(void)pthread_cond_destroy(&crew->ended);
	(void)pthread_mutex_destroy(&crew->lock);
	free(crew);
}

unsigned crew_threads(const struct crew *crew)
{
	return crew ? crew->threads : 0;
}

void crew_start(struct crew *crew, struct crew_job *job)
{
	job->previous = job->next = NULL;
	if (!crew) {
		job->state = CREW_JOB_QUEUED;
		return;
	}
	LOCK_SCOPE(&crew->lock);
	assert(job->state == CREW_JOB_IDLE || job->state == CREW_JOB_ENDED);
	job->state = CREW_JOB_QUEUED;
	job->previous = crew->last;
	*(crew->last ? &crew->last->next : &crew->first) = job;
	crew->last = job;
	(void)pthread_cond_signal(&crew->work);
}

void crew_wait(struct crew *crew, struct crew_job *job, void *kit)
{
	if (!crew) {
		if (job->state == CREW_JOB_QUEUED)
			job->run(job, kit);
		job->state = CREW_JOB_ENDED;
		return;
	}
	LOCK_SCOPE(&crew->lock);
	assert(job->state != CREW_JOB_IDLE);
	if (job->state == CREW_JOB_QUEUED)
		do_job(crew, job, kit, NULL);
	while (job->state != CREW_JOB_ENDED)
		(void)pthread_cond_wait(&crew->ended, &crew->lock);
}

bool crew_ended(struct crew *crew, const struct crew_job *job)
{
	if (!crew)
		return job->state == CREW_JOB_ENDED;
	LOCK_SCOPE(&crew->lock);
	return job->state == CREW_JOB_ENDED;
}
