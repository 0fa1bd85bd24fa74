// SPDX-License-Identifier: Apache-2.0
// NODES: whether the head has the digests that a source names by the digest of them (docs/protocol.md). Made from the digest table when it
// is asked: a node of 256 blocks costs the hashing of 4 KiB, so no second table has to be kept true. Nothing of the replica is read.
#include "receiver/replica.h"

#include "receiver/scrub.h"

#include <string.h>

static struct digest blocks_node(const struct replica *r, uint16_t disk, uint64_t first, uint64_t end)
{
	struct digest below[DIGEST_FAN];
	size_t count = 0;
	for (uint64_t b = first; b < end; b++)
		below[count++] = head_digest(r, disk, b);
	return digest_node(&r->prot.digest, 1, below, count);
}

static struct digest node_of(const struct replica *r, uint16_t disk, unsigned level, uint64_t first, uint64_t end)
{
	struct digest below[DIGEST_FAN];
	size_t count = 0;
	if (level == 1)
		return blocks_node(r, disk, first, end);
	for (uint64_t b = first; b < end; b += DIGEST_FAN)
		below[count++] = blocks_node(r, disk, b, min_u64(b + DIGEST_FAN, end));
	return digest_node(&r->prot.digest, level, below, count);
}

// A block that must come whole is unequal, whatever its digest.
static bool any_wanted(const struct replica *r, uint16_t disk, uint64_t first, uint64_t end)
{
	for (uint64_t b = first; r->scrub.damage.count && b < end; b++)
		if (scrub_wants(r, disk, b))
			return true;
	return false;
}

int replica_compare_nodes(struct replica *r, const struct wire_nodes *nodes, unsigned char *bitmap, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = intake_range_check(r, nodes->disk, nodes->first, nodes->blocks, err);
	if (rc)
		return rc;
	uint64_t span = digest_span(nodes->level), end = nodes->first + nodes->blocks;
	for (unsigned i = 0; i < nodes->count; i++) {
		uint64_t first = nodes->first + i * span, last = min_u64(first + span, end);
		struct digest ours = node_of(r, nodes->disk, nodes->level, first, last);
		if (memcmp(ours.bytes, nodes->digests + (size_t)i * DIGEST_SIZE, DIGEST_SIZE) != 0 ||
		    any_wanted(r, nodes->disk, first, last))
			bitmap[i / 8] |= (unsigned char)(1 << i % 8);
	}
	return 0;
}
