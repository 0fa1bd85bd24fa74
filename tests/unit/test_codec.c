// SPDX-License-Identifier: Apache-2.0
// Codecs: what was packed comes back, and nothing else is taken for it. A peer's bytes go through here: whatever they are, not
// one byte is written past the end.
#include "base/bytes.h"
#include "base/size.h"
#include "format/codec.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

enum { GUARD = 64, ROOM = 2 * BLOCK_SIZE };

struct bench {
	struct codec_context *context;
	uint64_t seed;
	unsigned char plain[BLOCK_SIZE];
	unsigned char packed[ROOM];
	unsigned char out[BLOCK_SIZE + GUARD];
};

static const enum codec packing[] = {CODEC_ZSTD, CODEC_ZLIB, CODEC_LZ4};
enum { PACKING = sizeof(packing) / sizeof(packing[0]) };

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	b->context = codec_new();
	assert_non_null(b->context);
	b->seed = 7;
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	codec_free(b->context);
	free(b);
	return 0;
}

enum kind { ZEROS, NOISE, TEXT, MIXED, KINDS };

// As guests have it: nothing, what was compressed already, text with words that come again, pages of each.
static void fill(struct bench *b, enum kind kind, size_t len)
{
	static const char *const words[] = {"static ", "int ", "return ", "block", "->size",
					    ";\n",     "(0x",  "if (",	  "\t\t"};
	for (size_t i = 0; i < len;) {
		enum kind here = kind == MIXED ? (enum kind)(i / PIECE_SIZE % 3) : kind;
		const char *word = words[draw_below(&b->seed, 9)];
		size_t n = here == TEXT ? strlen(word) : 1;
		for (size_t k = 0; k < n && i < len; k++, i++)
			b->plain[i] = here == ZEROS   ? 0
				      : here == NOISE ? (unsigned char)draw(&b->seed)
						      : (unsigned char)word[k];
	}
}

// Unpacks from memory of exactly `from_len` bytes into exactly `len` guarded ones.
static int unpack_here(struct bench *b, enum codec codec, const unsigned char *from, size_t from_len, size_t len,
		       bool padded)
{
	unsigned char *exact = malloc(from_len ? from_len : 1);
	memcpy(exact, from, from_len);
	memset(b->out, 0xa5, sizeof(b->out));
	int rc = padded ? codec_unpack_padded(b->context, codec, exact, from_len, b->out, len)
			: codec_unpack(b->context, codec, exact, from_len, b->out, len);
	for (size_t i = len; i < sizeof(b->out) && i < len + GUARD; i++)
		assert_int_equal(b->out[i], 0xa5);
	assert_true(rc == 0 || rc == -EBADMSG);
	free(exact);
	return rc;
}

static void codec_gives_back_what_was_packed(void **state)
{
	struct bench *b = *state;
	static const size_t lengths[] = {1, 2, 13, 511, PIECE_SIZE, 5 * PIECE_SIZE, BLOCK_SIZE - 1, BLOCK_SIZE};
	for (int c = 0; c < PACKING; c++)
		for (enum kind kind = 0; kind < KINDS; kind++)
			for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) {
				size_t len = lengths[l];
				fill(b, kind, len);
				size_t packed = codec_pack(b->context, packing[c], b->plain, len, b->packed, ROOM);
				assert_true(packed > 0 && packed <= ROOM);
				assert_int_equal(unpack_here(b, packing[c], b->packed, packed, len, false), 0);
				assert_memory_equal(b->out, b->plain, len);
				if (len == BLOCK_SIZE && kind != NOISE)
					assert_true(packed < len / 2 || kind == MIXED);
			}
}

static void codec_none_is_never_packed_and_comes_back_as_it_is(void **state)
{
	struct bench *b = *state;
	fill(b, NOISE, BLOCK_SIZE);
	assert_int_equal(codec_pack(b->context, CODEC_NONE, b->plain, BLOCK_SIZE, b->packed, ROOM), 0);
	assert_int_equal(unpack_here(b, CODEC_NONE, b->plain, BLOCK_SIZE, BLOCK_SIZE, false), 0);
	assert_memory_equal(b->out, b->plain, BLOCK_SIZE);
	assert_int_equal(unpack_here(b, CODEC_NONE, b->plain, BLOCK_SIZE - 1, BLOCK_SIZE, false), -EBADMSG);
	assert_int_equal(unpack_here(b, CODEC_NONE, b->plain, BLOCK_SIZE, BLOCK_SIZE - 1, false), -EBADMSG);
	assert_int_equal(unpack_here(b, CODEC_NONE, b->plain, BLOCK_SIZE, BLOCK_SIZE - 1, true), 0);
	assert_int_equal(unpack_here(b, CODEC_NONE, b->plain, BLOCK_SIZE - 1, BLOCK_SIZE, true), -EBADMSG);
}

static void codec_packs_nothing_into_too_little_room(void **state)
{
	struct bench *b = *state;
	for (int c = 0; c < PACKING; c++) {
		fill(b, TEXT, PIECE_SIZE);
		size_t packed = codec_pack(b->context, packing[c], b->plain, PIECE_SIZE, b->packed, ROOM);
		for (size_t cap = 0; cap < packed; cap++) {
			unsigned char *exact = malloc(cap ? cap : 1); // so that a write past the end is seen
			size_t got = codec_pack(b->context, packing[c], b->plain, PIECE_SIZE, exact, cap);
			// A codec may come out shorter when it is short of room; then it is whole all the same.
			if (got) {
				assert_true(got <= cap);
				assert_int_equal(unpack_here(b, packing[c], exact, got, PIECE_SIZE, false), 0);
				assert_memory_equal(b->out, b->plain, PIECE_SIZE);
			}
			free(exact);
		}
		fill(b, NOISE, BLOCK_SIZE); // does not get smaller
		assert_int_equal(codec_pack(b->context, packing[c], b->plain, BLOCK_SIZE, b->packed, BLOCK_SIZE - 1),
				 0);
		fill(b, TEXT, BLOCK_SIZE); // and a failure leaves no trace in the context
		packed = codec_pack(b->context, packing[c], b->plain, BLOCK_SIZE, b->packed, BLOCK_SIZE);
		assert_int_equal(unpack_here(b, packing[c], b->packed, packed, BLOCK_SIZE, false), 0);
		assert_memory_equal(b->out, b->plain, BLOCK_SIZE);
	}
}

static void codec_refuses_every_truncation(void **state)
{
	struct bench *b = *state;
	for (int c = 0; c < PACKING; c++)
		for (enum kind kind = 0; kind < KINDS; kind++) {
			fill(b, kind, PIECE_SIZE);
			size_t packed = codec_pack(b->context, packing[c], b->plain, PIECE_SIZE, b->packed, ROOM);
			for (size_t cut = 0; cut < packed; cut++) {
				assert_int_equal(unpack_here(b, packing[c], b->packed, cut, PIECE_SIZE, false),
						 -EBADMSG);
				assert_int_equal(unpack_here(b, packing[c], b->packed, cut, PIECE_SIZE, true),
						 -EBADMSG);
			}
		}
}

static void codec_refuses_every_byte_behind_the_frame_unless_padding_is_expected(void **state)
{
	struct bench *b = *state;
	for (int c = 0; c < PACKING; c++) {
		fill(b, MIXED, 3 * PIECE_SIZE);
		size_t packed = codec_pack(b->context, packing[c], b->plain, 3 * PIECE_SIZE, b->packed, ROOM);
		for (unsigned byte = 0; byte < 256; byte++) {
			b->packed[packed] = (unsigned char)byte;
			assert_int_equal(unpack_here(b, packing[c], b->packed, packed + 1, 3 * PIECE_SIZE, false),
					 -EBADMSG);
			if (packing[c] == CODEC_LZ4) // has no end of its own, and is never stored
				continue;
			assert_int_equal(unpack_here(b, packing[c], b->packed, packed + 1, 3 * PIECE_SIZE, true), 0);
			assert_memory_equal(b->out, b->plain, 3 * PIECE_SIZE);
		}
		memset(b->packed + packed, 0, 511);
		int rc = unpack_here(b, packing[c], b->packed, packed + 511, 3 * PIECE_SIZE, true);
		assert_int_equal(rc, packing[c] == CODEC_LZ4 ? -EBADMSG : 0);
	}
}

static void codec_refuses_every_wrong_length(void **state)
{
	struct bench *b = *state;
	for (int c = 0; c < PACKING; c++)
		for (enum kind kind = 0; kind < KINDS; kind++) {
			fill(b, kind, PIECE_SIZE);
			size_t packed = codec_pack(b->context, packing[c], b->plain, PIECE_SIZE, b->packed, ROOM);
			for (size_t len = 0; len < 2 * PIECE_SIZE;
			     len += len < 32 || (len > PIECE_SIZE - 32 && len < PIECE_SIZE + 32) ? 1 : 29)
				for (int padded = 0; padded < 2; padded++)
					if (len != PIECE_SIZE)
						assert_int_equal(unpack_here(b, packing[c], b->packed, packed, len,
									     padded),
								 -EBADMSG);
			assert_int_equal(unpack_here(b, packing[c], b->packed, packed, BLOCK_SIZE, false), -EBADMSG);
		}
}

static void codec_refuses_two_frames_and_the_frames_of_others(void **state)
{
	struct bench *b = *state;
	for (int c = 0; c < PACKING; c++) {
		fill(b, TEXT, 2 * PIECE_SIZE);
		size_t first = codec_pack(b->context, packing[c], b->plain, PIECE_SIZE, b->packed, ROOM);
		size_t second = codec_pack(b->context, packing[c], b->plain + PIECE_SIZE, PIECE_SIZE, b->packed + first,
					   ROOM - first);
		assert_int_equal(unpack_here(b, packing[c], b->packed, first + second, 2 * PIECE_SIZE, false),
				 -EBADMSG);
		assert_int_equal(unpack_here(b, packing[c], b->packed, first + second, 2 * PIECE_SIZE, true), -EBADMSG);
		assert_int_equal(unpack_here(b, packing[c], b->packed, first + second, PIECE_SIZE, false), -EBADMSG);
		for (int other = 0; other < PACKING; other++)
			if (other != c)
				assert_int_equal(unpack_here(b, packing[other], b->packed, first, PIECE_SIZE, false),
						 -EBADMSG);
	}
	assert_int_equal(unpack_here(b, (enum codec)4, b->packed, 10, 10, false), -EBADMSG);
}

static size_t zstd_with(struct bench *b, size_t len, int window_log, bool dictionary)
{
	ZSTD_CCtx *zstd = ZSTD_createCCtx();
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, window_log)));
	assert_false(ZSTD_isError(
		ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, 0))); // or the window is the content's size
	if (dictionary) {
		static const char raw[] = "static int return block size if";
		assert_false(ZSTD_isError(ZSTD_CCtx_loadDictionary(zstd, raw, sizeof(raw))));
	}
	// In two steps, so that the frame's header is written before the size is known.
	ZSTD_inBuffer in = {b->plain, len, 0};
	ZSTD_outBuffer out = {b->packed, ROOM, 0};
	assert_false(ZSTD_isError(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_flush)));
	assert_int_equal(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_end), 0);
	(void)ZSTD_freeCCtx(zstd);
	return out.pos;
}

static void zstd_frames_that_ask_for_a_large_window_are_refused(void **state)
{
	struct bench *b = *state;
	fill(b, TEXT, BLOCK_SIZE);
	for (int log = 17; log <= 27; log++) {
		size_t packed = zstd_with(b, BLOCK_SIZE, log, false);
		assert_int_equal(unpack_here(b, CODEC_ZSTD, b->packed, packed, BLOCK_SIZE, false),
				 log <= 20 ? 0 : -EBADMSG);
	}
}

static void zstd_frames_that_need_a_dictionary_or_show_nothing_are_refused(void **state)
{
	struct bench *b = *state;
	fill(b, TEXT, PIECE_SIZE);
	size_t packed = codec_pack(b->context, CODEC_ZSTD, b->plain, PIECE_SIZE, b->packed + 8, ROOM - 8);
	put_le32(b->packed, 0x184d2a50); // RFC 8878, 3.1.2: a skippable frame, empty
	put_le32(b->packed + 4, 0);
	assert_int_equal(unpack_here(b, CODEC_ZSTD, b->packed, 8 + packed, PIECE_SIZE, false), -EBADMSG);
	assert_int_equal(unpack_here(b, CODEC_ZSTD, b->packed, 8 + packed, PIECE_SIZE, true), -EBADMSG);
	assert_int_equal(unpack_here(b, CODEC_ZSTD, b->packed, 8, 0, false), -EBADMSG);
	// RFC 8878, 3.1.1: single segment, four bytes in one raw block; without and with the id of a dictionary.
	static const unsigned char without[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, 'd', 'a', 't', 'a'};
	static const unsigned char with[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 5, 4, 0x21, 0, 0, 'd', 'a', 't', 'a'};
	assert_int_equal(unpack_here(b, CODEC_ZSTD, without, sizeof(without), 4, false), 0);
	assert_memory_equal(b->out, "data", 4);
	assert_int_equal(unpack_here(b, CODEC_ZSTD, with, sizeof(with), 4, false), -EBADMSG);
	packed = zstd_with(b, PIECE_SIZE, 17, true); // refers to content before its start
	assert_int_equal(unpack_here(b, CODEC_ZSTD, b->packed, packed, PIECE_SIZE, false), -EBADMSG);
}

static void zlib_streams_keep_to_the_window_that_qemu_inflates_with(void **state)
{
	struct bench *b = *state;
	// The same noise twice, further apart than 4 KiB: a longer window would find it.
	fill(b, NOISE, 3 * PIECE_SIZE);
	memcpy(b->plain + 2 * PIECE_SIZE, b->plain, PIECE_SIZE);
	size_t packed = codec_pack(b->context, CODEC_ZLIB, b->plain, 3 * PIECE_SIZE, b->packed, ROOM);
	assert_true(packed >= 3 * PIECE_SIZE);
}

static void bits_that_flip_never_make_a_write_out_of_bounds(void **state)
{
	struct bench *b = *state;
	for (int c = 0; c < PACKING; c++)
		for (enum kind kind = 0; kind < KINDS; kind++) {
			fill(b, kind, PIECE_SIZE + 100);
			size_t packed = codec_pack(b->context, packing[c], b->plain, PIECE_SIZE + 100, b->packed, ROOM);
			for (size_t bit = 0; bit < 8 * packed; bit += bit < 1024 ? 1 : 1 + draw_below(&b->seed, 97)) {
				b->packed[bit / 8] ^= (unsigned char)(1 << bit % 8);
				(void)unpack_here(b, packing[c], b->packed, packed, PIECE_SIZE + 100, bit & 1);
				b->packed[bit / 8] ^= (unsigned char)(1 << bit % 8);
			}
			assert_int_equal(unpack_here(b, packing[c], b->packed, packed, PIECE_SIZE + 100, false), 0);
			assert_memory_equal(b->out, b->plain, PIECE_SIZE + 100); // and the context is as good as new
		}
}

static void noise_never_makes_a_write_out_of_bounds(void **state)
{
	struct bench *b = *state;
	for (int round = 0; round < 20000; round++) {
		size_t len = 1 + draw_below(&b->seed, 200);
		for (size_t i = 0; i < len; i++)
			b->packed[i] = (unsigned char)draw(&b->seed);
		if (round & 1)
			put_le32(b->packed, 0xfd2fb528); // RFC 8878, 3.1.1
		for (int c = 0; c < PACKING; c++)
			(void)unpack_here(b, packing[c], b->packed, len, draw_below(&b->seed, 300), round & 2);
	}
}

static void codec_names_read_back(void **state)
{
	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		enum codec codec = CODEC_NONE;
		assert_true(codec_known(n));
		assert_true(codec_read(codec_name((enum codec)n), &codec));
		assert_int_equal(codec, n);
	}
	enum codec kept = CODEC_LZ4;
	assert_false(codec_known(4));
	assert_string_equal(codec_name((enum codec)4), "unknown");
	assert_false(codec_read("unknown", &kept) || codec_read("", &kept) || codec_read("ZSTD", &kept));
	assert_int_equal(kept, CODEC_LZ4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(codec_gives_back_what_was_packed, setup, teardown),
		cmocka_unit_test_setup_teardown(codec_none_is_never_packed_and_comes_back_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(codec_packs_nothing_into_too_little_room, setup, teardown),
		cmocka_unit_test_setup_teardown(codec_refuses_every_truncation, setup, teardown),
		cmocka_unit_test_setup_teardown(codec_refuses_every_byte_behind_the_frame_unless_padding_is_expected,
						setup, teardown),
		cmocka_unit_test_setup_teardown(codec_refuses_every_wrong_length, setup, teardown),
		cmocka_unit_test_setup_teardown(codec_refuses_two_frames_and_the_frames_of_others, setup, teardown),
		cmocka_unit_test_setup_teardown(zstd_frames_that_ask_for_a_large_window_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(zstd_frames_that_need_a_dictionary_or_show_nothing_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(zlib_streams_keep_to_the_window_that_qemu_inflates_with, setup,
						teardown),
		cmocka_unit_test_setup_teardown(bits_that_flip_never_make_a_write_out_of_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(noise_never_makes_a_write_out_of_bounds, setup, teardown),
		cmocka_unit_test(codec_names_read_back),
	};
	return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
