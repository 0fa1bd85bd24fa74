// SPDX-License-Identifier: Apache-2.0
// I/O on an image where the kernel does less than was asked: done in the end, or an error, and never silence.
// A limit on the size of files makes the kernel cut a write short at the limit, and refuse the one after it.
#include "replicator/export.h"
#include "replicator/image.h"

#include "base/clock.h"
#include "replicator/reader.h"
#include "tests/lib/attached_image.h"
#include "tests/lib/file_limit.h"
#include "tests/lib/twin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define HOUR_NS (UINT64_C(3600) * 1000000000)

enum { SIZE = 4 << 20, LIMIT = 1 << 20, LARGE = 512 << 10 };

static struct temp temp;
static struct ring ring;
static struct image image;
static unsigned char data[LARGE];
static int failed; // that a sync beside the guest's told

static int set_up(void **state)
{
	(void)state;
	attached_image_begin(&temp, &ring, &image, SIZE);
	memset(data, 0x5a, sizeof(data));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	attached_image_end(&temp, &ring, &image);
	return 0;
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

static bool proven; // the disk is known to be quick, however long this test takes

static int perform(enum aio_kind kind, uint64_t off, uint64_t len)
{
	struct ending ending = {.aio = {.kind = kind, .off = off, .len = len, .data = data, .done = on_done}};
	if (proven)
		image.wrote_ns = clock_mono_ns() + HOUR_NS;
	image.backend.submit(&image.backend, &ending.aio);
	while (!ending.ended)
		assert_int_equal(ring_turn(&ring), 0);
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
		limit_files(LIMIT);
		int res = perform(AIO_WRITE, off, sizes[i]);
		limit_files(RLIM_INFINITY);
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
		limit_files(LIMIT);
		int res = perform(AIO_WRITE, 2 * LIMIT, sizes[i]);
		limit_files(RLIM_INFINITY);
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

static unsigned pages_in_memory(void *map, size_t len)
{
	static unsigned char in[SIZE / 4096];
	unsigned count = 0;
	assert_int_equal(mincore(map, len, in), 0);
	for (size_t i = 0; i < len / 4096; i++)
		count += in[i] & 1;
	return count;
}

// All of the range, though the kernel takes only a part at a time; and nothing behind it by our doing.
static void advice_brings_the_range_into_memory(void **state)
{
	(void)state;
	enum { ADVISED = 2 << 20 };
	for (uint64_t off = 0; off < SIZE; off += LARGE)
		assert_int_equal(perform(AIO_WRITE, off, LARGE), 0);
	assert_int_equal(perform(AIO_SYNC, 0, 0), 0);
	assert_int_equal(posix_fadvise(image.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	void *map = mmap(NULL, ADVISED, PROT_READ, MAP_SHARED, image.fd, 0);
	assert_true(map != MAP_FAILED);
	if (pages_in_memory(map, ADVISED)) {
		print_message("# this file system keeps all in memory\n");
		(void)munmap(map, ADVISED);
		skip();
	}
	assert_int_equal(perform(AIO_ADVISE, 0, ADVISED), 0);
	for (unsigned i = 0; i < 10000 && pages_in_memory(map, ADVISED) < ADVISED / 4096; i++)
		(void)usleep(1000);
	assert_int_equal(pages_in_memory(map, ADVISED), ADVISED / 4096);
	(void)munmap(map, ADVISED);
}

// Makes the kernel answer every open() with O_TMPFILE as a file system does that has no such files.
static void refuse_nameless_files(int code)
{
	const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_TMPFILE & ~O_DIRECTORY, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = (struct sock_filter *)(uintptr_t)filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(77);
}

static bool directory_is_empty(const char *path)
{
	DIR *dir = opendir(path);
	unsigned names = 0;
	while (dir && readdir(dir))
		names++;
	return dir && closedir(dir) == 0 && names == 2;
}

static bool scratch_is_sound(const char *dir)
{
	struct image scratch;
	struct stat st;
	char byte = 0;
	if (image_open_scratch(&scratch, dir, NULL))
		return false;
	bool sound = directory_is_empty(dir) && fstat(scratch.fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0 &&
		     (st.st_mode & 0777) == 0600 && st.st_size == 0 && (fcntl(scratch.fd, F_GETFD) & FD_CLOEXEC) &&
		     pwrite(scratch.fd, "x", 1, 1 << 20) == 1 && pread(scratch.fd, &byte, 1, 1 << 20) == 1 && byte == 'x';
	image_close(&scratch);
	return sound;
}

// In a process of its own: a filter stays for good.
static int scratch_status_when_refused_with(const char *dir, int code)
{
	int status = 0;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		refuse_nameless_files(code);
		int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		_exit(fd >= 0 || errno != code ? 78 : scratch_is_sound(dir) ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void scratch_file_has_no_name_whatever_the_file_system_can_do(void **state)
{
	(void)state;
	char dir[512];
	struct image scratch;
	struct err err = {0};
	(void)snprintf(dir, sizeof(dir), "%s/spill", temp.dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_true(scratch_is_sound(dir));
	int status = scratch_status_when_refused_with(dir, EOPNOTSUPP);
	if (status == 77) {
		print_message("# this kernel takes no filter: the way without O_TMPFILE is not tested\n");
		skip();
	}
	assert_int_equal(status, 0);
	assert_int_equal(scratch_status_when_refused_with(dir, EISDIR), 0);
	assert_int_equal(scratch_status_when_refused_with(dir, ENOSPC), 1); // what is wrong with the disk is no reason for another way
	assert_true(directory_is_empty(dir));
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(image_open_scratch(&scratch, dir, &err), -ENOENT);
	assert_non_null(strstr(err.text, dir));
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

// ---- zeros on a block device, whose pages the kernel drops before it finds that the device cannot

static void device_is_asked_for_zeros_only_where_it_has_them_for_whole_pages(void **state)
{
	(void)state;
	static const enum aio_kind kinds[] = {AIO_PUNCH, AIO_ZERO};
	image.block_device = true;
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		memset(data, 0x5a, sizeof(data));
		assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
		unsigned submitted = ring.uring.sq.sqe_tail;
		image.no_zeroes = true;
		assert_int_equal(perform(kinds[i], 0, 8192), -EOPNOTSUPP);
		image.no_zeroes = false;
		assert_int_equal(perform(kinds[i], 512, 8192), -EOPNOTSUPP);
		assert_int_equal(perform(kinds[i], 4096, 512), -EOPNOTSUPP);
		assert_int_equal(ring.uring.sq.sqe_tail, submitted); // the kernel was not asked
		assert_true(image_has(0, LARGE, 0x5a));
		assert_int_equal(perform(kinds[i], 4096, 8192), 0);
		assert_true(image_has(0, 4096, 0x5a) && image_has(4096, 8192, 0) && image_has(12288, 4096, 0x5a));
		image.size = SIZE - 512; // the last page is one as well
		assert_int_equal(perform(kinds[i], SIZE - 4096, 4096 - 512), 0);
		image.size = SIZE;
	}
	image.block_device = false;
	assert_int_equal(perform(AIO_PUNCH, 512, 8192), 0); // a file does that
}

static void device_that_cannot_zero_after_all_has_zeros_written(void **state)
{
	(void)state;
	image.block_device = true;
	assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
	unsigned submitted = ring.uring.sq.sqe_tail;
	assert_int_equal(perform_interrupted(AIO_PUNCH, -EOPNOTSUPP), 0);
	assert_int_equal(ring.uring.sq.sqe_tail, submitted + 2); // another way, by the kernel
	assert_true(image_has(0, LARGE, 0));
	assert_true(image.no_zeroes); // it is not asked again
	assert_int_equal(perform(AIO_PUNCH, 0, 8192), -EOPNOTSUPP);
	image.no_zeroes = false;
	assert_int_equal(perform_interrupted(AIO_PUNCH, -EREMOTEIO), 0); // however it says so
	assert_false(image.no_zeroes);
	assert_int_equal(perform_interrupted(AIO_ZERO, -ENOSPC), -EIO); // what was written there before may be lost, and that is no want of the guest's
	image.block_device = false;
	assert_int_equal(perform_interrupted(AIO_PUNCH, -EOPNOTSUPP), -EOPNOTSUPP); // of a file nothing was done
	assert_int_equal(perform_interrupted(AIO_PUNCH, -ENOSPC), -ENOSPC);
}

// ---- cancelled: the kernel has no worker thread

static struct reader reader;
static int sync_fails; // the reader's next one, with that
static unsigned by_the_reader, syncs_by_the_reader, cancellations;

static void no_worker(struct ring *of)
{
	cancellations++;
	of->workerless = true;
}

static void reader_begin(void)
{
	struct err err = {0};
	assert_int_equal(reader_start(&reader, &ring, &err), 0);
	image.reader = &reader;
	ring.cancelled = no_worker;
	by_the_reader = syncs_by_the_reader = cancellations = 0;
}

static void reader_end(void)
{
	reader_stop(&reader);
	image.reader = NULL;
}

static bool is_reader(void)
{
	char name[16];
	return prctl(PR_GET_NAME, name) == 0 && strcmp(name, "kagami-reader") == 0;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	by_the_reader += is_reader();
	return (int)syscall(SYS_fallocate, fd, mode, off, len);
}

// No guest sees that; and what comes next does not try its luck with the ring, but for reads, which mostly need nobody.
static void what_was_cancelled_is_done_by_the_reader(void **state)
{
	(void)state;
	reader_begin();
	image.known = true;
	proven = false;
	assert_int_equal(perform_interrupted(AIO_WRITE, -ECANCELED), 0);
	assert_true(image_has(0, LARGE, 0x5a));
	assert_int_equal(cancellations, 1);
	assert_true(ring.workerless);
	assert_false(unreadable_any(&image.unreadable));
	unsigned writes = by_the_reader;
	assert_true(writes > 0);
	static const enum aio_kind kinds[] = {AIO_WRITE, AIO_SYNC, AIO_PUNCH};
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		memset(data, 0x30 + (int)i, sizeof(data));
		unsigned before = by_the_reader, submitted = ring.uring.sq.sqe_tail;
		image.wrote_ns = 0; // not proven
		assert_int_equal(perform(kinds[i], 0, kinds[i] == AIO_SYNC ? 0 : LARGE), 0);
		assert_int_equal(by_the_reader, before + 1);
		assert_int_equal(ring.uring.sq.sqe_tail, submitted);
		assert_true(kinds[i] != AIO_WRITE || image_has(0, LARGE, 0x30));
	}
	assert_int_equal(syncs_by_the_reader, 1);
	assert_true(image_has(0, LARGE, 0)); // punched
	unsigned before = by_the_reader;
	image.by_turns = image.waits_always = false;
	assert_int_equal(perform(AIO_READ, 0, LARGE), 0);
	assert_int_equal(by_the_reader, before);
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(perform_interrupted(AIO_READ, -ECANCELED), 0);
	assert_int_equal(by_the_reader, before + 1);
	assert_int_equal(data[LARGE - 1], 0);
	assert_int_equal(perform(AIO_ADVISE, 0, LARGE), -ECANCELED); // a hint
	ring.workerless = false;
	memset(data, 0x21, sizeof(data));
	before = by_the_reader;
	image.wrote_ns = 0;
	assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
	assert_int_equal(by_the_reader, before);
	assert_true(image_has(0, LARGE, 0x21));
	reader_end();
}

// What was in the pipe is there still.
static void write_from_a_pipe_that_was_cancelled_is_done_by_the_reader(void **state)
{
	int ends[2];
	(void)state;
	reader_begin();
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], data, 8192), 8192);
	ring.workerless = true;
	image.wrote_ns = 0;
	struct ending ending = {.aio = {.kind = AIO_WRITE, .off = 4096, .len = 8192, .pipe = &ends[0], .done = on_done}};
	unsigned submitted = ring.uring.sq.sqe_tail;
	image.backend.submit(&image.backend, &ending.aio);
	assert_int_equal(ring.uring.sq.sqe_tail, submitted);
	while (!ending.ended)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(ending.res, 0);
	assert_true(image_has(4096, 8192, 0x5a));
	(void)close(ends[0]);
	(void)close(ends[1]);
	reader_end();
}

// V3: a sync that the kernel cancelled was not begun, and is no second one. Where the answer may be the file system's own it has failed; and what the
// reader is told is the file's own answer, always.
static void sync_that_was_cancelled_is_done_unless_that_may_be_the_file_systems_word(void **state)
{
	(void)state;
	reader_begin();
	image.known = image.block_device = false;
	assert_int_equal(perform_interrupted(AIO_SYNC, -ECANCELED), -ECANCELED);
	assert_int_equal(syncs_by_the_reader, 0);
	image.known = true;
	assert_int_equal(perform_interrupted(AIO_SYNC, -ECANCELED), 0);
	assert_int_equal(syncs_by_the_reader, 1);
	sync_fails = ECANCELED;
	assert_int_equal(perform(AIO_SYNC, 0, 0), -ECANCELED); // not once more
	assert_int_equal(syncs_by_the_reader, 2);
	sync_fails = EINTR;
	assert_int_equal(perform(AIO_SYNC, 0, 0), -EINTR);
	assert_int_equal(syncs_by_the_reader, 3);
	assert_int_equal(perform(AIO_SYNC, 0, 0), 0);
	reader_end();
}

// The images of an export are synced when its loop takes no messages any more.
static void errand_ends_also_after_the_ring_refuses_messages(void **state)
{
	(void)state;
	reader_begin();
	ring_refuse(&ring);
	ring.workerless = true;
	assert_int_equal(perform(AIO_SYNC, 0, 0), 0);
	assert_int_equal(syncs_by_the_reader, 1);
	reader_end();
}

// Others are as they came.
static void errands_are_done_in_the_order_in_which_they_came(void **state)
{
	(void)state;
	struct ending ending[8];
	unsigned char *each = malloc(8 * (size_t)LARGE);
	assert_non_null(each);
	reader_begin();
	ring.workerless = true;
	for (unsigned i = 0; i < 8; i++) {
		memset(each + i * (size_t)LARGE, (int)i + 1, LARGE);
		ending[i] = (struct ending){.aio = {.kind = AIO_WRITE, .len = LARGE, .data = each + i * (size_t)LARGE, .done = on_done}};
		image.wrote_ns = 0;
		image.backend.submit(&image.backend, &ending[i].aio);
	}
	for (unsigned i = 0; i < 8; i++) {
		while (!ending[i].ended)
			assert_int_equal(ring_turn(&ring), 0);
		assert_int_equal(ending[i].res, 0);
	}
	assert_true(image_has(0, LARGE, 8));
	free(each);
	reader_end();
}

// ---- a sync of much

enum { MUCH_SIZE = 64 << 20 };

static int set_up_large(void **state)
{
	(void)state;
	attached_image_begin(&temp, &ring, &image, MUCH_SIZE);
	return 0;
}

static uint64_t unwritten_pages(void)
{
	struct image_pages pages;
	return image_pages(&image, 0, 0, &pages) ? 0 : pages.dirty + pages.writeback;
}

static void write_much(void) // two pieces
{
	for (uint64_t off = 0; off < MUCH_SIZE; off += 2 << 20)
		assert_int_equal(perform(AIO_WRITE, off, LARGE), 0);
}

static struct hook {
	struct ring_op *op;
	void (*done)(struct ring_op *op, int res);
	int code; // what comes in the place of its result; 0: that
} hook[2];

static void on_hook(struct ring_op *op, int res)
{
	struct hook *h = &hook[op == hook[1].op];
	op->done = h->done;
	op->done(op, h->code ? h->code : res);
}

// Of a sync that is done in pieces: the second is begun, and the first waited for behind that, by one worker.
static int sync_much(int waited, int begun)
{
	struct ending ending = {.aio = {.kind = AIO_SYNC, .done = on_done}};
	struct io_uring_sq *sq = &ring.uring.sq;
	write_much();
	image.backend.submit(&image.backend, &ending.aio);
	for (unsigned i = 0; i < 2; i++) {
		const struct io_uring_sqe *sqe = &sq->sqes[(sq->sqe_tail - 1 - i) & *sq->kring_mask];
		assert_int_equal(sqe->opcode, IORING_OP_SYNC_FILE_RANGE);
		assert_true(sqe->len && sqe->off == i * (uint64_t)MUCH_SIZE / 2);
		assert_int_equal(sqe->sync_range_flags & SYNC_FILE_RANGE_WAIT_AFTER, i ? 0 : SYNC_FILE_RANGE_WAIT_AFTER);
		assert_int_equal(sqe->flags & IOSQE_IO_HARDLINK, i ? IOSQE_IO_HARDLINK : 0);
		hook[i] = (struct hook){.op = (struct ring_op *)(uintptr_t)sqe->user_data, .code = i ? begun : waited};
		hook[i].done = hook[i].op->done;
		hook[i].op->done = on_hook;
	}
	while (!ending.ended)
		assert_int_equal(ring_turn(&ring), 0);
	return ending.res;
}

static void sync_of_much_is_done_in_pieces_and_then_as_a_whole(void **state)
{
	(void)state;
	assert_int_equal(sync_much(0, 0), 0);
	assert_int_equal(atomic_load(&image.pieces), 3); // the second is waited for, too
	assert_int_equal(unwritten_pages(), 0);
	assert_true(image.synced);
	assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
	assert_int_equal(perform(AIO_SYNC, 0, 0), 0);
	assert_int_equal(atomic_load(&image.pieces), 3); // of little, in one
	assert_int_equal(unwritten_pages(), 0);
	image_grown(&image, MUCH_SIZE); // as large as it was
	assert_int_equal(sync_much(0, 0), 0);
	assert_int_equal(atomic_load(&image.pieces), 6);
	assert_int_equal(unwritten_memory(&image.unwritten), 16);
}

// Whatever it says. The kernel has told it, and tells it to nobody again (V3): so it is of a code that says elsewhere that nothing was begun, too, since a file system, or a device, may have its own.
static void error_of_a_piece_is_the_syncs(void **state)
{
	static const int codes[] = {-EIO, -ENOSPC, -EINVAL, -EOPNOTSUPP, -ENOSYS, -ESPIPE, -EINTR, -EAGAIN, -ENOMEM, -ECANCELED};
	static const int of_the_moment[] = {-ENOMEM, -EAGAIN, -EINTR, -ECANCELED};
	(void)state;
	for (size_t i = 0; i < COUNT(codes); i++)
		assert_int_equal(sync_much(codes[i], 0), codes[i]);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(sync_much(0, codes[i]), codes[i]); // of one that was merely begun
	assert_int_equal(sync_much(-EINVAL, -EIO), -EINVAL);
	for (size_t i = 0; i < COUNT(of_the_moment); i++) { // it is waited for next
		assert_int_equal(sync_much(0, of_the_moment[i]), 0);
		assert_int_equal(unwritten_pages(), 0);
		assert_int_equal(sync_much(-EIO, of_the_moment[i]), -EIO);
	}
}

// Where the kernel has none it has begun nothing; of a file system whose own words are not known that is not certain.
static void piece_without_a_worker_is_left_to_the_reader(void **state)
{
	(void)state;
	bool known = image.known;
	reader_begin();
	image.known = true;
	assert_int_equal(sync_much(-ECANCELED, -ECANCELED), 0);
	assert_true(syncs_by_the_reader == 1 && cancellations == 1 && ring.workerless);
	assert_int_equal(unwritten_pages(), 0);
	uint64_t before = atomic_load(&image.pieces);
	write_much();
	assert_int_equal(perform(AIO_SYNC, 0, 0), 0);
	assert_true(syncs_by_the_reader == 2 && atomic_load(&image.pieces) == before);
	ring.workerless = false;
	image.known = false;
	assert_int_equal(sync_much(-ECANCELED, 0), -ECANCELED);
	image.known = known;
	reader_end();
}

// What a guest writes behind the pieces is in pieces, too, and not all in the sync at the end, as long as it becomes less.
static void what_is_written_behind_the_pieces_is_done_in_pieces(void **state)
{
	(void)state;
	struct ending ending = {.aio = {.kind = AIO_SYNC, .done = on_done}};
	write_much();
	image.backend.submit(&image.backend, &ending.aio);
	uint64_t pieces = atomic_load(&image.pieces);
	for (uint64_t off = 0; off < MUCH_SIZE / 4 * 3; off += 4 << 20) // three quarters: half of what there was
		for (unsigned i = 0; i < 12; i++)
			unwritten_add(&image.unwritten, i % 2 ? 0 : off, 32 << 10);
	while (!ending.ended)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(ending.res, 0);
	assert_true(atomic_load(&image.pieces) > pieces + 3);
	assert_true(image.unwritten.total < UNWRITTEN_PIECE);
}

// Nothing that is owed may look as if it hung while pieces of it end.
static void disk_that_writes_piece_by_piece_goes_on(void **state)
{
	(void)state;
	struct ending ending = {.aio = {.kind = AIO_SYNC, .done = on_done}};
	write_much();
	image.backend.submit(&image.backend, &ending.aio);
	image.owed_changes.moved_ns = 1;
	while (atomic_load(&image.pieces) == 0)
		assert_int_equal(ring_turn(&ring), 0);
	assert_true(image.owed_changes.moved_ns > 1);
	while (!ending.ended)
		assert_int_equal(ring_turn(&ring), 0);
}

// In the place of the C library's: of a sync beside the guest's.
static unsigned ranges;
static uint64_t range_end;
static int range_fails;
static bool ranges_refused;
int sync_file_range(int fd, off_t off, off_t len, unsigned flags)
{
	assert_int_not_equal(fd, image.fd); // whose error is the guest's (G5)
	if (!flags) // whether it is allowed
		return ranges_refused ? -1 : 0;
	assert_true(off == 0 || ranges == 0 || (uint64_t)off >= range_end); // one behind the other; what is clean is left out
	assert_in_range(len, 1, 1 << 30);
	ranges = off ? ranges + 1 : 1;
	range_end = (uint64_t)(off + len);
	errno = range_fails;
	return range_fails ? -1 : (int)syscall(SYS_sync_file_range, fd, off, len, flags);
}

static void sync_beside_the_guests_is_done_in_pieces_too(void **state)
{
	static const int codes[] = {EIO, EINVAL, EOPNOTSUPP, ECANCELED, ENOSYS};
	(void)state;
	write_much();
	ranges = 0;
	assert_true(image_settle(&image, &failed));
	assert_true(ranges >= 16 && range_end >= MUCH_SIZE); // of 1 MiB and a little at the most
	assert_int_equal(unwritten_pages(), 0);
	write_much();
	ranges = 0;
	ranges_refused = true; // by a filter of system calls
	assert_true(image_settle(&image, &failed));
	ranges_refused = false;
	assert_int_equal(ranges, 0);
	assert_int_equal(unwritten_pages(), 0);
	for (size_t i = 0; i < COUNT(codes); i++) {
		write_much();
		ranges = 0;
		range_fails = codes[i];
		assert_false(image_settle(&image, &failed));
		assert_int_equal(failed, -codes[i]);
		assert_int_equal(ranges, 1);
	}
	range_fails = 0;
}

// In the place of the C library's, for the program's own code.
static unsigned fsyncs;
static int fsync_fd = -1;
static off_t fsync_size;
static uint64_t sync_silence_ns; // that others see while somebody syncs the image, an hour later
int fsync(int fd)
{
	struct stat st;
	fsyncs++;
	sync_silence_ns = image_silent_ns(&image, clock_mono_ns() + HOUR_NS);
	fsync_fd = fd;
	fsync_size = fstat(fd, &st) == 0 ? st.st_size : -1;
	return (int)syscall(SYS_fsync, fd);
}

static void (*while_it_syncs)(void); // of another thread, that asks something else meanwhile
int fdatasync(int fd)
{
	if (while_it_syncs)
		while_it_syncs();
	if (is_reader()) {
		by_the_reader++;
		syncs_by_the_reader++;
		errno = sync_fails;
		sync_fails = 0;
		if (errno)
			return -1;
	}
	sync_silence_ns = image_silent_ns(&image, clock_mono_ns() + HOUR_NS);
	return (int)syscall(SYS_fdatasync, fd);
}

static void size_of_a_grown_image_is_durable_before_anybody_is_told(void **state)
{
	struct err err = {0};
	(void)state;
	fsyncs = 0;
	assert_int_equal(image_extend(&image, SIZE + LARGE, &failed, &err), 0);
	assert_int_equal(fsyncs, 1);
	assert_int_not_equal(fsync_fd, image.fd); // whose error is the guest's (G5)
	assert_int_equal(fsync_size, SIZE + LARGE);
	assert_int_equal(image_extend(&image, SIZE + LARGE, &failed, &err), 0); // a process before may have been killed in between
	assert_int_equal(fsyncs, 2);
}

// Whatever state it is in on its way to the disk: dirty in memory over nothing, over space that was kept, allocated late; and written back.
static void no_hole_is_told_where_anything_was_written(void **state)
{
	static const uint64_t at[] = {0, 5 * PIECE_SIZE + 512, 1 << 20, (3 << 20) - 1, SIZE - 1};
	char path[512];
	uint64_t until;
	(void)state;
	if (!image.backend.hole)
		skip(); // a file system that is not believed
	(void)snprintf(path, sizeof(path), "%s/image", temp.dir);
	int fd = open(path, O_RDWR); // another program's, before us
	assert_true(fd >= 0);
	assert_true(image.backend.hole(&image.backend, 0, &until) && until == SIZE);
	assert_int_equal(posix_fallocate(fd, 2 << 20, 1 << 20), 0); // unwritten
	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++)
		assert_int_equal(pwrite(fd, "x", 1, (off_t)at[i]), 1);
	for (unsigned synced = 0; synced < 2; synced++) {
		for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
			assert_false(image.backend.hole(&image.backend, at[i], &until));
			uint64_t from = i ? at[i - 1] + 1 : 0; // from anywhere before it, the hole ends before it
			if (from < at[i] && image.backend.hole(&image.backend, from, &until))
				assert_true(until <= at[i]);
		}
		assert_true(image_settle(&image, &failed));
	}
	(void)close(fd);
}

// ---- writes from the thread itself

// In the place of the C library's, for the program's own code: a file system that can say that a write would have to wait, or cannot.
static unsigned quick_calls;
static int quick_code;	   // what it says; 0: it takes the write
static size_t quick_bytes; // of which it takes so many first; 0: none
ssize_t pwritev2(int fd, const struct iovec *from, int count, off_t off, int flags)
{
	assert_true(fd == image.fd && count == 1 && flags == RWF_NOWAIT);
	quick_calls++;
	size_t len = quick_code ? quick_bytes : from->iov_len;
	quick_bytes = 0;
	if (len)
		return pwrite(fd, from->iov_base, len, off);
	errno = quick_code;
	return -1;
}

static uint64_t silent(uint64_t later_ns)
{
	return image_silent_ns(&image, clock_mono_ns() + later_ns);
}

static void ask_what_it_is(void)
{
	struct image_identity identity;
	struct err err = {0};
	assert_int_equal(image_identify(&image, &identity, &err), 0);
}

// A disk that hangs still answers what is in memory: who is told that must not take the other for answered.
static void sync_that_hangs_is_seen_though_another_thread_was_answered_meanwhile(void **state)
{
	(void)state;
	sync_silence_ns = 0;
	while_it_syncs = ask_what_it_is;
	assert_true(image_settle(&image, &failed));
	while_it_syncs = NULL;
	assert_in_range(sync_silence_ns, HOUR_NS, 2 * HOUR_NS);
	assert_int_equal(silent(HOUR_NS), 0);
}

static uint64_t least_silence_ns = UINT64_MAX; // that others see while the thread is in a write, an hour later
static unsigned own_writes;		       // by the thread itself
ssize_t pwrite(int fd, const void *from, size_t len, off_t off)
{
	if (fd == image.fd && silent(HOUR_NS) < least_silence_ns)
		least_silence_ns = silent(HOUR_NS);
	own_writes += fd == image.fd;
	by_the_reader += is_reader();
	return syscall(SYS_pwrite64, fd, from, len, off);
}

// In the place of the C library's: a machine that stops for a moment is no slow disk.
static bool clock_stands;
int clock_gettime(clockid_t clock, struct timespec *at)
{
	static struct timespec stood;
	if (!clock_stands || !stood.tv_sec || clock != CLOCK_MONOTONIC) {
		long rc = syscall(SYS_clock_gettime, clock, at);
		if (clock == CLOCK_MONOTONIC)
			stood = *at;
		return (int)rc;
	}
	*at = stood;
	return 0;
}

static bool by_the_ring(void) // one of the operations so far
{
	return image.spare != NULL;
}

static void quick_begin(int code)
{
	quick_calls = 0;
	own_writes = 0;
	proven = true;
	quick_code = code;
	quick_bytes = 0;
}

static void write_that_need_not_wait_is_done_at_once(void **state)
{
	(void)state;
	quick_begin(0);
	clock_stands = true;
	for (int i = 0; i < 40; i++)
		assert_int_equal(perform(AIO_WRITE, (uint64_t)i * 8192, 8192), 0);
	clock_stands = false;
	assert_true(image_has(0, 40 * 8192, 0x5a));
	assert_false(by_the_ring());
	assert_int_equal(quick_calls, 40);
}

static void only_a_write_that_ended_well_is_noted_as_written(void **state)
{
	static struct rest_page page;
	(void)state;
	quick_begin(0);
	image.rest.page = &page;
	assert_int_equal(perform(AIO_WRITE, 0, 4096), 0);
	int64_t written_ns = atomic_load(&page.written_ns);
	assert_true(written_ns > 0);
	assert_int_equal(written_ns, atomic_load(&page.stirred_ns));
	while (rest_stirred(&image.rest) == written_ns) // the next tick of that clock
		rest_stir(&image.rest);
	limit_files(LIMIT);
	assert_int_equal(perform(AIO_WRITE, 2 * LIMIT, 4096), -EFBIG);
	limit_files(RLIM_INFINITY);
	assert_int_equal(atomic_load(&page.written_ns), written_ns);
	image.rest.page = NULL;
}

static void write_that_would_wait_goes_by_the_ring(void **state)
{
	(void)state;
	quick_begin(EAGAIN);
	assert_int_equal(perform(AIO_WRITE, 0, 8192), 0);
	assert_true(by_the_ring() && image_has(0, 8192, 0x5a));
	assert_int_equal(quick_calls, 1);
	quick_bytes = 4096; // and what was written before stays
	memset(data, 0x11, 4096);
	assert_int_equal(perform(AIO_WRITE, 1 << 20, 12288), 0);
	assert_true(image_has(1 << 20, 4096, 0x11) && image_has((1 << 20) + 4096, 8192, 0x5a));
	assert_false(image.waits);
}

static void file_system_that_refuses_every_such_write_is_not_asked_for_ever(void **state)
{
	(void)state;
	quick_begin(EAGAIN);
	for (int i = 0; i < 100; i++)
		assert_int_equal(perform(AIO_WRITE, (uint64_t)i * 4096, 4096), 0);
	assert_true(quick_calls > 1 && quick_calls < 100 && image.waits);
	assert_true(image_has(0, 100 * 4096, 0x5a));
}

static void refuse_writes(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(perform(AIO_WRITE, (uint64_t)i * 4096, 4096), 0);
}

// xfs refuses such a write while the image is being read: that is no reason to wait in the thread from then on.
static void refusal_that_may_have_a_reason_is_not_remembered(void **state)
{
	(void)state;
	quick_begin(EAGAIN);
	atomic_store(&image.cold.reads, 1);
	refuse_writes(100);
	assert_false(image.waits);
	atomic_store(&image.cold.reads, 0);
	image.owed_reads = (struct image_owed){.pending = 1, .moved_ns = clock_mono_ns() + HOUR_NS};
	refuse_writes(100);
	assert_false(image.waits);
	image.owed_reads.pending = 0;
	quick_begin(0);
	refuse_writes(1); // it was taken
	quick_begin(EAGAIN);
	refuse_writes(100);
	assert_false(image.waits);
	assert_int_equal(own_writes, 0);
}

static void file_system_that_knows_no_such_write_is_asked_once(void **state)
{
	(void)state;
	quick_begin(EOPNOTSUPP);
	for (int i = 0; i < 10; i++)
		assert_int_equal(perform(AIO_WRITE, (uint64_t)i * 4096, 4096), 0);
	assert_int_equal(quick_calls, 1);
	assert_true(image_has(0, 10 * 4096, 0x5a));
	assert_false(by_the_ring());
}

// Nothing of it has ended for so long that the disk may be dead: the thread, which others need, does not touch it.
static void disk_that_owes_an_answer_gets_its_writes_by_the_ring(void **state)
{
	(void)state;
	quick_begin(0);
	image.owed_changes.pending = 1; // a sync that hangs
	image.owed_changes.moved_ns = clock_mono_ns() + HOUR_NS;
	assert_int_equal(perform(AIO_WRITE, 0, 4096), 0);
	assert_false(by_the_ring()); // not for long yet
	image.owed_changes.moved_ns = 1;
	assert_int_equal(perform(AIO_WRITE, 4096, 4096), 0);
	assert_true(by_the_ring());
	assert_int_equal(quick_calls, 1);
	image.owed_changes.moved_ns = 1; // that one has ended; the sync has not
	assert_false(image_sendable(&image, 0, LARGE));
	image.owed_changes.pending = 0;
	assert_true(image_has(0, 8192, 0x5a));
}

// Whatever waits for it, and whatever thread that is; and nobody is asked.
static void image_that_does_not_answer_is_seen_from_outside(void **state)
{
	(void)state;
	assert_int_equal(silent(HOUR_NS), 0); // nothing is asked of it
	quick_begin(EOPNOTSUPP);
	least_silence_ns = UINT64_MAX;
	assert_int_equal(perform(AIO_WRITE, 0, 4096), 0); // by the thread itself
	assert_int_equal(own_writes, 1);
	assert_in_range(least_silence_ns, HOUR_NS, 2 * HOUR_NS);
	assert_int_equal(silent(HOUR_NS), 0); // it has ended
	quick_begin(EAGAIN);
	image.waits = false;
	assert_int_equal(perform(AIO_WRITE, 0, 8192), 0); // begun by the thread, and left to a worker
	assert_int_equal(silent(HOUR_NS), 0);
	struct ending ending = {.aio = {.kind = AIO_SYNC, .done = on_done}};
	image.backend.submit(&image.backend, &ending.aio);
	assert_in_range(silent(HOUR_NS), HOUR_NS, 2 * HOUR_NS);
	while (!ending.ended)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(silent(HOUR_NS), 0);
	sync_silence_ns = 0; // a thread of a cycle that syncs all of it, before its holes are believed, or makes it larger
	assert_true(image_settle(&image, &failed));
	assert_in_range(sync_silence_ns, HOUR_NS, 2 * HOUR_NS);
	struct err err = {0};
	sync_silence_ns = 0;
	assert_int_equal(image_extend(&image, image.size, &failed, &err), 0);
	assert_in_range(sync_silence_ns, HOUR_NS, 2 * HOUR_NS);
	assert_int_equal(silent(HOUR_NS), 0);
	cold_wait_begins(&image.cold); // or that looks at a hole
	assert_in_range(silent(HOUR_NS), HOUR_NS, 2 * HOUR_NS);
	cold_wait_ends(&image.cold);
	assert_int_equal(silent(HOUR_NS), 0);
}

static void write_piece(uint64_t off)
{
	memset(data, (int)(off / 4096 + 1), 4096);
	assert_int_equal(perform(AIO_WRITE, off, 4096), 0);
	assert_true(image_has(off, 4096, data[0]));
}

// Where a write may have to wait, the first one is a worker's, and so is the first after a pause: a disk that hangs is met there.
static void disk_that_is_not_known_to_be_quick_is_written_by_a_worker(void **state)
{
	(void)state;
	quick_begin(0);
	proven = false;
	write_piece(0);
	assert_true(by_the_ring());
	assert_true(image.wrote_ns); // it has ended
	assert_int_equal(quick_calls + own_writes, 0);
	image.wrote_ns += HOUR_NS;
	write_piece(4096);
	assert_int_equal(quick_calls, 1);
	assert_true(image.wrote_ns + HOUR_NS / 2 > clock_mono_ns()); // from here on, what follows closely is the thread's
	image.wrote_ns = 1; // long ago
	assert_int_equal(perform(AIO_READ, 0, 4096), 0); // what is in memory can be read from a disk that hangs
	write_piece(8192);
	assert_int_equal(quick_calls, 1);
}

// Reads that end say nothing of a write that does not.
static void change_that_is_owed_is_not_forgotten_for_a_read(void **state)
{
	(void)state;
	quick_begin(0);
	image.owed_changes.pending = 1;
	image.owed_changes.moved_ns = clock_mono_ns() + HOUR_NS; // not for long
	write_piece(4096);
	assert_int_equal(quick_calls, 1);
	image.owed_changes.moved_ns = 1;
	assert_int_equal(perform(AIO_READ, 0, 4096), 0);
	write_piece(8192);
	assert_int_equal(quick_calls, 1);
	image.owed_changes.pending = 0;
}

// What a cycle reads is read by other threads: a disk that hangs for them hangs for the guest.
static void disk_that_hangs_for_a_cycle_gets_its_writes_by_the_ring(void **state)
{
	(void)state;
	quick_begin(0);
	atomic_store(&image.cold.waiting, 1);
	atomic_store(&image.cold.moved_ns, clock_mono_ns() + HOUR_NS);
	assert_int_equal(perform(AIO_WRITE, 0, 4096), 0);
	assert_int_equal(quick_calls, 1);
	atomic_store(&image.cold.moved_ns, 1);
	assert_int_equal(perform(AIO_WRITE, 4096, 4096), 0);
	assert_int_equal(quick_calls, 1);
	assert_false(image_sendable(&image, 0, LARGE));
	cold_wait_ends(&image.cold);
	assert_int_equal(perform(AIO_WRITE, 8192, 4096), 0);
	assert_int_equal(quick_calls, 2);
}

static unsigned cold_seen; // how many reads were seen to wait for the disk, by pread()
ssize_t pread(int fd, void *to, size_t len, off_t off)
{
	by_the_reader += is_reader();
	if (fd == image.fd && atomic_load(&image.cold.reads))
		cold_seen += atomic_load(&image.cold.waiting);
	return syscall(SYS_pread64, fd, to, len, off);
}

static void read_beside_the_ring_is_seen_while_it_waits(void **state)
{
	(void)state;
	cold_seen = 0;
	assert_int_equal(image_read_now(&image, SIZE - 4096, 8192, data), -EIO); // there is no more in memory, nor anywhere
	assert_int_equal(cold_seen, 1);
	assert_int_equal(atomic_load(&image.cold.waiting) + atomic_load(&image.cold.reads), 0);
	assert_true(atomic_load(&image.cold.moved_ns) > 0);
}

static void what_is_read_apart_is_what_the_image_holds(void **state)
{
	(void)state;
	static unsigned char got[16384], expected[16384];
	memset(expected, 0, sizeof(expected));
	memset(expected + 5000, 'x', 300);
	assert_int_equal(pwrite(image.fd, expected + 5000, 300, 65536 + 5000), 300);
	for (unsigned i = 0; i < 2; i++) {
		memset(got, 1, sizeof(got));
		assert_int_equal(image_read_apart(&image, 65536, sizeof(got), got), 0);
		assert_memory_equal(got, expected, sizeof(got));
	}
	assert_int_equal(image_read_apart(&image, SIZE - 4096, 8192, got), -EIO); // cut short
	assert_int_equal(atomic_load(&image.cold.waiting) + atomic_load(&image.cold.reads), 0);
}

static void stalled_disk_is_not_asked_what_is_a_hole(void **state)
{
	(void)state;
	struct nbd_extent extent[2] = {{0}};
	if (image_extents(&image, 0, SIZE, extent, 2) != 1 || !extent[0].hole)
		skip(); // a file system that does not know
	image.owed_changes = (struct image_owed){.pending = 1, .moved_ns = 1};
	assert_int_equal(image_extents(&image, 0, SIZE, extent, 2), 1);
	assert_true(!extent[0].hole && extent[0].len == SIZE);
	uint64_t until;
	if (image.backend.hole)
		assert_true(!image.backend.hole(&image.backend, 0, &until) && until == SIZE);
	image.owed_changes.pending = 0;
}

static void submit(struct ending *ending, enum aio_kind kind, uint64_t off, uint64_t len)
{
	*ending = (struct ending){.aio = {.kind = kind, .background = true, .off = off, .len = len, .data = data, .done = on_done}};
	image.backend.submit(&image.backend, &ending->aio);
}

// It may hang with the lock of the file that the question waits for, and nobody sees that in its first instant.
static void what_is_a_hole_is_not_asked_while_a_worker_changes_the_image(void **state)
{
	static const struct {
		enum aio_kind kind;
		bool asked;
	} table[] = {{AIO_PUNCH, false}, {AIO_ZERO, false}, {AIO_WRITE, false}, {AIO_SYNC, true}, {AIO_READ, true}};
	(void)state;
	struct nbd_extent extent[2] = {{0}};
	if (image_extents(&image, 0, SIZE, extent, 2) != 1 || !extent[0].hole)
		skip(); // a file system that does not know
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct ending ending;
		uint64_t until;
		submit(&ending, table[i].kind, SIZE - LARGE, table[i].kind == AIO_SYNC ? 0 : LARGE);
		assert_int_equal(image_extents(&image, 0, SIZE, extent, 1), 1);
		assert_int_equal(extent[0].hole, table[i].asked);
		assert_true(table[i].asked || extent[0].len == 1 << 20); // little, so that it is asked again
		assert_int_equal(image_extents(&image, 4096, 512, extent, 1), 1);
		assert_int_equal(extent[0].len, 512);
		if (image.backend.hole) {
			assert_int_equal(image.backend.hole(&image.backend, 4096, &until), table[i].asked);
			assert_true(table[i].asked ? until > 4096 : until == 4096); // nothing is said
		}
		while (!ending.ended)
			assert_int_equal(ring_turn(&ring), 0);
		(void)image_extents(&image, 0, SIZE, extent, 1);
		assert_true(extent[0].hole);
	}
}

// ---- what may keep the thread, or a worker

static unsigned prepared_flags(void) // of the newest operation of the ring's
{
	const struct io_uring_sq *sq = &ring.uring.sq;
	return sq->sqes[(sq->sqe_tail - 1) & *sq->kring_mask].flags;
}

static void submit_of_guest(struct ending *ending, enum aio_kind kind, uint64_t off, uint64_t len)
{
	*ending = (struct ending){.aio = {.kind = kind, .off = off, .len = len, .data = data, .done = on_done}};
	image.backend.submit(&image.backend, &ending->aio);
}

static void await(const struct ending *ending)
{
	while (!ending->ended)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(ending->res, 0);
}

// Reading ahead takes the lock that it has.
static void read_beside_an_emptying_or_of_a_stalled_disk_is_a_workers(void **state)
{
	static const enum aio_kind kinds[] = {AIO_PUNCH, AIO_ZERO};
	(void)state;
	struct ending read, emptying;
	assert_true(fcntl(image.fd, F_GETFL) & O_NOATIME); // one from memory changes nothing
	image.waits_always = image.by_turns = false;
	for (unsigned i = 0; i < 2; i++) {
		submit_of_guest(&emptying, kinds[i], 0, 4096);
		submit_of_guest(&read, AIO_READ, LARGE, 4096);
		assert_true(prepared_flags() & IOSQE_ASYNC);
		await(&read);
		await(&emptying);
		submit_of_guest(&read, AIO_READ, LARGE, 4096);
		assert_false(prepared_flags() & IOSQE_ASYNC);
		await(&read);
	}
	image.owed_changes = (struct image_owed){.pending = 1, .moved_ns = 1};
	submit_of_guest(&read, AIO_READ, LARGE, 4096);
	assert_true(prepared_flags() & IOSQE_ASYNC);
	await(&read);
	image.owed_changes.pending = 0;
	(void)asked_begin(&image.asked, clock_mono_ns()); // another thread changes its size
	submit_of_guest(&read, AIO_READ, LARGE, 4096);
	assert_true(prepared_flags() & IOSQE_ASYNC);
	await(&read);
	asked_end(&image.asked);
	image.waits_always = true;
	submit_of_guest(&read, AIO_READ, LARGE, 4096);
	assert_true(prepared_flags() & IOSQE_ASYNC);
	await(&read);
}

// The thread may take that lock once more when some of the read has come.
static void emptying_waits_for_the_reads_that_the_thread_began(void **state)
{
	(void)state;
	struct ending read[2], punch;
	image.waits_always = image.by_turns = false;
	submit_of_guest(&read[0], AIO_READ, LARGE, 4096);
	unsigned prepared = ring.uring.sq.sqe_tail;
	submit_of_guest(&punch, AIO_PUNCH, 0, 4096);
	assert_int_equal(ring.uring.sq.sqe_tail, prepared);
	submit_of_guest(&read[1], AIO_READ, LARGE, 4096);
	assert_true(prepared_flags() & IOSQE_ASYNC); // so that it is not waited for as well
	await(&punch);
	assert_true(read[0].ended);
	await(&read[1]);
	assert_int_equal(image.reads_here + image.emptying, 0);
}

// Before Linux 6.17 each would take a worker, and a file that hangs all that there are.
static void file_is_emptied_by_one_worker_at_a_time(void **state)
{
	(void)state;
	struct ending punch[3], write;
	memset(data, 0x33, 4096);
	assert_int_equal(perform(AIO_WRITE, LARGE, 4096), 0);
	assert_int_equal(perform(AIO_WRITE, LARGE, 4096), 0); // quick from here on
	unsigned prepared = ring.uring.sq.sqe_tail;
	for (unsigned i = 0; i < 3; i++)
		submit_of_guest(&punch[i], i == 1 ? AIO_ZERO : AIO_PUNCH, i * 4096, 4096);
	assert_int_equal(ring.uring.sq.sqe_tail, prepared + 1);
	submit_of_guest(&write, AIO_WRITE, LARGE, 4096); // nor does the thread wait for the file's lock
	assert_int_equal(ring.uring.sq.sqe_tail, prepared + 2);
	assert_true(prepared_flags() & IOSQE_ASYNC);
	await(&punch[2]);
	assert_true(punch[0].ended && punch[1].ended);
	await(&write);
	assert_false(image.empties || image.emptying || image.emptiers.first);
	assert_true(image_has(0, 3 * 4096, 0) && image_has(LARGE, 4096, 0x33));
	image.block_device = true;
	prepared = ring.uring.sq.sqe_tail;
	submit_of_guest(&punch[0], AIO_PUNCH, 0, 4096);
	submit_of_guest(&punch[1], AIO_PUNCH, 4096, 4096);
	assert_int_equal(ring.uring.sq.sqe_tail, prepared + 2);
	await(&punch[1]);
	await(&punch[0]);
	image.block_device = false;
}

// There a read takes the lock that the writer holds, also one that must not wait: the ring tries it again.
static void reads_of_xfs_are_a_workers_while_one_writes(void **state)
{
	(void)state;
	struct ending write, read;
	image.waits_always = image.by_turns = image.reads_wait = false;
	for (unsigned waits = 0; waits < 2; waits++) {
		submit_of_guest(&write, AIO_WRITE, 512, 512);
		image.reads_wait = waits;
		submit_of_guest(&read, AIO_READ, LARGE, 4096);
		assert_int_equal((prepared_flags() & IOSQE_ASYNC) != 0, waits);
		await(&read);
		await(&write);
	}
}

static void nothing_is_sent_in_place_while_a_worker_changes_the_image(void **state)
{
	int fd[2];
	(void)state;
	struct ending write;
	image.send_detour = 0;
	quick_begin(EOPNOTSUPP);
	assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_true(image_sendable(&image, 0, LARGE));
	submit(&write, AIO_WRITE, LARGE, 4096);
	assert_false(image_sendable(&image, 0, LARGE));
	assert_int_equal(image_take(&image, fd[1], 0, 4096), -EAGAIN);
	await(&write);
	image.owed_changes = (struct image_owed){.pending = 1, .moved_ns = 1}; // it hangs since it was looked at
	assert_int_equal(image_take(&image, fd[1], 0, 4096), -EAGAIN);
	image.owed_changes.pending = 0;
	(void)asked_begin(&image.asked, clock_mono_ns());
	assert_int_equal(image_take(&image, fd[1], 0, 4096), -EAGAIN);
	asked_end(&image.asked);
	assert_int_equal(image_take(&image, fd[1], 0, 4096), 0);
	(void)close(fd[0]);
	(void)close(fd[1]);
}

static unsigned turned[3 * IMAGE_TURNS], turned_count; // in which order they ended
static struct ending turns[3 * IMAGE_TURNS];

static void on_turned(struct aio *aio, int res)
{
	on_done(aio, res);
	turned[turned_count++] = (unsigned)((struct ending *)(void *)aio - turns);
}

// W4 of image_io.c: whatever a disk that hangs is asked for, others have workers.
static void image_takes_no_more_workers_than_its_turns(void **state)
{
	static const struct {
		enum aio_kind kind;
		bool block_device, by_turns, bounded;
	} table[] = {{AIO_READ, false, true, true}, {AIO_READ, false, false, false}, {AIO_ADVISE, false, false, true}, {AIO_PUNCH, true, false, true}, {AIO_WRITE, true, false, true}, {AIO_WRITE, false, true, false}};
	(void)state;
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		unsigned before = ring.uring.sq.sqe_tail, most = 0;
		image.block_device = table[i].block_device;
		image.by_turns = table[i].by_turns;
		image.waits_always = false;
		image.wrote_ns = 0;
		turned_count = 0;
		for (unsigned t = 0; t < 3 * IMAGE_TURNS; t++) {
			turns[t] = (struct ending){.aio = {.kind = table[i].kind, .off = t * 4096, .len = t % 8 ? 4096 : 200 << 10, .data = data, .done = on_turned}};
			if (table[i].kind == AIO_ADVISE)
				turns[t].aio.background = true;
			image.backend.submit(&image.backend, &turns[t].aio);
		}
		assert_int_equal(ring.uring.sq.sqe_tail - before, table[i].bounded ? IMAGE_TURNS : 3 * IMAGE_TURNS);
		while (turned_count < 3 * IMAGE_TURNS) {
			most = image.turns > most ? image.turns : most;
			assert_int_equal(ring_turn(&ring), 0);
			assert_true(!image.waiting.first || image.turns == IMAGE_TURNS);
		}
		assert_int_equal(most, table[i].bounded ? IMAGE_TURNS : 0);
		assert_int_equal(image.turns, 0);
		for (unsigned t = 0; t < 3 * IMAGE_TURNS; t++) {
			assert_int_equal(turns[t].res, 0);
			if (table[i].bounded && turned[t] >= 2 * IMAGE_TURNS)
				assert_true(t >= IMAGE_TURNS / 2); // none of the last overtakes
		}
	}
	image.block_device = false;
}

// Where there is no worker any more, those that wait for a turn are the reader's.
static void what_waits_for_a_turn_is_done_without_workers_too(void **state)
{
	enum { COUNT_ = 2 * IMAGE_TURNS };
	(void)state;
	reader_begin();
	image.by_turns = true;
	turned_count = 0;
	for (unsigned t = 0; t < COUNT_; t++) {
		turns[t] = (struct ending){.aio = {.kind = AIO_READ, .off = t * 4096, .len = 4096, .data = data, .done = on_turned}};
		image.backend.submit(&image.backend, &turns[t].aio);
	}
	ring.workerless = true;
	while (turned_count < COUNT_)
		assert_int_equal(ring_turn(&ring), 0);
	assert_int_equal(by_the_reader, COUNT_ - IMAGE_TURNS);
	assert_int_equal(perform(AIO_READ, 0, 4096), 0);
	assert_int_equal(by_the_reader, COUNT_ - IMAGE_TURNS + 1);
	assert_int_equal(image.turns, 0);
	ring.workerless = false;
	reader_end();
}

// The thread copies it out of the pipe, and no more.
static void write_that_no_pipe_takes_is_a_workers_where_the_disk_is_not_quick(void **state)
{
	int ends[2];
	(void)state;
	quick_begin(0);
	assert_int_equal(pipe(ends), 0);
	for (unsigned i = 0; i < 2; i++) { // not known to be quick; and not whole pages
		memset(data, 0x61 + (int)i, 8192);
		assert_int_equal(write(ends[1], data, 8192), 8192);
		image.no_pipe = true;
		image.wrote_ns = i ? clock_mono_ns() + HOUR_NS : 0;
		own_writes = 0;
		struct ending ending = {.aio = {.kind = AIO_WRITE, .off = 4096 + i, .len = 8192, .pipe = &ends[0], .done = on_done}};
		image.backend.submit(&image.backend, &ending.aio);
		assert_int_equal(own_writes, 0);
		await(&ending);
		assert_int_equal(own_writes, 0);
		assert_true(image_has(4096 + i, 8192, (unsigned char)(0x61 + i)));
	}
	assert_int_equal(write(ends[1], data, 4096), 4096);
	struct ending ending = {.aio = {.kind = AIO_WRITE, .off = 0, .len = 4096, .pipe = &ends[0], .done = on_done}};
	image.wrote_ns = clock_mono_ns() + HOUR_NS;
	image.backend.submit(&image.backend, &ending.aio);
	assert_int_equal(own_writes, 1);
	await(&ending);
	(void)close(ends[0]);
	(void)close(ends[1]);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED // their own memory is not to be had either
#endif
#endif

#ifndef SANITIZED
// A sync that was not begun is none that failed, after which nothing is believed of the disk (V3).
static void sync_without_memory_is_begun_all_the_same(void **state)
{
	struct rlimit before, none;
	void *taken = NULL;
	(void)state;
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	for (size_t size = 1 << 20; size >= 16; size = size > 1024 ? size / 2 : size - 8) // each of the sizes that are kept apart
		for (void **more; (more = malloc(size)) != NULL; taken = more)
			*more = taken;
	struct ending sync[2], read;
	submit_of_guest(&read, AIO_READ, 0, 4096);
	submit_of_guest(&sync[0], AIO_SYNC, 0, 0);
	while (!sync[0].ended || !read.ended)
		assert_int_equal(ring_turn(&ring), 0);
	submit_of_guest(&sync[1], AIO_SYNC, 0, 0);
	while (!sync[1].ended)
		assert_int_equal(ring_turn(&ring), 0);
	(void)setrlimit(RLIMIT_AS, &before);
	while (taken) {
		void *next = *(void **)taken;
		free(taken);
		taken = next;
	}
	assert_int_equal(read.res, -ENOMEM); // which its guest is told
	assert_int_equal(sync[0].res, 0);
	assert_int_equal(sync[1].res, 0);
}
#endif

// A copy that took it for zeros would be a silent loss; what is read there is an error.
static void what_a_file_that_was_cut_short_lacks_is_no_hole(void **state)
{
	(void)state;
	struct nbd_extent extent[4] = {{0}};
	if (image_extents(&image, 0, SIZE, extent, 4) != 1 || !extent[0].hole)
		skip(); // a file system that does not know
	assert_int_equal(ftruncate(image.fd, SIZE / 2), 0);
	assert_int_equal(image_extents(&image, 0, SIZE, extent, 4), 2);
	assert_true(extent[0].hole && extent[0].len == SIZE / 2);
	assert_true(!extent[1].hole && extent[1].len == SIZE / 2);
	assert_int_equal(image_extents(&image, SIZE / 2 + 4096, 4096, extent, 4), 1);
	assert_false(extent[0].hole);
	assert_int_equal(ftruncate(image.fd, SIZE), 0);
	assert_int_equal(image_extents(&image, 0, SIZE, extent, 4), 1);
	assert_true(extent[0].hole);
}

static void only_what_is_in_memory_as_a_whole_is_sent_from_there(void **state)
{
	(void)state;
	quick_begin(EOPNOTSUPP);
	assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
	assert_true(image_sendable(&image, 0, LARGE));
	image.stale = true; // its cache is to be dropped: a client that takes nothing would keep the pages
	assert_false(image_sendable(&image, 0, LARGE));
	image.stale = false;
	assert_int_equal(perform(AIO_SYNC, 0, 0), 0);
	assert_int_equal(posix_fadvise(image.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(posix_fadvise(image.fd, 0, 0, POSIX_FADV_RANDOM), 0);
	for (off_t at = 0; at < LARGE; at += 4096) // all but a page where no look falls
		assert_int_equal(at == 36 << 10 ? 4096 : pread(image.fd, data, 4096, at), 4096);
	void *map = mmap(NULL, LARGE, PROT_READ, MAP_SHARED, image.fd, 0);
	assert_true(map != MAP_FAILED);
	bool whole = pages_in_memory(map, LARGE) == LARGE / 4096;
	(void)munmap(map, LARGE);
	if (whole) {
		print_message("# this file system keeps all in memory\n");
		skip();
	}
	if (syscall(451, -1, NULL, NULL, 0) < 0 && errno == ENOSYS) {
		print_message("# this kernel does not count pages\n");
		skip();
	}
	assert_false(image_sendable(&image, 0, LARGE));
	assert_true(image_sendable(&image, 64 << 10, LARGE - (64 << 10)));
}

// The page that could not be read is in memory from then on, and is counted.
static void what_failed_to_be_read_is_not_taken_from_memory_until_it_was_read_or_written(void **state)
{
	(void)state;
	for (unsigned by_thread = 0; by_thread < 2; by_thread++) {
		quick_begin(EOPNOTSUPP);
		for (uint64_t at = 0; at < SIZE; at += LARGE)
			assert_int_equal(perform(AIO_WRITE, at, LARGE), 0);
		image.unreadable = (struct unreadable){0};
		assert_true(image_sendable(&image, SIZE - LARGE, LARGE));
		assert_int_equal(ftruncate(image.fd, SIZE - 4096), 0);
		if (by_thread)
			assert_int_equal(image_read_apart(&image, SIZE - 4096, 4096, data), -EIO);
		else
			assert_int_equal(perform(AIO_READ, SIZE - LARGE, LARGE), -EIO);
		assert_int_equal(ftruncate(image.fd, SIZE), 0);
		assert_false(image_sendable(&image, SIZE - LARGE, LARGE));
		assert_true(image_sendable(&image, SIZE - LARGE - 4096, LARGE)); // up to what failed
		if (by_thread)
			assert_int_equal(image_read_now(&image, SIZE - 4096, 4096, data), 0);
		else
			assert_int_equal(perform(AIO_WRITE, SIZE - 4096, 4096), 0);
		assert_true(unreadable_any(&image.unreadable)); // it is not long ago
		image.unreadable.failed_ns = 0;
		if (by_thread)
			assert_int_equal(image_read_now(&image, SIZE - 4096, 4096, data), 0);
		else
			assert_int_equal(perform(AIO_WRITE, SIZE - 4096, 4096), 0);
		assert_false(unreadable_any(&image.unreadable));
		assert_true(image_sendable(&image, SIZE - LARGE, LARGE));
	}
}

static void what_failed_is_one_range_that_shrinks_from_its_ends(void **state)
{
	enum { NOW = 1000, LATER = 30 };
	const uint64_t now = NOW * UINT64_C(1000000000), later = now + LATER * UINT64_C(1000000000);
	struct unreadable u = {0};
	(void)state;
	assert_false(unreadable_within(&u, 0, UINT64_MAX));
	unreadable_add(&u, 100, 10, now);
	unreadable_add(&u, 200, 10, now);
	assert_true(unreadable_within(&u, 150, 10));
	assert_false(unreadable_within(&u, 0, 100) || unreadable_within(&u, 210, 10));
	unreadable_well(&u, 0, 1000, now + 1); // too soon
	assert_true(unreadable_within(&u, 100, 1) && unreadable_within(&u, 209, 1));
	unreadable_well(&u, 150, 10, later); // between the two
	unreadable_well(&u, 0, 100, later);  // and beside them
	unreadable_well(&u, 210, 100, later);
	assert_true(unreadable_within(&u, 100, 1) && unreadable_within(&u, 209, 1));
	unreadable_well(&u, 90, 30, later);
	assert_true(!unreadable_within(&u, 0, 120) && unreadable_within(&u, 120, 1));
	unreadable_well(&u, 205, 5, later);
	assert_true(!unreadable_within(&u, 205, 100) && unreadable_within(&u, 204, 1));
	unreadable_well(&u, 120, 85, later);
	assert_false(unreadable_any(&u));
}

static void what_cannot_be_taken_says_why(void **state)
{
	int fd[2];
	(void)state;
	quick_begin(EOPNOTSUPP);
	image.unreadable = (struct unreadable){0};
	image.send_detour = 0;
	assert_int_equal(perform(AIO_WRITE, 0, LARGE), 0);
	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(image_take(&image, fd[1], 4096, 8192), 0);
	unsigned char taken[8192 + 1];
	assert_int_equal(read(fd[0], taken, sizeof(taken)), 8192);
	assert_memory_equal(taken, data, 8192);
	assert_int_equal(image_take(&image, fd[1], 0, LARGE), -EAGAIN); // more than it has room for
	assert_false(unreadable_any(&image.unreadable));
	(void)close(fd[0]);
	(void)close(fd[1]);
	assert_int_equal(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(image_take(&image, fd[1], SIZE - 4096, 8192), -EIO);
	assert_true(unreadable_within(&image.unreadable, SIZE, 4096));
	assert_false(unreadable_within(&image.unreadable, SIZE - 4096, 4096));
	image.send_detour = 0;
	(void)close(fd[0]);
	(void)close(fd[1]);
}

static bool loop_make(const char *options, const char *file, char ret_path[64])
{
	char command[700] = "";
	(void)snprintf(command, sizeof(command), "losetup %s --show -f %s 2>/dev/null", options, file);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	bool told = fgets(ret_path, 64, out);
	if (pclose(out) != 0 || !told)
		return false;
	ret_path[strcspn(ret_path, "\n")] = 0;
	return true;
}

static void device_that_takes_no_writes_is_opened_for_reading_alone(void **state)
{
	(void)state;
	struct image device;
	struct err err = {0};
	char file[512], path[64], command[128];
	(void)snprintf(file, sizeof(file), "%s/read-only", temp.dir);
	int fd = open(file, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
	(void)close(fd);
	if (geteuid() != 0 || !loop_make("-r", file, path))
		skip();
	int for_writing = image_open(&device, path, false, &err);
	if (for_writing == 0)
		image_close(&device);
	struct err other = {0};
	int for_reading = image_open(&device, path, true, &other);
	if (for_reading == 0)
		image_close(&device);
	(void)snprintf(command, sizeof(command), "losetup -d %s", path);
	assert_int_equal(system(command), 0);
	assert_int_equal(for_writing, -EROFS);
	assert_non_null(strstr(err.text, path));
	assert_non_null(strstr(err.text, "--read-only"));
	assert_int_equal(for_reading, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(write_that_the_kernel_cuts_short_is_not_done, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_that_the_kernel_refuses_is_an_error, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sync_that_was_interrupted_has_failed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_and_write_that_were_interrupted_are_done_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(device_is_asked_for_zeros_only_where_it_has_them_for_whole_pages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(device_that_cannot_zero_after_all_has_zeros_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_was_cancelled_is_done_by_the_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_from_a_pipe_that_was_cancelled_is_done_by_the_reader, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sync_that_was_cancelled_is_done_unless_that_may_be_the_file_systems_word, set_up, tear_down),
		cmocka_unit_test_setup_teardown(errand_ends_also_after_the_ring_refuses_messages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(errands_are_done_in_the_order_in_which_they_came, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_past_an_image_that_became_shorter_is_an_error, set_up, tear_down),
		cmocka_unit_test_setup_teardown(advice_brings_the_range_into_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sync_of_much_is_done_in_pieces_and_then_as_a_whole, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(error_of_a_piece_is_the_syncs, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(piece_without_a_worker_is_left_to_the_reader, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(what_is_written_behind_the_pieces_is_done_in_pieces, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(disk_that_writes_piece_by_piece_goes_on, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(sync_beside_the_guests_is_done_in_pieces_too, set_up_large, tear_down),
		cmocka_unit_test_setup_teardown(size_of_a_grown_image_is_durable_before_anybody_is_told, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sync_that_hangs_is_seen_though_another_thread_was_answered_meanwhile, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_hole_is_told_where_anything_was_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_that_need_not_wait_is_done_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_a_write_that_ended_well_is_noted_as_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_that_would_wait_goes_by_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(file_system_that_refuses_every_such_write_is_not_asked_for_ever, set_up, tear_down),
		cmocka_unit_test_setup_teardown(refusal_that_may_have_a_reason_is_not_remembered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(file_system_that_knows_no_such_write_is_asked_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_that_owes_an_answer_gets_its_writes_by_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_does_not_answer_is_seen_from_outside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_that_is_not_known_to_be_quick_is_written_by_a_worker, set_up, tear_down),
		cmocka_unit_test_setup_teardown(change_that_is_owed_is_not_forgotten_for_a_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_that_hangs_for_a_cycle_gets_its_writes_by_the_ring, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_beside_the_ring_is_seen_while_it_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_read_apart_is_what_the_image_holds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stalled_disk_is_not_asked_what_is_a_hole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_a_hole_is_not_asked_while_a_worker_changes_the_image, set_up, tear_down),
		cmocka_unit_test_setup_teardown(read_beside_an_emptying_or_of_a_stalled_disk_is_a_workers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(emptying_waits_for_the_reads_that_the_thread_began, set_up, tear_down),
		cmocka_unit_test_setup_teardown(file_is_emptied_by_one_worker_at_a_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_of_xfs_are_a_workers_while_one_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_sent_in_place_while_a_worker_changes_the_image, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_takes_no_more_workers_than_its_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_waits_for_a_turn_is_done_without_workers_too, set_up, tear_down),
		cmocka_unit_test_setup_teardown(write_that_no_pipe_takes_is_a_workers_where_the_disk_is_not_quick, set_up, tear_down),
#ifndef SANITIZED
		cmocka_unit_test_setup_teardown(sync_without_memory_is_begun_all_the_same, set_up, tear_down),
#endif
		cmocka_unit_test_setup_teardown(what_a_file_that_was_cut_short_lacks_is_no_hole, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_what_is_in_memory_as_a_whole_is_sent_from_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_failed_to_be_read_is_not_taken_from_memory_until_it_was_read_or_written, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_cannot_be_taken_says_why, set_up, tear_down),
		cmocka_unit_test(what_failed_is_one_range_that_shrinks_from_its_ends),
		cmocka_unit_test_setup_teardown(device_that_takes_no_writes_is_opened_for_reading_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(scratch_file_has_no_name_whatever_the_file_system_can_do, set_up, tear_down),
	};
	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
