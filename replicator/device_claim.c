// SPDX-License-Identifier: Apache-2.0
#include "replicator/device_claim.h"

#include "base/auto.h"
#include "replicator/mount_list.h"
#include "replicator/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { DEPTH_MAX = 8 };

enum use { USE_NONE, USE_READS, USE_WRITES }; // in this order

struct search {
	const char *mounts;
	struct device_writer *writer;
	unsigned depth;
	enum use most; // of what is over it
};

static enum use look_at(struct search *search, const char *dir);

// The name of a device has a ! where that of its node has a /.
static void name_of(const char *dir, char *name, size_t size)
{
	char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%s", dir);
	(void)snprintf(name, size, "%s", basename(path));
	for (char *at = name; (at = strchr(at, '!'));)
		*at = '/';
}

// Of a node that is not there it is not known.
static bool is_claimed(const char *dir)
{
	char name[64], node[80];
	struct stat st;
	name_of(dir, name, sizeof(name));
	(void)snprintf(node, sizeof(node), "/dev/%s", name);
	if (stat(node, &st) < 0 || !S_ISBLK(st.st_mode) || st.st_rdev != sysfs_device(dir))
		return false;
	AUTO_CLOSE int fd = open(node, O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC);
	return fd < 0 && errno == EBUSY;
}

// ---- mounts

struct place {
	dev_t device;
	enum use use;
	char *where;
};

static bool is_of(const struct mount_line *line, dev_t device)
{
	struct stat st;
	if (line->device == device)
		return true;
	return major(line->device) == 0 && strncmp(line->source, "/dev/", 5) == 0 && stat(line->source, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == device;
}

static int look_at_mount(void *context, const struct mount_line *line)
{
	struct place *place = context;
	if (!is_of(line, place->device))
		return 0;
	place->use = line->writes ? USE_WRITES : USE_READS;
	(void)snprintf(place->where, PATH_MAX, "%s", line->where);
	return line->writes;
}

// ---- what is over it

// 1: it writes, and no more is asked.
static int add(struct search *search, enum use use)
{
	if (use > search->most)
		search->most = use;
	return use == USE_WRITES;
}

static int look_at_partition(void *context, const char *dir)
{
	return sysfs_has(dir, "partition") ? add(context, look_at(context, dir)) : 0;
}

// One that nobody uses has its claim all the same.
static int look_at_holder(void *context, const char *dir)
{
	struct search *search = context;
	enum use use = USE_READS;
	if (sysfs_has(dir, "dm"))
		use = look_at(search, dir);
	else if (sysfs_number(dir, "ro", 0) == 0)
		use = USE_WRITES;
	if (use == USE_WRITES && !search->writer->name[0])
		name_of(dir, search->writer->name, sizeof(search->writer->name));
	return add(search, use == USE_NONE ? USE_READS : use);
}

static enum use look_at(struct search *search, const char *dir)
{
	char where[PATH_MAX] = "";
	struct search over = {.mounts = search->mounts, .writer = search->writer, .depth = search->depth + 1};
	if (sysfs_number(dir, "ro", 0) != 0 || !is_claimed(dir))
		return USE_NONE;
	struct place place = {.device = sysfs_device(dir), .where = where};
	(void)mount_list_each(search->mounts, look_at_mount, &place);
	over.most = place.use;
	if (over.most < USE_WRITES && over.depth < DEPTH_MAX && sysfs_each(dir, "holders", look_at_holder, &over) == 0)
		(void)sysfs_each(dir, ".", look_at_partition, &over);
	if (over.most == USE_NONE)
		over.most = USE_WRITES;
	if (over.most == USE_WRITES && !over.writer->name[0]) {
		name_of(dir, over.writer->name, sizeof(over.writer->name));
		(void)snprintf(over.writer->mount, sizeof(over.writer->mount), "%s", where);
	}
	return over.most;
}

bool device_claim_writes(const char *sys, const char *mounts, dev_t device, struct device_writer *ret_writer)
{
	char dir[PATH_MAX];
	struct search search = {.mounts = mounts, .writer = ret_writer};
	*ret_writer = (struct device_writer){.name = ""};
	return sysfs_dir(sys, device, dir) && look_at(&search, dir) == USE_WRITES;
}
