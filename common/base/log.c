// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/when.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

// --- the newest lines, for who asks later ---

static pthread_mutex_t recent_lock = PTHREAD_MUTEX_INITIALIZER;
static char *recent[LOG_RECENT_LINES];
static unsigned recent_next;

static void recent_add(const char *when, const char *level, const char *text)
{
	char *line = NULL;
	if (asprintf(&line, "%s %s: %s\n", when, level, text) < 0)
		return;
	LOCK_SCOPE(&recent_lock);
	free(recent[recent_next % LOG_RECENT_LINES]);
	recent[recent_next++ % LOG_RECENT_LINES] = line;
}

char *log_recent(void)
{
	LOCK_SCOPE(&recent_lock);
	size_t sum = 0, len = 0;
	for (unsigned i = 0; i < LOG_RECENT_LINES; i++)
		sum += recent[i] ? strlen(recent[i]) : 0;
	char *text = sum ? malloc(sum + 1) : NULL;
	for (unsigned i = 0; text && i < LOG_RECENT_LINES; i++) {
		const char *line = recent[(recent_next + i) % LOG_RECENT_LINES];
		size_t more = line ? strlen(line) : 0;
		memcpy(text + len, line ? line : "", more);
		len += more;
		text[len] = 0;
	}
	return text;
}

static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	static const char *const journal[] = {"<3>", "<4>", "<6>", "<7>"};
	if (level > log_most)
		return;
	char text[1024];
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	plain(text);
	char when[WHEN_SIZE];
	when_format(clock_wall_ns(), when);
	recent_add(when, names[level], text);
	if (log_journal) {
		(void)fprintf(stderr, "%s%s\n", journal[level], text);
		return;
	}
	(void)fprintf(stderr, "%s %s %s: %s\n", when, log_program, names[level], text);
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
