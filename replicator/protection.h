// SPDX-License-Identifier: Apache-2.0
// One protection while the replicator runs: its export, its state files, its connection and the thread that cycles.
//
// States, and what moves them (one setter, which logs):
//
//	STARTING ──► CONNECTING ──► IDLE ──► CUTTING ──► SHIPPING ──► COMMITTING ──► IDLE
//	                 ▲   ▲        │          (SYNCING in place of SHIPPING while a sync reason stands)
//	                 │   └────────┴── connection lost, cycle failed
//	                 ├── SEED      waits for a seed at the receiver; asked again now and then (protect --seed)
//	                 ├── PAUSED    by the operator, until resumed; tracking goes on
//	                 ├── FAILED    the receiver refuses for a reason that an operator must mend; tried again now and then
//	                 └── FENCED    failed over: this generation is over
//
// In every state the guest is served and its writes are tracked.
#ifndef KAGAMI_REPLICATOR_PROTECTION_H
#define KAGAMI_REPLICATOR_PROTECTION_H

#include "base/crew.h"
#include "base/env.h"
#include "base/err.h"
#include "replicator/image_path.h"
#include "link/identity.h"
#include "replicator/point_known.h"
#include "replicator/protection_config.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct desk;
struct lease;
struct limiter;
struct roll;
struct protection;
struct site;

struct protection_place { // what all protections of an agent share; outlives them
	struct env *env;
	struct env_root *state;
	const char *state_dir; // its path
	const char *run_dir;
	uint64_t boot; // state_note.h
	struct lease *lease; // NULL: nothing is known of the runs before
	const struct identity *identity;
	struct desk *desk;   // slots of cycles; NULL: each runs when it is due
	bool accounts;	     // keep a record of ages; whoever asks for it calls protection_tick()
	struct limiter *limiter; // of bandwidth; NULL: none
	struct roll *roll;   // of exports; NULL: none
	struct crew *crew;   // digests and compresses for all of them; NULL: each does its own
	_Atomic(uint64_t) *audit_turn_ns; // the next turn to read holes that nobody has; NULL: each has its own
	size_t known_bytes;  // of the table of known digests of each protection
	_Atomic(unsigned) *opening; // of one that starts: see export.h; NULL: nobody asks
};

// Opens the images, decides from the state files what is dirty, serves the disks and starts the thread. With `is_new` there is
// no point yet. On failure nothing of it runs.
int protection_start(const struct protection_place *place, const struct protection_config *config, bool is_new,
		     struct protection **ret_protection, struct err *err);
// A request goes on with it without the lock that keeps it: until the second it is not freed.
void protection_use(struct protection *protection);
void protection_unuse(struct protection *protection);
// Its configuration is in the state directory: where somebody removes that while it runs, it is written anew, at the latest at the stop. A new one connects from then on.
void protection_known(struct protection *protection);
// Asks the cycle thread to end, and returns at once: so that many can end at the same time.
void protection_stop_begin(struct protection *protection);
// Ends the cycle under way and the export, and writes the state files, so that the next start continues with a delta. False: they could not be
// written, and the log says what the next start compares. Frees.
bool protection_stop(struct protection *protection);
// The same in two steps: between them, and during the first, protection_hangs() may be asked for. The second waits for requests that still go on with it.
// `forgotten`: there is no next start of it, what is not saved is removed by the caller.
bool protection_end(struct protection *protection, bool forgotten);
void protection_close(struct protection *protection);
// What it waits for that has not answered for 5 s, in words that begin with its path: a disk by its number, or PROTECTION_HANGS_STATE; PROTECTION_HANGS_NOT: nothing
// is known to hang, and the text is "". Any thread; waits for nothing.
enum { PROTECTION_HANGS_NOT = -1, PROTECTION_HANGS_STATE = -2 };
int protection_hangs(struct protection *protection, char text[ERR_TEXT_MAX]);
void protection_state_silent_text(const char *state_dir, uint64_t silent_ns, char text[ERR_TEXT_MAX]); // "" below 5 s
struct point_known protection_point(struct protection *protection); // the newest. Any thread; waits for nothing

const char *protection_name(const struct protection *protection);
// Its disk that is that image; NULL: none is. Waits for nothing.
const char *protection_disk_of(const struct protection *protection, const struct image_file *file);
uint64_t protection_disk_size(const struct protection *protection, uint16_t disk); // bytes, as served now
// As docs/control.md has it; a new reference. Any thread.
json_t *protection_json(struct protection *protection);
// At least every 10 s. True: the record is to be written now. One thread.
bool protection_tick(struct protection *protection);
// Writes it: waits for the state directory. The same thread, and not beside protection_stop().
void protection_save(struct protection *protection);
// As docs/rpo.md has it; NULL with what is wrong. Any thread.
json_t *protection_history_json(struct protection *protection, const char *window, struct err *err);
// What other objectives would cost, as docs/control.md has it; a new reference. Any thread.
json_t *protection_plan_json(struct protection *protection, const uint64_t *rpo_ms, unsigned count);
// {"syncs": [...]}, newest first; a new reference. Any thread.
json_t *protection_syncs_json(struct protection *protection);
// Asks for a cycle now. Stores the number of the one that will hold everything acknowledged before. With `compare` that one compares every block of
// every disk with the replica, whatever is known to be dirty (SYNC_ASKED): durable on return, until a point came of it. -EBUSY: paused or fenced.
int protection_cycle(struct protection *protection, bool compare, uint64_t *ret_cycle, struct err *err);
// Waits for no seed any more: the next session begins without one. Durable on return.
int protection_without_seed(struct protection *protection, struct err *err);
// Changes what can be changed while it runs: `edit` has it as it is, and nobody else changes it meanwhile. Durable on return, and in force within a second.
// What `edit` fails with is passed on, and nothing has changed.
typedef int protection_settings_edit(struct protection_settings *settings, const void *with, struct err *err);
int protection_set(struct protection *protection, protection_settings_edit *edit, const void *with, struct err *err);
// What an operator set last: objective, settings, pause, and since when it waits for a seed. The rest of `config` is left alone.
void protection_was_set(struct protection *protection, struct protection_config *config);
// Durable on return.
int protection_pause(struct protection *protection, bool paused, struct err *err);
// Makes a disk larger while it is served (protection_resize.c); the receiver's replica grows with the next session, and its points stay.
// `ret_old_size` is what the disk has or had. With `dry_run` only what can be checked is. -ENOENT: no such disk. -EINVAL: not larger, or a block
// device that is too small. -EBUSY: another is under way. Waits for nothing: *ret_ticket asks for the end; 0 with `dry_run`.
int protection_resize(struct protection *protection, const char *disk, uint64_t size, bool dry_run, uint64_t *ret_old_size, uint64_t *ret_ticket,
		      struct err *err);
// 0: the disk is larger. -EINPROGRESS: not known yet, ask again soon. -EBUSY: a cycle runs on, and the request was taken back; or the state directory or
// the image has not answered for some seconds, and the disk grows when it does. Does not wait.
int protection_resize_end(struct protection *protection, uint64_t ticket, struct err *err);
// A disk that failed for good is served anew, and a cycle follows: see export_clear_error(). -ENOENT: no such disk. `error` is what it failed with.
// Whether it may be unprotected: -EBUSY while a guest is connected to a disk that failed, which would not hear of that from whoever serves it next.
int protection_end_check(const struct protection *protection, struct err *err);
int protection_clear_error(struct protection *protection, const char *disk, bool dry_run, char error[ERR_TEXT_MAX], struct err *err);
// The site was paired anew: use its present address and key.
void protection_site_changed(struct protection *protection, const struct site *site);

#endif
