// SPDX-License-Identifier: Apache-2.0
#include "tools/both.h"

#include <pthread.h>

struct job {
	void (*ask)(void *one);
	void *one;
};

static void *run(void *context)
{
	struct job *job = context;
	job->ask(job->one);
	return NULL;
}

void both_ask(void (*ask)(void *one), void *first, void *second)
{
	struct job job = {ask, first};
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, run, &job);
	ask(second);
	if (rc) // one after the other, then
		ask(first);
	else
		(void)pthread_join(thread, NULL);
}
