// SPDX-License-Identifier: Apache-2.0
// Who may run a cycle, and from when: over all protections of an agent. Pure: time is an argument, nothing waits here (desk.h does).
//
//	planner_join ─► planner_plan (its deadline and D') ─► planner_due ─► planner_ask ─► planner_next ─► planner_end ─► planner_plan …
//	                                                         planner_end also withdraws what was asked
//
// There are few slots: `cycles` of them, and `syncs` for cycles of which nobody knows how long they take (no point yet, or whole disks to
// compare), so that those never hold a slot that a cycle needs. A slot goes to the earliest deadline of those that asked; of equal
// ones to the higher priority, then to who asked first. What an operator asked for goes before all.
//
// L1  At most so many run as there are slots of their kind; of cycles half as many more, rounded up, on slots that are lent (L4).
// L2  Nobody who asked waits while one of a later deadline gets a slot, but for this: not every slot is for cycles that others cannot wait
//     for. Of those that are short beside their objective (a sixth of it) each can wait for another's cycle of a quarter of RPO − 2 D'. Of
//     cycles longer than the least such wait one slot is kept free; of those longer than the least wait that is at least twice as long, two,
//     and so on; one slot they have. A cycle that is kept back so waits for one as long as itself, and for no other.
// L3  Whoever asked gets a slot once those before it have ended.
// L4  A cycle that runs is not taken back, but one that cannot wait for it need not: where no slot is free, the one of the earliest deadline of those
//     that asked and are short (L2) is lent one when it would miss its deadline by waiting for the first that is expected to end (one that
//     should have ended: as late again as it is), and keeps it by beginning now. So who is lent a slot takes a part of everybody's processors and line for a short while, and nobody's slot.
//
// When many deadlines fall together their starts are moved ahead: planner_due() is the start in a plan that is made from the latest
// deadline back to the earliest, each cycle as late as a slot is free for it.
#ifndef KAGAMI_REPLICATOR_PLANNER_H
#define KAGAMI_REPLICATOR_PLANNER_H

#include <stdbool.h>
#include <stdint.h>

enum { PLANNER_SLOTS_MAX = 256, PLANNER_NOBODY = -1 };

enum planner_kind { PLANNER_CYCLE, PLANNER_SYNC, PLANNER_KINDS };

struct planner_job {
	enum planner_kind kind;
	uint64_t now_ns;      // when this is said: the planner has no other clock
	uint64_t deadline_ns; // without a point: when the protection began
	uint64_t lead_ns;     // for which it will have a slot, with a margin
	uint64_t spare_ns;    // to be done before the deadline: D' is both
	uint64_t rpo_ns;
	unsigned priority; // a larger one first, of equal deadlines
	bool urgent;	   // an operator asked
};

struct planner_view {
	unsigned slots[PLANNER_KINDS], running[PLANNER_KINDS], waiting[PLANNER_KINDS];
	uint64_t lent; // slots, ever
};

struct planner;

struct planner *planner_new(unsigned cycles, unsigned syncs); // at least 1 each; NULL: no memory
void planner_free(struct planner *planner);		       // takes NULL
void planner_slots(struct planner *planner, unsigned cycles, unsigned syncs); // those that run go on
int planner_join(struct planner *planner); // a number of 0 and above; PLANNER_NOBODY: no memory
void planner_leave(struct planner *planner, int who);
// What is next for `who`; NULL: nothing (paused, not connected, failed a moment ago). While it waits or runs it may be told anew.
void planner_plan(struct planner *planner, int who, const struct planner_job *job);
// When `who` must begin so that all deadlines are met as far as they can be; its deadline less D' at the latest. It has a job.
uint64_t planner_due(struct planner *planner, int who);
void planner_ask(struct planner *planner, int who);
bool planner_asked(const struct planner *planner, int who);
bool planner_runs(const struct planner *planner, int who);
void planner_end(struct planner *planner, int who); // it does not run, and does not ask, any more
unsigned planner_lendable(unsigned cycles); // how many may run on lent slots beside so many
// Gives a free slot, or a lent one, to whom it is due, who runs from here on; PLANNER_NOBODY when there is none or nobody to have it.
int planner_next(struct planner *planner);
void planner_look(const struct planner *planner, struct planner_view *ret_view);

#endif
