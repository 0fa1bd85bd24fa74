// SPDX-License-Identifier: Apache-2.0
// One slice of a scrub is read and proven; scrub.c decides which, and takes in what was found. docs/store.md, "Scrub".
#include "receiver/scrub_slice.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/chain.h"

#include <errno.h>
#include <string.h>

enum { SCRUB_LOGGED = 200 };

// --- what there is ---

static int points_snapshot(struct slice *s, struct err *err)
{
	struct replica *r = s->replica;
	AUTO_FREE struct point_file *point = malloc(sizeof(*point));
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (!point || replica_points(r, &points, &count))
		return err_set(err, -ENOMEM, "out of memory");
	if (count == 0)
		return err_set(err, -ENOENT, "%s has no point yet", r->name);
	s->chain = (struct scrub_chain){.replica = r, .disk = s->disk, .count = count};
	s->chain.level = calloc(count, sizeof(*s->chain.level));
	s->entries = calloc(count, sizeof(*s->entries));
	if (!s->chain.level || !s->entries)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = replica_read_point(r, points[i].number, point, err);
		s->chain.level[i] = (struct scrub_level){.number = points[i].number, .size = point->disk[s->disk].size};
		s->entries[i] = point->disk[s->disk].digests;
	}
	s->newest = points[count - 1].number;
	return rc;
}

static int slice_open(struct slice *s, struct err *err)
{
	size_t n = (size_t)(s->end - s->first);
	int rc = points_snapshot(s, err);
	if (rc)
		return rc;
	s->digest = calloc(n, sizeof(*s->digest));
	s->shown = calloc(n, sizeof(*s->shown));
	s->bad = calloc(n, sizeof(*s->bad));
	s->named = calloc(n, sizeof(*s->named));
	s->block = malloc(BLOCK_SIZE);
	if (!s->digest || !s->shown || !s->bad || !s->named || !s->block)
		return err_set(err, -ENOMEM, "out of memory for a scrub");
	rc = scrub_chain_open(&s->chain, err);
	for (size_t i = 0; rc == 0 && s->open_first && i < s->chain.count; i++)
		(void)scrub_chain_overlay(&s->chain, i);
	return rc == 0 && s->open_first && s->chain.unopened ? err_set(err, -EILSEQ, "an overlay cannot be opened") : rc;
}

static void slice_close(struct slice *s)
{
	scrub_chain_close(&s->chain);
	free(s->chain.level);
	free(s->entries);
	free(s->digest);
	free(s->shown);
	free(s->bad);
	free(s->named);
	free(s->block);
}

// --- which digests hold ---

static int digest_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct slice *s = context;
	(void)err;
	s->digest[index - s->first] = *digest;
	s->named[index - s->first] = true;
	return 0;
}

// Digests that are lost, of level `at`: those of the slice are unknown.
struct losing {
	struct slice *s;
	size_t at;
	bool list;
};

static int losing_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	struct losing *l = context;
	return digest_take(l->s, index, digest, err);
}

static int losing_lost(void *context, uint64_t first, uint64_t end, uint64_t missing, struct err *err)
{
	struct losing *l = context;
	struct slice *s = l->s;
	struct lost_digests lost = {.first = first, .end = end, .missing = missing, .from = s->first, .to = s->end};
	return digests_lost(l->list ? scrub_chain_overlay(&s->chain, l->at) : NULL, &lost, losing_take, l, err);
}

static int base_take(struct slice *s, struct err *err)
{
	struct losing losing = {.s = s};
	const struct replica *r = s->replica;
	AUTO_FILE struct env_file *file = NULL;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)s->disk, .size = s->chain.level[0].size};
	int rc = replica_open_file(r, ENV_READ, &file, err, "base/%s.digests", r->prot.disk[s->disk].name);
	if (rc)
		return rc;
	rc = digest_table_range(file, &of, s->first, min_u64(s->end, size_blocks(of.size)), losing_take, losing_lost, &losing, err);
	return rc ? err_wrap(err, "%s/base/%s.digests", r->name, r->prot.disk[s->disk].name) : 0;
}

static int list_take(struct slice *s, size_t at, struct err *err)
{
	const struct replica *r = s->replica;
	AUTO_FILE struct env_file *file = NULL;
	struct losing losing = {.s = s, .at = at, .list = true};
	unsigned long long number = s->chain.level[at].number;
	struct digest_disk of = {.kind = r->prot.digest.kind, .number = (uint16_t)s->disk, .size = s->chain.level[at].size};
	const char *name = r->prot.disk[s->disk].name;
	int rc = digests_list_open(r, number, s->disk, s->entries[at], &file, err);
	if (rc)
		return rc < 0 ? rc : losing_lost(&losing, 0, size_blocks(of.size), s->entries[at], err);
	rc = digest_list_range(file, &of, s->entries[at], s->first, min_u64(s->end, size_blocks(of.size)), losing_take, losing_lost, &losing,
			       err);
	if (rc == -EBADMSG) // its prelude says so, before anything was taken. What only the root tells, a session finds: here it shows as blocks that do not prove
		return losing_lost(&losing, 0, size_blocks(of.size), s->entries[at], err);
	return rc ? err_wrap(err, "%s/points/%llu/%s.digests", r->name, number, name) : 0;
}

// What the list says cannot be known: every block of the level is in doubt, and is looked at as none that has a digest is.
static void list_unread(struct slice *s, size_t at, const struct err *why)
{
	uint64_t blocks = min_u64(s->end, size_blocks(s->chain.level[at].size));
	log_error("the digests of a point cannot be read protection=%s point=%llu disk=%s reason=\"%s\"", s->replica->name,
		  (unsigned long long)s->chain.level[at].number, s->replica->prot.disk[s->disk].name, why->text);
	for (uint64_t i = s->first; i < blocks; i++) {
		s->digest[i - s->first] = digest_unknown;
		s->named[i - s->first] = true;
	}
}

// Lays level `at` over what is there: `digest` and `shown` are as it shows them. What its disk has and the one before had not is zeros.
static int level_take(struct slice *s, size_t at, struct err *err)
{
	uint64_t blocks = min_u64(s->end, size_blocks(s->chain.level[at].size));
	memset(s->named, 0, (size_t)(s->end - s->first) * sizeof(*s->named));
	struct err why = {0};
	int rc = at == 0 ? base_take(s, &why) : 0;
	if (rc == 0)
		rc = list_take(s, at, &why);
	if (rc == -EIO) {
		list_unread(s, at, &why);
		rc = 0;
	} else if (rc) {
		return err_set(err, rc, "%s", why.text);
	}
	for (uint64_t i = s->first; rc == 0 && i < blocks; i++) {
		s->named[i - s->first] |= s->shown[i - s->first] == 0;
		if (s->named[i - s->first])
			s->shown[i - s->first] = s->chain.level[at].number;
	}
	return rc;
}

// --- proving ---

// Whether the block is what its digest says, as level `at` shows it. An error other than -ENOMEM is an answer: what cannot be read is
// damaged.
static int prove(struct slice *s, size_t at, uint64_t index, bool *ret_sound, struct err *err)
{
	const struct digest *wanted = &s->digest[index - s->first];
	struct err why = {0};
	int rc = scrub_chain_read(&s->chain, at, index, s->block, &why);
	if (rc == -ENOENT || chain_lacks(rc))
		return err_set(err, rc, "%s", why.text);
	struct digest found = digest_of(&s->replica->prot.digest, (uint16_t)s->disk, index, s->block);
	*ret_sound = rc == 0 && digest_equal(&found, wanted);
	s->proofs++;
	s->bytes += digest_is_zero(wanted) ? PIECE_SIZE : BLOCK_SIZE; // zeros are holes, which cost no reading
	if (!*ret_sound && s->replica->scrub.pass.mismatches + damage_blocks(&s->found) < SCRUB_LOGGED) // of a pass: a disk that dies has millions
		log_error("a block is not what its digest says protection=%s point=%llu disk=%s block=%llu reason=\"%s\"", s->replica->name,
			  (unsigned long long)s->chain.level[at].number, s->replica->prot.disk[s->disk].name, (unsigned long long)index,
			  rc ? why.text : digest_is_unknown(wanted) ? "its digest is lost" : "its digest differs");
	if (!*ret_sound && s->replica->scrub.pass.mismatches + damage_blocks(&s->found) == 0) // the first of a pass; its end tells how many
		event_emit(EVENT_CRITICAL, "damage", s->replica->name, NULL, "block %llu of disk %s of %s is damaged, as point %llu shows it", (unsigned long long)index,
			   s->replica->prot.disk[s->disk].name, s->replica->name, (unsigned long long)s->chain.level[at].number);
	return 0;
}

// The version of the block that is in doubt ends before level `at`, or with no level there is yet.
static void bad_end(struct slice *s, uint64_t index, uint64_t to)
{
	uint64_t from = s->bad[index - s->first];
	const struct damage run = {.disk = (uint16_t)s->disk, .first = index, .count = 1, .from = from, .to = to};
	if (from)
		damage_add(&s->found, &run);
	s->bad[index - s->first] = 0;
}

// Whether the tables of level `at` have nothing of a block that its list does not name: else who reads through it sees something else than the
// version below, or nothing at all where the table cannot be read. An error as in prove().
static int pass_through(struct slice *s, size_t at, uint64_t index, bool *ret_sound, struct err *err)
{
	struct err why = {0};
	bool holds = false;
	int rc = scrub_chain_holds(&s->chain, at, index, &holds, &why);
	if (rc == -ENOENT || chain_lacks(rc))
		return err_set(err, rc, "%s", why.text);
	*ret_sound = rc == 0 && !holds;
	if (!*ret_sound && s->replica->scrub.pass.mismatches + damage_blocks(&s->found) + s->unread++ < SCRUB_LOGGED)
		log_error("a block is shown by a table that should not have it protection=%s point=%llu disk=%s block=%llu reason=\"%s\"",
			  s->replica->name, (unsigned long long)s->chain.level[at].number, s->replica->prot.disk[s->disk].name,
			  (unsigned long long)index, rc ? why.text : "the list does not name it");
	return 0;
}

static int level_prove(struct slice *s, size_t at, struct err *err)
{
	uint64_t blocks = size_blocks(s->chain.level[at].size);
	int rc = level_take(s, at, err);
	for (uint64_t i = s->first; rc == 0 && i < s->end; i++) {
		bool sound = true;
		if (!s->named[i - s->first]) {
			rc = i < blocks && !s->bad[i - s->first] ? pass_through(s, at, i, &sound, err) : 0;
			if (rc == 0 && !sound)
				s->bad[i - s->first] = s->chain.level[at].number;
			continue;
		}
		if (at)
			bad_end(s, i, s->chain.level[at - 1].number);
		rc = prove(s, at, i, &sound, err);
		if (rc == 0 && !sound)
			s->bad[i - s->first] = s->chain.level[at].number;
	}
	return rc;
}

// Every version of every block of the slice.
static int versions_prove(struct slice *s, struct err *err)
{
	int rc = 0;
	for (size_t at = 0; rc == 0 && at < s->chain.count; at++)
		rc = level_prove(s, at, err);
	for (uint64_t i = s->first; rc == 0 && i < s->end; i++)
		bad_end(s, i, DAMAGE_OPEN);
	return rc;
}

// The blocks as one point shows them. -EUCLEAN with the first that is not sound, in `ret_bad`.
static int point_prove(struct slice *s, uint64_t number, struct err *err)
{
	size_t at = 0;
	while (at < s->chain.count && s->chain.level[at].number != number)
		at++;
	if (at == s->chain.count)
		return err_set(err, -ENOENT, "point %llu is there no more", (unsigned long long)number);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i <= at; i++)
		rc = level_take(s, i, err);
	for (uint64_t i = s->first; rc == 0 && i < s->end; i++) {
		bool sound = true;
		if (s->shown[i - s->first])
			rc = prove(s, at, i, &sound, err);
		if (rc == 0 && !sound)
			rc = err_set(err, -EUCLEAN, "block %llu differs", (unsigned long long)i);
	}
	return rc;
}

int slice_run(struct slice *s, uint64_t point, struct err *err)
{
	struct replica *r = s->replica;
	unsigned disk = s->disk;
	uint64_t first = s->first, end = s->end;
	bool open_first = s->open_first;
	int rc = slice_open(s, err);
	if (rc == 0)
		rc = point ? point_prove(s, point, err) : versions_prove(s, err);
	slice_close(s);
	if (rc != -EUCLEAN)
		return rc;
	*s = (struct slice){.replica = r, .disk = disk, .first = first, .end = end, .open_first = open_first};
	*err = (struct err){0};
	rc = slice_open(s, err);
	if (rc == 0)
		rc = versions_prove(s, err);
	slice_close(s);
	return rc;
}
