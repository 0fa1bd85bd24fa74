// SPDX-License-Identifier: Apache-2.0
// A protection at the agent's desk: what it asks for, and when. Cycle thread, but for joining and leaving. Without a desk every cycle may run.
#include "replicator/protection_private.h"

#include "base/auto.h"

static void called(void *protection)
{
	protection_wake(protection); // takes no lock of the protection's
}

int slot_join(struct protection *p)
{
	p->seat = PLANNER_NOBODY;
	return p->place.desk ? desk_join(p->place.desk, called, p, &p->seat) : 0;
}

void slot_leave(struct protection *p)
{
	if (p->place.desk && p->seat != PLANNER_NOBODY)
		desk_leave(p->place.desk, p->seat);
	p->seat = PLANNER_NOBODY;
}

// A comparison of whole disks takes nobody knows how long.
static bool is_sync(const struct protection *p)
{
	return !p->schedule.has_point || (p->sync != SYNC_NONE && p->sync != SYNC_REPLICA_DAMAGED && p->sync != SYNC_FALSE_HOLE && p->sync != SYNC_UNCLEAN_STOP);
}

static struct planner_job job_of(const struct protection *p, uint64_t dirty_bytes, bool urgent)
{
	return (struct planner_job){
		.kind = is_sync(p) ? PLANNER_SYNC : PLANNER_CYCLE,
		.now_ns = protection_now_ns(p),
		.deadline_ns = p->schedule.has_point ? schedule_deadline(&p->schedule) : p->began_ns,
		.lead_ns = schedule_lead_ns(&p->schedule, dirty_bytes),
		.spare_ns = schedule_spare_ns(&p->schedule),
		.rpo_ns = p->schedule.rpo_ns,
		.priority = protection_weight(p->config.settings.priority), // a word: whichever of two it is
		.urgent = urgent,
	};
}

uint64_t slot_due(struct protection *p, const struct schedule_load *load)
{
	uint64_t due_ns = schedule_next_cut(&p->schedule, load);
	if (!p->place.desk || p->schedule.failures) // who failed waits, however late it is
		return due_ns;
	struct planner_job job = job_of(p, schedule_dirty_at(&p->schedule, load, due_ns), false);
	return max_u64(min_u64(due_ns, desk_plan(p->place.desk, p->seat, &job)), schedule_earliest(&p->schedule));
}

static void set_waits(struct protection *p, bool waits)
{
	LOCK_SCOPE(&p->lock);
	p->waits_for_slot = waits;
}

bool slot_take(struct protection *p, const struct schedule_load *load, bool urgent)
{
	bool has = true;
	if (p->place.desk) {
		struct planner_job job = job_of(p, load->dirty_bytes, urgent);
		has = desk_take(p->place.desk, p->seat, &job);
	}
	if (has == p->waits_for_slot) // this thread alone writes it
		set_waits(p, !has);
	return has;
}

void slot_unused(struct protection *p)
{
	if (p->place.desk)
		desk_give_up(p->place.desk, p->seat);
	if (p->waits_for_slot)
		set_waits(p, false);
}

void slot_end(struct protection *p)
{
	if (p->place.desk)
		desk_end(p->place.desk, p->seat);
	if (p->waits_for_slot)
		set_waits(p, false);
}
