// SPDX-License-Identifier: Apache-2.0
// One line per event on standard error: a sentence, then key=value.
//
// Below systemd (JOURNAL_STREAM is set) each line carries the journal's priority prefix and no time of its own.
// base/ and format/ never log: they return errors. Safe from any thread.
#ifndef KAGAMI_BASE_LOG_H
#define KAGAMI_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

// Once, before the first thread. `program` must outlive the process.
void log_init(const char *program, enum log_level most);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// The newest lines, oldest first, each with its time and its end; the caller frees. NULL when there are none, or no memory.
enum { LOG_RECENT_LINES = 1000 };
char *log_recent(void);

#endif
