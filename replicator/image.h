// SPDX-License-Identifier: Apache-2.0
// The image of a disk, raw, a regular file or a block device: opened, locked, and its I/O over the ring.
#ifndef KAGAMI_REPLICATOR_IMAGE_H
#define KAGAMI_REPLICATOR_IMAGE_H

#include "base/err.h"
#include "replicator/aio.h"
#include "replicator/asked.h"
#include "replicator/cold.h"
#include "replicator/image_path.h"
#include "replicator/nbd.h"
#include "replicator/rest.h"
#include "replicator/ring.h"
#include "replicator/unreadable.h"
#include "replicator/unwritten.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct image_op;
struct reader;
struct image_identity;

enum {
	IMAGE_BENEATH_MAX = 16,
	IMAGE_TURNS = 32, // image_io.c, W4: as many as a guest commonly has under way, so that they are none of a disk that is well
	IMAGE_WORKERS = IMAGE_TURNS + 3, // with those of a sync, and of the changes of a file
};

struct image {
	struct aio_backend backend;
	char *path;
	int fd;
	int beneath[IMAGE_BENEATH_MAX]; // what loop devices beneath it show, locked as an image is
	unsigned beneath_count;
	bool block_device;
	bool no_zeroes; // a block device that zeroes no range by itself; the ring's thread notes it as well
	struct image_file file; // which one it is
	int64_t born_ns; // when it was made; 0: a block device, or not known
	bool times_tell; // image_times_tell()
	bool known; // image_file_system_known(), when it was attached
	uint64_t size;

	struct ring *ring;
	struct reader *reader; // of reads in the background, and of what workers would do where there are none; NULL: the ring's workers do them
	struct ring_task finish;
	struct aio *finished, **finished_end; // without the ring; `done` comes with the next turn
	struct image_op *spare;
	struct image_op *reserve; // for a sync when there is no memory
	struct image_queue { // the oldest first
		struct image_op *first, **end;
	} waiting, emptiers; // for a turn; for the end of the reads that the thread began, and of the one before
	unsigned reads_here; // those
	bool empties; // an operation that makes a hole, or zeros, of a file is with the ring
	unsigned turns;	       // that are taken
	bool waits_always;     // its file system knows no read that must not wait
	bool by_turns;	       // its reads may all take workers
	bool reads_wait;       // its file system has reads wait for writes (xfs)
	unsigned detour;       // how many more small writes go by the ring, since one of ours was slow
	unsigned send_detour; // likewise of reads that could be sent from the page cache
	struct unreadable unreadable; // what of it is not sent from its page cache
	struct unwritten unwritten;
	_Atomic uint64_t pieces;      // of syncs, that have ended
	_Atomic unsigned ahead; // image_read.c: how many reads more are read ahead of
	bool waits;	       // its file system takes no write that must not wait
	bool took;	       // it has taken one
	unsigned again;	       // of those, that were refused without a reason that we know
	struct cold cold;
	uint64_t wrote_ns;     // when a write ended last
	struct image_owed {    // operations by the ring
		_Atomic uint64_t pending, moved_ns; // when the first of them began, or the newest ended; written by the ring's thread, seen by others
	} owed_reads, owed_changes;
	unsigned changing; // of the latter, those that hold the file's lock while they wait for the disk: all but syncs
	unsigned emptying; // of those, that make holes or zeros
	struct asked asked;	    // other threads, for what it is, or for a sync of all of it
	_Atomic uint64_t inside_ns; // since when the ring's thread itself is in a write to it, or a send from it; 0: it is not
	struct rest rest;      // how it was when it was last left alone
	struct image_seen {    // when it was judged whether somebody else changed it
		bool judged;
		uint64_t size;
		int64_t mtime_ns, ctime_ns;
	} seen;
	_Atomic uint32_t disturbances, disturbances_told; // image_note_disturbed() was called so often, and image_disturbance_told() says so of the first of them
	uint32_t disturbances_taken, disturbances_noted;      // what image_was_disturbed() answered for: of those, and of the note's; whoever asks it
	uint64_t changes;      // that were begun
	bool synced;	       // since the last of them
	_Atomic bool stale;    // its cache is to be dropped: nothing is sent in place, since a client that takes nothing would keep those pages
	bool no_pipe;	       // its file system takes nothing from a pipe: each such write is copied once more
};

// Opens and locks. Errors name the path and what to do.
int image_open(struct image *image, const char *path, bool read_only, struct err *err);
// A file without a name in `dir`, for the agent's own use: empty, and as large as what is written to it. Where the file
// system makes none without a name, it has one for an instant; a crash in that leaves an empty file ".kagami-spill-" and six characters.
int image_open_scratch(struct image *image, const char *dir, struct err *err);
// image_pages.c. A length of 0 is up to the end. -ENOSYS: this kernel does not tell. Any thread; waits for no disk.
struct image_pages { // as the kernel lays it out
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};
int image_pages(const struct image *image, uint64_t off, uint64_t len, struct image_pages *ret_pages);
uint64_t image_unwritten(const struct image *image); // pages that a sync of it still has to write; 0: none, or not known
// Forgets what the page cache has of it and the disk may not: after a failed sync the cache shows what was never written, and says at the next
// sync that all is well, to a program that was started anew as well. What waits to be written stays, but is on its way to the disk first: takes as long as that, which may be
// minutes. `len` 0: up to the end. What somebody uses just then stays: a page that a read copies from, or that is on its way to a client in place; and a large page that lies in the range in part.
void image_drop_cache(struct image *image, uint64_t off, uint64_t len);
void image_unlock(const struct image *image); // the process is about to end with it open, and no write of it under way
void image_close(struct image *image); // takes a zeroed or failed one, too
// Whether its path still leads to it, and if not, whether it has another name. Waits for the disk. Any thread.
enum image_path image_look(const struct image *image, bool *ret_named);
int image_identify(struct image *image, struct image_identity *ret_identity, struct err *err);
// What met the end of the file before that of the disk, or found another file than was left alone, notes that somebody else changed it, for a start after a kill as well (rest.h, N4); any
// thread. A write of the guest may have given the file its size back since.
void image_note_disturbed(struct image *image);
// Whether that was noted since this was asked last. One thread asks.
bool image_was_disturbed(struct image *image);
// What image_was_disturbed() said has followed durably: the note says it no more. The same thread.
void image_disturbance_told(struct image *image);
// Whether there is something that image_disturbance_told() was not called for. Any thread.
bool image_disturbance_untold(const struct image *image);
// Asks for its size, and whether it is as it was when it was left alone, and notes if not: before a change, which could give a shorter file its size back and has times of its own. Of the
// thread that begins the changes.
void image_look_at_rest(struct image *image);
// At a start, before it is judged whether somebody else changed a regular file, and once there is a note of rest: what was changed in between is as good as noted then
// (image_note_disturbed()). Nothing of ours changes it meanwhile.
void image_judged(struct image *image);
void image_look_at_judged(struct image *image);
// Sees to it that there are `size` bytes: a shorter regular file is extended, durable on return; a device is asked. image->size stays.
// `ret_failed`: the error of its sync, which the guest's may not see any more (G5); 0: none. NULL for a device.
int image_extend(struct image *image, uint64_t size, int *ret_failed, struct err *err);
// Whether its times move with each change by whomever, at once, and can be asked for without waiting: so it is of a file on most file systems of this host. Asked
// once, for a file system that hangs may not answer; afterwards it stands in the image.
bool image_times_tell(const struct image *image);
// The ring's thread is about to sleep: notes how the image is, where no change is under way (rest.h).
void image_rests(struct image *image);
// From here on image->backend works, on the ring's thread. A sync of much is done in pieces (unwritten.h).
void image_attach(struct image *image, struct ring *ring);
void image_grown(struct image *image, uint64_t size); // it is so large from here on. On that thread, or where none runs
// image_read.c: reads the image as it is now, also by several threads, also while the ring works. -EIO when it ends before.
int image_read_now(struct image *image, uint64_t off, uint64_t len, void *data);
// Likewise, of what nobody else is about to read: nothing is read ahead, and it is not kept in the page cache.
int image_read_apart(struct image *image, uint64_t off, uint64_t len, void *data);
// image_hole.c: sets `known`, backend.hole where the file system can be believed, and backend.punch_keeps where it may not empty what it was told to.
void image_believe_holes(struct image *image);
bool image_reads_wait(const struct image *image); // for a change of the file under way, also where they must not wait
// Brings what others wrote to the image before it was opened to stable storage (holes.c, H4). Any thread; may take its time. False: it could not be;
// `ret_failed` as above.
bool image_settle(struct image *image, int *ret_failed);
// Brings the times of a regular file to stable storage, which no sync of its data does: after a power cut it is known by them. An error says that not all of the image
// is there, with `ret_failed` as above. Without one it may still not be done, where it could not be asked for. May take its time, and waits for the end of a second where times are whole ones
// (rest.h, N5).
int image_settle_times(struct image *image, int *ret_failed, struct err *err);
// Of an image whose sync failed, and that nobody writes to: what waits is synced, what it has still to tell of then is taken, and its page cache is forgotten. An error: it fails still.
int image_renew(struct image *image, struct err *err);
// Whether [off, off + len) is worth to be taken by image_take(): much, in memory as far as a few looks show, and nothing of it failed to be read: the page that could
// not be is in memory as well, and counts as one that is there.
bool image_sendable(struct image *image, uint64_t off, uint64_t len);
// Fills an empty pipe that does not block from the page cache, without a copy: what the file holds when it is read from there. 0: all of it is in the pipe. Waits for
// the disk if pages were evicted since image_sendable(). After an error the pipe holds a part of it: -EAGAIN when there was no room for more; others are
// of the image (EIO where it ends before).
int image_take(struct image *image, int pipe, uint64_t off, size_t len);
// Whether it has owed an answer for so long that the thread which serves others had better not ask anything of it.
bool image_stalled(const struct image *image);
// For how long it has owed an answer to whatever was asked of it: by the ring, by its thread itself, by the reader, or by a thread of a cycle, which looks at it, syncs or extends it, too; 0: nothing is
// asked, or it was just now. Any thread; waits for nothing.
uint64_t image_silent_ns(const struct image *image, uint64_t now_ns);
// image_extents.c: what the file system says about [off, off + len), all data while it is stalled, or changed by a worker, whose lock a question would wait for: 1
// to `most` extents that start at `off`; they may end before the range does, and do where more would take long. Holes in data may be told as data, those of less than 64 KiB.
unsigned image_extents(const struct image *image, uint64_t off, uint32_t len, struct nbd_extent *extents, unsigned most);

#endif
