// SPDX-License-Identifier: Apache-2.0
// A world of two hosts and a network, on one thread and one simulated clock, in which the real replicator and the real receiver run.
//
//	       source host (env_sim)                        network (world_link.c)          receiver host (env_sim)
//	guest ─► volume, group, intent ─► image          cuts at any byte, stalls,       session ─► head ─► seal ─► points
//	(world_guest.c)   (world_export.c)               delays, silence                 keeper: folds and merges
//	protection thread ─► cycle, ship ─► channel ─────────────────────────────────► channel
//	state files, tracking: as they are
//
// What stands in for something real: the export's thread and ring (world_export.c has the functions of export.h), TLS over TCP
// (world_link.c has channel_connect() over channel_transport.h), the cycle thread (world.c has those of protection_wait.c). All
// else is the program's own code. Every choice comes from the seed; a failure prints the line that makes the run again.
#ifndef KAGAMI_WORLD_WORLD_H
#define KAGAMI_WORLD_WORLD_H

#include "link/identity.h"
#include "receiver/pairing.h"
#include "receiver/store.h"
#include "replicator/dirty.h"
#include "replicator/export.h"
#include "replicator/protection_private.h"
#include "replicator/volume.h"
#include "tests/sim/chooser.h"
#include "tests/sim/env_sim.h"
#include "tests/world/fiber.h"

enum { SIDES_MAX = 4, SIDE_DISKS_MAX = 4, SYNC_REASONS = SYNC_FALSE_HOLE + 1 };
#define WORLD_MS UINT64_C(1000000)
#define WORLD_S UINT64_C(1000000000)

struct host;
struct task { // a fiber that sleeps and wakes
	struct fiber *fiber;
	struct host *host;
	void (*run)(void *context);
	void *context;
	uint64_t turn; // sleeps so far: a timer of an earlier one is void
	bool asleep;
	struct task *next;
};

struct host {
	const char *name;
	struct sim *sim;
	struct chooser chooser;
	uint64_t boot_ns; // when its monotonic clock was 0
	unsigned life;	  // deaths so far
	bool up;	  // its program runs
	bool dead;	  // the power is off, or the program was killed: all that still runs only ends
	bool killed;	  // and the machine lives
	bool stop;	  // the program is asked to end
	bool full;	  // its disk
	bool state_dead;  // nothing in its state directory changes any more
	uint64_t down_ns; // for how long it stays away
	uint64_t halt_op, fail_op; // SIM_NEVER: not armed
	int fail_code;
	uint64_t oracle_ops;
	struct task *life_task;
};

struct content { // of a block; NULL stands for zeros
	unsigned refs;
	unsigned char data[BLOCK_SIZE];
};

struct snapshot { // of all disks of a side, at the instant of a cut
	struct uuid cut; // null: no SEAL named it yet
	uint64_t number; // of the point that it became, once that was seen
	bool gone;	 // with the replica
	uint16_t disks;
	uint64_t taken_ns;
	uint64_t size[SIDE_DISKS_MAX];
	struct content **block[SIDE_DISKS_MAX];
	bool *unproven[SIDE_DISKS_MAX]; // it may show zeros there: a hole was believed, and had not been read yet
	struct snapshot *next;
};

struct guest_request {
	struct volume_request request; // first
	struct side *side;
	uint16_t disk;
	bool ended;
	uint64_t began; // sequence
	unsigned char *data;
	struct guest_request *next;
};

struct side_disk {
	uint64_t size;	  // as served
	uint64_t blocks_max;
	struct content **image; // what the image holds, as the backend was told
	struct content **acked; // what the guest was told
	struct content **flushed; // what it held when the last flush that ended began
	bool *unflushed;	// written since
	unsigned *writers;	// requests under way
	uint64_t *busy;		// when a request to it last began or ended
	bool *touched;		// since the last cut
	bool *allowed;		// may be a candidate (B5): touched since the newest kept cut, or found dirty at the start
	bool *told;		// as a hole, and no candidate since
	bool *marked;		// regions whose mark may be in the state file
	bool *unsure;		// of them, those whose clearing was not synced
	uint64_t coarsened;	// regions that its map had no bits for, up to the last cut
	uint64_t mtime_ns;	// of the image
};

struct side { // a protection: its disks, its guest, and what must be true of it
	unsigned number;
	struct protection_config config;
	bool made; // the first start succeeded
	struct protection *protection; // while it runs
	struct export *export;
	struct side_disk disk[SIDE_DISKS_MAX];
	struct guest_request *requests;
	unsigned in_flight;
	uint64_t sequence;
	bool running; // the guest
	bool failed; // the simulated disk gave the guest an error: volume.h, V3
	unsigned guest_life;
	struct task *cycle_task, *sleeper, *joiner, *doubt_task, *doubter;
	bool woken;
	struct snapshot *taken;	   // of the newest cut
	bool took;		   // one, since this start
	struct snapshot *sealed;   // all that a SEAL named, newest first
	uint64_t acked_point;	   // the newest that the source was told of
	uint64_t checked_point;	   // the newest whose content was compared
	struct uuid seen_cut;
	uint64_t cycles_seen;
	bool unclean;		   // its newest end was none in order
	bool cut_power;		   // and the page cache went with it
	bool lost_track; // of a disk, ever: what the receiver was told of that stands until a point ends it
	bool fault_state, fault_image, resized, fault_store, rot_known; // what happened to it: reasons for syncs
	bool asked;			 // an operator wants all compared
	bool lied;			 // its file system called a hole what is none
	bool nowhere;			 // its state files name no cut since a sync of all began, until a point is committed
	uint64_t doubted;		 // disks whose process lost track, told the receiver, and died with its power: likewise, until a point is committed
	bool behind;			 // points were committed that its files could not be told of, likewise
	bool replica_gone;		 // and no point was committed since
	bool rotten;			 // recovery calls its replica broken, after a bit of it turned: the operator removes it
	unsigned rotten_files;		 // bits that turned in files kept twice: two may have met one and its copy, which the next start finds
	enum sync_reason standing;	 // the reason was good when it began
	uint32_t owed;			 // the reasons that stood since there was none, a bit each: a later start may go on with one
	uint64_t newest_cut_ns;	   // world time of the newest committed cut
};

enum world_fault {
	FAULT_POWER_SOURCE, FAULT_POWER_RECEIVER, FAULT_KILL_SOURCE, FAULT_KILL_RECEIVER, FAULT_RESTART_SOURCE, FAULT_RESTART_RECEIVER, FAULT_IO_SOURCE,
	FAULT_IO_RECEIVER, FAULT_FULL_SOURCE, FAULT_FULL_RECEIVER, FAULT_CLOCK_SOURCE, FAULT_CLOCK_RECEIVER, FAULT_RESIZE, FAULT_RESIZE_AWAY,
	FAULT_NET_DOWN, FAULT_CUT, FAULT_CUT_AT_BYTE, FAULT_STALL, FAULT_SILENT, FAULT_ROT_STATE, FAULT_ROT_BASE, FAULT_ROT_TABLE, FAULT_ROT_POINT,
	FAULT_ROT_HEAD, FAULT_STATE_GONE,
	FAULT_FALSE_HOLE, FAULT_STATES_EXCHANGED, FAULT_IMAGE_CHANGED, FAULT_REPLICA_GONE, FAULT_ROT_FILE,
	FAULT_ROT_TWICE, FAULT_REPLICA_REMOVED, FAULT_STATE_DEAD, WORLD_FAULTS,
};
const char *world_fault_name(enum world_fault fault);

struct world {
	uint64_t seed, draws;
	uint64_t stamp; // of what guests wrote last
	uint64_t now_ns;
	bool calm;  // there are none at all
	bool quiet; // no faults any more
	bool over;  // both programs are to end, for good
	bool verbose;
	struct host source, receiver;
	struct env_root *source_state, *images;
	struct identity *source_identity, *receiver_identity;
	struct store *store; // while the receiver is up
	struct pairing *pairing;
	struct env_root *store_root;
	struct side side[SIDES_MAX];
	unsigned sides;
	uint64_t net_down_until_ns;
	bool state_died;     // of the source, once: its programs are restarted for that at the end
	unsigned away_source, away_receiver; // things that wait until it is away
	bool scrubs;	     // passes are under way
	struct dirty others; // of a disk that is not here
	bool receiver_io_error; // one may have met it
	struct {
		uint64_t points, compared, b1_blocks, scrubbed, damaged, reads_checked, reexamined_bytes, marked_bytes, folds, given_up, precopies,
			looks, settled, holes, audited, false_holes, carried, coarsened, yielded, seeds_awaited, adopted, events;
		uint64_t fault[WORLD_FAULTS];
		uint64_t found[SYNC_REASONS];  // disks that a start found so
		uint64_t synced[SYNC_REASONS]; // points that were cut for such a sync
	} did;
};
extern struct world *the_world;

// world.c: time, tasks, hosts
uint64_t world_draw(uint64_t end); // below `end`
bool world_one_in(uint64_t n);
void world_wrong(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
void world_note(const char *fmt, ...) __attribute__((format(printf, 1, 2))); // when one seed is replayed
void world_at(uint64_t at_ns, void (*run)(void *context, uint64_t value), void *context, uint64_t value);
struct task *task_start(struct host *host, void (*run)(void *context), void *context);
struct task *task_self(void);
void task_sleep(uint64_t until_ns); // until then, or until it is woken; it may wake early
void task_wake(struct task *task);
bool task_ended(const struct task *task);
void world_run_until(uint64_t at_ns);
void world_begin(uint64_t seed);
void world_end(void);
void world_keep(void *memory); // freed with the world
uint64_t host_mono_ns(const struct host *host);
void host_clock(struct host *host); // its clock and the world's are one again, whichever went on
void host_end(struct host *host, bool power); // the power goes off, or the program is killed; now
void host_arm(struct host *host, uint64_t ops, bool power); // so many operations of its disk from now
void host_fail(struct host *host, uint64_t ops, int code);  // one operation fails, so many from now
void host_state_dies(struct host *host, bool dies); // everything that would change its state directory fails, until its power goes off; or no more
void host_disarm(struct host *host);
void host_boot(struct host *host);			    // it is off or killed, and everything that ran has ended
// Around reads by the oracle: nothing fails, and no crash comes.
void host_oracle_begin(struct host *host);
void host_oracle_end(struct host *host);

// world_link.c
void link_host_died(struct host *host);
void link_host_booted(struct host *host);
void link_fault(void); // something happens to a connection
void link_quiet(void);
void link_session_of(const char *name); // of the receiver's task that runs
void link_take_over(const char *name);	// ends the connection of that session
void link_host_stops(struct host *host);
void link_end_all(void);

// world_export.c
void export_host_died(void);
struct group *export_group(struct export *export);
int export_images_make(struct side *side);

// world_guest.c
void guest_make(struct side *side);
void guest_free(struct side *side);
void guest_started(struct side *side); // its disks are served
void guest_burst(struct side *side);
void guest_stopping(struct side *side);
void guest_died(struct side *side);
void guest_forget(struct side *side); // what it had under way
void guest_reread(struct side *side); // what the images hold now, and G2
void guest_applied(struct side *side, uint16_t disk, enum aio_kind kind, uint64_t off, const void *data, uint64_t len);
void guest_grown(struct side *side, uint16_t disk, uint64_t size);

// world_oracle.c
void content_set(struct content **place, struct content *to);
bool content_equal(const struct content *a, const struct content *b);
void oracle_loaded(struct side *side, struct export *export, struct protection *p); // the state files were read, nothing is served yet
void oracle_taken(struct side *side, struct export *export, struct protection *p);  // the instant of a cut
void oracle_kept(struct side *side);
void oracle_marks(struct side *side, uint16_t disk, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears, bool ok);
void oracle_poll(void); // after each step of the world
void oracle_points(struct side *side, bool all);
void oracle_recovered(void); // the receiver opened its store
uint64_t oracle_newest_cut_ns(struct side *side); // of the receiver's newest point; 0: none
void oracle_side_end(struct side *side);

// world_life.c
void source_life(void *world);
void receiver_life(void *world);
void receiver_session(struct channel *channel);

// world_faults.c
void world_happened(enum world_fault fault);
void world_fault(void *context, uint64_t value); // the next, and so on
void world_restart(struct host *host);		 // its program, in order
void world_space_back(void *host, uint64_t value);
void world_away_source(struct env_root *state); // nothing runs there
void world_away_receiver(void);
void world_operator(void *context, uint64_t value); // now, and from then on now and then
bool world_operator_is_due(void);

// world_scenario.c
struct world_plan { // what may happen
	unsigned sides_max, disks_max;
	bool faults;
	bool reboots; // one, of the source, with objectives that are longer than what follows of its clock
};
void world_scenario(uint64_t seed, const struct world_plan *plan);

#endif
