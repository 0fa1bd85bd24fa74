// SPDX-License-Identifier: Apache-2.0
// Digests of blocks: what two hosts compare instead of the blocks themselves.
#include "base/size.h"
#include "format/blake2b.h"
#include "format/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
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

static int setup_blake2b(void **state)
{
	(void)setup(state);
	((struct fixture *)*state)->key.kind = DIGEST_BLAKE2B;
	return 0;
}

static void hex_is(const unsigned char *data, size_t len, const char *expected)
{
	char text[2 * BLAKE2B_OUT_MAX + 1];
	for (size_t i = 0; i < len; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", data[i]);
	assert_string_equal(text, expected);
}

static void blake2b_is_that_of_rfc_7693(void **state)
{
	(void)state;
	unsigned char out[BLAKE2B_OUT_MAX];
	struct blake2b b;
	blake2b_begin(&b, 64, NULL, 0); // appendix A
	blake2b_add(&b, "abc", 3);
	blake2b_end(&b, out);
	hex_is(out, 64, "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab9"
			"2386edd4009923");
}

// An implementation that is not ours, at lengths around every seam, in pieces of every kind.
static void blake2b_agrees_with_that_of_openssl(void **state)
{
	struct fixture *f = *state;
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "BLAKE2BMAC", NULL);
	assert_non_null(mac);
	static const size_t lengths[] = {0, 1, 63, 64, 127, 128, 129, 255, 256, 257, 1000, 4096, BLOCK_SIZE - 1, BLOCK_SIZE};
	static const size_t outs[] = {1, 16, 20, 64}, keys[] = {1, 16, 64};
	for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++)
		for (size_t o = 0; o < 4; o++)
			for (size_t k = 0; k < 3; k++) {
				unsigned char theirs[BLAKE2B_OUT_MAX], ours[BLAKE2B_OUT_MAX];
				size_t out = outs[o], len = 0;
				OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &out), OSSL_PARAM_construct_end()};
				EVP_MAC_CTX *c = EVP_MAC_CTX_new(mac);
				assert_int_equal(EVP_MAC_init(c, f->key.secret, keys[k], params), 1);
				assert_int_equal(EVP_MAC_update(c, f->block, lengths[l]), 1);
				assert_int_equal(EVP_MAC_final(c, theirs, &len, sizeof(theirs)), 1);
				EVP_MAC_CTX_free(c);
				struct blake2b b;
				blake2b_begin(&b, out, f->key.secret, keys[k]);
				for (size_t at = 0, step = 1; at < lengths[l]; at += step) {
					step = lengths[l] - at < 1 + (at * 7 + l) % 300 ? lengths[l] - at : 1 + (at * 7 + l) % 300;
					blake2b_add(&b, f->block + at, step);
				}
				blake2b_end(&b, ours);
				assert_int_equal(len, out);
				assert_memory_equal(ours, theirs, out);
			}
	EVP_MAC_free(mac);
}

static void digest_by_blake2b_is_what_it_was_in_version_1(void **state)
{
	struct fixture *f = *state;
	struct digest digest = digest_of(&f->key, 3, UINT64_C(0x123456789), f->block);
	hex_is(digest.bytes, DIGEST_SIZE, "2a5d67b6ee50c14a13107945e3acec81");
	struct digest below[3] = {digest, {{0}}, {{7}}};
	digest = digest_node(&f->key, 2, below, 3);
	hex_is(digest.bytes, DIGEST_SIZE, "8667767c167abfc2adfe1ca37ee69af5");
}

static void digest_by_blake2b_rests_on_every_byte_of_its_key(void **state)
{
	struct fixture *f = *state;
	struct digest digest = digest_of(&f->key, 0, 5, f->block);
	for (unsigned at = 0; at < BLAKE2B_KEY_MAX; at++) {
		f->key.secret[at] ^= 0x40;
		assert_false(same(digest, digest_of(&f->key, 0, 5, f->block)));
		f->key.secret[at] ^= 0x40;
	}
}

static void node_is_what_it_was_in_version_1(void **state)
{
	struct fixture *f = *state;
	struct digest below[3] = {digest_of(&f->key, 3, 9, f->block), {{0}}, {{7}}};
	struct digest node = digest_node(&f->key, 1, below, 3);
	hex_is(node.bytes, DIGEST_SIZE, "c6dfcfe703771d67a005f18a7d899bbc");
}

static void node_rests_on_every_digest_below_it_its_place_and_their_number(void **state)
{
	struct fixture *f = *state;
	struct digest below[DIGEST_FAN];
	for (unsigned i = 0; i < DIGEST_FAN; i++)
		below[i] = digest_of(&f->key, 0, i, f->block);
	struct digest node = digest_node(&f->key, 1, below, DIGEST_FAN);
	assert_true(same(node, digest_node(&f->key, 1, below, DIGEST_FAN)));
	assert_false(same(node, digest_node(&f->key, 2, below, DIGEST_FAN)));
	assert_false(same(node, digest_node(&f->key, 1, below, DIGEST_FAN - 1)));
	for (unsigned i = 0; i < DIGEST_FAN; i++) {
		struct digest old = below[i];
		below[i].bytes[i % DIGEST_SIZE] ^= 1;
		assert_false(same(node, digest_node(&f->key, 1, below, DIGEST_FAN)));
		below[i] = (struct digest){{0}};
		assert_false(same(node, digest_node(&f->key, 1, below, DIGEST_FAN)));
		below[i] = old;
	}
	struct digest first = below[0];
	below[0] = below[1];
	below[1] = first;
	assert_false(same(node, digest_node(&f->key, 1, below, DIGEST_FAN)));
	memset(below, 0, sizeof(below));
	node = digest_node(&f->key, 1, below, DIGEST_FAN);
	assert_true(digest_is_zero(&node));
	below[DIGEST_FAN - 1].bytes[DIGEST_SIZE - 1] = 1;
	node = digest_node(&f->key, 1, below, DIGEST_FAN);
	assert_false(digest_is_zero(&node));
}

static void digest_kinds_have_names_and_no_others(void **state)
{
	(void)state;
	enum digest_kind kind;
	assert_true(digest_kind_read("xxh3", &kind) && kind == DIGEST_XXH3);
	assert_true(digest_kind_read("blake2b", &kind) && kind == DIGEST_BLAKE2B);
	assert_false(digest_kind_read("", &kind) || digest_kind_read("XXH3", &kind) || digest_kind_read("unknown", &kind));
	assert_false(digest_kind_known(0) || digest_kind_known(3));
}

#define WITH(setup, name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define BLAKE2B(name) {#name "_by_blake2b", name, setup_blake2b, teardown, NULL}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(digest_is_what_it_was_in_version_1, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_is_bound_to_the_disk_and_to_the_position, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_of_zeros_is_zero_wherever_they_lie, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_rests_on_every_byte_of_the_secret, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_sees_one_flipped_bit, setup, teardown),
		cmocka_unit_test_setup_teardown(digest_sees_two_pieces_that_changed_places, setup, teardown),
		cmocka_unit_test(blake2b_is_that_of_rfc_7693),
		WITH(setup, blake2b_agrees_with_that_of_openssl),
		WITH(setup_blake2b, digest_by_blake2b_is_what_it_was_in_version_1),
		WITH(setup_blake2b, digest_by_blake2b_rests_on_every_byte_of_its_key),
		WITH(setup, node_is_what_it_was_in_version_1),
		WITH(setup, node_rests_on_every_digest_below_it_its_place_and_their_number),
		BLAKE2B(digest_is_bound_to_the_disk_and_to_the_position),
		BLAKE2B(digest_of_zeros_is_zero_wherever_they_lie),
		BLAKE2B(digest_sees_two_pieces_that_changed_places),
		BLAKE2B(node_rests_on_every_digest_below_it_its_place_and_their_number),
		cmocka_unit_test(digest_kinds_have_names_and_no_others),
	};
	return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
