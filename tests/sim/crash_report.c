// SPDX-License-Identifier: Apache-2.0
// What a crash or anomaly test says of itself.
#include "tests/sim/crash_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool crash_report(const struct crash_scenario *scenario, const struct crash_result *r)
{
	if (r->points == 0 && !r->failed)
		return true; // left out
	fprintf(stderr, "# %s: %llu states, %llu contents, from %llu disturbed runs, of %llu every state\n", scenario->name,
		(unsigned long long)r->states, (unsigned long long)r->contents, (unsigned long long)r->points, (unsigned long long)r->exhausted);
	if (r->failed)
		fprintf(stderr, "# %s: %s\n# again: %s\n", scenario->name, r->text, r->line);
	return !r->failed;
}

bool crash_test(const struct crash_scenario *scenario)
{
	struct crash_result result;
	crash_explore(scenario, &result);
	return crash_report(scenario, &result);
}

bool anomaly_test(const struct crash_scenario *scenario)
{
	struct crash_result result;
	anomaly_explore(scenario, &result);
	return crash_report(scenario, &result);
}

static bool quietly(const struct crash_scenario *scenario, void how(const struct crash_scenario *, struct crash_result *))
{
	struct crash_result result;
	int out = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (out < 0 || null < 0)
		abort();
	if (!getenv("CHOICES"))
		(void)dup2(null, STDERR_FILENO);
	how(scenario, &result);
	(void)dup2(out, STDERR_FILENO);
	(void)close(out);
	(void)close(null);
	return crash_report(scenario, &result);
}

bool crash_test_quiet(const struct crash_scenario *scenario)
{
	return quietly(scenario, crash_explore);
}

bool anomaly_test_quiet(const struct crash_scenario *scenario)
{
	return quietly(scenario, anomaly_explore);
}
