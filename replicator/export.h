// SPDX-License-Identifier: Apache-2.0
// The disks of one protection, served over NBD: the source that sits in the guest's write path.
//
// One thread and one io_uring per protection own the images, the dirty maps, the cut and the clients; everything below is
// a message to it. So a cut over all disks is a local act of one thread, and no guest request takes a lock.
// Protocol: docs of the NBD project (proto.md): fixed newstyle, one export per disk, named as the disk.
#ifndef KAGAMI_REPLICATOR_EXPORT_H
#define KAGAMI_REPLICATOR_EXPORT_H

#include "base/err.h"
#include "base/names.h"
#include "replicator/dirty.h"
#include "replicator/image_path.h"
#include "replicator/rest.h"
#include "replicator/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct export_disk_config {
	char name[NAME_SIZE];
	const char *path; // of the image: a regular file or a block device, raw
	bool read_only;
};

// How a disk's region marks (4 MiB, write-intent) reach the state file. Called on one thread, the marker's, and never twice at
// a time. Returns when `set` is durable (B2); `clear` may ride along. Region numbers, in no order; none is in both.
// A failure means that this disk's marks are lost: `commit` has made that known for the next start, as well as it can, before
// it returns, since from then on the guest's writes go on unmarked (G3). It is not called again for that disk.
struct export_marker {
	int (*commit)(void *context, uint16_t disk, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears,
		      struct err *err);
	// `commit` has not returned for so long that the disk's marks are given up: its writes are about to go on unmarked. Both are
	// called once for the disk, one after the other, on a thread of their own, also while `commit` is under way, and for several
	// disks at a time. `note` makes it known for the next start somewhere else than `commit` would, and without waiting for it:
	// the writes wait for its return, within a bound. `lose` does the rest, and may take as long as `commit`.
	void (*note)(void *context, uint16_t disk, const char *why);
	void (*lose)(void *context, uint16_t disk, const char *why);
	// In their place, where there is no thread for them: at once, on the loop's, and so without waiting for anything. The writes wait as
	// long as they would have for `note` at the most.
	void (*forsake)(void *context, uint16_t disk);
	void *context;
};

struct export_config {
	const char *protection;	 // for logs, and the names of notes
	struct uuid uuid;	 // its own: what was noted of another one of that name is not of this
	const char *socket_path; // unix socket; a stale one is replaced
	uint16_t disk_count;
	struct export_disk_config disk[DISKS_MAX];
	uint64_t preserve_bytes_max; // bound of copy-before-write memory; 0 for the default of 64 MiB
	const char *spill_dir;	     // where the rest of it goes, in a file without a name; NULL: nowhere
	uint64_t spill_bytes_max;    // bound of that file; 0 for the default of 1 GiB
	struct export_marker marker; // commit NULL: nothing is marked, and nothing waits
	unsigned cut_hold_ms_max;    // 0 for the defaults below
	unsigned mark_wait_ms_max, note_wait_ms_max, spill_wait_ms_max;
	const char *run_dir;	     // where it is noted how the images were when they were left alone (rest.h); NULL: nowhere
	struct roll *roll;	     // of all exports of the agent; NULL: none is kept
	_Atomic(unsigned) *opening;  // set to 1 and up while the image of that disk is opened (and by others, while they wait for it), else 0; NULL: nobody asks
	unsigned sweep_rest_ms;	     // so long after marks were looked through they are left alone (see intent_sweep()); 0 for 5 s
};

// A cut holds new writes and waits for those in flight, in rounds. After a round in which none of them ended it is given up: a disk hangs. Where some
// did, there is another round, and so up to so many: a disk that is slow gets points, too, and no hold takes longer than 6 s. A round is ten times what a working
// disk needs for its slowest write, so that a busy one is not mistaken for one that hangs. All of them are far below the 30 s after which a guest's
// driver gives up on a request (scsi, nvme); one is below the seconds after which a cluster in guests takes a node for dead.
enum { EXPORT_CUT_HOLD_MS_MAX = 1000, EXPORT_CUT_HOLD_ROUNDS_MAX = 6 };
// For how long at most a commit of marks may take before the disks whose writes wait for it are given up (needs a sync): a working
// disk answers a sync within a second or two, behind a great deal of other writing. After that the writes wait for the note of
// it, which lies in memory as a rule, and for the receiver to be told. A write that came just after a commit began waits for two: 15 s, of
// the guest's 30.
enum { EXPORT_MARK_WAIT_MS_MAX = 5000, EXPORT_NOTE_WAIT_MS_MAX = 5000 };
// For how long nothing may come back from the spill file, which lies in the state directory, before the cut is given up.
enum { EXPORT_SPILL_WAIT_MS_MAX = 5000 };

struct roll;

struct image_identity { // of an image as it lies on disk, to see changes behind the agent's back
	uint64_t device, inode, size;
	int64_t mtime_ns, ctime_ns;
	int64_t born_ns;  // 0: not known. Not part of the state file, nor are the next two
	bool times_tell;  // who changed it, and when: not of a block device, nor of a file of another host
	bool disturbed;	  // by export_judge()
};

struct export;

// Opens and locks the images (another agent's lock, a wrong size, a missing or read-only file: an error that names the
// path). Nothing is served yet; the dirty maps are clean.
int export_open(const struct export_config *config, struct export **ret_export, struct err *err);
// Between open and start, and after stop: the map of a disk, to load and to save.
struct dirty *export_dirty(struct export *export, uint16_t disk);
// Between open and start: the regions of the disk with a dirty piece in `dirty` are marked already.
void export_set_marked(struct export *export, uint16_t disk, const struct dirty *dirty);
// Of a disk that was not left in order, or whose image was cut short: see image_drop_cache(). By the cycle thread, or with the export stopped; on a guest's way only where it drops at once.
void export_drop_cache(struct export *export, uint16_t disk, uint64_t off, uint64_t len);
// Whether nothing waits to be written, so that it takes no time. False where the kernel does not tell (before Linux 6.5).
bool export_drops_at_once(struct export *export, uint16_t disk);
bool export_cached(struct export *export, uint16_t disk, uint64_t off, uint64_t len); // whether the cache has anything of it, or that is not known. Waits for no disk
void export_set_stale(struct export *export, uint16_t disk, bool is); // the cache of it is to be dropped: nothing is sent in place from it. Any thread
// Between open and start, once the dirty map is loaded: these regions are unproven (audit_carry()). -ENOMEM.
int export_carry(struct export *export, uint16_t disk, uint64_t region, uint64_t count);
// Between open and start: what the disk's file system says of holes is not believed.
void export_disbelieve(struct export *export, uint16_t disk);
// Whether one of its images is that file or device, and which. Any thread; waits for nothing.
bool export_has_image(const struct export *export, const struct image_file *file, uint16_t *ret_disk);
// Whether the path of the image still leads to it, and, where it does not, whether another one does: waits for its disk. Any thread, at any time.
enum image_path export_image_path(struct export *export, uint16_t disk, bool *ret_named);
int export_identity(struct export *export, uint16_t disk, struct image_identity *ret_identity, struct err *err);
// Looks whether a regular file that was left alone is as it was, for the next. By the cycle thread, or after stop. Its file system has answered a moment ago (export_identity()): the guests wait meanwhile.
void export_look(struct export *export, uint16_t disk);
// Whether the image was seen to end before its disk does, or to be changed by somebody else, since this was asked last, be it as long as the disk again. By the cycle thread, or after stop; waits for nothing.
// From then on all of the disk is being marked in its state file, whatever the cycle thread does, and stays so.
bool export_was_disturbed(struct export *export, uint16_t disk);
// What export_was_disturbed() said is in the map and in the state files, durably: the marks are those of the map again, and a start after a kill goes by the files. Likewise.
void export_disturbance_told(struct export *export, uint16_t disk);
// After stop: what the image is known by is on stable storage, so that it is the same after a power cut: image_settle_times().
int export_settle_identity(struct export *export, uint16_t disk, struct err *err);
// The image lost what no dirty bit tells: all of the disk is dirty, and from here on its regions are marked in its state file. Asks, and does not wait for
// it. By the cycle thread, between cycles, as the next two.
void export_mark_whole(struct export *export, uint16_t disk);
// Whether they are, durably: then the file's marks hold all of the disk. False where none are kept, or they are lost.
bool export_marked_whole(struct export *export, uint16_t disk);
// The image could not be asked what it is, with `code`: an error of the disk, shown and told as others are.
void export_unidentified(struct export *export, uint16_t disk, int code);
// Between open and start: whether somebody else changed the image since an agent that died served it, as far as that is known (rest.h).
enum rest_verdict export_judge(struct export *export, uint16_t disk);
// Binds the socket and starts the thread. The state files are good for what is known of the images by now (N2 of rest.h).
int export_start(struct export *export, struct err *err);
// Ends every client after its requests in flight, gives back an open cut (so that the dirty maps are the whole truth), syncs
// the images, ends the thread, unlinks the socket. -EIO when an image could not be synced: then the maps must not be trusted.
int export_stop(struct export *export, struct err *err);
// Before that: begins to bring to the disks what guests have written, while it serves them, and returns at once. To be called again while others are waited for, since they write on. Any
// thread.
void export_write_out(struct export *export);
// Whether there is much of that yet; then adds to `pieces` a number that stays as long as nothing of it goes on. One thread.
bool export_writes_out(struct export *export, uint64_t *pieces);
// Begins the stop and returns at once, so that guests are served to the end whatever else hangs: the marks of a state directory that does not answer are
// not waited for longer than writes are. Any thread; the cycle's calls are refused from its end on. export_stop() must follow.
void export_end(struct export *export);
void export_close(struct export *export); // takes NULL; after stop, or when never started

struct source *export_source(struct export *export);
// Whether the reads of a cycle must not wait until nobody else wants the processors. Any thread.
void export_hurry(struct export *export, bool hurry);
// The cut under way is in danger, or was given up: what the guest had preserved fills half of its room. Any thread.
bool export_crowded(struct export *export);
uint64_t export_disk_size(struct export *export, uint16_t disk);
// nbd+unix:///NAME?socket=PATH, percent-encoded.
void export_uri(struct export *export, uint16_t disk, char *uri, size_t cap);

// What can be known of export_grow() beforehand, without changing anything: -EINVAL as there. Any thread.
int export_grow_check(struct export *export, uint16_t disk, uint64_t new_size, struct err *err);
// Makes a disk larger while it is served. The state file has grown already (B6): the new range is marked there, and becomes
// dirty here before the new size is offered. The image is extended when it is a shorter regular file. Connections that are
// made from then on see the new size; the others keep to what they negotiated. By the cycle thread, between cycles, or before start: -EBUSY while a cut is open. -EINVAL when it
// is not larger, or a block device is too small. After an error the disk has the old size.
int export_grow(struct export *export, uint16_t disk, uint64_t new_size, struct err *err);

uint64_t export_spill_silent_ns(const struct export *export); // for how long the spill file has owed an answer. Any thread

// Of a disk that failed for good: it takes flushes again, and what was marked is dirty, since the image may have lost it. -EINVAL: it has not failed;
// -EBUSY: somebody is connected to it, to whom flushes of what may be lost would be promised. Else the image cannot be synced yet, or never by this
// process: where its file system was shut down, or its device came back as another one. Any thread; may wait for the disk.
int export_clear_error(struct export *export, uint16_t disk, bool dry_run, struct err *err);
// Before its protection ends, and what is known of failures with it: -EBUSY as above, of any disk. Any thread; waits for nothing.
int export_end_check(const struct export *export, struct err *err);

struct export_stats { // per disk
	uint64_t silent_ns; // for how long its image has owed an answer: image_silent_ns()
	uint64_t reads, writes, flushes, trims, zeroes;
	uint64_t read_bytes, written_bytes;
	uint64_t errors, error_ago_ns; // of the image, and for how long the last one has been
	bool failed;		   // no flush is promised any more
	char error[ERR_TEXT_MAX];  // of one of them (disk_errors.h), with its time (UTC) and place; "" without one
	unsigned clients;
	uint64_t dirty_bytes;
	uint64_t preserved_bytes; // held for the cut now, spilled ones included
	uint64_t spilled_bytes;	  // those of them in the spill file
	uint64_t unsynced_bytes;  // that points hold and no sync of the image was for since: a power cut may take them back, in regions that are marked
	uint64_t marked_regions;  // as this thread knows them
	uint64_t marked_bytes;	  // what is in them, and a crash would have compared: the last region may be shorter than others
	uint64_t unproven_bytes;  // told as holes, and not read yet (audit.h)
	uint64_t tracking_memory; // bytes of dirty maps and marks
	bool untold;		  // nothing tells after a death of this host, or of this process, who changed it last (rest.h): a block device, a file of another host, a run directory without notes
	bool tracking_lost;	  // a commit failed: the disk needs a sync, and the guest does not wait for marks any more
	char tracking_error[ERR_TEXT_MAX]; // why, and when (UTC); "" without
};
void export_stats(struct export *export, uint16_t disk, struct export_stats *ret_stats);

// What the process lacks now and its guests feel, and what to do about it: threads, or descriptors for those who connect; "": nothing. Any thread.
enum { EXPORT_SHORT_SIZE = 400 };
void export_short(struct export *export, char text[EXPORT_SHORT_SIZE]);

// How long cuts held new writes since the start. Bucket i counts holds of less than 2^i microseconds that no smaller one
// counts; the last one, all of 16 s and more.
enum { EXPORT_CUT_BUCKETS = 26 };
struct export_cut_stats {
	uint64_t count, max_us, sum_us;
	uint64_t given_up; // cuts that came to nothing since a disk hung; those that held writes are in `count` as well
	uint64_t overtaken; // cuts that were given up after they were taken: what guests overwrote could not be kept
	char overtaken_why[256]; // the newest of those; "" without one
	uint64_t bucket[EXPORT_CUT_BUCKETS];
};
void export_cut_stats(struct export *export, struct export_cut_stats *ret_stats);
// An upper bound in microseconds of the hold that `percent` of all cuts did not exceed; 0 without any.
uint64_t export_cut_percentile(const struct export_cut_stats *stats, unsigned percent);

#endif
