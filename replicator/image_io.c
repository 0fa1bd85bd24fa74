// SPDX-License-Identifier: Apache-2.0
// I/O on an image: whole operations over io_uring, which may do them in parts.
//
// Small aligned writes go into the page cache by pwrite() from the loop thread itself: ext4 takes buffered writes from io_uring
// only by a worker thread, whose two context switches cost several times the write. When such a write turns out slow (the
// kernel throttles who dirties pages too quickly), the next ones take the detour over the ring, so that one disk's
// stall is not every disk's. Likewise large reads of what is in memory go from the page cache to the socket without a copy. Reads for a cycle
// are the reader's (reader.h).
//
// Both are for a disk that works: the thread writes only to one that is known to be quick.
//
//	unproven ──a write by a worker ended──► proven ──none ended for TRUST_NS──► unproven
//	                                          └─ it owes the end of a change for OWES_NS, or of a read for STALL_NS: by workers, until it ends
//
// Where the file system takes a write that must not wait (RWF_NOWAIT: xfs; not ext4, nor tmpfs; btrfs in name alone), the thread does not wait
// for such a disk either, unless it is frozen: that the kernel does not look at before. What would wait goes by the ring.
//
// W1 (G3): the thread, which serves all disks of a protection, begins a write by itself only where the write before ended less than TRUST_NS
// ago, and nothing is owed, of which nothing ended for so long: a piece of a sync that ends is a sign as well. So a disk that hangs is met by a worker, unless it begins to hang between two writes that follow so closely: then others see it
// by image_silent_ns().
//
// W2 (G3): where the kernel has no worker thread and can make none (a limit on threads), it cancels what one would have done, and has done nothing
// of it. That says nothing of the disk: the reader's thread does it, in the order in which it came, and until there are workers again (workers.h) it is asked
// at once. Reads are tried by the ring first, most of which need none; hints are left out.
//
// W3 (G3): nor does the thread wait with a read. The ring begins one in the thread, and to read ahead takes a lock of the file's there, also where it must not wait, which whoever
// makes a hole of it has until the disk answers (ext4, block devices), or whoever changes its size; and it waits for a place in the queue of a disk that hangs. So while the image is emptied, or asked by
// another thread, or the disk owes something, or a worker changes it on xfs, where all reads wait for that, a worker reads, what is in memory, too; and nothing is sent in place while a worker changes it. Nor does the thread write to a file while it is emptied. The thread goes on with a read that it
// began when some of it has come: an emptying waits for those that are under way, and no more are begun meanwhile. Of a file system that knows no read that must not wait, a worker
// does all: the ring would ask whether the file is ready, which FUSE asks its server, and take the answer for a promise.
//
// W4 (G3): of one image no more than IMAGE_TURNS operations occupy a worker that are not bounded otherwise: reads that W3 or its file system leaves to one, hints, and changes of a
// block device. The others wait in the order in which they came, and for each step anew. Bounded otherwise are a sync, which takes two at the most (unwritten.h), and changes of a file: one write behind the
// other by the kernel, and one emptying behind the other here, since it has done so itself only since Linux 6.17. The ring may have as many workers as all of its images take so (workers_allow()): a disk that hangs takes none from the others.
#include "replicator/image_private.h"

#include "base/clock.h"
#include "base/size.h"
#include "replicator/holder.h"
#include "replicator/image_beneath.h"
#include "replicator/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void image_finish_later(struct image *image, struct aio *aio, int res)
{
	aio->res = res;
	aio->next = NULL;
	*image->finished_end = aio;
	image->finished_end = &aio->next;
	ring_later(image->ring, &image->finish);
}

static void finish_run(struct ring_task *task)
{
	struct image *image = HOLDER(task, struct image, finish);
	struct aio *list = image->finished;
	image->finished = NULL;
	image->finished_end = &image->finished;
	while (list) {
		struct aio *next = list->next;
		list->done(list, list->res);
		list = next;
	}
}

void image_notice(struct image *image, const struct aio *aio, uint64_t at, int res)
{
	bool all = aio->kind == AIO_SYNC; // of what it could not write nothing is known
	if (res == -EIO || (res < 0 && aio->kind == AIO_READ))
		unreadable_add(&image->unreadable, all ? 0 : aio->off + at, all ? image->size : aio->len - at, clock_mono_ns());
	else if (res == 0 && unreadable_any(&image->unreadable) && (aio->kind == AIO_READ || aio_is_change(aio)))
		unreadable_well(&image->unreadable, aio->off, aio->len, clock_mono_ns());
}

static void op_give(struct image_op *op)
{
	struct image *image = op->image;
	free(op->copy);
	if (!image->reserve) {
		image->reserve = op;
		return;
	}
	op->next = image->spare;
	image->spare = op;
}

void image_op_finish(struct image_op *op, int res)
{
	struct image *image = op->image;
	struct aio *aio = op->aio;
	op_give(op);
	image_owed_ends(image, aio);
	image_notice(image, aio, op->at, res);
	if (aio->kind == AIO_SYNC && res == 0)
		image->synced = op->covers == image->changes;
	aio->done(aio, res);
}

// The kernel drops the pages of a range, and with them what was written and is not on the device yet, before it finds that the device does not zero it. Of a page
// that the range covers in part it makes that part zeros, which are dropped again and never written. So a device is asked only where it says
// that it can, and for whole pages; when it does not even so, the kernel writes the zeros. AIO_ZERO it would write in any case: that is not quick, and no reason to
// ask a device for it that cannot (volume.h, `fast`).
static bool may_zero(const struct image *image, const struct aio *aio)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), end = aio->off + aio->len;
	return !image->block_device || (!image->no_zeroes && aio->off % page == 0 && (end % page == 0 || end == image->size));
}

static void zero_after_all(struct image_op *op, int res)
{
	op->image->no_zeroes |= res == -EOPNOTSUPP;
	op->aio->kind = AIO_ZERO; // which the kernel does for any device
	image_op_submit(op);
}

static bool cannot(const struct image *image, int res)
{
	return res == -EOPNOTSUPP || res == -ENOSYS || res == -ENODEV ||
	       (res == -EINVAL && image->block_device); // less than one of its blocks
}

static void write_begin(struct image *image, struct aio *aio);

static void write_rest(struct image_op *op)
{
	struct image *image = op->image;
	struct aio *aio = op->aio;
	image->no_pipe = true;
	aio->off += op->at;
	aio->len -= op->at;
	op_give(op);
	image_owed_ends(image, aio);
	write_begin(image, aio);
}

static void data_done(struct image_op *op, int res)
{
	enum aio_kind kind = op->aio->kind;
	if (kind == AIO_WRITE && op->aio->pipe && res == -EINVAL) { // takes nothing from a pipe: copied from here on
		write_rest(op);
		return;
	}
	if (res <= 0) {
		if (res == 0 && kind == AIO_READ)
			image_note_disturbed(op->image);
		image_op_finish(op, res < 0 ? res : -EIO); // 0: the file has become shorter than the disk
		return;
	}
	op->at += (unsigned)res;
	if (op->at < op->aio->len)
		image_op_submit(op);
	else
		image_op_finish(op, 0);
}

static void emptying_done(struct image_op *op, int res)
{
	enum aio_kind kind = op->aio->kind;
	if (kind == AIO_PUNCH && res < 0 && op->image->block_device) {
		zero_after_all(op, res);
		return;
	}
	if (kind == AIO_ZERO && res < 0 && op->image->block_device && !cannot(op->image, res))
		res = -EIO; // whatever it says: what was written there before may be lost, and that is no want of the guest's
	if (res < 0 && cannot(op->image, res))
		res = -EOPNOTSUPP;
	image_op_finish(op, res);
}

static void advise_done(struct image_op *op, int res)
{
	if (res >= 0 && op->aio->len - op->at > ADVISE_STEP) {
		op->at += ADVISE_STEP;
		image_op_submit(op);
		return;
	}
	if (res < 0 && cannot(op->image, res))
		res = -EOPNOTSUPP;
	image_op_finish(op, res);
}

static void op_done(struct ring_op *ring, int res)
{
	struct image_op *op = HOLDER(ring, struct image_op, ring);
	enum aio_kind kind = op->aio->kind;
	if (op->pieces) {
		image_piece_done(op, res);
		return;
	}
	image_turn_end(op);
	if (op->reads_here || op->empties)
		image_way_free(op);
	if (image_op_cancelled(op, res)) {
		image_op_by_errand(op);
		return;
	}
	// A sync is never asked for twice (volume.h, V3): one that was interrupted may have taken the error of a write with it, and the next
	// would know of none. Everything else does the same again, or the rest of it.
	if (kind != AIO_SYNC && (res == -EINTR || res == -EAGAIN)) {
		image_op_submit(op);
		return;
	}
	switch (kind) {
	case AIO_READ:
	case AIO_WRITE:
		data_done(op, res);
		break;
	case AIO_PUNCH:
	case AIO_ZERO:
		emptying_done(op, res);
		break;
	case AIO_ADVISE:
		advise_done(op, res);
		break;
	case AIO_SYNC:
		image_op_finish(op, res);
		break;
	}
}

static void on_job_done(struct ring_message *message)
{
	struct image_op *op = HOLDER(HOLDER(message, struct reader_job, message), struct image_op, job);
	if (op->job.ended)
		image_note_disturbed(op->image);
	image_op_finish(op, op->job.res);
}

static void by_reader(struct image_op *op)
{
	const struct aio *aio = op->aio;
	op->job = (struct reader_job){
		.message = {.run = on_job_done}, .fd = op->image->fd, .cold = &op->image->cold, .data = aio->data, .off = aio->off, .len = aio->len};
	reader_read(op->image->reader, &op->job);
}

static void change_begins(struct image *image, const struct aio *aio)
{
	if (rest_lasts(&image->rest)) // somebody else may have been here meanwhile
		image_look_at_rest(image);
	rest_stir(&image->rest); // N1 of rest.h
	image->changes++;
	image->synced = false;
	if (aio->kind == AIO_WRITE)
		unwritten_add(&image->unwritten, aio->off, aio->len);
}

// A sync without memory is begun all the same: whoever is told of one that failed believes nothing of the disk any more (V3).
static struct image_op *op_take(struct image *image, const struct aio *aio)
{
	struct image_op *op = image->spare;
	if (op) {
		image->spare = op->next;
		return op;
	}
	op = malloc(sizeof(*op));
	if (op || aio->kind != AIO_SYNC)
		return op;
	op = image->reserve;
	image->reserve = NULL;
	return op;
}

static struct image_op *op_new(struct image *image, struct aio *aio, uint64_t at)
{
	struct image_op *op = op_take(image, aio);
	if (!op)
		return NULL;
	op->ring.done = op_done;
	op->image = image;
	op->aio = aio;
	op->at = at;
	op->next = NULL;
	op->pieces = NULL;
	op->copy = NULL;
	op->by_errand = op->has_turn = op->reads_here = op->empties = false;
	op->covers = image->owed_changes.pending ? 0 : image->changes;
	return op;
}

static void op_begin(struct image_op *op)
{
	struct image *image = op->image;
	struct aio *aio = op->aio;
	image_owed_begins(image, aio);
	uint64_t much = aio->kind == AIO_SYNC ? unwritten_sync(&image->unwritten) : 0;
	if (image_for_reader(image, aio))
		by_reader(op);
	else if (much)
		image_sync_by_pieces(op, much);
	else
		image_op_submit(op);
}

void image_submit_from(struct image *image, struct aio *aio, uint64_t at)
{
	struct image_op *op = op_new(image, aio, at);
	if (op)
		op_begin(op);
	else
		image_finish_later(image, aio, -ENOMEM);
}

static int pipe_read(int pipe, unsigned char *data, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t got = read(pipe, data + at, len - at);
		if (got == 0 || (got < 0 && errno != EINTR))
			return got < 0 ? -errno : -EIO;
		at += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

// By the ring, of a file system that takes nothing from the pipe. Without memory for it the guest has an error of want.
static void submit_copied(struct image *image, struct aio *aio)
{
	struct image_op *op = op_new(image, aio, 0);
	unsigned char *copy = op ? malloc(aio->len) : NULL;
	int code = copy ? pipe_read(*aio->pipe, copy, aio->len) : -ENOMEM;
	if (op)
		op->copy = copy;
	if (code) {
		if (op)
			op_give(op);
		image_finish_later(image, aio, code);
		return;
	}
	aio->data = copy;
	aio->pipe = NULL;
	op_begin(op);
}

static void write_begin(struct image *image, struct aio *aio)
{
	if (!aio->background && image_writes_itself(image, aio))
		image_write_now(image, aio);
	else if (aio->pipe && image->no_pipe)
		submit_copied(image, aio);
	else
		image_submit_from(image, aio, 0);
}

static void image_submit(struct aio_backend *backend, struct aio *aio)
{
	struct image *image = HOLDER(backend, struct image, backend);
	if (aio_is_emptying(aio) && !may_zero(image, aio)) {
		image_finish_later(image, aio, -EOPNOTSUPP);
		return;
	}
	if (aio_is_change(aio))
		change_begins(image, aio);
	if (aio->kind == AIO_WRITE)
		write_begin(image, aio);
	else
		image_submit_from(image, aio, 0);
}

void image_rests(struct image *image)
{
	if (!image->owed_changes.pending && (image->synced || !image->block_device))
		rest_now(&image->rest, image->fd);
}

// Asks the kernel alone.
static bool waits_always(const struct image *image)
{
	char byte;
	const struct iovec to = {.iov_base = &byte, .iov_len = 1};
	return preadv2(image->fd, &to, 1, 0, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP;
}

void image_attach(struct image *image, struct ring *ring)
{
	image->ring = ring;
	image->finish = (struct ring_task){.run = finish_run};
	image->finished = NULL;
	image->finished_end = &image->finished;
	image->waiting.end = &image->waiting.first;
	image->emptiers.end = &image->emptiers.first;
	image->reserve = calloc(1, sizeof(*image->reserve)); // without it one that ends is kept for it
	image->backend.submit = image_submit;
	image_believe_holes(image);
	image->waits_always = waits_always(image);
	image->reads_wait = image_reads_wait(image);
	image->by_turns = image->waits_always || !(image->known || image->block_device); // of those alone it is known that the ring reads without a worker
	(void)unwritten_init(&image->unwritten, image->size); // without the memory no sync is done in pieces
}

void image_grown(struct image *image, uint64_t size)
{
	image->size = size;
	unwritten_grow(&image->unwritten, size);
}

void image_close(struct image *image)
{
	while (image->spare) {
		struct image_op *op = image->spare;
		image->spare = op->next;
		free(op);
	}
	free(image->reserve);
	rest_end(&image->rest);
	unwritten_done(&image->unwritten);
	if (image->path && image->fd >= 0)
		(void)close(image->fd);
	image_beneath_close(image);
	free(image->path);
	*image = (struct image){.fd = -1};
}
