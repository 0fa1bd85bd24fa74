// SPDX-License-Identifier: Apache-2.0
// An operation on an image, and what the files that do them have of each other. All on the ring's thread.
#ifndef KAGAMI_REPLICATOR_IMAGE_PRIVATE_H
#define KAGAMI_REPLICATOR_IMAGE_PRIVATE_H

#include "replicator/image.h"
#include "replicator/reader.h"

enum { ADVISE_STEP = 128 << 10 }; // the kernel takes no more of a range than its readahead window, and forgets the rest

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
	bool has_turn; // image_io.c, W4
	bool reads_here; // image_io.c, W3: the thread may go on with it when some of it has come
	bool empties;	 // image_io.c, W4: a file, by the ring
	void *copy;    // of what was in a pipe; NULL: none
	int res; // of the errand
	struct image *image;
	struct aio *aio;
	uint64_t at; // bytes done
	struct image_pieces *pieces; // of a sync that is done by them; NULL: it is not, or there are none any more
	uint64_t covers; // a sync: so many changes; 0: not all of them had ended
	struct image_op *next;
};

static inline bool aio_is_emptying(const struct aio *aio)
{
	return aio->kind == AIO_PUNCH || aio->kind == AIO_ZERO;
}

static inline bool aio_is_change(const struct aio *aio)
{
	return aio->kind == AIO_WRITE || aio_is_emptying(aio);
}

// image_io.c
void image_finish_later(struct image *image, struct aio *aio, int res); // without the ring: `done` must not be called from within submit
void image_submit_from(struct image *image, struct aio *aio, uint64_t at); // by the ring, what follows the first `at` bytes
void image_op_finish(struct image_op *op, int res);
void image_notice(struct image *image, const struct aio *aio, uint64_t at, int res); // what can be read, and what not; the first `at` bytes were done before

// image_owed.c
bool image_for_reader(const struct image *image, const struct aio *aio);
void image_owed_begins(struct image *image, const struct aio *aio);
void image_owed_ends(struct image *image, const struct aio *aio);
void image_owed_moves(struct image *image); // what ended, but was not all of it: the disk goes on
bool image_stalled_at(const struct image *image, uint64_t now_ns);
bool image_quick(const struct image *image, uint64_t now_ns); // image_io.c, W1

// image_turns.c
void image_op_submit(struct image_op *op);
void image_op_by_errand(struct image_op *op);
bool image_op_cancelled(const struct image_op *op, int res); // image_io.c, W2: for want of a worker, before anything of it was done. The ring is told
void image_turn_end(struct image_op *op); // image_io.c, W4. Also where it had none
void image_way_free(struct image_op *op); // image_io.c, W3: of a read of the thread's, or an emptying: whoever waits for its end goes on

// image_sync.c: of `total` bytes, by pieces. What the ring says of one comes to the second.
void image_sync_by_pieces(struct image_op *op, uint64_t total);
void image_piece_done(struct image_op *op, int res);

// image_direct.c: whether the thread writes it by itself, and does. The end comes by image_finish_later().
bool image_writes_itself(struct image *image, const struct aio *aio);
void image_write_now(struct image *image, struct aio *aio);

#endif
