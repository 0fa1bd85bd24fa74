// SPDX-License-Identifier: Apache-2.0
// Records of a stream (format/stream.h): they come out as they went in, in any portions, and nothing else does.
#include "format/stream.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct writer {
	unsigned char bytes[4096];
	size_t len;
};

struct seen {
	unsigned records;
	char text[256]; // "1@0:begin 2@65536:abc "
	int answer;
};

static void put(struct writer *w, enum stream_kind kind, uint64_t offset, const char *payload)
{
	stream_header_encode(w->bytes + w->len, kind, (uint32_t)strlen(payload), offset);
	memcpy(w->bytes + w->len + STREAM_HEADER_SIZE, payload, strlen(payload));
	w->len += STREAM_HEADER_SIZE + strlen(payload);
}

static int take(void *context, const struct stream_record *record, struct err *err)
{
	struct seen *seen = context;
	size_t used = strlen(seen->text);
	(void)snprintf(seen->text + used, sizeof(seen->text) - used, "%d@%llu:%.*s ", record->kind, (unsigned long long)record->offset,
		       (int)record->len, (const char *)record->payload);
	seen->records++;
	return seen->answer ? err_set(err, seen->answer, "no more") : 0;
}

static int feed(const struct writer *w, size_t len, size_t portion, struct seen *seen, bool *ret_ended)
{
	struct stream_reader reader;
	struct err err;
	int rc = 0;
	stream_reader_init(&reader);
	for (size_t at = 0; rc == 0 && at < len; at += portion)
		rc = stream_reader_feed(&reader, w->bytes + at, len - at < portion ? len - at : portion, take, seen, &err);
	*ret_ended = stream_reader_ended(&reader);
	stream_reader_done(&reader);
	return rc;
}

static struct writer good(void)
{
	struct writer w = {.len = 0};
	put(&w, STREAM_BEGIN, 0, "begin");
	put(&w, STREAM_DATA, 65536, "abc");
	put(&w, STREAM_ZEROS, 131072, "");
	put(&w, STREAM_DATA, 131072, "d");
	put(&w, STREAM_END, 0, "end");
	return w;
}

static void records_come_out_as_they_went_in_in_any_portions(void **state)
{
	(void)state;
	struct writer w = good();
	for (size_t portion = 1; portion <= w.len; portion++) {
		struct seen seen = {.records = 0};
		bool ended;
		assert_int_equal(feed(&w, w.len, portion, &seen, &ended), 0);
		assert_true(ended);
		assert_string_equal(seen.text, "1@0:begin 2@65536:abc 3@131072: 2@131072:d 4@0:end ");
	}
}

static void a_stream_cut_short_anywhere_has_not_ended(void **state)
{
	(void)state;
	struct writer w = good();
	for (size_t len = 0; len < w.len; len++) {
		struct seen seen = {.records = 0};
		bool ended;
		assert_int_equal(feed(&w, len, 7, &seen, &ended), 0);
		assert_false(ended);
	}
}

static void what_is_out_of_order_is_refused(void **state)
{
	(void)state;
	static const struct {
		enum stream_kind kind;
		uint64_t offset;
		const char *payload;
	} bad[][4] = {
		{{STREAM_DATA, 0, "a"}},					      // before BEGIN
		{{STREAM_END, 0, ""}},
		{{STREAM_BEGIN, 0, ""}, {STREAM_BEGIN, 0, ""}},		      // twice
		{{STREAM_BEGIN, 1, ""}},					      // has an offset
		{{STREAM_BEGIN, 0, ""}, {STREAM_DATA, 0, ""}},		      // is empty
		{{STREAM_BEGIN, 0, ""}, {STREAM_ZEROS, 9, "a"}},		      // is not
		{{STREAM_BEGIN, 0, ""}, {STREAM_DATA, 9, "ab"}, {STREAM_DATA, 10, "a"}}, // overlaps
		{{STREAM_BEGIN, 0, ""}, {STREAM_ZEROS, 9, ""}, {STREAM_DATA, 8, "a"}},   // goes back
		{{STREAM_BEGIN, 0, ""}, {STREAM_DATA, UINT64_MAX, "ab"}},		      // wraps
		{{STREAM_BEGIN, 0, ""}, {STREAM_DATA, INT64_MAX, "a"}},
		{{STREAM_BEGIN, 0, ""}, {STREAM_END, 0, ""}, {STREAM_DATA, 0, "a"}},	      // behind the end
		{{STREAM_BEGIN, 0, ""}, {STREAM_ERROR, 0, ""}, {STREAM_END, 0, ""}},
		{{STREAM_BEGIN, 0, ""}, {(enum stream_kind)6, 0, ""}},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct writer w = {.len = 0};
		struct seen seen = {.records = 0};
		bool ended;
		for (size_t k = 0; k < 4 && bad[i][k].kind; k++)
			put(&w, bad[i][k].kind, bad[i][k].offset, bad[i][k].payload);
		assert_int_equal(feed(&w, w.len, 5, &seen, &ended), -EBADMSG);
	}
}

static void a_payload_past_the_bound_is_refused_by_its_header(void **state)
{
	(void)state;
	struct writer w = {.len = STREAM_HEADER_SIZE};
	struct seen seen = {.records = 0};
	bool ended;
	stream_header_encode(w.bytes, STREAM_BEGIN, STREAM_PAYLOAD_MAX + 1, 0);
	assert_int_equal(feed(&w, w.len, w.len, &seen, &ended), -EBADMSG);
	stream_header_encode(w.bytes, STREAM_BEGIN, UINT32_MAX, 0);
	assert_int_equal(feed(&w, w.len, w.len, &seen, &ended), -EBADMSG);
}

static void who_takes_no_more_gets_no_more(void **state)
{
	(void)state;
	struct writer w = good();
	struct seen seen = {.answer = -ENOSPC};
	bool ended;
	assert_int_equal(feed(&w, w.len, w.len, &seen, &ended), -ENOSPC);
	assert_int_equal(seen.records, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_come_out_as_they_went_in_in_any_portions),
		cmocka_unit_test(a_stream_cut_short_anywhere_has_not_ended),
		cmocka_unit_test(what_is_out_of_order_is_refused),
		cmocka_unit_test(a_payload_past_the_bound_is_refused_by_its_header),
		cmocka_unit_test(who_takes_no_more_gets_no_more),
	};
	return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
