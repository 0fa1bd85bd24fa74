// SPDX-License-Identifier: Apache-2.0
// What pace.h decides for the cycle under way, done: to the cycle thread itself, the reader, and the crew.
//
// Only passes live on what is left of the processors: around a cut, a seal and what is written to the state files, the thread may hold what
// a guest waits for.
#include "replicator/protection_private.h"

#include "base/log.h"
#include "replicator/priority.h"

static void hurry(struct protection *p, bool on)
{
	if (on == p->hurries)
		return;
	p->hurries = on;
	priority_hurry(on);
	export_hurry(p->export, on);
}

static void act(struct protection *p)
{
	enum pace_why was = atomic_load(&p->pace_why);
	if (was != p->pace.why)
		log_debug("pace %s -> %s protection=%s", pace_why_name(was), pace_why_name(p->pace.why), p->config.name);
	atomic_store(&p->pace_why, p->pace.why);
	hurry(p, p->pace.why != PACE_SPARE);
	priority_copy(p->passing && p->pace.why == PACE_SPARE);
}

void pace_cycle_begin(struct protection *p)
{
	pace_begin(&p->pace, protection_now_ns(p), schedule_deadline(&p->schedule), priority_waited_ns());
	act(p);
}

void pace_pass(struct protection *p, bool passing)
{
	p->passing = passing;
	act(p);
}

void pace_rest(void *protection, uint64_t ns)
{
	struct protection *p = protection;
	if (pace_may_rest(&p->pace))
		protection_rest(p, ns);
}

void pace_cycle_end(struct protection *p)
{
	p->passing = false;
	priority_copy(false);
	hurry(p, false);
}

void pace_turn(void *protection, uint64_t now_ns)
{
	struct protection *p = protection;
	if (!pace_due(&p->pace, now_ns))
		return;
	struct pace_view view = {
		.now_ns = now_ns,
		.waited_ns = priority_waited_ns(),
		.done_bytes = atomic_load_explicit(&p->progress.done_bytes, memory_order_relaxed),
		.total_bytes = atomic_load_explicit(&p->progress.total_bytes, memory_order_relaxed),
		.crowded = export_crowded(p->export),
	};
	pace_step(&p->pace, &view);
	act(p);
}
