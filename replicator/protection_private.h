// SPDX-License-Identifier: Apache-2.0
// Inside of a protection, shared by its files: protection.c (life), protection_thread.c (the order of things), protection_wait.c (what the thread is),
// protection_connection.c, protection_cycle.c, protection_pace.c (processors), protection_slot.c (its turn), protection_tracking.c (state files), doubt.c,
// protection_audit.c (holes), protection_resize.c, protection_failed.c (a disk that failed for good), protection_config_change.c and protection_settings.c (what can be changed while it runs), protection_report.c and
// protection_ledger.c (the account of its RPO), protection_history.c (what was dirty, and when), protection_look.c (whether what it needs is there) and protection_json.c (status).
//
// Locking: what stands under `lock` is read and written with it held. The rest is set before the thread starts, or
// belongs to the cycle thread alone until it has been joined.
#ifndef KAGAMI_REPLICATOR_PROTECTION_PRIVATE_H
#define KAGAMI_REPLICATOR_PROTECTION_PRIVATE_H

#include "replicator/asked.h"
#include "replicator/audit.h"
#include "replicator/audit_record.h"
#include "replicator/cycle.h"
#include "replicator/desk.h"
#include "replicator/doubt.h"
#include "replicator/export.h"
#include "replicator/greet.h"
#include "replicator/history.h"
#include "replicator/last_cycle.h"
#include "replicator/pace.h"
#include "replicator/protection.h"
#include "replicator/protection_tracking.h"
#include "replicator/schedule.h"
#include "replicator/sync_log.h"
#include "rpo/ledger_file.h"
#include "rpo/stage_clock.h"

#include <pthread.h>

enum protection_state {
	STATE_STARTING,
	STATE_CONNECTING,
	STATE_SYNCING,
	STATE_IDLE,
	STATE_CUTTING,
	STATE_SHIPPING,
	STATE_COMMITTING,
	STATE_PAUSED,
	STATE_FENCED,
	STATE_FAILED,
	STATE_TARGET_FULL,   // the receiver took no new point for want of space, or of quota;
	STATE_QUOTA_REACHED, // so it stays until a point is committed
	STATE_TARGET_DOWN,   // nobody listens there, or the receiver said that it stops
	STATE_TARGET_SLOW,   // in a session it took or said nothing in time, or it is busy
	STATE_VERSION,	     // one side must be upgraded
	STATE_SEED,	     // nothing begins before the receiver has a seed of each disk, and has read it
};
const char *protection_state_name(enum protection_state state);

struct cycle_totals { // since this start; for counters, which only rise
	uint64_t committed, failed;
	uint64_t wire_bytes, read_bytes; // of those that were committed
};

// The steps of protection_audit.c: 4 MiB and a rest, so at most 250 MiB a second, of all protections together, and 62 of one whose guest uses its disks.
enum { AUDIT_STEP_BLOCKS = 64, AUDIT_STEP_MS_MAX = 5, AUDIT_REST_MS = 16, AUDIT_REST_BUSY_MS = 64 };

struct audit { // of protection_audit.c; the cycle thread's own
	uint64_t next_ns; // no step before
	bool turn;	  // that is its turn, else the end of its rest
	uint64_t served;  // requests of the guest by then
	bool stepped;	  // since the newest cycle
	bool unreadable;  // was said
	bool carried_said; // that blocks of which nobody knows whether a point has them are compared
	bool compares;	  // such blocks are dirty: what is dirty is not only what a guest wrote, until a point is committed
	struct audit_record *kept; // what the file has
	uint64_t kept_bytes;	   // of regions that it names
	_Atomic bool unsaved; // the file lacks something: the state files name no cut
	char unsaved_why[ERR_TEXT_MAX]; // and since when; "": it does not, or its next SEAL writes it; written with the lock held
	char why[DISKS_MAX][AUDIT_WHY_SIZE]; // no hole of the disk is believed; written with the lock held
	uint64_t found_here; // disks of which this process found a false hole; the same
};

struct resize { // asked ──► taken by the thread ──► ended. One caller at a time: it holds the agent's lock
	uint16_t disk;
	uint64_t size, ticket;
	uint64_t since_ns; // it was asked for, or taken
	bool asked, taken;
};

enum { RESIZES_KEPT = 16 }; // of disks that grow behind one another: whoever asked looks now and then
struct resize_ended {
	uint64_t ticket; // 0: none
	struct err err;	 // code 0: it is larger
};

struct protection {
	struct protection_place place;
	struct protection_config config;
	struct export *export;
	struct source *source;
	struct tracking tracking[DISKS_MAX];
	struct doubt doubt;
	struct audit audit;
	struct asked state_asked; // who waits for the state directory, whichever thread it is
	const struct cycle_report *report; // of the cycle under way; its thread's own
	pthread_t thread, doubt_thread;
	int wake_fd; // an eventfd: something under the lock changed

	// The cycle thread's own.
	SSL_CTX *tls;
	struct ship *ship;
	struct state_position position;
	bool position_known; // a map is relative to it; otherwise everything is dirty and any position will do; written with the lock held
	_Atomic bool uncovered; // the maps hold more than the marks do: protection_tracking.h, T1
	uint64_t lost_images;	      // protection_images.c: disks whose image was found short since the newest point, a bit each
	uint64_t stale;		      // protection_images.c: whose page cache is to be dropped before anything is read of them, a bit each
	struct images_drop { uint64_t at; bool again; } drop[DISKS_MAX]; // how far that is
	_Atomic uint64_t unmarked;    // those whose state file does not have all of their regions marked yet: T1
	struct uuid nowhere;   // names no cut
	bool sealed_here;      // position.pending_cut was sealed by this process
	struct uuid head;
	uint32_t features; // of the receiver
	struct schedule schedule;
	int seat; // at the desk
	uint64_t began_ns;
	struct ledger_file ledger_file; // of whoever ticks, and of the end
	uint64_t ledger_saved_ns;
	uint64_t cycle_end_ns; // of the one before
	uint64_t stretch_from_ns; // of the dirty history: the cut from which what is dirty is measured; 0: not known
	unsigned stretch; // that ends next
	uint64_t history_saved_ns;
	uint64_t ready_since_ns; // since when nothing but a slot is needed for a cut: no pause, no outage, no window; 0: something is
	uint64_t due_since_ns; // since when a cut has been due; 0: it is not
	struct stage_clock clock; // of the cycle under way; others read it with the lock held, until clock_ends
	bool clock_ends; // with the lock held; from then on it has taken clock_took_ns
	uint64_t clock_took_ns[RPO_STAGES];
	uint64_t clock_at_cut[RPO_STAGES];
	uint64_t reported_ns; // when REPORT was sent; 0: is due
	struct greet_clock clock_offset; // written with the lock held; as of now
	int64_t clock_steps_ns; // likewise: those of the receiver's clock that are in it
	uint64_t clock_asked_ns; // when CLOCK was sent; 0: not yet in this session
	bool clock_told; // the same: that it is too far
	struct limiter_flow *flow;
	struct cycle_lore lore;
	uint64_t stretch_blocks; // see cycle.h; tests of small disks set it
	struct pace pace;
	bool was_asked; // an operator asked for the cycle under way
	bool passing; // a pass is under way
	bool hurries; // counted by priority_hurry()
	int64_t cycle_wall_ns; // when the cycle under way began
	uint64_t cycle_mono_ns;
	struct backoff backoff; // of the connection; written with the lock held
	uint64_t heard_ns, pinged_ns;

	struct ship_progress progress; // atomic
	_Atomic(enum pace_why) pace_why;
	pthread_mutex_t saving; // over the file of the configuration, which may hang: taken before `lock`, and never with it or the agent's
	pthread_mutex_t lock;
	unsigned users; // requests that work with it without the agent's lock
	pthread_cond_t unused;
	bool known; // it has a configuration in the state directory
	bool unborn; // it is new, and has none yet: its receiver hears nothing of it, since a try that came to nothing would leave a replica there that refuses the next
	bool stop, paused, fenced;
	bool waived; // an operator asked for the initial sync: it keeps to no window
	bool held;   // the window is over: the initial sync under way ends, and goes on at the next
	bool pause_told; // the receiver knows, or cannot be told
	bool telling; // a connection is being made only to tell it: the state stays paused. Written by the cycle thread
	bool stuck; // the newest try to connect found what stays until somebody acts, for the reason that goes with the state
	bool hurry; // an operator did something: the next try to connect, or to cut, need not wait
	bool asked; // by an operator: for a cycle, which has not begun yet; at any time of day, and before the others
	bool again; // by ourselves: the next cycle is due at once, and waits for its turn and its window as any other
	bool compare; // with `asked`: and it is to compare everything
	char unknown_why[ERR_TEXT_MAX]; // the next start would not know it: its configuration was removed, and cannot be written anew; "" when it would
	char cut_short[DISKS_MAX][ERR_TEXT_MAX]; // the image was smaller than its disk at the newest try of a cycle, and what to do; "" when it was not
	char displaced[DISKS_MAX][ERR_TEXT_MAX]; // the path of the image leads to another, or nowhere; "" when it leads to it
	enum protection_state state;
	uint64_t commit_asked_ns;  // since when it is in STATE_COMMITTING, if it is
	char reason[ERR_TEXT_MAX]; // why it is not well; "" when it is
	struct resize resize;
	struct resize_ended resized[RESIZES_KEPT]; // by ticket, modulo
	bool greeted;		   // the channel carries an open session
	struct channel *channel;   // set and cleared by the thread; others may only abort it
	enum sync_reason sync;	   // stands until a point is committed
	uint64_t damaged_bytes[DISKS_MAX]; // in blocks that the receiver named as damaged: until a point holds them it does so in each session
	uint64_t cycles_started, cycles_committed;
	bool in_cycle;
	bool settled;		// all that may differ from the newest point is in the dirty maps: nothing is in a cut, nothing unanswered
	struct sync_log syncs;	// written by the thread alone
	bool has_point;
	bool point_unknown; // no state file says whether there is one, and no session was open yet
	int64_t point_cut_mono_ns; // of the newest point
	uint64_t next_cut_ns;
	struct ledger *ledger; // NULL: none is kept
	uint64_t point;	       // the newest
	struct history history; // written by the thread alone
	struct schedule shown; // a copy of the schedule, for the status
	bool resettle; // the settings were changed
	bool source_failed, target_failed; // the newest cycle came to nothing by a disk, or by what the receiver said
	uint64_t stage_total_ns[RPO_STAGES], stage_since_ns[RPO_STAGES]; // of all cycles; of those since the newest point's cut
	bool waits_for_slot; // written by the thread alone
	struct last_cycle last;
	struct cycle_totals totals;
	char last_error[ERR_TEXT_MAX];
};

#define MS_NS UINT64_C(1000000)

// What is dirty was written by a guest since the newest point, all of it: hardly ever equal to what the receiver has.
static inline bool protection_all_written(const struct protection *p)
{
	return p->sync == SYNC_NONE && !p->audit.compares;
}

// protection_wait.c; with another implementation in the simulation of the tests
int protection_wait_init(struct protection *p); // -EMFILE
void protection_wait_done(struct protection *p);
// Sleeps until `deadline_ns`, a wake-up, or something from the peer. Cycle thread.
void protection_wait(struct protection *p, uint64_t deadline_ns);
void protection_rest(void *protection, uint64_t ns); // sleeps so long, whatever comes; some tenths of a second at most
void protection_wake(struct protection *p); // any thread
int protection_thread_start(struct protection *p); // a negative errno, without a thread
void protection_thread_join(struct protection *p);
// protection_thread.c
void *protection_thread(void *protection);
void protection_set_state(struct protection *protection, enum protection_state state, const char *reason);
bool protection_refused_for_space(const struct protection *protection);
static inline uint64_t protection_now_ns(const struct protection *protection)
{
	return env_mono_ns(protection->place.env);
}
uint32_t protection_random(const struct protection *p); // for jitter
// When that instant was, on the monotonic clock: for ages of points of an earlier process. Negative: before this boot.
int64_t protection_mono_of(const struct protection *protection, int64_t wall_ns);
// protection.c
int protection_fenced(struct protection *p, struct err *err); // says what an operator cannot ask for, and asks the receiver again; under p->lock
// protection_connection.c; cycle thread
void connection_open(struct protection *p); // tries once; without success, the next try is not before p->backoff says
void connection_close(struct protection *p);
void connection_lost(struct protection *p, const struct wire_failure *failure, const struct err *err);
// What an idle connection has to say, and a sign of life to it. False when it is lost.
bool connection_check(struct protection *p);
// protection_pace.c; cycle thread
void pace_cycle_begin(struct protection *p);
void pace_pass(struct protection *p, bool passing); // whether a pass is under way
void pace_turn(void *protection, uint64_t now_ns);  // called often
void pace_rest(void *protection, uint64_t ns);	    // for ship_rest: protection_rest(), unless it is late
void pace_cycle_end(struct protection *p);
// protection_images.c; cycle thread
int images_look(struct protection *p, struct err *err); // between cycles. -EIO: none can be, for now
int images_look_at(struct protection *p, uint16_t disk, struct err *err); // the same of one alone
void images_drop(struct protection *p); // a while of dropping what is stale, between cycles
int images_fresh(struct protection *p, struct err *err); // behind images_look(): all that was found stale by it. -ECANCELED: the cycle is to end
void images_stale(struct protection *p, uint16_t disk); // before export_start(): it was not left in order
void images_fresh_at_end(struct protection *p, uint16_t disk); // the export has stopped, or was never started
void images_stopped(struct protection *p, uint16_t disk); // the export has stopped, and its map is about to be saved
void images_committed(struct protection *p); // a point, by this process; before the state files know
// protection_audit.c; cycle thread
int holes_load(struct protection *p, bool is_new, struct err *err); // between tracking_load() and export_start()
uint64_t holes_turn(struct protection *p, bool due); // a step, if it is time for one; returns when the next may be. `due`: a cycle is
void holes_sealing(struct protection *p, uint64_t hole_blocks); // the cycle told so many; before its SEAL is known to the state files
bool holes_committed(struct protection *p); // and kept. True: a record that could not be written before is, so a position may name a cut again
bool holes_stopped(struct protection *p); // the export has stopped. False: the state files must not name the cut
// protection_config_change.c
typedef void protection_edit(struct protection_config *config, const void *with); // changes that, and nothing else
// Makes the change durable, and then its own: with `saving` held, and without `lock`, since the state directory may not answer.
// To the end of the block this thread waits for the state directory: who asks for the status sees for how long (protection_state_silent_ns()).
#define STATE_SCOPE(p) __attribute__((cleanup(protection_state_answered), unused)) struct protection *state_scope_ = protection_state_asks(p)
// Likewise, of what may be answered from memory while writes hang, as a stat and a read may be: that is no sign of life.
#define STATE_LOOK_SCOPE(p) ASKED_SCOPE(&(p)->state_asked, protection_now_ns(p))
struct protection *protection_state_asks(struct protection *p);
void protection_state_answered(struct protection **p);
uint64_t protection_state_silent_ns(const struct protection *p); // 0: nobody waits for it
#define SILENT_NS (5000 * MS_NS) // a state directory, or an image, that hangs is told from one that is slow
int protection_change(struct protection *p, protection_edit *edit, const void *with, struct err *err);
// Writes the configuration anew where it was removed while it runs: all of it is in memory, and without it the next start would serve no disk of this protection.
// False: it is not there, and cannot be written. Waits for the state directory. Any thread.
bool protection_keep_config(struct protection *p);
void protection_wait_unused(struct protection *p);
// protection_cycle.c; cycle thread
void protection_cycle_once(struct protection *p);
void protection_set_settled(struct protection *p, bool settled);
void protection_compare_all(struct protection *p); // an operator asked for it: all is dirty, and the next cycle a sync
// The cut is a point: known to the state files before keep clears a mark for it (protection_tracking.h, T2). With `ours` it was this process that
// sealed it, and so it ends the sync; a cut of the process before says nothing of what this start found.
void protection_committed(struct protection *p, uint64_t point, const struct uuid *cut, bool ours);
// A point whose answer was lost is there: the sync that was recorded as failed has ended well.
void protection_found_committed(struct protection *p, uint64_t point);
// protection_json.c: what a disk of `size` adds to what a death of the host would cost now. With the lock held.
struct price;
void protection_price(struct protection *p, uint16_t disk, const struct export_stats *stats, uint64_t size, struct price *price);
// protection_report.c
void stages_begin(struct protection *p, uint64_t due_ns); // a cycle begins, which was due then
void stages_cut(struct protection *p);
void stages_end(struct protection *p, bool committed);
// Why there is no newer point; RPO_CAUSE_NONE: nothing is wrong. With the lock held; `mid_cycle` in the cycle thread alone.
enum rpo_cause protection_cause(const struct protection *p, uint64_t now_ns);
enum rpo_cause protection_cause_stands(const struct protection *p, uint64_t now_ns); // also while nothing is missed: never none
void report_turn(struct protection *p, uint64_t now_ns);
enum report_when { REPORT_IF_DUE, REPORT_NOW, REPORT_WITH_WHAT_FOLLOWS };
void report_hear(struct protection *p); // what the receiver told of its clock, if it did
void report_send(struct protection *p, enum wire_report_state state, enum report_when when);
// protection_ledger.c
void account_load(struct protection *p);
void account_end(struct protection *p);
void account_clock(struct protection *p, const struct greet_clock *clock); // how far the receiver's is ahead, from here on; with the lock held
void account_greeted(struct protection *p, const struct greet_clock *clock); // likewise, at the beginning of a session
void account_time(struct protection *p, const struct channel_time *time); // the receiver told its clock; with the lock held
void account_committed(struct protection *p, uint64_t point, int64_t cut_mono_ns, uint64_t dirty_bytes, uint64_t wire_bytes);
void account_fenced(struct protection *p, bool fenced); // from now on: what was missed before is not counted as that; with the lock held
void account_opened(struct protection *p); // the session is open; with the lock held
json_t *account_rpo_json(struct protection *p); // with the lock held
// protection_history.c; cycle thread
void dirt_load(struct protection *p);
void dirt_save(struct protection *p);
void dirt_committed(struct protection *p, uint64_t cut_ns, uint64_t dirty_bytes, uint64_t wire_bytes, bool sync);
void dirt_forget(struct protection *p); // what is dirty is more than the guest wrote since a cut
uint64_t dirt_look(struct protection *p, const struct schedule_load *load);
// protection_settings.c
unsigned protection_weight(enum priority priority);
int settings_join(struct protection *p); // -ENOMEM
void settings_leave(struct protection *p);
void settings_apply(struct protection *p); // what was changed; cycle thread
// An initial sync keeps to its window, unless an operator asked for it: false outside of it, and the state says so. Cycle thread.
bool settings_off_peak(struct protection *p);
void settings_tick(struct protection *p); // ends one that is under way when its window does; any thread
void settings_gate(struct protection *p, struct channel *channel);
// protection_slot.c
int slot_join(struct protection *p); // -ENOMEM
void slot_leave(struct protection *p);
uint64_t slot_due(struct protection *p, const struct schedule_load *load); // when it must ask for a slot
bool slot_take(struct protection *p, const struct schedule_load *load, bool urgent); // false: it asked, and is woken when it has one
void slot_unused(struct protection *p); // whatever it asked for or has, it is not due now; its place in the plan stays
void slot_end(struct protection *p);		      // it has none, and wants none
// protection_resize.c
int protection_disk_find(const struct protection *p, const char *name, uint16_t *ret_disk, struct err *err); // -ENOENT
// Does what was asked for; cycle thread, between cycles. True when a disk is larger now: the session must be opened anew.
bool resize_serve(struct protection *p);

#endif
