// SPDX-License-Identifier: Apache-2.0
// Which errors of a disk are told, and what is shown of them (replicator/disk_errors.h).
#include "replicator/disk_errors.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

struct disk {
	struct disk_errors errors;
	uint64_t now_ns;
	unsigned told;
};

static int setup(void **state)
{
	static struct disk d;
	d = (struct disk){.now_ns = 5000 * SECOND};
	disk_errors_init(&d.errors);
	*state = &d;
	return 0;
}

static int teardown(void **state)
{
	struct disk *d = *state;
	disk_errors_done(&d->errors);
	return 0;
}

// As the export does it: true when it was told.
static bool fails(struct disk *d, enum disk_fault fault, int res, bool failed)
{
	struct err err;
	if (!disk_errors_add(&d->errors, fault, res, failed, d->now_ns))
		return false;
	disk_errors_show(&d->errors, "then", fault, "/vm/a.raw", 4096, res, failed, &err);
	d->told++;
	return true;
}

static void shows(struct disk *d, const char *want)
{
	char text[ERR_TEXT_MAX];
	disk_errors_text(&d->errors, text);
	if (strcmp(text, want) != 0)
		fail_msg("it shows \"%s\", not \"%s\"", text, want);
}

static void first_of_each_kind_is_told_with_its_place(void **state)
{
	struct disk *d = *state;
	shows(d, "");
	assert_true(fails(d, FAULT_READ, -EIO, false));
	shows(d, "then: read, image /vm/a.raw at byte 4096: Input/output error");
	assert_true(fails(d, FAULT_WRITE, -ENOSPC, false));
	shows(d, "then: write, image /vm/a.raw at byte 4096: No space left on device");
	assert_true(fails(d, FAULT_COPY, -EIO, false));
	shows(d, "then: read for a cycle, image /vm/a.raw at byte 4096: Input/output error");
	assert_true(fails(d, FAULT_OLD, -EIO, false));
	shows(d, "then: read of what a guest overwrites, image /vm/a.raw at byte 4096: Input/output error");
	assert_true(fails(d, FAULT_STAT, -EIO, false)); // of no byte, as the next
	shows(d, "then: stat of image /vm/a.raw: Input/output error");
	assert_true(fails(d, FAULT_SYNC, -EIO, true));
	shows(d, "then: sync of image /vm/a.raw: Input/output error");
	assert_int_equal(d->errors.count, 6);
}

static void same_error_is_told_again_after_ten_minutes(void **state)
{
	struct disk *d = *state;
	assert_true(fails(d, FAULT_READ, -EIO, false));
	for (unsigned i = 0; i < 599; i++) {
		d->now_ns += SECOND;
		assert_false(fails(d, FAULT_READ, -EIO, false));
	}
	assert_int_equal(d->errors.last_ns, d->now_ns);
	d->now_ns += SECOND;
	assert_true(fails(d, FAULT_READ, -EIO, false));
	assert_int_equal(d->errors.count, 601);
}

static void errors_that_alternate_are_bounded(void **state)
{
	static const int codes[] = {-EIO, -ENOSPC, -EIO, -EREMOTEIO};
	struct disk *d = *state;
	for (unsigned i = 0; i < 600000; i++) { // ten minutes of a thousand a second
		(void)fails(d, i % FAULT_KINDS, codes[i / FAULT_KINDS % 4], false);
		d->now_ns += SECOND / 1000;
	}
	assert_true(d->told >= FAULT_KINDS * 50);
	assert_true(d->told <= FAULT_KINDS * 61);
}

// It may have the number of one that was told a moment ago, and be of a kind that was.
static void what_makes_a_disk_fail_is_always_told_and_stays(void **state)
{
	struct disk *d = *state;
	assert_true(fails(d, FAULT_WRITE, -ENOSPC, false));
	assert_true(fails(d, FAULT_READ, -EIO, false));
	assert_false(d->errors.failed);
	d->now_ns += SECOND / 1000;
	assert_true(fails(d, FAULT_WRITE, -EIO, true));
	assert_true(d->errors.failed);
	shows(d, "then: write, image /vm/a.raw at byte 4096: Input/output error");
	assert_false(fails(d, FAULT_WRITE, -EIO, true)); // once
	d->now_ns += 3600 * SECOND;
	assert_true(fails(d, FAULT_READ, -ENXIO, true)); // news, but not why it failed
	shows(d, "then: write, image /vm/a.raw at byte 4096: Input/output error");
}

#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(first_of_each_kind_is_told_with_its_place),
		DISK_TEST(same_error_is_told_again_after_ten_minutes),
		DISK_TEST(errors_that_alternate_are_bounded),
		DISK_TEST(what_makes_a_disk_fail_is_always_told_and_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
