// SPDX-License-Identifier: Apache-2.0
#include "replicator/ship.h"

#include "replicator/pack.h"
#include "replicator/yield.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum verdict { ASKED, EQUAL, DIFFERENT }; // on a block; of those that were asked about, once the answer is there

struct lane { // one batch on its way
	struct source_batch batch;
	struct digest digest[SOURCE_BATCH_MAX];
	unsigned char verdict[SOURCE_BATCH_MAX];
	uint64_t end; // the sender's number behind its blocks
	bool by_pieces; // asked by EXAMINE, in place of COMPARE
	bool apart[SOURCE_BATCH_MAX]; // the receiver's pieces of that block are in `theirs`
	struct digest theirs[SOURCE_BATCH_MAX][PIECES_PER_BLOCK];
};

struct ship {
	struct lane lane[SHIP_BATCHES];
	struct sender *sender;
	struct yield yield;
	struct source *paced; // NULL: nothing yields
	struct ship_rest rest;
	uint64_t sent_ns; // of the sender's, that the yielding knows of
	bool by_pieces; // the receiver knows EXAMINE, and what changed within a block is not known
	bool written;	// what is in the set was written by a guest since the last point
	struct ship_progress *yielded;
};

struct passage { // one call of ship_set
	struct ship *ship;
	struct source *source;
	struct channel *channel;
	enum codec codec;
	const struct digest_key *key;
	struct ship_stats *stats;
	struct ship_progress *progress;
	struct wire_failure *failure;
	uint64_t fetched, staged, answered, sent; // batches, counted from the start; sent <= answered <= staged <= fetched
	bool exhausted;			// a batch came back empty
	bool source_failed;		// and not the connection: the answers that are due still come
};

int ship_new(const struct sender_config *config, struct ship **ret_ship)
{
	struct ship *ship = calloc(1, sizeof(*ship));
	if (!ship)
		return -ENOMEM;
	int rc = sender_new(config, &ship->sender);
	for (int i = 0; i < SHIP_BATCHES && rc == 0; i++)
		rc = source_batch_init(&ship->lane[i].batch);
	if (rc) {
		ship_free(ship);
		return rc;
	}
	*ret_ship = ship;
	return 0;
}

void ship_free(struct ship *ship)
{
	if (!ship)
		return;
	for (int i = 0; i < SHIP_BATCHES; i++)
		source_batch_done(&ship->lane[i].batch);
	sender_free(ship->sender);
	free(ship);
}

struct sender *ship_sender(struct ship *ship)
{
	return ship->sender;
}

// ---- yielding

void ship_yield_begin(struct ship *ship, struct source *source, const struct ship_rest *rest, struct ship_progress *progress)
{
	ship->paced = rest && rest->rest ? source : NULL;
	if (!ship->paced)
		return;
	ship->rest = *rest;
	ship->yielded = progress;
	ship->sent_ns = sender_sent_ns(ship->sender);
	yield_begin(&ship->yield, sender_now_ns(ship->sender), source_served(source));
}

void ship_yield_end(struct ship *ship)
{
	ship->paced = NULL;
}

void ship_step(struct ship *ship)
{
	if (!ship->paced)
		return;
	uint64_t sent_ns = sender_sent_ns(ship->sender);
	yield_waited(&ship->yield, sent_ns - ship->sent_ns);
	ship->sent_ns = sent_ns;
	uint64_t pause_ns = yield_step(&ship->yield, sender_now_ns(ship->sender), source_served(ship->paced));
	if (!pause_ns)
		return;
	ship->rest.rest(ship->rest.context, pause_ns);
	atomic_fetch_add_explicit(&ship->yielded->yielded_ns, yield_resume(&ship->yield, sender_now_ns(ship->sender)), memory_order_relaxed);
}

int ship_expect(struct ship *ship, struct channel *channel, enum wire_type type, struct wire_frame *ret_frame, struct wire_failure *ret_failure,
		struct err *err)
{
	uint64_t begin_ns = sender_now_ns(ship->sender);
	int rc = channel_expect(channel, type, CHANNEL_STALL_MS, ret_frame, ret_failure, err);
	yield_waited(&ship->yield, sender_now_ns(ship->sender) - begin_ns);
	return rc;
}

void ship_by_pieces(struct ship *ship, bool by_pieces)
{
	ship->by_pieces = by_pieces;
}

void ship_written(struct ship *ship, bool written)
{
	ship->written = written;
}

static struct lane *lane_of(struct passage *p, uint64_t number)
{
	return &p->ship->lane[number % SHIP_BATCHES];
}

static bool one_question(const struct lane *lane, unsigned before, unsigned block)
{
	const struct source_block *b = lane->batch.block;
	return b[block].disk == b[before].disk && (lane->by_pieces || b[block].index == b[before].index + 1);
}

// The next blocks of the lane that the receiver is asked about at once, from block `i` on: neighbours on one disk, or by their pieces any of one disk.
// False: there are none.
static bool run_next(const struct lane *lane, unsigned i, unsigned *ret_first, unsigned *ret_end)
{
	const struct source_batch *batch = &lane->batch;
	while (i < batch->count && lane->verdict[i] != ASKED)
		i++;
	unsigned end = i + 1;
	while (end < batch->count && lane->verdict[end] == ASKED && one_question(lane, end - 1, end))
		end++;
	*ret_first = i;
	*ret_end = end;
	return i < batch->count;
}

static int flush(struct passage *p, struct err *err)
{
	enum rpo_stage was = sender_stage(p->ship->sender, RPO_STAGE_NETWORK);
	int rc = channel_flush(p->channel, err);
	(void)sender_stage(p->ship->sender, was);
	return rc;
}

static int put_failed(struct passage *p, struct err *err)
{
	int rc = channel_flush(p->channel, err); // says what the connection died of
	return rc ? rc : err_set(err, -EMSGSIZE, "a message does not fit into its frame");
}

static int put_compare(struct passage *p, const struct lane *lane, unsigned first, unsigned end, struct err *err)
{
	struct wire_compare compare = {
		.disk = lane->batch.block[first].disk,
		.count = end - first,
		.first = lane->batch.block[first].index,
		.digests = lane->digest[first].bytes,
	};
	void *to = channel_room(p->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(p->channel, wire_put_compare(to, WIRE_FRAME_MAX, &compare)))
		return put_failed(p, err);
	return 0;
}

static int put_examine(struct passage *p, const struct lane *lane, unsigned first, unsigned end, struct err *err)
{
	unsigned char entries[SOURCE_BATCH_MAX * WIRE_EXAMINE_ENTRY_SIZE];
	_Static_assert((int)SOURCE_BATCH_MAX <= (int)WIRE_EXAMINE_MAX, "a batch is asked about at once");
	struct wire_examine examine = {.disk = lane->batch.block[first].disk, .count = (uint16_t)(end - first), .entries = entries};
	for (unsigned i = first; i < end; i++)
		wire_examine_set(entries, i - first, lane->batch.block[i].index, &lane->digest[i]);
	void *to = channel_room(p->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(p->channel, wire_put_examine(to, WIRE_FRAME_MAX, &examine)))
		return put_failed(p, err);
	return 0;
}

// What is known already of the lane's blocks needs no question; nor does what a guest wrote, where the head holds nothing but what this connection sent, and
// such blocks were hardly ever equal.
static void judge(struct passage *p, struct lane *lane)
{
	const struct known *known = sender_known(p->ship->sender);
	struct worth *question = sender_question(p->ship->sender);
	enum verdict other = p->ship->by_pieces && worth_asks(sender_pieces(p->ship->sender)) ? ASKED : DIFFERENT; // in which of its pieces?
	for (unsigned i = 0; i < lane->batch.count; i++) {
		const struct digest *theirs = known_find(known, lane->batch.block[i].disk, lane->batch.block[i].index);
		bool sure = !theirs && p->ship->written && known_follows(known) && !worth_asks(question);
		lane->verdict[i] = sure ? DIFFERENT : !theirs ? ASKED : digest_equal(theirs, &lane->digest[i]) ? EQUAL : other;
		p->stats->known_blocks += lane->verdict[i] == EQUAL;
		p->stats->unasked_blocks += sure;
		if (sure)
			worth_not_asked(question);
	}
}

// Waits for the next batch that was fetched, digests it and asks the receiver about it.
static int stage(struct passage *p, struct err *err)
{
	struct lane *lane = lane_of(p, p->staged);
	struct source_batch *batch = &lane->batch;
	p->staged++;
	enum rpo_stage was = sender_stage(p->ship->sender, RPO_STAGE_READ);
	int rc = source_wait(p->source, batch, err);
	(void)sender_stage(p->ship->sender, was);
	if (rc) {
		p->source_failed = true;
		batch->count = 0; // nothing was asked about it
		return rc;
	}
	if (batch->count == 0)
		p->exhausted = true;
	p->stats->read_bytes += (uint64_t)batch->count * BLOCK_SIZE;
	pack_digests(sender_pack(p->ship->sender), p->key, batch, lane->digest);
	judge(p, lane);
	lane->by_pieces = p->ship->by_pieces && worth_asks(sender_pieces(p->ship->sender));
	memset(lane->apart, 0, sizeof(lane->apart));
	for (unsigned first, end = 0; rc == 0 && run_next(lane, end, &first, &end);)
		rc = lane->by_pieces ? put_examine(p, lane, first, end, err) : put_compare(p, lane, first, end, err);
	return rc ? rc : flush(p, err);
}

static void answered(struct passage *p, struct lane *lane, unsigned i, bool differs)
{
	struct sender *sender = p->ship->sender;
	lane->verdict[i] = differs ? DIFFERENT : EQUAL;
	if (p->ship->written)
		worth_asked(sender_question(sender), &worth_question, !differs);
	if (!differs)
		known_set(sender_known(sender), lane->batch.block[i].disk, lane->batch.block[i].index, &lane->digest[i]);
	else if (lane->by_pieces && !lane->apart[i])
		worth_asked(sender_pieces(sender), &worth_pieces, 0);
	else if (p->ship->by_pieces && !lane->by_pieces)
		worth_not_asked(sender_pieces(sender));
}

static int take_differs(struct passage *p, struct lane *lane, unsigned first, unsigned end, const struct wire_frame *frame, struct err *err)
{
	const struct source_block *block = &lane->batch.block[first];
	struct wire_differs m;
	if (wire_get_differs(frame, &m) || m.disk != block->disk || m.first != block->index || m.count != end - first)
		return err_set(err, -EBADMSG, "DIFFERS does not answer what was asked");
	for (unsigned i = first; i < end; i++)
		answered(p, lane, i, m.bitmap[(i - first) / 8] >> (i - first) % 8 & 1);
	return 0;
}

static int take_pieces(struct passage *p, struct lane *lane, unsigned first, unsigned end, const struct wire_frame *frame, struct err *err)
{
	const struct source_block *block = &lane->batch.block[first];
	struct wire_pieces m;
	if (wire_get_pieces(frame, &m) || m.disk != block->disk || m.first != block->index || m.count != end - first)
		return err_set(err, -EBADMSG, "PIECES does not answer what was asked");
	const unsigned char *digests = m.digests;
	for (unsigned i = first; i < end; i++) {
		lane->apart[i] = m.answer[i - first] == WIRE_BY_PIECES;
		if (lane->apart[i]) {
			memcpy(lane->theirs[i], digests, sizeof(lane->theirs[i]));
			digests += sizeof(lane->theirs[i]);
		}
		answered(p, lane, i, m.answer[i - first] != WIRE_EQUAL);
	}
	return 0;
}

// Takes the answer for blocks [first, end) of the lane.
static int answer_take(struct passage *p, struct lane *lane, unsigned first, unsigned end, struct err *err)
{
	struct wire_frame frame;
	enum rpo_stage was = sender_stage(p->ship->sender, RPO_STAGE_NETWORK);
	int rc = ship_expect(p->ship, p->channel, lane->by_pieces ? WIRE_PIECES : WIRE_DIFFERS, &frame, p->failure, err);
	(void)sender_stage(p->ship->sender, was);
	if (rc)
		return rc;
	return lane->by_pieces ? take_pieces(p, lane, first, end, &frame, err) : take_differs(p, lane, first, end, &frame, err);
}

static int answers_take(struct passage *p, struct lane *lane, struct err *err)
{
	int rc = 0;
	for (unsigned first, end = 0; rc == 0 && run_next(lane, end, &first, &end);)
		rc = answer_take(p, lane, first, end, err);
	return rc;
}

// Blocks of zeros that differ, from block `i` on, side by side.
static unsigned zeros_from(const struct lane *lane, unsigned i)
{
	const struct source_block *block = lane->batch.block;
	unsigned end = i;
	while (end < lane->batch.count && lane->verdict[end] == DIFFERENT && digest_is_zero(&lane->digest[end]) &&
	       block[end].disk == block[i].disk && block[end].index == block[i].index + (end - i))
		end++;
	return end - i;
}

// Hands what differs of the lane to the sender.
static int lane_send(struct passage *p, const struct lane *lane, struct err *err)
{
	struct sender *sender = p->ship->sender;
	int rc = 0;
	for (unsigned i = 0, step; i < lane->batch.count && rc == 0; i += step) {
		const struct source_block *block = &lane->batch.block[i];
		step = lane->verdict[i] == DIFFERENT ? zeros_from(lane, i) : 0;
		if (step)
			rc = sender_zeros(sender, block->disk, block->index, step, err);
		else if (lane->verdict[i] == DIFFERENT)
			rc = sender_block(sender, block, &lane->digest[i], lane->apart[i] ? lane->theirs[i] : NULL, err);
		else
			p->stats->equal_blocks++;
		step += step == 0;
	}
	return rc;
}

// After the source failed: takes the answers that are due, or the next passage would take them for its own.
static int drain(struct passage *p, struct err *err)
{
	int rc = channel_flush(p->channel, err);
	for (; rc == 0 && p->answered < p->staged; p->answered++)
		rc = answers_take(p, lane_of(p, p->answered), err);
	return rc;
}

// Takes the receiver's answers for the oldest staged batch and has sent what differs. The batch before it is all out then: while this one is
// packed, the next is read.
static int deliver(struct passage *p, struct err *err)
{
	struct lane *lane = lane_of(p, p->answered);
	int rc = sender_ready(p->ship->sender, err);
	if (rc == 0)
		rc = answers_take(p, lane, err);
	if (rc == 0)
		rc = lane_send(p, lane, err);
	if (rc)
		return rc;
	atomic_store_explicit(&p->progress->durable_blocks, channel_acked(p->channel)->blocks, memory_order_relaxed);
	lane->end = sender_number(p->ship->sender);
	p->answered++;
	progress_add(p->progress, (uint64_t)lane->batch.count * BLOCK_SIZE, sender_now_ns(p->ship->sender));
	return 0;
}

// The oldest answered batch is out: its lane is free.
static int finish(struct passage *p, struct err *err)
{
	int rc = sender_until(p->ship->sender, lane_of(p, p->sent)->end, err);
	p->sent += rc == 0;
	if (rc == 0)
		ship_step(p->ship);
	return rc;
}

static int passage_run(struct passage *p, struct err *err)
{
	int rc = 0;
	while (rc == 0) {
		while (!p->exhausted && p->fetched < p->sent + SHIP_BATCHES && rc == 0) {
			rc = source_fetch(p->source, &lane_of(p, p->fetched)->batch);
			p->source_failed = rc != 0;
			if (rc)
				return err_sys(err, rc, "read the disks");
			p->fetched++;
		}
		if (p->staged < p->fetched && p->staged < p->answered + SHIP_ASKED_MAX)
			rc = stage(p, err);
		else if (p->sent + 1 < p->answered || (p->sent < p->answered && p->staged == p->answered))
			rc = finish(p, err);
		else if (p->answered < p->staged)
			rc = deliver(p, err);
		else
			break;
	}
	return rc ? rc : flush(p, err);
}

int ship_set(struct ship *ship, struct source *source, struct channel *channel, enum codec codec,
	     const struct digest_key *key, struct ship_stats *stats, struct ship_progress *progress,
	     struct wire_failure *ret_failure, struct err *err)
{
	struct passage p = {
		.ship = ship,
		.source = source,
		.channel = channel,
		.codec = codec,
		.key = key,
		.stats = stats,
		.progress = progress,
		.failure = ret_failure,
	};
	struct sender_stats sent = {0};
	ret_failure->code = 0;
	sender_begin(ship->sender, source, channel, codec, key, &sent);
	int rc = passage_run(&p, err);
	sender_end(ship->sender);
	stats->sent_blocks += sent.blocks;
	stats->zero_blocks += sent.zero_blocks;
	stats->plain_blocks += sent.plain_blocks;
	stats->apart_blocks += sent.apart_blocks;
	stats->kept_pieces += sent.kept_pieces;
	if (rc)
		known_forget(sender_known(ship->sender)); // what of it arrived is not known
	uint64_t under_way = p.staged;
	while (under_way < p.fetched) // after a failure: none may stay under way
		(void)source_wait(source, &lane_of(&p, under_way++)->batch, NULL);
	struct err broken;
	int lost = p.source_failed ? drain(&p, &broken) : 0;
	return lost ? err_set(err, lost, "%s", broken.text) : rc;
}
