// SPDX-License-Identifier: Apache-2.0
// The verifications under way, and their thread. A slice runs without the lock; a job that is `busy` is touched by nobody else.
#include "receiver/verifier.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/events.h"
#include "receiver/proof.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NS_PER_S UINT64_C(1000000000)
enum { IDLE_S = 3600, TRIES_MAX = 5 };

struct job {
	struct replica *replica;
	struct verify_info info;
	struct proof *proof; // NULL before the first slice, and after the last
	bool held, busy;
	unsigned failed; // slices in a row
	unsigned gave_up; // times in a row that it was found unreadable
	uint64_t again_ns; // unreadable: when it is tried again, monotonic
	uint64_t rewrites; // of the point, which is what the result is about
	uint64_t began_ns, ended_ns; // monotonic
};

struct verifier {
	struct env *env;
	uint64_t rate;
	pthread_mutex_t lock; // for all that follows
	pthread_cond_t wake, idle; // there is something to do; a slice has ended
	bool started, stop;
	pthread_t thread;
	struct job *job[VERIFIER_JOBS_MAX]; // oldest first
	size_t count, cursor;
};

const char *verify_state_name(enum verify_state state)
{
	static const char *const names[] = {[VERIFY_NONE] = "none", [VERIFY_RUNNING] = "running", [VERIFY_SOUND] = "sound",
					    [VERIFY_DAMAGED] = "damaged", [VERIFY_UNREADABLE] = "unreadable"};
	return names[state];
}

// --- jobs; under the lock ---

static void job_let_go(struct job *job)
{
	proof_close(job->proof);
	job->proof = NULL;
	if (job->held)
		replica_release(job->replica, job->info.point);
	job->held = false;
}

static struct job *job_find(const struct verifier *v, const struct replica *replica, uint64_t point)
{
	for (size_t i = 0; i < v->count; i++)
		if (v->job[i]->replica == replica && v->job[i]->info.point == point)
			return v->job[i];
	return NULL;
}

static void job_remove(struct verifier *v, size_t at)
{
	job_let_go(v->job[at]);
	free(v->job[at]);
	v->count--;
	memmove(&v->job[at], &v->job[at + 1], (v->count - at) * sizeof(v->job[0]));
}

// Makes room by forgetting the oldest result. False when every job is under way.
static bool room_make(struct verifier *v)
{
	if (v->count < VERIFIER_JOBS_MAX)
		return true;
	for (size_t i = 0; i < v->count; i++)
		if (v->job[i]->info.state != VERIFY_RUNNING) {
			job_remove(v, i);
			return true;
		}
	return false;
}

static int job_begin(struct verifier *v, struct job *job, struct err *err)
{
	uint64_t held;
	int rc = replica_hold(job->replica, job->info.point, &held, err);
	if (rc)
		return rc;
	job->held = true;
	job->failed = 0;
	job->began_ns = env_mono_ns(v->env);
	job->rewrites = replica_rewrites(job->replica, job->info.point);
	job->info = (struct verify_info){.point = job->info.point, .state = VERIFY_RUNNING};
	return 0;
}

// Whether the point is read from the files that the result is about: a point that is let go may be merged, or what is below it folded.
static bool job_is_of_now(const struct job *job)
{
	return job->info.state == VERIFY_RUNNING || replica_rewrites(job->replica, job->info.point) == job->rewrites;
}

static bool job_stands(const struct verifier *v, const struct job *job)
{
	if (job->info.state == VERIFY_RUNNING)
		return true;
	return job->info.state != VERIFY_UNREADABLE && job_is_of_now(job) && env_mono_ns(v->env) - job->ended_ns < VERIFIER_FRESH_S * NS_PER_S;
}

int verifier_begin(struct verifier *v, struct replica *replica, uint64_t point, bool asked, struct err *err)
{
	LOCK_SCOPE(&v->lock);
	struct job *job = job_find(v, replica, point);
	if (job && job_stands(v, job)) {
		job->info.asked |= asked;
		return 0;
	}
	if (job) {
		int rc = job_begin(v, job, err);
		job->info.asked = asked;
		(void)pthread_cond_signal(&v->wake);
		return rc;
	}
	if (!room_make(v))
		return err_set(err, -EBUSY, "%d points are being verified, which is all that may be: wait for one to end", VERIFIER_JOBS_MAX);
	job = calloc(1, sizeof(*job));
	if (!job)
		return err_set(err, -ENOMEM, "out of memory");
	job->replica = replica;
	job->info.point = point;
	int rc = job_begin(v, job, err);
	if (rc) {
		free(job);
		return rc;
	}
	job->info.asked = asked;
	v->job[v->count++] = job;
	(void)pthread_cond_signal(&v->wake);
	return 0;
}

void verifier_drop(struct verifier *v, struct replica *replica, uint64_t point)
{
	LOCK_SCOPE(&v->lock);
	for (size_t i = 0; i < v->count;) {
		struct job *job = v->job[i];
		if (job->replica != replica || (point && job->info.point != point)) {
			i++;
		} else if (job->busy) { // a slice is short; then look anew, as the list may be another
			(void)pthread_cond_wait(&v->idle, &v->lock);
			i = 0;
		} else {
			job_remove(v, i);
		}
	}
}

void verifier_distrust(struct verifier *v, struct replica *replica, uint64_t point)
{
	struct err err = {.code = 0};
	verifier_drop(v, replica, point);
	if (verifier_begin(v, replica, point, true, &err))
		log_warning("a point that shows damage is not being verified protection=%s point=%llu reason=\"%s\"", replica->name,
			    (unsigned long long)point, err.text);
}

// --- a slice ---

// The next job under way, of the oldest VERIFIER_OPEN_MAX, in turn.
static struct job *job_choose(struct verifier *v)
{
	struct job *open[VERIFIER_OPEN_MAX];
	size_t count = 0;
	for (size_t i = 0; i < v->count && count < VERIFIER_OPEN_MAX; i++)
		if (v->job[i]->info.state == VERIFY_RUNNING)
			open[count++] = v->job[i];
	return count ? open[v->cursor++ % count] : NULL;
}

static int job_slice(struct job *job, struct proof_info *ret_info, struct err *err)
{
	int rc = job->proof ? 0 : proof_open(job->replica, job->info.point, &job->proof, err);
	if (rc == 0)
		rc = proof_slice(job->proof, err);
	if (job->proof)
		proof_info(job->proof, ret_info);
	return rc;
}

// What is wrong with the point, and what to do about it.
static void damaged_explain(struct job *job, const struct err *why)
{
	struct err err = {.code = 0};
	if (why->code == 0)
		(void)replica_sound(job->replica, job->info.point, &err);
	if (err.text[0] == 0)
		(void)err_set(&err, -EUCLEAN, "point %llu of %s is damaged%s%s: use another point, and ask for 'kagami scrub %s'",
			      (unsigned long long)job->info.point, job->replica->name, why->code ? ": " : "", why->text, job->replica->name);
	memcpy(job->info.reason, err.text, sizeof(job->info.reason));
}

static void damage_emit(const char *name, const struct job *job)
{
	event_emit(EVENT_CRITICAL, "damage", name, NULL, "point %llu of %s is in use, and %llu of its blocks %s damaged: %s", (unsigned long long)job->info.point, name,
		   (unsigned long long)job->info.damaged_blocks, ARE(job->info.damaged_blocks), job->info.reason);
}

static void job_end(struct verifier *v, struct job *job, enum verify_state state)
{
	job->info.state = state;
	job->ended_ns = env_mono_ns(v->env);
	job_let_go(job);
	const char *name = job->replica->name;
	unsigned long long point = job->info.point;
	if (state == VERIFY_SOUND)
		log_info("Every block of a point in use was proven. protection=%s point=%llu bytes=%llu", name, point,
			 (unsigned long long)job->info.done_bytes);
	else if (state == VERIFY_DAMAGED) {
		log_error("DAMAGE: do not trust what reads this point now; unmount it, stop its tests, roll its failover back. protection=%s "
			  "point=%llu damaged_blocks=%llu reason=\"%s\"",
			  name, point, (unsigned long long)job->info.damaged_blocks, job->info.reason);
		damage_emit(name, job);
	}
}

// What it lacks or a disk that does not answer says nothing of what is stored: the point is neither sound nor damaged. It is told, and tried again.
static void job_give_up(struct verifier *v, struct job *job)
{
	uint64_t wait_s = VERIFIER_AGAIN_S;
	for (unsigned i = 0; i < job->gave_up && wait_s < VERIFIER_AGAIN_MAX_S; i++)
		wait_s *= 2;
	job->gave_up++;
	wait_s = min_u64(wait_s, VERIFIER_AGAIN_MAX_S);
	job_end(v, job, VERIFY_UNREADABLE);
	job->again_ns = job->ended_ns + wait_s * NS_PER_S;
	log_warning("a point in use cannot be read to be verified, and is tried again protection=%s point=%llu seconds=%llu reason=\"%s\"",
		    job->replica->name, (unsigned long long)job->info.point, (unsigned long long)wait_s, job->info.reason);
}

// Begins again what could not be read and is due. A point that is gone meanwhile is forgotten. How long until the next one is due.
static uint64_t again_begin(struct verifier *v)
{
	uint64_t now = env_mono_ns(v->env), wait_ns = IDLE_S * NS_PER_S;
	for (size_t i = 0; i < v->count; i++) {
		struct job *job = v->job[i];
		bool asked = job->info.asked;
		if (job->info.state != VERIFY_UNREADABLE)
			continue;
		if (now < job->again_ns) {
			wait_ns = min_u64(wait_ns, job->again_ns - now);
		} else if (job_begin(v, job, NULL)) {
			job_remove(v, i--);
		} else {
			job->info.asked = asked;
		}
	}
	return wait_ns;
}

// Takes in what a slice found. A slice that failed is tried again: memory or descriptors may come back.
static void job_take(struct verifier *v, struct job *job, int rc, const struct proof_info *found, const struct err *why)
{
	uint64_t ran_ms = (env_mono_ns(v->env) - job->began_ns) / 1000000;
	bool news = found->damaged_blocks && !job->info.damaged_blocks;
	job->info.done_bytes = found->done_bytes;
	job->info.total_bytes = found->total_bytes;
	job->info.damaged_blocks = found->damaged_blocks;
	job->info.bytes_per_second = ran_ms ? found->done_bytes / 1024 * 1000 / ran_ms * 1024 : 0;
	job->failed = rc && rc != -EAGAIN ? job->failed + 1 : 0;
	if (rc == 0 && !found->damaged_blocks)
		job->info.reason[0] = 0, job->gave_up = 0;
	if (rc && rc != -EUCLEAN && rc != -EAGAIN && !found->damaged_blocks)
		(void)snprintf(job->info.reason, sizeof(job->info.reason), "%s", why->text);
	if (rc == -EUCLEAN || news || (found->ended && found->damaged_blocks))
		damaged_explain(job, why);
	if (rc == -EUCLEAN || (rc == 0 && found->ended && found->damaged_blocks))
		job_end(v, job, VERIFY_DAMAGED);
	else if (rc == 0 && found->ended)
		job_end(v, job, VERIFY_SOUND);
	else if (rc && job->failed == TRIES_MAX)
		job_give_up(v, job);
	else if (news) {
		log_error("DAMAGE in a point that is in use; it is still being read. protection=%s point=%llu reason=\"%s\"", job->replica->name,
			  (unsigned long long)job->info.point, job->info.reason);
		damage_emit(job->replica->name, job);
	}
}

uint64_t verifier_step(struct verifier *v)
{
	uint64_t began_ns = env_mono_ns(v->env), before;
	struct proof_info found = {.ended = false};
	struct err err = {.code = 0};
	struct job *job;
	{
		LOCK_SCOPE(&v->lock);
		uint64_t again_ns = again_begin(v);
		job = job_choose(v);
		if (!job)
			return again_ns;
		job->busy = true;
		before = found.done_bytes = job->info.done_bytes;
		found.total_bytes = job->info.total_bytes;
		found.damaged_blocks = job->info.damaged_blocks;
	}
	int rc = job_slice(job, &found, &err);
	LOCK_SCOPE(&v->lock);
	job->busy = false;
	job_take(v, job, rc, &found, &err);
	(void)pthread_cond_broadcast(&v->idle);
	if (rc && rc != -EUCLEAN)
		return NS_PER_S;
	uint64_t due_ns = (found.done_bytes - before) * NS_PER_S / v->rate, took_ns = env_mono_ns(v->env) - began_ns;
	return due_ns > took_ns ? due_ns - took_ns : 0;
}

// --- asking ---

static void info_take(const struct verifier *v, const struct job *job, struct verify_info *ret_info)
{
	uint64_t now = env_mono_ns(v->env);
	*ret_info = job->info;
	ret_info->since_ms = (now - (job->info.state == VERIFY_RUNNING ? job->began_ns : job->ended_ns)) / 1000000;
	if (job->info.state == VERIFY_UNREADABLE)
		ret_info->again_in_ms = job->again_ns > now ? (job->again_ns - now) / 1000000 + 1 : 1;
}

void verifier_info(struct verifier *v, const struct replica *replica, uint64_t point, struct verify_info *ret_info)
{
	*ret_info = (struct verify_info){.point = point, .state = VERIFY_NONE};
	if (!v)
		return;
	LOCK_SCOPE(&v->lock);
	const struct job *job = job_find(v, replica, point);
	if (job && job_is_of_now(job))
		info_take(v, job, ret_info);
}

bool verifier_at(struct verifier *v, const struct replica *replica, size_t n, struct verify_info *ret_info)
{
	if (!v)
		return false;
	LOCK_SCOPE(&v->lock);
	for (size_t i = 0; i < v->count; i++) {
		if (v->job[i]->replica != replica || !job_is_of_now(v->job[i]) || n--)
			continue;
		info_take(v, v->job[i], ret_info);
		return true;
	}
	return false;
}

// --- the thread ---

static bool any_runs(const struct verifier *v)
{
	for (size_t i = 0; i < v->count; i++)
		if (v->job[i]->info.state == VERIFY_RUNNING)
			return true;
	return false;
}

// What is begun while nothing is under way begins at once; a wait for the rate is not cut short by it.
static void pause_for(struct verifier *v, uint64_t ns)
{
	struct timespec until = clock_mono_after(ns);
	LOCK_SCOPE(&v->lock);
	bool idle = !any_runs(v);
	while (!v->stop && ns && !(idle && any_runs(v)) && pthread_cond_timedwait(&v->wake, &v->lock, &until) == 0)
		;
}

static bool stopping(struct verifier *v)
{
	LOCK_SCOPE(&v->lock);
	return v->stop;
}

static void *verifier_thread(void *context)
{
	struct verifier *v = context;
	while (!stopping(v))
		pause_for(v, verifier_step(v));
	return NULL;
}

struct verifier *verifier_new(struct env *env, uint64_t rate)
{
	struct verifier *v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	v->env = env;
	v->rate = rate;
	(void)pthread_mutex_init(&v->lock, NULL);
	thread_condition_init(&v->wake);
	(void)pthread_cond_init(&v->idle, NULL);
	return v;
}

int verifier_start(struct verifier *v, struct err *err)
{
	int rc = -pthread_create(&v->thread, NULL, verifier_thread, v);
	v->started = rc == 0;
	return rc ? err_sys(err, rc, "start the verifier") : 0;
}

void verifier_free(struct verifier *v)
{
	if (!v)
		return;
	{
		LOCK_SCOPE(&v->lock);
		v->stop = true;
		(void)pthread_cond_signal(&v->wake);
	}
	if (v->started)
		(void)pthread_join(v->thread, NULL);
	while (v->count)
		job_remove(v, v->count - 1);
	(void)pthread_mutex_destroy(&v->lock);
	(void)pthread_cond_destroy(&v->wake);
	(void)pthread_cond_destroy(&v->idle);
	free(v);
}
