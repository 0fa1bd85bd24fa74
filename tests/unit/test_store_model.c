// SPDX-License-Identifier: Apache-2.0
// Random sequences of what happens to a store (cycles, halves of cycles, folds, holds, growth, a full disk, restarts, power cuts within and
// between, pins, tests, failovers, rollbacks, commits) against a model that knows every point's content (tests/lib/store_model.h). After each operation all of it is compared.
//
//	SEED=n replays one run.	KAGAMI_MODEL_SEEDS=n makes so many (make test-model).
#include "base/log.h"
#include "tests/lib/store_model.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEDS = 30, STEPS = 110 };

static uint64_t number_from(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

// A power cut within a call makes the store log what it could not do. Silent, unless one run is replayed.
static int silence(void **state)
{
	static int out;
	out = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	assert_true(out >= 0 && null >= 0);
	if (!getenv("SEED"))
		(void)dup2(null, STDERR_FILENO);
	(void)close(null);
	*state = &out;
	return 0;
}

static int speak(void **state)
{
	int *out = *state;
	(void)dup2(*out, STDERR_FILENO);
	return close(*out);
}

static void add_up(struct model_did *sum, const struct model_did *one)
{
	sum->cycles += one->cycles;
	sum->folds += one->folds;
	sum->merges += one->merges;
	sum->cuts += one->cuts;
	sum->pins += one->pins;
	sum->unpins += one->unpins;
	sum->tests_started += one->tests_started;
	sum->tests_stopped += one->tests_stopped;
	sum->failovers += one->failovers;
	sum->rollbacks += one->rollbacks;
	sum->commits += one->commits;
	sum->refused += one->refused;
	sum->compared += one->compared;
}

// A sequence that never gets to something proves nothing about it.
static void must_have_happened(const struct model_did *did, uint64_t seeds)
{
	assert_true(did->cycles > 10 * seeds && did->folds > 2 * seeds && did->merges > seeds / 4 && did->cuts > 4 * seeds && did->refused > 0);
	assert_true(did->pins > seeds / 2 && did->unpins > seeds / 2);
	assert_true(did->tests_started > seeds / 4 && did->tests_stopped > seeds / 4);
	assert_true(did->failovers > seeds / 4 && did->rollbacks > seeds / 10 && did->commits > seeds / 20);
}

static void store_and_model_agree_after_every_operation(void **state)
{
	uint64_t seeds = number_from("KAGAMI_MODEL_SEEDS", SEEDS), one = number_from("SEED", 0);
	struct model_did did = {.cycles = 0};
	(void)state;
	for (uint64_t seed = one ? one : 1; seed <= (one ? one : seeds); seed++) {
		static struct store_model m;
		store_model_begin(&m, seed);
		for (unsigned i = 0; i < STEPS; i++)
			store_model_step(&m);
		add_up(&did, &m.did);
		store_model_end(&m);
	}
	print_message("# seeds %llu to %llu, %d operations each: %u points, %u folds, %u merges, %u power cuts, %u pins, %u taken back, %u tests, %u stopped, "
		      "%u failovers, %u rollbacks, %u commits, %u refusals, %llu overlays compared whole\n",
		      (unsigned long long)(one ? one : 1), (unsigned long long)(one ? one : seeds), STEPS, did.cycles, did.folds, did.merges, did.cuts,
		      did.pins, did.unpins, did.tests_started, did.tests_stopped, did.failovers, did.rollbacks, did.commits, did.refused,
		      (unsigned long long)did.compared);
	if (!one)
		must_have_happened(&did, seeds);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(store_and_model_agree_after_every_operation, silence, speak)};
	log_init("test_store_model", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
