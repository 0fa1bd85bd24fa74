// SPDX-License-Identifier: Apache-2.0
#include "replicator/knock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_few_are_at_one_address_and_none_waits_for_another(void **state)
{
	(void)state;
	struct knock knock[KNOCKS_MAX] = {{0}}, more = {0}, other = {0};
	const char address[] = "192.0.2.1:7440"; // equal by what it says
	for (int i = 0; i < KNOCKS_MAX; i++)
		assert_true(knock_begin(&knock[i], i % 2 ? address : "192.0.2.1:7440"));
	assert_false(knock_begin(&more, "192.0.2.1:7440"));
	knock_end(&more); // it is not there
	assert_true(knock_begin(&other, "192.0.2.2:7440"));
	knock_end(&knock[1]);
	knock_end(&knock[1]);
	assert_true(knock_begin(&more, "192.0.2.1:7440"));
	assert_false(knock_begin(&knock[1], "192.0.2.1:7440"));
	for (int i = 0; i < KNOCKS_MAX; i++)
		knock_end(&knock[i]);
	knock_end(&more);
	knock_end(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_few_are_at_one_address_and_none_waits_for_another),
	};
	return cmocka_run_group_tests_name("knock", tests, NULL, NULL);
}
