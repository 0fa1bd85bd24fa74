// SPDX-License-Identifier: Apache-2.0
#include "receiver/check_job.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/check.h"

#include <errno.h>
#include <stdio.h>

struct check_job {
	struct env *env;
	struct store *store;
	pthread_mutex_t lock;
	pthread_t thread;
	bool started; // there is a thread to join
	bool running, stop;
	char protection[NAME_SIZE];
	uint64_t files, of;
	json_t *report; // of the newest that ended
	struct err why; // it has none
};

static void on_looked(void *context, const char *protection, uint64_t files, uint64_t of)
{
	struct check_job *job = context;
	LOCK_SCOPE(&job->lock);
	(void)snprintf(job->protection, sizeof(job->protection), "%s", protection);
	job->files = files;
	job->of = of;
}

static bool stopping(void *context)
{
	struct check_job *job = context;
	LOCK_SCOPE(&job->lock);
	return job->stop;
}

static void *job_thread(void *context)
{
	struct check_job *job = context;
	const struct check_progress progress = {.looked = on_looked, .stopping = stopping, .context = job};
	struct err err = {0};
	json_t *report = NULL;
	int rc = check_live(job->store, &progress, &report, &err);
	bool sound = rc == 0 && json_is_true(json_object_get(report, "sound"));
	LOCK_SCOPE(&job->lock);
	job->report = report;
	job->why = err;
	job->running = false;
	if (rc == 0 && !sound)
		log_error("the check of the store found damage, or what it could not read: `kagami store check` tells what");
	else if (rc)
		log_warning("the check of the store did not come to its end: %s", err.text);
	return NULL;
}

struct check_job *check_job_new(struct env *env, struct store *store)
{
	struct check_job *job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	job->env = env;
	job->store = store;
	(void)pthread_mutex_init(&job->lock, NULL);
	return job;
}

void check_job_free(struct check_job *job)
{
	if (!job)
		return;
	{
		LOCK_SCOPE(&job->lock);
		job->stop = true;
	}
	if (job->started)
		(void)pthread_join(job->thread, NULL);
	json_decref(job->report);
	(void)pthread_mutex_destroy(&job->lock);
	free(job);
}

int check_job_start(struct check_job *job, struct err *err)
{
	LOCK_SCOPE(&job->lock);
	if (job->running)
		return 0;
	if (job->started)
		(void)pthread_join(job->thread, NULL); // it has ended, or is on its last instruction after the lock
	json_decref(job->report);
	job->report = NULL;
	job->why = (struct err){0};
	job->protection[0] = 0;
	job->files = job->of = 0;
	job->running = true;
	int rc = -pthread_create(&job->thread, NULL, job_thread, job);
	job->started = rc == 0;
	job->running = rc == 0;
	return rc ? err_sys(err, rc, "start the check") : 0;
}

json_t *check_job_json(struct check_job *job)
{
	LOCK_SCOPE(&job->lock);
	const char *state = job->running ? "running" : job->report ? "done" : job->why.code ? "failed" : "none";
	return json_pack("{s:s, s:s, s:I, s:I, s:s, s:O?}", "state", state, "protection", job->protection, "files", (json_int_t)job->files,
			 "of", (json_int_t)job->of, "error", job->why.text, "report", job->report);
}

// --- the command ---

enum { EXIT_SOUND = 0, EXIT_DAMAGED = 1, EXIT_MISUSED = 2, EXIT_UNCHECKED = 3 };

static void on_looked_offline(void *context, const char *protection, uint64_t files, uint64_t of)
{
	const bool *terminal = context;
	if (*terminal)
		(void)fprintf(stderr, "\r%s: %llu of %llu files \033[K", protection, (unsigned long long)files, (unsigned long long)of);
}

static bool never(void *context)
{
	(void)context;
	return false;
}

static int exit_status(const json_t *report)
{
	const json_t *one;
	size_t i;
	json_array_foreach(json_object_get(report, "protections"), i, one)
		if (json_array_size(json_object_get(one, "damage")))
			return EXIT_DAMAGED;
	return json_is_true(json_object_get(report, "sound")) ? EXIT_SOUND : EXIT_UNCHECKED;
}

int check_command(int argc, char **argv)
{
	bool terminal = isatty(STDERR_FILENO);
	const struct check_progress progress = {.looked = on_looked_offline, .stopping = never, .context = &terminal};
	struct err err = {0};
	json_t *report = NULL;
	if (argc != 1 || argv[0][0] != '/') {
		(void)fprintf(stderr, "usage: kagami-receiver --check STORE (its absolute path)\n");
		return EXIT_MISUSED;
	}
	int rc = check_directory(env_posix(), argv[0], &progress, &report, &err);
	if (terminal)
		(void)fputs("\r\033[K", stderr);
	if (rc) {
		(void)fprintf(stderr, "%s\n", err.text);
		return EXIT_UNCHECKED;
	}
	int status = exit_status(report);
	bool printed = json_dumpf(report, stdout, JSON_INDENT(2)) == 0 && fputc('\n', stdout) != EOF && fflush(stdout) == 0;
	json_decref(report);
	return printed ? status : EXIT_UNCHECKED;
}
