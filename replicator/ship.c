// SPDX-License-Identifier: Apache-2.0
#include "replicator/ship.h"

#include "base/auto.h"
#include "base/bytes.h"

#include <errno.h>

struct lane { // one batch on its way
	struct source_batch batch;
	struct digest digest[SOURCE_BATCH_MAX];
};

struct ship {
	struct lane lane[SHIP_BATCHES];
	struct codec_context *codec;
	unsigned char *pieces; // a block's dirty pieces, one behind the other
	unsigned char *packed;
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
	uint64_t fetched, staged, sent; // batches, counted from the start; sent <= staged <= fetched
	bool exhausted;			// a batch came back empty
	bool source_failed;		// and not the connection: the answers that are due still come
};

int ship_new(struct ship **ret_ship)
{
	struct ship *ship = calloc(1, sizeof(*ship));
	if (!ship)
		return -ENOMEM;
	ship->codec = codec_new();
	ship->pieces = malloc(BLOCK_SIZE);
	ship->packed = malloc(BLOCK_SIZE);
	int rc = ship->codec && ship->pieces && ship->packed ? 0 : -ENOMEM;
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
	codec_free(ship->codec);
	free(ship->pieces);
	free(ship->packed);
	free(ship);
}

static struct lane *lane_of(struct passage *p, uint64_t number)
{
	return &p->ship->lane[number % SHIP_BATCHES];
}

// The end of the run that starts at block `i` of the batch: neighbours on one disk.
static unsigned run_end(const struct source_batch *batch, unsigned i)
{
	unsigned end = i + 1;
	while (end < batch->count && batch->block[end].disk == batch->block[i].disk &&
	       batch->block[end].index == batch->block[end - 1].index + 1)
		end++;
	return end;
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

// Waits for the next batch that was fetched, digests it and asks the receiver about it.
static int stage(struct passage *p, struct err *err)
{
	struct lane *lane = lane_of(p, p->staged);
	struct source_batch *batch = &lane->batch;
	p->staged++;
	int rc = source_wait(p->source, batch, err);
	if (rc) {
		p->source_failed = true;
		batch->count = 0; // nothing was asked about it
		return rc;
	}
	if (batch->count == 0)
		p->exhausted = true;
	p->stats->read_bytes += (uint64_t)batch->count * BLOCK_SIZE;
	for (unsigned i = 0; i < batch->count; i++)
		lane->digest[i] = digest_of(p->key, batch->block[i].disk, batch->block[i].index, batch->block[i].data);
	for (unsigned i = 0, end; i < batch->count && rc == 0; i = end) {
		end = run_end(batch, i);
		rc = put_compare(p, lane, i, end, err);
	}
	return rc ? rc : channel_flush(p->channel, err);
}

// Every piece that lies on the disk is dirty: the block travels whole, so that it can be stored as it comes.
static bool whole(const struct passage *p, const struct source_block *block)
{
	uint32_t bytes = size_of_block(p->source->disk_size[block->disk], block->index);
	uint32_t pieces = (bytes + PIECE_SIZE - 1) / PIECE_SIZE;
	uint16_t on_disk = (uint16_t)((1u << pieces) - 1);
	return (block->mask & on_disk) == on_disk;
}

static int put_block(struct passage *p, const struct source_block *block, const struct digest *digest, struct err *err)
{
	struct wire_block m = {.disk = block->disk, .index = block->index, .digest = *digest, .mask = MASK_FULL};
	const unsigned char *data = block->data;
	size_t len = BLOCK_SIZE;
	if (!whole(p, block)) {
		m.mask = block->mask;
		data = p->ship->pieces;
		len = 0;
		for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
			if (block->mask >> i & 1) {
				memcpy(p->ship->pieces + len, block->data + (size_t)i * PIECE_SIZE, PIECE_SIZE);
				len += PIECE_SIZE;
			}
	}
	// What shrinks by less than a sixteenth is not worth the unpacking.
	size_t packed = codec_pack(p->ship->codec, p->codec, data, len, p->ship->packed, len - len / 16);
	m.codec = packed ? p->codec : CODEC_NONE;
	m.payload = packed ? p->ship->packed : data;
	m.len = (uint32_t)(packed ? packed : len);
	void *to = channel_room(p->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(p->channel, wire_put_block(to, WIRE_FRAME_MAX, &m)))
		return put_failed(p, err);
	p->stats->sent_blocks++;
	return 0;
}

static int put_zeros(struct passage *p, uint16_t disk, uint64_t first, uint64_t count, struct err *err)
{
	struct wire_zeros m = {.disk = disk, .first = first, .count = count};
	void *to = channel_room(p->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(p->channel, wire_put_zeros(to, WIRE_FRAME_MAX, &m)))
		return put_failed(p, err);
	p->stats->zero_blocks += count;
	return 0;
}

// Sends what the receiver named of blocks [i, end) of the lane, a run of neighbours.
static int put_run(struct passage *p, struct lane *lane, unsigned i, unsigned end, const unsigned char *bitmap,
		   struct err *err)
{
	unsigned first = i;
	int rc = 0;
	while (i < end && rc == 0) {
		const struct source_block *block = &lane->batch.block[i];
		unsigned bit = i - first;
		if (!(bitmap[bit / 8] >> bit % 8 & 1)) {
			p->stats->equal_blocks++;
			i++;
			continue;
		}
		if (!digest_is_zero(&lane->digest[i])) {
			rc = put_block(p, block, &lane->digest[i], err);
			i++;
			continue;
		}
		unsigned zeros = 0;
		while (i + zeros < end && digest_is_zero(&lane->digest[i + zeros]) &&
		       (bitmap[(bit + zeros) / 8] >> (bit + zeros) % 8 & 1))
			zeros++;
		rc = put_zeros(p, block->disk, block->index, zeros, err);
		i += zeros;
	}
	return rc;
}

// Takes the answer for blocks [i, end) of the lane; its bitmap lies within the frame.
static int answer_take(struct passage *p, const struct lane *lane, unsigned i, unsigned end, struct wire_differs *ret_differs,
		       struct err *err)
{
	const struct source_block *block = &lane->batch.block[i];
	struct wire_frame frame;
	int rc = channel_expect(p->channel, WIRE_DIFFERS, CHANNEL_STALL_MS, &frame, p->failure, err);
	if (rc)
		return rc;
	if (wire_get_differs(&frame, ret_differs) || ret_differs->disk != block->disk || ret_differs->first != block->index ||
	    ret_differs->count != end - i)
		return err_set(err, -EBADMSG, "DIFFERS does not answer what was asked");
	return 0;
}

// After the source failed: takes the answers that are due, or the next passage would take them for its own.
static int drain(struct passage *p, struct err *err)
{
	int rc = channel_flush(p->channel, err);
	for (; rc == 0 && p->sent < p->staged; p->sent++) {
		const struct lane *lane = lane_of(p, p->sent);
		struct wire_differs differs;
		for (unsigned i = 0, end; i < lane->batch.count && rc == 0; i = end) {
			end = run_end(&lane->batch, i);
			rc = answer_take(p, lane, i, end, &differs, err);
		}
	}
	return rc;
}

// Takes the receiver's answers for the oldest staged batch and sends what differs.
static int deliver(struct passage *p, struct err *err)
{
	struct lane *lane = lane_of(p, p->sent);
	struct source_batch *batch = &lane->batch;
	int rc = 0;
	for (unsigned i = 0, end; i < batch->count && rc == 0; i = end) {
		end = run_end(batch, i);
		struct wire_differs differs;
		rc = answer_take(p, lane, i, end, &differs, err);
		if (rc)
			return rc;
		atomic_store_explicit(&p->progress->durable_blocks, channel_acked(p->channel)->blocks, memory_order_relaxed);
		rc = put_run(p, lane, i, end, differs.bitmap, err);
		atomic_fetch_add_explicit(&p->progress->done_bytes, (uint64_t)(end - i) * BLOCK_SIZE, memory_order_relaxed);
	}
	p->sent++;
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
		if (p->staged < p->fetched && p->staged < p->sent + SHIP_BATCHES - 1)
			rc = stage(p, err);
		else if (p->sent < p->staged)
			rc = deliver(p, err);
		else if (p->staged < p->fetched)
			rc = stage(p, err);
		else
			break;
	}
	return rc ? rc : channel_flush(p->channel, err);
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
	ret_failure->code = 0;
	int rc = passage_run(&p, err);
	uint64_t under_way = p.staged;
	while (under_way < p.fetched) // after a failure: none may stay under way
		(void)source_wait(source, &lane_of(&p, under_way++)->batch, NULL);
	struct err broken;
	int lost = p.source_failed ? drain(&p, &broken) : 0;
	return lost ? err_set(err, lost, "%s", broken.text) : rc;
}
