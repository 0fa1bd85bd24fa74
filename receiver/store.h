// SPDX-License-Identifier: Apache-2.0
// The store: recovery points on disk. Format and order of writes: docs/store.md.
//
//	STORE/lock                               held while a receiver runs
//	STORE/<protection>/protection.json       identity, disks, owner, generation (replaced as a whole)
//	STORE/<protection>/base/<disk>.raw       sparse; what lies under the oldest point
//	STORE/<protection>/base/<disk>.digests   digest table of the base
//	STORE/<protection>/points/<n>/           a committed point: <disk>.qcow2, <disk>.digests, point.json
//	STORE/<protection>/head/                 the open overlays; after a crash what its checkpoint names
//	STORE/.seeds/<protection>/<disk>/        an older copy, to be the base of a protection that is not there yet: receiver/seed.h
//	STORE/<protection>/trash/                what is being deleted
//
// A point exists if and only if its directory is under points/. It gets there by one rename, after everything in it and
// its names are on stable storage. Recovery reads the directory and nothing else.
//
// Threads: any. Each replica has a lock of its own, taken inside; a long fold gives it up between steps.
// After a failed sync the replica is BROKEN: -EIO for everything that writes, until the store is opened anew.
#ifndef KAGAMI_RECEIVER_STORE_H
#define KAGAMI_RECEIVER_STORE_H

#include "base/env.h"
#include "base/err.h"
#include "base/names.h"
#include "format/digest.h"
#include "format/wire.h"
#include "receiver/retention.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	OWNER_PIN_SIZE = 32,
	STORE_OWNER_MOST_DEFAULT = 512, // protections of one source
	ROLLBACK_GRACE_MS = 300000, // a fence is not taken back by itself so soon after a program had its disks open
	POINT_PINS_MAX = 64, // of one protection
	POINT_PIN_SIZE = 201,
	RETENTION_LATE_POINTS = 60, // that the policy does not keep, held up by a hold: the operator is told
};

struct store;
struct replica; // one protection in the store; lives as long as the store

// Opens (creates the lock in) an existing directory, named by an absolute path (-EINVAL), and recovers every protection in it.
// -EBUSY when another receiver has it. A protection that cannot be read is reported by log and by replica_info.broken, and
// does not stop the others.
int store_open(struct env *env, const char *path, struct store **ret_store, struct err *err);
// The same; its heads and tables of digests take at most so many bytes of memory, 0: as many as they need. A head that does not fit is dropped, and that is said.
int store_open_within(struct env *env, const char *path, uint64_t memory, struct store **ret_store, struct err *err);
uint64_t store_memory(struct store *store, uint64_t *ret_taken); // that bound, and how much of it is taken
void store_close(struct store *store); // takes NULL; no call may be under way
const char *store_path(const struct store *store); // absolute; where it was when it was opened
// The directory that is open, whatever is at that path by now: everything that the receiver does itself goes by it. It lives as long as the store.
struct env_root *store_root(const struct store *store);
// Looks whether the path leads to it. -ESTALE when it does not, and what to do; that is also told by an event, as is when it does again, and by store_displaced().
// Other errors: nobody knows.
int store_look(struct store *store, struct err *err);
// The same, and of the directory `name` in it, too: before a path below that is told to people or to QEMU.
int store_leads(struct store *store, const char *name, struct err *err);
// What the newest look found, without looking; false, and "", when the path leads to the store.
bool store_displaced(struct store *store, char ret_text[ERR_TEXT_MAX]);
uint64_t store_free_bytes(struct store *store);
int store_space(struct store *store, uint64_t *ret_bytes); // the same; an error where the file system does not say
// So much of the file system is left free by the heads of all replicas, so that folds and a failover have room. 0 at first.
void store_set_reserve(struct store *store, uint64_t bytes);
uint64_t store_reserve(struct store *store);

// How many protections one source may have at most: STORE_OWNER_MOST_DEFAULT at first. Before the first session. Those that are there stay.
void store_set_owner_most(struct store *store, size_t protections);
// How many the source with this key has, and is about to have.
size_t store_owned(struct store *store, const unsigned char owner_pin[OWNER_PIN_SIZE]);

// Whether the directory `name` below a store's root is a protection, if only what is left of one.
bool store_has_protection(struct env_root *root, const char *name);

struct replica *store_find(struct store *store, const char *name); // NULL when there is none
// The n-th replica by name, NULL past the last: for listing.
struct replica *store_at(struct store *store, size_t n);
// Whether the store has a whole seed for this source of each disk that `open` names. -ENODATA: not of one of them, and what to do.
int store_seeded(struct store *store, const struct wire_open *open, const unsigned char owner_pin[OWNER_PIN_SIZE], struct err *err);
// Creates a protection, durable on return. -EEXIST when the name is taken, -EDQUOT when its source has as many as it may, -ENOSPC.
int store_create(struct store *store, const struct wire_open *open, const unsigned char owner_pin[OWNER_PIN_SIZE],
		 struct replica **ret_replica, struct err *err);
// Removes a protection and every point of it: from the operator only. -EBUSY while anything is held or a session is open.
int store_forget(struct store *store, const char *name, struct err *err);

enum limited { LIMITED_NOT, LIMITED_QUOTA, LIMITED_SPACE, LIMITED_MEMORY };

// Why retention cannot go on, and when it is tried again.
enum stall_cause { STALL_NOT, STALL_SPACE, STALL_IO, STALL_LACK, STALL_OTHER };
const char *stall_cause_name(enum stall_cause cause); // "no-space", "io-error", "short-of-memory", "failed"; NULL: it goes on
struct stall_info {
	enum stall_cause cause;
	unsigned failures;	// one after another; STALL_SPACE counts none
	uint64_t again_in_ms;	// 0: at each round
	char reason[ERR_TEXT_MAX]; // "" while it goes on
};

struct replica_info {
	char name[NAME_SIZE];
	struct uuid protection;
	struct uuid generation;
	unsigned char owner_pin[OWNER_PIN_SIZE];
	bool fenced;	  // failed over: takes no more deltas
	uint64_t fenced_point;
	bool fence_final;	 // fenced for good: it cannot be taken back
	uint64_t rollback_in_ms; // until the fence is taken back by itself; 0: it is not
	bool rollback_barred;	 // it is broken by more than reading: no fence is taken back before the receiver starts again
	bool broken;
	char broken_reason[ERR_TEXT_MAX];
	uint64_t mend_in_ms; // until it is looked at again by itself; 0: it is not
	uint64_t rpo_ms;
	uint32_t points_keep; // what the source asks for
	bool retention_set;   // by the operator
	struct retention retention; // the policy that counts
	uint16_t disk_count;
	struct wire_disk disk[DISKS_MAX];
	uint64_t last_point; // 0 without one
	uint64_t point_count;
	struct uuid last_cut;
	int64_t last_cut_wall_ns;
	struct uuid head;
	uint64_t head_bytes;
	uint64_t head_blocks;
	bool session_open; // or one is about to be
	bool reopen; // the session is to end, and its source to open again: docs/store.md, "Scrub"
	bool adopting; // a seed: no session begins until it is read
	uint64_t adopted_bytes, adopting_bytes; // read, of
	uint64_t used_bytes;  // on disk: base, points and head
	uint64_t quota_bytes; // that it may take; 0: no bound of its own
	enum limited limited; // why the newest head was refused, until a point is committed, there is room for it, or no head is to come
	char limited_reason[ERR_TEXT_MAX];
	uint64_t pins_lost; // pins.json and its copy were lost: all points up to this one are kept, as if they were pinned; 0: they were not
	uint64_t retention_waits_for; // the oldest held point that keeps others, once RETENTION_LATE_POINTS too many have gathered, or a head was refused; else 0
	bool held_unknown; // nobody knows which point a test or a mount stands on: all are held
	uint64_t surplus;  // points that the policy does not keep, and that are still there
	struct stall_info stall; // of retention
	bool cannot_merge; // the file system cannot exchange directories: points in the middle stay
	uint64_t doubted_disks; // bit n: disk n; its source lost track of it (replica_doubt())
	int64_t unprotected_wall_ns; // when its source said goodbye (replica_goodbye()), by our clock; 0: it did not, or is back
};
void replica_info(struct replica *replica, struct replica_info *ret_info);

// The few of it that change by themselves, for whoever asks every second: without waiting. False: the replica is busy on its disk.
struct replica_pulse {
	bool fenced, broken, limited, unprotected;
	uint64_t last_point, rpo_ms;
	int64_t last_cut_wall_ns;
};
bool replica_pulse(struct replica *replica, struct replica_pulse *ret_pulse);
// The source has another RPO now: durable on return. Errors as those of a write. 1: it had another one less than RPO_SAVE_SECONDS ago, which stands; say
// it again later.
enum { RPO_SAVE_SECONDS = 60 };
int replica_set_rpo(struct replica *replica, uint64_t rpo_ms, struct err *err);

struct point_info {
	uint64_t number;
	struct uuid cut;
	int64_t cut_wall_ns;
	int64_t commit_wall_ns;
	enum point_consistency consistency;
	uint64_t dirty_bytes;
	uint64_t wire_bytes;
	uint64_t stored_bytes; // of its overlays, all disks
	uint64_t damaged_bytes; // of damaged ones that are kept beside them
	unsigned holds;
	uint64_t rewrites; // how often a fold or a merge wrote what it is read from anew, since the receiver's start
	bool pinned;
	char pin_text[POINT_PIN_SIZE];
	int64_t pinned_wall_ns;
};
// All points that can be used, oldest first; the caller frees the array. For whoever answers with them: replica_list_points().
int replica_points(struct replica *replica, struct point_info **ret_points, size_t *ret_count);
// The point that somebody asks for, 0 being the newest. -EIO, and why the replica is broken, where that is what keeps it from being there, and else -ENOENT.
int replica_point_look(struct replica *replica, uint64_t number, struct point_info *ret_info, struct err *err);
// Whether the files of the point can be opened now, from its overlays to the base; 0 is the newest. Of a broken replica -EIO as above; of any other the error names the file: nobody
// may have looked since it went.
int replica_point_opens(struct replica *replica, uint64_t number, struct err *err);
// What lies on disk of a broken replica and cannot be used; none of any other. Reads the directory: an error where that fails.
struct unread_points {
	uint64_t count, newest;
};
int replica_unread(struct replica *replica, struct unread_points *ret_unread);
// Absolute path of a point's disk, or of its directory when `disk` is NULL.
int replica_point_path(struct replica *replica, uint64_t number, const char *disk, char *path, size_t cap);
// How large each disk was at the cut of a point that the caller holds, in the order of replica_info.disk.
int replica_point_sizes(struct replica *replica, uint64_t number, uint64_t ret_size[DISKS_MAX], struct err *err);

// --- the session's side: one session per replica at a time ---

// Claims the replica for a session after checking owner, UUID, generation and geometry of `open` against the store;
// updates rpo and retention. The error codes map to the wire: -EPERM owner or UUID (EXISTS), -ESTALE generation (FENCED),
// -EINVAL geometry, -EBUSY another session, -EIO broken, -ENOSPC. What is written later fails with -EDQUOT where the quota is reached
// and with -ENOSPC where the disk is full or the reserve reached: then the head was dropped.
int replica_session_begin(struct replica *replica, const struct wire_open *open,
			  const unsigned char owner_pin[OWNER_PIN_SIZE], struct wire_opened *ret_opened, struct err *err);
// The same, which takes as long as there are digests to be loaded: others have the replica meanwhile, and retention waits. `look` is asked once when the replica is claimed, so that nobody else can have
// it, and then between two pieces; anything but 0 ends it, and is answered. It may call whatever does not wait for this session. -ESTALE also when the replica was fenced meanwhile.
struct session_pace {
	int (*look)(void *context, struct err *err);
	void *context;
};
int replica_session_begin_paced(struct replica *replica, const struct wire_open *open, const unsigned char owner_pin[OWNER_PIN_SIZE],
				const struct session_pace *pace, struct wire_opened *ret_opened, struct err *err);
void replica_session_end(struct replica *replica);

// The blocks that the session's source is to send whole, because the newest point shows them damaged.
void replica_damaged(struct replica *replica, struct wire_damaged *ret_damaged);
// Sets bit i of `bitmap` where the head's digest of block first + i is not the given one.
int replica_compare(struct replica *replica, const struct wire_compare *compare, unsigned char *bitmap, struct err *err);
// Likewise where the node of the digests of the blocks under node i is not the given one.
int replica_compare_nodes(struct replica *replica, const struct wire_nodes *nodes, unsigned char *bitmap, struct err *err);
// Which of the blocks the head has otherwise, and of those the digests of their pieces, where they can be told: by reading no more than them.
struct examine_answer {
	unsigned char answer[WIRE_EXAMINE_MAX]; // enum wire_answer
	unsigned by_pieces;
	struct digest digest[WIRE_EXAMINE_MAX][PIECES_PER_BLOCK]; // by_pieces of them
};
int replica_pieces(struct replica *replica, const struct wire_examine *examine, struct examine_answer *ret_answer, struct err *err);
int replica_write_block(struct replica *replica, const struct wire_block *block, struct err *err);
int replica_zeros_check(struct replica *replica, const struct wire_zeros *zeros, struct err *err); // -EBADMSG where they are not all on the disk
int replica_write_zeros(struct replica *replica, const struct wire_zeros *zeros, struct err *err);
// Makes what the session sent durable in the head, so that it is there after a crash: once as much is not as makes it worth while, as docs/store.md
// says, or with `now` whatever there is. 1: all of it is; 0: not yet. An error has dropped the head, or taken it back, as one of a write.
int replica_checkpoint(struct replica *replica, bool now, struct err *err);
// Makes the head the next point. Returns after everything is durable. -ESTALE when predecessor or head is not ours.
int replica_seal(struct replica *replica, const struct wire_seal *seal, struct wire_committed *ret_committed,
		 struct err *err);
// What the protection may take on disk, durable; 0: no bound. The points that are there stay, also when they are over it.
int replica_set_quota(struct replica *replica, uint64_t quota_bytes, struct err *err);
// One step of retention: folds the oldest point into the base, or merges points in the middle into the one above them, where the policy
// does not keep them and nothing holds them or a later point, whose chain they are part of. 1 when it did something, 0 when
// there is nothing to do.
int replica_retain(struct replica *replica, struct err *err);

// The operator's policy, durable on return: from then on it counts, and not what the source asks for. `policy` NULL: the source's wish counts
// again. -EINVAL when it keeps more than a chain bears, -ENOSPC.
int replica_set_retention(struct replica *replica, const struct retention *policy, struct err *err);
// What `policy` (NULL: the one that counts) says of each point of replica_points(), in order; the caller frees both arrays. -EIO broken: nothing goes then.
int replica_plan_retention(struct replica *replica, const struct retention *policy, struct point_info **ret_points,
			   struct retention_point **ret_plan, size_t *ret_count, struct err *err);
// The same of a broken replica too, for whoever lists its points: -EIO where it has none that can be used.
int replica_list_points(struct replica *replica, struct point_info **ret_points, struct retention_point **ret_plan, size_t *ret_count, struct err *err);

// What a policy would have the protection take, as the quota counts, once every point that it does not keep is merged or folded and nothing holds any: by
// the tables of the points and the holes of the base, of which no block is read. docs/store.md, "What a policy costs".
struct retention_bytes {
	uint64_t least, likely, most;
};
struct retention_cost {
	uint64_t used_bytes;	      // now
	struct retention_bytes after; // of all that `used_bytes` counts
	struct retention_bytes base;  // of that, the base
	uint64_t copied_blocks, packed_again_blocks; // that merges take over as they are, and that they put together
};
// The plan and its cost, of the same points. Takes no hold and waits for no step of retention: where one ends meanwhile it looks again, and holds the
// newest point only when that has happened three times. *ret_after (NULL: not asked) has each point's bytes then; the caller frees all three.
int replica_weigh_retention(struct replica *replica, const struct retention *policy, struct point_info **ret_points, struct retention_point **ret_plan,
			    struct retention_bytes **ret_after, size_t *ret_count, struct retention_cost *ret_cost, struct err *err);

// A pin keeps a point from retention until it is taken back, through restarts. Durable on return. Done again, it replaces the text.
// -ENOENT when there is no such point, -EINVAL a text that is too long, -ENOSPC, -EBUSY when there are POINT_PINS_MAX.
// `ret_was`, `ret_old`: whether it was pinned before, and what the text was. replica_pin() is for tests.
int replica_pin_again(struct replica *replica, uint64_t number, const char *text, bool *ret_was, char ret_old[POINT_PIN_SIZE], struct err *err);
int replica_pin(struct replica *replica, uint64_t number, const char *text, struct err *err);
// Not pinned: 0. -EBUSY of one that is kept because the pins were lost. `ret_was`: whether it was pinned before. replica_unpin() is for tests.
int replica_unpin_again(struct replica *replica, uint64_t number, bool *ret_was, struct err *err);
int replica_unpin(struct replica *replica, uint64_t number, struct err *err);
// What is kept for no more than that the pins were lost (replica_info.pins_lost) is the policy's again; pins that there are stay. -ENOENT: none were lost.
int replica_unpin_lost(struct replica *replica, struct err *err);

// A replica that is broken because something could not be read, and for nothing else, is looked at again by itself: after 30 s, 1 minute, 2, ... at most an
// hour. 1: it is whole again; 0: nothing was due, or it is as it was.
int replica_mend(struct replica *replica);
bool replica_is_broken(struct replica *replica);
// It is not: somebody stands on a point, and nobody knows on which. Until the receiver starts again.
void replica_keep_broken(struct replica *replica);
// A hold on a point of a broken replica, whether or not the point can be read now; on point 0, of any replica: on one that nobody knows, which keeps them all.
int replica_hold_unread(struct replica *replica, uint64_t number);

// How fast retention may go, with which a merge also waits for up to eight points or five minutes where more are to come. Told after each block, and while a step waits for a session that opens; anything but 0 ends the
// step, which is done again later.
struct retain_pace {
	int (*spend)(void *context, uint64_t bytes);
	void *context;
};
int replica_retain_paced(struct replica *replica, const struct retain_pace *pace, struct err *err);

// The source says that it lost track of disks: they are in doubt, durable on return, until replica_seal() of a cut that replica_certain()
// named. *ret_doubt is what is in doubt now. Also beside an open session, and of a source that is fenced, as long as that may be taken
// back. -EPERM another's or another protection, -ESTALE another generation, -EBADMSG a disk that is not there, -ENOSPC, -EIO broken.
int replica_doubt(struct replica *replica, const struct wire_doubt *doubt, const unsigned char owner_pin[OWNER_PIN_SIZE],
		  struct wire_doubted *ret_doubt, struct err *err);
void replica_doubted(struct replica *replica, struct wire_doubted *ret_doubt);
// The session's: the point of the cut that is named was made of all that may differ on these disks. Where the doubt is still the one that is
// named when that point is committed, it ends, for these disks.
void replica_certain(struct replica *replica, const struct wire_certain *certain);

// The source says that the protection was ended there on purpose: durable on return, until a session begins. *ret_news: it was not known. Who may, and errors, as
// replica_doubt(). A fence is as it was.
int replica_goodbye(struct replica *replica, const struct wire_goodbye *goodbye, const unsigned char owner_pin[OWNER_PIN_SIZE], bool *ret_news, struct err *err);

// --- recovery's side ---

// For one failover, rollback or removal of this replica at a time; those of others do not wait. Taken before any lock inside.
pthread_mutex_t *replica_recovery_lock(struct replica *replica);

// Keeps point `number`, and all that its chain needs, as it is until it is released. `number` 0 means the newest;
// the one held is stored. -ENOENT when there is no such point. Holds end with the process; a failover's is durable.
int replica_hold(struct replica *replica, uint64_t number, uint64_t *ret_number, struct err *err);
// The same for whoever is to serve it, asked where no damage comes between: -EUCLEAN, and no hold, when the point is not sound (scrub.h, replica_sound()).
int replica_hold_sound(struct replica *replica, uint64_t number, uint64_t *ret_number, struct err *err);
void replica_release(struct replica *replica, uint64_t number);
// point_info.rewrites; 0 without such a point. It does not change while the point is held.
uint64_t replica_rewrites(struct replica *replica, uint64_t number);
// The durable fence of a failover: the generation changes, no delta is taken any more, point `number` (0: the newest at that
// moment, see replica_info.fenced_point) is pinned. The open
// session, if any, gets -ESTALE from its next call. Done twice for the same point it changes nothing; for another -EALREADY.
// -EEXIST, and no fence: failover/ is there already, of a failover that is over.
int replica_fence(struct replica *replica, uint64_t number, struct err *err);
// The same, likewise: -EUCLEAN, and no fence, when the point is not sound. Of a fence that stands already nothing is asked.
int replica_fence_sound(struct replica *replica, uint64_t number, struct err *err);
// Takes a fence back, with the failover's disks: they are gone, durably, before the source of the generation before may write
// again. `number`: the fenced point, or 0 for whichever it is. -ENOENT not fenced, -EALREADY to another point, -EPERM final,
// -EIO broken, but by reading alone: it stays so, and what is written is protection.json and failover/. The caller has seen to it that no program has the disks open.
int replica_unfence(struct replica *replica, uint64_t number, struct err *err);
int replica_unfence_check(struct replica *replica, uint64_t number, struct err *err); // whether it would, by what is known here
// Makes a fence final, durably. Done twice it changes nothing. Errors as replica_unfence(), but -EPERM; and -EIO where its disks cannot be opened (replica_point_opens()).
int replica_fence_commit(struct replica *replica, uint64_t number, struct err *err);
int replica_unfence_ready(struct replica *replica, struct err *err); // whether it could take back one that is made now: -EIO
// The fence is to be taken back in so much time: durable. -ENOENT not fenced, -EPERM final, -EIO as replica_unfence().
int replica_fence_timer(struct replica *replica, uint64_t rollback_in_ms, struct err *err);
// `passed_ms` have gone by on that clock, and a program has the disks open or not. *ret_due: the time is over, and none has.
// `written_ns` (failover_written_last()): another one than the call before had, or than 0 in the first, is use, too. -EIO as replica_unfence().
int replica_fence_tick(struct replica *replica, uint64_t passed_ms, bool in_use, int64_t written_ns, bool *ret_due, struct err *err);

#endif
