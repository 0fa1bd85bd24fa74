// SPDX-License-Identifier: Apache-2.0
// A crew with and without threads, and what is built on it: packing in order, whoever was first.
#include "base/crew.h"
#include "base/size.h"
#include "format/entropy.h"
#include "replicator/holder.h"
#include "replicator/pack.h"
#include "tests/lib/twin.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { JOBS = 500 };

struct count_job {
	struct crew_job job;
	unsigned *counter; // plain: only jobs of no thread may share it
	unsigned saw;
	uint64_t in, out;
};

static void run_count(struct crew_job *job, void *kit)
{
	struct count_job *c = HOLDER(job, struct count_job, job);
	(void)kit;
	if (c->counter)
		c->saw = (*c->counter)++;
	c->out = c->in * c->in + 1;
}

static void without_threads_jobs_are_done_in_the_order_they_are_waited_for(struct crew *crew)
{
	unsigned counter = 0;
	struct count_job job[3] = {0};
	for (unsigned i = 0; i < 3; i++) {
		job[i] = (struct count_job){.job = {.run = run_count}, .counter = &counter, .in = i};
		crew_start(crew, &job[i].job);
		assert_false(crew_ended(crew, &job[i].job));
	}
	static const unsigned order[] = {2, 0, 1};
	for (unsigned i = 0; i < 3; i++) {
		crew_wait(crew, &job[order[i]].job, NULL);
		assert_true(crew_ended(crew, &job[order[i]].job));
		assert_int_equal(job[order[i]].saw, i);
		crew_wait(crew, &job[order[i]].job, NULL); // once more is no work
	}
	assert_int_equal(counter, 3);
}

static void crew_without_threads_works_where_it_is_waited_for(void **state)
{
	(void)state;
	struct crew *crew = NULL;
	without_threads_jobs_are_done_in_the_order_they_are_waited_for(NULL);
	assert_int_equal(crew_new(&(struct crew_config){.threads = 0}, &crew), 0);
	without_threads_jobs_are_done_in_the_order_they_are_waited_for(crew);
	assert_int_equal(crew_threads(crew), 0);
	crew_free(crew);
}

static void every_job_is_done_once_whoever_waits(void **state)
{
	(void)state;
	static struct count_job job[JOBS];
	for (unsigned threads = 1; threads <= 4; threads++) {
		struct crew *crew = NULL;
		assert_int_equal(crew_new(&(struct crew_config){.threads = threads}, &crew), 0);
		for (unsigned round = 0; round < 4; round++) { // jobs are used again
			for (unsigned i = 0; i < JOBS; i++) {
				job[i].job.run = run_count;
				job[i].in = i + round;
				crew_start(crew, &job[i].job);
			}
			for (unsigned i = 0; i < JOBS; i++) { // from both ends
				unsigned at = i % 2 ? JOBS - 1 - i / 2 : i / 2;
				crew_wait(crew, &job[at].job, NULL);
				assert_int_equal(job[at].out, (uint64_t)(at + round) * (at + round) + 1);
			}
		}
		crew_free(crew);
		memset(job, 0, sizeof(job));
	}
}

struct long_job {
	struct crew_job job;
	sem_t begun;
	bool done; // plain: who waits sees it by waiting
};

static void run_long(struct crew_job *job, void *kit)
{
	struct long_job *l = HOLDER(job, struct long_job, job);
	(void)kit;
	(void)sem_post(&l->begun);
	(void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL); // long enough to be waited for; how long is no matter
	l->done = true;
}

// While it is waited for, others end: that is not its end.
static void job_that_a_worker_has_begun_is_waited_for(void **state)
{
	(void)state;
	struct crew *crew = NULL;
	assert_int_equal(crew_new(&(struct crew_config){.threads = 2}, &crew), 0);
	struct long_job l = {.job = {.run = run_long}};
	struct count_job other = {.job = {.run = run_count}, .in = 3};
	assert_int_equal(sem_init(&l.begun, 0, 0), 0);
	crew_start(crew, &l.job);
	assert_int_equal(sem_wait(&l.begun), 0);
	crew_start(crew, &other.job);
	crew_wait(crew, &l.job, NULL);
	assert_true(l.done);
	crew_wait(crew, &other.job, NULL);
	assert_int_equal(other.out, 10);
	(void)sem_destroy(&l.begun);
	crew_free(crew);
}

// ---- packing

static void fill(unsigned char *block, unsigned kind, uint64_t *seed)
{
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		block[i] = kind == 0 ? (unsigned char)draw(seed) : (unsigned char)("kagami "[i % 7] + (i / 700) % kind);
}

enum { BLOCKS = 100 };

// The messages of BLOCKS blocks of all kinds, one behind the other.
static size_t pack_all(unsigned threads, unsigned char *to, size_t cap, unsigned *ret_plain)
{
	static unsigned char data[BLOCKS][BLOCK_SIZE];
	const struct pack_choice choice = {.codec = CODEC_ZSTD, .level = CODEC_LEVEL};
	struct crew *crew = NULL;
	struct pack *pack = NULL;
	struct digest digest = {{7}};
	uint64_t seed = 11;
	size_t len = 0;
	*ret_plain = 0;
	assert_int_equal(crew_new(&(struct crew_config){.threads = threads, .kit_new = pack_kit_new, .kit_free = pack_kit_free}, &crew), 0);
	assert_int_equal(pack_new(crew, &pack), 0);
	for (unsigned added = 0, taken = 0; taken < BLOCKS;) {
		if (added < BLOCKS && !pack_full(pack)) {
			struct source_block block = {.index = added, .mask = (uint16_t)(1 + added * 977), .data = data[added]};
			fill(data[added], added % 5, &seed);
			pack_add(pack, &block, added % 3 == 0, &digest, &choice);
			added++;
			continue;
		}
		const struct pack_result *result = pack_take(pack);
		assert_int_equal(result->block.index, taken);
		assert_int_equal(result->plain_len, (size_t)__builtin_popcount(result->block.mask) * PIECE_SIZE);
		assert_int_equal(result->block.mask, taken % 3 == 0 ? MASK_FULL : (uint16_t)(1 + taken * 977));
		*ret_plain += result->block.codec == CODEC_NONE;
		len += wire_put_block(to + len, cap - len, &result->block);
		pack_release(pack);
		taken++;
	}
	assert_true(pack_empty(pack));
	pack_free(pack);
	crew_free(crew);
	return len;
}

static void packed_bytes_are_the_same_whoever_packs(void **state)
{
	(void)state;
	enum { CAP = BLOCKS * (BLOCK_SIZE + 64) };
	unsigned char *one = malloc(CAP), *other = malloc(CAP);
	unsigned plain, plain_other;
	assert_true(one && other);
	size_t len = pack_all(0, one, CAP, &plain);
	for (unsigned threads = 1; threads <= 4; threads++) {
		assert_int_equal(pack_all(threads, other, CAP, &plain_other), len);
		assert_memory_equal(one, other, len);
		assert_int_equal(plain, plain_other);
	}
	assert_int_equal(plain, BLOCKS / 5); // those that are random
	free(one);
	free(other);
}

static void dropped_jobs_are_not_left_under_way(void **state)
{
	(void)state;
	static unsigned char data[BLOCK_SIZE];
	const struct pack_choice choice = {.codec = CODEC_ZSTD, .level = CODEC_LEVEL_MAX};
	struct crew *crew = NULL;
	struct pack *pack = NULL;
	uint64_t seed = 3;
	fill(data, 3, &seed);
	assert_int_equal(crew_new(&(struct crew_config){.threads = 3, .kit_new = pack_kit_new, .kit_free = pack_kit_free}, &crew), 0);
	assert_int_equal(pack_new(crew, &pack), 0);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < PACK_SLOTS; i++)
			pack_add(pack, &(struct source_block){.index = i, .mask = MASK_FULL, .data = data}, true, &(struct digest){{1}}, &choice);
		assert_true(pack_full(pack));
		pack_drop(pack);
		assert_true(pack_empty(pack));
	}
	pack_free(pack);
	crew_free(crew);
}

static void only_what_looks_random_is_not_tried(void **state)
{
	(void)state;
	static unsigned char block[BLOCK_SIZE];
	uint64_t seed = 5;
	for (unsigned kind = 0; kind < 30; kind++) {
		fill(block, kind, &seed);
		assert_int_equal(entropy_full(block, BLOCK_SIZE), kind == 0);
		assert_int_equal(entropy_full(block, PIECE_SIZE), kind == 0);
		assert_false(entropy_full(block, PIECE_SIZE - 1));
	}
	// A table whose rows begin with a random column of 4 bytes, and whose rest is nothing.
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		block[i] = i % 32 < 4 ? (unsigned char)draw(&seed) : 0;
	assert_false(entropy_full(block, BLOCK_SIZE));
	for (size_t i = 0; i < BLOCK_SIZE; i++) // digits
		block[i] = (unsigned char)('0' + draw(&seed) % 64);
	assert_false(entropy_full(block, BLOCK_SIZE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(crew_without_threads_works_where_it_is_waited_for),
		cmocka_unit_test(every_job_is_done_once_whoever_waits),
		cmocka_unit_test(job_that_a_worker_has_begun_is_waited_for),
		cmocka_unit_test(packed_bytes_are_the_same_whoever_packs),
		cmocka_unit_test(dropped_jobs_are_not_left_under_way),
		cmocka_unit_test(only_what_looks_random_is_not_tried),
	};
	return cmocka_run_group_tests_name("crew", tests, NULL, NULL);
}
