// SPDX-License-Identifier: Apache-2.0
#include "replicator/device_loop.h"

#include "replicator/mount_list.h"
#include "replicator/sysfs.h"

#include <libgen.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 8 };

struct walk {
	int (*visit)(void *context, const struct device_loop *loop, bool all);
	void *context;
	unsigned depth;
};

static bool read_loop(const char *dir, struct device_loop *loop)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%s", dir);
	if (snprintf(loop->name, sizeof(loop->name), "%s", basename(path)) >= (int)sizeof(loop->name) ||
	    !sysfs_read(dir, "loop/backing_file", loop->file, sizeof(loop->file)))
		return false;
	uint64_t limit = sysfs_number(dir, "loop/sizelimit", 0);
	loop->begin = sysfs_number(dir, "loop/offset", 0);
	loop->end = limit ? loop->begin + limit : UINT64_MAX;
	loop->writes = sysfs_number(dir, "ro", 0) == 0;
	return true;
}

bool device_loop_shows_all(const struct device_loop *loop)
{
	return loop->begin == 0 && loop->end == UINT64_MAX;
}

static int look_beneath(void *context, const char *dir)
{
	struct walk walk = *(const struct walk *)context;
	struct device_loop loop;
	char whole[PATH_MAX];
	(void)snprintf(whole, sizeof(whole), "%s", dir);
	bool partition = sysfs_has(dir, "partition");
	if (partition)
		(void)dirname(whole);
	if (read_loop(whole, &loop))
		return walk.visit(walk.context, &loop, walk.depth == 0 && !partition);
	if (++walk.depth > DEPTH_MAX)
		return 0;
	return sysfs_each(whole, "slaves", look_beneath, &walk);
}

int device_loops_beneath(const char *sys, dev_t device, int (*visit)(void *context, const struct device_loop *loop, bool all), void *context)
{
	char dir[PATH_MAX];
	struct walk walk = {.visit = visit, .context = context};
	return sysfs_dir(sys, device, dir) ? look_beneath(&walk, dir) : 0;
}

struct search {
	const char *mounts;
	const struct stat *file;
	bool writes;
	const struct device_loop *beside;
	char *name;
};

// To ask for a file on another file system may wait for the disk of that.
static bool shows(const char *mounts, const struct device_loop *loop, const struct stat *file)
{
	struct stat st;
	bool device = S_ISBLK(file->st_mode);
	if (!(device ? strncmp(loop->file, "/dev/", 5) == 0 : mount_list_may_be_on(mounts, loop->file, file->st_dev)) || stat(loop->file, &st) < 0)
		return false;
	return device ? S_ISBLK(st.st_mode) && st.st_rdev == file->st_rdev : st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

static int is_over(void *context, const char *dir)
{
	const struct search *search = context;
	const struct device_loop *beside = search->beside;
	struct device_loop loop;
	if (!read_loop(dir, &loop) || (search->writes && !loop.writes))
		return 0;
	if (beside && (strcmp(loop.name, beside->name) == 0 || loop.end <= beside->begin || beside->end <= loop.begin))
		return 0;
	if (!shows(search->mounts, &loop, search->file))
		return 0;
	(void)snprintf(search->name, DEVICE_NAME_BYTES, "%s", loop.name);
	return 1;
}

bool device_loop_over(const char *sys, const char *mounts, const struct stat *file, bool writes, const struct device_loop *beside, char ret_name[DEVICE_NAME_BYTES])
{
	struct search search = {.mounts = mounts, .file = file, .writes = writes, .beside = beside, .name = ret_name};
	return sysfs_each(sys, "block", is_over, &search) == 1;
}
