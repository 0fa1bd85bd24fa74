// SPDX-License-Identifier: Apache-2.0
// PATH.part, and the one rename that makes it PATH.
#include "tools/out_file.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

volatile sig_atomic_t out_stopped;

static void on_signal(int number)
{
	(void)number;
	out_stopped = 1;
}

void out_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal};
	(void)sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		(void)sigaction(numbers[i], &action, NULL);
	(void)signal(SIGXFSZ, SIG_IGN); // a limit on the size of files is an error like a full disk
}

static int check_target(const char *path, bool force, struct err *err)
{
	struct stat st;
	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_sys(err, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s is there and is no regular file: name another one", path);
	return force ? 0 : err_set(err, -EEXIST, "%s is there: name another file, or replace it with --force", path);
}

static int names_make(struct out_file *out, const char *path)
{
	const char *slash = strrchr(path, '/');
	out->dir = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	out->name = strdup(slash ? slash + 1 : path);
	if (!out->dir || !out->name || asprintf(&out->part, "%s.part", out->name) < 0)
		return -ENOMEM;
	return out->name[0] && strcmp(out->name, ".") != 0 && strcmp(out->name, "..") != 0 ? 0 : -EISDIR;
}

int out_file_open(const char *path, bool force, struct out_file *ret_out, struct err *err)
{
	struct out_file out = {.force = force};
	int rc = names_make(&out, path);
	if (rc)
		(void)err_sys(err, rc, "%s", path);
	if (rc == 0)
		rc = check_target(path, force, err);
	if (rc == 0 && (rc = env_root_open(env_posix(), out.dir, &out.root)))
		(void)err_sys(err, rc, "open the directory %s", out.dir);
	if (rc == 0 && (rc = env_open(out.root, out.part, ENV_CREATE, &out.file)))
		(void)(rc == -EEXIST ? err_set(err, rc, "%s.part is there: another command writes it, or one that was killed left it: remove it then", path)
				     : err_sys(err, rc, "create %s.part", path));
	if (rc) {
		out_file_drop(&out);
		return rc;
	}
	*ret_out = out;
	return 0;
}

// Nobody's file is replaced unasked, also not one that came since.
static int take_name(const struct out_file *out, struct err *err)
{
	AUTO_CLOSE int dir = open(out->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_sys(err, -errno, "open the directory %s", out->dir);
	int rc = renameat2(dir, out->part, dir, out->name, out->force ? 0 : RENAME_NOREPLACE) ? -errno : 0;
	if (rc == -EINVAL && !out->force) // the file system has no such rename
		rc = faccessat(dir, out->name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ? -EEXIST : renameat(dir, out->part, dir, out->name) ? -errno : 0;
	return rc ? err_sys(err, rc, "give %s/%s its name", out->dir, out->name) : 0;
}

int out_file_commit(struct out_file *out, struct err *err)
{
	int rc = env_sync(out->file);
	if (rc)
		return err_sys(err, rc, "write %s/%s", out->dir, out->part);
	if (out_stopped)
		return err_set(err, -EINTR, "ended by a signal");
	rc = take_name(out, err);
	if (rc)
		return rc;
	env_close(out->file);
	out->file = NULL;
	rc = env_sync_dir(out->root, ".");
	return rc ? err_sys(err, rc, "sync the directory %s", out->dir) : 0;
}

void out_file_drop(struct out_file *out)
{
	if (out->file)
		(void)env_unlink(out->root, out->part);
	env_close(out->file);
	env_root_close(out->root);
	free(out->dir);
	free(out->name);
	free(out->part);
	*out = (struct out_file){.file = NULL};
}
