// SPDX-License-Identifier: Apache-2.0
#include "replicator/reader.h"

#include "base/clock.h"
#include "base/size.h"
#include "base/thread.h"
#include "replicator/priority.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/uio.h>

enum {
	STEP = 64 << 10,	 // in one call: a kernel that is not preempted lets nobody else run meanwhile
	ADVISE_STEP = 128 << 10, // the kernel takes no more of a range than its readahead window, and forgets the rest
};
#define ERRANDS_NS (UINT64_C(10) * 1000000000) // so long after an errand the next one is expected

// One step. False: at an end, `job->res` says at which; with `cached` alone also when the next is not in memory: *ret_cold.
static bool read_step(struct reader_job *job, bool cached, bool *ret_cold)
{
	struct iovec to = {.iov_base = job->data + job->at, .iov_len = (size_t)min_u64(STEP, job->len - job->at)};
	if (job->at == job->len)
		return false;
	if (!cached)
		cold_wait_begins(job->cold);
	ssize_t got = preadv2(job->fd, &to, 1, (off_t)(job->off + job->at), cached ? RWF_NOWAIT : 0);
	int code = errno;
	if (!cached)
		cold_wait_ends(job->cold);
	errno = code;
	if (got > 0) {
		job->at += (uint64_t)got;
		return true;
	}
	if (got < 0 && errno == EINTR)
		return true;
	*ret_cold = got < 0 && cached; // what is wrong with it is seen when it is waited for
	job->ended = got == 0; // the file has become shorter than the disk
	job->res = got < 0 ? -errno : -EIO;
	return false;
}

// True when all of it is cold from here on.
static bool read_job(struct reader_job *job, bool cached)
{
	bool cold = false;
	job->res = 0;
	(void)atomic_fetch_add(&job->cold->reads, 1);
	while (read_step(job, cached, &cold))
		continue;
	(void)atomic_fetch_sub(&job->cold->reads, 1);
	return cold;
}

static void advise(const struct reader_job *job)
{
	for (uint64_t at = job->at; at < job->len; at += ADVISE_STEP)
		(void)posix_fadvise(job->fd, (off_t)(job->off + at), (off_t)min_u64(ADVISE_STEP, job->len - at), POSIX_FADV_WILLNEED);
}

static void finish(struct reader *reader, struct reader_job *job)
{
	bool posted = ring_post(reader->ring, &job->message);
	assert(posted); // the loop does not end while a batch is under way
}

static struct reader_job *take_jobs(struct reader *reader)
{
	struct reader_job *newest = atomic_exchange(&reader->jobs, NULL), *oldest = NULL;
	while (newest) {
		struct reader_job *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

static struct reader_errand *take_errands(struct reader *reader)
{
	struct reader_errand *newest = atomic_exchange(&reader->errands, NULL), *oldest = NULL;
	while (newest) {
		struct reader_errand *next = newest->next;
		newest->next = oldest;
		oldest = newest;
		newest = next;
	}
	return oldest;
}

// A guest waits for them, and one who has only what nobody else wants may not even hear of the next one.
static void run_errands(struct reader *reader)
{
	struct reader_errand *list;
	while ((list = take_errands(reader)) != NULL) {
		reader->errand_ns = clock_mono_ns();
		priority_reader(true);
		while (list) {
			struct reader_errand *next = list->next; // returned it is the loop's again
			list->run(list);
			ring_return(reader->ring, &list->message);
			list = next;
		}
	}
}

static bool in_a_hurry(const struct reader *reader)
{
	return atomic_load_explicit(&reader->hurry, memory_order_relaxed) || (reader->errand_ns && clock_mono_ns() - reader->errand_ns < ERRANDS_NS);
}

static void read_all(struct reader *reader, struct reader_job *list)
{
	struct reader_job *cold = NULL, **end = &cold, *next;
	for (struct reader_job *job = list; job; job = next) {
		next = job->next;
		run_errands(reader);
		priority_reader(in_a_hurry(reader));
		if (!read_job(job, true)) {
			finish(reader, job);
			continue;
		}
		advise(job);
		job->next = NULL;
		*end = job;
		end = &job->next;
	}
	for (struct reader_job *job = cold; job; job = next) {
		next = job->next;
		run_errands(reader);
		(void)read_job(job, false);
		finish(reader, job);
	}
}

static void *reader_run(void *context)
{
	struct reader *reader = context;
	priority_reader(false);
	for (;;) {
		while (sem_wait(&reader->wake) < 0)
			continue; // EINTR is all it fails with
		run_errands(reader);
		struct reader_job *list = take_jobs(reader);
		if (!list && atomic_load(&reader->stop))
			return NULL;
		read_all(reader, list);
	}
}

int reader_start(struct reader *reader, struct ring *ring, struct err *err)
{
	assert(!reader->running);
	reader->ring = ring;
	atomic_store(&reader->jobs, NULL);
	atomic_store(&reader->errands, NULL);
	atomic_store(&reader->stop, false);
	(void)sem_init(&reader->wake, 0, 0);
	int code = thread_start(&reader->thread, "kagami-reader", reader_run, reader);
	if (code)
		return err_sys(err, code, "start a thread");
	reader->running = true;
	return 0;
}

void reader_stop(struct reader *reader)
{
	if (!reader->running)
		return;
	atomic_store(&reader->stop, true);
	(void)sem_post(&reader->wake);
	(void)pthread_join(reader->thread, NULL);
	(void)sem_destroy(&reader->wake);
	reader->running = false;
}

void reader_read(struct reader *reader, struct reader_job *job)
{
	job->at = 0;
	job->next = atomic_load(&reader->jobs);
	while (!atomic_compare_exchange_weak(&reader->jobs, &job->next, job))
		continue;
	(void)sem_post(&reader->wake);
}

void reader_run_errand(struct reader *reader, struct reader_errand *errand)
{
	errand->next = atomic_load(&reader->errands);
	while (!atomic_compare_exchange_weak(&reader->errands, &errand->next, errand))
		continue;
	(void)sem_post(&reader->wake);
}

void reader_hurry(struct reader *reader, bool hurry)
{
	atomic_store_explicit(&reader->hurry, hurry, memory_order_relaxed);
}
