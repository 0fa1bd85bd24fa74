// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/memory_source.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "tests/lib/twin.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static struct memory_source *of(struct source *source)
{
	return (struct memory_source *)source; // the first member
}

static uint64_t blocks_of(const struct memory_source *m, uint16_t disk)
{
	return size_blocks(m->source.disk_size[disk]);
}

static uint64_t pieces(uint16_t mask)
{
	return (uint64_t)__builtin_popcount(mask);
}

static int op_cut(struct source *source, enum cut_mode mode, struct source_cut *ret_cut, struct err *err)
{
	struct memory_source *m = of(source);
	(void)err;
	assert(m->under_way == 0);
	m->cuts++;
	m->waits = 0;
	m->precopies += mode == CUT_PRECOPY;
	m->mode = mode;
	m->at_disk = 0;
	m->at_block = 0;
	m->bounded = false;
	m->look_disk = 0;
	m->look_block = 0;
	m->given_up = false;
	*ret_cut = (struct source_cut){.wall_ns = env_wall_ns(env_posix()), .mono_ns = env_mono_ns(env_posix())};
	for (uint16_t d = 0; d < source->disk_count; d++) {
		struct memory_disk *disk = &m->disk[d];
		for (uint64_t b = 0; b < blocks_of(m, d); b++) {
			disk->set[b] = disk->dirty[b];
			disk->remembered[b] |= disk->dirty[b];
			ret_cut->dirty_bytes += pieces(disk->dirty[b]) * PIECE_SIZE;
			ret_cut->blocks += disk->dirty[b] != 0;
			disk->dirty[b] = 0;
		}
		memcpy(disk->frozen, disk->now, blocks_of(m, d) * BLOCK_SIZE);
	}
	return 0;
}

static bool next_block(struct memory_source *m, struct source_block *ret_block)
{
	for (; m->at_disk < m->source.disk_count; m->at_disk++, m->at_block = 0)
		for (; m->at_block < blocks_of(m, m->at_disk); m->at_block++) {
			struct memory_disk *disk = &m->disk[m->at_disk];
			uint16_t mask = disk->set[m->at_block];
			if (m->bounded && (m->at_disk > m->look_disk || (m->at_disk == m->look_disk && m->at_block >= m->look_block)))
				return false;
			if (!mask)
				continue;
			disk->set[m->at_block] = 0;
			*ret_block = (struct source_block){.disk = m->at_disk, .mask = mask, .index = m->at_block++};
			return true;
		}
	return false;
}

static uint64_t look_next(struct memory_source *m)
{
	m->bounded = true;
	for (; m->look_disk < m->source.disk_count; m->look_disk++, m->look_block = 0)
		for (; m->look_block < blocks_of(m, m->look_disk); m->look_block++)
			if (m->disk[m->look_disk].set[m->look_block])
				return m->look_block;
	return UINT64_MAX;
}

static uint64_t op_reach(struct source *source, uint64_t blocks)
{
	struct memory_source *m = of(source);
	uint64_t count = 0;
	assert(m->mode == CUT_PRECOPY);
	for (; count < blocks && look_next(m) != UINT64_MAX; count++)
		m->look_block++;
	return count;
}

static int op_look(struct source *source, struct source_batch *batch)
{
	struct memory_source *m = of(source);
	assert(m->mode == CUT_PRECOPY);
	m->under_way++;
	if (m->guest)
		m->guest(m, m->context);
	batch->count = 0;
	batch->status = 0;
	for (uint64_t index; batch->count < m->batch_blocks && (index = look_next(m)) != UINT64_MAX; m->look_block++) {
		assert(!batch->memory);
		batch->block[batch->count++] = (struct source_block){.disk = m->look_disk, .index = index};
	}
	m->blocks_looked_at += batch->count;
	return 0;
}

static int op_read(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	struct memory_source *m = of(source);
	LOCK_SCOPE(&m->lock);
	m->reads++;
	if (m->unreadable && disk == 0 && first < m->unreadable && m->unreadable <= first + count)
		return -EIO;
	memcpy(data, m->disk[disk].now + first * BLOCK_SIZE, (size_t)count * BLOCK_SIZE);
	return 0;
}

static int op_unreadable(struct source *source, uint16_t disk, uint64_t first, int code, struct err *err)
{
	struct memory_source *m = of(source);
	assert(m->mode == CUT_PRECOPY && disk == 0 && first < m->unreadable && code == -EIO);
	m->given_up = true;
	return err_set(err, -EIO, "the test's bad block");
}

static void op_settle(struct source *source, uint16_t disk, uint64_t first, uint64_t count, const unsigned char *unequal)
{
	struct memory_source *m = of(source);
	assert(size_within(first, count, blocks_of(m, disk)));
	for (uint64_t i = 0; i < count; i++)
		if (!unequal || !(unequal[i / 8] >> i % 8 & 1))
			m->disk[disk].set[first + i] = 0; // it is remembered since the cut
}

static unsigned op_holes(struct source *source, struct source_run *runs, unsigned most, bool *ret_all)
{
	struct memory_source *m = of(source);
	unsigned count = 0;
	*ret_all = true;
	for (uint16_t d = 0; m->sparse && d < source->disk_count; d++)
		for (uint64_t b = 0; b < blocks_of(m, d); b++) {
			if (!m->disk[d].set[b] || m->disk[d].dirty[b] || !bytes_zero(m->disk[d].now + b * BLOCK_SIZE, BLOCK_SIZE))
				continue;
			if (count && runs[count - 1].disk == d && runs[count - 1].first + runs[count - 1].count == b) {
				runs[count - 1].count++;
			} else if (count < most) {
				runs[count++] = (struct source_run){.disk = d, .first = b, .count = 1};
			} else {
				*ret_all = false;
				return count;
			}
			m->disk[d].set[b] = 0;
		}
	return count;
}

static int op_fetch(struct source *source, struct source_batch *batch)
{
	struct memory_source *m = of(source);
	m->under_way++;
	if (m->guest)
		m->guest(m, m->context);
	batch->count = 0;
	batch->status = 0;
	while (batch->count < m->batch_blocks && next_block(m, &batch->block[batch->count])) {
		struct source_block *block = &batch->block[batch->count];
		const struct memory_disk *disk = &m->disk[block->disk];
		const unsigned char *from = m->mode == CUT_POINT ? disk->frozen : disk->now;
		block->data = batch->memory + (size_t)batch->count * BLOCK_SIZE;
		memcpy(block->data, from + block->index * BLOCK_SIZE, BLOCK_SIZE);
		if (m->mode == CUT_PRECOPY) // as it is now, with what was written since the cut
			block->mask |= disk->dirty[block->index];
		batch->count++;
	}
	m->blocks_fetched += batch->count;
	return 0;
}

static int op_wait(struct source *source, struct source_batch *batch, struct err *err)
{
	struct memory_source *m = of(source);
	assert(m->under_way > 0);
	m->under_way--;
	if (m->waits++ == m->fail_at && (m->fail_code != -ESTALE || m->mode == CUT_POINT)) {
		m->given_up = true;
		batch->status = m->fail_code;
		m->fail_at = --m->fails ? 0 : UINT_MAX;
	} else if (m->given_up) {
		batch->status = m->fail_code;
	}
	return batch->status ? err_set(err, batch->status, "the test's failure") : 0;
}

static int op_keep(struct source *source, struct err *err)
{
	struct memory_source *m = of(source);
	(void)err;
	assert(m->under_way == 0);
	m->keeps++;
	for (uint16_t d = 0; d < source->disk_count; d++) {
		memset(m->disk[d].remembered, 0, blocks_of(m, d) * sizeof(uint16_t));
		memset(m->disk[d].set, 0, blocks_of(m, d) * sizeof(uint16_t));
	}
	return 0;
}

static void op_give_back(struct source *source)
{
	struct memory_source *m = of(source);
	assert(m->under_way == 0);
	m->give_backs++;
	for (uint16_t d = 0; d < source->disk_count; d++)
		for (uint64_t b = 0; b < blocks_of(m, d); b++) {
			if (m->disk[d].remembered[b])
				m->disk[d].dirty[b] = MASK_FULL;
			m->disk[d].remembered[b] = m->disk[d].set[b] = 0;
		}
}

static void op_mark_all(struct source *source)
{
	struct memory_source *m = of(source);
	for (uint16_t d = 0; d < source->disk_count; d++)
		memset(m->disk[d].dirty, 0xff, blocks_of(m, d) * sizeof(uint16_t));
}

static void op_mark(struct source *source, uint16_t disk, uint64_t off, uint64_t len)
{
	memory_source_touch(of(source), disk, off, min_u64(len, source->disk_size[disk] - off));
}

static uint64_t op_dirty_bytes(struct source *source)
{
	struct memory_source *m = of(source);
	uint64_t bytes = 0;
	for (uint16_t d = 0; d < source->disk_count; d++)
		for (uint64_t b = 0; b < blocks_of(m, d); b++)
			bytes += pieces(m->disk[d].dirty[b]) * PIECE_SIZE;
	return bytes;
}

static const struct source_ops ops = {
	.cut = op_cut,
	.fetch = op_fetch,
	.look = op_look,
	.read = op_read,
	.unreadable = op_unreadable,
	.reach = op_reach,
	.settle = op_settle,
	.holes = op_holes,
	.wait = op_wait,
	.keep = op_keep,
	.give_back = op_give_back,
	.mark_all = op_mark_all,
	.mark = op_mark,
	.dirty_bytes = op_dirty_bytes,
};

static void *zeroed(uint64_t count, size_t size)
{
	void *memory = calloc(count, size);
	assert(memory);
	return memory;
}

void memory_source_init(struct memory_source *m, uint16_t disks, const uint64_t *sizes)
{
	assert(disks <= MEMORY_DISKS_MAX);
	*m = (struct memory_source){.source = {.ops = &ops, .disk_count = disks},
				    .batch_blocks = SOURCE_BATCH_MAX,
				    .fail_at = UINT_MAX};
	(void)pthread_mutex_init(&m->lock, NULL);
	for (uint16_t d = 0; d < disks; d++) {
		uint64_t blocks = size_blocks(sizes[d]);
		m->source.disk_size[d] = sizes[d];
		m->disk[d] = (struct memory_disk){zeroed(blocks, BLOCK_SIZE), zeroed(blocks, BLOCK_SIZE),
						  zeroed(blocks, 2), zeroed(blocks, 2), zeroed(blocks, 2)};
	}
}

void memory_source_done(struct memory_source *m)
{
	for (unsigned d = 0; d < MEMORY_DISKS_MAX; d++) {
		free(m->disk[d].now);
		free(m->disk[d].frozen);
		free(m->disk[d].dirty);
		free(m->disk[d].set);
		free(m->disk[d].remembered);
	}
	(void)pthread_mutex_destroy(&m->lock);
}

void memory_source_touch(struct memory_source *m, uint16_t disk, uint64_t off, uint64_t len)
{
	assert(size_within(off, len, m->source.disk_size[disk]));
	for (uint64_t piece = off / PIECE_SIZE; len && piece <= (off + len - 1) / PIECE_SIZE; piece++)
		m->disk[disk].dirty[piece / PIECES_PER_BLOCK] |= (uint16_t)(1u << piece % PIECES_PER_BLOCK);
}

void memory_source_write(struct memory_source *m, uint16_t disk, uint64_t off, const void *data, uint64_t len)
{
	memory_source_touch(m, disk, off, len);
	LOCK_SCOPE(&m->lock);
	memcpy(m->disk[disk].now + off, data, len);
}

void memory_source_random(struct memory_source *m, uint64_t *seed)
{
	static unsigned char data[2 * BLOCK_SIZE];
	uint16_t disk = (uint16_t)draw_below(seed, m->source.disk_count);
	uint64_t sectors = m->source.disk_size[disk] / SECTOR_SIZE, kind = draw_below(seed, 8);
	uint64_t off = draw_below(seed, sectors);
	if (kind < 3) // a write that begins with its block
		off -= off % (BLOCK_SIZE / SECTOR_SIZE);
	uint64_t len =
		min_u64(1 + draw_below(seed, kind < 4 ? sizeof(data) / SECTOR_SIZE : 16), sectors - off) * SECTOR_SIZE;
	if (kind == 0) {
		memory_source_touch(m, disk, off * SECTOR_SIZE, len);
		return;
	}
	for (uint64_t i = 0; i < len; i++)
		data[i] = kind < 3 ? 0 : kind < 6 ? (unsigned char)(draw(seed) & 3) : (unsigned char)draw(seed);
	memory_source_write(m, disk, off * SECTOR_SIZE, data, len);
}
