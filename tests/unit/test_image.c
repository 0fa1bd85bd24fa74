// SPDX-License-Identifier: Apache-2.0
// I/O on an image where the kernel does less than was asked: done in the end, or an error, and never silence.
// A limit on the size of files makes the kernel cut a write short at the limit, and refuse the one after it.
#include "replicator/image.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 4 << 20, LIMIT = 1 << 20, LARGE = 512 << 10 };

static struct temp temp;
static struct ring ring;
static struct image image;
static unsigned char data[LARGE];

static int set_up(void **state)
{
	(void)state;
	struct err err = {0};
	char path[512];
	temp_open(&temp);
	(void)snprintf(path, sizeof(path), "%s/image", temp.dir);
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	(void)close(fd);
	if (ring_open(&ring, &err) || ring_init(&ring, &err))
		fail_msg("%s", err.text);
	assert_int_equal(image_open(&image, path, false, &err), 0);
	image_attach(&image, &ring);
	(void)signal(SIGXFSZ, SIG_IGN);
	memset(data, 0x5a, sizeof(data));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	ring_refuse(&ring);
	image_close(&image);
	ring_done(&ring);
	ring_close(&ring);
	temp_close(&temp);
	return 0;
}

static void limit_files(bool on)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = on ? LIMIT : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

struct ending {
	struct aio aio; // first
	bool ended;
	int res;
};

static void on_done(struct aio *aio, int res)
{
	struct ending *ending = (struct ending *)(void *)aio;
	ending->ended = true;
	ending->res = res;
}

static void on_wake(struct ring_message *message)
{
	(void)message;
}

static int perform(enum aio_kind kind, uint64_t off, uint64_t len)
{
	struct ending ending = {.aio = {.kind = kind, .off = off, .len = len, .data = data, .done = on_done}};
	image.backend.submit(&image.backend, &ending.aio);
	while (!ending.ended) {
		static struct ring_message wake;
		wake = (struct ring_message){.run = on_wake}; // a turn waits for a completion: what ends without the ring has none
		assert_true(ring_post(&ring, &wake));
		assert_true(ring_turn(&ring) >= 0);
	}
	return ending.res;
}

static bool image_has(uint64_t off, uint64_t len, unsigned char value)
{
	unsigned char *read_back = malloc(len);
	assert_int_equal(pread(image.fd, read_back, len, (off_t)off), (ssize_t)len);
	bool same = true;
	for (uint64_t i = 0; i < len; i++)
		same &= read_back[i] == value;
	free(read_back);
	return same;
}

static void write_that_the_kernel_cuts_short_is_not_done(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {LARGE, 8192, 4096 + 512}; // over the ring; by the thread itself; unaligned
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t off = LIMIT - 4096;
		limit_files(true);
		int res = perform(AIO_WRITE, off, sizes[i]);
		limit_files(false);
		assert_int_equal(res, -EFBIG);
		assert_true(image_has(off, 4096, 0x5a)); // it was begun
		assert_true(image_has(LIMIT, sizes[i] - 4096, 0));
		assert_int_equal(perform(AIO_WRITE, off, sizes[i]), 0);
		assert_true(image_has(off, sizes[i], 0x5a));
		memset(data, 0, sizeof(data));
		assert_int_equal(perform(AIO_WRITE, off, LARGE), 0);
		memset(data, 0x5a, sizeof(data));
	}
}

static void write_that_the_kernel_refuses_is_an_error(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {LARGE, 4096, 512};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		limit_files(true);
		int res = perform(AIO_WRITE, 2 * LIMIT, sizes[i]);
		limit_files(false);
		assert_int_equal(res, -EFBIG);
	}
}

static void read_past_an_image_that_became_shorter_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(ftruncate(image.fd, LIMIT), 0);
	assert_int_equal(perform(AIO_READ, LIMIT - 4096, 8192), -EIO);
	assert_int_equal(perform(AIO_READ, LIMIT - 4096, 4096), 0);
}

// ---- interrupted

static void (*op_done)(struct ring_op *op, int res);
static int interrupted; // what comes instead of the next result; 0: nothing does

static void on_op(struct ring_op *op, int res)
{
	int code = interrupted;
	interrupted = 0;
	op->done = op_done;
	op_done(op, code ? code : res);
}

// As perform(), but the operation's first completion is `code`.
static int perform_interrupted(enum aio_kind kind, int code)
{
	struct ending ending = {.aio = {.kind = kind, .len = kind == AIO_SYNC ? 0 : LARGE, .data = data, .done = on_done}};
	struct io_uring_sq *sq = &ring.uring.sq;
	image.backend.submit(&image.backend, &ending.aio);
	struct ring_op *op = (struct ring_op *)(uintptr_t)sq->sqes[(sq->sqe_tail - 1) & *sq->kring_mask].user_data;
	op_done = op->done;
	op->done = on_op;
	interrupted = code;
	for (unsigned turns = 0; !ending.ended && turns < 100; turns++)
		assert_true(ring_turn(&ring) >= 0);
	assert_true(ending.ended);
	return ending.res;
}

static void sync_that_was_interrupted_has_failed(void **state)
{
	(void)state;
	assert_int_equal(perform_interrupted(AIO_SYNC, -EINTR), -EINTR);
	assert_int_equal(perform_interrupted(AIO_SYNC, -EAGAIN), -EAGAIN);
	assert_int_equal(perform_interrupted(AIO_SYNC, 0), 0);
}

static void read_and_write_that_were_interrupted_are_done_again(void **state)
{
	(void)state;
	assert_int_equal(perform_interrupted(AIO_WRITE, -EINTR), 0);
	assert_true(image_has(0, LARGE, 0x5a));
	memset(data, 0, sizeof(data));
	assert_int_equal(perform_interrupted(AIO_READ, -EAGAIN), 0);
	assert_int_equal(data[LARGE - 1], 0x5a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(write_that_the_kernel_cuts_short_is_not_done, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_that_the_kernel_refuses_is_an_error, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sync_that_was_interrupted_has_failed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_and_write_that_were_interrupted_are_done_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_past_an_image_that_became_shorter_is_an_error, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
