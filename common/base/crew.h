// SPDX-License-Identifier: Apache-2.0
// A crew: a few threads that do jobs for whoever hands them in.
//
//	crew_start(crew, &a.job); crew_start(crew, &b.job);   queued, in this order
//	crew_wait(crew, &a.job, kit);  … take a …            ended: what it wrote is seen here
//	crew_wait(crew, &b.job, kit);  … take b …
//
// Who waits takes results in the order it likes; who hands in bounds what is under way, and owns the memory of its jobs from
// before crew_start() until crew_wait() has returned. A job that no worker has begun is done by the one who waits for it: so
// no job waits behind others' jobs, a crew may be shared by any number, and one without threads (or NULL) is a crew too, whose
// jobs are done in the order they are waited for. That is what tests of the logic run with.
//
// A job waits for nothing: no other job, no lock that is held for long, no disk, no peer.
#ifndef KAGAMI_BASE_CREW_H
#define KAGAMI_BASE_CREW_H

#include <stdbool.h>

enum { CREW_THREADS_MAX = 16 };

enum crew_job_state { CREW_JOB_IDLE, CREW_JOB_QUEUED, CREW_JOB_RUNNING, CREW_JOB_ENDED };

struct crew_job {
	void (*run)(struct crew_job *job, void *kit); // `kit`: the tools of the thread that does it
	struct crew_job *previous, *next;	      // the crew's, as the rest
	enum crew_job_state state;
};

struct crew_config {
	unsigned threads;	   // at most CREW_THREADS_MAX
	void (*turn)(void);	   // called in each thread before each of its jobs, e.g. for its priority; may be NULL
	void *(*kit_new)(void);	   // one for each thread; may be NULL, and then kits are
	void (*kit_free)(void *kit);
};

struct crew;

// -ENOMEM, -EAGAIN: nothing runs.
int crew_new(const struct crew_config *config, struct crew **ret_crew);
void crew_free(struct crew *crew); // takes NULL; every job was waited for
unsigned crew_threads(const struct crew *crew); // for tests

void crew_start(struct crew *crew, struct crew_job *job);
// Returns when it has ended; does it here, with `kit`, when nobody has begun.
void crew_wait(struct crew *crew, struct crew_job *job, void *kit);
bool crew_ended(struct crew *crew, const struct crew_job *job); // crew_wait() would not wait, nor work

#endif
