// SPDX-License-Identifier: Apache-2.0
// Readers of the base's digest table beside a growth, which writes its first sector in place (receiver/digests.c).
#include "base/log.h"
#include "receiver/chain.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char table[] = "vm1/base/vda.digests";
enum { SIZE_FIELD = 48 }; // of the prelude

static int setup(void **state)
{
	struct store_twin *t = calloc(1, sizeof(*t));
	assert_non_null(t);
	store_twin_begin(t, 11);
	bad_disk_begin(t->temp.root->env);
	store_twin_session(t);
	store_twin_change(t, 0, 1, MASK_FULL);
	assert_int_equal(store_twin_send(t, 0, 1, MASK_FULL, CODEC_ZSTD, NULL), 0);
	store_twin_seal(t);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct store_twin *t = *state;
	store_twin_end(t);
	bad_disk_end();
	free(t);
	return 0;
}

static void reader_that_meets_a_growth_half_way_is_not_hurt(void **state)
{
	struct store_twin *t = *state;
	struct chain *chain = NULL;
	struct err err = {0};
	uint64_t held;
	assert_int_equal(replica_hold(t->replica, 1, &held, &err), 0);
	bad_disk_tear(table, SIZE_FIELD);
	if (chain_open(t->replica, 1, 0, &chain, &err))
		fail_msg("%s", err.text);
	assert_int_equal(bad_disk_hits(), 1);
	assert_int_equal(chain_data_blocks(chain), 1);
	chain_close(chain);
	replica_release(t->replica, 1);
}

static void scrub_that_meets_a_growth_half_way_breaks_nothing(void **state)
{
	struct store_twin *t = *state;
	struct scrub_step step;
	struct replica_info info;
	struct err err = {0};
	assert_int_equal(scrub_begin(t->replica, 0, 1 << 30, &err), 0);
	bad_disk_tear(table, SIZE_FIELD);
	if (scrub_slice(t->replica, &step, &err))
		fail_msg("%s", err.text);
	assert_int_equal(bad_disk_hits(), 1);
	replica_info(t->replica, &info);
	assert_false(info.broken);
}

static int open_first(struct store_twin *t, struct err *err)
{
	struct chain *chain = NULL;
	uint64_t held;
	assert_int_equal(replica_hold(t->replica, 1, &held, err), 0);
	int rc = chain_open(t->replica, 1, 0, &chain, err);
	if (rc == 0)
		assert_int_equal(chain_data_blocks(chain), 1);
	chain_close(chain);
	replica_release(t->replica, 1);
	return rc;
}

// What the prelude says is known without it; what follows has checksums of its own.
static void table_is_read_without_its_prelude(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	store_flip_at(t, "base/vda.digests", SIZE_FIELD);
	if (open_first(t, &err))
		fail_msg("%s", err.text);
}

static void table_that_is_cut_short_is_still_told(void **state)
{
	struct store_twin *t = *state;
	struct env_file *file = NULL;
	struct err err = {0};
	assert_int_equal(env_open(t->replica->root, table, ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, 512), 0);
	env_close(file);
	assert_int_equal(open_first(t, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "base/vda.digests"));
}

// As after a test that failed before its end.
static void bad_disk_that_was_not_ended_is_begun_anew(void **state)
{
	struct store_twin *t = *state;
	struct err err = {0};
	bad_disk_set(table, 0, BAD_DISK_WHOLE, -EIO);
	assert_int_equal(open_first(t, &err), -EIO);
	bad_disk_begin(t->temp.root->env);
	if (open_first(t, &err))
		fail_msg("%s", err.text);
	bad_disk_set(table, 0, BAD_DISK_WHOLE, -EIO);
	assert_int_equal(open_first(t, &err), -EIO);
	bad_disk_end();
	bad_disk_begin(t->temp.root->env);
	if (open_first(t, &err))
		fail_msg("%s", err.text);
}

int main(void)
{
	log_init("test_digests", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(reader_that_meets_a_growth_half_way_is_not_hurt),
		TEST(scrub_that_meets_a_growth_half_way_breaks_nothing),
		TEST(table_is_read_without_its_prelude),
		TEST(table_that_is_cut_short_is_still_told),
		TEST(bad_disk_that_was_not_ended_is_begun_anew),
	};
	return cmocka_run_group_tests_name("digests", tests, NULL, NULL);
}
