// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/bad_disk.h"

#include "base/auto.h"
#include "base/bytes.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { OPEN_MAX = 256, NAME_MOST = 320, L1_AT = 40, ENTRY_SIZE = 16, TABLE_ENTRIES = 4096, TEAR = 1 };
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)

struct open_file {
	struct env_file *file;
	char name[NAME_MOST];
};

static struct {
	struct env *env;
	struct env_ops ops;
	const struct env_ops *below;
	pthread_mutex_t lock; // for what follows
	struct open_file open[OPEN_MAX];
	char name[NAME_MOST];
	uint64_t at, len;
	int code; // TEAR: the byte is flipped, once
	unsigned hits;
	bool blinks;
	uint64_t reads; // of the place, the next in bit 0
	char refused[NAME_MOST];
	unsigned refused_after;
	int refused_code;
	char unseen[NAME_MOST], unnamed[NAME_MOST];
	int unseen_code, unnamed_code;
} bad = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int refuses(const char *name)
{
	LOCK_SCOPE(&bad.lock);
	size_t len = strlen(name), end = strlen(bad.refused);
	bool is = bad.refused_code && len >= end && strcmp(name + len - end, bad.refused) == 0;
	if (is && bad.refused_after) {
		bad.refused_after--;
		return 0;
	}
	bad.hits += is;
	return is ? bad.refused_code : 0;
}

static int unseen(const char *name)
{
	LOCK_SCOPE(&bad.lock);
	return bad.unseen_code && strcmp(name, bad.unseen) == 0 ? bad.unseen_code : 0;
}

static int bad_stat(struct env_root *root, const char *name, struct env_stat *ret_stat)
{
	int rc = unseen(name);
	return rc ? rc : bad.below->stat(root, name, ret_stat);
}

static int bad_list(struct env_root *root, const char *name, char ***ret_names, size_t *ret_count)
{
	int rc = unseen(name);
	return rc ? rc : bad.below->list(root, name, ret_names, ret_count);
}

static int bad_open(struct env_root *root, const char *name, enum env_open how, struct env_file **ret_file)
{
	int rc = refuses(name);
	if (rc)
		return rc;
	rc = bad.below->open(root, name, how, ret_file);
	LOCK_SCOPE(&bad.lock);
	for (size_t i = 0; rc == 0 && i < OPEN_MAX; i++)
		if (!bad.open[i].file) {
			bad.open[i].file = *ret_file;
			(void)snprintf(bad.open[i].name, NAME_MOST, "%s", name);
			return 0;
		}
	return rc;
}

static int unnamed(const char *name)
{
	LOCK_SCOPE(&bad.lock);
	bool is = bad.unnamed_code && strcmp(name, bad.unnamed) == 0;
	bad.hits += is;
	return is ? bad.unnamed_code : 0;
}

static int bad_rename(struct env_root *root, const char *from, const char *to)
{
	int rc = unnamed(to);
	return rc ? rc : bad.below->rename(root, from, to);
}

static int bad_exchange(struct env_root *root, const char *from, const char *to)
{
	int rc = unnamed(to);
	return rc ? rc : bad.below->exchange(root, from, to);
}

static void bad_close(struct env_file *file)
{
	{
		LOCK_SCOPE(&bad.lock);
		for (size_t i = 0; i < OPEN_MAX; i++)
			if (bad.open[i].file == file)
				bad.open[i].file = NULL;
	}
	bad.below->close(file);
}

static bool is_bad(const struct env_file *file, size_t len, uint64_t off)
{
	if (bad.code == 0 || off >= bad.at + bad.len || bad.at >= off + len)
		return false;
	for (size_t i = 0; i < OPEN_MAX; i++)
		if (bad.open[i].file == file)
			return strcmp(bad.open[i].name, bad.name) == 0;
	return false;
}

static int bad_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	bool tear = false;
	uint64_t at = 0;
	{
		LOCK_SCOPE(&bad.lock);
		bool at_it = is_bad(file, len, off), blink = at_it && bad.blinks && !(bad.reads & 1);
		bad.reads >>= at_it;
		if (at_it && !blink) {
			bad.hits++;
			if (bad.code != TEAR)
				return bad.code;
			tear = true;
			at = bad.at - off;
			bad.code = 0;
		}
	}
	int rc = bad.below->pread(file, buf, len, off, ret_len);
	if (tear && rc == 0)
		((unsigned char *)buf)[at] ^= 0x10;
	return rc;
}

void bad_disk_begin(struct env *env)
{
	if (env->ops != &bad.ops) // else a test that failed did not come to its end: laid over itself, it would ask itself for ever
		bad.below = env->ops;
	bad.env = env;
	bad.ops = *bad.below;
	bad.ops.open = bad_open;
	bad.ops.close = bad_close;
	bad.ops.rename = bad_rename;
	bad.ops.exchange = bad_exchange;
	bad.ops.pread = bad_pread;
	bad.ops.stat = bad_stat;
	bad.ops.list = bad_list;
	bad.code = bad.refused_code = bad.unseen_code = bad.unnamed_code = 0;
	bad.blinks = false;
	bad.hits = 0;
	memset(bad.open, 0, sizeof(bad.open));
	env->ops = &bad.ops;
}

void bad_disk_end(void)
{
	bad.env->ops = bad.below;
}

void bad_disk_set(const char *name, uint64_t at, uint64_t len, int code)
{
	LOCK_SCOPE(&bad.lock);
	(void)snprintf(bad.name, NAME_MOST, "%s", name);
	bad.at = at;
	bad.len = len;
	bad.code = code;
	bad.blinks = false;
}

void bad_disk_blink(const char *name, uint64_t at, int code, uint64_t reads)
{
	bad_disk_set(name, at, 1, code);
	LOCK_SCOPE(&bad.lock);
	bad.blinks = true;
	bad.reads = reads;
}

void bad_disk_tear(const char *name, uint64_t at)
{
	bad_disk_set(name, at, 1, TEAR);
}

void bad_disk_refuse(const char *suffix, unsigned after, int code)
{
	LOCK_SCOPE(&bad.lock);
	(void)snprintf(bad.refused, NAME_MOST, "%s", suffix);
	bad.refused_after = after;
	bad.refused_code = code;
}

void bad_disk_hide(const char *name, int code)
{
	LOCK_SCOPE(&bad.lock);
	(void)snprintf(bad.unseen, sizeof(bad.unseen), "%s", name);
	bad.unseen_code = code;
}

void bad_disk_unname(const char *name, int code)
{
	LOCK_SCOPE(&bad.lock);
	(void)snprintf(bad.unnamed, sizeof(bad.unnamed), "%s", name);
	bad.unnamed_code = code;
}

void bad_disk_heal(void)
{
	bad_disk_unname("", 0);
	bad_disk_hide("", 0);
	bad_disk_refuse("", 0, 0);
	bad_disk_set("", 0, 0, 0);
}

unsigned bad_disk_hits(void)
{
	LOCK_SCOPE(&bad.lock);
	return bad.hits;
}

static uint64_t be64_at(struct env_file *file, uint64_t off)
{
	unsigned char bytes[8] = {0};
	assert_int_equal(env_pread_full(file, bytes, 8, off), 0);
	return get_be64(bytes);
}

static uint64_t place_of(struct env *env, const char *root_path, const char *name, uint64_t block, bool cluster)
{
	struct env_root *root;
	struct env_file *file;
	assert_int_equal(env_root_open(env, root_path, &root), 0);
	assert_int_equal(env_open(root, name, ENV_READ, &file), 0);
	uint64_t at = be64_at(file, be64_at(file, L1_AT) + block / TABLE_ENTRIES * 8) & OFFSET_MASK;
	assert_true(at != 0);
	if (cluster)
		at = be64_at(file, at + block % TABLE_ENTRIES * ENTRY_SIZE) & OFFSET_MASK;
	env_close(file);
	env_root_close(root);
	return at;
}

uint64_t bad_disk_table(struct env *env, const char *root, const char *name, uint64_t block)
{
	return place_of(env, root, name, block, false);
}

uint64_t bad_disk_cluster(struct env *env, const char *root, const char *name, uint64_t block)
{
	return place_of(env, root, name, block, true);
}
