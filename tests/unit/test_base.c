// SPDX-License-Identifier: Apache-2.0
// The small things that everything else rests on: cursor, names, sizes, zeros, checksum, instants, errors.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/names.h"
#include "base/size.h"
#include "base/when.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

// --- cursor ---

static void cursor_reads_what_it_wrote_in_little_endian(void **state)
{
	(void)state;
	unsigned char buf[2 + 4 + 8 + 1 + 3 + 2 + 5];
	struct cursor c = cursor_over(buf, sizeof(buf));
	cursor_put_u16(&c, 0x0102);
	cursor_put_u32(&c, 0x03040506);
	cursor_put_u64(&c, UINT64_C(0x0708090a0b0c0d0e));
	cursor_put_u8(&c, 0x0f);
	cursor_put_bytes(&c, "abc", 3);
	cursor_put_string(&c, "hello");
	assert_true(cursor_done(&c));
	static const unsigned char expected[] = {2, 1,	  6,   5,   4,	 3, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 9,  8,
						 7, 0x0f, 'a', 'b', 'c', 5, 0,	  'h',	'e',  'l',  'l',  'o'};
	assert_memory_equal(buf, expected, sizeof(expected));
	c = cursor_reading(buf, sizeof(buf));
	char text[6], bytes[3];
	assert_int_equal(cursor_get_u16(&c), 0x0102);
	assert_int_equal(cursor_get_u32(&c), 0x03040506);
	assert_true(cursor_get_u64(&c) == UINT64_C(0x0708090a0b0c0d0e));
	assert_int_equal(cursor_get_u8(&c), 0x0f);
	cursor_get_bytes(&c, bytes, 3);
	assert_memory_equal(bytes, "abc", 3);
	assert_false(cursor_done(&c));
	cursor_get_string(&c, text, sizeof(text));
	assert_string_equal(text, "hello");
	assert_true(cursor_done(&c));
}

static void cursor_that_went_bad_stays_bad_and_yields_zeros(void **state)
{
	(void)state;
	unsigned char buf[4] = {0xff, 0xff, 0xff, 0xff};
	struct cursor c = cursor_reading(buf, sizeof(buf));
	char text[8] = "before";
	unsigned char bytes[2] = {1, 1};
	assert_int_equal(cursor_get_u8(&c), 0xff);
	assert_int_equal(cursor_get_u32(&c), 0); // three are left
	assert_false(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), 0);
	assert_int_equal(cursor_get_u8(&c), 0); // would have fit
	assert_int_equal(cursor_get_u16(&c), 0);
	assert_true(cursor_get_u64(&c) == 0);
	assert_null(cursor_take(&c, 0));
	cursor_get_bytes(&c, bytes, 2);
	assert_true(bytes_zero(bytes, 2));
	cursor_get_string(&c, text, sizeof(text));
	assert_string_equal(text, "");
	assert_false(cursor_done(&c));
}

static void cursor_writes_nothing_past_its_end(void **state)
{
	(void)state;
	for (size_t cap = 0; cap < 8; cap++) {
		unsigned char *exact = malloc(cap ? cap : 1); // so that a write past the end is seen
		struct cursor c = cursor_over(exact, cap);
		cursor_put_u64(&c, UINT64_MAX);
		assert_false(cursor_ok(&c));
		cursor_put_u8(&c, 7);
		cursor_put_string(&c, "");
		cursor_put_bytes(&c, "x", 1);
		assert_false(cursor_ok(&c));
		free(exact);
	}
	struct cursor none = cursor_over(NULL, 0);
	assert_true(cursor_done(&none));
	cursor_put_bytes(&none, NULL, 0);
	assert_true(cursor_done(&none));
	assert_null(cursor_take(&none, SIZE_MAX));
}

static int string_read(const unsigned char *from, size_t len, char *to, size_t cap)
{
	struct cursor c = cursor_reading(from, len);
	cursor_get_string(&c, to, cap);
	return cursor_done(&c);
}

static void cursor_strings_with_a_nul_or_too_long_are_bad(void **state)
{
	(void)state;
	char text[4];
	static const unsigned char good[] = {3, 0, 'a', 'b', 'c'}, nul[] = {3, 0, 'a', 0, 'c'}, nul_last[] = {1, 0, 0};
	static const unsigned char longer[] = {4, 0, 'a', 'b', 'c', 'd'}, cut[] = {3, 0, 'a', 'b'},
				   huge[] = {0xff, 0xff, 'a'};
	assert_true(string_read(good, sizeof(good), text, sizeof(text)));
	assert_string_equal(text, "abc");
	assert_false(string_read(nul, sizeof(nul), text, sizeof(text)));
	assert_string_equal(text, "");
	assert_false(string_read(nul_last, sizeof(nul_last), text, sizeof(text)));
	assert_false(string_read(longer, sizeof(longer), text, sizeof(text)));
	assert_false(string_read(cut, sizeof(cut), text, sizeof(text)));
	assert_false(string_read(huge, sizeof(huge), text, sizeof(text)));
	assert_false(string_read(good, 1, text, sizeof(text)));
}

// --- names ---

static void name_of_one_byte_is_a_letter_or_a_digit(void **state)
{
	(void)state;
	for (unsigned byte = 0; byte < 256; byte++) {
		char name[2] = {(char)byte, 0};
		bool expected = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9');
		assert_int_equal(name_ok(name), expected);
	}
}

static void name_has_letters_digits_dots_underscores_and_dashes_further_on(void **state)
{
	(void)state;
	for (size_t at = 1; at < 4; at++)
		for (unsigned byte = 1; byte < 256; byte++) {
			char name[] = "vm11";
			name[at] = (char)byte;
			bool expected = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '.' ||
					byte == '_' || byte == '-';
			assert_int_equal(name_ok(name), expected);
		}
}

static void name_has_1_to_63_bytes(void **state)
{
	(void)state;
	for (size_t len = 0; len <= 300; len++) {
		char name[301];
		memset(name, 'a', len);
		name[len] = 0;
		assert_int_equal(name_ok(name), len >= 1 && len <= 63);
	}
}

static void uuid_reads_back_what_was_formatted(void **state)
{
	(void)state;
	struct uuid null = {{0}}, a, b, back;
	char text[UUID_TEXT_SIZE];
	assert_int_equal(uuid_new(env_posix(), &a), 0);
	assert_int_equal(uuid_new(env_posix(), &b), 0);
	assert_false(uuid_equal(&a, &b));
	assert_int_equal(a.bytes[6] >> 4, 4); // RFC 4122: version 4
	assert_int_equal(a.bytes[8] >> 6, 2);
	assert_true(uuid_is_zero(&null) && !uuid_is_zero(&a));
	uuid_format(&a, text);
	assert_int_equal(strlen(text), UUID_TEXT_SIZE - 1);
	assert_true(uuid_read(text, &back));
	assert_true(uuid_equal(&a, &back));
	for (int i = 0; i < UUID_SIZE; i++)
		a.bytes[i] = (unsigned char)(0x11 * i);
	uuid_format(&a, text);
	assert_string_equal(text, "00112233-4455-6677-8899-aabbccddeeff");
}

static void uuid_that_is_none_is_refused_and_stores_nothing(void **state)
{
	(void)state;
	static const char good[] = "00112233-4455-6677-8899-aabbccddeeff";
	struct uuid kept = {{1, 2, 3}}, uuid = kept;
	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		char text[sizeof(good)] = "";
		memcpy(text, good, len);
		assert_false(uuid_read(text, &uuid));
	}
	for (size_t at = 0; at < sizeof(good) - 1; at++) {
		char text[sizeof(good)];
		memcpy(text, good, sizeof(good));
		text[at] = good[at] == '-' ? '0' : 'g';
		assert_false(uuid_read(text, &uuid));
	}
	assert_false(uuid_read("00112233-4455-6677-8899-aabbccddeeff0", &uuid));
	assert_true(uuid_equal(&uuid, &kept));
}

// --- sizes ---

static void size_within_does_not_wrap(void **state)
{
	(void)state;
	assert_true(size_within(0, 0, 0));
	assert_true(size_within(10, 0, 10));
	assert_true(size_within(0, 10, 10));
	assert_true(size_within(4, 6, 10));
	assert_false(size_within(4, 7, 10));
	assert_false(size_within(11, 0, 10));
	assert_false(size_within(1, UINT64_MAX, 10)); // their sum is 0
	assert_false(size_within(UINT64_MAX, 1, 10));
	assert_false(size_within(UINT64_MAX, UINT64_MAX, UINT64_MAX));
	assert_true(size_within(UINT64_MAX, 0, UINT64_MAX));
	assert_true(size_within(0, UINT64_MAX, UINT64_MAX));
	assert_true(size_within(1, UINT64_MAX - 1, UINT64_MAX));
	for (uint64_t size = 0; size < 9; size++) // against plain arithmetic
		for (uint64_t off = 0; off < 11; off++)
			for (uint64_t len = 0; len < 11; len++)
				assert_int_equal(size_within(off, len, size), off + len <= size);
}

static void sizes_of_disks_are_whole_sectors_up_to_64_tib(void **state)
{
	(void)state;
	assert_false(size_disk_ok(0));
	assert_false(size_disk_ok(511));
	assert_true(size_disk_ok(512));
	assert_false(size_disk_ok(513));
	assert_true(size_disk_ok(DISK_SIZE_MAX));
	assert_false(size_disk_ok(DISK_SIZE_MAX + 512));
	assert_false(size_disk_ok(UINT64_MAX - 511)); // a multiple of 512
}

static void last_block_and_region_may_be_parts(void **state)
{
	(void)state;
	assert_int_equal(size_blocks(0), 0);
	assert_int_equal(size_blocks(512), 1);
	assert_int_equal(size_blocks(BLOCK_SIZE), 1);
	assert_int_equal(size_blocks(BLOCK_SIZE + 512), 2);
	assert_true(size_blocks(UINT64_MAX) == (UINT64_C(1) << 48));
	assert_int_equal(size_regions(REGION_SIZE), 1);
	assert_int_equal(size_regions(REGION_SIZE + 512), 2);
	assert_int_equal(size_of_block(BLOCK_SIZE + 512, 0), BLOCK_SIZE);
	assert_int_equal(size_of_block(BLOCK_SIZE + 512, 1), 512);
	assert_int_equal(size_of_block(2 * BLOCK_SIZE, 1), BLOCK_SIZE);
	assert_int_equal(size_round_up(0, 512), 0);
	assert_int_equal(size_round_up(1, 512), 512);
	assert_int_equal(size_round_up(512, 512), 512);
}

// --- zeros, checksum ---

static void zeros_are_told_from_one_set_bit_at_each_place_and_length(void **state)
{
	(void)state;
	enum { LENGTH = 150 };
	for (size_t len = 0; len <= LENGTH; len++) {
		unsigned char *exact = calloc(1, len ? len : 1); // so that a read past the end is seen
		assert_true(bytes_zero(exact, len));
		for (size_t bit = 0; bit < 8 * len; bit++) {
			exact[bit / 8] = (unsigned char)(1 << bit % 8);
			assert_false(bytes_zero(exact, len));
			exact[bit / 8] = 0;
		}
		free(exact);
	}
	unsigned char *block = calloc(1, BLOCK_SIZE);
	assert_true(bytes_zero(block, BLOCK_SIZE));
	for (size_t at = 0; at < BLOCK_SIZE; at += at < 64 || at > BLOCK_SIZE - 64 ? 1 : 509) {
		block[at] = 0x80;
		assert_false(bytes_zero(block, BLOCK_SIZE));
		block[at] = 0;
	}
	free(block);
}

static void crc32c_is_that_of_rfc_3720(void **state)
{
	(void)state;
	unsigned char data[32];
	assert_int_equal(crc32c("123456789", 9), 0xe3069283);
	assert_int_equal(crc32c("", 0), 0);
	memset(data, 0, sizeof(data)); // appendix B.4
	assert_int_equal(crc32c(data, sizeof(data)), 0x8a9136aa);
	memset(data, 0xff, sizeof(data));
	assert_int_equal(crc32c(data, sizeof(data)), 0x62a8ab43);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)i;
	assert_int_equal(crc32c(data, sizeof(data)), 0x46dd794e);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (unsigned char)(31 - i);
	assert_int_equal(crc32c(data, sizeof(data)), 0x113fdb5c);
}

// --- instants ---

static void instants_are_rfc_3339_in_utc_with_milliseconds(void **state)
{
	(void)state;
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{999999, "1970-01-01T00:00:00.000Z"},
		{1000000, "1970-01-01T00:00:00.001Z"},
		{INT64_C(999999999), "1970-01-01T00:00:00.999Z"},
		{INT64_C(951782400) * 1000000000, "2000-02-29T00:00:00.000Z"},
		{INT64_C(1769860800123456789), "2026-01-31T12:00:00.123Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854Z"},
		{-1, "1970-01-01T00:00:00.000Z"},
		{INT64_MIN, "1970-01-01T00:00:00.000Z"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[WHEN_SIZE];
		when_format(cases[i].ns, text);
		assert_string_equal(text, cases[i].text);
	}
}

// --- errors ---

static void error_gathers_context_as_it_rises(void **state)
{
	(void)state;
	struct err err = {0};
	assert_int_equal(err_set(&err, -EBADMSG, "field %d", 7), -EBADMSG);
	assert_int_equal(err_wrap(&err, "point %d", 42), -EBADMSG);
	assert_int_equal(err_wrap(&err, "store"), -EBADMSG);
	assert_string_equal(err.text, "store: point 42: field 7");
	assert_int_equal(err_sys(&err, -ENOENT, "open %s", "x"), -ENOENT);
	assert_string_equal(err.text, "open x: No such file or directory");
	assert_int_equal(err.code, -ENOENT);
}

static void error_that_nobody_wants_still_has_its_code(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EPERM, "no"), -EPERM);
	assert_int_equal(err_sys(NULL, -EPERM, "no"), -EPERM);
	assert_true(err_wrap(NULL, "no") < 0);
	struct err unset = {0};
	assert_int_equal(err_wrap(&unset, "outer"), -EIO); // wrapped although nothing was set: still a failure
}

static void error_text_is_cut_at_its_end_and_not_past_it(void **state)
{
	(void)state;
	char longest[2 * ERR_TEXT_MAX];
	struct {
		struct err err;
		unsigned char guard[16];
	} e;
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = 0;
	memset(&e, 0xee, sizeof(e));
	for (size_t len = ERR_TEXT_MAX - 40; len < ERR_TEXT_MAX + 3; len++) {
		assert_int_equal(err_sys(&e.err, -EIO, "%s", longest + sizeof(longest) - 1 - len), -EIO);
		assert_true(strlen(e.err.text) < ERR_TEXT_MAX);
		assert_int_equal(err_wrap(&e.err, "%.*s", (int)(len / 2), longest), -EIO);
		assert_int_equal(strlen(e.err.text), ERR_TEXT_MAX - 1);
		assert_memory_equal(e.err.text + len / 2, ": x", 3);
	}
	assert_int_equal(err_wrap(&e.err, "%s", longest), -EIO);
	assert_int_equal(strlen(e.err.text), ERR_TEXT_MAX - 1);
	for (size_t i = 0; i < sizeof(e.guard); i++)
		assert_int_equal(e.guard[i], 0xee);
}

// --- log ---

// What a line of the log with `text` in it says after "error: ".
static void logged(const char *text, char said[256])
{
	FILE *file = tmpfile();
	assert_non_null(file);
	int old = dup(STDERR_FILENO);
	assert_true(old >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
	log_error("%s", text);
	assert_true(dup2(old, STDERR_FILENO) >= 0);
	(void)close(old);
	char line[512];
	rewind(file);
	size_t len = fread(line, 1, sizeof(line) - 1, file);
	(void)fclose(file);
	line[len] = 0;
	const char *at = strstr(line, "error: ");
	assert_non_null(at);
	(void)snprintf(said, 256, "%s", at + strlen("error: "));
}

static void log_line_lets_no_control_byte_through(void **state)
{
	(void)state;
	static const struct {
		const char *text, *said;
	} lines[] = {
		{"two\nlines\r\x1b[2J", "two?lines??[2J\n"},
		{"del \x7f.", "del ?.\n"},
		{"C1 \xc2\x9b"
		 "31m and \x9b"
		 "31m",
		 "C1 ??31m and ?31m\n"},
		{"\xc2\xa0 \xe9\x8f\xa1 \xf0\x9f\x98\x80 \xc3\xa9", "\xc2\xa0 \xe9\x8f\xa1 \xf0\x9f\x98\x80 \xc3\xa9\n"}, // text stays
		{"\xc0\x9b \xe0\x80\x9b \xf0\x80\x80\x9b", "?? ??? ????\n"}, // controls, longer than they need be
		{"\xed\xa0\x80 \xf4\x90\x80\x80 \xff", "??? ???? ?\n"},
		{"cut \xe9\x8f", "cut ??\n"},
	};
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char said[256];
		logged(lines[i].text, said);
		assert_string_equal(said, lines[i].said);
	}
}

static void directory_that_cannot_be_had_is_told_with_what_to_do(void **state)
{
	static const struct {
		int code;
		const char *says;
	} table[] = {
		{-ENOENT, "there is no store directory /x: make it first (mkdir -m 0700 /x), or mount what it is on"},
		{-ENOTDIR, "the store /x is not a directory: name one"},
		{-EROFS, "the store directory /x is on a file system that is read-only: mount it for writing"},
		{-EACCES, "this user may not write the store directory /x: run as the user that it belongs to"},
		{-EPERM, "this user may not write the store directory /x: run as the user that it belongs to"},
		{-EIO, "open the store directory /x: Input/output error"},
	};
	struct err err;
	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		assert_int_equal(err_directory(&err, table[i].code, "store", "/x"), table[i].code);
		assert_int_equal(err.code, table[i].code);
		assert_ptr_equal(strstr(err.text, table[i].says), err.text);
	}
	assert_int_equal(err_directory(NULL, -EROFS, "store", "/x"), -EROFS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cursor_reads_what_it_wrote_in_little_endian),
		cmocka_unit_test(directory_that_cannot_be_had_is_told_with_what_to_do),
		cmocka_unit_test(cursor_that_went_bad_stays_bad_and_yields_zeros),
		cmocka_unit_test(cursor_writes_nothing_past_its_end),
		cmocka_unit_test(cursor_strings_with_a_nul_or_too_long_are_bad),
		cmocka_unit_test(name_of_one_byte_is_a_letter_or_a_digit),
		cmocka_unit_test(name_has_letters_digits_dots_underscores_and_dashes_further_on),
		cmocka_unit_test(name_has_1_to_63_bytes),
		cmocka_unit_test(uuid_reads_back_what_was_formatted),
		cmocka_unit_test(uuid_that_is_none_is_refused_and_stores_nothing),
		cmocka_unit_test(size_within_does_not_wrap),
		cmocka_unit_test(sizes_of_disks_are_whole_sectors_up_to_64_tib),
		cmocka_unit_test(last_block_and_region_may_be_parts),
		cmocka_unit_test(zeros_are_told_from_one_set_bit_at_each_place_and_length),
		cmocka_unit_test(crc32c_is_that_of_rfc_3720),
		cmocka_unit_test(instants_are_rfc_3339_in_utc_with_milliseconds),
		cmocka_unit_test(error_gathers_context_as_it_rises),
		cmocka_unit_test(error_that_nobody_wants_still_has_its_code),
		cmocka_unit_test(log_line_lets_no_control_byte_through),
		cmocka_unit_test(error_text_is_cut_at_its_end_and_not_past_it),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
