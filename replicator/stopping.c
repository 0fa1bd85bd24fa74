// SPDX-License-Identifier: Apache-2.0
// A thread closes everything in its order; this one looks on. Before that the exports bring to the disks what guests have written, and serve them meanwhile: the last sync,
// for which they wait, would be of all that otherwise, and they wait for the slowest disk of all.
//
//	writing out, all together ──little is left, or none goes on──► close begins: the one below
//
//	close begins ──► has returned: a clean stop
//	   └─ after some seconds: every export is told to end, so that guests are served to the end and see it, whatever hangs
//	        └─ after half of wait_s without a step, and in which nothing of an image was written back: given up
//
// One disk that hangs keeps the process, and with it all guests of the host wait for the next: so it is waited for first, while they are served, and for less long once they are not.
//
// What is given up is as after a crash: a state file says that the stop was clean only once the export has ended, its images are synced and the
// map is written (docs/format-state.md), and only the thread that closes writes it.
#include "replicator/stopping.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "base/thread.h"
#include "link/notify.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOOK_MS = 200, SAY_MS = 10000, LET_MS = 5000, LET_S = 60 }; // the service manager is told every LET_MS to let it go on for LET_S

// What is remembered of the looks before.
struct progress {
	struct roll *roll;
	int64_t begin_ms, moved_ms, said_ms, let_ms;
	uint64_t moves, least;
};

struct closing {
	const struct stopping *stopping;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool closed;
};

static void *close_run(void *context)
{
	struct closing *closing = context;
	closing->stopping->close(closing->stopping->context);
	LOCK_SCOPE(&closing->lock);
	closing->closed = true;
	(void)pthread_cond_signal(&closing->changed);
	return NULL;
}

static bool closed_soon(struct closing *closing)
{
	const struct timespec until = clock_mono_after(LOOK_MS * UINT64_C(1000000));
	LOCK_SCOPE(&closing->lock);
	if (!closing->closed)
		(void)pthread_cond_timedwait(&closing->changed, &closing->lock, &until);
	return closing->closed;
}

static void say_left(struct roll_entry *entry)
{
	if (entry->ended)
		log_error("the state of a protection was not saved to the end: unless its state files say that it was, the next start compares what they mark "
			  "protection=%s",
			  entry->protection);
	else
		log_error("the disks of a protection have not ended, an image does not answer: look at the storage under them; the next start compares what their "
			  "state files mark protection=%s",
			  entry->protection);
	entry->abandon(entry);
}

static struct progress progress_begin(struct roll *roll)
{
	int64_t now_ms = clock_mono_ms();
	return (struct progress){.roll = roll, .begin_ms = now_ms, .moved_ms = now_ms, .said_ms = now_ms, .let_ms = now_ms};
}

static bool goes_on(struct progress *progress, uint64_t moves, int64_t now_ms, int64_t wait_ms)
{
	if (moves != progress->moves)
		progress->moved_ms = now_ms;
	progress->moves = moves;
	return now_ms - progress->moved_ms < wait_ms;
}

// A sync of much takes its time, and goes on as long as less is left of it than ever before: so this cannot go on for ever.
static bool writes_on(struct progress *progress)
{
	uint64_t owes = roll_owes(progress->roll);
	bool less = owes < progress->least;
	progress->least = less ? owes : progress->least;
	return less;
}

// For the service manager every LET_MS, for the log every SAY_MS.
static void say(struct progress *progress, bool serves, int64_t now_ms)
{
	char status[160], left[32] = "", counted[32] = ""; // what is left is known from Linux 6.5 on
	bool lets = now_ms - progress->let_ms >= LET_MS, logs = now_ms - progress->said_ms >= SAY_MS;
	if (!lets && !logs)
		return;
	unsigned long long mib = roll_owes(progress->roll) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20;
	long long s = (now_ms - progress->begin_ms) / 1000;
	if (mib) {
		(void)snprintf(left, sizeof(left), "%llu MiB of ", mib);
		(void)snprintf(counted, sizeof(counted), " mib_left=%llu", mib);
	}
	if (lets) {
		(void)snprintf(status, sizeof(status), "Stopping: %swhat guests have written is on its way to the disks; guests are %s meanwhile", left, serves ? "served" : "not served");
		notify_stop_goes_on(LET_S, status);
		progress->let_ms = now_ms;
	}
	if (logs && serves)
		log_info("the stop waits until what guests have written is on the disks, and serves them meanwhile%s s=%lld", counted, s);
	else if (logs && mib)
		log_warning("the stop goes on: what guests have written is on its way to the disks, and none of theirs is served until that has ended%s s=%lld",
			    counted, s);
	if (logs)
		progress->said_ms = now_ms;
}

// As long as one goes on, be it that others hang.
static void write_out(const struct stopping *stopping)
{
	int64_t wait_ms = (int64_t)stopping->wait_s * 1000, now_ms;
	struct progress progress = progress_begin(stopping->roll);
	uint64_t pieces;
	for (useconds_t pause_ms = 1;; pause_ms = pause_ms < LOOK_MS ? 2 * pause_ms : pause_ms) {
		roll_write_out(stopping->roll); // also those that came meanwhile, or ended long before the slowest: their guests write on
		if (!roll_writes_out(stopping->roll, &pieces))
			return;
		now_ms = clock_mono_ms();
		if (!goes_on(&progress, pieces, now_ms, wait_ms))
			break;
		say(&progress, true, now_ms);
		(void)usleep(pause_ms * 1000);
	}
	log_warning("the stop goes on, though not all that guests have written is on the disks: for %u s nothing more of it was; see to the storage under the images", stopping->wait_s);
}

static bool look_on(struct closing *closing)
{
	const struct stopping *stopping = closing->stopping;
	int64_t wait_ms = (int64_t)stopping->wait_s * 500, orderly_ms = (int64_t)min_u64(stopping->wait_s * UINT64_C(250), STOP_ORDERLY_MS_MAX);
	struct progress progress = progress_begin(stopping->roll);
	progress.moves = roll_moves(stopping->roll);
	progress.least = roll_owes(stopping->roll);
	bool told = false;
	while (!closed_soon(closing)) {
		int64_t now_ms = clock_mono_ms();
		if (writes_on(&progress))
			progress.moved_ms = now_ms;
		if (!goes_on(&progress, roll_moves(stopping->roll), now_ms, wait_ms))
			return false;
		if (!told && now_ms - progress.begin_ms >= orderly_ms) {
			roll_end(stopping->roll);
			progress.least = roll_owes(stopping->roll); // guests wrote until now, and what is owed may have grown: it is counted down from here
			told = true;
		}
		say(&progress, false, now_ms);
	}
	return true;
}

bool stopping_run(const struct stopping *stopping)
{
	static struct closing closing; // there is one stop, and what was given up still works with it
	closing = (struct closing){.stopping = stopping, .lock = PTHREAD_MUTEX_INITIALIZER};
	pthread_t thread;
	thread_condition_init(&closing.changed);
	write_out(stopping);
	int code = thread_start(&thread, "kagami-closing", close_run, &closing);
	if (code) {
		log_warning("there is no thread for the stop, which is without a bound now: %s", strerror(-code));
		stopping->close(stopping->context);
	} else if (!look_on(&closing)) {
		log_error("the stop is given up: nothing has gone on for %g s; the state directory, or an image, does not answer, and where a thread waits for it in the kernel, this process ends "
			  "only when it does",
			  stopping->wait_s / 2.0);
		roll_each(stopping->roll, say_left);
		return false;
	} else {
		(void)pthread_join(thread, NULL);
	}
	(void)pthread_cond_destroy(&closing.changed);
	return true;
}
