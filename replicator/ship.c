// SPDX-License-Identifier: Apache-2.0
#include "replicator/ship.h"

#include "replicator/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum verdict { ASKED, EQUAL, DIFFERENT }; // on a block; of those that were asked about, once the answer is there

struct lane { // one batch on its way
	struct source_batch batch;
	struct digest digest[SOURCE_BATCH_MAX];
	unsigned char verdict[SOURCE_BATCH_MAX];
	uint64_t end; // the sender's number behind its blocks
};

struct ship {
	struct lane lane[SHIP_BATCHES];
	struct sender *sender;
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

static struct lane *lane_of(struct passage *p, uint64_t number)
{
	return &p->ship->lane[number % SHIP_BATCHES];
}

// The next run of the lane that the receiver is asked about, from block `i` on: neighbours on one disk. False: there is none.
static bool run_next(const struct lane *lane, unsigned i, unsigned *ret_first, unsigned *ret_end)
{
	const struct source_batch *batch = &lane->batch;
	while (i < batch->count && lane->verdict[i] != ASKED)
		i++;
	unsigned end = i + 1;
	while (end < batch->count && lane->verdict[end] == ASKED && batch->block[end].disk == batch->block[i].disk &&
	       batch->block[end].index == batch->block[end - 1].index + 1)
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

// What is known already of the lane's blocks needs no question.
static void judge(struct passage *p, struct lane *lane)
{
	const struct known *known = sender_known(p->ship->sender);
	for (unsigned i = 0; i < lane->batch.count; i++) {
		const struct digest *theirs = known_find(known, lane->batch.block[i].disk, lane->batch.block[i].index);
		lane->verdict[i] = !theirs ? ASKED : digest_equal(theirs, &lane->digest[i]) ? EQUAL : DIFFERENT;
		p->stats->known_blocks += lane->verdict[i] == EQUAL;
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
	for (unsigned first, end = 0; rc == 0 && run_next(lane, end, &first, &end);)
		rc = put_compare(p, lane, first, end, err);
	return rc ? rc : flush(p, err);
}

// Takes the answer for blocks [first, end) of the lane.
static int answer_take(struct passage *p, struct lane *lane, unsigned first, unsigned end, struct err *err)
{
	const struct source_block *block = &lane->batch.block[first];
	struct wire_frame frame;
	struct wire_differs differs;
	enum rpo_stage was = sender_stage(p->ship->sender, RPO_STAGE_NETWORK);
	int rc = channel_expect(p->channel, WIRE_DIFFERS, CHANNEL_STALL_MS, &frame, p->failure, err);
	(void)sender_stage(p->ship->sender, was);
	if (rc)
		return rc;
	if (wire_get_differs(&frame, &differs) || differs.disk != block->disk || differs.first != block->index ||
	    differs.count != end - first)
		return err_set(err, -EBADMSG, "DIFFERS does not answer what was asked");
	struct known *known = sender_known(p->ship->sender);
	for (unsigned i = first; i < end; i++) {
		bool differs_here = differs.bitmap[(i - first) / 8] >> (i - first) % 8 & 1;
		lane->verdict[i] = differs_here ? DIFFERENT : EQUAL;
		if (!differs_here)
			known_set(known, lane->batch.block[i].disk, lane->batch.block[i].index, &lane->digest[i]);
	}
	return 0;
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
			rc = sender_block(sender, block, &lane->digest[i], err);
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
	sender_begin(ship->sender, source, channel, codec, &sent);
	int rc = passage_run(&p, err);
	sender_end(ship->sender);
	stats->sent_blocks += sent.blocks;
	stats->zero_blocks += sent.zero_blocks;
	stats->plain_blocks += sent.plain_blocks;
	if (rc)
		known_forget(sender_known(ship->sender)); // what of it arrived is not known
	uint64_t under_way = p.staged;
	while (under_way < p.fetched) // after a failure: none may stay under way
		(void)source_wait(source, &lane_of(&p, under_way++)->batch, NULL);
	struct err broken;
	int lost = p.source_failed ? drain(&p, &broken) : 0;
	return lost ? err_set(err, lost, "%s", broken.text) : rc;
}
