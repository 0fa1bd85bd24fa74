// SPDX-License-Identifier: Apache-2.0
// Verifications (receiver/verifier.h) and the proven view (receiver/proven_view.h): what is served of a point is proven, and what is damaged is
// told, refused and put into quarantine.
#include "receiver/proven_view.h"
#include "receiver/verifier.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define RATE (UINT64_C(1) << 30)

struct place {
	struct store_twin twin;
	struct verifier *verifier;
};

// Points 1 to 3 of vda: block 0 whole in each, 1 in pieces from the second on, 2 in the first only; block 3 is never written.
static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct store_twin *t = &p->twin;
	store_twin_begin(t, 7);
	store_twin_session(t);
	for (unsigned n = 1; n <= 3; n++) {
		store_twin_change(t, 0, 0, MASK_FULL);
		assert_int_equal(store_twin_send(t, 0, 0, MASK_FULL, CODEC_ZSTD, NULL), 0);
		uint16_t mask = n == 1 ? MASK_FULL : (uint16_t)(1u << n);
		store_twin_change(t, 0, 1, mask);
		assert_int_equal(store_twin_send(t, 0, 1, mask, CODEC_NONE, NULL), 0);
		if (n == 1) {
			store_twin_change(t, 0, 2, MASK_FULL);
			assert_int_equal(store_twin_send(t, 0, 2, MASK_FULL, CODEC_ZSTD, NULL), 0);
		}
		store_twin_seal(t);
	}
	p->verifier = verifier_new(t->temp.root->env, RATE);
	assert_non_null(p->verifier);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	verifier_free(p->verifier);
	store_twin_end(&p->twin);
	free(p);
	return 0;
}

static void begin(struct place *p, uint64_t point)
{
	struct err err = {0};
	if (verifier_begin(p->verifier, p->twin.replica, point, false, &err))
		fail_msg("%s", err.text);
}

static struct verify_info info_of(struct place *p, uint64_t point)
{
	struct verify_info info;
	verifier_info(p->verifier, p->twin.replica, point, &info);
	return info;
}

static struct verify_info finish(struct place *p, uint64_t point)
{
	for (unsigned i = 0; i < 1000 && info_of(p, point).state == VERIFY_RUNNING; i++)
		(void)verifier_step(p->verifier);
	return info_of(p, point);
}

static unsigned holds(struct place *p, uint64_t point)
{
	return replica_point(p->twin.replica, point)->holds;
}

static bool refused(struct place *p, uint64_t point)
{
	return replica_sound(p->twin.replica, point, NULL) == -EUCLEAN;
}

// --- verifications ---

static void point_that_is_sound_is_read_to_its_end_and_let_go(void **state)
{
	struct place *p = *state;
	uint64_t bytes = p->twin.point_size[2][0] + p->twin.point_size[2][1];
	assert_int_equal(info_of(p, 2).state, VERIFY_NONE);
	begin(p, 2);
	assert_int_equal(holds(p, 2), 1);
	struct verify_info info = finish(p, 2);
	assert_int_equal(info.state, VERIFY_SOUND);
	assert_true(info.done_bytes == bytes && info.total_bytes == bytes && info.damaged_blocks == 0);
	assert_int_equal(holds(p, 2), 0);
	assert_int_equal(verifier_begin(p->verifier, p->twin.replica, 99, false, NULL), -ENOENT);
}

static void damage_is_told_and_put_into_quarantine_for_every_point_that_shows_it(void **state)
{
	struct place *p = *state;
	store_flip_block(&p->twin, 1, 0, 2); // shown by all three
	begin(p, 2);
	struct verify_info info = finish(p, 2);
	assert_int_equal(info.state, VERIFY_DAMAGED);
	assert_int_equal(info.damaged_blocks, 1);
	assert_non_null(strstr(info.reason, "quarantine"));
	assert_true(refused(p, 1) && refused(p, 2) && refused(p, 3));
	assert_int_equal(holds(p, 2), 0);
}

static void damage_of_another_point_is_not_told_of_this_one(void **state)
{
	struct place *p = *state;
	store_flip_block(&p->twin, 2, 0, 0); // the third point holds it whole
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	begin(p, 2);
	assert_int_equal(finish(p, 2).state, VERIFY_DAMAGED);
	assert_true(refused(p, 2) && !refused(p, 1) && !refused(p, 3));
}

// QEMU shows what is in the base, whatever the digest says.
static void garbage_where_zeros_should_be_is_damage(void **state)
{
	struct place *p = *state;
	store_flip_at(&p->twin, "base/vda.raw", 3 * BLOCK_SIZE + 5);
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
	assert_true(refused(p, 3));
}

static void list_that_cannot_be_read_is_damage(void **state)
{
	struct place *p = *state;
	store_flip_at(&p->twin, "points/2/vda.digests", 100);
	begin(p, 3);
	struct verify_info info = finish(p, 3);
	assert_int_equal(info.state, VERIFY_DAMAGED);
	assert_non_null(strstr(info.reason, "points/2/vda.digests"));
	assert_int_equal(holds(p, 3), 0);
}

static void what_is_dropped_is_let_go_at_once(void **state)
{
	struct place *p = *state;
	begin(p, 2);
	begin(p, 3);
	(void)verifier_step(p->verifier);
	verifier_drop(p->verifier, p->twin.replica, 2);
	assert_int_equal(info_of(p, 2).state, VERIFY_NONE);
	assert_int_equal(holds(p, 2), 0);
	assert_int_equal(holds(p, 3), 1);
	verifier_drop(p->verifier, p->twin.replica, 0);
	assert_int_equal(holds(p, 3), 0);
	assert_true(verifier_step(p->verifier) > RATE); // nothing to do: a long wait
}

static void fresh_result_stands_until_damage_is_seen(void **state)
{
	struct place *p = *state;
	begin(p, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_SOUND);
	store_flip_block(&p->twin, 3, 0, 0);
	begin(p, 3);
	assert_int_equal(info_of(p, 3).state, VERIFY_SOUND);
	verifier_distrust(p->verifier, p->twin.replica, 3);
	assert_int_equal(finish(p, 3).state, VERIFY_DAMAGED);
}

static void slices_of_several_points_take_turns_at_the_rate(void **state)
{
	struct place *p = *state;
	struct verify_info info;
	begin(p, 1);
	begin(p, 2);
	begin(p, 3);
	assert_true(verifier_at(p->verifier, p->twin.replica, 2, &info) && info.point == 3);
	assert_false(verifier_at(p->verifier, p->twin.replica, 3, &info));
	for (unsigned i = 0; i < 3; i++) // each disk is smaller than a slice
		(void)verifier_step(p->verifier);
	for (uint64_t n = 1; n <= 3; n++)
		assert_true(info_of(p, n).state == VERIFY_RUNNING && info_of(p, n).done_bytes == p->twin.point_size[n][0]);
	struct verifier *slow = verifier_new(p->twin.temp.root->env, 1 << 20);
	assert_int_equal(verifier_begin(slow, p->twin.replica, 1, false, NULL), 0);
	uint64_t wait_ns = verifier_step(slow), due_ns = p->twin.point_size[1][0] * UINT64_C(1000000000) / (1 << 20);
	assert_true(wait_ns <= due_ns && (wait_ns > 0 || due_ns < 100000000));
	verifier_free(slow);
	assert_int_equal(holds(p, 1), 1); // the other's
}

// --- the proven view ---

static int dial(const struct proven_view *view)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(proven_view_name(view));
	memcpy(address.sun_path + 1, proven_view_name(view), len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)), 0);
	return fd;
}

static void get_all(int fd, void *to, size_t len)
{
	assert_int_equal(recv(fd, to, len, MSG_WAITALL), len);
}

static void put_all(int fd, const void *from, size_t len)
{
	assert_int_equal(send(fd, from, len, MSG_NOSIGNAL), len);
}

// Asks for structured replies, which it has not, and then for the disk.
static uint64_t shake(int fd)
{
	unsigned char hello[18], option[16] = "IHAVEOPT", reply[32];
	get_all(fd, hello, sizeof(hello));
	assert_memory_equal(hello, "NBDMAGICIHAVEOPT", 16);
	put_all(fd, "\0\0\0\3", 4);
	put_be32(option + 8, 8);
	put_be32(option + 12, 0);
	put_all(fd, option, sizeof(option));
	get_all(fd, reply, 20);
	assert_int_equal(get_be32(reply + 12), 0x80000001);
	put_be32(option + 8, 7);
	put_be32(option + 12, 6);
	put_all(fd, option, sizeof(option));
	put_all(fd, "\0\0\0\0\0\0", 6);
	get_all(fd, reply, 32);
	assert_int_equal(get_be16(reply + 20), 0);
	uint64_t size = get_be64(reply + 22);
	assert_int_equal(get_be16(reply + 30), 3);
	get_all(fd, reply, 20);
	assert_int_equal(get_be32(reply + 12), 1);
	return size;
}

static uint32_t ask(int fd, uint16_t command, uint64_t off, uint32_t len, void *data)
{
	unsigned char request[28], reply[16];
	put_be32(request, 0x25609513);
	put_be16(request + 4, 0);
	put_be16(request + 6, command);
	put_be64(request + 8, off + 1);
	put_be64(request + 16, off);
	put_be32(request + 24, len);
	put_all(fd, request, sizeof(request));
	get_all(fd, reply, sizeof(reply));
	assert_int_equal(get_be32(reply), 0x67446698);
	assert_true(get_be64(reply + 8) == off + 1);
	if (get_be32(reply + 4) == 0)
		get_all(fd, data, len);
	return get_be32(reply + 4);
}

static void view_answers_what_was_committed_and_nothing_else(void **state)
{
	struct place *p = *state;
	struct proven_view *view = NULL;
	struct err err = {0};
	uint64_t held, size = p->twin.point_size[2][0];
	unsigned char *data = malloc(size);
	store_flip_block(&p->twin, 1, 0, 2);
	store_flip_at(&p->twin, "base/vda.raw", 3 * BLOCK_SIZE + 5);
	assert_int_equal(replica_hold(p->twin.replica, 2, &held, &err), 0);
	if (proven_view_start(p->twin.replica, 2, "vda", p->verifier, &view, &err))
		fail_msg("%s", err.text);
	int fd = dial(view);
	assert_true(shake(fd) == size);
	assert_int_equal(ask(fd, 0, 100, 2 * BLOCK_SIZE - 200, data), 0);
	assert_memory_equal(data, p->twin.point[2][0] + 100, 2 * BLOCK_SIZE - 200);
	assert_int_equal(ask(fd, 0, 3 * BLOCK_SIZE, 4096, data), 0);
	assert_true(bytes_zero(data, 4096)); // its digest is zero, and so it is zeros, whatever is on disk
	assert_false(proven_view_damaged(view, &err));
	assert_int_equal(ask(fd, 0, 2 * BLOCK_SIZE + 9, 1, data), EIO);
	assert_int_equal(ask(fd, 0, BLOCK_SIZE, 2 * BLOCK_SIZE, data), EIO);
	assert_int_equal(ask(fd, 0, size - 1, 1, data), 0);
	assert_int_equal(ask(fd, 0, size - 1, 2, data), EINVAL);
	assert_int_equal(ask(fd, 0, UINT64_MAX, 2, data), EINVAL);
	assert_int_equal(ask(fd, 6, 0, 4096, data), EINVAL);
	assert_true(proven_view_damaged(view, &err));
	assert_non_null(strstr(err.text, "block 2 "));
	assert_int_equal(finish(p, 2).state, VERIFY_DAMAGED); // it was begun by what was read
	assert_true(refused(p, 2));
	proven_view_stop(view); // with its client there still
	assert_int_equal(recv(fd, data, 1, 0), 0);
	(void)close(fd);
	replica_release(p->twin.replica, 2);
	free(data);
}

static void view_ends_with_whoever_talks_nonsense_and_takes_the_next(void **state)
{
	struct place *p = *state;
	struct proven_view *view = NULL;
	uint64_t held;
	unsigned char byte;
	assert_int_equal(replica_hold(p->twin.replica, 3, &held, NULL), 0);
	assert_int_equal(proven_view_start(p->twin.replica, 3, "vda", NULL, &view, NULL), 0);
	static const char *const nonsense[] = {"\0\0\0\3GARBAGE-GARBAGE-GARBAGE", "\0\0\0\3IHAVEOPT\0\0\0\7\377\377\377\377", "\0\0\0\3IHAVEOPT\0\0\0\2\0\0\0\0"};
	static const size_t len[] = {27, 20, 20};
	for (unsigned i = 0; i < 3; i++) {
		int fd = dial(view);
		unsigned char hello[18];
		get_all(fd, hello, sizeof(hello));
		put_all(fd, nonsense[i], len[i]);
		while (recv(fd, &byte, 1, 0) > 0)
			;
		(void)close(fd);
	}
	int fd = dial(view);
	assert_true(shake(fd) == p->twin.point_size[3][0]);
	(void)close(fd);
	proven_view_stop(view);
	proven_view_stop(NULL);
	replica_release(p->twin.replica, 3);
	assert_int_equal(proven_view_start(p->twin.replica, 3, "vdz", NULL, &view, NULL), -ENOENT);
}

int main(void)
{
	log_init("test_verify", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(point_that_is_sound_is_read_to_its_end_and_let_go),
		TEST(damage_is_told_and_put_into_quarantine_for_every_point_that_shows_it),
		TEST(damage_of_another_point_is_not_told_of_this_one),
		TEST(garbage_where_zeros_should_be_is_damage),
		TEST(list_that_cannot_be_read_is_damage),
		TEST(what_is_dropped_is_let_go_at_once),
		TEST(fresh_result_stands_until_damage_is_seen),
		TEST(slices_of_several_points_take_turns_at_the_rate),
		TEST(view_answers_what_was_committed_and_nothing_else),
		TEST(view_ends_with_whoever_talks_nonsense_and_takes_the_next),
	};
	return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
