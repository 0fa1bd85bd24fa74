// SPDX-License-Identifier: Apache-2.0
// A source without a network (feed.h).
#include "tests/lib/feed.h"

#include "base/bytes.h"
#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const unsigned char feed_pin[OWNER_PIN_SIZE] = {1, 2, 3};

void feed_fill(unsigned char *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		to[i] = i % 97 ? (unsigned char)(seed & 0x0f) : (unsigned char)(seed >> 24);
	}
}

struct wire_open feed_open(unsigned disks, const uint64_t *size, uint32_t keep)
{
	struct wire_open open = {.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3}, .codec = CODEC_ZSTD,
				 .points_keep = keep, .rpo_ms = 15000, .disk_count = (uint16_t)disks};
	feed_fill(open.digest.secret, DIGEST_SECRET_SIZE, 9);
	for (unsigned d = 0; d < disks; d++) {
		(void)snprintf(open.disk[d].name, NAME_SIZE, "vd%c", (char)('a' + d));
		open.disk[d].size = size[d];
	}
	return open;
}

uint16_t feed_pieces(const unsigned char *old, const unsigned char *new)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (memcmp(old + (size_t)i * PIECE_SIZE, new + (size_t)i * PIECE_SIZE, PIECE_SIZE) != 0)
			mask |= (uint16_t)(1u << i);
	return mask;
}

int feed_block(const struct wire_open *open, struct codec_context *codec, struct replica *r, unsigned disk, uint64_t index,
		 const unsigned char *block, uint16_t mask, struct err *err)
{
	unsigned char plain[BLOCK_SIZE], packed[BLOCK_SIZE];
	struct wire_block m = {.disk = (uint16_t)disk, .mask = mask, .index = index, .codec = CODEC_NONE, .payload = plain};
	if (mask == 0)
		return 0;
	if (bytes_zero(block, BLOCK_SIZE)) {
		const struct wire_zeros zeros = {.disk = m.disk, .first = index, .count = 1};
		return replica_write_zeros(r, &zeros, err);
	}
	m.digest = digest_of(&open->digest, m.disk, index, block);
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++)
		if (mask >> i & 1) {
			memcpy(plain + m.len, block + (size_t)i * PIECE_SIZE, PIECE_SIZE);
			m.len += PIECE_SIZE;
		}
	size_t len = codec && mask == MASK_FULL ? codec_pack(codec, CODEC_ZSTD, plain, m.len, packed, m.len - 1) : 0;
	if (len) {
		m.codec = CODEC_ZSTD;
		m.payload = packed;
		m.len = (uint32_t)len;
	}
	return replica_write_block(r, &m, err);
}

int feed_seal(struct replica *r, unsigned char cut, int64_t cut_wall_ns, struct err *err)
{
	struct replica_info info;
	struct wire_committed committed;
	replica_info(r, &info);
	const struct wire_seal seal = {.predecessor = info.last_point, .cut = {{cut}}, .head = info.head, .cut_wall_ns = cut_wall_ns,
				       .consistency = POINT_CRASH};
	return replica_seal(r, &seal, &committed, err);
}

int feed_point(struct env *env, struct replica *r, const struct wire_open *open, struct err *err)
{
	struct wire_opened opened;
	const struct wire_zeros zeros = {.disk = 0, .first = 0, .count = 1};
	int rc = replica_session_begin(r, open, feed_pin, &opened, err);
	if (rc)
		return rc;
	rc = replica_write_zeros(r, &zeros, err);
	if (rc == 0)
		rc = feed_seal(r, (unsigned char)(opened.last_point + 1), env_wall_ns(env), err);
	replica_session_end(r);
	return rc;
}

int feed_points(struct env *env, struct store *store, const struct wire_open *open, unsigned points, struct err *err)
{
	struct replica *r;
	int rc = store_create(store, open, feed_pin, &r, err);
	for (unsigned i = 0; rc == 0 && i < points; i++)
		rc = feed_point(env, r, open, err);
	return rc;
}

int feed_make_dir(struct env *env, const char *name, struct err *err)
{
	struct env_root *root;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "open /");
	rc = env_mkdir(root, name);
	env_root_close(root);
	return rc ? err_sys(err, rc, "mkdir %s", name) : 0;
}

bool feed_finds(struct env *env, const char *path)
{
	struct env_root *root;
	struct env_stat st;
	if (env_root_open(env, "/", &root))
		return false;
	bool there = env_stat(root, path, &st) == 0;
	env_root_close(root);
	return there;
}

int feed_with_store(struct env *env, const char *path, feed_use *use, void *context, struct err *err)
{
	struct store *store = NULL;
	int rc = store_open(env, path, &store, err);
	if (rc)
		return rc;
	rc = use(env, store, context, err);
	store_close(store);
	return rc;
}

static int leave(struct env *env, struct store *store, void *context, struct err *err)
{
	(void)env, (void)store, (void)context, (void)err;
	return 0;
}

int feed_recover(struct env *env, void *context, struct err *err)
{
	return feed_with_store(env, "/", leave, context, err);
}
