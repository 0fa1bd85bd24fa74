// SPDX-License-Identifier: Apache-2.0
// Who does an operation: the ring, in its thread or by a worker of the kernel's, or the reader's thread where there is no worker; and when (W2, W3, W4 of
// image_io.c).
#include "replicator/image_private.h"

#include "base/size.h"
#include "replicator/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

enum { READS_LOOKED_AT = 1 }; // no clock is asked for fewer

// W3: whether a read may keep the thread.
static bool read_keeps(const struct image *image)
{
	if (image->waits_always || image->emptying || (image->reads_wait && image->changing) || asked_since_ns(&image->asked))
		return true;
	bool may = atomic_load_explicit(&image->owed_changes.pending, memory_order_relaxed) || atomic_load_explicit(&image->cold.waiting, memory_order_relaxed) ||
		   atomic_load_explicit(&image->owed_reads.pending, memory_order_relaxed) > READS_LOOKED_AT;
	return may && image_stalled(image);
}

// What the ring would answer.
static int errand_do(const struct image_op *op)
{
	const struct aio *aio = op->aio;
	unsigned char *data = aio->data;
	uint64_t off = aio->off + op->at, len = aio->len - op->at;
	loff_t to = (loff_t)off;
	ssize_t res = -1;
	int fd = op->image->fd;
	switch (aio->kind) {
	case AIO_READ:
		res = pread(fd, data + op->at, len, (off_t)off);
		break;
	case AIO_WRITE:
		res = aio->pipe ? splice(*aio->pipe, NULL, fd, &to, len, 0) : pwrite(fd, data + op->at, len, (off_t)off);
		break;
	case AIO_SYNC:
		res = fdatasync(fd);
		break;
	case AIO_PUNCH:
		res = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
		break;
	case AIO_ZERO:
		res = fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
		break;
	case AIO_ADVISE:
		return -ECANCELED; // a hint, and others wait
	}
	return res < 0 ? -errno : (int)res;
}

static void errand_run(struct reader_errand *errand)
{
	struct image_op *op = HOLDER(errand, struct image_op, errand);
	op->res = errand_do(op);
}

static void on_errand_done(struct ring_message *message)
{
	struct image_op *op = HOLDER(HOLDER(message, struct reader_errand, message), struct image_op, errand);
	op->ring.done(&op->ring, op->res);
}

void image_op_by_errand(struct image_op *op)
{
	op->by_errand = true;
	op->errand = (struct reader_errand){.message = {.run = on_errand_done}, .run = errand_run};
	reader_run_errand(op->image->reader, &op->errand);
}

// A sync that was cancelled was not begun, so it took no error of a write with it, and to ask for it is no second time (V3). Of a file system whose
// own syncs may say anything that is not certain.
bool image_op_cancelled(const struct image_op *op, int res)
{
	const struct image *image = op->image;
	bool cancelled = res == -ECANCELED && !op->by_errand && image->reader && (op->aio->kind != AIO_SYNC || image->block_device || image->known);
	if (cancelled && image->ring->cancelled)
		image->ring->cancelled(image->ring);
	return cancelled;
}

// By a worker, not between two guest requests.
static bool by_worker(const struct image_op *op)
{
	const struct aio *aio = op->aio;
	if (aio->background)
		return true;
	if (aio->kind == AIO_READ)
		return read_keeps(op->image);
	return aio->kind == AIO_WRITE && (op->image->waits_always || op->image->emptying || !image_quick(op->image, clock_mono_ns()));
}

// W4: whether it may take a worker, and nothing else bounds how many do.
static bool takes_turns(const struct image_op *op, bool async)
{
	switch (op->aio->kind) {
	case AIO_READ:
		return async || op->image->by_turns;
	case AIO_ADVISE:
		return true;
	case AIO_SYNC:
		return false;
	default:
		return op->image->block_device;
	}
}

static bool by_ring(const struct image_op *op, bool async)
{
	return !op->image->ring->workerless || !op->image->reader || (op->aio->kind == AIO_READ && !takes_turns(op, async));
}

static bool empties_file(const struct image_op *op)
{
	return aio_is_emptying(op->aio) && !op->image->block_device;
}

static void op_issue(struct image_op *op, bool async)
{
	struct aio *aio = op->aio;
	op->by_errand = false;
	struct io_uring_sqe *sqe = ring_sqe(op->image->ring, &op->ring);
	unsigned char *data = aio->data;
	uint64_t off = aio->off + op->at;
	uint64_t len = aio->len - op->at;
	int fd = op->image->fd;
	switch (aio->kind) {
	case AIO_READ:
		io_uring_prep_read(sqe, fd, data + op->at, (unsigned)len, off);
		break;
	case AIO_WRITE:
		if (aio->pipe)
			io_uring_prep_splice(sqe, *aio->pipe, -1, fd, (int64_t)off, (unsigned)len, 0);
		else
			io_uring_prep_write(sqe, fd, data + op->at, (unsigned)len, off);
		break;
	case AIO_SYNC:
		io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
		break;
	case AIO_PUNCH:
		io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
		break;
	case AIO_ZERO:
		io_uring_prep_fallocate(sqe, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
		break;
	case AIO_ADVISE: // always by a worker thread of the kernel's: the reads are begun there
		io_uring_prep_fadvise(sqe, fd, off, (off_t)min_u64(len, ADVISE_STEP), POSIX_FADV_WILLNEED);
		break;
	}
	if (async)
		io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	if (empties_file(op))
		op->image->empties = op->empties = true;
	op->reads_here = aio->kind == AIO_READ && !async;
	op->image->reads_here += op->reads_here;
}

static void queue_add(struct image_queue *queue, struct image_op *op)
{
	op->next = NULL;
	*queue->end = op;
	queue->end = &op->next;
}

static struct image_op *queue_pop(struct image_queue *queue)
{
	struct image_op *op = queue->first;
	queue->first = op->next;
	if (!queue->first)
		queue->end = &queue->first;
	return op;
}

// False: it waits for its turn.
static bool turn_take(struct image_op *op)
{
	struct image *image = op->image;
	op->has_turn = !image->waiting.first && image->turns < IMAGE_TURNS;
	image->turns += op->has_turn;
	if (!op->has_turn)
		queue_add(&image->waiting, op);
	return op->has_turn;
}

void image_op_submit(struct image_op *op)
{
	bool async = by_worker(op);
	if (empties_file(op) && op->image->empties)
		queue_add(&op->image->emptiers, op);
	else if (aio_is_emptying(op->aio) && op->image->reads_here)
		queue_add(&op->image->emptiers, op);
	else if (!by_ring(op, async))
		image_op_by_errand(op);
	else if (!takes_turns(op, async) || turn_take(op))
		op_issue(op, async);
}

// Whoever waits has all turns taken before it, so one of those comes here.
void image_turn_end(struct image_op *op)
{
	struct image *image = op->image;
	if (!op->has_turn)
		return;
	op->has_turn = false;
	image->turns--;
	while (image->waiting.first && image->turns < IMAGE_TURNS) {
		struct image_op *next = queue_pop(&image->waiting);
		bool async = by_worker(next);
		if (!by_ring(next, async)) {
			image_op_by_errand(next);
			continue;
		}
		next->has_turn = true;
		image->turns++;
		op_issue(next, async);
	}
}

static void emptiers_go_on(struct image *image)
{
	while (image->emptiers.first && !image->reads_here && !image->empties)
		image_op_submit(queue_pop(&image->emptiers));
}

// What an operation of the thread's, or an emptying, kept from beginning.
void image_way_free(struct image_op *op)
{
	struct image *image = op->image;
	image->reads_here -= op->reads_here;
	if (op->empties)
		image->empties = false;
	op->reads_here = op->empties = false;
	emptiers_go_on(image);
}
