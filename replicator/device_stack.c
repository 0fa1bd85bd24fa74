// SPDX-License-Identifier: Apache-2.0
#include "replicator/device_stack.h"

#include "replicator/sysfs.h"

#include <dirent.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { DEPTH_MAX = 8, TEXT_SIZE = 512, LVM_UUID_LENGTH = 68 };

static uint64_t mix(uint64_t layers, const char *text)
{
	return XXH3_64bits_withSeed(text, strlen(text), layers);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_disk(const char *name)
{
	static const char *const kinds[] = {"sd", "nvme", "vd", "xvd", "hd", "mmcblk", "pmem"};
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (starts(name, kinds[i]))
			return true;
	return false;
}

// A volume as a user has it has a UUID of just that length; what LVM keeps beneath some has a suffix (-real, -cow, -tpool).
static bool is_plain_map(const char *uuid)
{
	return starts(uuid, "CRYPT-") || starts(uuid, "mpath-") || (starts(uuid, "LVM-") && strlen(uuid) == LVM_UUID_LENGTH);
}

static bool look_at(const char *dir, unsigned depth, uint64_t *layers);

// In whatever order they are listed.
static bool look_beneath(const char *dir, unsigned depth, uint64_t *layers)
{
	char path[PATH_MAX], real[PATH_MAX];
	if (depth == DEPTH_MAX || snprintf(path, sizeof(path), "%s/slaves", dir) >= (int)sizeof(path))
		return false;
	DIR *slaves = opendir(path);
	unsigned count = 0;
	uint64_t sum = 0;
	bool told = slaves != NULL;
	for (const struct dirent *entry; told && (entry = readdir(slaves));) {
		uint64_t one = 0;
		if (entry->d_name[0] == '.')
			continue;
		told = snprintf(path, sizeof(path), "%s/slaves/%s", dir, entry->d_name) < (int)sizeof(path) && realpath(path, real) &&
		       look_at(real, depth + 1, &one);
		sum += one;
		count++;
	}
	if (slaves)
		(void)closedir(slaves);
	*layers = XXH3_64bits_withSeed(&sum, sizeof(sum), *layers);
	return told && count > 0;
}

// Of the directory of a whole disk.
static bool look_at_whole(const char *dir, const char *name, unsigned depth, uint64_t *layers)
{
	char text[TEXT_SIZE];
	if (!sysfs_read(dir, "diskseq", text, sizeof(text)))
		return false;
	*layers = mix(mix(*layers, name), text);
	if (sysfs_has(dir, "dm"))
		return sysfs_read(dir, "dm/uuid", text, sizeof(text)) && is_plain_map(text) && look_beneath(dir, depth, layers);
	if (sysfs_has(dir, "md"))
		return sysfs_read(dir, "md/level", text, sizeof(text)) && strcmp(text, "raid1") == 0 && look_beneath(dir, depth, layers);
	return is_disk(name);
}

static bool look_at(const char *dir, unsigned depth, uint64_t *layers)
{
	char whole[PATH_MAX], text[TEXT_SIZE];
	(void)snprintf(whole, sizeof(whole), "%s", dir);
	if (sysfs_has(dir, "partition")) {
		if (!sysfs_read(dir, "start", text, sizeof(text)))
			return false;
		*layers = mix(*layers, text);
		(void)dirname(whole);
	}
	char name[PATH_MAX];
	(void)snprintf(name, sizeof(name), "%s", whole);
	return look_at_whole(whole, basename(name), depth, layers);
}

bool device_stack_read(const char *sys, dev_t device, struct device_stack *ret_stack)
{
	char dir[PATH_MAX];
	*ret_stack = (struct device_stack){0};
	if (!sysfs_dir(sys, device, dir))
		return false;
	if (sysfs_has(dir, "loop")) // not a partition of one, nor anything over one: then nobody would look at its file
		return sysfs_read(dir, "loop/backing_file", ret_stack->file, sizeof(ret_stack->file));
	return look_at(dir, 0, &ret_stack->layers);
}
