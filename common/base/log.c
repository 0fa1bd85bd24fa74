// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const char *log_program = "kagami";
static enum log_level log_most = LOG_LEVEL_INFO;
static bool log_journal;

void log_init(const char *program, enum log_level most)
{
	log_program = program;
	log_most = most;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	static const char *const names[] = {"error", "warning", "info", "debug"};
	static const char *const journal[] = {"<3>", "<4>", "<6>", "<7>"};
	if (level > log_most)
		return;
	char text[1024];
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	for (char *c = text; *c; c++) // what came from a peer cannot forge a line of its own
		if ((unsigned char)*c < ' ')
			*c = '?';
	if (log_journal) {
		(void)fprintf(stderr, "%s%s\n", journal[level], text);
		return;
	}
	struct timespec now;
	struct tm utc;
	char when[32];
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &utc);
	(void)strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &utc);
	(void)fprintf(stderr, "%s.%03ldZ %s %s: %s\n", when, now.tv_nsec / 1000000, log_program, names[level], text);
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
