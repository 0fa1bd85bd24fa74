// SPDX-License-Identifier: Apache-2.0
// The lease (L1 to L3 of lease.h): what a run leaves of itself in the state directory, and what the next believes of it.
#include "replicator/lease.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/size.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NS INT64_C(1000000000)

struct fixture {
	struct sim *sim;
	struct env_root *root;
	struct lease lease;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->sim = sim_new(7);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	lease_end(&f->lease);
	env_root_close(f->root);
	assert_int_equal(sim_handles(f->sim), 0);
	sim_free(f->sim);
	free(f);
	return 0;
}

static int64_t now(const struct fixture *f)
{
	return env_wall_ns(sim_env(f->sim));
}

static uint64_t begin(struct fixture *f)
{
	struct err err = {0};
	lease_end(&f->lease);
	assert_int_equal(lease_begin(&f->lease, f->root, &err), 0);
	return lease_use(&f->lease);
}

static void renew(struct fixture *f)
{
	struct err err = {0};
	if (lease_renew(&f->lease, &err))
		fail_msg("%s", err.text);
}

static void host_dies(struct fixture *f)
{
	sim_power_off(f->sim);
	lease_end(&f->lease);
	env_root_close(f->root);
	sim_power_on(f->sim);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
}

static void run_is_believed_until_a_moment_after_its_last_renewal(void **state)
{
	struct fixture *f = *state;
	uint64_t run = begin(f);
	assert_true(run != 0);
	for (int i = 0; i < 100; i++) {
		sim_clock_advance(f->sim, LEASE_RENEW_S * (uint64_t)NS);
		renew(f);
	}
	int64_t died = now(f);
	host_dies(f);
	assert_true(begin(f) != run);
	assert_true(lease_covers(&f->lease, run, died - 400 * NS)); // an image that was idle
	assert_true(lease_covers(&f->lease, run, died));
	assert_true(lease_covers(&f->lease, run, died + (LEASE_S - 1) * NS));
	assert_false(lease_covers(&f->lease, run, died + LEASE_S * NS));
	assert_false(lease_covers(&f->lease, run ^ 1, died));
	assert_false(lease_covers(&f->lease, 0, died));
	assert_false(lease_covers(NULL, run, died));
	assert_false(lease_covers(&f->lease, lease_use(&f->lease), died)); // a run is no judge of itself
}

static void lease_is_for_who_makes_a_state_file(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	assert_int_equal(lease_begin(&f->lease, f->root, &err), 0);
	assert_false(lease_used(&f->lease));
	assert_true(lease_use(&f->lease) == f->lease.book.of[0].run);
	assert_true(lease_used(&f->lease));
	assert_true(lease_use(NULL) == 0);
}

static void clock_that_was_set_back_shortens_the_lease(void **state)
{
	struct fixture *f = *state;
	uint64_t run = begin(f);
	renew(f);
	sim_clock_step(f->sim, -3600 * NS);
	renew(f);
	int64_t died = now(f);
	(void)begin(f);
	assert_true(lease_covers(&f->lease, run, died));
	assert_false(lease_covers(&f->lease, run, died + LEASE_S * NS));
}

static void runs_that_died_at_once_take_nothing_from_the_one_before(void **state)
{
	struct fixture *f = *state;
	uint64_t run[LEASE_RUNS_MAX + 2];
	for (unsigned i = 0; i < LEASE_RUNS_MAX + 2; i++) {
		run[i] = begin(f);
		renew(f);
		for (unsigned n = 0; n < i; n++) // as many as there is room for
			assert_int_equal(lease_covers(&f->lease, run[n], now(f) - NS / 2 - (int64_t)(i - n) * NS), i - n < LEASE_RUNS_MAX);
		sim_clock_advance(f->sim, (uint64_t)NS);
	}
}

// What is there after a power cut at any moment is of one renewal or the one before, also where those of a run end and those of the next begin.
static void power_cut_in_a_renewal_leaves_the_one_before_or_it(void **state)
{
	struct fixture *f = *state;
	for (int survives = 0; survives < 2; survives++) {
		uint64_t run = begin(f);
		renew(f);
		int64_t first = now(f);
		sim_clock_advance(f->sim, LEASE_RENEW_S * (uint64_t)NS);
		sim_halt_at(f->sim, sim_ops(f->sim) + 1); // written, and not synced
		struct err err = {0};
		assert_true(lease_renew(&f->lease, &err) < 0);
		lease_end(&f->lease);
		env_root_close(f->root);
		if (!survives)
			sim_power_off(f->sim);
		sim_power_on(f->sim);
		assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
		(void)begin(f);
		assert_true(lease_covers(&f->lease, run, first));
		assert_int_equal(lease_covers(&f->lease, run, first + (LEASE_S + 1) * NS), survives);
		renew(f);
	}
}

static void renewal_that_failed_is_made_up_for_by_the_next(void **state)
{
	struct fixture *f = *state;
	static const int code[] = {-EIO, -ENOSPC};
	uint64_t run = begin(f);
	for (unsigned op = 0; op < 4; op++)
		for (unsigned i = 0; i < 2; i++) {
			struct err err = {0};
			lease_end(&f->lease);
			f->lease.file = NULL;
			sim_fail_at(f->sim, sim_ops(f->sim) + op, code[i], false);
			int rc = lease_renew(&f->lease, &err);
			bool failed = sim_has_failed(f->sim);
			sim_fail_at(f->sim, SIM_NEVER, 0, false);
			assert_int_equal(rc != 0, failed);
			if (failed)
				assert_non_null(strstr(err.text, "lease"));
			sim_clock_advance(f->sim, LEASE_S * (uint64_t)NS);
			renew(f);
		}
	int64_t died = now(f);
	host_dies(f);
	(void)begin(f);
	assert_true(lease_covers(&f->lease, run, died));
}

static void sector_read(struct fixture *f, unsigned char sector[LEASE_BYTES])
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(f->root, "lease", ENV_READ, &file), 0);
	assert_int_equal(env_pread_full(file, sector, LEASE_BYTES, 0), 0);
	env_close(file);
}

static void file_lies_as_the_document_says(void **state)
{
	struct fixture *f = *state;
	unsigned char sector[LEASE_BYTES];
	uint64_t first = begin(f);
	renew(f);
	uint64_t second = begin(f);
	int64_t before = now(f);
	renew(f);
	sector_read(f, sector);
	assert_memory_equal(sector, "KAGAMILS", 8);
	assert_int_equal(get_le16(sector + 8), 1);
	assert_int_equal(get_le16(sector + 10), 2);
	assert_true(get_le64(sector + 16) == second);
	int64_t until = (int64_t)get_le64(sector + 24);
	assert_true(until > before + (LEASE_S - 1) * NS && until <= now(f) + LEASE_S * NS);
	assert_true(get_le64(sector + 32) == first);
	assert_true(bytes_zero(sector + 48, LEASE_BYTES - 48));
	uint32_t crc = get_le32(sector + 12);
	put_le32(sector + 12, 0);
	assert_int_equal(crc, crc32c(sector, LEASE_BYTES));
}

static bool decodes(const unsigned char sector[LEASE_BYTES], bool sealed)
{
	unsigned char copy[LEASE_BYTES];
	struct lease_book book;
	memcpy(copy, sector, LEASE_BYTES);
	if (sealed) {
		put_le32(copy + 12, 0);
		put_le32(copy + 12, crc32c(copy, LEASE_BYTES));
	}
	return lease_decode(copy, &book);
}

static void damaged_file_says_nothing(void **state)
{
	(void)state;
	struct lease_book book = {.count = 2, .of = {{5, 50}, {4, 40}}};
	unsigned char sector[LEASE_BYTES];
	lease_encode(&book, sector);
	assert_true(decodes(sector, false));
	for (unsigned bit = 0; bit < LEASE_BYTES * 8; bit++) {
		sector[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_false(decodes(sector, false));
		sector[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
	// With a checksum that is right.
	static const struct {
		unsigned at;
		unsigned char byte;
	} wrong[] = {{0, 'k'}, {8, 2}, {9, 1}, {10, 0}, {10, 1}, {10, 3}, {10, LEASE_RUNS_MAX + 1}, {11, 1}, {48, 1}, {511, 1}};
	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		unsigned char other[LEASE_BYTES];
		memcpy(other, sector, LEASE_BYTES);
		other[wrong[i].at] = wrong[i].byte;
		if (decodes(other, true))
			fail_msg("row %u", i);
	}
	memset(sector + 16, 0, 8); // a run without a number
	assert_false(decodes(sector, true));
}

static void file_that_cannot_be_read_is_begun_anew(void **state)
{
	struct fixture *f = *state;
	uint64_t run = begin(f);
	renew(f);
	struct env_file *file = NULL;
	assert_int_equal(env_open(f->root, "lease", ENV_WRITE, &file), 0);
	assert_int_equal(env_truncate(file, 100), 0);
	env_close(file);
	uint64_t next = begin(f);
	assert_false(lease_covers(&f->lease, run, 0));
	renew(f);
	(void)begin(f);
	assert_true(lease_covers(&f->lease, next, now(f)));
}

#define ON(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(run_is_believed_until_a_moment_after_its_last_renewal),
		ON(lease_is_for_who_makes_a_state_file),
		ON(clock_that_was_set_back_shortens_the_lease),
		ON(runs_that_died_at_once_take_nothing_from_the_one_before),
		ON(power_cut_in_a_renewal_leaves_the_one_before_or_it),
		ON(renewal_that_failed_is_made_up_for_by_the_next),
		ON(file_lies_as_the_document_says),
		ON(damaged_file_says_nothing),
		ON(file_that_cannot_be_read_is_begun_anew),
	};
	return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
