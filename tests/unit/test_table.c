// SPDX-License-Identifier: Apache-2.0
// Tables as they are printed: as wide as they are, and on a terminal that is too narrow for that.
#include "tools/show.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void prints(size_t columns, const char *expected)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);
	assert_non_null(to);
	struct table *table = table_new("lrrl");
	table_add(table, "NAME\tPOINT\tDIRTY\tTO");
	table_add(table, "vm1\t7\t1.2 MiB\tdr");
	table_note(table, "  ! it is late, and for a reason that takes more than a line");
	table_add(table, "web-1\t12345\t0 B\t");
	if (columns)
		table_print_within(table, to, columns);
	else
		table_print(table, to); // no terminal
	assert_int_equal(fclose(to), 0);
	assert_string_equal(text, expected);
	free(text);
}

static void table_is_printed_in_lines_where_it_fits(void **state)
{
	static const char whole[] = "NAME   POINT    DIRTY  TO\nvm1        7  1.2 MiB  dr\n  ! it is late, and for a reason that takes more than a line\nweb-1  12345      0 B\n";
	(void)state;
	prints(0, whole);
	prints(25, whole); // to the last place
	prints(SIZE_MAX, whole);
}

static void columns_that_do_not_fit_follow_on_lines_of_their_own(void **state)
{
	(void)state;
	prints(24, "NAME   POINT    DIRTY\n    TO\nvm1        7  1.2 MiB\n    dr\n  ! it is late, and for a reason that takes more than a line\nweb-1  12345      0 B\n");
	prints(20, "NAME   POINT\n      DIRTY  TO\nvm1        7\n    1.2 MiB  dr\n  ! it is late, and for a reason that takes more than a line\nweb-1  12345\n        0 B\n");
	prints(1, "NAME\n    POINT\n      DIRTY\n    TO\nvm1\n        7\n    1.2 MiB\n    dr\n  ! it is late, and for a reason that takes more than a line\nweb-1\n    12345\n        0 B\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_printed_in_lines_where_it_fits),
		cmocka_unit_test(columns_that_do_not_fit_follow_on_lines_of_their_own),
	};
	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
