// SPDX-License-Identifier: Apache-2.0
#include "replicator/disk_errors.h"

#include "base/auto.h"

#include <stdio.h>
#include <string.h>

void disk_errors_init(struct disk_errors *errors)
{
	*errors = (struct disk_errors){.count = 0};
	(void)pthread_mutex_init(&errors->lock, NULL);
}

void disk_errors_done(struct disk_errors *errors)
{
	(void)pthread_mutex_destroy(&errors->lock);
}

static bool is_news(const struct disk_error *last, int res, uint64_t now_ns)
{
	uint64_t since_ns = now_ns - last->told_ns;
	return last->res == 0 || since_ns >= DISK_ERRORS_AGAIN_NS || (last->res != res && since_ns >= DISK_ERRORS_PAUSE_NS);
}

enum disk_news disk_errors_add(struct disk_errors *errors, enum disk_fault fault, int res, bool failed, uint64_t now_ns)
{
	struct disk_error *last = &errors->kind[fault];
	bool fails = failed && !atomic_load_explicit(&errors->failed, memory_order_relaxed);
	atomic_store_explicit(&errors->last_ns, now_ns, memory_order_relaxed);
	atomic_fetch_add_explicit(&errors->count, 1, memory_order_release); // who sees it sees when
	if (!fails && !is_news(last, res, now_ns))
		return DISK_NEWS_NONE;
	*last = (struct disk_error){.res = res, .told_ns = now_ns};
	return fails ? DISK_NEWS_FAILED : DISK_NEWS_ERROR;
}

static void say(struct err *err, const char *when, enum disk_fault fault, const char *path, uint64_t off, int res)
{
	static const char *const what[] = {
		[FAULT_READ] = "read", [FAULT_WRITE] = "write", [FAULT_COPY] = "read for a cycle", [FAULT_OLD] = "read of what a guest overwrites"};
	if (fault == FAULT_SYNC || fault == FAULT_STAT)
		(void)err_sys(err, res, "%s: %s of image %s", when, fault == FAULT_SYNC ? "sync" : "stat", path);
	else
		(void)err_sys(err, res, "%s: %s, image %s at byte %llu", when, what[fault], path, (unsigned long long)off);
}

void disk_errors_show(struct disk_errors *errors, const char *when, enum disk_fault fault, const char *path, uint64_t off, int res, bool failed,
		      struct err *ret_err)
{
	say(ret_err, when, fault, path, off, res);
	LOCK_SCOPE(&errors->lock);
	if (atomic_load_explicit(&errors->failed, memory_order_relaxed))
		return;
	memcpy(errors->text, ret_err->text, sizeof(errors->text));
	atomic_store_explicit(&errors->failed, failed, memory_order_release);
}

void disk_errors_restore(struct disk_errors *errors, const char *text)
{
	LOCK_SCOPE(&errors->lock);
	(void)snprintf(errors->text, sizeof(errors->text), "%s", text);
	atomic_store_explicit(&errors->failed, true, memory_order_release);
}

void disk_errors_clear(struct disk_errors *errors)
{
	LOCK_SCOPE(&errors->lock);
	memset(errors->kind, 0, sizeof(errors->kind));
	errors->text[0] = '\0';
	atomic_store_explicit(&errors->count, 0, memory_order_relaxed);
	atomic_store_explicit(&errors->failed, false, memory_order_release);
}

void disk_errors_text(struct disk_errors *errors, char text[ERR_TEXT_MAX])
{
	LOCK_SCOPE(&errors->lock);
	memcpy(text, errors->text, sizeof(errors->text));
}
