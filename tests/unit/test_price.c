// SPDX-License-Identifier: Apache-2.0
#include "replicator/price.h"

#include "base/size.h"
#include "replicator/protection_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define DISK_SIZE (16 * (uint64_t)REGION_SIZE)

static uint64_t examined(const struct export_stats *stats, bool whole, uint64_t damaged_bytes)
{
	struct price price = {0};
	price_add(&price, stats, DISK_SIZE, whole, damaged_bytes);
	return price.reread_bytes;
}

static uint64_t price_of(struct protection *p, const struct export_stats *stats) // of two disks
{
	struct price price = {0};
	for (uint16_t disk = 0; disk < 2; disk++)
		protection_price(p, disk, stats, DISK_SIZE, &price);
	return price.reread_bytes;
}

static void marked_regions_are_examined_or_all_where_they_would_not_do(void **unused)
{
	(void)unused;
	const struct export_stats marked = {.marked_bytes = 3 * (uint64_t)REGION_SIZE}, untold = {.marked_bytes = 3 * (uint64_t)REGION_SIZE, .untold = true}, all = {.marked_bytes = 16 * (uint64_t)REGION_SIZE};
	assert_int_equal(examined(&marked, false, 0), 3 * REGION_SIZE);
	assert_int_equal(examined(&marked, true, 0), DISK_SIZE);
	assert_int_equal(examined(&untold, false, 0), DISK_SIZE);
	assert_int_equal(examined(&marked, false, 2 * BLOCK_SIZE), 3 * REGION_SIZE + 2 * BLOCK_SIZE);
	assert_int_equal(examined(&all, false, 2 * BLOCK_SIZE), DISK_SIZE);
}

static void most_that_is_sent_has_what_is_dirty_and_what_no_sync_was_for(void **unused)
{
	(void)unused;
	const struct export_stats one = {.marked_bytes = 3 * (uint64_t)REGION_SIZE, .dirty_bytes = 2 * PIECE_SIZE}, other = {.marked_bytes = 2 * (uint64_t)REGION_SIZE, .unsynced_bytes = 5 * BLOCK_SIZE},
				  much = {.marked_bytes = 1 * (uint64_t)REGION_SIZE, .unsynced_bytes = 100 * (uint64_t)REGION_SIZE};
	struct price price = {0};
	price_add(&price, &one, DISK_SIZE, false, 0);
	assert_int_equal(price_resend_max(&price, true), 2 * BLOCK_SIZE);
	assert_int_equal(price_resend_max(&price, false), 3 * REGION_SIZE);
	price_add(&price, &other, DISK_SIZE, false, 0);
	assert_int_equal(price_resend_max(&price, true), 7 * BLOCK_SIZE);
	price_add(&price, &much, DISK_SIZE, false, 0); // no more than is examined, however often the same was written
	assert_int_equal(price_resend_max(&price, true), 6 * REGION_SIZE);
}

// What the next start is told by the receiver, and no mark says.
static void what_the_receiver_says_again_is_examined_until_a_point_ends_it(void **unused)
{
	(void)unused;
	struct protection *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	const struct export_stats stats = {.marked_bytes = 1 * (uint64_t)REGION_SIZE};
	const struct wire_doubted second = {.doubt = {{1}}, .disks = 2};
	doubt_init(p);
	assert_int_equal(price_of(p, &stats), 2 * REGION_SIZE);
	(void)doubt_hear(p, &second);
	assert_int_equal(price_of(p, &stats), REGION_SIZE + DISK_SIZE);
	doubt_committed(p);
	assert_int_equal(price_of(p, &stats), 2 * REGION_SIZE);
	p->damaged_bytes[1] = 3 * BLOCK_SIZE;
	assert_int_equal(price_of(p, &stats), 2 * REGION_SIZE + 3 * BLOCK_SIZE);
	p->config.compare = true;
	assert_int_equal(price_of(p, &stats), 2 * DISK_SIZE);
	p->config.compare = false;
	p->tracking[0].lost_why[0] = '?';
	assert_int_equal(price_of(p, &stats), DISK_SIZE + REGION_SIZE + 3 * BLOCK_SIZE);
	doubt_done(p);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marked_regions_are_examined_or_all_where_they_would_not_do),
		cmocka_unit_test(what_the_receiver_says_again_is_examined_until_a_point_ends_it),
		cmocka_unit_test(most_that_is_sent_has_what_is_dirty_and_what_no_sync_was_for),
	};
	return cmocka_run_group_tests_name("price", tests, NULL, NULL);
}
