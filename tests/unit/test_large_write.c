// SPDX-License-Identifier: Apache-2.0
// Large writes, which an export takes in pieces as they arrive (replicator/client_request.c, client_pour.c).
#include "base/auto.h"
#include "base/bytes.h"
#include "replicator/client_private.h"
#include "replicator/export_loop.h"
#include "replicator/holder.h"
#include "tests/lib/export_place.h"
#include "tests/lib/file_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { LARGE = 3 << 20, PART = 100, FAILING = 512 << 10, FAILURES = 1000 };

static unsigned char *pattern(size_t len, unsigned salt)
{
	unsigned char *data = malloc(len);
	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (unsigned char)(i * 31 + i / 241 + salt);
	return data;
}

static void must_hold(int fd, uint64_t off, const void *want, uint32_t len)
{
	unsigned char *got = malloc(len);
	assert_int_equal(ask(fd, CMD_READ, off, len, got), 0);
	assert_memory_equal(got, want, len);
	free(got);
}

// ---- however it is cut up by the client

static void large_write_is_whole_however_it_arrives(void **unused)
{
	(void)unused;
	static const size_t steps[] = {1, 7, 4096, 4097, 60000, 65536, 100001, LARGE};
	struct place *p = place_new();
	place_start(p);
	int fd = dial_disk(p, "vda");
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		uint64_t off = i % 2 ? 4096 * 5 : 12345, cookie;
		uint32_t len = steps[i] < 100 ? 300 << 10 : LARGE - i;
		unsigned char *data = pattern(len, i);
		put_request(fd, i % 3 ? CMD_WRITE : CMD_WRITE | CMD_FUA, i, off, len);
		for (size_t at = 0, step; at < len; at += step) {
			step = len - at < steps[i] ? len - at : steps[i];
			put_all(fd, data + at, step);
		}
		assert_int_equal(get_reply(fd, &cookie), 0);
		assert_true(cookie == i);
		must_hold(fd, off, data, len);
		free(data);
	}
	struct export_stats stats;
	export_stats(p->export, 0, &stats);
	assert_int_equal(stats.writes, sizeof(steps) / sizeof(steps[0])); // one each, whatever became of it
	(void)close(fd);
	place_stop(p);
	place_free(p);
}

static void large_writes_and_small_ones_take_turns_on_one_connection(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	int fd = dial_disk(p, "vda");
	unsigned char *large = pattern(LARGE, 1), *small = pattern(4096, 2);
	enum { ROUNDS = 12 };
	for (unsigned i = 0; i < ROUNDS; i++) { // nothing is waited for
		put_request(fd, CMD_WRITE, 2 * i, (uint64_t)i << 20, 1 << 20);
		put_all(fd, large + i * 1000, 1 << 20);
		put_request(fd, CMD_WRITE, 2 * i + 1, ((uint64_t)20 << 20) + i * 4096, 4096);
		put_all(fd, small, 4096);
	}
	unsigned seen = 0;
	for (unsigned i = 0; i < 2 * ROUNDS; i++) {
		uint64_t cookie;
		assert_int_equal(get_reply(fd, &cookie), 0);
		assert_true(cookie < 2 * ROUNDS && !(seen >> cookie & 1));
		seen |= 1u << cookie;
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		must_hold(fd, (uint64_t)i << 20, large + i * 1000, 1 << 20);
		must_hold(fd, ((uint64_t)20 << 20) + i * 4096, small, 4096);
	}
	(void)close(fd);
	place_stop(p);
	assert_true(dirty_mask(export_dirty(p->export, 0), 0) == 0xffff); // each piece of it is tracked
	assert_true(dirty_mask(export_dirty(p->export, 0), ROUNDS * 16 - 1) == 0xffff);
	assert_true(dirty_mask(export_dirty(p->export, 0), ROUNDS * 16) == 0);
	free(large);
	free(small);
	place_free(p);
}

// ---- a client that does not send the rest

static void half_of_a_large_write_holds_no_cut_and_ends_with_its_connection(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	p->config.cut_hold_ms_max = 60000; // a cut that waited for the client would be seen as a test that does not end
	place_start(p);
	struct source *source = export_source(p->export);
	struct err err;
	for (unsigned i = 0; i < 3; i++) {
		static const uint32_t sent[] = {100, 70000, LARGE - 1};
		int fd = dial_disk(p, "vda");
		unsigned char *data = pattern(LARGE, 9 + i);
		struct source_cut cut;
		put_request(fd, CMD_WRITE, 1, 0, LARGE);
		put_all(fd, data, sent[i]);
		assert_int_equal(source_cut(source, CUT_POINT, &cut, &err), 0);
		source_give_back(source);
		(void)close(fd);
		free(data);
	}
	int fd = dial_disk(p, "vda");
	unsigned char *data = pattern(LARGE, 3);
	assert_int_equal(ask(fd, CMD_WRITE, 0, LARGE, data), 0);
	must_hold(fd, 0, data, LARGE);
	put_request(fd, CMD_WRITE, 1, 0, LARGE); // and one is half there when the export stops
	put_all(fd, data, LARGE / 2);
	free(data);
	place_stop(p);
	(void)close(fd);
	place_free(p);
}

// ---- a pipe that is full of small parts

// How many parts fill a pipe as it is made for a connection, however short they are.
static unsigned pipe_slots(void)
{
	int pipe[2];
	assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
	(void)fcntl(pipe[1], F_SETPIPE_SZ, CLIENT_POUR_MAX);
	int size = fcntl(pipe[1], F_GETPIPE_SZ);
	(void)close(pipe[0]);
	(void)close(pipe[1]);
	assert_true(size > 0);
	return (unsigned)(size / sysconf(_SC_PAGESIZE));
}

// The header of a large write, and the first `parts` of its payload. After a large one nothing but the header is received past the pipe.
static int begin_in_parts(const struct place *p, const unsigned char *data, unsigned parts)
{
	int fd = dial_disk(p, "vda");
	AUTO_FREE unsigned char *before = pattern(LARGE, 1);
	assert_int_equal(ask(fd, CMD_WRITE, 8 << 20, LARGE, before), 0);
	put_request(fd, CMD_WRITE, 1, 0, LARGE);
	for (unsigned i = 0; i < parts; i++)
		put_all(fd, data + (size_t)i * PART, PART);
	(void)usleep(50000);
	return fd;
}

static bool nobody_stays(struct place *p)
{
	struct export_stats stats = {.clients = 1};
	for (unsigned i = 0; i < 2000 && stats.clients; i++) {
		(void)usleep(10000);
		export_stats(p->export, 0, &stats);
	}
	return stats.clients == 0;
}

static void connection_that_ends_behind_a_full_pipe_ends(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	unsigned char *data = pattern(LARGE, 4);
	unsigned slots = pipe_slots();
	for (unsigned parts = slots - 1; parts <= slots + 1; parts++) {
		int fd = begin_in_parts(p, data, parts);
		(void)close(fd);
		assert_true(nobody_stays(p));
		fd = begin_in_parts(p, data, parts);
		assert_int_equal(shutdown(fd, SHUT_WR), 0);
		assert_true(closed_by_peer(fd));
		(void)close(fd);
	}
	assert_true(nobody_stays(p));
	free(data);
	place_stop(p);
	place_free(p);
}

static void write_that_pauses_behind_a_full_pipe_goes_on(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	unsigned char *data = pattern(LARGE, 7);
	unsigned slots = pipe_slots();
	for (unsigned parts = slots - 1; parts <= slots + 1; parts++) {
		uint64_t cookie;
		int fd = begin_in_parts(p, data, parts);
		size_t sent = (size_t)parts * PART;
		put_all(fd, data + sent, 1); // one more and a pause, and the rest
		(void)usleep(20000);
		put_all(fd, data + sent + 1, LARGE - sent - 1);
		assert_int_equal(get_reply(fd, &cookie), 0);
		assert_true(cookie == 1);
		must_hold(fd, 0, data, LARGE);
		(void)close(fd);
	}
	free(data);
	place_stop(p);
	place_free(p);
}

// ---- errors

static void failed_piece_fails_its_write_and_the_connection_goes_on(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	place_start(p);
	int fd = dial_disk(p, "vda");
	limit_files(1 << 20); // as on a full disk
	unsigned char *data = pattern(LARGE, 5);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t cookie;
		put_request(fd, CMD_WRITE, i, 100 * i, LARGE); // aligned, and not
		for (size_t at = 0; at < LARGE; at += 10007)
			put_all(fd, data + at, LARGE - at < 10007 ? LARGE - at : 10007);
		assert_int_equal(get_reply(fd, &cookie), ENOSPC);
		assert_true(cookie == i);
		assert_int_equal(ask(fd, CMD_WRITE, 0, 512 << 10, data), 0); // the next is read from where it begins
		must_hold(fd, 0, data, 512 << 10);
	}
	limit_files(RLIM_INFINITY);
	assert_int_equal(ask(fd, CMD_WRITE, 0, LARGE, data), 0);
	must_hold(fd, 0, data, LARGE);
	(void)close(fd);
	free(data);
	place_stop(p);
	place_free(p);
}

// The error of the first comes when the second is being taken already, whose payload looks like a request: so each piece goes by the ring.
static void failed_write_leaves_the_next_ones_payload_a_payload(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err = {0};
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	p->export->image[0].detour = 1 << 30;
	assert_int_equal(export_start(p->export, &err), 0);
	int fd = dial_disk(p, "vda");
	limit_files(1 << 20); // as on a full disk
	unsigned char *data = pattern(FAILING, 5), forged[28];
	put_be32(forged, 0x25609513);
	put_be32(forged + 4, CMD_TRIM);
	put_be64(forged + 8, 666);
	put_be64(forged + 16, 0);
	put_be32(forged + 24, 4096);
	struct export_stats before;
	export_stats(p->export, 0, &before);
	for (unsigned i = 0; i < FAILURES; i++) {
		unsigned seen = 0;
		uint64_t off = (2 << 20) + (i % 4 ? 0 : 100 + i); // aligned, and so piped to its end, and not
		put_request(fd, CMD_WRITE, 0, off, FAILING);
		put_all(fd, data, FAILING);
		put_request(fd, CMD_WRITE, 1, off + FAILING, FAILING);
		put_all(fd, forged, sizeof(forged));
		put_all(fd, data, FAILING - sizeof(forged));
		for (unsigned j = 0; j < 2; j++) {
			uint64_t cookie;
			assert_int_equal(get_reply(fd, &cookie), ENOSPC);
			assert_true(cookie < 2);
			seen |= 1u << cookie;
		}
		assert_int_equal(seen, 3);
		assert_int_equal(ask(fd, CMD_WRITE, 0, 4096, data), 0);
		must_hold(fd, 0, data, 4096);
	}
	struct export_stats stats;
	export_stats(p->export, 0, &stats);
	assert_int_equal(stats.errors - before.errors, 2 * FAILURES); // of requests, not of the parts they were done in
	limit_files(RLIM_INFINITY);
	(void)close(fd);
	free(data);
	place_stop(p);
	place_free(p);
}

// G2: a disk whose sync failed before refuses every later one, so the answer tells whether there was one.
static void large_write_with_fua_is_synced_before_it_is_answered(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	p->export->group.volume[0].failed = -EIO;
	assert_int_equal(export_start(p->export, &err), 0);
	int fd = dial_disk(p, "vda");
	unsigned char *data = pattern(LARGE, 8);
	assert_int_equal(ask(fd, CMD_WRITE, 0, LARGE, data), 0);
	assert_int_equal(ask(fd, CMD_WRITE | CMD_FUA, 0, LARGE, data), EIO);
	(void)close(fd);
	free(data);
	assert_int_equal(export_stop(p->export, &err), -EIO);
	place_free(p);
}

// Where the image takes nothing from a pipe.
static void large_write_is_copied_where_pipes_are_refused(void **unused)
{
	(void)unused;
	struct place *p = place_new();
	struct err err;
	assert_int_equal(export_open(&p->config, &p->export, &err), 0);
	p->export->image[0].no_pipe = true;
	assert_int_equal(export_start(p->export, &err), 0);
	int fd = dial_disk(p, "vda");
	unsigned char *data = pattern(LARGE, 6);
	assert_int_equal(ask(fd, CMD_WRITE, 777, LARGE, data), 0);
	must_hold(fd, 777, data, LARGE);
	assert_int_equal(ask(fd, CMD_WRITE, 8192, LARGE, data), 0);
	must_hold(fd, 8192, data, LARGE);
	(void)close(fd);
	free(data);
	place_stop(p);
	place_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_write_is_whole_however_it_arrives),
		cmocka_unit_test(large_writes_and_small_ones_take_turns_on_one_connection),
		cmocka_unit_test(half_of_a_large_write_holds_no_cut_and_ends_with_its_connection),
		cmocka_unit_test(connection_that_ends_behind_a_full_pipe_ends),
		cmocka_unit_test(write_that_pauses_behind_a_full_pipe_goes_on),
		cmocka_unit_test(failed_piece_fails_its_write_and_the_connection_goes_on),
		cmocka_unit_test(failed_write_leaves_the_next_ones_payload_a_payload),
		cmocka_unit_test(large_write_with_fua_is_synced_before_it_is_answered),
		cmocka_unit_test(large_write_is_copied_where_pipes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
