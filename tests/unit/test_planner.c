// SPDX-License-Identifier: Apache-2.0
// Slots over all protections: pure steps first, then simulated weeks with thousands of protections in which every grant is checked.
#include "base/size.h"
#include "replicator/planner.h"
#include "replicator/schedule.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define NOON (12 * HOUR)

static struct planner_job job_of(uint64_t deadline, uint64_t lead)
{
	return (struct planner_job){.kind = PLANNER_CYCLE, .deadline_ns = deadline, .lead_ns = lead, .rpo_ns = 15 * MINUTE};
}

static int add(struct planner *planner, const struct planner_job *job)
{
	int who = planner_join(planner);
	planner_plan(planner, who, job);
	return who;
}

static int ask_with(struct planner *planner, struct planner_job job)
{
	int who = add(planner, &job);
	planner_ask(planner, who);
	return who;
}

static void slot_goes_to_the_earliest_deadline_then_to_priority_then_to_who_asked_first(void **state)
{
	(void)state;
	struct planner *planner = planner_new(1, 1);
	struct planner_job late = job_of(NOON + 9 * MINUTE, MINUTE), soon = job_of(NOON + 2 * MINUTE, MINUTE);
	int a = ask_with(planner, late), b = ask_with(planner, soon), c = ask_with(planner, soon);
	soon.priority = 2;
	int d = ask_with(planner, soon);
	soon.urgent = true;
	soon.deadline_ns = NOON + 99 * MINUTE;
	int e = ask_with(planner, soon);
	const int order[] = {e, d, b, c, a};
	for (int i = 0; i < 5; i++) {
		assert_int_equal(planner_next(planner), order[i]);
		assert_int_equal(planner_next(planner), PLANNER_NOBODY);
		assert_true(planner_runs(planner, order[i]) && !planner_asked(planner, order[i]));
		planner_end(planner, order[i]);
	}
	planner_free(planner);
}

static void sync_never_takes_the_slot_of_a_cycle_nor_a_cycle_that_of_a_sync(void **state)
{
	(void)state;
	struct planner *planner = planner_new(2, 1);
	struct planner_job sync = job_of(NOON, MINUTE), cycle = job_of(NOON + HOUR, MINUTE);
	sync.kind = PLANNER_SYNC;
	int s1 = ask_with(planner, sync), s2 = ask_with(planner, sync), c1 = ask_with(planner, cycle), c2 = ask_with(planner, cycle),
	    c3 = ask_with(planner, cycle);
	assert_int_equal(planner_next(planner), s1);
	assert_int_equal(planner_next(planner), c1);
	assert_int_equal(planner_next(planner), c2);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	struct planner_view view;
	planner_look(planner, &view);
	assert_int_equal(view.running[PLANNER_SYNC], 1);
	assert_int_equal(view.running[PLANNER_CYCLE], 2);
	assert_int_equal(view.waiting[PLANNER_SYNC], 1);
	assert_int_equal(view.waiting[PLANNER_CYCLE], 1);
	planner_end(planner, s1);
	assert_int_equal(planner_next(planner), s2);
	planner_end(planner, c2);
	assert_int_equal(planner_next(planner), c3);
	planner_free(planner);
}

// A protection that is paused, removed or loses its line while it waits or runs gives all of it back.
static void slot_comes_back_from_whoever_ends_withdraws_or_leaves(void **state)
{
	(void)state;
	struct planner *planner = planner_new(1, 1);
	int a = ask_with(planner, job_of(NOON, MINUTE)), b = ask_with(planner, job_of(NOON + 1, MINUTE)),
	    c = ask_with(planner, job_of(NOON + 2, MINUTE)), d = ask_with(planner, job_of(NOON + 3, MINUTE));
	assert_int_equal(planner_next(planner), a);
	planner_end(planner, b); // it only waited
	planner_leave(planner, c);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	planner_leave(planner, a); // it ran
	assert_int_equal(planner_next(planner), d);
	planner_plan(planner, d, NULL); // runs on
	assert_true(planner_runs(planner, d));
	planner_end(planner, d);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	assert_int_equal(planner_join(planner), a); // its number is free again, and nothing of it is left
	assert_false(planner_asked(planner, a) || planner_runs(planner, a));
	planner_free(planner);
}

static void fewer_slots_end_nobody_and_more_are_given_at_once(void **state)
{
	(void)state;
	struct planner *planner = planner_new(3, 1);
	int who[4];
	for (int i = 0; i < 4; i++)
		who[i] = ask_with(planner, job_of(NOON + (uint64_t)i, MINUTE));
	for (int i = 0; i < 3; i++)
		assert_int_equal(planner_next(planner), who[i]);
	planner_slots(planner, 1, 1);
	planner_end(planner, who[0]);
	planner_end(planner, who[1]);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	planner_slots(planner, 2, 1);
	assert_int_equal(planner_next(planner), who[3]);
	planner_free(planner);
}

// Twelve that are due together, three slots, a minute each: the starts are a minute apart, and all are done in time.
static void starts_move_ahead_when_many_deadlines_fall_together(void **state)
{
	(void)state;
	struct planner *planner = planner_new(3, 1);
	int who[12];
	struct planner_job job = job_of(NOON, MINUTE);
	for (int i = 0; i < 12; i++)
		who[i] = add(planner, &job);
	unsigned starts[5] = {0};
	for (int i = 0; i < 12; i++) {
		uint64_t ahead = NOON - planner_due(planner, who[i]);
		assert_true(ahead % MINUTE == 0 && ahead >= MINUTE && ahead <= 4 * MINUTE);
		starts[ahead / MINUTE]++;
	}
	for (int i = 1; i <= 4; i++)
		assert_int_equal(starts[i], 3);
	planner_free(planner);
}

static void start_of_one_alone_is_its_deadline_less_its_lead(void **state)
{
	(void)state;
	struct planner *planner = planner_new(2, 1);
	struct planner_job job = job_of(NOON, 3 * MINUTE), far = job_of(NOON + HOUR, 30 * MINUTE);
	int a = add(planner, &job), b = add(planner, &far);
	assert_true(planner_due(planner, a) == NOON - 3 * MINUTE);
	assert_true(planner_due(planner, b) == NOON + 30 * MINUTE);
	job.lead_ns = 2 * NOON;
	planner_plan(planner, a, &job);
	assert_true(planner_due(planner, a) == 0);
	planner_free(planner);
}

// One with an RPO of a minute cannot wait for an hour of another's cycle: those leave it a slot. Of three slots they have two, with another of
// fifteen minutes one.
static void cycles_that_others_cannot_wait_for_leave_a_slot_for_each_band(void **state)
{
	(void)state;
	struct planner *planner = planner_new(3, 1);
	struct planner_job hour = {.deadline_ns = NOON + HOUR, .lead_ns = HOUR, .rpo_ns = 2 * HOUR};
	struct planner_job minute = {.deadline_ns = NOON + 2 * HOUR, .lead_ns = 5 * SECOND, .rpo_ns = MINUTE};
	struct planner_job quarter = {.deadline_ns = NOON + 2 * HOUR, .lead_ns = MINUTE, .rpo_ns = 15 * MINUTE};
	int quick = add(planner, &minute), a = ask_with(planner, hour), b = ask_with(planner, hour), c = ask_with(planner, hour);
	assert_int_equal(planner_next(planner), a);
	assert_int_equal(planner_next(planner), b);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	planner_ask(planner, quick);
	assert_int_equal(planner_next(planner), quick); // of a later deadline
	planner_end(planner, a);
	assert_int_equal(planner_next(planner), c); // short ones beside it do not count
	planner_end(planner, quick);
	planner_end(planner, c);
	planner_end(planner, b);
	int slow = ask_with(planner, quarter), d = ask_with(planner, hour), e = ask_with(planner, hour);
	planner_leave(planner, slow);
	assert_int_equal(planner_next(planner), d);
	assert_int_equal(planner_next(planner), e);
	planner_end(planner, e);
	(void)ask_with(planner, quarter);
	planner_ask(planner, e); // an hour: one slot is left for those, and d has it
	struct planner_job soon = quarter;
	soon.deadline_ns = NOON;
	int f = ask_with(planner, soon);
	assert_int_equal(planner_next(planner), f);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY); // a minute is too long for the one with a minute: that slot is free of it
	planner_ask(planner, quick);
	assert_int_equal(planner_next(planner), quick);
	assert_true(planner_asked(planner, e));
	planner_end(planner, d);
	assert_int_equal(planner_next(planner), e); // of the earlier deadline
	planner_leave(planner, quick);
	planner_free(planner);
}

// Two slots, taken until noon and for longer. Who can wait until noon waits; who cannot is lent a slot, but not who is long, nor more than one.
static void cycle_that_would_be_late_by_waiting_is_lent_a_slot(void **state)
{
	(void)state;
	struct planner *planner = planner_new(2, 1);
	struct planner_job busy = {.now_ns = NOON - 10 * MINUTE, .deadline_ns = NOON + HOUR, .lead_ns = 10 * MINUTE, .rpo_ns = 12 * HOUR};
	struct planner_job quick = {.now_ns = NOON - 5 * MINUTE, .deadline_ns = NOON + MINUTE, .lead_ns = MINUTE, .rpo_ns = 15 * MINUTE};
	struct planner_view view;
	(void)ask_with(planner, busy);
	busy.lead_ns = 20 * MINUTE;
	(void)ask_with(planner, busy);
	assert_true(planner_next(planner) >= 0 && planner_next(planner) >= 0);
	int waits = ask_with(planner, quick);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY); // the first is expected to end at noon, which is soon enough
	quick.now_ns += MINUTE;
	quick.deadline_ns = NOON + MINUTE - SECOND;
	planner_plan(planner, waits, &quick);
	assert_int_equal(planner_next(planner), waits);
	int second = ask_with(planner, quick);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY); // of two slots one more is lent
	planner_end(planner, waits);
	struct planner_job gone = quick;
	gone.deadline_ns = NOON - 4 * MINUTE; // nothing keeps it
	gone.lead_ns = 10 * SECOND;
	planner_plan(planner, second, &gone);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	struct planner_job longer = quick; // beside its objective
	longer.rpo_ns = 5 * MINUTE;
	planner_plan(planner, second, &longer);
	assert_int_equal(planner_next(planner), PLANNER_NOBODY);
	planner_plan(planner, second, &quick);
	assert_int_equal(planner_next(planner), second);
	planner_look(planner, &view);
	assert_true(view.lent == 2 && view.running[PLANNER_CYCLE] == 3);
	planner_free(planner);
}

// What was expected to end and has not: who waited for it is lent a slot as soon as waiting on makes it late.
static void cycle_that_takes_longer_than_it_was_to_holds_nobody_up(void **state)
{
	(void)state;
	struct planner *planner = planner_new(1, 1);
	struct planner_job slow = {.now_ns = NOON, .deadline_ns = NOON + HOUR, .lead_ns = SECOND, .rpo_ns = HOUR};
	struct planner_job quick = {.now_ns = NOON, .deadline_ns = NOON + MINUTE, .lead_ns = 2 * SECOND, .rpo_ns = MINUTE};
	(void)ask_with(planner, slow);
	assert_true(planner_next(planner) >= 0);
	int waits = ask_with(planner, quick);
	int lent = PLANNER_NOBODY;
	for (; lent < 0 && quick.now_ns + 2 * SECOND <= quick.deadline_ns; quick.now_ns += SECOND / 2) {
		planner_plan(planner, waits, &quick);
		lent = planner_next(planner);
	}
	assert_int_equal(lent, waits);
	assert_true(quick.now_ns >= NOON + MINUTE / 3); // it was given time
	planner_free(planner);
}

// --- simulated weeks ---

struct vm {
	struct schedule schedule;
	uint64_t transfer, jitter; // what a cycle takes: from `transfer` to `transfer` + `jitter`
	uint64_t begun, ends, asked_at, joined;
	uint64_t lead; // that was expected when it began
	bool syncs;
	double left; // of its work, where cycles share what there is
	uint64_t cycles, missed, worst_age;
};

struct event {
	uint64_t at;
	int vm;
};

struct site {
	uint64_t now, end, seed, quiet_until; // misses are counted from then on
	unsigned slots, running, syncs, syncing;
	bool shared; // the heap has no ends of cycles
	struct planner *planner;
	struct vm *vm;
	int vms;
	int *asking, asked; // as the planner has it, kept apart
	struct event *heap;
	int events;
	uint64_t grants, misses, worst_wait, kept_back, lent;
};

static void push(struct site *s, uint64_t at, int vm)
{
	int i = s->events++;
	for (; i > 0 && s->heap[(i - 1) / 2].at > at; i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = (struct event){at, vm};
}

static struct event pop(struct site *s)
{
	struct event first = s->heap[0], last = s->heap[--s->events];
	int i = 0;
	for (int child; (child = 2 * i + 1) < s->events; i = child) {
		child += child + 1 < s->events && s->heap[child + 1].at < s->heap[child].at;
		if (s->heap[child].at >= last.at)
			break;
		s->heap[i] = s->heap[child];
	}
	s->heap[i] = last;
	return first;
}

static struct planner_job job_now(const struct site *s, const struct vm *vm)
{
	return (struct planner_job){.now_ns = s->now,
				    .kind = vm->schedule.has_point ? PLANNER_CYCLE : PLANNER_SYNC,
				    .deadline_ns = vm->schedule.has_point ? schedule_deadline(&vm->schedule) : vm->joined,
				    .lead_ns = schedule_lead_ns(&vm->schedule, 0),
				    .spare_ns = schedule_spare_ns(&vm->schedule),
				    .rpo_ns = vm->schedule.rpo_ns};
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

// What L2 allows, by its words: `early` is longer than others can wait for, and there are as many such cycles as may be.
static bool kept_back(const struct site *s, int early)
{
	static uint64_t wait[4096], of_grant = UINT64_MAX;
	static size_t waits;
	uint64_t lead = schedule_lead_ns(&s->vm[early].schedule, 0), band = 0;
	bool known = of_grant == s->grants; // nothing has changed since
	of_grant = s->grants;
	waits = known ? waits : 0;
	for (int i = 0; i < s->vms && !known; i++) {
		const struct schedule *other = &s->vm[i].schedule;
		uint64_t theirs = schedule_lead_ns(other, 0), spare = schedule_spare_ns(other);
		if (other->has_point && 6 * theirs + spare <= other->rpo_ns)
			wait[waits++] = (other->rpo_ns - 2 * theirs - spare) / 4;
	}
	if (!known)
		qsort(wait, waits, sizeof(wait[0]), ascending);
	unsigned free_of_them = 0;
	for (size_t i = 0; i < waits && wait[i] < lead; i++) {
		if (band && wait[i] / 2 < band)
			continue;
		band = wait[i];
		free_of_them++;
		unsigned longer = 0;
		for (int r = 0; r < s->vms; r++)
			longer += planner_runs(s->planner, r) && s->vm[r].lead > band && !s->vm[r].syncs;
		if (longer >= (s->slots > free_of_them ? s->slots - free_of_them : 1))
			return true;
	}
	return false;
}

static uint64_t expected_end(const struct site *s, const struct vm *vm)
{
	uint64_t end = vm->begun + vm->lead;
	return end > s->now ? end : 2 * s->now - end;
}

// What L4 allows, by its words: all slots are taken, `who` is short, would be late if it waited for the first that is expected to end, and is not if it
// begins now.
static void check_lent(struct site *s, int who)
{
	const struct planner_job job = job_now(s, &s->vm[who]);
	uint64_t first = UINT64_MAX;
	assert_true(s->running < s->slots + (s->slots + 1) / 2);
	assert_true(6 * job.lead_ns + job.spare_ns <= job.rpo_ns);
	for (int i = 0; i < s->vms; i++)
		if (i != who && planner_runs(s->planner, i) && !s->vm[i].syncs)
			first = min_u64(first, expected_end(s, &s->vm[i]));
	assert_true(first != UINT64_MAX && first + job.lead_ns > job.deadline_ns && s->now + job.lead_ns <= job.deadline_ns);
	s->lent++;
}

static void check_grant(struct site *s, int who)
{
	const struct planner_job job = job_now(s, &s->vm[who]);
	bool lent = job.kind == PLANNER_CYCLE && s->running >= s->slots;
	if (job.kind == PLANNER_SYNC) {
		assert_true(s->syncing < s->syncs);
		s->syncing++;
	} else if (lent) {
		check_lent(s, who);
	}
	for (int n = 0; n < s->asked; n++) {
		int i = s->asking[n];
		if (i == who) {
			s->asking[n--] = s->asking[--s->asked];
			continue;
		}
		assert_true(planner_asked(s->planner, i));
		const struct planner_job other = job_now(s, &s->vm[i]);
		if (other.kind != job.kind)
			continue;
		bool inverted = other.deadline_ns < job.deadline_ns ||
				(other.deadline_ns == job.deadline_ns && s->vm[i].asked_at < s->vm[who].asked_at);
		if (inverted && lent) { // a long one waits for a slot of its own
			assert_true(6 * other.lead_ns + other.spare_ns > other.rpo_ns);
		} else if (inverted) {
			assert_true(kept_back(s, i));
			s->kept_back++;
		}
	}
	s->running += job.kind == PLANNER_CYCLE;
}

static void grant(struct site *s)
{
	for (int who; (who = planner_next(s->planner)) >= 0; s->grants++) {
		struct vm *vm = &s->vm[who];
		check_grant(s, who);
		s->worst_wait = max_u64(s->worst_wait, s->now - vm->asked_at);
		vm->begun = s->now;
		vm->lead = schedule_lead_ns(&vm->schedule, 0);
		vm->syncs = !vm->schedule.has_point;
		vm->ends = s->now + vm->transfer + draw_below(&s->seed, vm->jitter + 1);
		vm->left = (double)(vm->ends - s->now);
		if (!s->shared)
			push(s, vm->ends, who);
	}
}

static void look(struct site *s, int who)
{
	struct vm *vm = &s->vm[who];
	struct planner_job job = job_now(s, vm);
	planner_plan(s->planner, who, &job);
	uint64_t due = min_u64(planner_due(s->planner, who), schedule_next_cut(&vm->schedule, &(struct schedule_load){.now_ns = s->now}));
	if (due > s->now) {
		push(s, schedule_look_again(&vm->schedule, s->now, due), who);
		return;
	}
	vm->asked_at = s->now;
	s->asking[s->asked++] = who;
	planner_ask(s->planner, who);
	grant(s);
}

static void end(struct site *s, int who)
{
	struct vm *vm = &s->vm[who];
	if (vm->schedule.has_point) {
		uint64_t age = schedule_age_ns(&vm->schedule, s->now);
		vm->worst_age = max_u64(vm->worst_age, age);
		if (age > vm->schedule.rpo_ns && s->now > s->quiet_until) {
			vm->missed++;
			s->misses++;
		}
		s->running--;
	} else {
		s->syncing--;
	}
	vm->cycles++;
	schedule_committed(&vm->schedule, &(struct schedule_done){.begin_ns = vm->begun, .cut_ns = vm->begun, .commit_ns = s->now});
	planner_end(s->planner, who);
	look(s, who); // whatever it asks for, somebody may have been waiting
	grant(s);
}

// --- a site whose cycles share what there is: as many run at full speed as there are slots, and more of them each at a part of it ---

static double speed(const struct site *s)
{
	unsigned running = s->running + s->syncing;
	return running <= s->slots ? 1 : (double)s->slots / running;
}

static void work_on(struct site *s, uint64_t until)
{
	double done = speed(s) * (double)(until - s->now);
	for (int i = 0; i < s->vms; i++)
		s->vm[i].left -= planner_runs(s->planner, i) ? done : 0;
	s->now = until;
}

// The one that ends first, and when.
static int ends_first(const struct site *s, uint64_t *ret_at)
{
	int first = -1;
	for (int i = 0; i < s->vms; i++)
		if (planner_runs(s->planner, i) && (first < 0 || s->vm[i].left < s->vm[first].left))
			first = i;
	double left = first < 0 ? 0 : s->vm[first].left;
	*ret_at = first < 0 ? UINT64_MAX : s->now + (left > 0 ? (uint64_t)(left / speed(s)) : 0) + 1;
	return first;
}

static void site_share(struct site *s, uint64_t for_ns)
{
	s->end = s->now + for_ns;
	for (;;) {
		uint64_t at = 0, due = s->events ? s->heap[0].at : UINT64_MAX;
		int first = ends_first(s, &at);
		if (min_u64(at, due) >= s->end)
			break;
		work_on(s, max_u64(s->now, min_u64(at, due)));
		if (at <= due) {
			end(s, first);
			continue;
		}
		struct event event = pop(s);
		if (!planner_runs(s->planner, event.vm))
			look(s, event.vm);
	}
	work_on(s, s->end);
}

static void site_begin(struct site *s, int vms, unsigned slots, uint64_t seed)
{
	*s = (struct site){.now = DAY, .seed = seed, .slots = slots, .syncs = 2, .vms = vms};
	s->planner = planner_new(slots, 2);
	s->vm = calloc((size_t)vms, sizeof(*s->vm));
	s->heap = calloc((size_t)vms + 1, sizeof(*s->heap));
	s->asking = calloc((size_t)vms, sizeof(*s->asking));
	assert_non_null(s->asking);
	assert_non_null(s->planner);
	assert_non_null(s->vm);
	assert_non_null(s->heap);
}

static void site_vm(struct site *s, int i, uint64_t rpo, uint64_t transfer, uint64_t jitter)
{
	s->vm[i] = (struct vm){.schedule = {.rpo_ns = rpo}, .transfer = transfer, .jitter = jitter, .joined = s->now};
	assert_int_equal(planner_join(s->planner), i);
	push(s, s->now + draw_below(&s->seed, MINUTE), i);
}

static void site_live(struct site *s, uint64_t for_ns)
{
	s->end = s->now + for_ns;
	while (s->heap[0].at < s->end && s->events) {
		struct event event = pop(s);
		assert_true(event.at >= s->now);
		s->now = event.at;
		if (planner_runs(s->planner, event.vm))
			end(s, event.vm);
		else
			look(s, event.vm);
	}
	s->now = s->end;
}

static void site_end(struct site *s)
{
	planner_free(s->planner);
	free(s->vm);
	free(s->heap);
	free(s->asking);
}

static const uint64_t rpos[] = {5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, DAY};

// Transfers that keep all slots busy for `percent` of the time, with the margins that the schedule has, and each at most a sixth of its RPO.
static void fill(struct site *s, unsigned percent, unsigned shortest, uint64_t longest)
{
	uint64_t share = (uint64_t)s->slots * percent * 1000 / (unsigned)s->vms; // of a slot, in 1/100,000
	for (int i = 0; i < s->vms; i++) {
		uint64_t rpo = rpos[shortest + draw_below(&s->seed, 6 - shortest)];
		uint64_t whole = rpo / 100000 * (share / 2 + draw_below(&s->seed, share + 1)) * 10 / 16;
		site_vm(s, i, rpo, min_u64(whole, min_u64(rpo / 6, longest)), min_u64(whole, longest) / 8);
	}
}

static void weeks_of_thousands_of_protections_keep_every_rpo_that_can_be_kept(void **state)
{
	(void)state;
	static const struct {
		int vms;
		unsigned slots, shortest;
	} sites[] = {{2000, 8, 3}, {300, 4, 2}, {200, 12, 2}, {300, 2, 3}};
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct site s;
		site_begin(&s, sites[seed].vms, sites[seed].slots, seed + 1);
		fill(&s, 50, sites[seed].shortest, DAY);
		s.quiet_until = s.now + 3 * DAY; // the first points of all, two syncs at a time
		site_live(&s, 14 * DAY);
		assert_true(s.grants > (uint64_t)s.vms * 14);
		assert_true(s.misses == 0);
		site_end(&s);
	}
}

static void objectives_of_minutes_beside_those_of_a_day_are_kept(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct site s;
		site_begin(&s, 80, 6, seed * 77);
		fill(&s, 30, 0, 5 * MINUTE);
		s.quiet_until = s.now + 3 * DAY;
		site_live(&s, 7 * DAY);
		assert_true(s.misses == 0);
		site_end(&s);
	}
}

// Cycles of up to five minutes keep the slots of a site busy for 0.7 of the time, where objectives of five minutes stand beside those of a day: waiting
// for each other they would miss some. What is lent makes all others slower by its part.
static void what_is_lent_keeps_what_waiting_would_miss(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 2; seed++) {
		struct site s;
		site_begin(&s, 80, 6, seed * 77);
		s.shared = true;
		fill(&s, 70, 0, 5 * MINUTE);
		s.quiet_until = s.now + 3 * DAY;
		site_share(&s, 7 * DAY);
		assert_true(s.lent > 0);
		assert_true(s.misses == 0);
		site_end(&s);
	}
}

// More than the slots can do: everybody misses, nobody is forgotten, and who is alike is treated alike.
static void overload_starves_nobody_and_is_shared_by_those_who_are_alike(void **state)
{
	(void)state;
	struct site s;
	site_begin(&s, 1000, 4, 5);
	for (int i = 0; i < s.vms; i++)
		site_vm(&s, i, 15 * MINUTE, 10 * SECOND, 0); // 2500 s of work for each slot in 900 s
	site_live(&s, 2 * HOUR); // until all have a point
	for (int i = 0; i < s.vms; i++)
		s.vm[i].cycles = 0;
	site_live(&s, 2 * DAY);
	uint64_t least = UINT64_MAX, most = 0;
	for (int i = 0; i < s.vms; i++) {
		least = min_u64(least, s.vm[i].cycles);
		most = max_u64(most, s.vm[i].cycles);
		assert_true(s.vm[i].worst_age <= 2 * 2510 * SECOND); // a round of all, and its own age then
	}
	assert_true(most - least <= 2);
	assert_true(s.misses > 0 && s.kept_back == 0);
	site_end(&s);
}

// Overdue for ever, on both sides of it: those who can keep their RPO are late by no more than cycles that were before them.
static void mixed_overload_starves_nobody(void **state)
{
	(void)state;
	struct site s;
	site_begin(&s, 200, 4, 6);
	uint64_t work = 0;
	for (int i = 0; i < s.vms; i++) {
		uint64_t rpo = rpos[draw_below(&s.seed, 6)], transfer = SECOND + draw_below(&s.seed, 10 * MINUTE);
		work += transfer;
		site_vm(&s, i, rpo, transfer, 0);
	}
	site_live(&s, 14 * DAY);
	for (int i = 0; i < s.vms; i++) // a round of all of them, and those of short objectives twice in between
		assert_true(s.vm[i].worst_age <= s.vm[i].schedule.rpo_ns + 3 * work / 4 + HOUR);
	assert_true(s.misses > 0);
	site_end(&s);
}

// The known cases of one protection, through the slots of many.
static void one_protection_with_slots_free_is_scheduled_as_if_alone(void **state)
{
	(void)state;
	static const struct {
		uint64_t transfer, missed_in_100;
	} cases[] = {{5 * MINUTE, 0}, {15 * MINUTE / 2, 0}, {10 * MINUTE, 100}};
	for (int i = 0; i < 3; i++) {
		struct site s;
		site_begin(&s, 1, 4, 9);
		site_vm(&s, 0, 15 * MINUTE, cases[i].transfer, 0);
		while (s.vm[0].cycles < 101)
			site_live(&s, MINUTE);
		assert_true(s.vm[0].missed == cases[i].missed_in_100);
		assert_true(s.vm[0].worst_age <= 2 * cases[i].transfer || s.vm[0].worst_age <= 15 * MINUTE);
		site_end(&s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(slot_goes_to_the_earliest_deadline_then_to_priority_then_to_who_asked_first),
		cmocka_unit_test(sync_never_takes_the_slot_of_a_cycle_nor_a_cycle_that_of_a_sync),
		cmocka_unit_test(slot_comes_back_from_whoever_ends_withdraws_or_leaves),
		cmocka_unit_test(fewer_slots_end_nobody_and_more_are_given_at_once),
		cmocka_unit_test(starts_move_ahead_when_many_deadlines_fall_together),
		cmocka_unit_test(start_of_one_alone_is_its_deadline_less_its_lead),
		cmocka_unit_test(cycles_that_others_cannot_wait_for_leave_a_slot_for_each_band),
		cmocka_unit_test(weeks_of_thousands_of_protections_keep_every_rpo_that_can_be_kept),
		cmocka_unit_test(cycle_that_would_be_late_by_waiting_is_lent_a_slot),
		cmocka_unit_test(cycle_that_takes_longer_than_it_was_to_holds_nobody_up),
		cmocka_unit_test(what_is_lent_keeps_what_waiting_would_miss),
		cmocka_unit_test(objectives_of_minutes_beside_those_of_a_day_are_kept),
		cmocka_unit_test(overload_starves_nobody_and_is_shared_by_those_who_are_alike),
		cmocka_unit_test(mixed_overload_starves_nobody),
		cmocka_unit_test(one_protection_with_slots_free_is_scheduled_as_if_alone),
	};
	return cmocka_run_group_tests_name("planner", tests, NULL, NULL);
}
