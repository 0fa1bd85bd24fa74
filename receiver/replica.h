// SPDX-License-Identifier: Apache-2.0
// One protection in the store, as the files of the store see it. Everybody else uses receiver/store.h.
//
// Locks, taken in this order:
//	recovery_lock	one failover, rollback or removal at a time
//	retain_lock	one fold, merge or slice of a scrub (or removal) at a time, held for all of it
//	(the store's)	which replicas there are; never held over the disk: every session's OPEN asks
//	lock		everything below; not held while a fold writes the base, nor for longer than a piece of its table, nor while a session's digests are loaded
// `root`, `store_path`, `name` and, once recovered, the number and names of the disks of `prot` never change and need no lock;
// their sizes do.
//
// State:
//	ready ──replica_break()──► broken	until the store is opened anew
//	ready ──replica_break_passing()──► broken, passing ──replica_mend()──► ready: what it could not read, it reads again (mend.c)
//	ready ──replica_fence()──► fenced ──replica_fence_commit()──► final: on disk, for ever
//	  ▲───replica_unfence()──────┘
//	no session ──replica_session_begin()──► opening ──the digests are loaded──► session ──replica_session_end()──► no session
//	   ▲────────what it loads cannot be read, or it was fenced meanwhile─┘
//	head: none ──head_writer()──► open ──replica_seal()──► none, new UUID
//	                              open ──head_drop()──► none, new UUID
//	                              open ──head_retreat()──► open, as of its checkpoint, new UUID
//	      none ──head_recover()──► open, as of its checkpoint, new UUID
#ifndef KAGAMI_RECEIVER_REPLICA_H
#define KAGAMI_RECEIVER_REPLICA_H

#include "base/auto.h"
#include "format/codec.h"
#include "format/qcow2.h"
#include "receiver/budget.h"
#include "receiver/checkpoint_file.h"
#include "receiver/digest_file.h"
#include "receiver/point_file.h"
#include "receiver/protection_file.h"
#include "receiver/scrub_file.h"
#include "receiver/store.h"
#include "receiver/table.h"

#include <pthread.h>
#include <stdatomic.h>

enum { REPLICA_PATH_SIZE = 320 };


// Beside the protections, in the store's directory.
#define STORE_LOCK NAME_RESERVED
#define STORE_NEW ".new"
#define STORE_TRASH ".trash"

struct head_run { // of blocks that changed
	uint64_t first, count;
};

struct head_disk {
	struct env_file *file;
	struct qcow2_writer *writer; // NULL until the first block
	enum codec codec;	     // of the writer
	struct table digests;	     // of what the head changed, and nothing else
	struct head_run *changed;    // since the last checkpoint; blocks may be named twice
	size_t changed_count, changed_room;
};

// What of the head is durable: head_checkpoint.c.
struct head_saved {
	struct env_file *file;	     // head/checkpoint; NULL before the first
	struct checkpoint_extent at; // the newest checkpoint
	bool names_unsynced;	     // an overlay's file was made since
	uint64_t bytes, blocks;	     // that were taken since
	uint64_t since_ns;	     // when the first of them was, by the monotonic clock
};

struct head {
	struct uuid uuid;
	bool made; // the directory is there
	struct head_disk disk[DISKS_MAX];
	struct head_saved saved;
};

// retention that cannot go on (stall.c): folds and merges each by themselves, for the one may go on where the other cannot
enum stall_of { STALL_OF_FOLDS, STALL_OF_MERGES, STALL_KINDS };
struct stall {
	unsigned failures; // one after another, but for want of space
	uint64_t until_ns; // monotonic: not tried again before
	struct err why;	   // code 0: it goes on
	uint64_t fold_point, fold_bytes; // what the fold of that point takes at most, as it was counted; 0: it was not
};

struct held {
	uint64_t number;
	unsigned holds;
};

struct replica {
	struct env_root *root; // the store's
	const char *store_path;
	char name[NAME_SIZE];
	pthread_mutex_t recovery_lock; // see replica_recovery_lock()
	pthread_mutex_t retain_lock;
	pthread_mutex_t lock;

	struct protection prot;
	bool prot_certain; // this receiver has seen it become durable
	unsigned char owner[OWNER_PIN_SIZE]; // the store's, under its lock: prot.owner_pin as of when it came into the store; zeros: it could not be read
	uint64_t rollback_passed_ms; // of prot.rollback_in_ms, since that was saved
	int64_t rollback_written_ns; // to the failover's disks, last, as far as its timer saw
	bool gone; // removed from the store: its name, and so its files, may be another replica's by now
	bool broken;
	bool by_reading; // then: nothing of it failed to be written, so that what it is fenced with may be written still
	struct err why; // it is broken
	bool passing;	// a read failed, and nothing else: mend.c tries again
	uint64_t mend_ns; // monotonic: not before
	unsigned mend_failures;	  // one after another
	unsigned unread_failures; // of those, the last that were EIO, one after another
	uint64_t overlays_ns;	    // monotonic: who comes by looks at no overlay again before (overlays.c)
	unsigned overlays_failures; // one after another
	unsigned unread_looks;	  // examinations at recovery that ended in EIO, one after another
	struct held *held; // holds on points that are not in `points` while it is broken; of point 0: on one that nobody knows
	size_t held_count;

	struct point_info *points; // oldest first, numbers rising
	size_t point_count;
	uint64_t *merged; // found at start: points that went into the one above them, and are still there
	size_t merged_count;
	bool pins_apart;    // pins.json and its copy were both whole and differed at start: what either says holds, and is not written yet
	uint64_t pins_lost; // nobody knows which of the points up to this one were pinned: all of them are kept; 0: it is known
	bool aside; // there is no space to put a point back that a start left aside (point_name.c): the others are read meanwhile
	uint64_t examine_to; // replica_examine() looks at points up to this one; 0: at all
	struct head head;
	const _Atomic uint64_t *reserve_bytes; // of the store, to be kept free; NULL in a replica that is not in one yet
	uint64_t base_bytes;	// that the base takes
	uint64_t base_kept;	// that damaged tables take which are kept beside it
	uint64_t limits_next;	// how large the head is when the limits are looked at again
	uint64_t limits_wanted; // how far the head got that was refused last
	uint64_t limits_got;	// the same, as it is told: the most of those that were refused since the newest point
	enum limited limited;	// why; until a point is committed
	uint64_t limits_past;	// the file system itself took no more: that it does is known once a head of so many bytes is saved, or sealed; 0: it was a limit of ours
	struct budget *budget; // of the store, for memory; NULL in a replica that is not in one yet
	struct budget_source *budget_source; // NULL until something was taken
	uint64_t memory_taken[BUDGET_KINDS]; // of it
	uint64_t memory_opening; // what a session that opens has loaded by now
	uint64_t memory_wanted;	// how much the head gave back that was dropped for it last
	uint64_t memory_got[BUDGET_KINDS]; // the most that was refused since the newest point
	bool late_logged; // that retention waits for a hold
	struct stall stall[STALL_KINDS]; // of retention
	uint64_t rpo_saved_ns; // when a report changed the objective last, by the monotonic clock; 0: none did
	bool cannot_merge; // the file system cannot exchange directories
	bool retain_all;   // something else than a commit gave retention work: merges do not wait for more
	uint64_t merged_ns; // when the last merge was, by the monotonic clock

	bool scrub_known;	   // it was loaded
	struct scrub_state scrub;  // as on disk, but for a position that is at most SCRUB_SAVE_SECONDS old
	bool scrub_apart;	   // scrub.json and its copy were both whole and differed at start: what either claims holds, and is not written yet
	bool scrub_unsaved;	   // more than the position is not on disk
	uint64_t scrub_saved_ns;   // monotonic
	uint64_t scrub_range;	   // blocks in the next slice
	uint64_t scrub_run_ns, scrub_run_from; // when and where this process began with the pass, or went on with it
	bool scrub_held;	   // it waits for its window
	bool scrub_late_told;
	struct err scrub_why;	   // the newest slice failed
	uint64_t scrub_rest_ns;	   // monotonic: no slice before
	_Atomic bool digests_given_up; // sectors of lists and tables that cannot be read (EIO) count as damaged: it was tried often enough
	_Atomic bool copies_due;   // files that are kept twice are to be looked at: copies.c
	struct copies_pass {	   // over them; the keeper's
		bool under_way, protection_done, pins_done, scrub_done, failover_done;
		uint64_t number; // of the point that was looked at last
		struct err why;	 // the first that could not be written
	} copies;
	bool copies_failed; // the keeper's: the last pass could not write one
	bool reopen;		   // the session is to open again: a scrub found damage that its source must hear of

	// A seed is being adopted: adopt.c. Written under `lock` and retain_lock.
	bool adopting, adopt_taken;
	uint64_t adopt_rest_ns; // monotonic: not tried again before
	unsigned adopt_disk; // every block before this one is digested
	uint64_t adopt_block;

	struct examine { // the files under the head, while a session asks for pieces
		struct chain *chain[DISKS_MAX];
		bool failed[DISKS_MAX];
		uint64_t point;	// the newest, and how many there were, when they were opened
		size_t points;
	} examine;
	uint64_t examine_unproven; // answers of this session for blocks that did not prove: the first is logged, the rest counted

	uint64_t retain_waited_ns; // how long the step of retention that is under way has waited for `opening`
	bool opening; // somebody has claimed the session, and loads digests without `lock`: no point goes meanwhile, and no table changes
	uint64_t tables_made; // how often another table took the place of a base's (tables.c): who has the old one open sees it by that
	bool session_open;
	struct wire_certain certain;	// of the session; disks 0: nothing
	enum codec codec;		// what the session asks new overlays to be made with
	struct codec_context *unpacker; // while a session is open, as those below
	unsigned char *block;		// one block, as it will be
	unsigned char *pieces;		// the pieces that travelled
	struct table state[DISKS_MAX];	// digests of the newest point; absent is zero
};

// Half a replica: named, with locks; the rest by replica_recover().
struct replica *replica_new(struct env_root *root, const char *store_path, const char *name);
void replica_free(struct replica *replica); // takes NULL
// The cut is a point, durably: ends the doubt that it is to end (doubt.c). -EIO: broken.
int doubt_sealed(struct replica *replica, const struct uuid *cut, struct err *err);

// "<name>/" and the formatted rest, below the store's root.
void replica_file(const struct replica *replica, char path[REPLICA_PATH_SIZE], const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
// Opens "<name>/" and the formatted rest.
int replica_open_file(const struct replica *replica, enum env_open how, struct env_file **ret_file, struct err *err,
		      const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static inline void auto_env_file(struct env_file **file)
{
	env_close(*file);
}
#define AUTO_FILE __attribute__((cleanup(auto_env_file)))
static inline void auto_reader(struct qcow2_reader **reader)
{
	qcow2_reader_free(*reader);
}
#define AUTO_READER __attribute__((cleanup(auto_reader)))

// Everything below needs `lock`.

// Makes the replica broken, for the reason in `why`, and logs it. Returns -EIO with the reason in `err`.
int replica_break(struct replica *replica, const struct err *why, struct err *err);
// Likewise, but where nothing was written that counts, so that what is on disk may be looked at again: only what could not be read, or made good, for now. Any other
// code is replica_break(). Of either the replica is broken by reading: its fence can be taken back.
int replica_break_passing(struct replica *replica, const struct err *why, struct err *err);
const char *mend_lack(const struct replica *replica); // what a broken one that may be whole again cannot be
bool mend_passes(int code); // mend.c: the error says that it may be otherwise in a while
bool no_space(int code);    // the same, of space
int too_large(const struct err *why, struct err *err); // the store's file system takes no file of a disk's size: what to do, as -ENOSPC
// mend.c: the holds of all points, which were taken while `points` was made anew, go back. Where a point is not found its holds wait for it.
void held_give(struct replica *replica);
bool held_release(struct replica *replica, uint64_t number); // one that waits; false: there is none
bool held_unknown(const struct replica *replica); // there is one on point 0: nobody knows which point it is on
uint64_t mend_in_ms(const struct replica *replica);
// broken.c: 0, or -EIO with why it is broken, in the words that every command answers with; and these words alone, "" of one that is whole.
int replica_broken(const struct replica *replica, struct err *err);
void broken_reason(const struct replica *replica, char text[ERR_TEXT_MAX]);
// The point that somebody asks for; 0: the newest. -EIO, and why, where a broken replica does not have it; -ENOENT where none has.
int replica_point_asked(struct replica *replica, uint64_t number, struct point_info **ret_point, struct err *err);
// Whether `points` may be shown: -EIO of a broken replica that has none, as nobody knows which there are.
int replica_broken_list(const struct replica *replica, struct err *err);
// Needs no lock: where there are disks in failover/ of which nobody knows what they are, that a machine may run there, and their names. False: there are none.
bool broken_disks_text(const struct replica *replica, char *text, size_t cap);
// 0 when it may be written: -EIO broken, -ESTALE fenced.
int replica_ready(const struct replica *replica, struct err *err);
// doubt.c: whether it is its source who speaks, beside a session or without one; also the source of before a failover that may be taken back. -EPERM, -ESTALE, -EIO.
struct source_claim {
	const char *name;
	const struct uuid *protection, *generation;
	const unsigned char *pin;
};
int replica_source_check(const struct replica *replica, const struct source_claim *claim, struct err *err);
// Makes what `next` says durable, and then true. -ENOSPC changes nothing; anything else breaks the replica.
int replica_save(struct replica *replica, const struct protection *next, struct err *err);
uint64_t replica_last_point(const struct replica *replica); // 0 without one
struct digest_disk replica_disk(const struct replica *replica, unsigned disk);
// limits.c
uint64_t replica_used_bytes(const struct replica *replica); // as the quota counts: base, points and head
int replica_base_count(struct replica *replica, struct err *err); // looks at what the base takes now, and whether all of it is there: fails where a file is gone, none, or too short
// The file of one disk; adds what it takes to *allocated.
int replica_base_look(const struct replica *replica, unsigned disk, uint64_t *allocated, struct err *err);
// As replica_base_count(), and breaks the replica where it fails, for a while if it only cannot be seen: nobody goes on over a base that is gone. -EIO then.
int replica_base_there(struct replica *replica, struct err *err);
// Whether the head may grow, or with `seal` become a point. -EDQUOT quota or memory, -ENOSPC reserve: the head was dropped, or for memory perhaps kept, the text says what to do.
int limits_check(struct replica *replica, bool seal, struct err *err);
void limits_begin(struct replica *replica, enum limited why, const char *what); // told once, until there is room
void limits_committed(struct replica *replica);
void limits_saved(struct replica *replica); // as much as the head has is durable
// The file system took no more of a head that had `got` bytes, or, with `seal`, was to become a point. What is short is not known: it may be bytes, or anything else.
void limits_full(struct replica *replica, uint64_t got, bool seal, const struct err *why);
void limits_look(struct replica *replica); // whether there is room by now for the largest head that a limit of ours refused
void limits_fenced(struct replica *replica); // no head is to come
void limits_text(const struct replica *replica, enum limited why, char *text, size_t cap); // "" for LIMITED_NOT

// memory.c. Takes what the replica has of that kind by now, and a step ahead: -ENOBUFS where it may not have it.
int memory_reserve(struct replica *replica, enum budget_kind kind, struct err *err);
// The same for a head as its checkpoint has it: it was there before, so only what all others have keeps it from it.
int memory_restore(struct replica *replica, struct err *err);
void memory_settle(struct replica *replica); // gives back what it has no more
int memory_check(struct replica *replica, struct err *err); // takes both kinds, and -EDQUOT by memory_refuse()
void memory_limits(struct replica *replica, const char *what); // no new point for want of it; a file system that took no more stays the reason, for that is not known to pass
// For want of it: -EDQUOT, with what to do. The head is dropped where its source has more in others.
int memory_refuse(struct replica *replica, struct err *err);
bool memory_room(const struct replica *replica); // for what was refused
void memory_text(const struct replica *replica, char *text, size_t cap);

// fence.c, of a replica that has no fence: -EEXIST, and what to do first and `then`, when a disk of a failover is there.
int replica_disks_left(const struct replica *replica, const char *then, struct err *err);
uint64_t replica_rollback_in_ms(const struct replica *replica); // see replica_info
uint64_t replica_waits_for(const struct replica *replica); // see replica_info.retention_waits_for
struct point_info *replica_point(struct replica *replica, uint64_t number); // NULL when there is none
size_t replica_point_from(const struct replica *replica, uint64_t number); // index of the first point of that number or a higher one; point_count when there is none

// What damaged overlays of the point take that are kept (overlays.c); 0 of what cannot be seen.
uint64_t replica_kept_damaged(const struct replica *replica, uint64_t number);
// Reads point.json of `number`; needs no lock.
int replica_read_point(const struct replica *replica, uint64_t number, struct point_file *ret_point, struct err *err);

// digests.c: every digest that is not zero of the base, as a disk of `size` bytes; every entry of a point's list. -EBADMSG, and others, with the file.
// A block whose digest was lost with its sector is told as digest_unknown.
int digests_of_base(const struct replica *replica, unsigned disk, uint64_t size, digest_each *each, void *context, struct err *err);
int digests_of_point(const struct replica *replica, const struct point_file *point, unsigned disk, digest_each *each, void *context,
		     struct err *err);
// The same for whoever wants more.
struct digests_taker {
	digest_each *each; // NULL: nobody is told
	void (*undo)(void *context); // forgets all that was told of this list: it is another one than the point's, which is known at its end. NULL: the list is read twice
	const struct digest_rest *rest; // NULL: nobody is asked. Its code must not be -EBADMSG, which is a list's own
	void *context;
};
int digests_take_base(const struct replica *replica, unsigned disk, uint64_t size, const struct digests_taker *to, struct err *err);
int digests_take_point(const struct replica *replica, const struct point_file *point, unsigned disk, const struct digests_taker *to, struct err *err);
// Opens the list of a disk of a point. 1: it is lost as a whole, as it is gone, of another length, or given up (EIO): nobody knows any of its digests.
int digests_list_open(const struct replica *replica, uint64_t number, unsigned disk, uint64_t entries, struct env_file **ret_file, struct err *err);
struct lost_digests {
	uint64_t first, end, missing; // as a digest_lost is told
	uint64_t from, to;	      // of which blocks `each` is to hear
};
// Tells `each` digest_unknown of the blocks that the lost digests were of; `overlay`: the list's, NULL when it cannot be read, or of a table.
int digests_lost(struct qcow2_reader *overlay, const struct lost_digests *lost, digest_each *each, void *context, struct err *err);

// unknown.c. Which points there are, and how large the disks, as of one moment under `lock`.
struct newest {
	uint64_t *number; // oldest first
	size_t count;
	uint64_t size[DISKS_MAX];
};
int newest_of(const struct replica *replica, struct newest *ret_newest, struct err *err); // needs `lock`
void newest_done(struct newest *newest); // takes one of zeros
// The digests of the newest of them into `state`, a table for each disk that was made with its size; NULL: they are not wanted. `ret_unknown`: the blocks whose digests are unknown, and the points that show
// them. Needs no lock, but no fold, merge or growth may change what is read: under `lock`, or while `opening` keeps them away. `rest` (NULL: nobody) is asked meanwhile.
int digests_of_newest(const struct replica *replica, const struct newest *newest, struct table *state, struct damage_set *ret_unknown, const struct digest_rest *rest,
		      struct err *err);
// Quarantines them, durable on return: -ENOSPC, or -EAGAIN when it cannot be saved.
int unknown_note(struct replica *replica, const struct damage_set *unknown, struct err *err);
// Whether `point` is in quarantine for the block; that another one is, for a version of its own, says nothing of it.
bool unknown_noted(const struct replica *replica, unsigned disk, uint64_t index, uint64_t point);
// For whoever is to write `digests` down as they were read, as `point` shows them: what of them is unknown, and what else was `lost`, is in quarantine, durably. -EIO when it is not, for what is
// lost was not found again: a sector that the disk gives back only at times is good, and is not written over.
int unknown_settle(struct replica *replica, unsigned disk, const struct table *digests, uint64_t point, bool lost, struct err *err);

// create.c: makes the files of a new protection, durable on return; needs the store's lock.
int replica_create(struct env_root *root, const struct wire_open *open, const unsigned char owner_pin[OWNER_PIN_SIZE],
		   struct err *err);

// grow.c: makes head and base fit for the sizes in `open`, where they are larger. Durable on return, and harmless until replica_save() makes
// the sizes true: a base may be larger than the disk. The head is dropped. -ENOSPC changes nothing that counts; anything else breaks the replica,
// passing while nothing has changed yet.
int replica_grow(struct replica *replica, const struct wire_open *open, struct err *err);

// trash.c: deletes what was moved into the directory `dir`, which is created when it is missing; needs no lock.
int trash_clear(struct env_root *root, const char *dir, struct err *err);
// Makes the directory `dir`, of `parent`, where it is missing: a start makes it, but whoever removes empty directories may have come since. Nothing is lost where its name
// turns out not to be durable, for what is moved there is to go.
int trash_make(struct env_root *root, const char *parent, const char *dir, struct err *err);
// Moves everything in the directory `from`, which is created when it is missing, to `dir`, for trash_clear() to delete.
int trash_take(struct env_root *root, const char *from, const char *dir, struct err *err);

// point_name.c: at start, and under the lock. Which point's name nobody saw become durable; 0: none's. An error is one of reading.
int point_unsure(struct replica *replica, uint64_t *ret_number, struct err *err);
// Gives it another name, and its own back: a sync of points/ makes it certain then. An error may leave it aside.
int point_name_anew(struct replica *replica, uint64_t number, struct err *err);
// Before anybody looks at points/: puts back what was left aside.
int point_names_end(struct replica *replica, struct err *err);
bool point_is_aside(const char *name, uint64_t *ret_number); // the name under points/ of one that was left so

// retain.c: what retention does next.
enum { RETAIN_LAYERS_MAX = 32 }; // that one merge puts together

struct retain_step {
	bool merge;	// or else a fold
	uint64_t below; // merge: the point under the lowest
	size_t count;	// points; of a fold two: the oldest, and the one above it
	uint64_t number[RETAIN_LAYERS_MAX]; // lowest first; the last one stays, what is below it goes into it or, by a fold, into the base
};
// Whether the points of `step` that go may go still: nothing holds them, and the policy does not keep them. Needs the lock.
bool retain_still(struct replica *replica, const struct retain_step *step);
// The same before a step changes what a session that opens reads: waits for that, with the lock free meanwhile. 1: it goes on; 0: somebody came in between, the replica is
// broken, or a session opens and there is no `pace` to wait by, or it has waited for a minute; the error by which the pace ended it.
int retain_goes_on(struct replica *replica, const struct retain_step *step, const struct retain_pace *pace);
// Needs the lock: of points that the policy does not keep, how many there are.
size_t retain_surplus(const struct replica *replica);
uint64_t retain_held(const struct replica *replica); // the oldest that is held and keeps one that the policy does not, itself or below it; 0: none
// Forgets points that are in the trash.
void retain_forget(struct replica *replica, const struct retain_step *step);
// Makes "trash" or "merge" where somebody took it away, before a step needs it: what fails here has changed nothing.
int retain_dir_make(const struct replica *replica, const char *name, struct err *err);
// Moves points/<number> to the trash; not certain until points/ and trash/ are synced.
int retain_to_trash(struct replica *replica, uint64_t number, struct err *err);
// Where the files go that a merge has replaced.
void retain_trash_name(const struct replica *replica, const struct retain_step *step, char path[REPLICA_PATH_SIZE]);
int retain_sync(struct replica *replica, const char *const *dirs, size_t count, struct err *err);
// pins.c: pins.json, or its copy, into the points, at start; a point that is not there any more is no matter. Where neither says anything, pins_lost. Writes none.
int pins_load(struct replica *replica, struct err *err);
bool pins_keep(const struct replica *replica, const struct point_info *point); // it is pinned, or may have been
bool pins_known(const struct replica *replica); // there is one such point
// What memory knows into the file and its copy; *ret_changed as copies_replace() has it. Breaks nothing when it fails.
int pins_write(struct replica *replica, bool *ret_changed);
int pins_rejoin(struct replica *replica, bool *ret_wrote); // where they are apart: writes both, and tells it. Before that both stay as they are
int pace_spend(const struct retain_pace *pace, uint64_t bytes); // NULL: any speed

// stall.c: a step of this kind was done or failed (rc < 0, `why`); takes the lock. Those below need the lock, or retain_lock: whether it is too early to try
// again; that there is nothing of the kind to do any more; and whether it failed so often that what cannot be read for this error, a block, a table or all of an
// overlay, is left out.
enum { STALL_TRIES = 3 };
void stall_note(struct replica *replica, enum stall_of of, int rc, const struct err *why);
bool stall_waits(const struct replica *replica, enum stall_of of);
void stall_over(struct replica *replica, enum stall_of of);
bool stall_leaves_out(const struct replica *replica, enum stall_of of, int rc);
void stall_info(const struct replica *replica, struct stall_info *ret_info);
// -ENOSPC, and what to do, when a step might not find the space that it takes before it frees any. Takes the lock.
int stall_space(struct replica *replica, const struct retain_step *step, struct err *err);
uint64_t stall_room(const struct replica *replica); // bytes that a merge may take, as stall_space() has it

// fold.c, merge.c: one step, under retain_lock, with the lock free. 1 when it was done, 0 when somebody came in between.
int replica_fold(struct replica *replica, const struct retain_step *step, const struct retain_pace *pace, struct err *err);
int replica_merge(struct replica *replica, const struct retain_step *step, const struct retain_pace *pace, struct err *err);

// recover.c: whether the base file and the table of a disk are there, and fit for it; what the base takes is added to *allocated.
int replica_base_check(const struct replica *replica, unsigned disk, uint64_t *allocated, struct err *err);
// recover.c: fills in everything from the directory. What is wrong with it is in `broken`, and no failure.
void replica_recover(struct replica *replica);
void replica_recover_locked(struct replica *replica); // for whoever has the lock; done again, it begins anew
// Its parts that only read, which check.c uses too: protection.json, then everything that hangs on it. -EBADMSG with the first thing
// that is wrong; the points before it are in `points`. What a merge that was cut off left is in `merged`.
int replica_load(struct replica *replica, struct err *err);
int replica_examine(struct replica *replica, struct err *err);
int replica_numbers(struct replica *replica, uint64_t **ret_numbers, size_t *ret_count, struct err *err); // under points/, rising; the caller frees them
int replica_number(const char *name, uint64_t *ret_number); // of a name under points/; -EBADMSG when it is none

// intake.c: whether the session may speak of blocks [first, first + count) of the disk.
int intake_range_check(const struct replica *replica, uint16_t disk, uint64_t first, uint64_t count, struct err *err);

// examine.c: closes what replica_pieces() opened.
void examine_close(struct replica *replica);
void examine_end(struct replica *replica); // that of a session; says how many blocks did not prove

// head.c
uint64_t head_dead(const struct replica *r); // bytes of the overlays that nothing refers to any more
uint64_t head_bytes(const struct replica *replica); // of its overlays, so far
uint64_t head_blocks(const struct replica *replica); // that it holds something of

// The digest of a block as the head has it; during a session.
struct digest head_digest(const struct replica *replica, unsigned disk, uint64_t index);
// The overlay of `disk`, begun when it is not there yet.
int head_writer(struct replica *replica, unsigned disk, struct head_disk **ret_disk, struct err *err);
// The overlay of `disk`, as a checkpoint has it: the caller gives it its blocks. -EBADMSG.
int head_writer_resume(struct replica *replica, unsigned disk, enum codec codec, uint64_t clusters, struct err *err);
int head_write_packed(struct replica *replica, const struct wire_block *block, struct err *err);
int head_write_pieces(struct replica *replica, const struct wire_block *block, uint16_t mask, struct err *err);
int head_write_zeros(struct replica *replica, const struct wire_zeros *zeros, struct err *err);
void head_close(struct replica *replica); // the files stay
void head_let_go(struct replica *replica); // the same, and what it took of the memory is kept for the head that is taken up again, until memory_settle()
bool head_empty(const struct replica *replica); // for tests: of blocks

// head_checkpoint.c: what of the head survives the process. Room for one more change, before the block is written; then the change.
int head_change_reserve(struct head_disk *disk);
void head_changed(struct replica *replica, struct head_disk *disk, uint64_t first, uint64_t count, uint64_t bytes);
int head_names_sync(struct replica *replica, struct err *err); // of what is in head/, and its own
void head_session_end(struct replica *replica); // saves what is worth it; an error drops the head, or takes it back
// Makes all that the head holds durable. After a failure it is to be dropped or taken back.
int head_save(struct replica *replica, struct err *err);
// head_restore.c: takes the head up again as the newest checkpoint has it: at start, or with `own` after a failure in this process. The head is closed before.
// -ENOENT when there is no checkpoint of this head; -EBADMSG when it does not check. Then the caller drops it.
int head_restore(struct replica *replica, bool own, struct err *err);
// At start: the head that a receiver before this one left, or none.
int head_recover(struct replica *replica, struct err *err);
// No space: back to what is durable while there is no point yet, so that an initial sync goes on from there; otherwise dropped.
// `sound`: what it holds is known, no write of it failed. 1: something was kept; 0: it was dropped.
int head_retreat(struct replica *replica, bool sound, struct err *err);
void head_saved_forget(struct replica *replica, uint64_t number); // the head became point `number`
int head_renew(struct replica *replica, struct err *err); // another UUID
// Removes the head and starts anew from the last point; its space returns.
int head_drop(struct replica *replica, struct err *err);
// Drops the head because of `why`, with `seal` while it became a point. Returns -ENOSPC, -ENOMEM or -EIO, with what to do in `err`.
int head_fail(struct replica *replica, bool seal, const struct err *why, struct err *err);

#endif
