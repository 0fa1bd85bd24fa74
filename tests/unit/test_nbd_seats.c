// SPDX-License-Identifier: Apache-2.0
// Whoever connects over TCP and says nothing keeps nobody out (T1 to T3), and fills no log.
#include "replicator/nbd_seats.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct nbd_seats seats;
static int going;

static int setup(void **state)
{
	(void)state;
	memset(&seats, 0, sizeof(seats));
	return 0;
}

static unsigned come(int64_t now_ms)
{
	assert_int_equal(nbd_seats_wait_ms(&seats, now_ms), 0);
	return nbd_seats_take(&seats, now_ms, &going);
}

static void go(unsigned seat)
{
	nbd_seats_left(&seats, seat);
	nbd_seats_free(&seats, seat);
}

// As many as may wait, the first of them a millisecond before the second, and so on.
static void fill(unsigned seat[NBD_SEATS_WAITING_MAX], int64_t now_ms)
{
	for (int i = 0; i < NBD_SEATS_WAITING_MAX; i++) {
		seat[i] = come(now_ms + i);
		assert_int_equal(going, -1);
	}
}

static void newcomer_gets_the_place_of_the_one_that_is_unknown_for_longest(void **state)
{
	(void)state;
	unsigned seat[NBD_SEATS_WAITING_MAX];
	fill(seat, 0);
	assert_int_equal(nbd_seats_known(&seats, seat[0], 100), 0);
	(void)come(2000);
	assert_int_equal(going, seat[1]);
	assert_int_equal(nbd_seats_known(&seats, seat[1], 2000), -ECANCELED);
	assert_int_equal(nbd_seats_attach(&seats, seat[1], 2000), -ECANCELED);
	(void)come(2000);
	assert_int_equal(going, seat[2]);
	go(seat[3]);
	(void)come(2000);
	assert_int_equal(going, -1);
}

static void known_ones_go_only_where_there_is_no_stranger(void **state)
{
	(void)state;
	unsigned seat[NBD_SEATS_WAITING_MAX];
	fill(seat, 0);
	for (int i = NBD_SEATS_WAITING_MAX - 1; i > 0; i--) // the last one first
		assert_int_equal(nbd_seats_known(&seats, seat[i], 200 - i), 0);
	unsigned next = come(5000);
	assert_int_equal(going, seat[0]);
	assert_int_equal(nbd_seats_known(&seats, next, 5000), 0);
	(void)come(5000);
	assert_int_equal(going, seat[NBD_SEATS_WAITING_MAX - 1]);
}

static void who_has_a_disk_is_never_ended(void **state)
{
	(void)state;
	unsigned attached[NBD_SEATS_ATTACHED_MAX], seat[NBD_SEATS_WAITING_MAX];
	for (int i = 0; i < NBD_SEATS_ATTACHED_MAX; i++) {
		attached[i] = come(0);
		assert_int_equal(nbd_seats_known(&seats, attached[i], 0), 0);
		assert_int_equal(nbd_seats_attach(&seats, attached[i], 0), 0);
	}
	fill(seat, 0);
	assert_int_equal(nbd_seats_known(&seats, seat[0], 1), 0);
	assert_int_equal(nbd_seats_attach(&seats, seat[0], 1), -EUSERS);
	for (int round = 1; round < 100; round++) {
		int64_t now_ms = round * 10000;
		(void)come(now_ms);
		assert_true(going >= 0);
		for (int i = 0; i < NBD_SEATS_ATTACHED_MAX; i++)
			assert_int_not_equal(going, attached[i]);
		go((unsigned)going);
	}
	nbd_seats_left(&seats, attached[7]); // it counts no more, though its thread was not joined
	unsigned next = come(2000000);
	assert_int_equal(nbd_seats_attach(&seats, next, 2000000), 0);
}

static void everybody_has_a_second_whoever_else_comes(void **state)
{
	(void)state;
	unsigned seat[NBD_SEATS_WAITING_MAX];
	fill(seat, 5000);
	assert_int_equal(nbd_seats_wait_ms(&seats, 5100), NBD_SEAT_LEAST_MS - 100);
	assert_int_equal(nbd_seats_wait_ms(&seats, 5000 + NBD_SEAT_LEAST_MS - 1), 1);
	(void)come(5000 + NBD_SEAT_LEAST_MS);
	assert_int_equal(going, seat[0]);
	assert_int_equal(nbd_seats_wait_ms(&seats, 5000 + NBD_SEAT_LEAST_MS), 1); // seat[1] came a millisecond later
	go(seat[9]);
	assert_int_equal(nbd_seats_wait_ms(&seats, 5000 + NBD_SEAT_LEAST_MS), 0);
}

// Those who were ended and are not gone yet have seats: then the next one waits until one of them is.
static void flood_is_bounded(void **state)
{
	(void)state;
	unsigned last = 0;
	int64_t now_ms = 0;
	for (int i = 0; i < NBD_SEATS; i++)
		last = come(now_ms += NBD_SEAT_LEAST_MS);
	assert_int_equal(nbd_seats_wait_ms(&seats, now_ms + 3600000), NBD_SEATS_PAUSE_MS);
	nbd_seats_left(&seats, (unsigned)going);
	assert_int_equal(nbd_seats_wait_ms(&seats, now_ms + 3600000), NBD_SEATS_PAUSE_MS);
	nbd_seats_free(&seats, (unsigned)going);
	assert_int_not_equal(come(now_ms + 3600000), last);
}

static void what_strangers_bring_about_is_logged_a_few_times_and_then_counted(void **state)
{
	(void)state;
	struct nbd_word word = {.left_out = 0};
	unsigned said = 0, left_out = 0;
	for (uint64_t ms = 0; ms < NBD_WORD_EACH_S * 1000; ms++)
		said += nbd_word_may(&word, (1000 + ms) * 1000000, &left_out);
	assert_int_equal(said, NBD_WORD_BURST);
	assert_int_equal(left_out, 0);
	assert_true(nbd_word_may(&word, (1000 + NBD_WORD_EACH_S * 1000) * UINT64_C(1000000), &left_out));
	assert_int_equal(left_out, NBD_WORD_EACH_S * 1000 - NBD_WORD_BURST);
	assert_true(nbd_word_may(&word, UINT64_C(3600000000000), &left_out));
	assert_int_equal(left_out, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(newcomer_gets_the_place_of_the_one_that_is_unknown_for_longest),
		TEST(known_ones_go_only_where_there_is_no_stranger),
		TEST(who_has_a_disk_is_never_ended),
		TEST(everybody_has_a_second_whoever_else_comes),
		TEST(flood_is_bounded),
		TEST(what_strangers_bring_about_is_logged_a_few_times_and_then_counted),
	};
	return cmocka_run_group_tests_name("nbd_seats", tests, NULL, NULL);
}
