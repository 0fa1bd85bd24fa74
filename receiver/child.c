// SPDX-License-Identifier: Apache-2.0
// Runs and ends helper programs.
//
// Promises: no shell ever sees our strings; a helper that hangs costs its timeout and no more; a helper that floods us
// with text costs a buffer; a process is signalled only through a pidfd that was opened before its command line
// was checked, so that a number that was used again can never name a stranger.
#include "receiver/child.h"

#include "base/auto.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

enum { KILL_WAIT_MS = 2000, CMDLINE_MAX = 16384 };

#define SYSTEM_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static bool find_in(const char *directories, const char *program, char *path, size_t cap)
{
	while (directories && *directories) {
		size_t len = strcspn(directories, ":");
		int n = snprintf(path, cap, "%.*s/%s", (int)len, directories, program);
		// A relative entry would name another program in another working directory.
		if (directories[0] == '/' && n > 0 && (size_t)n < cap && access(path, X_OK) == 0)
			return true;
		directories += len + (directories[len] == ':');
	}
	return false;
}

int child_find(const char *program, const char *package, char *path, size_t cap, struct err *err)
{
	if (find_in(getenv("PATH"), program, path, cap) || find_in(SYSTEM_PATH, program, path, cap))
		return 0;
	return err_set(err, -ENOPKG, "the program %s is missing: install it (apt-get install %s)", program, package);
}

// --- running ---

// The end of what a helper says, in a bounded buffer.
struct tail {
	char text[CHILD_TEXT_SIZE];
	size_t len;
};

static void tail_add(struct tail *tail, const char *from, size_t len)
{
	size_t room = sizeof(tail->text) - 1;
	if (len > room) {
		from += len - room;
		len = room;
	}
	if (tail->len + len > room) {
		size_t drop = tail->len + len - room;
		memmove(tail->text, tail->text + drop, tail->len - drop);
		tail->len -= drop;
	}
	memcpy(tail->text + tail->len, from, len);
	tail->len += len;
}

// Takes what is in the (non-blocking) pipe, at most 64 KiB at a time so that a flood cannot hide the clock. False at the end.
static bool tail_read(struct tail *tail, int fd)
{
	for (unsigned i = 0; i < 16; i++) {
		char buf[4096];
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (n == 0)
			return false;
		tail_add(tail, buf, (size_t)n);
	}
	return true;
}

static void tail_show(const struct tail *tail, char text[CHILD_TEXT_SIZE])
{
	size_t from = 0, to = tail->len;
	while (from < to && (unsigned char)tail->text[from] <= ' ')
		from++;
	while (to > from && (unsigned char)tail->text[to - 1] <= ' ')
		to--;
	for (size_t i = from; i < to; i++) // one line, for a log
		text[i - from] = (unsigned char)tail->text[i] < ' ' ? ' ' : tail->text[i];
	text[to - from] = 0;
}

static int spawn_prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr, int said_fd)
{
	sigset_t none, all;
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	int rc = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(actions, said_fd, STDOUT_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(actions, said_fd, STDERR_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
	if (rc == 0)
		rc = posix_spawnattr_setpgroup(attr, 0);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(attr, &none);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(attr, &all);
	if (rc == 0)
		rc = posix_spawnattr_setflags(
			attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	return -rc;
}

static int spawn(const char *const *argv, int said_fd, pid_t *ret_pid)
{
	static char locale[] = "LC_ALL=C", path[] = "PATH=" SYSTEM_PATH;
	char *const environment[] = {locale, path, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	if (posix_spawnattr_init(&attr)) {
		(void)posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	int rc = spawn_prepare(&actions, &attr, said_fd);
	if (rc == 0)
		rc = -posix_spawn(ret_pid, argv[0], &actions, &attr, (char *const *)(uintptr_t)argv, environment);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
	return rc;
}

// Waits until the process behind `pidfd` has ended, reading `pipe_fd` meanwhile. False when the time is over.
static bool wait_end(int pidfd, int pipe_fd, unsigned timeout_ms, struct tail *tail)
{
	int64_t until = clock_mono_ms() + timeout_ms;
	for (;;) {
		int64_t now = clock_mono_ms();
		struct pollfd fds[2] = {{.fd = pidfd, .events = POLLIN}, {.fd = pipe_fd, .events = POLLIN}};
		int n = poll(fds, 2, now < until ? (int)(until - now) : 0);
		if (n > 0 && fds[1].revents && !tail_read(tail, pipe_fd))
			pipe_fd = -1;
		if (n > 0 && fds[0].revents)
			return true;
		if (now >= until)
			return false;
	}
}

static int reap(pid_t pid, struct child_result *result)
{
	int status = 0;
	pid_t got;
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	return 0;
}

int child_run(const char *const *argv, unsigned timeout_ms, struct child_result *ret_result, struct err *err)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
		return err_sys(err, -errno, "run %s", argv[0]);
	AUTO_CLOSE int from = ends[0];
	AUTO_CLOSE int to = ends[1];
	pid_t pid = -1;
	int rc = spawn(argv, to, &pid);
	if (rc)
		return err_sys(err, rc, "run %s", argv[0]);
	(void)close(to);
	to = -1;
	struct child_result result = {.exit_code = -1};
	struct tail tail = {.len = 0};
	AUTO_CLOSE int pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		rc = -errno;
	result.timed_out = rc == 0 && !wait_end(pidfd, from, timeout_ms, &tail);
	if (rc || result.timed_out)
		(void)kill(-pid, SIGKILL); // ours until it is reaped: the number cannot be another's
	int reaped = reap(pid, &result);
	if (rc == 0)
		rc = reaped;
	if (rc)
		return err_sys(err, rc, "wait for %s", argv[0]);
	(void)tail_read(&tail, from); // not to its end: a daemon left behind may keep the pipe open
	tail_show(&tail, result.text);
	*ret_result = result;
	return 0;
}

int child_check(const char *const *argv, unsigned timeout_ms, struct err *err)
{
	struct child_result result;
	int rc = child_run(argv, timeout_ms, &result, err);
	if (rc)
		return rc;
	const char *said = result.text[0] ? result.text : "it gave no reason";
	if (result.timed_out)
		return err_set(err, -ETIMEDOUT, "%s did not end within %u s and was killed: %s", argv[0], timeout_ms / 1000,
			       said);
	if (result.signal)
		return err_set(err, -EIO, "%s was ended by signal %d: %s", argv[0], result.signal, said);
	if (result.exit_code)
		return err_set(err, -EIO, "%s failed with exit code %d: %s", argv[0], result.exit_code, said);
	return 0;
}

// --- ending ---

static int read_small(const char *path, char *buf, size_t cap, size_t *ret_len)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	size_t len = 0;
	while (len < cap) {
		ssize_t n = read(fd, buf + len, cap - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return 0;
}

// The number in a pid file; 0 when there is none that could name a process of ours.
static pid_t pidfile_read(const char *pidfile)
{
	char text[32];
	size_t len = 0;
	if (read_small(pidfile, text, sizeof(text) - 1, &len))
		return 0;
	text[len] = 0;
	char *end = NULL;
	long pid = strtol(text, &end, 10);
	return end != text && (*end == 0 || *end == '\n') && pid > 1 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static bool is_marked(pid_t pid, const char *mark)
{
	char path[64];
	AUTO_FREE char *cmdline = malloc(CMDLINE_MAX);
	size_t len = 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	if (!cmdline || read_small(path, cmdline, CMDLINE_MAX, &len))
		return false;
	return memmem(cmdline, len, mark, strlen(mark)) != NULL;
}

static bool ended_within(int pidfd, unsigned timeout_ms)
{
	struct tail none = {.len = 0};
	return wait_end(pidfd, -1, timeout_ms, &none);
}

int child_end(const char *pidfile, const char *mark, unsigned timeout_ms, struct err *err)
{
	pid_t pid = pidfile_read(pidfile);
	if (pid == 0)
		return 0;
	AUTO_CLOSE int pidfd = pidfd_open(pid, 0);
	if (pidfd < 0)
		return errno == ESRCH ? 0 : err_sys(err, -errno, "end process %d", (int)pid);
	if (!is_marked(pid, mark))
		return 0;
	if (pidfd_send_signal(pidfd, SIGTERM, NULL, 0) && errno != ESRCH)
		return err_sys(err, -errno, "end process %d", (int)pid);
	if (ended_within(pidfd, timeout_ms))
		return 0;
	(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	if (ended_within(pidfd, KILL_WAIT_MS))
		return 0;
	return err_set(err, -ETIMEDOUT, "process %d does not end, not even by SIGKILL: see what it waits for in /proc/%d/stack",
		       (int)pid, (int)pid);
}
