// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/thread.h"
#include "base/when.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *log_program = "kagami";
static enum log_level log_most = LOG_LEVEL_INFO;
static bool log_journal;

void log_init(const char *program, enum log_level most)
{
	log_program = program;
	log_most = most;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

// The bytes of a UTF-8 character that begins at `c`, or 0: where it is cut off, longer than it need be, or a control (C0, DEL, C1).
static unsigned character(const unsigned char *c)
{
	if (*c < 0x80)
		return *c >= ' ' && *c != 0x7f;
	unsigned len = *c >= 0xf0 ? 4 : *c >= 0xe0 ? 3 : 2;
	if (*c < 0xc2 || *c > 0xf4)
		return 0;
	for (unsigned i = 1; i < len; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	bool control = *c == 0xc2 && c[1] < 0xa0;
	bool longer = (*c == 0xe0 && c[1] < 0xa0) || (*c == 0xf0 && c[1] < 0x90);
	bool none = (*c == 0xed && c[1] >= 0xa0) || (*c == 0xf4 && c[1] >= 0x90); // a surrogate, or past the last one
	return control || longer || none ? 0 : len;
}

// What came from a peer or a guest cannot forge a line of its own, nor tell a terminal to do anything.
static void plain(char *text)
{
	unsigned char *c = (unsigned char *)text;
	while (*c) {
		unsigned len = character(c);
		if (!len)
			*c = '?';
		c += len ? len : 1;
	}
}

// --- the newest lines: for who asks later, and until they are written ---

struct recent_line {
	enum log_level level;
	char when[WHEN_SIZE];
	char *text;
};

static pthread_mutex_t recent_lock = PTHREAD_MUTEX_INITIALIZER; // of all below
static struct recent_line recent[LOG_KEPT_LINES];
static uint64_t recent_next, written; // lines that there were, and that the writer has taken or passed over
static bool started, writing;         // there is a writer; it is in a line
static pthread_cond_t more, less;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

// Whether the writer has it. One that there is no memory for it leaves out.
static bool recent_add(enum log_level level, const char *when, const char *text)
{
	char *copy = strdup(text);
	LOCK_SCOPE(&recent_lock);
	struct recent_line *line = &recent[recent_next % LOG_KEPT_LINES];
	if (!copy)
		return started;
	free(line->text);
	*line = (struct recent_line){.level = level, .text = copy};
	(void)snprintf(line->when, sizeof(line->when), "%s", when);
	recent_next++;
	if (started)
		(void)pthread_cond_signal(&more);
	return started;
}

char *log_recent(void)
{
	LOCK_SCOPE(&recent_lock);
	size_t cap = 0, len = 0;
	uint64_t first = recent_next > LOG_RECENT_LINES ? recent_next - LOG_RECENT_LINES : 0;
	for (uint64_t i = first; i < recent_next; i++)
		cap += strlen(recent[i % LOG_KEPT_LINES].text) + WHEN_SIZE + sizeof("warning: \n");
	char *text = cap ? malloc(cap) : NULL;
	for (uint64_t i = first; text && i < recent_next; i++) {
		const struct recent_line *line = &recent[i % LOG_KEPT_LINES];
		len += (size_t)snprintf(text + len, cap - len, "%s %s: %s\n", line->when, level_names[line->level], line->text);
	}
	return text;
}

// --- writing ---

enum { TEXT_SIZE = 1024, LINE_SIZE = TEXT_SIZE + WHEN_SIZE + 64 };

static size_t line_make(char *line, enum log_level level, const char *when, const char *text)
{
	static const char *const journal[] = {"<3>", "<4>", "<6>", "<7>"};
	int len = log_journal ? snprintf(line, LINE_SIZE, "%s%s\n", journal[level], text) : snprintf(line, LINE_SIZE, "%s %s %s: %s\n", when, log_program, level_names[level], text);
	return len < LINE_SIZE ? (size_t)len : LINE_SIZE - 1;
}

// Nobody can be told of an error.
static void line_write(const char *line, size_t len)
{
	while (len) {
		ssize_t wrote = write(STDERR_FILENO, line, len);
		if (wrote < 0 && errno == EAGAIN) {
			struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};
			(void)poll(&fd, 1, -1);
		} else if (wrote <= 0 && errno != EINTR) {
			return;
		} else if (wrote > 0) {
			line += wrote;
			len -= (size_t)wrote;
		}
	}
}

// The next line, or in place of those that are kept no more, how many. Under the lock.
static size_t line_next(char *line)
{
	uint64_t lost = recent_next - written > LOG_KEPT_LINES ? recent_next - written - LOG_KEPT_LINES : 0;
	if (lost) {
		char when[WHEN_SIZE], text[TEXT_SIZE];
		when_format(clock_wall_ns(), when);
		(void)snprintf(text, sizeof(text), "%llu lines were not written here, since nobody took those before them; \"kagami bundle\" has the newest", (unsigned long long)lost);
		written += lost;
		return line_make(line, LOG_LEVEL_WARNING, when, text);
	}
	const struct recent_line *from = &recent[written++ % LOG_KEPT_LINES];
	return line_make(line, from->level, from->when, from->text);
}

static void *writer_run(void *unused)
{
	char line[LINE_SIZE];
	(void)pthread_mutex_lock(&recent_lock);
	for (;;) {
		while (written == recent_next)
			(void)pthread_cond_wait(&more, &recent_lock);
		size_t len = line_next(line);
		writing = true;
		(void)pthread_mutex_unlock(&recent_lock);
		line_write(line, len);
		(void)pthread_mutex_lock(&recent_lock);
		writing = false;
		(void)pthread_cond_broadcast(&less);
	}
	return unused;
}

void log_start(void)
{
	pthread_t thread;
	thread_condition_init(&more);
	thread_condition_init(&less);
	LOCK_SCOPE(&recent_lock);
	written = recent_next;
	started = !thread_start(&thread, "kagami-log", writer_run, NULL);
	if (started) {
		(void)pthread_detach(thread);
		(void)atexit(log_end);
	}
}

void log_end(void)
{
	struct timespec until = clock_mono_after(LOG_END_MS * 1000000ull);
	LOCK_SCOPE(&recent_lock);
	while (started && (written != recent_next || writing))
		if (pthread_cond_timedwait(&less, &recent_lock, &until) == ETIMEDOUT)
			return;
}

static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	if (level > log_most)
		return;
	char text[TEXT_SIZE], when[WHEN_SIZE], line[LINE_SIZE];
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	plain(text);
	when_format(clock_wall_ns(), when);
	if (!recent_add(level, when, text))
		line_write(line, line_make(line, level, when, text));
}

#define LOG_BODY(level)                                                                                         \
	va_list ap;                                                                                             \
	va_start(ap, fmt);                                                                                      \
	log_line(level, fmt, ap);                                                                               \
	va_end(ap)

void log_error(const char *fmt, ...)
{
	LOG_BODY(LOG_LEVEL_ERROR);
}

void log_warning(const char *fmt, ...)
{
	LOG_BODY(LOG_LEVEL_WARNING);
}

void log_info(const char *fmt, ...)
{
	LOG_BODY(LOG_LEVEL_INFO);
}

void log_debug(const char *fmt, ...)
{
	LOG_BODY(LOG_LEVEL_DEBUG);
}
