// SPDX-License-Identifier: Apache-2.0
// A survey of the set (compare.h): reading, digesting and asking overlap, and answers are taken in the order of the questions.
//
//	span	up to 256 neighbouring blocks and their digests; a node of level 1
//	group	neighbouring spans that are asked about at once, by one node of level 2: as long as everything is equal
//
//	question about	equal			unequal
//	group		its spans are settled	a question about its spans
//	spans		settled			a question about the span's blocks
//	blocks		settled			they stay in the set
//
// S1: a block is settled only when an answer said that the head holds the digest that was made of it after the cut.
#include "replicator/compare.h"

#include "replicator/look.h"
#include "replicator/pack.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { GROUP_ROW = 256 }; // spans that were equal one behind the other, before groups of that many are asked about

struct span {
	struct span *next;
	uint16_t disk;
	unsigned count;
	uint64_t first;
	struct digest digest[DIGEST_FAN];
};

struct spans { // in order
	struct span *head, *tail;
	unsigned count;
};

struct question {
	unsigned level; // 0: about the blocks of one span
	struct spans spans;
};

struct survey {
	const struct compare *c;
	struct wire_failure *failure;
	struct look lane[SURVEY_LANES];
	uint64_t fetched, begun, taken; // batches, counted from the start: asked for, being read, done with
	bool exhausted, source_failed;
	struct span *open;   // being filled
	struct spans group;  // being gathered
	struct spans blocks; // whose blocks must be asked about, when there is room for a question
	struct question question[SURVEY_QUESTIONS_MAX];
	uint64_t asked, answered;
	uint64_t window, out; // blocks that may be, and are, without an answer
	unsigned equal_row;
	uint64_t looked, unequal;
};

static void spans_add(struct spans *spans, struct span *span)
{
	span->next = NULL;
	assert(!spans->head || spans->tail);
	if (spans->head)
		spans->tail->next = span;
	else
		spans->head = span;
	spans->tail = span;
	spans->count++;
}

static struct span *spans_take(struct spans *spans)
{
	struct span *span = spans->head;
	if (span) {
		spans->head = span->next;
		spans->count--;
	}
	return span;
}

static void spans_drop(struct spans *spans)
{
	for (struct span *span; (span = spans_take(spans));)
		free(span);
}

static uint64_t spans_blocks(const struct spans *spans)
{
	return spans->tail->first + spans->tail->count - spans->head->first;
}

// ---- questions

static int put(struct survey *s, size_t len, struct err *err)
{
	if (channel_put(s->c->channel, len) == 0)
		return 0;
	int rc = channel_flush(s->c->channel, err); // says what the connection died of
	return rc ? rc : err_set(err, -EMSGSIZE, "a message does not fit into its frame");
}

static int ask_blocks(struct survey *s, const struct span *span, struct err *err)
{
	struct wire_compare m = {
		.disk = span->disk, .count = span->count, .first = span->first, .digests = span->digest[0].bytes};
	return put(s, wire_put_compare(channel_room(s->c->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &m), err);
}

static int ask_nodes(struct survey *s, unsigned level, const struct spans *spans, struct err *err)
{
	struct digest node[DIGEST_FAN];
	unsigned count = 0;
	assert(spans->head);
	for (const struct span *span = spans->head; span; span = span->next)
		node[count++] = digest_node(s->c->key, 1, span->digest, span->count);
	if (level == 2) {
		node[0] = digest_node(s->c->key, 2, node, count);
		count = 1;
	}
	struct wire_nodes m = {.disk = spans->head->disk,
			       .level = (uint8_t)level,
			       .count = (uint16_t)count,
			       .first = spans->head->first,
			       .blocks = spans_blocks(spans),
			       .digests = node[0].bytes};
	return put(s, wire_put_nodes(channel_room(s->c->channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &m), err);
}

// The spans are the question's from here on.
static int ask(struct survey *s, unsigned level, struct spans *spans, struct err *err)
{
	assert(s->asked - s->answered < SURVEY_QUESTIONS_MAX);
	struct question *q = &s->question[s->asked++ % SURVEY_QUESTIONS_MAX];
	*q = (struct question){.level = level, .spans = *spans};
	*spans = (struct spans){.count = 0};
	return level ? ask_nodes(s, level, &q->spans, err) : ask_blocks(s, q->spans.head, err);
}

static int ask_group(struct survey *s, struct err *err)
{
	return s->group.count ? ask(s, s->group.count > 1 ? 2 : 1, &s->group, err) : 0;
}

// A batch may need a question for each block, and one for what was gathered before.
static bool room_for_batch(const struct survey *s, unsigned more)
{
	return s->asked - s->answered + SOURCE_BATCH_MAX + 2 + more <= SURVEY_QUESTIONS_MAX;
}

static int ask_about_blocks(struct survey *s, struct err *err)
{
	int rc = 0;
	while (rc == 0 && s->blocks.count && room_for_batch(s, 1)) {
		struct spans one = {.count = 0};
		spans_add(&one, spans_take(&s->blocks));
		rc = ask(s, 0, &one, err);
	}
	return rc;
}

// ---- from batches to questions

static bool follows(const struct span *before, uint16_t disk, uint64_t first)
{
	return before->disk == disk && before->first + before->count == first;
}

static int span_close(struct survey *s, struct err *err)
{
	struct span *span = s->open;
	int rc = 0;
	if (!span)
		return 0;
	s->open = NULL;
	const struct span *tail = s->group.count ? s->group.tail : NULL;
	if (tail && (tail->count < DIGEST_FAN || !follows(tail, span->disk, span->first)))
		rc = ask_group(s, err);
	spans_add(&s->group, span);
	if (rc == 0 && s->group.count >= (s->equal_row >= GROUP_ROW ? DIGEST_FAN : 1u))
		rc = ask_group(s, err);
	return rc;
}

static int add_block(struct survey *s, const struct source_block *block, const struct digest *digest, struct err *err)
{
	int rc = 0;
	if (s->open && (s->open->count == DIGEST_FAN || !follows(s->open, block->disk, block->index)))
		rc = span_close(s, err);
	if (rc)
		return rc;
	if (!s->open) {
		s->open = malloc(sizeof(*s->open));
		if (!s->open)
			return err_set(err, -ENOMEM, "out of memory for digests");
		s->open->disk = block->disk;
		s->open->first = block->index;
		s->open->count = 0;
	}
	s->open->digest[s->open->count++] = *digest;
	s->out++;
	return 0;
}

static struct look *lane_of(struct survey *s, uint64_t number)
{
	return &s->lane[number % SURVEY_LANES];
}

static struct pack *pack_of(const struct survey *s)
{
	return sender_pack(ship_sender(s->c->ship));
}

// Has read what was chosen.
static int begin_batch(struct survey *s, struct err *err)
{
	struct look *look = lane_of(s, s->begun++);
	enum rpo_stage was = sender_stage(ship_sender(s->c->ship), RPO_STAGE_READ);
	int rc = source_wait(s->c->source, &look->batch, err);
	(void)sender_stage(ship_sender(s->c->ship), was);
	s->source_failed = rc != 0;
	if (rc)
		look->batch.count = 0;
	else if (look->batch.count == 0)
		s->exhausted = true;
	look_start(look, pack_crew(pack_of(s)), s->c->key, s->c->source);
	return rc;
}

static int take_batch(struct survey *s, struct err *err)
{
	struct look *look = lane_of(s, s->taken++);
	struct source_batch *batch = &look->batch;
	const struct source_block *failed = NULL;
	enum rpo_stage was = sender_stage(ship_sender(s->c->ship), RPO_STAGE_READ);
	int rc = look_wait(look, pack_crew(pack_of(s)), pack_kit(pack_of(s)), &failed);
	(void)sender_stage(ship_sender(s->c->ship), was);
	s->source_failed = rc != 0;
	if (rc)
		return source_unreadable(s->c->source, failed->disk, failed->index, rc, err);
	s->looked += batch->count;
	s->c->stats->read_bytes += (uint64_t)batch->count * BLOCK_SIZE;
	for (unsigned i = 0; i < batch->count && rc == 0; i++)
		rc = add_block(s, &batch->block[i], &look->digest[i], err);
	if (rc == 0)
		rc = channel_flush(s->c->channel, err);
	if (rc == 0)
		ship_step(s->c->ship);
	return rc;
}

// ---- answers

static void settled(struct survey *s, uint64_t equal, uint64_t unequal)
{
	s->out -= equal + unequal;
	s->unequal += unequal;
	s->c->stats->equal_blocks += equal;
	progress_add(s->c->progress, equal * BLOCK_SIZE, sender_now_ns(ship_sender(s->c->ship)));
}

static void found_equal(struct survey *s, struct spans *spans)
{
	uint64_t blocks = spans_blocks(spans);
	source_settle(s->c->source, spans->head->disk, spans->head->first, blocks, NULL);
	settled(s, blocks, 0);
	s->equal_row += s->equal_row < GROUP_ROW ? spans->count : 0;
	s->window = min_u64(s->window + blocks, SURVEY_WINDOW_MAX);
	spans_drop(spans);
}

static void found_unequal(struct survey *s)
{
	s->equal_row = 0;
	s->window = max_u64(s->window / 2, SURVEY_WINDOW_MIN);
}

static int not_an_answer(struct err *err, const char *what)
{
	return err_set(err, -EBADMSG, "%s does not answer what was asked", what);
}

static int on_blocks(struct survey *s, struct question *q, const struct wire_frame *frame, struct err *err)
{
	struct span *span = q->spans.head;
	struct wire_differs m;
	unsigned unequal = 0;
	if (wire_get_differs(frame, &m) || m.disk != span->disk || m.first != span->first || m.count != span->count)
		return not_an_answer(err, "DIFFERS");
	for (unsigned i = 0; i < m.count; i++)
		unequal += m.bitmap[i / 8] >> i % 8 & 1;
	source_settle(s->c->source, span->disk, span->first, span->count, m.bitmap);
	settled(s, m.count - unequal, unequal);
	return 0;
}

static int on_nodes(struct survey *s, struct question *q, const struct wire_frame *frame, struct err *err)
{
	struct wire_unequal m;
	unsigned count = q->level == 2 ? 1 : q->spans.count;
	if (wire_get_unequal(frame, &m) || m.disk != q->spans.head->disk || m.first != q->spans.head->first || m.level != q->level ||
	    m.count != count)
		return not_an_answer(err, "UNEQUAL");
	if (q->level == 2 && m.bitmap[0] & 1) {
		found_unequal(s);
		return ask(s, 1, &q->spans, err); // there is room: its own question was answered
	}
	if (q->level == 2) {
		found_equal(s, &q->spans);
		return 0;
	}
	for (unsigned i = 0; i < count; i++) {
		struct spans one = {.count = 0};
		spans_add(&one, spans_take(&q->spans));
		if (!(m.bitmap[i / 8] >> i % 8 & 1)) {
			found_equal(s, &one);
			continue;
		}
		found_unequal(s);
		spans_add(&s->blocks, one.head);
	}
	return 0;
}

static int take_answer(struct survey *s, struct err *err)
{
	struct question q = s->question[s->answered % SURVEY_QUESTIONS_MAX];
	struct wire_frame frame;
	enum rpo_stage was = sender_stage(ship_sender(s->c->ship), RPO_STAGE_NETWORK);
	int rc = ship_expect(s->c->ship, s->c->channel, q.level ? WIRE_UNEQUAL : WIRE_DIFFERS, &frame, s->failure, err);
	(void)sender_stage(ship_sender(s->c->ship), was);
	if (rc)
		return rc;
	s->answered++;
	if (s->source_failed) // the answers that are due are taken, or the next passage would take them for its own
		rc = 0;
	else
		rc = q.level ? on_nodes(s, &q, &frame, err) : on_blocks(s, &q, &frame, err);
	spans_drop(&q.spans);
	return rc;
}

// ---- the survey

static bool enough(const struct survey *s)
{
	return s->exhausted || s->unequal >= SURVEY_UNEQUAL_MAX || (s->looked >= SURVEY_WINDOW_MIN && s->unequal > s->looked / 2);
}

static int look_ahead(struct survey *s, struct err *err)
{
	while (!enough(s) && s->fetched < s->taken + SURVEY_LANES && s->asked - s->answered < SURVEY_QUESTIONS_MAX / 2 &&
	       s->out + (s->fetched - s->taken) * SOURCE_BATCH_MAX < s->window) {
		int rc = source_look(s->c->source, &lane_of(s, s->fetched)->batch);
		s->source_failed = rc != 0;
		if (rc)
			return err_sys(err, rc, "read the disks");
		s->fetched++;
	}
	return 0;
}

// The next thing to do; *ret_done when there is none.
static int step(struct survey *s, bool *ret_done, struct err *err)
{
	int rc = look_ahead(s, err);
	while (rc == 0 && s->begun < s->fetched && s->begun < s->taken + SURVEY_READS)
		rc = begin_batch(s, err);
	if (rc == 0)
		rc = ask_about_blocks(s, err);
	if (rc)
		return rc;
	bool answers = s->asked != s->answered;
	if (s->taken < s->begun && room_for_batch(s, 0) && !(answers && channel_ready(s->c->channel)))
		return take_batch(s, err);
	if (!answers) {
		rc = span_close(s, err);
		if (rc == 0)
			rc = ask_group(s, err);
	}
	if (rc == 0)
		rc = channel_flush(s->c->channel, err);
	if (rc || s->asked == s->answered) {
		*ret_done = rc == 0;
		return rc;
	}
	return take_answer(s, err);
}

static void survey_end(struct survey *s)
{
	const struct source_block *failed;
	for (; s->taken < s->begun; s->taken++) // after a failure: none may stay under way
		(void)look_wait(lane_of(s, s->taken), pack_crew(pack_of(s)), pack_kit(pack_of(s)), &failed);
	for (; s->begun < s->fetched; s->begun++)
		(void)source_wait(s->c->source, &lane_of(s, s->begun)->batch, NULL);
	for (; s->answered < s->asked; s->answered++)
		spans_drop(&s->question[s->answered % SURVEY_QUESTIONS_MAX].spans);
	spans_drop(&s->group);
	spans_drop(&s->blocks);
	free(s->open);
	free(s);
}

int survey_run(const struct compare *compare, bool *ret_all, uint64_t *ret_looked, uint64_t *ret_unequal,
	       struct wire_failure *ret_failure, struct err *err)
{
	struct survey *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory for a survey");
	s->c = compare;
	s->failure = ret_failure;
	s->window = SURVEY_WINDOW_MIN;
	bool done = false;
	int rc = 0;
	while (rc == 0 && !done)
		rc = step(s, &done, err);
	struct err broken;
	int lost = s->source_failed ? channel_flush(compare->channel, &broken) : 0;
	while (s->source_failed && lost == 0 && s->answered < s->asked)
		lost = take_answer(s, &broken);
	*ret_all = s->exhausted;
	*ret_looked = s->looked;
	*ret_unequal = s->unequal;
	survey_end(s);
	return lost ? err_set(err, lost, "%s", broken.text) : rc;
}
