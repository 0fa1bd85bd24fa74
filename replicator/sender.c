// SPDX-License-Identifier: Apache-2.0
#include "replicator/sender.h"

#include "replicator/pack.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct sender {
	struct env *env;
	struct pack *pack;
	struct known *known;
	struct worth pieces, question;
	bool adapt;
	void (*turn)(void *context, uint64_t now_ns);
	void *context;
	struct stage_clock *clock;
	struct tune tune;
	struct tune_sample sample; // the one that grows
	uint64_t began_ns;	   // of the pass, or since the last sample
	_Atomic int level;
	_Atomic int limit;
	_Atomic uint64_t known_entries;

	struct source *source; // of the pass
	struct channel *channel;
	struct sender_stats *stats;
	struct pack_choice choice;
	uint64_t added, put, sent_ns;
};

int sender_new(const struct sender_config *config, struct sender **ret_sender)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	if (!sender)
		return -ENOMEM;
	sender->env = config->env;
	sender->adapt = config->adapt;
	sender->turn = config->turn;
	sender->context = config->context;
	sender->clock = config->clock;
	tune_init(&sender->tune);
	sender->level = config->adapt ? tune_level(&sender->tune) : CODEC_LEVEL;
	int rc = pack_new(config->crew, &sender->pack);
	if (rc == 0)
		rc = known_new(config->known_bytes, &sender->known);
	if (rc) {
		sender_free(sender);
		return rc;
	}
	*ret_sender = sender;
	return 0;
}

void sender_free(struct sender *sender)
{
	if (!sender)
		return;
	pack_free(sender->pack);
	known_free(sender->known);
	free(sender);
}

struct known *sender_known(struct sender *sender)
{
	return sender->known;
}

struct pack *sender_pack(struct sender *sender)
{
	return sender->pack;
}

struct worth *sender_pieces(struct sender *sender)
{
	return &sender->pieces;
}

struct worth *sender_question(struct sender *sender)
{
	return &sender->question;
}

void sender_view(const struct sender *sender, struct sender_view *ret_view)
{
	ret_view->level = atomic_load_explicit(&sender->level, memory_order_relaxed);
	ret_view->limit = (enum tune_limit)atomic_load_explicit(&sender->limit, memory_order_relaxed);
	ret_view->known_entries = atomic_load_explicit(&sender->known_entries, memory_order_relaxed);
}

void sender_begin(struct sender *sender, struct source *source, struct channel *channel, enum codec codec,
		  const struct digest_key *key, struct sender_stats *stats)
{
	sender->source = source;
	sender->channel = channel;
	sender->stats = stats;
	sender->choice = (struct pack_choice){.codec = codec, .level = sender->level, .key = key};
	sender->added = sender->put = 0;
	sender->began_ns = env_mono_ns(sender->env);
}

// Time passes into the sample that grows; a full one is taken.
static void measure(struct sender *sender)
{
	uint64_t now_ns = env_mono_ns(sender->env);
	sender->sample.wall_ns += now_ns - sender->began_ns;
	if (sender->turn)
		sender->turn(sender->context, now_ns);
	sender->began_ns = now_ns;
	if (!tune_sample_full(&sender->sample))
		return;
	tune_take(&sender->tune, &sender->sample);
	sender->sample = (struct tune_sample){.plain_bytes = 0};
	atomic_store_explicit(&sender->limit, (int)sender->tune.limit, memory_order_relaxed);
	if (!sender->adapt)
		return;
	sender->choice.level = tune_level(&sender->tune);
	atomic_store_explicit(&sender->level, sender->choice.level, memory_order_relaxed);
}

static int put_failed(struct sender *sender, struct err *err)
{
	int rc = channel_flush(sender->channel, err); // says what the connection died of
	return rc ? rc : err_set(err, -EMSGSIZE, "a message does not fit into its frame");
}

// The oldest: waited for, and put. It is copied once, into the buffer that leaves in records as large as TLS has them.
static int put_oldest(struct sender *sender, struct err *err)
{
	uint64_t begin_ns = env_mono_ns(sender->env);
	const struct pack_result *result = pack_take(sender->pack);
	const struct wire_block *m = &result->block;
	uint64_t packed_ns = env_mono_ns(sender->env);
	enum rpo_stage was = sender_stage(sender, RPO_STAGE_NETWORK);
	void *to = channel_room(sender->channel, WIRE_FRAME_MAX); // leaves when enough has come together
	(void)sender_stage(sender, was);
	if (!to || channel_put(sender->channel, wire_put_block(to, WIRE_FRAME_MAX, m)))
		return put_failed(sender, err);
	known_set(sender->known, m->disk, m->index, &m->digest);
	sender->stats->blocks++;
	sender->stats->plain_blocks += m->codec == CODEC_NONE;
	sender->stats->apart_blocks += result->kept > 0;
	sender->stats->kept_pieces += result->kept;
	if (result->asked)
		worth_asked(&sender->pieces, &worth_pieces, result->kept);
	sender->put++;
	sender->sample.plain_bytes += result->plain_len;
	sender->sample.wire_bytes += m->len;
	sender->sample.pack_ns += packed_ns - begin_ns;
	uint64_t send_ns = env_mono_ns(sender->env) - packed_ns;
	sender->sample.send_ns += send_ns;
	sender->sent_ns += send_ns;
	pack_release(sender->pack);
	measure(sender);
	return 0;
}

// Every piece that lies on the disk is dirty: the block travels whole, so that it can be stored as it comes.
static bool whole(const struct source *source, const struct source_block *block)
{
	uint32_t bytes = size_of_block(source->disk_size[block->disk], block->index);
	uint32_t pieces = (bytes + PIECE_SIZE - 1) / PIECE_SIZE;
	uint16_t on_disk = (uint16_t)((1u << pieces) - 1);
	return (block->mask & on_disk) == on_disk;
}

int sender_block(struct sender *sender, const struct source_block *block, const struct digest *digest, const struct digest *theirs,
		 struct err *err)
{
	int rc = pack_full(sender->pack) ? put_oldest(sender, err) : 0;
	if (rc)
		return rc;
	struct pack_choice choice = sender->choice;
	choice.theirs = theirs;
	pack_add(sender->pack, block, whole(sender->source, block), digest, &choice);
	sender->added++;
	return 0;
}

int sender_zeros(struct sender *sender, uint16_t disk, uint64_t first, uint64_t count, struct err *err)
{
	static const struct digest zero;
	struct wire_zeros m = {.disk = disk, .first = first, .count = count};
	void *to = channel_room(sender->channel, WIRE_FRAME_MAX);
	if (!to || channel_put(sender->channel, wire_put_zeros(to, WIRE_FRAME_MAX, &m)))
		return put_failed(sender, err);
	for (uint64_t i = 0; i < count; i++)
		known_set(sender->known, disk, first + i, &zero);
	sender->stats->zero_blocks += count;
	return 0;
}

uint64_t sender_number(const struct sender *sender)
{
	return sender->added;
}

int sender_until(struct sender *sender, uint64_t number, struct err *err)
{
	int rc = 0;
	while (rc == 0 && sender->put < number)
		rc = put_oldest(sender, err);
	return rc;
}

int sender_ready(struct sender *sender, struct err *err)
{
	int rc = 0;
	while (rc == 0 && pack_ready(sender->pack))
		rc = put_oldest(sender, err);
	return rc;
}

uint64_t sender_sent_ns(const struct sender *sender)
{
	return sender->sent_ns;
}

uint64_t sender_now_ns(const struct sender *sender)
{
	return env_mono_ns(sender->env);
}

enum rpo_stage sender_stage(const struct sender *sender, enum rpo_stage stage)
{
	return sender->clock ? stage_clock_enter(sender->clock, stage, env_mono_ns(sender->env)) : stage;
}

void sender_end(struct sender *sender)
{
	pack_drop(sender->pack);
	atomic_store_explicit(&sender->known_entries, known_count(sender->known), memory_order_relaxed);
}
