// SPDX-License-Identifier: Apache-2.0
// Random sequences of what happens to a store (cycles, halves of cycles, folds, holds, growth, a full disk, restarts, power cuts within and
// between, failovers) against a model that knows every point's content (tests/lib/store_model.h). After each operation all of it is compared.
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

enum { SEEDS = 30, STEPS = 80 };

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

static void store_and_model_agree_after_every_operation(void **state)
{
	uint64_t seeds = number_from("KAGAMI_MODEL_SEEDS", SEEDS), one = number_from("SEED", 0);
	unsigned long long cycles = 0, folds = 0, merges = 0, cuts = 0, failovers = 0, refused = 0, compared = 0;
	(void)state;
	for (uint64_t seed = one ? one : 1; seed <= (one ? one : seeds); seed++) {
		static struct store_model m;
		store_model_begin(&m, seed);
		for (unsigned i = 0; i < STEPS; i++)
			store_model_step(&m);
		cycles += m.did.cycles;
		folds += m.did.folds;
		merges += m.did.merges;
		cuts += m.did.cuts;
		failovers += m.did.failovers;
		refused += m.did.refused;
		compared += m.did.compared;
		store_model_end(&m);
	}
	print_message("# seeds %llu to %llu, %d operations each: %llu points, %llu folds, %llu merges, %llu power cuts, %llu failovers, %llu refusals, "
		      "%llu overlays compared whole\n",
		      (unsigned long long)(one ? one : 1), (unsigned long long)(one ? one : seeds), STEPS, cycles, folds, merges, cuts, failovers,
		      refused, compared);
	if (one)
		return;
	// A sequence that never gets to something proves nothing about it.
	assert_true(cycles > 10 * seeds && folds > 2 * seeds && merges > seeds / 4 && cuts > 4 * seeds && failovers > 0 && refused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(store_and_model_agree_after_every_operation, silence, speak)};
	log_init("test_store_model", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
