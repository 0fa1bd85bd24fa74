// SPDX-License-Identifier: Apache-2.0
// Helper programs: started without a shell, bounded in time and in what they say, ended by identity and never by name.
//
// A helper gets an argument array, an environment of our own (LC_ALL=C, PATH), /dev/null as standard input, a pipe as
// standard output and error (fuse2fs gives its reasons on the one, others on the other), a process group of its own, and
// no other descriptor of ours. Any thread may call.
#ifndef KAGAMI_RECEIVER_CHILD_H
#define KAGAMI_RECEIVER_CHILD_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { CHILD_TEXT_SIZE = 1024, CHILD_PATH_SIZE = 512 };

struct child_result {
	int exit_code;		    // -1 when a signal ended it
	int signal;		    // that ended it, or 0
	bool timed_out;		    // it was killed because its time was over
	char text[CHILD_TEXT_SIZE]; // the end of what it said, on one line
};

// The absolute path of a program, from PATH and then the system's own directories. -ENOPKG, and the text
// names the Debian package to install.
int child_find(const char *program, const char *package, char *path, size_t cap, struct err *err);

// Runs argv[0] (an absolute path; argv ends with NULL) until it ends or `timeout_ms` is over: then its process group is
// killed. 0 whatever it returned; an error only when it could not be run. A helper that leaves a daemon behind has ended
// when its first process has.
int child_run(const char *const *argv, unsigned timeout_ms, struct child_result *ret_result, struct err *err);

// As child_run(), and everything but exit code 0 is an error (-EIO, -ETIMEDOUT) that holds what the program said.
int child_check(const char *const *argv, unsigned timeout_ms, struct err *err);

// Ends the process whose number is in `pidfile`, if `mark` is part of its command line: SIGTERM, after `timeout_ms`
// SIGKILL. 0 when it has ended, or was gone, or the number belongs to something else by now.
int child_end(const char *pidfile, const char *mark, unsigned timeout_ms, struct err *err);

#endif
