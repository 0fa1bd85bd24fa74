// SPDX-License-Identifier: Apache-2.0
// What the files of the export share: export.c (open to close), export_loop.c (the thread),
// export_marks.c (marks, and their bound), export_short.c (what the process lacks), export_failed.c (a disk that failed for good), export_source.c (the cycle's side), export_audit.c (the reading of holes), export_write_out.c (what comes before a stop).
#ifndef KAGAMI_REPLICATOR_EXPORT_LOOP_H
#define KAGAMI_REPLICATOR_EXPORT_LOOP_H

#include "replicator/bound.h"
#include "replicator/client.h"
#include "replicator/disk_errors.h"
#include "replicator/export.h"
#include "replicator/failed_note.h"
#include "replicator/herald.h"
#include "replicator/marker.h"
#include "replicator/nbd_seats.h"
#include "replicator/overtaken.h"
#include "replicator/passes.h"
#include "replicator/reader.h"
#include "replicator/roll.h"
#include "replicator/workers.h"

#include <semaphore.h>

_Static_assert(BLOCK_SIZE == PIECE_SIZE * PIECES_PER_BLOCK, "a block is ours");

// A connection has so long to choose its disk; where there is no place left, the one that has taken longest goes at once: silent ones lock no guest out.
enum { EXPORT_GREETING_MS = 10000 };
enum { EXPORT_SWEEP_REST_MS = 5000, EXPORT_STOP_GRACE_S = 5, EXPORT_SPARE_MS = 2000, EXPORT_TRIM_BYTES = 1 << 20 };

enum { EXPORT_ACCEPT_PAUSE_MS = 100, EXPORT_ACCEPT_SHORT_MS = 1000 }; // the latter without a failure, and guests can connect again

// Connections at a time: of each disk its guest's, a second one, and a backup's or two.
enum { EXPORT_CLIENTS_LEAST = 64, EXPORT_CLIENTS_OF_A_DISK = 4, EXPORT_CLIENTS_MAX = 256 };
_Static_assert(EXPORT_CLIENTS_OF_A_DISK * DISKS_MAX <= EXPORT_CLIENTS_MAX, "each disk has its share");
static inline unsigned export_clients_max(uint16_t disks)
{
	unsigned share = EXPORT_CLIENTS_OF_A_DISK * (unsigned)disks;
	return share > EXPORT_CLIENTS_LEAST ? share : EXPORT_CLIENTS_LEAST;
}

enum export_state {
	EXPORT_SERVING,
	EXPORT_ENDING,	// clients end after their requests in flight
	EXPORT_CLOSED,	// the cycle's calls are refused
	EXPORT_SYNCING, // all is given back; the images are being synced
	EXPORT_ENDED,
};

struct export_disk { // what other threads see of a disk; published once a round, and before a call of the cycle's ends
	_Atomic uint64_t size;
	_Atomic uint64_t dirty_bytes, preserved_bytes, spilled_bytes, marked_regions, marked_bytes, unsynced_bytes, tracking_memory, unproven_bytes;
	_Atomic bool unnoted; // how its image is left alone is noted nowhere (rest.h), though it is to be
	_Atomic bool lost;
	char lost_error[ERR_TEXT_MAX]; // written before lost is set, and never again
	struct disk_errors errors;
	bool failed_before; // this start
};

struct export_losing { // of a disk whose marks are given up; the loop's own
	struct export *export;
	bool begun;
	struct bound note; // for how long the writes wait for it
	struct herald herald;
};

struct export_writing { // of a disk whose writes are brought to it before a stop
	_Atomic bool settled;	  // the newest pass took no time, or there is to be none any more
	_Atomic int64_t since_ms; // of the one under way; 0: none is
	struct export *export;	  // the loop's own
	struct volume_sync sync;
	struct passes passes;
	bool wanted; // another one
	int64_t ended_ms;
	int64_t seen_ms; // of whoever looks on: of which pass that was
	uint64_t least, moved;
};

struct export_short_word { // of one that the process may lack; the loop's own
	struct nbd_word word;
	bool told; // that it does
};

struct export {
	struct source source;
	char *protection;
	struct uuid uuid;
	char *socket_path;
	char *run_dir; // NULL: nothing is noted there
	uint16_t count;
	struct image *image;
	bool images_settled; // the cycle thread's: H4 of holes.c
	struct nbd_export *nbd;
	struct image spill; // a scratch file; path NULL: none
	uint64_t spill_most; // that it may take
	struct export_disk *disk;
	struct export_losing *losing; // one a disk
	struct export_writing *writing; // likewise
	atomic_bool told_to_write; // and the message is under way
	struct ring_message write_out;
	struct ring_task write_more;
	unsigned writing_now; // disks of which a pass is under way
	uint16_t writing_next; // the next one to be looked at
	_Atomic unsigned *attached;
	struct group group;
	struct ring ring;
	struct export_marker marker_config;
	unsigned cut_hold_ms_max, mark_wait_ms_max, note_wait_ms_max, spill_wait_ms_max, sweep_rest_ms;
	uint64_t swept_ns; // when marks were looked through last; 0: never
	struct marker marker;
	struct reader reader;
	_Atomic bool crowded; // see export_crowded()
	struct ring_task mark; // takes the next batch, after all that a turn brought
	struct pool pool;
	struct client_host host;

	pthread_t thread;
	bool running; // the thread was started and not joined
	atomic_bool told_to_end;
	atomic_bool looping; // the loop's state is its own
	struct roll_entry entry;
	struct roll *roll;
	sem_t ready;
	struct err start_err;
	struct overtaken overtaken;
	struct nbd_word refused, late;
	struct workers workers;
	struct export_short_word no_workers, no_accept;
	_Atomic int accept_code; // why nobody can connect; 0: somebody can. Written by the loop
	struct export_holds { // of cuts; written by the loop
		_Atomic uint64_t count, max_us, sum_us, given_up, bucket[EXPORT_CUT_BUCKETS];
	} holds;
	int listen_fd;

	enum export_state state; // from here on the loop's own
	struct client *clients;
	unsigned client_count;
	struct ring_op accept, again, grace;
	struct bound greeting; // of the connection whose handshake has taken longest
	struct bound hold;   // of the cut under way
	uint64_t hold_since_ns, hold_writes; // when it began, and what was in flight when its round did
	unsigned hold_rounds;
	struct bound commit; // of the batch that is the marker's
	uint64_t commit_since_ns;
	struct bound spilling; // until the next buffer comes back
	uint64_t spill_ended;  // as it was then
	struct bound sparing;  // until memory of preserved blocks is given back
	struct ring_task trim; // some of it
	struct bound accept_short; // until guests can connect again
	struct __kernel_timespec again_time, grace_time;
	struct ring_message stop;
	struct group_keep final; // its syncs; nothing is kept by it
	unsigned final_pending;
	int final_res;
};

void *export_run(void *context); // the thread; posts export->ready when it serves, or failed to
void export_on_stop(struct ring_message *message);
void export_publish(struct export *export);
void export_on_marks_wanted(struct intent *intent);
void export_on_marks(struct marker *marker); // a batch is back
void export_on_commit_late(struct bound *commit);
void export_write_out_init(struct export *export); // before the loop runs
void export_heralds_stop(struct export *export); // after the loop's end
void export_on_hold_expired(struct bound *hold);
void export_on_error(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res);

void export_note_failed(struct export *export, uint16_t disk, const char *why); // before anybody is told
int export_load_failed(struct export *export, struct err *err); // before start
void export_tell_failed(struct export *export); // what that found, after a start: one that comes to nothing is tried again and again
// A sync of the image beside the guest's took this error, which the guest's may not see any more; 0: none. By another thread than the loop's, or where there is none.
void export_unsynced(struct export *export, uint16_t disk, int code);

void export_on_workers(struct workers *workers);
void export_accept_failed(struct export *export, int code);
void export_on_accept_well(struct bound *accept_short);

extern const struct source_ops export_source_ops;

#endif
