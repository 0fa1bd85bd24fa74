// SPDX-License-Identifier: Apache-2.0
// A child looks: a process of which a thread waits for a disk in the kernel does not end, and a child that does is not waited for.
#include "tools/image_look.h"

#include "base/auto.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct answer {
	int code;
	struct image_look look;
};

// Links stay: a name like /dev/disk/by-id/... lasts where that of the device which it leads to is another one's tomorrow.
static int absolute(const char *path, char ret_path[PATH_MAX])
{
	char here[PATH_MAX] = "";
	while (path[0] == '.' && path[1] == '/')
		path += 1 + strspn(path + 1, "/");
	if (path[0] != '/' && !getcwd(here, sizeof(here)))
		return -errno;
	int len = snprintf(ret_path, PATH_MAX, path[0] == '/' ? "%s%s" : "%s/%s", here, path);
	return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static void __attribute__((noreturn)) look(const char *path, int fd)
{
	static struct answer answer;
	struct stat st;
	for (int std = 0; std <= 2; std++) // who waits for their end waits for no disk
		(void)close(std);
	answer.code = absolute(path, answer.look.path);
	if (answer.code == 0 && stat(answer.look.path, &st))
		answer.code = -errno;
	if (answer.code == 0)
		answer.look.mode = st.st_mode;
	_exit(write(fd, &answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 1);
}

// All of it, or nothing: it is more than a pipe passes at once.
static int answer_read(int fd, struct answer *ret_answer)
{
	size_t have = 0;
	struct pollfd at = {.fd = fd, .events = POLLIN};
	while (have < sizeof(*ret_answer)) {
		int ready = poll(&at, 1, IMAGE_LOOK_MS);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return ready ? -errno : -ETIMEDOUT;
		ssize_t len = read(fd, (char *)ret_answer + have, sizeof(*ret_answer) - have);
		if (len <= 0)
			return len ? -errno : -EIO;
		have += (size_t)len;
	}
	return 0;
}

int image_look(const char *path, struct image_look *ret_look, struct err *err)
{
	static struct answer answer;
	int ends[2];
	if (pipe(ends))
		return err_sys(err, -errno, "make a pipe");
	AUTO_CLOSE int from = ends[0];
	pid_t child = fork();
	if (child == 0)
		look(path, ends[1]);
	int rc = child < 0 ? -errno : 0;
	(void)close(ends[1]);
	if (rc)
		return err_sys(err, rc, "look at %s", path);
	rc = answer_read(from, &answer);
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, rc == -ETIMEDOUT ? WNOHANG : 0);
	if (rc == -ETIMEDOUT)
		return err_set(err, rc, "%s has not answered for %d s: the storage under it hangs; once it answers, try again", path, IMAGE_LOOK_MS / 1000);
	if (rc || answer.code)
		return err_sys(err, rc ? rc : answer.code, "%s", path);
	*ret_look = answer.look;
	return 0;
}
