// SPDX-License-Identifier: Apache-2.0
// EXAMINE: of blocks that differ, the digests of their pieces, so that a source can send those alone that are other (docs/protocol.md).
//
// The one compare that reads the replica, and only blocks that differ. E1: digests of pieces are answered of nothing but a block that was read
// just now and has the digest that the table says. Everything else is answered "whole", and costs bytes, never truth: a file that cannot be
// opened, a block that does not prove, one that a scrub wants whole, one that the head has something of, since a reading through the points
// would not show it.
#include "receiver/replica.h"

#include "base/log.h"
#include "receiver/chain.h"
#include "receiver/scrub.h"

// Through more points than this nothing is read: a descriptor and up to 400 KiB for each.
enum { EXAMINE_LAYERS_MAX = 256 };

void examine_close(struct replica *r)
{
	for (unsigned i = 0; i < DISKS_MAX; i++)
		chain_close(r->examine.chain[i]);
	r->examine = (struct examine){.point = 0};
}

// The files under the head: opened when they are first needed, and again when retention has changed which they are. NULL: they are not to be had.
static struct chain *chain_for(struct replica *r, uint16_t disk)
{
	uint64_t newest = replica_last_point(r);
	struct err why = {.code = 0};
	if (r->examine.point != newest || r->examine.points != r->point_count)
		examine_close(r);
	r->examine.point = newest;
	r->examine.points = r->point_count;
	if (r->examine.chain[disk] || r->examine.failed[disk] || r->point_count > EXAMINE_LAYERS_MAX)
		return r->examine.chain[disk];
	if (chain_open_files(r, newest, disk, &r->examine.chain[disk], &why)) {
		r->examine.failed[disk] = true;
		log_warning("the pieces of blocks cannot be compared, blocks travel whole protection=%s disk=%s reason=\"%s\"", r->name,
			    r->prot.disk[disk].name, why.text);
	}
	return r->examine.chain[disk];
}

static bool head_holds(const struct replica *r, uint16_t disk, uint64_t index)
{
	const struct table *digests = &r->head.disk[disk].digests;
	return digests->blocks && table_get(digests, index);
}

// Into r->block. False: there is nothing that its pieces could be told of.
static bool block_read(struct replica *r, uint16_t disk, uint64_t index, const struct digest *ours)
{
	struct err why = {.code = 0};
	if (digest_is_zero(ours) || head_holds(r, disk, index) || scrub_wants(r, disk, index))
		return false;
	struct chain *chain = chain_for(r, disk);
	if (!chain)
		return false;
	int rc = chain_read(chain, index, r->block, &why);
	struct digest found = digest_of(&r->prot.digest, disk, index, r->block);
	if (rc == 0 && digest_equal(&found, ours))
		return true;
	if (r->examine_unproven++ == 0) // a source may ask for it as often as it likes
		log_warning("a block in the store is not what was committed, and is asked for whole; a scrub tells which points show it "
			    "protection=%s disk=%s block=%llu reason=\"%s\"",
			    r->name, r->prot.disk[disk].name, (unsigned long long)index, rc ? why.text : "its digest is another");
	return false;
}

void examine_end(struct replica *r)
{
	examine_close(r);
	if (r->examine_unproven > 1)
		log_warning("blocks in the store were not what was committed, and were asked for whole protection=%s times=%llu", r->name,
			    (unsigned long long)r->examine_unproven);
	r->examine_unproven = 0;
}

int replica_pieces(struct replica *r, const struct wire_examine *examine, struct examine_answer *ret_answer, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	ret_answer->by_pieces = 0;
	for (unsigned i = 0; i < examine->count; i++) {
		struct digest theirs;
		uint64_t index = wire_examine_get(examine->entries, i, &theirs);
		int rc = intake_range_check(r, examine->disk, index, 1, err);
		if (rc)
			return rc;
		struct digest ours = head_digest(r, examine->disk, index);
		ret_answer->answer[i] = WIRE_WHOLE;
		if (digest_equal(&ours, &theirs) && !scrub_wants(r, examine->disk, index)) {
			ret_answer->answer[i] = WIRE_EQUAL;
		} else if (block_read(r, examine->disk, index, &ours)) {
			ret_answer->answer[i] = WIRE_BY_PIECES;
			digest_pieces(&r->prot.digest, examine->disk, index, r->block, ret_answer->digest[ret_answer->by_pieces++]);
		}
	}
	return 0;
}
