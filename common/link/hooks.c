// SPDX-License-Identifier: Apache-2.0
#include "link/hooks.h"

#include "base/clock.h"
#include "base/when.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ENVIRONMENT_MAX = 16, POLL_MS = 200 };
#define MINUTE_NS UINT64_C(60000000000)

// --- what may be run ---

static bool is_ours(const struct stat *st)
{
	return (st->st_uid == 0 || st->st_uid == geteuid()) && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

int hooks_check(const char *directory, struct err *err)
{
	struct stat st;
	if (stat(directory, &st))
		return err_sys(err, -errno, "--hooks %s", directory);
	if (!S_ISDIR(st.st_mode))
		return err_sys(err, -ENOTDIR, "--hooks %s", directory);
	if (!is_ours(&st))
		return err_set(err, -EPERM, "--hooks %s: others may write to it: chown it to root, and chmod go-w", directory);
	return 0;
}

static int executable_check(const char *path, struct err *err)
{
	struct stat st;
	if (stat(path, &st))
		return errno == ENOENT ? -ENOENT : err_sys(err, -errno, "hook %s", path);
	if (!S_ISREG(st.st_mode) || access(path, X_OK))
		return err_set(err, -EACCES, "hook %s is no executable file: chmod +x", path);
	if (!is_ours(&st))
		return err_set(err, -EACCES, "hook %s is not run: others may write to it (chown it to root, and chmod go-w)", path);
	return 0;
}

// --- its environment ---

struct environment {
	char *text[ENVIRONMENT_MAX + 1];
	unsigned count;
	bool failed;
};

static void put(struct environment *e, const char *name, const char *value)
{
	if (asprintf(&e->text[e->count], "%s=%s", name, value) < 0) {
		e->text[e->count] = NULL;
		e->failed = true;
	} else {
		e->count++;
	}
}

static void environment_fill(struct environment *e, const struct event *event, unsigned suppressed)
{
	char number[24], when[WHEN_SIZE];
	put(e, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	put(e, "LC_ALL", "C.UTF-8");
	(void)snprintf(number, sizeof(number), "%llu", (unsigned long long)event->id);
	put(e, "KAGAMI_EVENT_ID", number);
	put(e, "KAGAMI_EVENT_CLASS", event->class);
	put(e, "KAGAMI_EVENT_SEVERITY", event_severity_name(event->severity));
	put(e, "KAGAMI_EVENT_PROTECTION", event->protection);
	put(e, "KAGAMI_EVENT_TEXT", event->text);
	when_format(event->wall_ns, when);
	put(e, "KAGAMI_EVENT_WHEN", when);
	put(e, "KAGAMI_EVENT_JSON", event->json);
	(void)snprintf(number, sizeof(number), "%u", suppressed);
	put(e, "KAGAMI_EVENT_SUPPRESSED", number);
	put(e, "KAGAMI_VERSION", KAGAMI_VERSION);
}

static void environment_done(struct environment *e)
{
	for (unsigned i = 0; i < e->count; i++)
		free(e->text[i]);
}

// --- running ---

static int spawn(const char *path, char *const environment[], pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	char *const arguments[] = {(char *)(uintptr_t)path, NULL};
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawnattr_init(&attr);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	(void)posix_spawnattr_setpgroup(&attr, 0);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	(void)posix_spawn_file_actions_init(&files);
	int rc = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	if (rc == 0) // what it says goes where our own log goes
		rc = posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	if (rc == 0)
		rc = posix_spawn_file_actions_addchdir_np(&files, "/");
	if (rc == 0)
		rc = posix_spawn(ret_pid, path, &files, &attr, arguments, environment);
	(void)posix_spawn_file_actions_destroy(&files);
	(void)posix_spawnattr_destroy(&attr);
	return -rc;
}

// Whether the process ended by then; it is not waited for, so that its group's number is nobody else's.
static bool ended_within(pid_t pid, uint64_t until_ns, const _Atomic uint64_t *stop_ns)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	bool ended = false;
	for (;;) {
		uint64_t now = clock_mono_ns(), stop = stop_ns ? atomic_load(stop_ns) : 0;
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		siginfo_t info = {.si_pid = 0};
		(void)poll(&wait, fd >= 0 ? 1 : 0, POLL_MS);
		ended = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
		if (ended || now >= until_ns || (stop && now >= stop))
			break;
	}
	if (fd >= 0)
		(void)close(fd);
	return ended;
}

static int hook_wait(const char *path, pid_t pid, unsigned limit_ms, const _Atomic uint64_t *stop_ns, struct err *err)
{
	int status = 0;
	const uint64_t limit_ns = clock_mono_ns() + limit_ms * UINT64_C(1000000);
	bool ended = ended_within(pid, limit_ns, stop_ns), in_time = clock_mono_ns() < limit_ns;
	if (!ended) {
		(void)kill(-pid, SIGTERM);
		(void)ended_within(pid, clock_mono_ns() + HOOK_GRACE_MS * UINT64_C(1000000), NULL);
		(void)kill(-pid, SIGKILL); // also what it left
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!ended && in_time)
		return err_set(err, -ETIMEDOUT, "hook %s was ended, since this daemon stops and it had not ended", path);
	if (!ended)
		return err_set(err, -ETIMEDOUT, "hook %s did not end within %u s, and was ended", path, limit_ms / 1000);
	if (WIFSIGNALED(status))
		return err_set(err, -EREMOTEIO, "hook %s was ended by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_set(err, -EREMOTEIO, "hook %s failed with exit status %d", path, WEXITSTATUS(status));
	return 0;
}

int hook_run(const char *directory, const char *name, const struct event *event, unsigned suppressed, unsigned limit_ms, const _Atomic uint64_t *stop_ns,
	     struct err *err)
{
	char path[PATH_MAX];
	struct environment environment = {.count = 0};
	pid_t pid = 0;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", directory, name) >= sizeof(path))
		return err_set(err, -ENAMETOOLONG, "hook %s/%s", directory, name);
	int rc = executable_check(path, err);
	if (rc)
		return rc;
	environment_fill(&environment, event, suppressed);
	rc = environment.failed ? -ENOMEM : spawn(path, environment.text, &pid);
	environment_done(&environment);
	if (rc)
		return err_sys(err, rc, "hook %s", path);
	return hook_wait(path, pid, limit_ms, stop_ns, err);
}

// --- how often ---

static struct hook_rate *rate_of(struct hook_rates *rates, const char *protection, uint64_t mono_ns)
{
	struct hook_rate *oldest = &rates->rate[0];
	for (unsigned i = 0; i < rates->count; i++) {
		if (strcmp(rates->rate[i].protection, protection) == 0)
			return &rates->rate[i];
		if (rates->rate[i].began_ns < oldest->began_ns)
			oldest = &rates->rate[i];
	}
	struct hook_rate *rate = rates->count < HOOK_RATES_MAX ? &rates->rate[rates->count++] : oldest;
	*rate = (struct hook_rate){.began_ns = mono_ns};
	(void)snprintf(rate->protection, sizeof(rate->protection), "%s", protection);
	return rate;
}

bool hook_rate_take(struct hook_rates *rates, const char *protection, uint64_t mono_ns, unsigned *ret_suppressed)
{
	struct hook_rate *rate = rate_of(rates, protection, mono_ns);
	if (mono_ns - rate->began_ns >= MINUTE_NS) {
		rate->began_ns = mono_ns;
		rate->run = 0;
	}
	if (rate->run >= HOOKS_A_MINUTE) {
		rate->suppressed++;
		return false;
	}
	rate->run++;
	*ret_suppressed = rate->suppressed;
	rate->suppressed = 0;
	return true;
}
