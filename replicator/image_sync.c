// SPDX-License-Identifier: Apache-2.0
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
#include "replicator/image_private.h"

#include "replicator/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { PIECE_TURNS_MAX = 16 };
enum { PIECE_BEGIN = SYNC_FILE_RANGE_WRITE, PIECE_WAIT = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER };

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
		image_op_submit(op);
		return;
	}
	pieces->next = !now;
	pieces->count[pieces->next] = unwritten_take(&image->unwritten, pieces->range[pieces->next]);
	ranges_submit(op, &pieces->begun, pieces->next, PIECE_BEGIN, false);
	ranges_submit(op, &op->ring, now, PIECE_WAIT, true);
}

static void piece_ended(struct image_op *op)
{
	image_owed_moves(op->image);
	if (--op->pieces->under_way)
		return;
	int res = op->pieces->res;
	if (res == 0) {
		sync_go_on(op);
	} else {
		pieces_end(op);
		image_op_finish(op, res);
	}
}

void image_piece_done(struct image_op *op, int res)
{
	if (res < 0 && !image_op_cancelled(op, res)) // then there is no worker: the rest is the errand's
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

void image_sync_by_pieces(struct image_op *op, uint64_t total)
{
	op->pieces = calloc(1, sizeof(*op->pieces));
	if (!op->pieces) {
		image_op_submit(op);
		return;
	}
	op->pieces->begun.done = on_piece_begun;
	op->pieces->owner = op;
	op->pieces->total = total;
	op->pieces->turns = 1;
	op->pieces->count[0] = unwritten_take(&op->image->unwritten, op->pieces->range[0]);
	sync_go_on(op);
}
