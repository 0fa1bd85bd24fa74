// SPDX-License-Identifier: Apache-2.0
// What a session asks of a replica: claim it, compare digests, take blocks. Everything that a peer names is checked
// here, before anything is written; what passes goes to head.c.
#include "receiver/replica.h"

#include "base/bytes.h"
#include "base/log.h"
#include "link/identity.h"
#include "receiver/overlays.h"
#include "receiver/scrub.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

// The names of both keys, as `kagami peers` shows them: fingerprints are public. A host that lost its key is not told from a stranger.
static int refuse_other(const struct replica *r, const char *name, const unsigned char *pin, struct err *err)
{
	enum { SHOWN = 32 };
	struct pin owner, asks;
	char owner_text[PIN_TEXT_SIZE], asks_text[PIN_TEXT_SIZE];
	memcpy(owner.bytes, r->prot.owner_pin, PIN_SIZE);
	memcpy(asks.bytes, pin, PIN_SIZE);
	pin_format(&owner, owner_text);
	pin_format(&asks, asks_text);
	return err_set(err, -EPERM,
		       "%s belongs to another source, with the key %.*s; this one has the key %.*s: if it is the same host, bring its state directory back from a backup, "
		       "else protect under another name",
		       name, SHOWN, owner_text, SHOWN, asks_text);
}

// Of nobody else's protection anything is told but whose it is, not even that it is broken, or why. Where that is not known, nothing is.
static int owner_check(const struct replica *r, const struct wire_open *open, const unsigned char *pin, struct err *err)
{
	if (!protection_known(&r->prot))
		return err_set(err, -EIO, "%s cannot be read at the receiver, whose status says why", open->name);
	if (strcmp(open->name, r->name) != 0 || memcmp(pin, r->prot.owner_pin, OWNER_PIN_SIZE) != 0)
		return refuse_other(r, open->name, pin, err);
	return 0;
}

static int rights_check(const struct replica *r, const struct wire_open *open, struct err *err)
{
	if (!uuid_equal(&open->protection, &r->prot.id))
		return err_set(err, -EPERM,
			       "%s exists here from an earlier protection; remove that replica at the receiver (kagami forget %s), or use another name",
			       r->name, r->name);
	int rc = replica_ready(r, err);
	if (rc)
		return rc;
	if (!uuid_equal(&open->generation, &r->prot.generation))
		return err_set(err, -ESTALE, "%s: the source is of another generation", r->name);
	return 0;
}

static int geometry_check(const struct replica *r, const struct wire_open *open, struct err *err)
{
	if (open->disk_count != r->prot.disk_count)
		return err_set(err, -EINVAL, "%s has %u disks here, not %u", r->name, r->prot.disk_count, open->disk_count);
	for (unsigned i = 0; i < open->disk_count; i++)
		if (strcmp(open->disk[i].name, r->prot.disk[i].name) != 0)
			return err_set(err, -EINVAL, "%s: disk %u is %s here", r->name, i, r->prot.disk[i].name);
	for (unsigned i = 0; i < open->disk_count; i++)
		if (open->disk[i].size < r->prot.disk[i].size || !size_disk_ok(open->disk[i].size))
			return err_set(err, -EINVAL,
				       "%s: disk %s has %llu bytes here, which cannot become %llu: a disk may grow, not shrink; restore its "
				       "size, or protect it under another name",
				       r->name, r->prot.disk[i].name, (unsigned long long)r->prot.disk[i].size,
				       (unsigned long long)open->disk[i].size);
	if (open->digest.kind != r->prot.digest.kind ||
	    memcmp(open->digest.secret, r->prot.digest.secret, DIGEST_SECRET_SIZE) != 0)
		return err_set(err, -EINVAL, "%s: the source makes its digests with another secret", r->name);
	if (open->codec != CODEC_ZSTD && open->codec != CODEC_ZLIB)
		return err_set(err, -EINVAL, "%s: clusters are compressed with zstd or zlib", r->name);
	if (open->points_keep < 1 || open->points_keep > STORE_POINTS_MAX)
		return err_set(err, -EINVAL, "%s: this receiver keeps 1 to %d points", r->name, STORE_POINTS_MAX);
	return 0;
}

// What the source may change, made durable: its wishes, and larger disks once the base is fit for them.
static int wishes_save(struct replica *r, const struct wire_open *open, struct err *err)
{
	// More points are a wish; fewer would remove some, and that is not the source's to ask.
	bool same = r->prot.rpo_ms == open->rpo_ms && r->prot.points_keep >= open->points_keep && r->prot.unprotected_wall_ns == 0;
	struct protection next = r->prot;
	next.unprotected_wall_ns = 0; // it is back
	next.rpo_ms = open->rpo_ms;
	if (next.points_keep < open->points_keep)
		next.points_keep = open->points_keep;
	for (unsigned i = 0; i < next.disk_count; i++) {
		same = same && next.disk[i].size == open->disk[i].size;
		next.disk[i].size = open->disk[i].size;
	}
	if (same) // found at start: perhaps from a rollback whose sync failed
		return r->prot_certain ? 0 : replica_save(r, &r->prot, err);
	int rc = replica_grow(r, open, err);
	return rc ? rc : replica_save(r, &next, err);
}

// --- the digests of the newest point ---

// A table's prelude holds nothing that is not known: it is written anew, so that a growth finds it whole. Only a failed sync, whose truth nobody knows, is an error.
static int preludes_mend(struct replica *r, struct err *err)
{
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		AUTO_FILE struct env_file *table = NULL;
		const char *name = r->prot.disk[i].name;
		struct digest_disk of = replica_disk(r, i);
		struct err why = {0};
		bool mended = false;
		if (replica_open_file(r, ENV_WRITE, &table, NULL, "base/%s.digests", name))
			continue; // told when it is read
		if (digest_table_mend(table, &of, &mended, &why)) {
			(void)err_wrap(&why, "%s/base/%s.digests", r->name, name);
			return replica_break(r, &why, err);
		}
		if (mended)
			log_warning("the first sector of a table was damaged, and is written anew protection=%s disk=%s", r->name, name);
	}
	return 0;
}

// A session on its way to be one: what is loaded for it is nobody else's until it is whole.
struct opening {
	struct replica *r;
	const struct session_pace *pace; // NULL: nobody is asked
	int stopped; // its answer that ended the loading, and why
	struct err why_stopped;
	bool no_memory; // that ended it
	struct newest newest; // as of the claim: while it is made no point comes or goes
	struct table state[DISKS_MAX];
	struct damage_set unknown;
};

// What the caller answers is nothing that a file can be found to be: a code of its own ends the loading.
static int opening_look(void *context, struct err *err)
{
	struct opening *o = context;
	o->stopped = o->pace ? o->pace->look(o->pace->context, &o->why_stopped) : 0;
	return o->stopped ? err_set(err, -ECANCELED, "%s", o->why_stopped.text) : 0;
}

static int opening_grown(void *context, struct err *err)
{
	struct opening *o = context;
	uint64_t bytes = 0;
	for (unsigned i = 0; i < DISKS_MAX; i++)
		bytes += table_memory(&o->state[i]);
	LOCK_SCOPE(&o->r->lock);
	o->r->memory_opening = bytes;
	int rc = memory_reserve(o->r, BUDGET_POINTS, err);
	o->no_memory = rc == -ENOBUFS;
	return o->no_memory ? err->code = -ECANCELED : rc;
}

static void opening_clear(struct opening *o)
{
	for (unsigned i = 0; i < DISKS_MAX; i++)
		table_done(&o->state[i]);
}

static int state_load(struct opening *o, struct err *err)
{
	const struct digest_rest rest = {.look = opening_look, .grown = opening_grown, .context = o};
	opening_clear(o);
	for (unsigned i = 0; i < o->r->prot.disk_count; i++)
		table_init(&o->state[i], size_blocks(o->newest.size[i]));
	int rc = opening_look(o, err);
	return rc ? rc : digests_of_newest(o->r, &o->newest, o->state, &o->unknown, &rest, err);
}

// Whether damaged files were made good, so that it can be loaded again. What keeps them from it for now, space perhaps, is what is wrong then, for it passes.
static bool made_good(struct replica *r, struct err *why)
{
	struct err cannot = {0};
	LOCK_SCOPE(&r->lock);
	int rc = overlays_were_it(r, why, &cannot);
	if (rc < 0 && mend_passes(rc))
		*why = cannot;
	return rc > 0;
}

static void session_clear(struct replica *r)
{
	for (unsigned i = 0; i < DISKS_MAX; i++)
		table_done(&r->state[i]);
	memory_settle(r);
	examine_end(r);
	codec_free(r->unpacker);
	free(r->block);
	free(r->pieces);
	r->unpacker = NULL;
	r->block = r->pieces = NULL;
}

// Whoever may open it, and makes true what the source wishes. From here on it is `opening`.
static int opening_claim(struct opening *o, const struct wire_open *open, const unsigned char *pin, struct err *err)
{
	struct replica *r = o->r;
	LOCK_SCOPE(&r->lock);
	int rc = owner_check(r, open, pin, err);
	if (rc == 0 && r->broken)
		rc = replica_ready(r, err);
	if (rc == 0)
		rc = rights_check(r, open, err);
	if (rc == 0)
		rc = geometry_check(r, open, err);
	if (rc)
		return rc;
	if (r->adopting)
		return err_set(err, -EAGAIN, "the receiver reads the seed of %s: disk %u of %u, block %llu; the sync begins when that is done", r->name,
			       r->adopt_disk + 1, r->prot.disk_count, (unsigned long long)r->adopt_block);
	if (r->session_open || r->opening)
		return err_set(err, -EBUSY, "%s has a session already", r->name);
	rc = replica_base_there(r, err);
	if (rc == 0)
		rc = preludes_mend(r, err);
	if (rc == 0)
		rc = wishes_save(r, open, err);
	if (rc == 0)
		rc = newest_of(r, &o->newest, err);
	r->opening = rc == 0;
	return rc;
}

// Needs the lock. Takes over what was loaded.
static int session_prepare(struct opening *o, struct err *err)
{
	struct replica *r = o->r;
	r->unpacker = codec_new();
	r->block = malloc(BLOCK_SIZE);
	r->pieces = malloc(BLOCK_SIZE);
	if (!r->unpacker || !r->block || !r->pieces)
		return err_set(err, -ENOMEM, "out of memory for a session");
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		r->state[i] = o->state[i];
		o->state[i] = (struct table){.blocks = 0};
	}
	r->mend_failures = r->unread_failures = 0;
	return unknown_note(r, &o->unknown, err);
}

#define WANT_OF_MEMORY "the receiver's host gives it no more, though its bound (--memory) would: give the host more, or the receiver a smaller bound"

static int opening_failed(struct opening *o, const struct err *why, struct err *err)
{
	struct replica *r = o->r;
	if (o->stopped)
		return err_set(err, o->stopped, "%s", o->why_stopped.text);
	if (o->no_memory)
		return memory_refuse(r, err);
	if (why->code == -ENOMEM)
		return err_set(err, why->code, "%s: %s: " WANT_OF_MEMORY, r->name, why->text);
	return replica_break_passing(r, why, err); // digests that cannot be read would let a difference pass
}

// Needs the lock. What happened while it was loaded is asked again: that it was fenced, or broken, or that blocks were found damaged.
static int session_publish(struct opening *o, const struct wire_open *open, struct err *err)
{
	struct replica *r = o->r;
	struct err why = {0};
	int rc = rights_check(r, open, err);
	if (rc == 0)
		rc = session_prepare(o, err);
	if (rc)
		return rc;
	r->codec = open->codec;
	r->session_open = true;
	r->certain.disks = 0;
	r->reopen = false;
	rc = scrub_poison(r, &why);
	if (rc == 0)
		return 0;
	r->session_open = r->reopen = false;
	if (rc == -ENOBUFS)
		return memory_refuse(r, err);
	return err_set(err, -ENOMEM, "%s: out of memory for digests: " WANT_OF_MEMORY, r->name);
}

// `why`: of the loading, which ended with `rc`.
static int opening_end(struct opening *o, const struct wire_open *open, int rc, const struct err *why, struct wire_opened *ret_opened, struct err *err)
{
	struct replica *r = o->r;
	LOCK_SCOPE(&r->lock);
	r->opening = false;
	r->memory_opening = 0; // it is of the session from here on, or of nobody
	rc = rc ? opening_failed(o, why, err) : session_publish(o, open, err);
	if (rc) {
		session_clear(r);
		return rc;
	}
	*ret_opened = (struct wire_opened){.last_point = replica_last_point(r), .head = r->head.uuid};
	if (r->point_count) {
		ret_opened->last_cut = r->points[r->point_count - 1].cut;
		ret_opened->last_cut_wall_ns = r->points[r->point_count - 1].cut_wall_ns;
	}
	return 0;
}

int replica_session_begin_paced(struct replica *r, const struct wire_open *open, const unsigned char pin[OWNER_PIN_SIZE], const struct session_pace *pace,
				struct wire_opened *ret_opened, struct err *err)
{
	AUTO_FREE struct opening *o = calloc(1, sizeof(*o));
	struct err why = {0};
	if (!o)
		return err_set(err, -ENOMEM, "out of memory for a session");
	o->r = r;
	o->pace = pace;
	int rc = opening_claim(o, open, pin, err);
	if (rc == 0) {
		rc = state_load(o, &why);
		if (rc && !o->stopped && !o->no_memory && made_good(r, &why)) {
			why = (struct err){0};
			rc = state_load(o, &why);
		}
		rc = opening_end(o, open, rc, &why, ret_opened, err);
	}
	opening_clear(o);
	newest_done(&o->newest);
	return rc;
}

int replica_session_begin(struct replica *r, const struct wire_open *open, const unsigned char pin[OWNER_PIN_SIZE],
			  struct wire_opened *ret_opened, struct err *err)
{
	return replica_session_begin_paced(r, open, pin, NULL, ret_opened, err);
}

void replica_session_end(struct replica *r)
{
	LOCK_SCOPE(&r->lock);
	assert(r->session_open);
	head_session_end(r);
	session_clear(r);
	r->session_open = false;
}

// --- what a session sends ---

int intake_range_check(const struct replica *r, uint16_t disk, uint64_t first, uint64_t count, struct err *err)
{
	assert(r->session_open);
	int rc = replica_ready(r, err);
	if (rc)
		return rc;
	if (r->reopen)
		return err_set(err, -ESTALE, "%s: a scrub found damaged blocks here; open again, and they are named", r->name);
	if (disk >= r->prot.disk_count)
		return err_set(err, -EBADMSG, "disk: %s has no disk %u", r->name, disk);
	if (!size_within(first, count, size_blocks(r->prot.disk[disk].size)))
		return err_set(err, -EBADMSG, "index: past the end of %s", r->prot.disk[disk].name);
	return 0;
}

int replica_compare(struct replica *r, const struct wire_compare *compare, unsigned char *bitmap, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = intake_range_check(r, compare->disk, compare->first, compare->count, err);
	if (rc)
		return rc;
	memset(bitmap, 0, ((size_t)compare->count + 7) / 8);
	for (uint32_t i = 0; i < compare->count; i++) {
		struct digest ours = head_digest(r, compare->disk, compare->first + i);
		if (memcmp(ours.bytes, compare->digests + (size_t)i * DIGEST_SIZE, DIGEST_SIZE) != 0 ||
		    scrub_wants(r, compare->disk, compare->first + i))
			bitmap[i / 8] |= (unsigned char)(1 << i % 8);
	}
	return 0;
}

// Unpacks the payload to where its pieces belong in r->block; the other pieces are zeros there.
static int block_unpack(struct replica *r, const struct wire_block *block, struct err *err)
{
	size_t len = (size_t)__builtin_popcount(block->mask) * PIECE_SIZE;
	unsigned char *to = block->mask == MASK_FULL ? r->block : r->pieces;
	const unsigned char *from = to;
	if (codec_unpack(r->unpacker, block->codec, block->payload, block->len, to, len))
		return err_set(err, -EBADMSG, "payload: not %zu bytes in %s", len, codec_name(block->codec));
	if (block->mask == MASK_FULL)
		return 0;
	for (unsigned i = 0; i < PIECES_PER_BLOCK; i++) {
		unsigned char *piece = r->block + (size_t)i * PIECE_SIZE;
		if (!(block->mask >> i & 1)) {
			memset(piece, 0, PIECE_SIZE);
			continue;
		}
		memcpy(piece, from, PIECE_SIZE);
		from += PIECE_SIZE;
	}
	return 0;
}

static uint16_t mask_on_disk(uint64_t size, uint64_t index)
{
	unsigned pieces = (size_of_block(size, index) + PIECE_SIZE - 1) / PIECE_SIZE;
	return (uint16_t)(MASK_FULL >> (PIECES_PER_BLOCK - pieces));
}

// Whether the content goes with the digest: proven where the whole block is here; of pieces, only that a block said to
// be zero has no other content. What lies past the disk's end is zero, or the base could not show it again.
static int block_prove(const struct replica *r, const struct wire_block *block, bool whole, struct err *err)
{
	uint32_t len = size_of_block(r->prot.disk[block->disk].size, block->index);
	if (!bytes_zero(r->block + len, BLOCK_SIZE - len))
		return err_set(err, -EBADMSG, "payload: data past the end of %s", r->prot.disk[block->disk].name);
	bool good = true;
	if (whole) {
		struct digest found = digest_of(&r->prot.digest, block->disk, block->index, r->block);
		good = digest_equal(&found, &block->digest);
	} else if (digest_is_zero(&block->digest)) {
		good = bytes_zero(r->block, BLOCK_SIZE);
	}
	if (!good)
		return err_set(err, -EBADMSG, "digest: block %llu of %s came damaged", (unsigned long long)block->index,
			       r->prot.disk[block->disk].name);
	return 0;
}

// Whether the payload can lie in the overlay as it came.
static bool block_fits_as_it_is(const struct replica *r, const struct wire_block *block)
{
	const struct head_disk *d = &r->head.disk[block->disk];
	return block->mask == MASK_FULL && block->codec == (d->writer ? d->codec : r->codec);
}

int replica_write_block(struct replica *r, const struct wire_block *block, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = intake_range_check(r, block->disk, block->index, 1, err);
	if (rc == 0)
		rc = limits_check(r, false, err);
	if (rc)
		return rc;
	if (block->mask == 0)
		return err_set(err, -EBADMSG, "mask: no piece travels");
	uint16_t all = mask_on_disk(r->prot.disk[block->disk].size, block->index);
	bool whole = (block->mask & all) == all;
	rc = block_unpack(r, block, err);
	if (rc == 0)
		rc = block_prove(r, block, whole, err);
	if (rc)
		return rc;
	if (digest_is_zero(&block->digest)) {
		struct wire_zeros zeros = {.disk = block->disk, .first = block->index, .count = 1};
		return head_write_zeros(r, &zeros, err);
	}
	if (block_fits_as_it_is(r, block))
		return head_write_packed(r, block, err);
	return head_write_pieces(r, block, whole ? MASK_FULL : block->mask, err);
}

int replica_zeros_check(struct replica *r, const struct wire_zeros *zeros, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	return intake_range_check(r, zeros->disk, zeros->first, zeros->count, err);
}

int replica_write_zeros(struct replica *r, const struct wire_zeros *zeros, struct err *err)
{
	LOCK_SCOPE(&r->lock);
	int rc = intake_range_check(r, zeros->disk, zeros->first, zeros->count, err);
	if (rc == 0)
		rc = limits_check(r, false, err);
	return rc ? rc : head_write_zeros(r, zeros, err);
}
