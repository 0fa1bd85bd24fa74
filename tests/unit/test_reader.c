// SPDX-License-Identifier: Apache-2.0
// The reader: what it reads from memory and from the disk, and how it ends.
#include "replicator/reader.h"

#include "replicator/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

enum { FILE_SIZE = 3 << 20, JOBS = 8, JOB_SIZE = 300000, UNTIL = 99 };

static struct ring ring;
static struct reader reader;
static unsigned char *content;
static int fd;
static struct cold cold;

// In the place of the C library's: how a read looks to others while it waits for the disk, and while it does not.
static _Atomic unsigned waits_seen, waits_wrong;
ssize_t preadv2(int file, const struct iovec *to, int count, off_t off, int flags)
{
	unsigned waiting = atomic_load(&cold.waiting);
	waits_wrong += atomic_load(&cold.reads) != 1 || waiting != (flags & RWF_NOWAIT ? 0 : 1);
	waits_seen += waiting;
	return syscall(SYS_preadv2, file, to, count, (long)off, 0L, flags);
}

struct job {
	struct reader_job job;
	bool done;
};

static void on_done(struct ring_message *message)
{
	HOLDER(HOLDER(message, struct reader_job, message), struct job, job)->done = true;
}

static void begin(struct job *job, int file, uint64_t off, uint64_t len)
{
	*job = (struct job){.job = {.message = {.run = on_done}, .fd = file, .cold = &cold, .data = malloc(len), .off = off, .len = len}};
	assert_non_null(job->job.data);
	memset(job->job.data, UNTIL, len);
	reader_read(&reader, &job->job);
}

static int end(struct job *job)
{
	while (!job->done)
		assert_int_equal(ring_turn(&ring), 0);
	return job->job.res;
}

static int set_up(void **state)
{
	struct err err;
	char path[] = "/var/tmp/kagami-reader.XXXXXX";
	(void)state;
	fd = mkstemp(path);
	assert_true(fd >= 0);
	(void)unlink(path);
	content = malloc(FILE_SIZE);
	assert_non_null(content);
	for (unsigned i = 0; i < FILE_SIZE; i++)
		content[i] = (unsigned char)(i * 2654435761u >> 24);
	assert_int_equal(pwrite(fd, content, FILE_SIZE, 0), FILE_SIZE);
	assert_int_equal(ring_open(&ring, &err), 0);
	assert_int_equal(ring_init(&ring, &err), 0);
	assert_int_equal(reader_start(&reader, &ring, &err), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	reader_stop(&reader);
	reader_stop(&reader); // once is enough
	ring_refuse(&ring);
	ring_done(&ring);
	ring_close(&ring);
	free(content);
	(void)close(fd);
	return 0;
}

static void read_all_jobs(void)
{
	struct job job[JOBS];
	for (unsigned i = 0; i < JOBS; i++)
		begin(&job[i], fd, i * 333333, JOB_SIZE);
	for (unsigned i = 0; i < JOBS; i++) {
		assert_int_equal(end(&job[i]), 0);
		assert_memory_equal(job[i].job.data, content + i * 333333, JOB_SIZE);
		free(job[i].job.data);
	}
}

static void reads_what_is_in_memory_and_what_is_not(void **state)
{
	(void)state;
	read_all_jobs();
	assert_int_equal(fdatasync(fd), 0);
	for (unsigned at = 0; at < FILE_SIZE; at += 1 << 20) // in parts, so that a job is in memory here and there
		assert_int_equal(posix_fadvise(fd, at, 512 << 10, POSIX_FADV_DONTNEED), 0);
	reader_hurry(&reader, true);
	read_all_jobs();
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	reader_hurry(&reader, false);
	read_all_jobs();
}

static void read_past_the_end_and_of_no_file_is_an_error(void **state)
{
	struct job past, none, good;
	(void)state;
	begin(&past, fd, FILE_SIZE - 1000, 2000);
	begin(&none, -1, 0, 1000);
	begin(&good, fd, 0, 1000);
	assert_int_equal(end(&past), -EIO);
	assert_int_equal(past.job.data[1000], UNTIL);
	assert_int_equal(end(&none), -EBADF);
	assert_int_equal(end(&good), 0);
	assert_true(waits_seen > 0); // the one of no file, at least
	assert_int_equal(waits_wrong, 0);
	assert_int_equal(atomic_load(&cold.waiting) + atomic_load(&cold.reads), 0);
	free(past.job.data);
	free(none.job.data);
	free(good.job.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_what_is_in_memory_and_what_is_not, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_past_the_end_and_of_no_file_is_an_error, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("reader", tests, NULL, NULL);
}
