// SPDX-License-Identifier: Apache-2.0
// The head when it goes back to its checkpoint (receiver/head_restore.c): what it promises from there on.
#include "base/log.h"
#include "receiver/replica.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct {
	struct env_ops ops;
	const struct env_ops *sim;
	bool full;	     // writes find no space
	unsigned head_syncs; // of the directory
} disk;

static int full_pwrite(struct env_file *file, const void *buf, size_t len, uint64_t off)
{
	return disk.full ? -ENOSPC : disk.sim->pwrite(file, buf, len, off);
}

static int counted_sync_dir(struct env_root *root, const char *name)
{
	disk.head_syncs += strcmp(name, "vm1/head") == 0;
	return disk.sim->sync_dir(root, name);
}

struct bench {
	struct sim *sim;
	struct store *store;
	struct replica *replica;
	struct wire_open open;
	unsigned char pin[OWNER_PIN_SIZE];
};

static void session(struct bench *b)
{
	struct wire_opened opened;
	struct err err = {0};
	if (replica_session_begin(b->replica, &b->open, b->pin, &opened, &err))
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct env_root *top;
	assert_non_null(b);
	b->sim = sim_new(1);
	struct env *env = sim_env(b->sim);
	memset(&disk, 0, sizeof(disk));
	disk.sim = env->ops;
	disk.ops = *env->ops;
	disk.ops.pwrite = full_pwrite;
	disk.ops.sync_dir = counted_sync_dir;
	env->ops = &disk.ops;
	b->open = (struct wire_open){.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3, .secret = {0x11}},
				     .codec = CODEC_ZSTD, .points_keep = 2, .rpo_ms = 15000, .disk_count = 1,
				     .disk = {{.name = "vda", .size = 64 * BLOCK_SIZE}}};
	assert_true(env_root_open(env, "/", &top) == 0 && env_mkdir(top, "store") == 0);
	env_root_close(top);
	assert_int_equal(store_open(env, "/store", &b->store, NULL), 0);
	assert_int_equal(store_create(b->store, &b->open, b->pin, &b->replica, NULL), 0);
	session(b);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	replica_session_end(b->replica);
	store_close(b->store);
	sim_free(b->sim);
	free(b);
	return 0;
}

static int write_block(struct bench *b, uint64_t index)
{
	unsigned char content[BLOCK_SIZE];
	struct err err = {0};
	memset(content, (int)index + 1, sizeof(content));
	const struct wire_block block = {.mask = MASK_FULL, .codec = CODEC_NONE, .index = index, .digest = digest_of(&b->open.digest, 0, index, content),
					 .len = BLOCK_SIZE, .payload = content};
	return replica_write_block(b->replica, &block, &err);
}

static int checkpoint(struct bench *b)
{
	struct err err = {0};
	return replica_checkpoint(b->replica, true, &err);
}

// What failed for want of space may have been the sync of these very names.
static void checkpoint_after_a_retreat_syncs_the_names_again(void **state)
{
	struct bench *b = *state;
	struct replica_info info;
	assert_int_equal(write_block(b, 0), 0);
	assert_int_equal(checkpoint(b), 1);
	assert_int_equal(write_block(b, 1), 0);
	disk.head_syncs = 0;
	assert_int_equal(checkpoint(b), 1);
	assert_int_equal(disk.head_syncs, 0); // nothing of them is new
	disk.full = true;
	assert_int_equal(write_block(b, 2), -ENOSPC);
	disk.full = false;
	replica_info(b->replica, &info);
	assert_int_equal(info.head_blocks, 2);
	assert_int_equal(write_block(b, 3), 0);
	assert_int_equal(checkpoint(b), 1);
	assert_true(disk.head_syncs > 0);
}

int main(void)
{
	log_init("test_head", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(checkpoint_after_a_retreat_syncs_the_names_again, setup, teardown),
	};
	return cmocka_run_group_tests_name("head", tests, NULL, NULL);
}
