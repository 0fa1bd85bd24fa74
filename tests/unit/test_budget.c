// SPDX-License-Identifier: Apache-2.0
// The memory of heads and digests: what one source sends takes no more of it than its part, the others go on, and a start keeps to it, too. Over a real directory, so that
// the heap has nothing else in it that grows.
#include "base/auto.h"
#include "base/log.h"
#include "format/codec.h"
#include "receiver/budget.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "receiver/store.h"
#include "receiver/table.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)
#define DISK_SIZE (UINT64_C(1) << 40)

// Of two sources: the first two are the first one's, the third is the other's.
enum { VMS = 3, FAR = 256, BUDGET_MIB = 16 };

struct world {
	struct temp temp;
	struct store *store;
	struct replica *vm[VMS];
	struct wire_open open[VMS];
	bool begun[VMS];
	unsigned char packed[BLOCK_SIZE], plain[BLOCK_SIZE];
	size_t packed_len;
	struct replica_info info;
	struct err err;
};

static const unsigned char pin_of[VMS][OWNER_PIN_SIZE] = {{1}, {1}, {2}};

static int begin_try(struct world *w, unsigned vm)
{
	struct wire_opened opened;
	int rc = replica_session_begin(w->vm[vm], &w->open[vm], pin_of[vm], &opened, &w->err);
	w->begun[vm] = w->begun[vm] || rc == 0;
	return rc;
}

static void begin(struct world *w, unsigned vm)
{
	if (begin_try(w, vm))
		fail_msg("%s", w->err.text);
}

static void end(struct world *w, unsigned vm)
{
	if (w->begun[vm])
		replica_session_end(w->vm[vm]);
	w->begun[vm] = false;
}

static void ends(struct world *w)
{
	for (unsigned i = 0; i < VMS; i++)
		end(w, i);
}

static void reopen(struct world *w, uint64_t memory)
{
	ends(w);
	store_close(w->store);
	if (store_open_within(env_posix(), w->temp.dir, memory, &w->store, &w->err))
		fail_msg("%s", w->err.text);
	for (unsigned i = 0; i < VMS; i++)
		w->vm[i] = store_find(w->store, w->open[i].name);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	temp_open(&w->temp);
	assert_int_equal(store_open_within(env_posix(), w->temp.dir, BUDGET_MIB * MIB, &w->store, &w->err), 0);
	for (unsigned i = 0; i < VMS; i++) {
		w->open[i] = (struct wire_open){.protection = {{(unsigned char)(i + 1)}}, .generation = {{9}}, .digest = {.kind = DIGEST_XXH3}, .codec = CODEC_ZSTD,
						.points_keep = 2, .rpo_ms = 15000, .disk_count = 1, .disk = {{.name = "vda", .size = DISK_SIZE}}};
		(void)snprintf(w->open[i].name, NAME_SIZE, "vm%u", i + 1);
		if (store_create(w->store, &w->open[i], pin_of[i], &w->vm[i], &w->err))
			fail_msg("%s", w->err.text);
	}
	struct codec_context *packer = codec_new();
	assert_non_null(packer);
	memset(w->plain, 'a', BLOCK_SIZE);
	w->packed_len = codec_pack(packer, CODEC_ZSTD, w->plain, BLOCK_SIZE, w->packed, BLOCK_SIZE - 1);
	assert_in_range(w->packed_len, 1, 64);
	codec_free(packer);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	ends(w);
	store_close(w->store);
	temp_close(&w->temp);
	free(w);
	return 0;
}

// Blocks [from, to), each where no table is yet; how many were taken. What travels is a few dozen bytes each.
static unsigned send(struct world *w, unsigned vm, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		const struct wire_block block = {.index = (uint64_t)i * FAR, .mask = MASK_FULL, .codec = CODEC_ZSTD, .len = (uint32_t)w->packed_len, .payload = w->packed,
						 .digest = digest_of(&w->open[vm].digest, 0, (uint64_t)i * FAR, w->plain)};
		if (replica_write_block(w->vm[vm], &block, &w->err))
			return i - from;
	}
	return to - from;
}

static const struct replica_info *info_of(struct world *w, unsigned vm)
{
	replica_info(w->vm[vm], &w->info);
	return &w->info;
}

static void seal(struct world *w, unsigned vm)
{
	struct wire_committed committed;
	const struct replica_info *info = info_of(w, vm);
	const struct wire_seal s = {.predecessor = info->last_point, .head = info->head, .cut = {{1}}, .consistency = POINT_CRASH};
	if (replica_seal(w->vm[vm], &s, &committed, &w->err))
		fail_msg("%s", w->err.text);
}

static uint64_t taken(struct world *w)
{
	uint64_t bytes;
	(void)store_memory(w->store, &bytes);
	return bytes;
}

// What the process has on its heap; 0 where the sanitizers' heap does not say.
static uint64_t heap(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

enum { MANY = 20000 }; // blocks: a budget of 16 MiB is for some hundreds

static void blocks_are_refused_before_their_source_has_more_than_its_part(void **state)
{
	struct world *w = *state;
	begin(w, 0);
	uint64_t before = heap();
	unsigned count = send(w, 0, 0, MANY);
	assert_in_range(count, 200, 2000);
	assert_int_equal(w->err.code, -EDQUOT);
	assert_non_null(strstr(w->err.text, "--memory"));
	assert_true(taken(w) <= BUDGET_MIB / 2 * MIB);
	uint64_t grown = heap() - before;
	assert_true(grown + count * sizeof(struct table_chunk) <= BUDGET_MIB / 2 * MIB + MIB); // with what the commit adds, before the head goes
	assert_int_equal(info_of(w, 0)->limited, LIMITED_MEMORY);
	assert_non_null(strstr(w->info.limited_reason, "--memory"));
	assert_int_equal(w->info.head_blocks, count); // nothing is lost by it
	seal(w, 0); // what it has can become a point within what is taken
	assert_in_range(taken(w), count * sizeof(struct table_chunk), BUDGET_MIB / 2 * MIB);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
	end(w, 0);
	assert_int_equal(taken(w), 0);
}

static void source_that_has_its_part_refuses_no_other_one(void **state)
{
	struct world *w = *state;
	begin(w, 0);
	assert_true(send(w, 0, 0, MANY) < MANY);
	begin(w, 2);
	unsigned count = send(w, 2, 0, 100);
	assert_int_equal(count, 100);
	seal(w, 2);
	assert_int_equal(send(w, 2, 100, 200), 100);
	seal(w, 2);
	assert_int_equal(info_of(w, 2)->last_point, 2);
	assert_true(taken(w) <= BUDGET_MIB * MIB);
}

// Its part is the source's, however many protections it has; of these the one goes on that is the largest.
static void source_has_one_part_for_all_that_it_protects(void **state)
{
	struct world *w = *state;
	begin(w, 0);
	begin(w, 1);
	unsigned first = send(w, 0, 0, 200), second = send(w, 1, 0, MANY), more;
	assert_int_equal(first, 200);
	assert_true(second < MANY && taken(w) <= BUDGET_MIB / 2 * MIB);
	assert_int_equal(info_of(w, 1)->head_blocks, second); // it stays, for it has the larger part
	assert_in_range(send(w, 0, first, MANY), 0, 20); // to the end of its step
	assert_int_equal(w->err.code, -EDQUOT);
	assert_int_equal(info_of(w, 0)->head_blocks, 0); // and this one made room for it
	assert_int_equal(send(w, 1, second, second + 100), 100);
	end(w, 0);
	begin(w, 0);
	assert_int_equal(send(w, 0, 0, 1), 0); // not all that it had is free
	more = send(w, 1, second + 100, MANY);
	assert_in_range(more, 20, MANY - 1);
	assert_int_equal(replica_retain(w->vm[0], &w->err), 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_MEMORY);
	seal(w, 1);
	end(w, 1);
	assert_int_equal(replica_retain(w->vm[0], &w->err), 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT); // there is room again
	assert_int_equal(send(w, 0, 0, first), first);
	seal(w, 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
}

static void start_keeps_within_it_and_says_which_head_was_dropped(void **state)
{
	struct world *w = *state;
	begin(w, 0);
	begin(w, 2);
	unsigned count = send(w, 0, 0, MANY);
	assert_int_equal(send(w, 2, 0, 50), 50);
	assert_int_equal(replica_checkpoint(w->vm[0], true, &w->err), 1);
	assert_int_equal(replica_checkpoint(w->vm[2], true, &w->err), 1);
	reopen(w, BUDGET_MIB * MIB); // as it was
	assert_int_equal(info_of(w, 0)->head_blocks, count);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
	uint64_t all = taken(w);
	assert_true(all > 0 && all <= BUDGET_MIB * MIB);
	reopen(w, 4 * MIB);
	assert_true(taken(w) <= 4 * MIB);
	assert_int_equal(info_of(w, 0)->head_blocks, 0);
	assert_false(w->info.broken);
	assert_int_equal(w->info.limited, LIMITED_MEMORY);
	assert_non_null(strstr(w->info.limited_reason, "--memory"));
	assert_int_equal(info_of(w, 2)->head_blocks, 50);
	assert_int_equal(w->info.limited, LIMITED_NOT);
	begin(w, 2);
	assert_int_equal(send(w, 2, 50, 60), 10);
	seal(w, 2);
	begin(w, 0); // it is sent again
	assert_true(send(w, 0, 0, 100) < 100 || info_of(w, 0)->head_blocks == 100);
	assert_true(taken(w) <= 4 * MIB);
}

static void session_whose_digests_do_not_fit_is_refused_and_breaks_nothing(void **state)
{
	struct world *w = *state;
	reopen(w, 0); // without a bound
	begin(w, 0);
	assert_int_equal(send(w, 0, 0, 2000), 2000);
	seal(w, 0);
	reopen(w, 4 * MIB);
	uint64_t before = heap();
	assert_int_equal(begin_try(w, 0), -EDQUOT);
	assert_non_null(strstr(w->err.text, "--memory"));
	assert_false(info_of(w, 0)->broken);
	assert_int_equal(w->info.limited, LIMITED_MEMORY);
	assert_int_equal(taken(w), 0);
	assert_true(heap() - before < MIB);
	begin(w, 2);
	assert_int_equal(send(w, 2, 0, 10), 10);
	seal(w, 2);
	reopen(w, 0);
	begin(w, 0);
}

// As a receiver is after an upgrade: what it had without a bound is a larger part than a head may have.
static void points_are_no_part_of_what_a_source_may_send(void **state)
{
	struct world *w = *state;
	reopen(w, 0);
	begin(w, 0);
	begin(w, 1);
	assert_int_equal(send(w, 0, 0, 1600), 1600);
	assert_int_equal(send(w, 1, 0, 600), 600);
	seal(w, 0);
	seal(w, 1);
	reopen(w, BUDGET_MIB * MIB);
	begin(w, 0);
	begin(w, 1); // two sessions that have nothing to send, with more than half of it
	assert_true(taken(w) > BUDGET_MIB / 2 * MIB);
	assert_int_equal(send(w, 1, 0, 1), 1);
	seal(w, 1);
	assert_int_equal(info_of(w, 1)->limited, LIMITED_NOT);
}

static void source_that_comes_first_shuts_out_no_other_one_s_points(void **state)
{
	struct world *w = *state;
	reopen(w, 0);
	begin(w, 0);
	assert_int_equal(send(w, 0, 0, 1500), 1500);
	seal(w, 0);
	reopen(w, BUDGET_MIB * MIB);
	begin(w, 2);
	assert_true(send(w, 2, 0, MANY) < MANY);
	begin(w, 0);
	assert_true(taken(w) <= BUDGET_MIB * MIB);
}

// Its part is smaller by now than what it had when it was alone.
static void head_keeps_what_it_has_when_others_have_come(void **state)
{
	struct world *w = *state;
	struct wire_committed committed;
	begin(w, 0);
	unsigned count = send(w, 0, 0, MANY);
	assert_int_equal(replica_checkpoint(w->vm[0], true, &w->err), 1);
	begin(w, 2);
	unsigned other = send(w, 2, 0, MANY);
	assert_true(other < count);
	assert_int_equal(replica_checkpoint(w->vm[2], true, &w->err), 1);
	assert_int_equal(replica_set_quota(w->vm[0], 1, &w->err), 0);
	struct wire_seal s = {.predecessor = 0, .head = info_of(w, 0)->head, .cut = {{1}}, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(w->vm[0], &s, &committed, &w->err), -EDQUOT); // back to its checkpoint
	assert_int_equal(info_of(w, 0)->head_blocks, count);
	uint64_t all = taken(w);
	reopen(w, all + MIB); // less than it was, but they were there
	assert_int_equal(info_of(w, 0)->head_blocks, count);
	assert_int_equal(info_of(w, 2)->head_blocks, other);
	assert_true(taken(w) <= all + MIB);
}

// What the file system did not take is waited for; that memory is short as well passes by itself.
static void memory_that_is_short_hides_no_full_file_system(void **state)
{
	struct world *w = *state;
	const struct err full = {.code = -ENOSPC, .text = "no inodes"};
	begin(w, 0);
	limits_full(w->vm[0], 0, true, &full);
	assert_true(send(w, 0, 0, MANY) < MANY);
	assert_int_equal(w->err.code, -EDQUOT);
	assert_non_null(strstr(w->err.text, "--memory"));
	assert_int_equal(info_of(w, 0)->limited, LIMITED_SPACE);
	assert_int_equal(replica_retain(w->vm[0], &w->err), 0); // looks whether there is room by now
	assert_int_equal(info_of(w, 0)->limited, LIMITED_SPACE);
	seal(w, 0);
	assert_int_equal(info_of(w, 0)->limited, LIMITED_NOT);
}

// A table that is lost puts all of a disk in doubt, however little is on it.
static void session_whose_doubts_do_not_fit_is_refused(void **state)
{
	struct world *w = *state;
	const struct damage doubt = {.count = DISK_SIZE / BLOCK_SIZE, .from = 1, .to = DAMAGE_OPEN};
	begin(w, 0);
	assert_int_equal(send(w, 0, 0, 1), 1);
	seal(w, 0);
	end(w, 0);
	damage_add(&w->vm[0]->scrub.damage, &doubt);
	uint64_t before = heap();
	assert_int_equal(begin_try(w, 0), -EDQUOT);
	assert_non_null(strstr(w->err.text, "--memory"));
	assert_int_equal(info_of(w, 0)->limited, LIMITED_MEMORY);
	assert_false(w->info.broken);
	assert_int_equal(taken(w), 0);
	assert_true(heap() - before < MIB);
}

// Found while the session is open, it ends that, and then it is refused as above.
static void doubts_that_do_not_fit_end_an_open_session(void **state)
{
	struct world *w = *state;
	const struct damage doubt = {.count = DISK_SIZE / BLOCK_SIZE, .from = 1, .to = DAMAGE_OPEN};
	begin(w, 0);
	assert_int_equal(send(w, 0, 0, 1), 1);
	seal(w, 0);
	damage_add(&w->vm[0]->scrub.damage, &doubt);
	assert_int_equal(scrub_poison(w->vm[0], &w->err), -ENOBUFS);
	assert_true(w->vm[0]->reopen);
	assert_true(taken(w) <= BUDGET_MIB * MIB);
	end(w, 0);
	assert_int_equal(taken(w), 0);
}

static void parts_are_equal_for_those_who_take_all_that_they_get(void **state)
{
	(void)state;
	enum { SOURCES = 4, ALL = 1000000 };
	struct budget budget;
	struct budget_source *source[SOURCES];
	budget_init(&budget, ALL);
	for (unsigned i = 0; i < SOURCES; i++)
		source[i] = budget_source_of(&budget, (const unsigned char[OWNER_PIN_SIZE]){(unsigned char)(i + 1)});
	assert_ptr_equal(source[0], budget_source_of(&budget, (const unsigned char[OWNER_PIN_SIZE]){1}));
	while (budget_take(&budget, source[0], BUDGET_HEADS, 10))
		;
	assert_int_equal(budget_has(&budget, source[0]), ALL / 2);
	assert_false(budget_room(&budget, source[0], BUDGET_HEADS, 1));
	assert_true(budget_room(&budget, source[1], BUDGET_HEADS, ALL / 4));
	assert_false(budget_room(&budget, source[1], BUDGET_HEADS, ALL / 4 + 1));
	assert_false(budget_take(&budget, source[1], BUDGET_HEADS, UINT64_MAX));
	budget_give(&budget, source[0], BUDGET_HEADS, ALL / 2);
	for (bool any = true; any;) {
		any = false;
		for (unsigned i = 0; i < SOURCES; i++)
			any |= budget_take(&budget, source[i], BUDGET_HEADS, 10);
	}
	for (unsigned i = 0; i < SOURCES; i++)
		assert_in_range(budget_has(&budget, source[i]), ALL / (SOURCES + 1) - 20, ALL / (SOURCES + 1) + 20);
	assert_true(budget_has(&budget, NULL) <= ALL);
	budget_done(&budget);
}

static void points_take_of_all_that_is_free_and_leave_heads_their_part(void **state)
{
	(void)state;
	enum { ALL = 1000 };
	struct budget budget;
	budget_init(&budget, ALL);
	struct budget_source *first = budget_source_of(&budget, (const unsigned char[OWNER_PIN_SIZE]){1});
	struct budget_source *second = budget_source_of(&budget, (const unsigned char[OWNER_PIN_SIZE]){2});
	assert_true(budget_take(&budget, first, BUDGET_POINTS, 600));
	assert_true(budget_take(&budget, first, BUDGET_HEADS, 200));
	assert_false(budget_room(&budget, first, BUDGET_HEADS, 1));
	assert_true(budget_room(&budget, second, BUDGET_HEADS, 100));
	assert_false(budget_room(&budget, second, BUDGET_HEADS, 101));
	assert_true(budget_take_again(&budget, first, BUDGET_HEADS, 50)); // what was there before a start
	assert_false(budget_take_again(&budget, second, BUDGET_HEADS, 151));
	assert_false(budget_take(&budget, second, BUDGET_POINTS, 151));
	assert_true(budget_take(&budget, second, BUDGET_POINTS, 150));
	assert_int_equal(budget_has(&budget, NULL), ALL);
	budget_commit(&budget, first, 250);
	assert_int_equal(budget_has(&budget, NULL), ALL);
	assert_int_equal(budget_has_heads(&budget, first), 0);
	budget_done(&budget);
}

int main(void)
{
	log_init("test_budget", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(blocks_are_refused_before_their_source_has_more_than_its_part),
		TEST(source_that_has_its_part_refuses_no_other_one),
		TEST(source_has_one_part_for_all_that_it_protects),
		TEST(start_keeps_within_it_and_says_which_head_was_dropped),
		TEST(points_are_no_part_of_what_a_source_may_send),
		TEST(source_that_comes_first_shuts_out_no_other_one_s_points),
		TEST(head_keeps_what_it_has_when_others_have_come),
		TEST(memory_that_is_short_hides_no_full_file_system),
		TEST(session_whose_doubts_do_not_fit_is_refused),
		TEST(doubts_that_do_not_fit_end_an_open_session),
		TEST(session_whose_digests_do_not_fit_is_refused_and_breaks_nothing),
		cmocka_unit_test(points_take_of_all_that_is_free_and_leave_heads_their_part),
		cmocka_unit_test(parts_are_equal_for_those_who_take_all_that_they_get),
	};
	return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
