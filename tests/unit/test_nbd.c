// SPDX-License-Identifier: Apache-2.0
// The NBD protocol as bytes: what a client may send, and what it must not get away with.
#include "replicator/nbd.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct nbd_export exports[] = {
	{.name = "vda", .size = 1 << 20},
	{.name = "vdb", .size = 2 << 20, .read_only = true},
};

static struct nbd_handshake in_options(void)
{
	struct nbd_handshake h;
	unsigned char flags[4], answer[NBD_ANSWER_MAX];
	size_t answered;
	nbd_handshake_init(&h, exports, 2);
	put_be32(flags, 3);
	assert_int_equal(nbd_handshake_step(&h, flags, 4, answer, &answered), 0);
	assert_int_equal(h.state, NBD_OPTIONS);
	return h;
}

static size_t option_build(unsigned char *to, uint32_t option, const void *data, uint32_t len)
{
	memcpy(to, "IHAVEOPT", 8);
	put_be32(to + 8, option);
	put_be32(to + 12, len);
	if (len)
		memcpy(to + 16, data, len);
	return 16 + len;
}

struct told {
	uint32_t first, last; // types of the first and the last reply
	unsigned replies;
	int code;
};

// Sends an option and reads all the replies to it.
static struct told tell(struct nbd_handshake *h, uint32_t option, const void *data, uint32_t len)
{
	unsigned char in[512], answer[NBD_ANSWER_MAX];
	size_t size = option_build(in, option, data, len), need, answered;
	struct told told = {0};
	assert_int_equal(nbd_handshake_need(h, in, size, &need), 0);
	assert_int_equal(need, size);
	told.code = nbd_handshake_step(h, in, size, answer, &answered);
	for (size_t at = 0; at < answered && option != 1;) {
		assert_true(get_be64(answer + at) == UINT64_C(0x0003e889045565a9));
		assert_int_equal(get_be32(answer + at + 8), option);
		told.last = get_be32(answer + at + 12);
		if (!told.replies++)
			told.first = told.last;
		at += 20 + get_be32(answer + at + 16);
		assert_true(at <= answered);
	}
	return told;
}

// u32 length, name, and what follows.
static uint32_t named(unsigned char *to, const char *name, const void *more, uint32_t len)
{
	uint32_t name_len = (uint32_t)strlen(name);
	put_be32(to, name_len);
	memcpy(to + 4, name, name_len);
	memcpy(to + 4 + name_len, more, len);
	return 4 + name_len + len;
}

static uint32_t context_data(unsigned char *to, const char *name, const char *query)
{
	unsigned char more[64];
	put_be32(more, 1);
	put_be32(more + 4, (uint32_t)strlen(query));
	memcpy(more + 8, query, strlen(query));
	return named(to, name, more, 8 + (uint32_t)strlen(query));
}

#define ERR_UNSUP 0x80000001u
#define ERR_INVALID 0x80000003u
#define ERR_UNKNOWN 0x80000006u

static void nbd_go_chooses_the_export_and_ends_the_handshake(void **unused)
{
	(void)unused;
	unsigned char data[64];
	struct nbd_handshake h = in_options();
	struct told t = tell(&h, 6, data, named(data, "vdb", "\0\0", 2));
	assert_int_equal(t.last, 1);
	assert_int_equal(h.state, NBD_OPTIONS);
	t = tell(&h, 7, data, named(data, "vdb", "\0\1\0\1", 4));
	assert_int_equal(t.first, 3);
	assert_int_equal(t.last, 1);
	assert_int_equal(t.replies, 4); // export, block size, the name that was asked for, ack
	assert_int_equal(h.state, NBD_TRANSMISSION);
	assert_int_equal(h.chosen, 1);
}

static void nbd_export_name_needs_a_name_that_exists(void **unused)
{
	(void)unused;
	struct nbd_handshake h = in_options();
	assert_int_equal(tell(&h, 1, "vdb", 3).code, 0);
	assert_int_equal(h.state, NBD_TRANSMISSION);
	h = in_options();
	assert_int_equal(tell(&h, 1, "vdc", 3).code, -EBADMSG);
	h = in_options();
	assert_int_equal(tell(&h, 1, "", 0).code, -EBADMSG); // two exports: there is no default
}

static void nbd_refused_options_leave_the_handshake_alive(void **unused)
{
	(void)unused;
	unsigned char data[64];
	struct nbd_handshake h = in_options();
	assert_int_equal(tell(&h, 5, NULL, 0).last, ERR_UNSUP);
	assert_int_equal(tell(&h, 4711, "abc", 3).last, ERR_UNSUP);
	assert_int_equal(tell(&h, 3, "x", 1).last, ERR_INVALID);
	assert_int_equal(tell(&h, 8, "x", 1).last, ERR_INVALID);
	assert_int_equal(tell(&h, 7, data, named(data, "nope", "\0\0", 2)).last, ERR_UNKNOWN);
	assert_int_equal(tell(&h, 10, data, context_data(data, "vda", "base:allocation")).last, ERR_INVALID);
	assert_int_equal(h.state, NBD_OPTIONS);
	assert_int_equal(tell(&h, 3, NULL, 0).replies, 3);
	assert_int_equal(tell(&h, 2, NULL, 0).last, 1);
	assert_int_equal(h.state, NBD_CLOSING);
}

static void nbd_context_counts_only_for_the_export_it_was_set_for(void **unused)
{
	(void)unused;
	unsigned char data[128];
	struct nbd_handshake h = in_options();
	assert_int_equal(tell(&h, 8, NULL, 0).last, 1);
	assert_int_equal(tell(&h, 9, data, context_data(data, "vda", "base:")).first, 4);
	assert_int_equal(tell(&h, 10, data, context_data(data, "vda", "base:")).first, 1); // only exact names are set
	assert_int_equal(tell(&h, 10, data, context_data(data, "vda", "base:allocation")).first, 4);
	struct nbd_handshake other = h;
	(void)tell(&h, 7, data, named(data, "vda", "\0\0", 2));
	assert_true(h.context);
	(void)tell(&other, 7, data, named(data, "vdb", "\0\0", 2));
	assert_false(other.context);
}

static void nbd_every_truncated_option_is_refused_or_waited_for(void **unused)
{
	(void)unused;
	unsigned char data[128], in[256], answer[NBD_ANSWER_MAX];
	const uint32_t options[] = {6, 7, 9, 10};
	for (unsigned o = 0; o < 4; o++) {
		uint32_t whole = options[o] < 8 ? named(data, "vda", "\0\1\0\3", 4) : context_data(data, "vda", "base:allocation");
		for (uint32_t len = 0; len < whole; len++) {
			struct nbd_handshake h = in_options();
			h.structured = true;
			assert_int_equal(tell(&h, options[o], data, len).last, ERR_INVALID);
			assert_int_equal(h.state, NBD_OPTIONS);
		}
		size_t size = option_build(in, options[o], data, whole), need, answered;
		for (size_t have = 0; have < size; have++) {
			struct nbd_handshake h = in_options();
			assert_int_equal(nbd_handshake_need(&h, in, have, &need), 0);
			assert_true(need > have);
		}
		data[whole] = 0; // one byte too many
		struct nbd_handshake h = in_options();
		h.structured = true;
		assert_int_equal(tell(&h, options[o], data, whole + 1).last, ERR_INVALID);
		in[0] ^= 1;
		assert_int_equal(nbd_handshake_step(&h, in, size, answer, &answered), -EBADMSG);
	}
}

static void nbd_lengths_that_lie_are_refused(void **unused)
{
	(void)unused;
	unsigned char data[64] = {0}, in[16];
	size_t need;
	struct nbd_handshake h = in_options();
	h.structured = true;
	put_be32(data, UINT32_MAX);
	assert_int_equal(tell(&h, 7, data, 16).last, ERR_INVALID);
	uint32_t len = named(data, "vda", "\xff\xff\xff\xff", 4);
	assert_int_equal(tell(&h, 10, data, len).last, ERR_INVALID);
	len = named(data, "vda", "\xff\xff", 2);
	assert_int_equal(tell(&h, 7, data, len).last, ERR_INVALID);
	(void)option_build(in, 3, NULL, 0);
	put_be32(in + 12, NBD_OPTION_DATA_MAX + 1);
	assert_int_equal(nbd_handshake_need(&h, in, 16, &need), -EBADMSG);
	put_be32(in + 12, NBD_OPTION_DATA_MAX);
	assert_int_equal(nbd_handshake_need(&h, in, 16, &need), 0);
}

static void option_that_is_too_long_is_refused_and_passed_over(void **unused)
{
	(void)unused;
	unsigned char in[16], answer[NBD_ANSWER_MAX];
	size_t answered = 0;
	uint32_t skip = 0;
	struct nbd_handshake h = in_options(), new;
	(void)option_build(in, 7, NULL, 0);
	static const struct {
		uint32_t len;
		bool passed;
	} table[] = {{0, false}, {NBD_OPTION_DATA_MAX, false}, {NBD_OPTION_DATA_MAX + 1, true}, {NBD_OPTION_SKIP_MAX, true}, {NBD_OPTION_SKIP_MAX + 1, false}, {UINT32_MAX, false}};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		put_be32(in + 12, table[i].len);
		if (nbd_handshake_too_big(&h, in, 16, answer, &answered, &skip) != table[i].passed)
			fail_msg("row %zu", i);
		assert_false(nbd_handshake_too_big(&h, in, 15, answer, &answered, &skip));
		if (!table[i].passed)
			continue;
		assert_int_equal(skip, table[i].len);
		assert_int_equal(get_be32(answer + 8), 7);
		assert_int_equal(get_be32(answer + 12), 0x80000009);
		assert_int_equal(answered, 20 + get_be32(answer + 16));
	}
	put_be32(in + 12, NBD_OPTION_DATA_MAX + 1);
	in[0] ^= 1;
	assert_false(nbd_handshake_too_big(&h, in, 16, answer, &answered, &skip));
	in[0] ^= 1;
	nbd_handshake_init(&new, exports, 2); // no flags yet
	assert_false(nbd_handshake_too_big(&new, in, 16, answer, &answered, &skip));
}

// Its answer has no room for a refusal: the first bytes of one would be taken for a size and flags.
static void export_name_that_is_too_long_ends_the_connection(void **unused)
{
	(void)unused;
	unsigned char in[16], answer[NBD_ANSWER_MAX];
	const uint32_t lens[] = {NBD_OPTION_DATA_MAX + 1, NBD_OPTION_SKIP_MAX, UINT32_MAX};
	struct nbd_handshake h = in_options();
	(void)option_build(in, 1, NULL, 0);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		size_t answered, need;
		uint32_t skip;
		put_be32(in + 12, lens[i]);
		assert_false(nbd_handshake_too_big(&h, in, 16, answer, &answered, &skip));
		assert_int_equal(nbd_handshake_need(&h, in, 16, &need), -EBADMSG);
	}
}

static void nbd_client_flags_we_do_not_know_end_the_connection(void **unused)
{
	(void)unused;
	unsigned char answer[NBD_ANSWER_MAX], flags[4];
	size_t answered;
	const uint32_t bad[] = {0, 2, 4, 7, UINT32_MAX};
	for (unsigned i = 0; i < 5; i++) {
		struct nbd_handshake h;
		nbd_handshake_init(&h, exports, 2);
		put_be32(flags, bad[i]);
		assert_int_equal(nbd_handshake_step(&h, flags, 4, answer, &answered), -EBADMSG);
	}
}

static void nbd_list_of_the_most_and_longest_names_fits_its_answer(void **unused)
{
	(void)unused;
	static struct nbd_export many[DISKS_MAX];
	for (unsigned i = 0; i < DISKS_MAX; i++) {
		memset(many[i].name, 'a', NAME_SIZE - 1);
		many[i].size = 512;
	}
	struct nbd_handshake h = in_options();
	h.exports = many;
	h.count = DISKS_MAX;
	assert_int_equal(tell(&h, 3, NULL, 0).replies, DISKS_MAX + 1);
}

static struct nbd_request request(unsigned command, unsigned flags, uint64_t off, uint32_t len)
{
	return (struct nbd_request){.command = (uint16_t)command, .flags = (uint16_t)flags, .off = off, .len = len};
}

static int check(const struct nbd_export *export, unsigned command, unsigned flags, uint64_t off, uint32_t len)
{
	struct nbd_request r = request(command, flags, off, len);
	struct nbd_handshake agreed = {.exports = export, .count = 1, .size = export->size, .structured = true, .context = true};
	return nbd_request_check(&r, &agreed);
}

static void nbd_requests_outside_the_disk_or_the_rules_are_refused(void **unused)
{
	(void)unused;
	const struct nbd_export *a = &exports[0], *ro = &exports[1];
	assert_int_equal(check(a, NBD_READ, 0, 0, 1 << 20), 0);
	assert_int_equal(check(a, NBD_READ, 0, 1, 1 << 20), -EINVAL);
	assert_int_equal(check(a, NBD_READ, 0, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(check(a, NBD_READ, 0, 0, 0), -EINVAL);
	assert_int_equal(check(a, NBD_WRITE, NBD_FLAG_FUA, (1 << 20) - 1, 1), 0);
	assert_int_equal(check(a, NBD_WRITE, 0, (1 << 20) - 1, 2), -ENOSPC);
	assert_int_equal(check(a, NBD_WRITE, 0, UINT64_MAX - 1, UINT32_MAX), -EINVAL);
	assert_int_equal(check(a, NBD_WRITE, 0, 0, NBD_PAYLOAD_MAX + 1), -EINVAL);
	assert_int_equal(check(a, NBD_READ, NBD_FLAG_DF, 0, NBD_PAYLOAD_MAX + 1), -EOVERFLOW);
	assert_int_equal(check(a, NBD_WRITE, NBD_FLAG_NO_HOLE, 0, 512), -EINVAL);
	assert_int_equal(check(a, NBD_WRITE_ZEROES, NBD_FLAG_NO_HOLE | NBD_FLAG_FAST_ZERO, 0, 512), 0);
	assert_int_equal(check(a, NBD_WRITE_ZEROES, 0, 0, UINT32_MAX), -ENOSPC);
	assert_int_equal(check(a, NBD_TRIM, 0, 0, UINT32_MAX), -EINVAL);
	assert_int_equal(check(a, NBD_FLUSH, 0, 0, 0), 0);
	assert_int_equal(check(a, NBD_FLUSH, 0, 0, 1), -EINVAL);
	assert_int_equal(check(a, 8, 0, 0, 1), -EINVAL);
	assert_int_equal(check(a, NBD_CACHE, 0, 0, UINT32_MAX), -EINVAL);
	assert_int_equal(check(a, NBD_CACHE, 0, 512, 512), 0);
	assert_int_equal(check(a, NBD_CACHE, 0, 0, 0), -EINVAL);
	assert_int_equal(check(a, NBD_CACHE, 0, UINT64_MAX, 512), -EINVAL);
	assert_int_equal(check(a, NBD_CACHE, NBD_FLAG_DF, 0, 512), -EINVAL);
	assert_int_equal(check(a, 0xffff, 0, 0, 1), -EINVAL);
	assert_int_equal(check(a, NBD_READ, 0x8000, 0, 1), -EINVAL);
	const unsigned writing[] = {NBD_WRITE, NBD_TRIM, NBD_WRITE_ZEROES};
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(check(ro, writing[i], 0, 0, 512), -EPERM);
	assert_int_equal(check(ro, NBD_READ, 0, 0, 512), 0);
	struct nbd_request status = request(NBD_BLOCK_STATUS, 0, 0, 512);
	struct nbd_handshake agreed = {.exports = a, .count = 1, .size = a->size, .structured = true};
	assert_int_equal(nbd_request_check(&status, &agreed), -EINVAL);
	agreed.context = true;
	assert_int_equal(nbd_request_check(&status, &agreed), 0);
}

static void nbd_connection_keeps_the_size_that_it_was_told(void **unused)
{
	(void)unused;
	struct nbd_export disk = {.name = "a", .size = 1 << 20};
	struct nbd_handshake h = {.exports = &disk, .count = 1, .state = NBD_OPTIONS};
	struct nbd_request past = request(NBD_READ, 0, 1 << 20, 512);
	unsigned char option[32] = "IHAVEOPT\0\0\0\1\0\0\0\1a", answer[NBD_ANSWER_MAX];
	size_t len;
	assert_int_equal(nbd_handshake_step(&h, option, 17, answer, &len), 0);
	assert_int_equal(h.state, NBD_TRANSMISSION);
	disk.size = 2 << 20;
	assert_int_equal(nbd_request_check(&past, &h), -EINVAL);
	h.state = NBD_OPTIONS; // another one, made now
	assert_int_equal(nbd_handshake_step(&h, option, 17, answer, &len), 0);
	assert_int_equal(nbd_request_check(&past, &h), 0);
}

static void nbd_request_with_a_wrong_magic_is_not_read(void **unused)
{
	(void)unused;
	unsigned char in[NBD_REQUEST_SIZE] = {0x25, 0x60, 0x95, 0x13, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8};
	struct nbd_request r;
	put_be64(in + 16, 4096);
	put_be32(in + 24, 512);
	assert_int_equal(nbd_request_decode(in, &r), 0);
	assert_int_equal(r.flags, NBD_FLAG_FUA);
	assert_int_equal(r.command, NBD_WRITE);
	assert_int_equal(r.off, 4096);
	assert_int_equal(r.len, 512);
	for (unsigned bit = 0; bit < 32; bit++) {
		in[bit / 8] ^= (unsigned char)(1u << bit % 8);
		assert_int_equal(nbd_request_decode(in, &r), -EBADMSG);
		in[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

static void nbd_replies_are_laid_out_as_the_protocol_says(void **unused)
{
	(void)unused;
	unsigned char to[NBD_REPLY_HEAD_MAX];
	struct nbd_request r = request(NBD_READ, 0, 0x1122334455, 4096);
	memcpy(r.cookie, "cookie!!", 8);
	assert_int_equal(nbd_reply_simple(to, &r, -EDQUOT), 16);
	assert_memory_equal(to, "\x67\x44\x66\x98\0\0\0\x1c" "cookie!!", 16);
	assert_int_equal(nbd_reply_data(to, &r, true), 28);
	assert_memory_equal(to, "\x66\x8e\x33\xef\0\1\0\1" "cookie!!" "\0\0\x10\x08\0\0\0\x11\x22\x33\x44\x55", 28);
	assert_int_equal(nbd_reply_error(to, &r, true, -EIO), 26);
	assert_memory_equal(to, "\x66\x8e\x33\xef\0\1\x80\1" "cookie!!" "\0\0\0\6\0\0\0\5\0\0", 26);
	assert_int_equal(nbd_reply_error(to, &r, false, -ECONNRESET), 16);
	assert_int_equal(get_be32(to + 4), EIO); // what the protocol has no number for
	unsigned char status[NBD_STATUS_MAX];
	const struct nbd_extent extents[] = {{.len = 512, .hole = true}, {.len = 1024}};
	assert_int_equal(nbd_extents_encode(status, extents, 2), 20);
	assert_memory_equal(status, "\0\0\0\1\0\0\2\0\0\0\0\3\0\0\4\0\0\0\0\0", 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nbd_go_chooses_the_export_and_ends_the_handshake),
		cmocka_unit_test(nbd_export_name_needs_a_name_that_exists),
		cmocka_unit_test(nbd_refused_options_leave_the_handshake_alive),
		cmocka_unit_test(nbd_context_counts_only_for_the_export_it_was_set_for),
		cmocka_unit_test(nbd_every_truncated_option_is_refused_or_waited_for),
		cmocka_unit_test(nbd_lengths_that_lie_are_refused),
		cmocka_unit_test(option_that_is_too_long_is_refused_and_passed_over),
		cmocka_unit_test(export_name_that_is_too_long_ends_the_connection),
		cmocka_unit_test(nbd_client_flags_we_do_not_know_end_the_connection),
		cmocka_unit_test(nbd_list_of_the_most_and_longest_names_fits_its_answer),
		cmocka_unit_test(nbd_requests_outside_the_disk_or_the_rules_are_refused),
		cmocka_unit_test(nbd_connection_keeps_the_size_that_it_was_told),
		cmocka_unit_test(nbd_request_with_a_wrong_magic_is_not_read),
		cmocka_unit_test(nbd_replies_are_laid_out_as_the_protocol_says),
	};
	return cmocka_run_group_tests_name("nbd", tests, NULL, NULL);
}
