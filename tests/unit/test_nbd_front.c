// SPDX-License-Identifier: Apache-2.0
// A client over TCP reaches a disk by TLS alone, and the one that it named.
#include "replicator/nbd_front.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { EXPORT_NAME = 1, ABORT = 2, LIST = 3, STARTTLS = 5, INFO = 6, GO = 7, STRUCTURED = 8, LIST_META = 9, SET_META = 10 };
enum { ACK = 1, SERVER = 2, INFO_REPLY = 3, META = 4 };
#define INVALID UINT32_C(0x80000003)
#define TLS_REQD UINT32_C(0x80000005)
#define UNKNOWN UINT32_C(0x80000006)
#define TOO_BIG UINT32_C(0x80000009)

static unsigned exports_now = 3; // vm0/vda, vm0/vdb, vm1/vda

static bool export_at(void *context, unsigned n, struct nbd_front_export *ret_export)
{
	(void)context;
	*ret_export = (struct nbd_front_export){.size = 4096 * (n + 1), .read_only = n == 1};
	(void)snprintf(ret_export->protection, NAME_SIZE, "vm%u", n / 2);
	(void)snprintf(ret_export->disk, NAME_SIZE, "vd%c", 'a' + (int)n % 2);
	return n < exports_now;
}

static const struct nbd_front_exports exports = {.at = export_at};

struct told {
	uint32_t first, last; // types of the replies
	enum nbd_front_next next;
	int code;
	unsigned char answer[NBD_ANSWER_MAX];
	size_t answered;
};

static struct told told;

static void tell(struct nbd_front *front, uint32_t option, const void *data, size_t len)
{
	unsigned char *in = malloc(NBD_OPTION_HEAD_SIZE + len); // exact, so that a sanitizer sees a read past it
	size_t need;
	told = (struct told){0};
	memcpy(in, "IHAVEOPT", 8);
	put_be32(in + 8, option);
	put_be32(in + 12, (uint32_t)len);
	if (len)
		memcpy(in + NBD_OPTION_HEAD_SIZE, data, len);
	assert_int_equal(nbd_front_need(front, in, NBD_OPTION_HEAD_SIZE, &need), 0);
	assert_int_equal(need, NBD_OPTION_HEAD_SIZE + len);
	told.code = nbd_front_step(front, in, need, told.answer, &told.answered, &told.next);
	free(in);
	if (option == EXPORT_NAME)
		return;
	for (size_t at = 0; at < told.answered; at += 20 + get_be32(told.answer + at + 16)) {
		assert_int_equal(get_be32(told.answer + at + 8), option);
		told.last = get_be32(told.answer + at + 12);
		told.first = at ? told.first : told.last;
	}
}

static void tell_name(struct nbd_front *front, uint32_t option, const char *name, const char *query)
{
	unsigned char data[512];
	size_t len = strlen(name);
	put_be32(data, (uint32_t)len);
	memcpy(data + 4, name, len);
	len += 4;
	if (option == SET_META || option == LIST_META) {
		put_be32(data + len, 1);
		put_be32(data + len + 4, (uint32_t)strlen(query));
		memcpy(data + len + 8, query, strlen(query));
		len += 8 + strlen(query);
	} else {
		put_be16(data + len, 1);
		put_be16(data + len + 2, 1); // NBD_INFO_NAME
		len += 4;
	}
	tell(front, option, data, len);
}

static void greeted(struct nbd_front *front)
{
	unsigned char flags[4];
	nbd_front_init(front, &exports);
	put_be32(flags, 3);
	assert_int_equal(nbd_front_step(front, flags, 4, told.answer, &told.answered, &told.next), 0);
	assert_int_equal(told.next, NBD_FRONT_ON);
}

static void secured(struct nbd_front *front)
{
	greeted(front);
	tell(front, STARTTLS, NULL, 0);
	assert_int_equal(told.last, ACK);
	assert_int_equal(told.next, NBD_FRONT_START_TLS);
	nbd_front_secured(front);
}

static void in_the_clear_every_option_is_refused_by_the_need_of_tls(void **state)
{
	(void)state;
	struct nbd_front front;
	greeted(&front);
	for (uint32_t option = 3; option < 40; option++) {
		if (option == STARTTLS)
			continue;
		tell_name(&front, option, "vm0/vda", "base:allocation");
		assert_int_equal(told.last, TLS_REQD);
		assert_int_equal(told.next, NBD_FRONT_ON);
		assert_int_equal(told.code, 0);
	}
	assert_false(front.handshake.structured || front.handshake.context);
	tell(&front, STARTTLS, "x", 1);
	assert_int_equal(told.last, INVALID);
	assert_int_equal(told.next, NBD_FRONT_ON);
	tell(&front, ABORT, NULL, 0);
	assert_int_equal(told.last, ACK);
	assert_int_equal(told.next, NBD_FRONT_CLOSE);
}

static void in_the_clear_export_name_ends_the_connection(void **state)
{
	(void)state;
	struct nbd_front front;
	greeted(&front);
	tell(&front, EXPORT_NAME, "vm0/vda", 7);
	assert_int_equal(told.code, -EBADMSG);
}

static void in_the_clear_a_long_option_ends_the_connection(void **state)
{
	(void)state;
	struct nbd_front front;
	unsigned char head[NBD_OPTION_HEAD_SIZE] = "IHAVEOPT";
	size_t need;
	greeted(&front);
	put_be32(head + 8, GO);
	put_be32(head + 12, 4097);
	assert_int_equal(nbd_front_need(&front, head, sizeof(head), &need), -EBADMSG);
	nbd_front_secured(&front);
	assert_int_equal(nbd_front_need(&front, head, sizeof(head), &need), 0);
}

// As on the unix socket.
static void inside_tls_a_long_option_is_refused_and_passed_over(void **state)
{
	(void)state;
	struct nbd_front front;
	unsigned char head[NBD_OPTION_HEAD_SIZE] = "IHAVEOPT", answer[NBD_ANSWER_MAX];
	const struct {
		uint32_t len;
		bool refused;
	} options[] = {{0, false}, {NBD_OPTION_DATA_MAX, false}, {NBD_OPTION_DATA_MAX + 1, true}, {NBD_OPTION_SKIP_MAX, true}, {NBD_OPTION_SKIP_MAX + 1, false}};
	greeted(&front);
	put_be32(head + 8, GO);
	for (int secure = 0; secure < 2; secure++) {
		for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
			size_t answered = 0;
			uint32_t skip = 0;
			put_be32(head + 12, options[i].len);
			bool refused = nbd_front_too_big(&front, head, sizeof(head), answer, &answered, &skip);
			assert_int_equal(refused, secure && options[i].refused);
			if (!refused)
				continue;
			assert_int_equal(skip, options[i].len);
			assert_int_equal(get_be32(answer + 8), GO);
			assert_int_equal(get_be32(answer + 12), TOO_BIG);
			assert_int_equal(answered, 20 + get_be32(answer + 16));
		}
		nbd_front_secured(&front);
	}
	put_be32(head + 8, EXPORT_NAME); // which has no refusal
	put_be32(head + 12, NBD_OPTION_DATA_MAX + 1);
	size_t answered, need;
	uint32_t skip;
	assert_false(nbd_front_too_big(&front, head, sizeof(head), answer, &answered, &skip));
	assert_int_equal(nbd_front_need(&front, head, sizeof(head), &need), -EBADMSG);
	tell_name(&front, GO, "vm0/vda", NULL);
	assert_int_equal(told.last, ACK);
}

static void the_disk_is_the_one_that_was_named(void **state)
{
	(void)state;
	struct nbd_front front;
	secured(&front);
	tell_name(&front, INFO, "vm0/vda", NULL);
	assert_int_equal(told.last, ACK);
	assert_int_equal(told.next, NBD_FRONT_ON);
	tell_name(&front, GO, "vm1/vda", NULL);
	assert_int_equal(told.last, ACK);
	assert_int_equal(told.next, NBD_FRONT_ATTACH);
	assert_string_equal(front.chosen.protection, "vm1");
	assert_string_equal(front.chosen.disk, "vda");
	assert_true(front.chosen.size == 3 * 4096);
	assert_non_null(memmem(told.answer, told.answered, "vm1/vda", 7)); // its full name is told when asked for
}

static void export_name_works_inside_tls(void **state)
{
	(void)state;
	struct nbd_front front;
	secured(&front);
	tell(&front, EXPORT_NAME, "vm0/vdb", 7);
	assert_int_equal(told.code, 0);
	assert_int_equal(told.next, NBD_FRONT_ATTACH);
	assert_int_equal(told.answered, 10);
	assert_true(get_be64(told.answer) == 2 * 4096);
	assert_true(get_be16(told.answer + 8) & 2); // read-only
	secured(&front);
	tell(&front, EXPORT_NAME, "vm0/vdc", 7);
	assert_int_equal(told.code, -EBADMSG);
}

static void names_that_are_none_are_refused(void **state)
{
	(void)state;
	static const char *const names[] = {"vda", "vm0", "vm0/", "/vda", "vm0/vda/", "vm9/vda", "vm0/../vm0/vda", "vm1/vdb", ""};
	struct nbd_front front;
	secured(&front);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		tell_name(&front, GO, names[i], NULL);
		assert_int_equal(told.last, UNKNOWN);
		assert_int_equal(told.next, NBD_FRONT_ON);
	}
	tell(&front, GO, "\0\0\0\377vm0/vda\0\0", 13); // a name longer than its option
	assert_int_equal(told.last, INVALID);
	tell(&front, GO, "\0", 1);
	assert_int_equal(told.last, INVALID);
	tell_name(&front, GO, "vm0/vda", NULL); // and the connection lives
	assert_int_equal(told.next, NBD_FRONT_ATTACH);
}

// It may be full, gone, or grown since it was named. By EXPORT_NAME there is no word for that.
static void disk_that_is_not_to_be_had_is_refused_by_the_protocol(void **state)
{
	(void)state;
	static const uint32_t types[] = {0x80000007, 0x80000002};
	unsigned char option[NBD_OPTION_HEAD_SIZE] = {0}, answer[NBD_ANSWER_MAX];
	for (unsigned full = 0; full < 2; full++) {
		put_be32(option + 8, GO);
		size_t len = nbd_front_refuse(option, full, answer);
		assert_true(len > 20 && get_be32(answer + 16) == len - 20);
		assert_true(get_be64(answer) == UINT64_C(0x3e889045565a9));
		assert_int_equal(get_be32(answer + 8), GO);
		assert_int_equal(get_be32(answer + 12), types[full]);
		put_be32(option + 8, EXPORT_NAME);
		assert_int_equal(nbd_front_refuse(option, full, answer), 0);
	}
}

static void the_empty_name_is_the_only_export(void **state)
{
	(void)state;
	struct nbd_front front;
	secured(&front);
	exports_now = 1;
	tell_name(&front, GO, "", NULL);
	exports_now = 3;
	assert_int_equal(told.next, NBD_FRONT_ATTACH);
	assert_string_equal(front.chosen.protection, "vm0");
}

static void the_list_has_every_export_and_an_end(void **state)
{
	(void)state;
	static const char *const names[] = {"vm0/vda", "vm0/vdb", "vm1/vda"};
	struct nbd_front front;
	bool last = true;
	secured(&front);
	tell(&front, LIST, "x", 1);
	assert_int_equal(told.last, INVALID);
	tell(&front, LIST, NULL, 0);
	assert_int_equal(told.next, NBD_FRONT_LIST);
	for (unsigned n = 0; n < 3; n++) {
		assert_int_equal(nbd_front_list_item(&front, n, told.answer, &last), 20 + 4 + 7);
		assert_false(last);
		assert_int_equal(get_be32(told.answer + 12), SERVER);
		assert_memory_equal(told.answer + 24, names[n], 7);
	}
	assert_int_equal(nbd_front_list_item(&front, 3, told.answer, &last), 20);
	assert_true(last);
	assert_int_equal(get_be32(told.answer + 12), ACK);
}

static unsigned introduced(const struct nbd_front *front)
{
	unsigned options = 0;
	(void)nbd_front_introduce(front, told.answer, &options);
	return options;
}

static void the_context_goes_with_its_export_alone(void **state)
{
	(void)state;
	struct nbd_front front;
	secured(&front);
	tell(&front, STRUCTURED, NULL, 0);
	assert_int_equal(told.last, ACK);
	tell_name(&front, SET_META, "vm0/vda", "base:allocation");
	assert_int_equal(told.first, META);
	tell_name(&front, INFO, "vm0/vdb", NULL); // asking about another changes nothing
	tell_name(&front, GO, "vm0/vda", NULL);
	assert_true(front.handshake.context);
	assert_int_equal(introduced(&front), 3); // structured replies, the context, GO

	secured(&front);
	tell(&front, STRUCTURED, NULL, 0);
	tell_name(&front, SET_META, "vm0/vda", "base:allocation");
	tell_name(&front, GO, "vm0/vdb", NULL);
	assert_false(front.handshake.context);
	assert_int_equal(introduced(&front), 2);
}

static void the_export_is_told_what_the_client_was_told(void **state)
{
	(void)state;
	struct nbd_front front;
	struct nbd_handshake theirs;
	static const struct nbd_export disk = {.name = "vda", .size = 3 * 4096};
	unsigned char sent[NBD_ANSWER_MAX], answer[NBD_ANSWER_MAX];
	secured(&front);
	tell(&front, STRUCTURED, NULL, 0);
	tell_name(&front, SET_META, "vm1/vda", "base:allocation");
	tell_name(&front, GO, "vm1/vda", NULL);
	unsigned options = 0;
	size_t len = nbd_front_introduce(&front, sent, &options), need, answered;
	nbd_handshake_init(&theirs, &disk, 1);
	for (size_t at = 0; at < len; at += need) {
		assert_int_equal(nbd_handshake_need(&theirs, sent + at, len - at, &need), 0);
		assert_true(need <= len - at);
		assert_int_equal(nbd_handshake_step(&theirs, sent + at, need, answer, &answered), 0);
	}
	assert_int_equal(theirs.state, NBD_TRANSMISSION);
	assert_true(theirs.structured && theirs.context);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_the_clear_every_option_is_refused_by_the_need_of_tls),
		cmocka_unit_test(in_the_clear_export_name_ends_the_connection),
		cmocka_unit_test(in_the_clear_a_long_option_ends_the_connection),
		cmocka_unit_test(inside_tls_a_long_option_is_refused_and_passed_over),
		cmocka_unit_test(the_disk_is_the_one_that_was_named),
		cmocka_unit_test(export_name_works_inside_tls),
		cmocka_unit_test(names_that_are_none_are_refused),
		cmocka_unit_test(disk_that_is_not_to_be_had_is_refused_by_the_protocol),
		cmocka_unit_test(the_empty_name_is_the_only_export),
		cmocka_unit_test(the_list_has_every_export_and_an_end),
		cmocka_unit_test(the_context_goes_with_its_export_alone),
		cmocka_unit_test(the_export_is_told_what_the_client_was_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
