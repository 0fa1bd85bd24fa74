// SPDX-License-Identifier: Apache-2.0
#include "replicator/cycle.h"

#include "replicator/compare.h"

#include <errno.h>

enum { MS_NS = 1000000 };
enum { SEAL_ANSWER_MS = 600000 }; // a commit may have gigabytes to bring to a slow disk

const char *cycle_why_name(enum cycle_why why)
{
	static const char *const names[] = {"none", "little-left", "not-shrinking", "passes", "not-paying"};
	return names[why];
}

enum cycle_pass cycle_decide(const struct cycle_history *history, uint64_t dirty_bytes, enum cycle_why *ret_why)
{
	uint64_t little = history->little_bytes ? history->little_bytes : CYCLE_PRECOPY_BYTES;
	*ret_why = CYCLE_WHY_NONE;
	if (history->given_up >= CYCLE_GIVEN_UP_MAX)
		return CYCLE_PASS_FAIL;
	if (history->last_was_given_up) // first make the remainder small, or the next cut goes the same way
		return CYCLE_PASS_PRECOPY;
	if (dirty_bytes <= little)
		*ret_why = CYCLE_WHY_LITTLE;
	else if (history->passes >= CYCLE_PASSES_MAX)
		*ret_why = CYCLE_WHY_PASSES;
	else if (history->resting && dirty_bytes <= CYCLE_PRECOPY_BYTES)
		*ret_why = CYCLE_WHY_RESTING;
	else if (history->passes > 0 && dirty_bytes > history->last_dirty_bytes / 4 * 3)
		*ret_why = CYCLE_WHY_STEADY; // another pass would not help
	return *ret_why == CYCLE_WHY_NONE ? CYCLE_PASS_PRECOPY : CYCLE_PASS_POINT;
}

uint64_t cycle_little(const struct cycle_lore *lore)
{
	if (!lore || !lore->rate)
		return CYCLE_PRECOPY_BYTES;
	return min_u64(max_u64(lore->rate / 1000 * CYCLE_LITTLE_MS, CYCLE_LITTLE_BYTES_MIN), CYCLE_PRECOPY_BYTES);
}

void cycle_learn(struct cycle_lore *lore, const struct cycle_report *report)
{
	if (report->dirty_bytes >= CYCLE_SHOWS_BYTES && report->ship_ns >= MS_NS)
		lore->rate = report->dirty_bytes * 1000 / (report->ship_ns / MS_NS);
	if (lore->rest && report->precopies == 0 && report->why == CYCLE_WHY_RESTING)
		lore->rest--;
	if (report->precopies == 0)
		return;
	if (report->point_bytes <= report->first_bytes / 2) {
		lore->next_rest = 1;
		return;
	}
	lore->rest = lore->next_rest ? lore->next_rest : 1;
	lore->next_rest = (unsigned)min_u64(2 * (uint64_t)lore->rest, CYCLE_REST_MAX);
}

// What waits in the socket is not away: megabytes of it are seconds of a thin line, by which the point would be old at its commit.
static void settle(const struct cycle *cycle, const struct channel_mark *since)
{
	enum rpo_stage was = sender_stage(ship_sender(cycle->ship), RPO_STAGE_NETWORK);
	channel_settle(cycle->channel, since);
	(void)sender_stage(ship_sender(cycle->ship), was);
}

static int pass(const struct cycle *cycle, enum cut_mode mode, struct cycle_report *report, struct source_cut *ret_cut,
		struct err *err)
{
	cycle->on_stage(cycle->context, CYCLE_CUTTING);
	enum rpo_stage was = sender_stage(ship_sender(cycle->ship), RPO_STAGE_READ);
	int rc = source_cut(cycle->source, mode, ret_cut, err);
	(void)sender_stage(ship_sender(cycle->ship), was);
	if (rc)
		return rc;
	report->dirty_bytes += ret_cut->dirty_bytes;
	progress_begin_pass(cycle->progress, mode == CUT_PRECOPY, ret_cut->blocks * BLOCK_SIZE);
	cycle->on_stage(cycle->context, CYCLE_SHIPPING);
	ship_by_pieces(cycle->ship, cycle->pieces);
	ship_written(cycle->ship, cycle->written);
	known_bind(sender_known(ship_sender(cycle->ship)), &cycle->head, channel_id(cycle->channel));
	if (mode == CUT_PRECOPY) {
		struct compare compare = {
			.ship = cycle->ship,
			.source = cycle->source,
			.channel = cycle->channel,
			.codec = cycle->codec,
			.key = cycle->key,
			.stretch_min = cycle->stretch_blocks,
			.nodes = cycle->nodes,
			.stats = &report->ship,
			.progress = cycle->progress,
		};
		const struct channel_mark since = channel_mark(cycle->channel);
		ship_yield_begin(cycle->ship, cycle->source, &cycle->rest, cycle->progress);
		rc = compare_ship(&compare, &report->failure, err);
		ship_yield_end(cycle->ship);
		if (rc == 0)
			settle(cycle, &since);
		return rc;
	}
	return ship_set(cycle->ship, cycle->source, cycle->channel, cycle->codec, cycle->key, &report->ship, cycle->progress,
			&report->failure, err);
}

// Passes until a point's cut has been shipped whole.
static int reach_point(const struct cycle *cycle, struct cycle_report *report, struct err *err)
{
	struct cycle_history history = {.little_bytes = cycle_little(cycle->lore), .resting = cycle->lore && cycle->lore->rest};
	for (;;) {
		uint64_t dirty_bytes = source_dirty_bytes(cycle->source);
		enum cycle_pass next = cycle_decide(&history, dirty_bytes, &report->why);
		if (next == CYCLE_PASS_FAIL)
			return err_set(err, -ESTALE,
				       "the guest overwrote blocks of the cut faster than they could be shipped, %u times: the link or the "
				       "receiver is too slow for this load, or there is little room to keep them meanwhile (see status)",
				       history.given_up);
		if (history.passes == 0)
			report->first_bytes = dirty_bytes;
		struct source_cut cut;
		uint64_t begin_ns = env_mono_ns(cycle->env);
		int rc = pass(cycle, next == CYCLE_PASS_POINT ? CUT_POINT : CUT_PRECOPY, report, &cut, err);
		report->ship_ns += env_mono_ns(cycle->env) - begin_ns;
		if (rc == 0 && next == CYCLE_PASS_POINT) {
			report->at = cut;
			report->point_bytes = cut.dirty_bytes;
			return 0;
		}
		report->precopies += next == CYCLE_PASS_PRECOPY;
		history.last_was_given_up = rc == -ESTALE;
		history.given_up += rc == -ESTALE;
		history.passes++;
		history.last_dirty_bytes = dirty_bytes;
		if (rc == -ESTALE)
			source_give_back(cycle->source); // the blocks of this cut are dirty again, and the head takes them once more
		else if (rc)
			return rc;
	}
}

// Leaves with the SEAL.
static int put_certain(const struct cycle *cycle, const struct uuid *cut, struct err *err)
{
	struct wire_doubted doubted = cycle->certain ? cycle->certain(cycle->context) : (struct wire_doubted){.disks = 0};
	if (!doubted.disks)
		return 0;
	struct wire_certain m = {.doubt = doubted.doubt, .cut = *cut, .disks = doubted.disks};
	void *to = channel_room(cycle->channel, WIRE_FRAME_MAX);
	if (!to)
		return channel_flush(cycle->channel, err);
	int rc = channel_put(cycle->channel, wire_put_certain(to, WIRE_FRAME_MAX, &m));
	return rc ? err_sys(err, rc, "say what is certain") : 0;
}

// Until the receiver's host has it all the time is the line's: megabytes may wait in the socket. Then it is the receiver's.
static int await_committed(const struct cycle *cycle, struct wire_frame *ret_frame, struct cycle_report *report, struct err *err)
{
	uint64_t begin_ns = env_mono_ns(cycle->env);
	channel_drain(cycle->channel);
	report->ship_ns += env_mono_ns(cycle->env) - begin_ns;
	(void)sender_stage(ship_sender(cycle->ship), RPO_STAGE_APPLY);
	cycle->on_stage(cycle->context, CYCLE_COMMITTING);
	return channel_expect(cycle->channel, WIRE_COMMITTED, SEAL_ANSWER_MS, ret_frame, &report->failure, err);
}

static int seal(const struct cycle *cycle, uint64_t wire_start, struct cycle_report *report, struct err *err)
{
	report->wire_bytes = channel_bytes_out(cycle->channel) - wire_start;
	struct wire_seal m = {
		.predecessor = cycle->predecessor,
		.cut = report->cut,
		.head = cycle->head,
		.cut_wall_ns = report->at.wall_ns,
		.consistency = POINT_CRASH,
		.dirty_bytes = report->dirty_bytes,
		.blocks_sent = report->ship.sent_blocks + report->ship.zero_blocks,
		.wire_bytes = report->wire_bytes,
	};
	cycle->on_stage(cycle->context, CYCLE_SEALING);
	enum rpo_stage was = sender_stage(ship_sender(cycle->ship), RPO_STAGE_READ); // the state directory's disk is one of the source's
	cycle->on_seal(cycle->context, &report->cut);
	(void)sender_stage(ship_sender(cycle->ship), was);
	int rc = put_certain(cycle, &report->cut, err);
	if (rc)
		return rc;
	was = sender_stage(ship_sender(cycle->ship), RPO_STAGE_NETWORK);
	void *to = channel_room(cycle->channel, WIRE_FRAME_MAX);
	if (!to)
		return channel_flush(cycle->channel, err);
	report->sealed = true;
	rc = channel_put(cycle->channel, wire_put_seal(to, WIRE_FRAME_MAX, &m));
	if (rc == 0)
		rc = channel_flush(cycle->channel, err);
	struct wire_frame frame;
	if (rc == 0)
		rc = await_committed(cycle, &frame, report, err);
	(void)sender_stage(ship_sender(cycle->ship), was);
	if (rc)
		return rc;
	if (wire_get_committed(&frame, &report->committed) || !uuid_equal(&report->committed.cut, &report->cut) ||
	    report->committed.number != cycle->predecessor + 1)
		return err_set(err, -EBADMSG, "COMMITTED does not answer the SEAL");
	report->commit_mono_ns = env_mono_ns(cycle->env);
	return 0;
}

int cycle_run(const struct cycle *cycle, struct cycle_report *ret_report, struct err *err)
{
	*ret_report = (struct cycle_report){.sealed = false};
	if (cycle->pieces) // what the sync before found of its blocks says nothing of these
		*sender_pieces(ship_sender(cycle->ship)) = (struct worth){.rest = 0};
	uint64_t wire_start = channel_bytes_out(cycle->channel);
	int rc = uuid_new(cycle->env, &ret_report->cut);
	if (rc)
		return err_sys(err, rc, "name the cut");
	rc = reach_point(cycle, ret_report, err);
	if (rc == 0)
		rc = seal(cycle, wire_start, ret_report, err);
	struct known *known = sender_known(ship_sender(cycle->ship));
	if (rc)
		known_forget(known);
	else
		known_follow(known, &ret_report->committed.head);
	if (rc == 0 && cycle->lore)
		cycle_learn(cycle->lore, ret_report);
	ret_report->wire_bytes = channel_bytes_out(cycle->channel) - wire_start;
	return rc;
}
