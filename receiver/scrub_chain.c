// SPDX-License-Identifier: Apache-2.0
#include "receiver/scrub_chain.h"

#include "base/bytes.h"
#include "format/qcow2_layout.h"
#include "receiver/chain.h"

#include <errno.h>

int scrub_chain_open(struct scrub_chain *c, struct err *err)
{
	c->merge = malloc(BLOCK_SIZE);
	if (!c->merge)
		return err_set(err, -ENOMEM, "out of memory");
	return replica_open_file(c->replica, ENV_READ, &c->base, err, "base/%s.raw", c->replica->prot.disk[c->disk].name);
}

void scrub_chain_close(struct scrub_chain *c)
{
	for (size_t i = 0; i < c->count; i++) {
		qcow2_reader_free(c->level[i].reader);
		env_close(c->level[i].file);
		c->level[i].reader = NULL;
		c->level[i].file = NULL;
	}
	env_close(c->base);
	free(c->merge);
	c->base = NULL;
	c->merge = NULL;
}

static int level_open(struct scrub_chain *c, struct scrub_level *level, struct err *err)
{
	const char *name = c->replica->prot.disk[c->disk].name;
	if (level->reader)
		return 0;
	int rc = level->file ? 0
			     : replica_open_file(c->replica, ENV_READ, &level->file, err, "points/%llu/%s.qcow2",
						 (unsigned long long)level->number, name);
	c->unopened = c->unopened || chain_is_damaged(rc);
	if (rc)
		return rc;
	rc = qcow2_reader_open(level->file, &level->reader, err);
	if (rc == 0 && qcow2_reader_size(level->reader) != level->size)
		rc = err_set(err, -EBADMSG, "not of the size that the disk had");
	c->unopened = c->unopened || chain_is_damaged(rc);
	return rc ? err_wrap(err, "%s/points/%llu/%s.qcow2", c->replica->name, (unsigned long long)level->number, name) : 0;
}

static int level_fail(const struct scrub_chain *c, struct scrub_level *level, int rc, uint64_t first, uint64_t end, struct err *err)
{
	(void)err_wrap(err, "%s/points/%llu/%s.qcow2", c->replica->name, (unsigned long long)level->number,
		       c->replica->prot.disk[c->disk].name);
	if (rc == -EIO) {
		level->unread_first = first;
		level->unread_end = end;
		level->unread = *err;
	}
	return rc;
}

static int level_held(struct scrub_chain *c, struct scrub_level *level, uint64_t index, struct qcow2_held *ret_held, struct err *err)
{
	struct err why = {0};
	if (index >= level->unread_first && index < level->unread_end) {
		if (err)
			*err = level->unread;
		return level->unread.code;
	}
	int rc = level_open(c, level, &why);
	if (rc == 0 && (rc = qcow2_reader_held(level->reader, index, ret_held, &why))) {
		uint64_t first = index / QCOW2_TABLE_BLOCKS * QCOW2_TABLE_BLOCKS;
		rc = level_fail(c, level, rc, first, first + QCOW2_TABLE_BLOCKS, &why);
	} else if (rc == -EIO) { // its header, or the first of its tables
		level->unread_first = 0;
		level->unread_end = UINT64_MAX;
		level->unread = why;
	}
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

struct qcow2_reader *scrub_chain_overlay(struct scrub_chain *c, size_t at)
{
	struct err why = {0};
	return level_open(c, &c->level[at], &why) ? NULL : c->level[at].reader;
}

int scrub_chain_holds(struct scrub_chain *c, size_t at, uint64_t index, bool *ret_holds, struct err *err)
{
	struct qcow2_held held;
	int rc = level_held(c, &c->level[at], index, &held, err);
	if (rc == 0)
		*ret_holds = held.mask != 0 || held.packed;
	return rc;
}

static void pieces_copy(unsigned char *to, const unsigned char *from, uint16_t mask)
{
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1)
			memcpy(to + (size_t)i * PIECE_SIZE, from + (size_t)i * PIECE_SIZE, PIECE_SIZE);
}

// The pieces in `need`, from the base as a disk of `size` bytes.
static int base_read(struct scrub_chain *c, uint64_t index, uint64_t size, uint16_t need, unsigned char *block, struct err *err)
{
	uint32_t len = size_of_block(size, index);
	memset(c->merge, 0, BLOCK_SIZE);
	int rc = env_pread_full(c->base, c->merge, len, index * BLOCK_SIZE);
	if (rc)
		return err_sys(err, rc == -ENODATA ? -EBADMSG : rc, "%s/base/%s.raw", c->replica->name, c->replica->prot.disk[c->disk].name);
	pieces_copy(block, c->merge, need);
	return 0;
}

int scrub_chain_read(struct scrub_chain *c, size_t at, uint64_t index, unsigned char *block, struct err *err)
{
	uint16_t need = qcow2_pieces_of(c->level[at].size, index);
	memset(block, 0, BLOCK_SIZE);
	for (size_t i = at + 1; i-- > 0;) {
		struct scrub_level *level = &c->level[i];
		struct qcow2_held held;
		uint16_t mask = 0;
		if (index >= size_blocks(level->size)) // smaller then: zeros, here and below
			return 0;
		need &= qcow2_pieces_of(level->size, index);
		int rc = level_held(c, level, index, &held, err);
		if (rc == 0 && (rc = qcow2_reader_read(level->reader, index, c->merge, &mask, err)))
			rc = err_wrap(err, "%s/points/%llu/%s.qcow2", c->replica->name, (unsigned long long)level->number,
				      c->replica->prot.disk[c->disk].name);
		if (rc)
			return rc;
		pieces_copy(block, c->merge, mask & need);
		need &= (uint16_t)~mask;
		if (need == 0)
			return 0;
	}
	return base_read(c, index, c->level[0].size, need, block, err);
}
