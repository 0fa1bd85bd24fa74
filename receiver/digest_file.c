// SPDX-License-Identifier: Apache-2.0
// The lists of points: written once, and read with a root that proves them, or as far as their sectors do. What a sector and the prelude are is in
// digest_sector.c, the table of the base in digest_table.c.
#include "receiver/digest_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "receiver/digest_sector.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

const struct digest digest_unknown = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

uint64_t digest_list_length(uint64_t entries)
{
	return DIGEST_SECTOR * (1 + entries / DIGEST_LIST_PER_SECTOR + (entries % DIGEST_LIST_PER_SECTOR != 0));
}

enum { BATCH_SECTORS = 128 };

struct list_writer {
	struct env_file *file;
	EVP_MD_CTX *sha;
	unsigned char *batch;
	uint64_t sector;   // number of the one being filled
	unsigned filled;   // finished sectors in the batch
	uint32_t used;	   // entries in the one being filled
};

static int list_flush(struct list_writer *w, struct err *err)
{
	if (w->filled == 0)
		return 0;
	int rc = env_pwrite(w->file, w->batch, (size_t)w->filled * DIGEST_SECTOR, (w->sector - w->filled) * DIGEST_SECTOR);
	w->filled = 0;
	return rc ? err_sys(err, rc, "write") : 0;
}

static int list_finish_sector(struct list_writer *w, struct err *err)
{
	unsigned char *at = w->batch + (size_t)w->filled * DIGEST_SECTOR;
	memset(at + w->used * DIGEST_ENTRY_SIZE, 0, DIGEST_PAYLOAD - w->used * DIGEST_ENTRY_SIZE);
	digest_sector_seal(at, w->sector, w->used);
	w->sector++;
	w->filled++;
	w->used = 0;
	return w->filled == BATCH_SECTORS ? list_flush(w, err) : 0;
}

static int list_put(struct list_writer *w, uint64_t index, const struct digest *digest, struct err *err)
{
	unsigned char *at = w->batch + (size_t)w->filled * DIGEST_SECTOR + w->used * DIGEST_ENTRY_SIZE;
	put_le64(at, index);
	memcpy(at + 8, digest->bytes, DIGEST_SIZE);
	if (EVP_DigestUpdate(w->sha, at, DIGEST_ENTRY_SIZE) != 1)
		return err_set(err, -ENOMEM, "SHA-256 failed");
	return ++w->used == DIGEST_LIST_PER_SECTOR ? list_finish_sector(w, err) : 0;
}

static int list_write(struct list_writer *w, const struct table *digests, struct err *err)
{
	int rc = 0;
	for (uint64_t i = table_next(digests, 0); rc == 0 && i != TABLE_END; i = table_next(digests, i + 1))
		rc = list_put(w, i, table_get(digests, i), err);
	if (rc == 0 && w->used)
		rc = list_finish_sector(w, err);
	return rc ? rc : list_flush(w, err);
}

static void sha_free(EVP_MD_CTX **sha)
{
	EVP_MD_CTX_free(*sha);
}

static EVP_MD_CTX *sha_new(void)
{
	EVP_MD_CTX *sha = EVP_MD_CTX_new();
	if (sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1)
		return sha;
	EVP_MD_CTX_free(sha);
	return NULL;
}

int digest_list_save(struct env_file *file, const struct digest_disk *disk, const struct table *digests,
		     unsigned char ret_root[DIGEST_ROOT_SIZE], struct err *err)
{
	__attribute__((cleanup(sha_free))) EVP_MD_CTX *sha = sha_new();
	AUTO_FREE unsigned char *batch = malloc((size_t)BATCH_SECTORS * DIGEST_SECTOR);
	struct digest_prelude prelude = {.kind = DIGEST_LIST, .disk = *disk, .entries = digests->set};
	unsigned char sector[DIGEST_SECTOR];
	if (!sha || !batch)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = uuid_new(file->env, &prelude.instance);
	if (rc)
		return err_sys(err, rc, "random");
	digest_prelude_encode(sector, &prelude);
	rc = env_pwrite(file, sector, sizeof(sector), 0);
	if (rc)
		return err_sys(err, rc, "write");
	struct list_writer w = {.file = file, .sha = sha, .batch = batch, .sector = 1};
	rc = list_write(&w, digests, err);
	if (rc)
		return rc;
	rc = env_sync(file);
	if (rc)
		return err_sys(err, rc, "sync");
	return EVP_DigestFinal_ex(sha, ret_root, NULL) == 1 ? 0 : err_set(err, -ENOMEM, "SHA-256 failed");
}

struct list_reader {
	EVP_MD_CTX *sha;
	uint64_t blocks;
	uint64_t next;	  // the lowest index that may come
	uint64_t left;	  // entries that must come
	uint64_t missing; // entries of the damaged sectors since the last good one
	bool any_lost, given_up;
	const struct digest_rest *rest;
	digest_each *each;
	digest_lost *lost;
	void *context;
};

// What is wrong with a sector that should have `expected` entries, behind all that came; NULL: nothing.
static const char *sector_fault(const struct list_reader *r, const unsigned char *sector, uint64_t number, uint64_t expected)
{
	uint32_t used = 0;
	uint64_t next = r->next + r->missing;
	if (digest_sector_check(sector, number, &used) || used != expected)
		return "damaged";
	for (uint32_t i = 0; i < used; i++) {
		uint64_t index = get_le64(sector + i * DIGEST_ENTRY_SIZE);
		if (index < next || index >= r->blocks)
			return "out of order, or past the disk's end";
		next = index + 1;
	}
	return NULL;
}

// The damaged sectors that came had entries of blocks below `end`.
static int list_tell_lost(struct list_reader *r, uint64_t end, struct err *err)
{
	uint64_t missing = r->missing;
	bool fits = r->next < end && missing <= end - r->next; // else what came is not in its place, and they may be anywhere
	r->missing = 0;
	return missing ? r->lost(r->context, fits ? r->next : 0, fits ? end : r->blocks, missing, err) : 0;
}

static int list_take_sector(struct list_reader *r, const unsigned char *sector, uint64_t number, struct err *err)
{
	uint64_t expected = min_u64(r->left, DIGEST_LIST_PER_SECTOR);
	const char *fault = sector_fault(r, sector, number, expected);
	r->left -= expected;
	if (fault && !r->lost)
		return err_set(err, -EBADMSG, "sector %llu is %s", (unsigned long long)number, fault);
	if (fault) {
		r->missing += expected;
		r->any_lost = true;
		return 0;
	}
	if (EVP_DigestUpdate(r->sha, sector, expected * DIGEST_ENTRY_SIZE) != 1)
		return err_set(err, -ENOMEM, "SHA-256 failed");
	int rc = list_tell_lost(r, get_le64(sector), err);
	for (uint32_t i = 0; rc == 0 && i < expected; i++) {
		const unsigned char *at = sector + i * DIGEST_ENTRY_SIZE;
		struct digest digest;
		uint64_t index = get_le64(at);
		memcpy(digest.bytes, at + 8, DIGEST_SIZE);
		r->next = index + 1;
		rc = r->each ? r->each(r->context, index, &digest, err) : 0;
	}
	return rc;
}

static int list_read(struct list_reader *r, struct env_file *file, uint64_t sectors, struct err *err)
{
	AUTO_FREE unsigned char *batch = malloc((size_t)BATCH_SECTORS * DIGEST_SECTOR);
	if (!batch)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t number = 1; number < sectors;) {
		uint64_t count = min_u64(BATCH_SECTORS, sectors - number);
		int rc = digest_sectors_read(file, r->given_up, batch, count, number);
		if (rc)
			return err_sys(err, rc, "read");
		for (uint64_t i = 0; rc == 0 && i < count; i++)
			rc = list_take_sector(r, batch + i * DIGEST_SECTOR, number + i, err);
		if (rc == 0 && r->rest)
			rc = r->rest->look(r->rest->context, err);
		if (rc)
			return rc;
		number += count;
	}
	return list_tell_lost(r, r->blocks, err);
}

// All of a list but whether its root is the one that it should be. *ret_lost: a sector was, and there is no root.
static int list_digest(struct env_file *file, const struct digest_disk *disk, uint64_t entries, digest_each *each, digest_lost *lost, void *context,
		       unsigned char ret_root[DIGEST_ROOT_SIZE], bool *ret_lost, struct err *err)
{
	__attribute__((cleanup(sha_free))) EVP_MD_CTX *sha = sha_new();
	if (!sha)
		return err_set(err, -ENOMEM, "out of memory");
	if (entries > size_blocks(disk->size))
		return err_set(err, -EBADMSG, "more entries than the disk has blocks");
	uint64_t length = digest_list_length(entries);
	int rc = digest_length_expect(file, length, err);
	if (rc == 0)
		rc = digest_prelude_expect(file, DIGEST_LIST, disk, entries, err);
	if (rc == -EUCLEAN)
		rc = lost ? 0 : err_set(err, -EBADMSG, "the prelude is damaged");
	struct list_reader r = {.sha = sha, .blocks = size_blocks(disk->size), .left = entries, .given_up = disk->given_up, .rest = disk->rest, .each = each, .lost = lost, .context = context};
	if (rc == 0)
		rc = list_read(&r, file, length / DIGEST_SECTOR, err);
	*ret_lost = r.any_lost;
	if (rc || r.any_lost)
		return rc;
	return EVP_DigestFinal_ex(sha, ret_root, NULL) == 1 ? 0 : err_set(err, -ENOMEM, "SHA-256 failed");
}

int digest_list_salvage(struct env_file *file, const struct digest_disk *disk, uint64_t entries,
			const unsigned char root[DIGEST_ROOT_SIZE], digest_each *each, digest_lost *lost, void *context, struct err *err)
{
	unsigned char found[DIGEST_ROOT_SIZE];
	bool any_lost = false;
	int rc = list_digest(file, disk, entries, each, lost, context, found, &any_lost, err);
	if (rc || any_lost)
		return rc;
	if (memcmp(found, root, sizeof(found)) != 0)
		return err_set(err, -EBADMSG, "the list is not the one that point.json names");
	return 0;
}

int digest_list_load(struct env_file *file, const struct digest_disk *disk, uint64_t entries,
		     const unsigned char root[DIGEST_ROOT_SIZE], digest_each *each, void *context, struct err *err)
{
	return digest_list_salvage(file, disk, entries, root, each, NULL, context, err);
}

int digest_list_survey(struct env_file *file, const struct digest_disk *disk, digest_each *each, void *context, uint64_t *ret_entries,
		       unsigned char ret_root[DIGEST_ROOT_SIZE], struct err *err)
{
	unsigned char sector[DIGEST_SECTOR];
	uint64_t size = 0;
	uint32_t used = 0;
	bool any_lost = false;
	int rc = env_size(file, &size);
	if (rc)
		return err_sys(err, rc, "size");
	if (size < DIGEST_SECTOR || size % DIGEST_SECTOR)
		return err_set(err, -EBADMSG, "a list of %llu bytes was cut off", (unsigned long long)size);
	uint64_t sectors = size / DIGEST_SECTOR - 1, entries = 0;
	if (sectors) { // the last one says how many it has, the others are full
		rc = env_pread_full(file, sector, DIGEST_SECTOR, sectors * DIGEST_SECTOR);
		if (rc)
			return err_sys(err, rc, "read");
		if (digest_sector_check(sector, sectors, &used) || used == 0 || used > DIGEST_LIST_PER_SECTOR)
			return err_set(err, -EBADMSG, "sector %llu is damaged", (unsigned long long)sectors);
		entries = (sectors - 1) * DIGEST_LIST_PER_SECTOR + used;
	}
	rc = list_digest(file, disk, entries, each, NULL, context, ret_root, &any_lost, err);
	if (rc == 0)
		*ret_entries = entries;
	return rc;
}
