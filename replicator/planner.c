// SPDX-License-Identifier: Apache-2.0
#include "replicator/planner.h"

#include "base/size.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_SEATS = 16, BANDS_MAX = 16 };

struct seat {
	bool joined, has_job, asked, runs;
	struct planner_job job;
	enum planner_kind runs_as;
	uint64_t runs_for_ns, ends_ns; // as was expected when it began
	uint64_t turn; // when it asked, in order
	uint64_t due_ns;
};

struct planner {
	unsigned slots[PLANNER_KINDS], running[PLANNER_KINDS];
	struct seat *seat;
	int *order;  // all seats, the latest deadline first when the plan was made
	int *asking; // those that asked, in no order
	unsigned asked;
	int seats;
	uint64_t turns;
	bool stale; // a job changed since the plan was made
	unsigned bands;
	uint64_t band_ns[BANDS_MAX]; // ascending: L2
	unsigned runs;
	int run[3 * PLANNER_SLOTS_MAX]; // who runs, in no order
	uint64_t now_ns, lent;
};

struct planner *planner_new(unsigned cycles, unsigned syncs)
{
	struct planner *planner = calloc(1, sizeof(*planner));
	if (planner)
		planner_slots(planner, cycles, syncs);
	return planner;
}

void planner_free(struct planner *planner)
{
	if (!planner)
		return;
	free(planner->seat);
	free(planner->order);
	free(planner->asking);
	free(planner);
}

void planner_slots(struct planner *planner, unsigned cycles, unsigned syncs)
{
	assert(cycles >= 1 && cycles <= PLANNER_SLOTS_MAX && syncs >= 1 && syncs <= PLANNER_SLOTS_MAX);
	planner->slots[PLANNER_CYCLE] = cycles;
	planner->slots[PLANNER_SYNC] = syncs;
	planner->stale = true;
}

static bool grow(struct planner *planner)
{
	int more = planner->seats ? 2 * planner->seats : FIRST_SEATS;
	struct seat *seat = realloc(planner->seat, (size_t)more * sizeof(*seat));
	if (seat)
		planner->seat = seat;
	int *order = realloc(planner->order, (size_t)more * sizeof(*order));
	if (order)
		planner->order = order;
	int *asking = realloc(planner->asking, (size_t)more * sizeof(*asking));
	if (asking)
		planner->asking = asking;
	if (!seat || !order || !asking)
		return false;
	memset(seat + planner->seats, 0, (size_t)(more - planner->seats) * sizeof(*seat));
	for (int i = planner->seats; i < more; i++)
		order[i] = i;
	planner->seats = more;
	return true;
}

int planner_join(struct planner *planner)
{
	int who = 0;
	while (who < planner->seats && planner->seat[who].joined)
		who++;
	if (who == planner->seats && !grow(planner))
		return PLANNER_NOBODY;
	planner->seat[who] = (struct seat){.joined = true};
	return who;
}

static struct seat *seat_of(const struct planner *planner, int who)
{
	assert(who >= 0 && who < planner->seats && planner->seat[who].joined);
	return &planner->seat[who];
}

static void withdraw(struct planner *planner, int who)
{
	for (unsigned i = 0; i < planner->asked; i++)
		if (planner->asking[i] == who) {
			planner->asking[i] = planner->asking[--planner->asked];
			break;
		}
	planner->seat[who].asked = false;
}

void planner_leave(struct planner *planner, int who)
{
	planner_end(planner, who);
	seat_of(planner, who)->joined = false;
	planner->seat[who].has_job = false;
	planner->stale = true;
}

// Enough for another plan. What a cycle will take is no more than a guess, and changes a little whenever it is asked for.
static bool differs(const struct planner_job *a, const struct planner_job *b)
{
	uint64_t by_ns = a->lead_ns > b->lead_ns ? a->lead_ns - b->lead_ns : b->lead_ns - a->lead_ns;
	return a->deadline_ns != b->deadline_ns || a->kind != b->kind || a->rpo_ns != b->rpo_ns || by_ns > a->lead_ns / 16;
}

void planner_plan(struct planner *planner, int who, const struct planner_job *job)
{
	struct seat *seat = seat_of(planner, who);
	planner->stale |= seat->has_job != (job != NULL);
	seat->has_job = job != NULL;
	if (!job)
		return;
	planner->stale |= differs(&seat->job, job);
	planner->now_ns = max_u64(planner->now_ns, job->now_ns);
	seat->job = *job;
}

// --- the plan ---

// By insertion: from one plan to the next few change their place.
static void sort_by_deadline(struct planner *planner)
{
	for (int i = 1; i < planner->seats; i++) {
		int who = planner->order[i], at = i;
		uint64_t deadline_ns = planner->seat[who].job.deadline_ns;
		for (; at > 0 && planner->seat[planner->order[at - 1]].job.deadline_ns < deadline_ns; at--)
			planner->order[at] = planner->order[at - 1];
		planner->order[at] = who;
	}
}

static bool is_short(const struct planner_job *job)
{
	return job->kind == PLANNER_CYCLE && 6 * job->lead_ns + job->spare_ns <= job->rpo_ns;
}

// How long each of those that are short beside their objective can wait for one other cycle, and keep its RPO in this round and the next: a
// quarter of what is left, since others may be before it, too. What is within twice the least of them is one band.
static void measure_bands(struct planner *planner)
{
	uint64_t least_ns[64];
	memset(least_ns, 0xff, sizeof(least_ns));
	for (int i = 0; i < planner->seats; i++) {
		const struct planner_job *job = &planner->seat[i].job;
		if (!planner->seat[i].has_job || !is_short(job))
			continue;
		uint64_t wait_ns = (job->rpo_ns - 2 * job->lead_ns - job->spare_ns) / 4;
		unsigned log = 63 - (unsigned)__builtin_clzll(wait_ns | 1);
		least_ns[log] = min_u64(least_ns[log], wait_ns);
	}
	planner->bands = 0;
	for (unsigned i = 0; i < 64; i++) {
		bool apart = planner->bands == 0 || least_ns[i] / 2 >= planner->band_ns[planner->bands - 1];
		if (least_ns[i] != UINT64_MAX && apart && planner->bands < BANDS_MAX)
			planner->band_ns[planner->bands++] = least_ns[i];
	}
}

// How many slots are free of cycles as long as this one: it has the others, and at least one.
static unsigned kept_free(const struct planner *planner, const struct planner_job *job)
{
	unsigned bands = 0;
	while (bands < planner->bands && job->lead_ns > planner->band_ns[bands])
		bands++;
	unsigned slots = planner->slots[job->kind];
	return job->kind == PLANNER_SYNC ? 0 : bands < slots ? bands : slots - 1;
}

// From the latest deadline back: each as late as the slot that is free the longest lets it.
static void lay_out(struct planner *planner, enum planner_kind kind)
{
	uint64_t free_until_ns[PLANNER_SLOTS_MAX];
	unsigned slots = planner->slots[kind];
	for (unsigned s = 0; s < slots; s++)
		free_until_ns[s] = UINT64_MAX;
	for (int i = 0; i < planner->seats; i++) {
		struct seat *seat = &planner->seat[planner->order[i]];
		if (!seat->has_job || seat->job.kind != kind || seat->runs)
			continue;
		unsigned best = kept_free(planner, &seat->job);
		for (unsigned s = best + 1; s < slots; s++)
			best = free_until_ns[s] > free_until_ns[best] ? s : best;
		uint64_t end_ns = min_u64(seat->job.deadline_ns, free_until_ns[best]);
		seat->due_ns = end_ns - min_u64(seat->job.lead_ns + seat->job.spare_ns, end_ns); // each with its spare: those before it may be late
		free_until_ns[best] = seat->due_ns;
	}
}

static void refresh(struct planner *planner)
{
	if (!planner->stale)
		return;
	planner->stale = false;
	sort_by_deadline(planner);
	measure_bands(planner);
	lay_out(planner, PLANNER_CYCLE);
	lay_out(planner, PLANNER_SYNC);
}

uint64_t planner_due(struct planner *planner, int who)
{
	const struct seat *seat = seat_of(planner, who);
	assert(seat->has_job);
	if (!seat->runs)
		refresh(planner);
	return seat->due_ns;
}

// --- slots ---

void planner_ask(struct planner *planner, int who)
{
	struct seat *seat = seat_of(planner, who);
	assert(seat->has_job && !seat->runs);
	if (seat->asked)
		return;
	seat->asked = true;
	seat->turn = planner->turns++;
	planner->asking[planner->asked++] = who;
}

bool planner_asked(const struct planner *planner, int who)
{
	return seat_of(planner, who)->asked;
}

bool planner_runs(const struct planner *planner, int who)
{
	return seat_of(planner, who)->runs;
}

void planner_end(struct planner *planner, int who)
{
	struct seat *seat = seat_of(planner, who);
	if (seat->asked)
		withdraw(planner, who);
	if (!seat->runs)
		return;
	seat->runs = false;
	for (unsigned i = 0; i < planner->runs; i++)
		if (planner->run[i] == who) {
			planner->run[i] = planner->run[--planner->runs];
			break;
		}
	planner->running[seat->runs_as]--;
	planner->stale = true;
}

// Whether `a` comes before `b`.
static bool before(const struct seat *a, const struct seat *b)
{
	if (a->job.urgent != b->job.urgent)
		return a->job.urgent;
	if (a->job.deadline_ns != b->job.deadline_ns)
		return a->job.deadline_ns < b->job.deadline_ns;
	if (a->job.priority != b->job.priority)
		return a->job.priority > b->job.priority;
	return a->turn < b->turn;
}

static unsigned running_longer(const struct planner *planner, uint64_t than_ns)
{
	unsigned count = 0;
	for (unsigned i = 0; i < planner->runs; i++) {
		const struct seat *seat = &planner->seat[planner->run[i]];
		count += seat->runs_as == PLANNER_CYCLE && seat->runs_for_ns > than_ns;
	}
	return count;
}

// L2: whether `who` may have a slot of its kind now.
static bool may_have(const struct planner *planner, int who)
{
	const struct seat *seat = &planner->seat[who];
	unsigned slots = planner->slots[seat->job.kind];
	if (planner->running[seat->job.kind] >= slots)
		return false;
	if (seat->job.kind != PLANNER_CYCLE || seat->job.urgent)
		return true;
	unsigned kept = kept_free(planner, &seat->job);
	for (unsigned i = 0; i < kept; i++)
		if (running_longer(planner, planner->band_ns[i]) >= slots - i - 1)
			return false;
	return true;
}

// When the first cycle that runs is expected to end. One that should have ended is taken to need as long again as it is late.
static uint64_t first_end(const struct planner *planner)
{
	uint64_t first_ns = UINT64_MAX, now_ns = planner->now_ns;
	for (unsigned i = 0; i < planner->runs; i++) {
		const struct seat *seat = &planner->seat[planner->run[i]];
		if (seat->runs_as == PLANNER_CYCLE)
			first_ns = min_u64(first_ns, seat->ends_ns > now_ns ? seat->ends_ns : now_ns + (now_ns - seat->ends_ns));
	}
	return first_ns;
}

unsigned planner_lendable(unsigned cycles)
{
	return (cycles + 1) / 2;
}

// L4: who is lent a slot now; PLANNER_NOBODY: nobody.
static int lend_to(const struct planner *planner)
{
	unsigned slots = planner->slots[PLANNER_CYCLE];
	int best = PLANNER_NOBODY;
	if (planner->running[PLANNER_CYCLE] < slots || planner->running[PLANNER_CYCLE] >= slots + planner_lendable(slots))
		return PLANNER_NOBODY;
	for (unsigned i = 0; i < planner->asked; i++) {
		int who = planner->asking[i];
		if (is_short(&planner->seat[who].job) && (best < 0 || before(&planner->seat[who], &planner->seat[best])))
			best = who;
	}
	if (best < 0)
		return PLANNER_NOBODY;
	const struct planner_job *job = &planner->seat[best].job;
	bool keeps = planner->now_ns + job->lead_ns <= job->deadline_ns, waits = first_end(planner) + job->lead_ns <= job->deadline_ns;
	return keeps && !waits ? best : PLANNER_NOBODY;
}

int planner_next(struct planner *planner)
{
	int best = PLANNER_NOBODY;
	if (planner->asked)
		refresh(planner);
	for (unsigned i = 0; i < planner->asked; i++) {
		int who = planner->asking[i];
		if (may_have(planner, who) && (best < 0 || before(&planner->seat[who], &planner->seat[best])))
			best = who;
	}
	if (best < 0) {
		best = lend_to(planner);
		planner->lent += best >= 0;
	}
	if (best < 0)
		return PLANNER_NOBODY;
	struct seat *seat = &planner->seat[best];
	withdraw(planner, best);
	seat->runs = true;
	seat->runs_as = seat->job.kind;
	seat->runs_for_ns = seat->job.lead_ns;
	seat->ends_ns = planner->now_ns + seat->job.lead_ns;
	planner->run[planner->runs++] = best;
	planner->running[seat->runs_as]++; // and the plan stands: it has this one where it is
	return best;
}

void planner_look(const struct planner *planner, struct planner_view *ret_view)
{
	memset(ret_view, 0, sizeof(*ret_view));
	ret_view->lent = planner->lent;
	for (unsigned kind = 0; kind < PLANNER_KINDS; kind++) {
		ret_view->slots[kind] = planner->slots[kind];
		ret_view->running[kind] = planner->running[kind];
	}
	for (unsigned i = 0; i < planner->asked; i++)
		ret_view->waiting[planner->seat[planner->asking[i]].job.kind]++;
}
