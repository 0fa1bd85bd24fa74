// SPDX-License-Identifier: Apache-2.0
// The proven view of a point's disk (receiver/proven_view.h): it answers what was committed or an error, whatever happens to it.
#include "receiver/proven_view.h"

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/store_flip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

static bool refused(struct place *p, uint64_t point)
{
	return replica_sound(p->twin.replica, point, NULL) == -EUCLEAN;
}


// --- a client ---

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
	assert_false(proven_view_damaged(view, &err));
	assert_int_equal(ask(fd, 0, 2 * BLOCK_SIZE + 9, 1, data), EIO);
	assert_int_equal(ask(fd, 0, 3 * BLOCK_SIZE, 4096, data), EIO); // its digest is zero: a lost one looks like that, and something is on disk
	assert_int_equal(ask(fd, 0, 4 * BLOCK_SIZE, 4096, data), 0);
	assert_memory_equal(data, p->twin.point[2][0] + 4 * BLOCK_SIZE, 4096);
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

// --- what is no damage ---

// The view's own: its first calls fail as often as is said, as of a process that has all descriptors that it may have.
static atomic_uint accepts_that_fail;

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	if (atomic_load(&accepts_that_fail)) {
		atomic_fetch_sub(&accepts_that_fail, 1);
		errno = EMFILE;
		return -1;
	}
	return (int)syscall(SYS_accept4, fd, address, len, flags);
}

static void view_outlives_a_want_of_descriptors(void **state)
{
	struct place *p = *state;
	struct proven_view *view = NULL;
	uint64_t held;
	assert_int_equal(replica_hold(p->twin.replica, 3, &held, NULL), 0);
	atomic_store(&accepts_that_fail, 2);
	assert_int_equal(proven_view_start(p->twin.replica, 3, "vda", NULL, &view, NULL), 0);
	int fd = dial(view);
	assert_true(shake(fd) == p->twin.point_size[3][0]);
	assert_int_equal(atomic_load(&accepts_that_fail), 0);
	(void)close(fd);
	proven_view_stop(view);
	replica_release(p->twin.replica, 3);
}

static void want_of_memory_or_descriptors_is_not_told_as_damage(void **state)
{
	struct place *p = *state;
	struct proven_view *view = NULL;
	struct err err = {0};
	struct env *env = p->twin.temp.root->env;
	unsigned char data[16];
	uint64_t held, bytes = UINT64_C(1) << 40;
	static const int codes[] = {-ENOMEM, -EMFILE, -ENFILE, -ESHUTDOWN};
	assert_int_equal(replica_hold(p->twin.replica, 3, &held, NULL), 0);
	bad_disk_begin(env);
	assert_int_equal(proven_view_start(p->twin.replica, 3, "vda", p->verifier, &view, &err), 0);
	int fd = dial(view);
	(void)shake(fd);
	for (unsigned i = 0; i < 4; i++) {
		bad_disk_set("vm1/points/3/vda.qcow2", 0, bytes, codes[i]);
		assert_int_equal(ask(fd, 0, 0, 16, data), codes[i] == -ESHUTDOWN ? ESHUTDOWN : ENOMEM);
		assert_false(proven_view_damaged(view, &err));
		assert_int_equal(info_of(p, 3).state, VERIFY_NONE);
	}
	bad_disk_heal();
	assert_int_equal(ask(fd, 0, 0, 16, data), 0);
	assert_memory_equal(data, p->twin.point[3][0], 16);
	bad_disk_set("vm1/points/1/vda.qcow2", 0, bytes, -EIO); // and this is
	assert_int_equal(ask(fd, 0, 2 * BLOCK_SIZE, 16, data), EIO);
	assert_true(proven_view_damaged(view, &err));
	(void)close(fd);
	proven_view_stop(view);
	bad_disk_end();
	replica_release(p->twin.replica, 3);
}

int main(void)
{
	log_init("test_proven_view", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(view_answers_what_was_committed_and_nothing_else),
		TEST(view_ends_with_whoever_talks_nonsense_and_takes_the_next),
		TEST(view_outlives_a_want_of_descriptors),
		TEST(want_of_memory_or_descriptors_is_not_told_as_damage),
	};
	return cmocka_run_group_tests_name("proven_view", tests, NULL, NULL);
}
