// SPDX-License-Identifier: Apache-2.0
// The operations of the model; those of the operator: store_model_recovery.c. Those whose name ends in "cut" run with the power going off somewhere within.
#include "tests/lib/store_model_private.h"

#include "base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// How far ahead the power goes off; a cycle takes about 40 operations and more, a fold 30.
enum { CUT_WITHIN = 70, SPACE = 1 << 30 };

// An operation did not succeed: fine when the power went off; then the store is opened again.
void model_unless_off(struct store_model *m, const char *what, const struct err *err)
{
	if (!sim_is_off(m->sim))
		model_wrong(m, "%s: %s", what, err->text);
	model_power_back(m);
}

// --- the source ---

static void change_block(struct store_model *m, unsigned d, uint64_t index)
{
	static const uint16_t masks[] = {MASK_FULL, 0x0001, 0x8000, 0x0ff0, 0x5555, MASK_FULL};
	unsigned char *block = m->live[d] + index * BLOCK_SIZE;
	uint32_t end = size_of_block(m->open.disk[d].size, index);
	uint16_t mask = masks[model_draw(m, 6)];
	unsigned char word = (unsigned char)draw(&m->draws);
	bool noise = model_draw(m, 4) == 0, zero = model_draw(m, 4) == 0;
	for (uint32_t i = 0; i < end; i++)
		if (mask >> i / PIECE_SIZE & 1)
			block[i] = zero ? 0 : noise ? (unsigned char)draw(&m->draws) : (unsigned char)(word + i / 512);
}

static void change_some(struct store_model *m)
{
	for (uint64_t n = model_draw(m, 6); n > 0; n--) {
		unsigned d = (unsigned)model_draw(m, MODEL_DISKS);
		change_block(m, d, model_draw(m, size_blocks(m->open.disk[d].size)));
	}
}

void model_session_end(struct store_model *m)
{
	if (m->session)
		replica_session_end(m->replica);
	m->session = false;
}

// 0 when a session is open, as it should be.
static int session(struct store_model *m, struct err *err)
{
	struct wire_opened opened;
	if (m->session)
		return 0;
	int rc = replica_session_begin(m->replica, &m->open, m->pin, &opened, err);
	if (m->fenced && !sim_is_off(m->sim)) {
		if (rc != -ESTALE)
			model_wrong(m, "a fenced replica answers its old source with %d", rc);
		m->did.refused++;
		return rc;
	}
	if (rc)
		return rc;
	m->session = true;
	const struct model_point *last = model_last(m);
	if (opened.last_point != (last ? last->number : 0) || (last && !uuid_equal(&opened.last_cut, &last->cut)))
		model_wrong(m, "OPENED names point %llu", (unsigned long long)opened.last_point);
	if (!uuid_equal(&opened.head, &m->head_uuid))
		model_head_anew(m, &opened.head);
	return 0;
}

static int send_block(struct store_model *m, unsigned d, uint64_t index, struct err *err)
{
	static unsigned char plain[BLOCK_SIZE], packed[BLOCK_SIZE];
	static const enum codec codecs[] = {CODEC_ZSTD, CODEC_ZLIB, CODEC_LZ4, CODEC_NONE};
	const unsigned char *new = m->live[d] + index * BLOCK_SIZE, *old = m->head[d] + index * BLOCK_SIZE;
	struct wire_block b = {.disk = (uint16_t)d, .index = index, .digest = digest_of(&m->open.digest, (uint16_t)d, index, new), .payload = plain};
	if (bytes_zero(new, BLOCK_SIZE)) {
		struct wire_zeros zeros = {.disk = (uint16_t)d, .first = index, .count = 1};
		return replica_write_zeros(m->replica, &zeros, err);
	}
	b.mask = model_draw(m, 3) == 0 ? MASK_FULL : (uint16_t)draw(&m->draws); // more than must, at times
	if (b.mask != MASK_FULL)
		b.mask &= (uint16_t)draw(&m->draws);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
		size_t at = (size_t)i * PIECE_SIZE;
		b.mask |= (uint16_t)((memcmp(new + at, old + at, PIECE_SIZE) != 0) << i);
		if (b.mask >> i & 1) {
			memcpy(plain + b.len, new + at, PIECE_SIZE);
			b.len += PIECE_SIZE;
		}
	}
	enum codec codec = codecs[model_draw(m, 4)];
	size_t len = codec_pack(m->codec, codec, plain, b.len, packed, b.len - 1);
	if (len) {
		b.codec = codec;
		b.payload = packed;
		b.len = (uint32_t)len;
	}
	return replica_write_block(m->replica, &b, err);
}

// Compares every block, holds the answer against the model, and sends `most` of what differs.
static int send_changes(struct store_model *m, uint64_t most, struct err *err)
{
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		uint32_t blocks = (uint32_t)size_blocks(m->open.disk[d].size);
		struct digest digests[MODEL_BLOCKS_MAX];
		unsigned char differs[(MODEL_BLOCKS_MAX + 7) / 8] = {0};
		struct wire_compare compare = {.disk = (uint16_t)d, .count = blocks, .digests = (const unsigned char *)digests};
		for (uint32_t b = 0; b < blocks; b++)
			digests[b] = digest_of(&m->open.digest, (uint16_t)d, b, m->live[d] + (size_t)b * BLOCK_SIZE);
		int rc = replica_compare(m->replica, &compare, differs, err);
		for (uint32_t b = 0; rc == 0 && b < blocks; b++) {
			size_t at = (size_t)b * BLOCK_SIZE;
			bool says = differs[b / 8] >> b % 8 & 1, is = memcmp(m->live[d] + at, m->head[d] + at, BLOCK_SIZE) != 0;
			if (says != is)
				model_wrong(m, "block %u of disk %u %s, and DIFFERS says otherwise", b, d, is ? "differs" : "is equal");
			if (!is || most == 0)
				continue;
			most--;
			rc = send_block(m, d, b, err);
			if (rc == 0)
				memcpy(m->head[d] + at, m->live[d] + at, BLOCK_SIZE);
		}
		if (rc)
			return rc;
	}
	return 0;
}

static int seal(struct store_model *m, struct err *err)
{
	const struct model_point *last = model_last(m);
	struct wire_committed committed;
	struct wire_seal seal = {.predecessor = last ? last->number : 0, .head = m->head_uuid, .consistency = POINT_CRASH};
	for (unsigned i = 0; i < UUID_SIZE; i++)
		seal.cut.bytes[i] = (unsigned char)(draw(&m->draws) | 1);
	m->asked.seal = model_snapshot(m, seal.predecessor + 1, &seal.cut);
	int rc = replica_seal(m->replica, &seal, &committed, err);
	if (rc)
		return rc;
	if (committed.number != seal.predecessor + 1 || !uuid_equal(&committed.cut, &seal.cut))
		model_wrong(m, "COMMITTED names point %llu", (unsigned long long)committed.number);
	model_add_point(m, &m->asked.seal);
	memset(&m->asked.seal, 0, sizeof(m->asked.seal));
	model_head_anew(m, &committed.head);
	m->did.cycles++;
	return 0;
}

// --- operations ---

static int try_cycle(struct store_model *m, struct err *err)
{
	change_some(m);
	int rc = m->points < MODEL_POINTS_MAX ? session(m, err) : -EAGAIN;
	if (rc == 0)
		rc = send_changes(m, UINT64_MAX, err);
	return rc ? rc : seal(m, err);
}

static void op_cycle(struct store_model *m)
{
	struct err err = {0};
	int rc = try_cycle(m, &err);
	if (rc && rc != -EAGAIN && !(rc == -ESTALE && m->fenced))
		model_unless_off(m, "cycle", &err);
}

// Part of a cycle, without its end.
static void op_trickle(struct store_model *m)
{
	struct err err = {0};
	change_some(m);
	int rc = session(m, &err);
	if (rc == 0)
		rc = send_changes(m, model_draw(m, 5), &err);
	if (rc && !(rc == -ESTALE && m->fenced))
		model_unless_off(m, "send", &err);
}

static void op_disconnect(struct store_model *m)
{
	model_session_end(m);
}

static bool is_surplus(const struct store_model *m, size_t at, const struct retention *policy)
{
	return at + policy->points < m->points && !m->point[at].pin[0];
}

// How many points go at the next step, and from which on, while nothing was failed over. The oldest, where the policy does not keep it, it is not
// pinned, and nobody holds any; or else the first ones above the newest that is held that are so, into the next one that stays.
static size_t goes(const struct store_model *m, size_t *ret_from)
{
	struct replica_info info;
	size_t from = 0, count = 0;
	replica_info(m->replica, &info); // the policy that came to be durable last
	*ret_from = 0;
	for (size_t i = 0; i < m->points; i++)
		if (m->point[i].holds || model_tests_on(m, m->point[i].number))
			from = i + 1;
	if (m->fenced)
		return 0;
	if (from == 0 && is_surplus(m, 0, &info.retention))
		return 1;
	while (from < m->points && !is_surplus(m, from, &info.retention))
		from++;
	while (from + count < m->points && is_surplus(m, from + count, &info.retention))
		count++;
	*ret_from = count ? from : 0;
	return count;
}

static void op_retain(struct store_model *m)
{
	struct err err = {0};
	size_t from, due = goes(m, &from);
	m->asked.goes = due;
	m->asked.goes_from = from;
	int rc = replica_retain(m->replica, &err);
	if (rc < 0) {
		model_unless_off(m, "retain", &err);
		return;
	}
	m->asked.goes = 0;
	if (rc != (due != 0) && !sim_is_off(m->sim))
		model_wrong(m, "retention %s a point", rc ? "took" : "did not take");
	for (size_t i = 0; rc == 1 && i < due; i++)
		model_drop_point(m, from);
	m->did.folds += rc == 1 && from == 0;
	m->did.merges += rc == 1 && from != 0;
	if (sim_is_off(m->sim)) // while the trash was emptied
		model_power_back(m);
}

static void op_hold(struct store_model *m)
{
	struct err err = {0};
	uint64_t got = 0, n = m->points ? model_draw(m, m->points + 1) : 0;
	uint64_t asked = n < m->points ? m->point[n].number : 0; // 0: the newest
	int rc = replica_hold(m->replica, asked, &got, &err);
	if (m->points == 0) {
		if (rc != -ENOENT)
			model_wrong(m, "a hold of nothing: %d", rc);
		return;
	}
	if (n == m->points)
		n--;
	if (rc || got != m->point[n].number)
		model_wrong(m, "hold %llu: %d, got %llu", (unsigned long long)asked, rc, (unsigned long long)got);
	m->point[n].holds++;
}

static void op_release(struct store_model *m)
{
	size_t from = m->points ? model_draw(m, m->points) : 0;
	for (size_t i = 0; i < m->points; i++) {
		struct model_point *p = &m->point[(from + i) % m->points];
		if (p->holds) {
			replica_release(m->replica, p->number);
			p->holds--;
			return;
		}
	}
}

static void op_policy(struct store_model *m)
{
	const struct retention policy = {.points = 1 + (uint32_t)model_draw(m, 6)};
	struct err err = {0};
	if (replica_set_retention(m->replica, &policy, &err))
		model_unless_off(m, "set the retention", &err);
}

static void op_grow(struct store_model *m)
{
	unsigned d = (unsigned)model_draw(m, MODEL_DISKS);
	uint64_t room = (MODEL_DISK_MAX - m->open.disk[d].size) / SECTOR_SIZE;
	m->open.disk[d].size += model_draw(m, min_u64(room, 200) + 1) * SECTOR_SIZE;
	model_session_end(m);
}

static void op_stranger(struct store_model *m)
{
	unsigned char other[OWNER_PIN_SIZE] = {1};
	struct wire_opened opened;
	struct err err = {0};
	if (replica_session_begin(m->replica, &m->open, other, &opened, &err) != -EPERM)
		model_wrong(m, "another source is let in");
	m->did.refused++;
}

static void op_full_disk(struct store_model *m)
{
	struct err err = {0};
	sim_set_space(m->sim, model_draw(m, 6) * 64 * 1024);
	int rc = try_cycle(m, &err);
	sim_set_space(m->sim, SPACE);
	if (rc && rc != -ENOSPC && rc != -EAGAIN && !(rc == -ESTALE && m->fenced))
		model_wrong(m, "a full disk: %d %s", rc, err.text);
	if (rc != -ENOSPC)
		return;
	for (unsigned d = 0; d < MODEL_DISKS; d++)
		free(m->asked.seal.content[d]);
	memset(&m->asked.seal, 0, sizeof(m->asked.seal));
	model_session_end(m); // the head was dropped: the next OPENED says so
}

static void op_reopen(struct store_model *m)
{
	model_close(m);
	model_open(m);
}

static void op_power_cut(struct store_model *m)
{
	model_power_back(m);
}

static void op_forget(struct store_model *m)
{
	struct err err = {0};
	bool held = m->session;
	if (!m->fenced && model_draw(m, 4))
		return; // rare, unless it is of no use any more
	for (size_t i = 0; i < m->points; i++)
		held |= m->point[i].holds || model_tests_on(m, m->point[i].number);
	m->asked.forget = !held;
	int rc = store_forget(m->store, "vm1", &err);
	if (held) {
		if (rc != -EBUSY)
			model_wrong(m, "forgotten while it is in use: %d", rc);
		m->did.refused++;
	} else if (rc) {
		model_unless_off(m, "forget", &err);
	} else {
		m->asked.forget = false;
		model_forget_points(m);
		model_create(m);
	}
}

static void within_a_cut(struct store_model *m, void (*run)(struct store_model *))
{
	sim_crash_at(m->sim, sim_ops(m->sim) + model_draw(m, CUT_WITHIN));
	run(m);
	sim_crash_at(m->sim, SIM_NEVER);
	if (sim_is_off(m->sim))
		model_power_back(m);
}

const struct store_model_op store_model_ops[] = {
	{"cycle", 32, op_cycle, false},
	{"trickle", 10, op_trickle, false},
	{"disconnect", 4, op_disconnect, false},
	{"retain", 26, op_retain, false},
	{"hold", 4, op_hold, false},
	{"release", 8, op_release, false},
	{"policy", 3, op_policy, false},
	{"grow", 3, op_grow, false},
	{"stranger", 1, op_stranger, false},
	{"full disk", 3, op_full_disk, false},
	{"reopen", 3, op_reopen, false},
	{"power cut", 3, op_power_cut, false},
	{"pin", 3, model_op_pin, false},
	{"unpin", 5, model_op_unpin, false},
	{"test start", 3, model_op_test_start, false},
	{"test stop", 7, model_op_test_stop, false},
	{"failover", 2, model_op_failover, false},
	{"rollback", 5, model_op_rollback, false},
	{"commit", 4, model_op_commit, false},
	{"forget", 5, op_forget, false},
	{"cycle cut", 6, op_cycle, true},
	{"trickle cut", 2, op_trickle, true},
	{"retain cut", 6, op_retain, true},
	{"pin cut", 1, model_op_pin, true},
	{"unpin cut", 1, model_op_unpin, true},
	{"test start cut", 1, model_op_test_start, true},
	{"test stop cut", 1, model_op_test_stop, true},
	{"failover cut", 1, model_op_failover, true},
	{"rollback cut", 2, model_op_rollback, true},
	{"commit cut", 1, model_op_commit, true},
};
const size_t store_model_op_count = sizeof(store_model_ops) / sizeof(store_model_ops[0]);

void store_model_step(struct store_model *m)
{
	unsigned sum = 0;
	const struct store_model_op *op = store_model_ops;
	for (size_t i = 0; i < store_model_op_count; i++)
		sum += store_model_ops[i].weight;
	uint64_t at = model_draw(m, sum);
	while (at >= op->weight)
		at -= op++->weight;
	assert_true(m->steps < MODEL_HISTORY);
	m->history[m->steps++] = op->name;
	if (op->cut)
		within_a_cut(m, op->run);
	else
		op->run(m);
	store_model_check(m);
}
