// SPDX-License-Identifier: Apache-2.0
// One line per event on standard error: a sentence, then key=value.
//
// Below systemd (JOURNAL_STREAM is set) each line carries the journal's priority prefix and no time of its own.
// base/ and format/ never log: they return errors. Safe from any thread.
//
// Who logs does not wait for who reads it, once log_start() was called: a terminal that is frozen, a pipe that is full, or a disk that hangs would hold a guest
// up. A thread writes the lines; of those that it has no time for, the newest LOG_KEPT_LINES are kept, and how many were not is said in their place.
#ifndef KAGAMI_BASE_LOG_H
#define KAGAMI_BASE_LOG_H

enum { LOG_RECENT_LINES = 1000, LOG_KEPT_LINES = 8192 };
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

// Once, before the first thread. `program` must outlive the process.
void log_init(const char *program, enum log_level most);
// From here on a thread writes. Where none can be made, whoever logs does, as before. Once.
void log_start(void);
// Waits until all is written, but LOG_END_MS at most, and at the end of the process by itself. Before _exit() and abort(), which would lose lines.
enum { LOG_END_MS = 500 };
void log_end(void);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// The newest lines, oldest first, each with its time and its end; the caller frees. NULL when there are none, or no memory.
char *log_recent(void);

#endif
