// SPDX-License-Identifier: Apache-2.0
// Blocks whose digest is zero are read, too: QEMU shows what the files hold, and asks no digest.
#include "receiver/proof.h"

#include "base/auto.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/chain.h"
#include "receiver/overlays.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"

#include <errno.h>

enum { PROOF_LOGGED = 20 }; // blocks named in the log: a disk that dies has millions

struct proof {
	struct replica *replica;
	uint64_t point;
	unsigned disk, disk_count;
	uint64_t size[DISKS_MAX];
	uint64_t block; // of `disk`, the next one
	struct chain *chain; // of `disk`; NULL until it is needed
	unsigned char *buf;
	struct proof_info info;
};

// What is damaged goes into quarantine; what could not be read now is no damage, and is asked for again.
static int condemn(struct proof *p, uint64_t from, const struct err *why, struct err *err)
{
	struct err failed = {.code = 0};
	if (scrub_condemn(p->replica, (uint16_t)p->disk, from, true, why, &failed))
		log_error("damage could not be noted protection=%s point=%llu reason=\"%s\"", p->replica->name, (unsigned long long)p->point,
			  failed.text);
	return err_set(err, -EUCLEAN, "%s", why->text);
}

int proof_open(struct replica *replica, uint64_t point, struct proof **ret_proof, struct err *err)
{
	struct proof *p = calloc(1, sizeof(*p));
	if (!p || !(p->buf = malloc(BLOCK_SIZE))) {
		free(p);
		return err_set(err, -ENOMEM, "out of memory");
	}
	p->replica = replica;
	p->point = point;
	p->disk_count = replica->prot.disk_count;
	struct err why = {.code = 0};
	int rc = replica_point_sizes(replica, point, p->size, &why);
	if (rc == -EBADMSG || rc == -ENODATA)
		rc = condemn(p, point, &why, err);
	else if (rc)
		(void)err_set(err, rc, "%s", why.text);
	if (rc) {
		proof_close(p);
		return rc;
	}
	for (unsigned i = 0; i < p->disk_count; i++)
		p->info.total_bytes += p->size[i];
	*ret_proof = p;
	return 0;
}

void proof_close(struct proof *p)
{
	if (!p)
		return;
	chain_close(p->chain);
	free(p->buf);
	free(p);
}

void proof_info(const struct proof *p, struct proof_info *ret_info)
{
	*ret_info = p->info;
}

// Into quarantine, for all points that show the block. It is looked at once more there: *ret_again when it was sound then, and nothing was noted.
// -EAGAIN for want of memory or descriptors, and while retention is at work: it is not waited for, since who stops a proof waits for the slice.
static int quarantine(struct proof *p, uint64_t index, const struct err *why, bool *ret_again)
{
	struct err err = {.code = 0};
	if (pthread_mutex_trylock(&p->replica->retain_lock))
		return -EAGAIN;
	int rc = scrub_unreadable(p->replica, (uint16_t)p->disk, index, 1, why, &err);
	(void)pthread_mutex_unlock(&p->replica->retain_lock);
	*ret_again = rc == why->code;
	if (chain_lacks(rc)) // nobody knows yet, and nothing was noted
		return -EAGAIN;
	if (rc && !*ret_again)
		log_error("damage could not be noted protection=%s point=%llu reason=\"%s\"", p->replica->name, (unsigned long long)p->point,
			  err.text);
	return 0;
}

static int block_prove(struct proof *p, uint64_t index, struct err *err)
{
	struct err why = {.code = 0};
	bool again = false;
	int rc = chain_get(p->chain, index, p->buf, &why);
	if (rc == 0)
		return 0;
	if (chain_lacks(rc))
		return err_set(err, rc, "%s", why.text);
	if (quarantine(p, index, &why, &again))
		return err_set(err, -EAGAIN, "block %llu of disk %u is damaged (%s); noted when retention has ended its step, or memory and descriptors suffice",
			       (unsigned long long)index, p->disk, why.text);
	if (again && chain_get(p->chain, index, p->buf, NULL) == 0) {
		log_warning("a block was read wrong once, and right at the second look: is the disk or the memory of this host failing? "
			    "protection=%s point=%llu disk=%s block=%llu",
			    p->replica->name, (unsigned long long)p->point, p->replica->prot.disk[p->disk].name, (unsigned long long)index);
		return 0;
	}
	if (++p->info.damaged_blocks <= PROOF_LOGGED)
		log_error("a point in use shows a damaged block protection=%s point=%llu disk=%s block=%llu reason=\"%s\"", p->replica->name,
			  (unsigned long long)p->point, p->replica->prot.disk[p->disk].name, (unsigned long long)index, why.text);
	return 0;
}

static void disk_end(struct proof *p)
{
	chain_close(p->chain);
	p->chain = NULL;
	p->block = 0;
	p->info.ended = ++p->disk == p->disk_count;
}

// What can be, while this point is held. The rest is left to whoever meets it when it is not.
static bool overlays_made_good(struct replica *r, const struct err *why)
{
	LOCK_SCOPE(&r->lock);
	return overlays_in_turn(r, why);
}

// Opens the next disk.
static int chain_begin(struct proof *p, struct err *err)
{
	struct err why = {.code = 0};
	int rc = chain_open(p->replica, p->point, p->disk, &p->chain, &why);
	if (rc && overlays_made_good(p->replica, &why))
		return err_set(err, -EAGAIN, "%s; it was made good", why.text);
	if (rc && chain_is_damaged(rc))
		return condemn(p, chain_fault(p->replica, p->point, p->disk), &why, err);
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

int proof_slice(struct proof *p, struct err *err)
{
	if (p->info.ended)
		return 0;
	uint64_t blocks = size_blocks(p->size[p->disk]), end = min_u64(blocks, p->block + PROOF_SLICE_BLOCKS);
	int rc = p->chain ? 0 : chain_begin(p, err);
	for (; rc == 0 && p->block < end && p->info.damaged_blocks < PROOF_DAMAGE_MAX; p->block++) {
		rc = block_prove(p, p->block, err);
		if (rc)
			return rc;
		p->info.done_bytes += size_of_block(p->size[p->disk], p->block);
	}
	if (rc)
		return rc;
	if (p->info.damaged_blocks == PROOF_DAMAGE_MAX)
		p->info.ended = true;
	else if (p->block == blocks)
		disk_end(p);
	return 0;
}
