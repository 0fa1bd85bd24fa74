// SPDX-License-Identifier: Apache-2.0
// What the process lacks so that its guests feel it: worker threads of the kernel's for its disks' I/O (workers.h), and descriptors for those who
// connect. Both pass by themselves, and are shown while they last; how often that is told is bounded (nbd_word_may()).
#include "replicator/export_loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/holder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char no_threads[] = "the kernel has no worker thread for the I/O of its disks and can make none, so one thread of the agent does all of it, and "
				 "guests may be slow: raise the limit on threads (TasksMax= of the unit, pids.max of the control group, ulimit -u)";

static void why_none_connects(int code, char *text, size_t cap)
{
	if (code == -EMFILE)
		(void)snprintf(text, cap, "the agent is short of descriptors, and no guest can connect: end connections that are not used, or raise LimitNOFILE= of the unit "
					  "(ulimit -n) and restart");
	else if (code == -ENFILE)
		(void)snprintf(text, cap, "the host has no descriptor left, and no guest can connect: raise fs.file-max (sysctl)");
	else
		(void)snprintf(text, cap, "no guest can connect: %s", strerror(-code));
}

static void tell_begin(const struct export *export, struct export_short_word *word, const char *text)
{
	unsigned left_out;
	word->told = nbd_word_may(&word->word, clock_mono_ns(), &left_out);
	if (!word->told)
		return;
	log_warning("%s protection=%s told_less_before=%u", text, export->protection, left_out);
	event_emit(EVENT_WARNING, "state", export->protection, NULL, "%s", text);
}

static void tell_end(const struct export *export, struct export_short_word *word, const char *text)
{
	if (!word->told)
		return;
	word->told = false;
	log_info("%s protection=%s", text, export->protection);
	event_emit(EVENT_INFO, "state", export->protection, NULL, "%s", text);
}

void export_on_workers(struct workers *workers)
{
	struct export *export = HOLDER(workers, struct export, workers);
	if (atomic_load_explicit(&workers->missing, memory_order_relaxed))
		tell_begin(export, &export->no_workers, no_threads);
	else
		tell_end(export, &export->no_workers, "the kernel has worker threads for the I/O of its disks again");
}

void export_accept_failed(struct export *export, int code)
{
	char text[EXPORT_SHORT_SIZE];
	bool first = atomic_exchange_explicit(&export->accept_code, code, memory_order_relaxed) == 0;
	bound_begin(&export->accept_short, EXPORT_ACCEPT_SHORT_MS);
	if (!first)
		return;
	why_none_connects(code, text, sizeof(text));
	tell_begin(export, &export->no_accept, text);
}

void export_on_accept_well(struct bound *accept_short)
{
	struct export *export = HOLDER(accept_short, struct export, accept_short);
	atomic_store_explicit(&export->accept_code, 0, memory_order_relaxed);
	tell_end(export, &export->no_accept, "guests can connect again");
}

void export_short(struct export *export, char text[EXPORT_SHORT_SIZE])
{
	int code = atomic_load_explicit(&export->accept_code, memory_order_relaxed);
	text[0] = 0;
	if (atomic_load_explicit(&export->workers.missing, memory_order_relaxed))
		memcpy(text, no_threads, sizeof(no_threads));
	else if (code)
		why_none_connects(code, text, EXPORT_SHORT_SIZE);
}
