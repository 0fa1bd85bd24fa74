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
//
// A sync of much goes piece by piece, and then as a whole (unwritten.h says why):
//
//	AIO_SYNC ──little was written───────────────────────────────────────────────────────► fdatasync ──► done
//	    └─ much ──► the next piece is begun, and the one before waited for ──none is left──┤
//	                  ▲         │                                                          │
//	                  ├─ both ──┘                                                          │
//	                  └──────────── much was written meanwhile, and less than the last time┘
//
// Whatever a piece that was waited for says of an error, be it a code of any kind, the sync has said: the kernel tells it once (volume.h, V3), and the fdatasync behind it would say that all is
// well. Of one that was merely begun, what is of the moment (begin_again()) is left to the wait.
#include "replicator/image.h"

#include "base/clock.h"
#include "base/size.h"
#include "replicator/holder.h"
#include "replicator/image_beneath.h"
#include "replicator/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
	ADVISE_STEP = 128 << 10, // the kernel takes no more of a range than its readahead window, and forgets the rest
	DIRECT_BYTES_MAX = 128 << 10,
	PIPE_STEP = 64 << 10, // where what a pipe holds has to be copied
	SEND_BYTES_MIN = 64 << 10,
	LOOK_STEP = 64 << 10,
	LOOK_STEP_COUNTED = 128 << 10, // of pages that are all there: whether they are being read; a readahead begins so many
	AGAIN_MAX = 16,		       // writes that would wait, before any that would not
	SLOW_NS = 2 * 1000 * 1000,
	STALL_NS = 100 * 1000 * 1000,
	OWES_NS = 10 * 1000 * 1000,
	TRUST_NS = 20 * 1000 * 1000,
	DETOUR_WRITES = 256,
	DETOUR_READS = 16,
	READS_LOOKED_AT = 1, // no clock is asked for fewer
};

struct image_op;
struct image_pieces {
	struct ring_op begun;
	struct image_op *owner;
	struct unwritten_range range[2][UNWRITTEN_RANGES]; // of the next one that is waited for, and of the one behind it
	unsigned count[2], next;
	unsigned under_way;
	uint64_t total; // what this turn through them is of
	unsigned turns;
	int res;
};

struct image_op {
	struct ring_op ring;
	struct reader_job job;
	struct reader_errand errand;
	bool by_errand; // not by the ring, this time
	bool has_turn; // W4
	bool reads_here; // W3: the thread may go on with it when some of it has come
	bool empties;	 // W4: a file, by the ring
	void *copy;    // of what was in a pipe; NULL: none
	int res; // of the errand
	struct image *image;
	struct aio *aio;
	uint64_t at; // bytes done
	struct image_pieces *pieces; // of a sync that is done by them; NULL: it is not, or there are none any more
	uint64_t covers; // a sync: so many changes; 0: not all of them had ended
	struct image_op *next;
};

// Without the ring: `done` must not be called from within submit.
static void finish_later(struct image *image, struct aio *aio, int res)
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

static bool is_emptying(const struct aio *aio)
{
	return aio->kind == AIO_PUNCH || aio->kind == AIO_ZERO;
}

static bool is_change(const struct aio *aio)
{
	return aio->kind == AIO_WRITE || is_emptying(aio);
}

// The first `at` bytes were done before.
static void notice(struct image *image, const struct aio *aio, uint64_t at, int res)
{
	bool all = aio->kind == AIO_SYNC; // of what it could not write nothing is known
	if (res == -EIO || (res < 0 && aio->kind == AIO_READ))
		unreadable_add(&image->unreadable, all ? 0 : aio->off + at, all ? image->size : aio->len - at, clock_mono_ns());
	else if (res == 0 && unreadable_any(&image->unreadable) && (aio->kind == AIO_READ || is_change(aio)))
		unreadable_well(&image->unreadable, aio->off, aio->len, clock_mono_ns());
}

// ---- a disk that owes us something

// What the reader does has its turn when nobody else wants the processors: how long it takes says nothing of the disk.
static bool for_reader(const struct image *image, const struct aio *aio)
{
	return aio->kind == AIO_READ && aio->background && image->reader;
}

static struct image_owed *owed_for(struct image *image, const struct aio *aio)
{
	return aio->kind == AIO_READ || aio->kind == AIO_ADVISE ? &image->owed_reads : &image->owed_changes;
}

static void op_begins(struct image *image, const struct aio *aio)
{
	struct image_owed *owed = owed_for(image, aio);
	if (for_reader(image, aio))
		return;
	image->changing += is_change(aio);
	image->emptying += is_emptying(aio);
	uint64_t pending = atomic_load_explicit(&owed->pending, memory_order_relaxed);
	if (pending == 0)
		atomic_store_explicit(&owed->moved_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_store_explicit(&owed->pending, pending + 1, memory_order_release); // the only one who writes it: after the time that goes with it
}

static void op_ends(struct image *image, const struct aio *aio)
{
	struct image_owed *owed = owed_for(image, aio);
	if (for_reader(image, aio))
		return;
	image->changing -= is_change(aio);
	image->emptying -= is_emptying(aio);
	uint64_t now_ns = clock_mono_ns();
	atomic_store_explicit(&owed->moved_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&owed->pending, atomic_load_explicit(&owed->pending, memory_order_relaxed) - 1, memory_order_release);
	if (aio->kind == AIO_WRITE)
		image->wrote_ns = now_ns;
}

static uint64_t owed_since_ns(const struct image_owed *owed)
{
	return atomic_load_explicit(&owed->pending, memory_order_acquire) ? atomic_load_explicit(&owed->moved_ns, memory_order_relaxed) : 0;
}

uint64_t image_silent_ns(const struct image *image, uint64_t now_ns)
{
	const uint64_t since_ns[] = {owed_since_ns(&image->owed_reads), owed_since_ns(&image->owed_changes), cold_since_ns(&image->cold),
				     asked_since_ns(&image->asked), atomic_load_explicit(&image->inside_ns, memory_order_relaxed)};
	uint64_t most_ns = 0;
	for (size_t i = 0; i < sizeof(since_ns) / sizeof(*since_ns); i++)
		if (since_ns[i] && since_ns[i] < now_ns)
			most_ns = max_u64(most_ns, now_ns - since_ns[i]);
	return most_ns;
}

static bool owes(const struct image_owed *owed, uint64_t now_ns, uint64_t most_ns)
{
	uint64_t since_ns = owed_since_ns(owed);
	return since_ns && now_ns > since_ns + most_ns;
}

static bool stalled(const struct image *image, uint64_t now_ns)
{
	return owes(&image->owed_changes, now_ns, OWES_NS) || owes(&image->owed_reads, now_ns, STALL_NS) ||
	       cold_hangs(&image->cold, now_ns, STALL_NS);
}

bool image_stalled(const struct image *image)
{
	return stalled(image, clock_mono_ns());
}

// W1
static bool quick(const struct image *image, uint64_t now_ns)
{
	return !stalled(image, now_ns) && now_ns < image->wrote_ns + TRUST_NS;
}

// W3: whether a read may keep the thread.
static bool read_keeps(const struct image *image)
{
	if (image->waits_always || image->emptying || (image->reads_wait && image->changing) || asked_since_ns(&image->asked))
		return true;
	bool may = atomic_load_explicit(&image->owed_changes.pending, memory_order_relaxed) || atomic_load_explicit(&image->cold.waiting, memory_order_relaxed) ||
		   atomic_load_explicit(&image->owed_reads.pending, memory_order_relaxed) > READS_LOOKED_AT;
	return may && image_stalled(image);
}

// ---- without a worker

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

static void op_done(struct ring_op *ring, int res);

static void on_errand_done(struct ring_message *message)
{
	struct image_op *op = HOLDER(HOLDER(message, struct reader_errand, message), struct image_op, errand);
	op_done(&op->ring, op->res);
}

static void by_errand(struct image_op *op)
{
	op->by_errand = true;
	op->errand = (struct reader_errand){.message = {.run = on_errand_done}, .run = errand_run};
	reader_run_errand(op->image->reader, &op->errand);
}

// What ended, but was not all of it: the disk goes on.
static void op_moves(struct image *image)
{
	atomic_store_explicit(&image->owed_changes.moved_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_fetch_add_explicit(&image->pieces, 1, memory_order_relaxed);
}

// A sync that was cancelled was not begun, so it took no error of a write with it, and to ask for it is no second time (V3). Of a file system whose
// own syncs may say anything that is not certain.
static bool was_cancelled(const struct image_op *op, int res)
{
	const struct image *image = op->image;
	return res == -ECANCELED && !op->by_errand && image->reader && (op->aio->kind != AIO_SYNC || image->block_device || image->known);
}

// By a worker, not between two guest requests.
static bool by_worker(const struct image_op *op)
{
	const struct aio *aio = op->aio;
	if (aio->background)
		return true;
	if (aio->kind == AIO_READ)
		return read_keeps(op->image);
	return aio->kind == AIO_WRITE && (op->image->waits_always || op->image->emptying || !quick(op->image, clock_mono_ns()));
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
	return is_emptying(op->aio) && !op->image->block_device;
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

static void op_submit(struct image_op *op)
{
	bool async = by_worker(op);
	if (empties_file(op) && op->image->empties)
		queue_add(&op->image->emptiers, op);
	else if (is_emptying(op->aio) && op->image->reads_here)
		queue_add(&op->image->emptiers, op);
	else if (!by_ring(op, async))
		by_errand(op);
	else if (!takes_turns(op, async) || turn_take(op))
		op_issue(op, async);
}

// Whoever waits has all turns taken before it, so one of those comes here.
static void turn_end(struct image_op *op)
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
			by_errand(next);
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
		op_submit(queue_pop(&image->emptiers));
}

// What an operation of the thread's, or an emptying, kept from beginning.
static void way_free(struct image_op *op)
{
	struct image *image = op->image;
	image->reads_here -= op->reads_here;
	if (op->empties)
		image->empties = false;
	op->reads_here = op->empties = false;
	emptiers_go_on(image);
}

enum { PIECE_TURNS_MAX = 16 };
enum { PIECE_BEGIN = SYNC_FILE_RANGE_WRITE, PIECE_WAIT = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER };

static void on_piece_begun(struct ring_op *ring, int res);

static void pieces_end(struct image_op *op)
{
	free(op->pieces);
	op->pieces = NULL;
}

// One behind the other, by one worker at a time: a disk that hangs is not to take more of them than another sync would.
static void ranges_submit(struct image_op *op, struct ring_op *ring, unsigned which, int how, bool last)
{
	struct image_pieces *pieces = op->pieces;
	for (unsigned i = 0; i < pieces->count[which]; i++) {
		struct io_uring_sqe *sqe = ring_sqe(op->image->ring, ring);
		io_uring_prep_sync_file_range(sqe, op->image->fd, pieces->range[which][i].len, pieces->range[which][i].off, how);
		if (!last || i + 1 < pieces->count[which])
			io_uring_sqe_set_flags(sqe, IOSQE_IO_HARDLINK);
		pieces->under_way++;
	}
}

// What guests wrote behind the pieces meanwhile would all be the fdatasync's.
static bool sync_again(struct image_op *op)
{
	struct image_pieces *pieces = op->pieces;
	uint64_t total = pieces->turns < PIECE_TURNS_MAX ? unwritten_sync(&op->image->unwritten) : 0;
	if (total == 0 || total > pieces->total / 4 * 3)
		return false;
	pieces->total = total;
	pieces->turns++;
	pieces->count[pieces->next] = unwritten_take(&op->image->unwritten, pieces->range[pieces->next]);
	return pieces->count[pieces->next];
}

// Begins the piece behind the next and waits for the next, so that the disk always has something to do. Where none is left, the whole.
static void sync_go_on(struct image_op *op)
{
	struct image *image = op->image;
	struct image_pieces *pieces = op->pieces;
	unsigned now = pieces->next;
	if (image->ring->workerless || (pieces->count[now] == 0 && !sync_again(op))) {
		pieces_end(op);
		op_submit(op);
		return;
	}
	pieces->next = !now;
	pieces->count[pieces->next] = unwritten_take(&image->unwritten, pieces->range[pieces->next]);
	ranges_submit(op, &pieces->begun, pieces->next, PIECE_BEGIN, false);
	ranges_submit(op, &op->ring, now, PIECE_WAIT, true);
}

static void sync_by_pieces(struct image_op *op, uint64_t total)
{
	op->pieces = calloc(1, sizeof(*op->pieces));
	if (!op->pieces) {
		op_submit(op);
		return;
	}
	op->pieces->begun.done = on_piece_begun;
	op->pieces->owner = op;
	op->pieces->total = total;
	op->pieces->turns = 1;
	op->pieces->count[0] = unwritten_take(&op->image->unwritten, op->pieces->range[0]);
	sync_go_on(op);
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

static void op_finish(struct image_op *op, int res)
{
	struct image *image = op->image;
	struct aio *aio = op->aio;
	op_give(op);
	op_ends(image, aio);
	notice(image, aio, op->at, res);
	if (aio->kind == AIO_SYNC && res == 0)
		image->synced = op->covers == image->changes;
	aio->done(aio, res);
}

static void piece_ended(struct image_op *op)
{
	op_moves(op->image);
	if (--op->pieces->under_way)
		return;
	int res = op->pieces->res;
	if (res == 0) {
		sync_go_on(op);
	} else {
		pieces_end(op);
		op_finish(op, res);
	}
}

static void piece_done(struct image_op *op, int res)
{
	bool cancelled = was_cancelled(op, res);
	if (cancelled && op->image->ring->cancelled)
		op->image->ring->cancelled(op->image->ring); // there is no worker: the rest is the errand's
	if (res < 0 && !cancelled)
		op->pieces->res = res;
	piece_ended(op);
}

// The kernel writes once more for want of memory only where it is to wait.
static bool begin_again(int res)
{
	return res == -ENOMEM || res == -EAGAIN || res == -EINTR || res == -ECANCELED;
}

static void on_piece_begun(struct ring_op *ring, int res)
{
	struct image_op *op = HOLDER(ring, struct image_pieces, begun)->owner;
	if (res < 0 && !begin_again(res) && op->pieces->res == 0)
		op->pieces->res = res;
	piece_ended(op);
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
	op_submit(op);
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
	op_ends(image, aio);
	write_begin(image, aio);
}

static void op_done(struct ring_op *ring, int res)
{
	struct image_op *op = HOLDER(ring, struct image_op, ring);
	enum aio_kind kind = op->aio->kind;
	if (op->pieces) {
		piece_done(op, res);
		return;
	}
	turn_end(op);
	if (op->reads_here || op->empties)
		way_free(op);
	if (was_cancelled(op, res)) {
		if (op->image->ring->cancelled)
			op->image->ring->cancelled(op->image->ring);
		by_errand(op);
		return;
	}
	// A sync is never asked for twice (volume.h, V3): one that was interrupted may have taken the error of a write with it, and the next
	// would know of none. Everything else does the same again, or the rest of it.
	if (kind != AIO_SYNC && (res == -EINTR || res == -EAGAIN)) {
		op_submit(op);
		return;
	}
	if (kind == AIO_ADVISE && res >= 0 && op->aio->len - op->at > ADVISE_STEP) {
		op->at += ADVISE_STEP;
		op_submit(op);
		return;
	}
	if (kind == AIO_PUNCH && res < 0 && op->image->block_device) {
		zero_after_all(op, res);
		return;
	}
	if (kind == AIO_ZERO && res < 0 && op->image->block_device && !cannot(op->image, res))
		res = -EIO; // whatever it says: what was written there before may be lost, and that is no want of the guest's
	if (kind != AIO_READ && kind != AIO_WRITE) {
		if (kind != AIO_SYNC && res < 0 && cannot(op->image, res))
			res = -EOPNOTSUPP;
		op_finish(op, res);
		return;
	}
	if (kind == AIO_WRITE && op->aio->pipe && res == -EINVAL) { // takes nothing from a pipe: copied from here on
		write_rest(op);
		return;
	}
	if (res <= 0) {
		if (res == 0 && kind == AIO_READ)
			image_note_disturbed(op->image);
		op_finish(op, res < 0 ? res : -EIO); // 0: the file has become shorter than the disk
		return;
	}
	op->at += (unsigned)res;
	if (op->at < op->aio->len)
		op_submit(op);
	else
		op_finish(op, 0);
}

// Only whole pieces: a part of a page that is not in memory would be read first, and the thread would wait for the disk.
static bool write_direct(struct image *image, const struct aio *aio)
{
	if ((!aio->pipe && aio->len > DIRECT_BYTES_MAX) || (aio->off | aio->len) % PIECE_SIZE)
		return false;
	if ((image->emptying && !image->block_device) || (aio->pipe && image->reads_wait && image->changing)) // the lock of the file is a worker's
		return false;
	if (image->detour) {
		image->detour--;
		return false;
	}
	return quick(image, clock_mono_ns());
}

// For file systems that take nothing from a pipe.
static ssize_t write_copied(struct image *image, int pipe, uint64_t off, size_t len)
{
	char data[PIPE_STEP];
	ssize_t have = read(pipe, data, min_u64(len, sizeof(data)));
	ssize_t at = 0;
	while (at < have) {
		ssize_t wrote = pwrite(image->fd, data + at, (size_t)(have - at), (off_t)off + at);
		if (wrote == 0 || (wrote < 0 && errno != EINTR))
			return wrote;
		at += wrote > 0 ? wrote : 0;
	}
	return have;
}

static ssize_t write_piped(struct image *image, int pipe, uint64_t off, size_t len)
{
	loff_t to = (loff_t)off;
	ssize_t wrote = image->no_pipe ? -1 : splice(pipe, NULL, image->fd, &to, len, 0);
	if (!image->no_pipe && wrote < 0 && errno == EINVAL)
		image->no_pipe = true;
	return image->no_pipe ? write_copied(image, pipe, off, len) : wrote;
}

// A file system that refuses every such write does it without a reason: xfs refuses one while the image is being read, and as long as that
// may be why, or one was taken before, nothing is concluded.
static bool never_takes(struct image *image)
{
	if (image->took || image->owed_reads.pending || image->owed_changes.pending || atomic_load(&image->cold.reads))
		return false;
	return ++image->again >= AGAIN_MAX;
}

// Without waiting, where the file system can do that. EAGAIN: it would have to wait.
static ssize_t write_quick(struct image *image, char *data, uint64_t off, size_t len)
{
	const struct iovec from = {.iov_base = data, .iov_len = len};
	if (image->waits)
		return pwrite(image->fd, data, len, (off_t)off);
	ssize_t wrote = pwritev2(image->fd, &from, 1, (off_t)off, RWF_NOWAIT);
	if (wrote >= 0) {
		image->took = true;
		return wrote;
	}
	if (errno != EOPNOTSUPP && (errno != EAGAIN || !never_takes(image)))
		return wrote;
	image->waits = true;
	return pwrite(image->fd, data, len, (off_t)off);
}

static ssize_t write_some(struct image *image, const struct aio *aio, uint64_t at)
{
	uint64_t off = aio->off + at, len = aio->len - at;
	return aio->pipe ? write_piped(image, *aio->pipe, off, len) : write_quick(image, (char *)aio->data + at, off, len);
}

static void submit_from(struct image *image, struct aio *aio, uint64_t at);

static void write_now(struct image *image, struct aio *aio)
{
	uint64_t begin = clock_mono_ns(), at = 0;
	int64_t stirred_ns = rest_stirred(&image->rest);
	int res = 0;
	atomic_store_explicit(&image->inside_ns, begin, memory_order_relaxed);
	while (res == 0 && at < aio->len) {
		ssize_t wrote = write_some(image, aio, at);
		if (wrote > 0) {
			at += (uint64_t)wrote;
		} else if (wrote < 0 && errno == EAGAIN && !aio->pipe) {
			atomic_store_explicit(&image->inside_ns, 0, memory_order_relaxed);
			submit_from(image, aio, at);
			return;
		} else if (wrote == 0)
			res = -EIO;
		else if (errno != EINTR)
			res = -errno;
	}
	atomic_store_explicit(&image->inside_ns, 0, memory_order_relaxed);
	image->wrote_ns = clock_mono_ns();
	if (image->wrote_ns - begin > SLOW_NS)
		image->detour = DETOUR_WRITES;
	if (res == 0)
		rest_wrote(&image->rest, stirred_ns, !image->owed_changes.pending);
	notice(image, aio, at, res);
	finish_later(image, aio, res);
}

// Whether every page of it is in memory. -ENOSYS: this kernel does not tell (before 6.5).
static int all_cached(const struct image *image, uint64_t off, uint64_t len)
{
	struct image_pages pages;
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	if (image_pages(image, off, len, &pages))
		return -ENOSYS;
	return pages.cached >= (off + len - 1) / page - off / page + 1;
}

// W3: whether a look at it, or a send from it, may keep the thread.
static bool in_place_keeps(const struct image *image, uint64_t now_ns)
{
	return image->changing || asked_since_ns(&image->asked) || stalled(image, now_ns);
}

// One byte of each step is looked at: whether it is there already, or still being read. Where pages cannot be counted they come and go in
// runs, and image_take() notices when that was wrong.
bool image_sendable(struct image *image, uint64_t off, uint64_t len)
{
	char byte;
	const struct iovec to = {.iov_base = &byte, .iov_len = 1};
	if (len < SEND_BYTES_MIN || unreadable_within(&image->unreadable, off, len) || in_place_keeps(image, clock_mono_ns()) || atomic_load_explicit(&image->stale, memory_order_relaxed))
		return false;
	if (image->send_detour) {
		image->send_detour--;
		return false;
	}
	int all = all_cached(image, off, len);
	if (all == 0)
		return false;
	uint64_t step = all > 0 ? LOOK_STEP_COUNTED : LOOK_STEP;
	for (uint64_t at = 0; at < len; at += step)
		if (preadv2(image->fd, &to, 1, (off_t)(off + at), RWF_NOWAIT) != 1)
			return false;
	return preadv2(image->fd, &to, 1, (off_t)(off + len - 1), RWF_NOWAIT) == 1;
}

int image_take(struct image *image, int pipe, uint64_t off, size_t len)
{
	uint64_t begin = clock_mono_ns();
	loff_t from = (loff_t)off;
	size_t done = 0;
	int code = 0;
	if (in_place_keeps(image, begin))
		return -EAGAIN;
	atomic_store_explicit(&image->inside_ns, begin, memory_order_relaxed);
	while (code == 0 && done < len) {
		ssize_t took = splice(image->fd, &from, pipe, NULL, len - done, SPLICE_F_NONBLOCK);
		if (took > 0) {
			done += (size_t)took;
		} else if (took == 0) { // the file has become shorter
			image_note_disturbed(image);
			code = -EIO;
		} else if (errno != EINTR) {
			code = -errno;
		}
	}
	atomic_store_explicit(&image->inside_ns, 0, memory_order_relaxed);
	uint64_t now_ns = clock_mono_ns();
	if (code || now_ns - begin > SLOW_NS)
		image->send_detour = DETOUR_READS;
	if (code && code != -EAGAIN)
		unreadable_add(&image->unreadable, off + done, len - done, now_ns);
	return code;
}

static void on_job_done(struct ring_message *message)
{
	struct image_op *op = HOLDER(HOLDER(message, struct reader_job, message), struct image_op, job);
	if (op->job.ended)
		image_note_disturbed(op->image);
	op_finish(op, op->job.res);
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
	op_begins(image, aio);
	uint64_t much = aio->kind == AIO_SYNC ? unwritten_sync(&image->unwritten) : 0;
	if (for_reader(image, aio))
		by_reader(op);
	else if (much)
		sync_by_pieces(op, much);
	else
		op_submit(op);
}

// By the ring, what follows the first `at` bytes.
static void submit_from(struct image *image, struct aio *aio, uint64_t at)
{
	struct image_op *op = op_new(image, aio, at);
	if (op)
		op_begin(op);
	else
		finish_later(image, aio, -ENOMEM);
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
		finish_later(image, aio, code);
		return;
	}
	aio->data = copy;
	aio->pipe = NULL;
	op_begin(op);
}

static void write_begin(struct image *image, struct aio *aio)
{
	if (!aio->background && write_direct(image, aio))
		write_now(image, aio);
	else if (aio->pipe && image->no_pipe)
		submit_copied(image, aio);
	else
		submit_from(image, aio, 0);
}

static void image_submit(struct aio_backend *backend, struct aio *aio)
{
	struct image *image = HOLDER(backend, struct image, backend);
	if (is_emptying(aio) && !may_zero(image, aio)) {
		finish_later(image, aio, -EOPNOTSUPP);
		return;
	}
	if (is_change(aio))
		change_begins(image, aio);
	if (aio->kind == AIO_WRITE)
		write_begin(image, aio);
	else
		submit_from(image, aio, 0);
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
