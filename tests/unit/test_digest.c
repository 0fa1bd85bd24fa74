// SPDX-License-Identifier: Apache-2.0
// Digests of blocks: what two hosts compare instead of the blocks themselves.
#include "base/size.h"
#include "format/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct digest_key key;
	unsigned char block[BLOCK_SIZE];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->key.kind = DIGEST_XXH3;
	for (unsigned i = 0; i < DIGEST_SECRET_SIZE; i++)
		f->key.secret[i] = (unsigned char)(i * 37 + 11);
	for (unsigned i = 0; i < BLOCK_SIZE; i++)
		f->block[i] = (unsigned char)(i * i >> 7 ^ i);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static bool same(struct digest a, struct digest b)
{
	return digest_equal(&a, &b);
}

static void digest_is_what_it_was_in_version_1(void **state)
{
	struct fixture *f = *state;
	struct digest digest = digest_of(&f->key, 3, UINT64_C(0x123456789), f->block);
	char text[2 * DIGEST_SIZE + 1];
	for (unsigned i = 0; i < DIGEST_SIZE; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", digest.bytes[i]);
	assert_string_equal(
		text,
		"2e80d4ceecde0cb4e963a118d0b46c11"); // both ends of a connection and every table on disk rest on it
}

static void digest_is_bound_to_the_disk_and_to_the_position(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint16_t disk;
		uint64_t index;
	} places[] = {{0, 0},	  {0, 1},	   {0, 2},
		      {0, 256},	  {0, 65536},	   {0, UINT64_C(1) << 32},
		      {1, 0},	  {1, 1},	   {2, 0},
		      {256, 0},	  {63, 7},	   {7, 63},
		      {65535, 0}, {0, UINT64_MAX}, {1, UINT64_C(1) << 29}};
	enum { PLACES = sizeof(places) / sizeof(places[0]) };
	struct digest digest[PLACES];
	for (int i = 0; i < PLACES; i++) {
		digest[i] = digest_of(&f->key, places[i].disk, places[i].index, f->block);
		assert_true(same(digest[i], digest_of(&f->key, places[i].disk, places[i].index, f->block)));
		for (int j = 0; j < i; j++)
			assert_false(digest_equal(&digest[i], &digest[j]));
	}
}

static void digest_of_zeros_is_zero_wherever_they_lie(void **state)
{
	struct fixture *f = *state;
	memset(f->block, 0, BLOCK_SIZE);
	struct digest zero = digest_of(&f->key, 0, 0, f->block);
	assert_true(digest_is_zero(&zero));
	assert_true(same(zero, digest_of(&f->key, 9, 1234567, f->block)));
	memset(f->key.secret, 0, DIGEST_SECRET_SIZE);
	assert_true(same(zero, digest_of(&f->key, 9, 1234567, f->block)));
	for (unsigned at = 0; at < BLOCK_SIZE; at += 4093) {
		f->block[at] = 1;
		struct digest other = digest_of(&f->key, 0, 0, f->block);
		assert_false(digest_is_zero(&other));
		f->block[at] = 0;
	}
}

static void digest_rests_on_every_byte_of_the_secret(void **state)
{
	struct fixture *f = *state;
	struct digest digest = digest_of(&f->key, 0, 5, f->block);
	for (unsigned at = 0; at < DIGEST_SECRET_SIZE; at++) {
		f->key.secret[at] ^= 0x40;
		assert_false(same(digest, digest_of(&f->key, 0, 5, f->block)));
		f->key.secret[at] ^= 0x40;
	}
	assert_true(same(digest, digest_of(&f->key, 0, 5, f->block)));
}

static void digest_sees_one_flipped_bit(void **state)
{
	struct fixture *f = *state;
	struct digest digest = digest_of(&f->key, 0, 5, f->block);
	for (unsigned bit = 0; bit < 8 * BLOCK_SIZE; bit += bit < 4096 || bit > 8 * BLOCK_SIZE - 4096 ? 1 : 997) {
		f->block[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_false(same(digest, digest_of(&f->key, 0, 5, f->block)));
		f->block[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
}

static void digest_sees_two_pieces_that_changed_places(void **state)
{
	struct fixture *f = *state;
	struct digest digest = digest_of(&f->key, 0, 5, f->block);
	unsigned char piece[PIECE_SIZE];
	memcpy(piece, f->block, PIECE_SIZE);
	memcpy(f->block, f->block + 3 * PIECE_SIZE, PIECE_SIZE);
	memcpy(f->block + 3 * PIECE_SIZE, piece, PIECE_SIZE);
	assert_false(same(digest, digest_of(&f->key, 0, 5, f->block)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(digest_is_what_it_was_in_version_1, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_is_bound_to_the_disk_and_to_the_position, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_of_zeros_is_zero_wherever_they_lie, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_rests_on_every_byte_of_the_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_sees_one_flipped_bit, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_sees_two_pieces_that_changed_places, setup, teardown),
	};
	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
