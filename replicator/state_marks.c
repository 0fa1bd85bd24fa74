// SPDX-License-Identifier: Apache-2.0
#include "replicator/state_marks.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

enum { SECTOR = STATE_MARK_SECTOR, BITS_AT = 32 };

static unsigned char *sector_at(const struct state_marks *marks, uint64_t sector)
{
	return marks->bytes + sector * SECTOR;
}

static void sector_seal(unsigned char *sector)
{
	put_le32(sector, crc32c(sector + 4, SECTOR - 4));
}

static void touch(struct state_marks *marks, uint64_t sector)
{
	marks->touched[sector] = 1;
	marks->touched_first = min_u64(marks->touched_first, sector);
	marks->touched_end = max_u64(marks->touched_end, sector + 1);
}

int state_marks_init(struct state_marks *marks, uint64_t size, const struct uuid *instance)
{
	*marks = (struct state_marks){.regions = size_regions(size), .sectors = state_mark_sectors(size)};
	marks->bytes = calloc(marks->sectors, SECTOR);
	marks->touched = calloc(marks->sectors, 1);
	if (!marks->bytes || !marks->touched) {
		state_marks_done(marks);
		return -ENOMEM;
	}
	for (uint64_t s = 0; s < marks->sectors; s++) {
		struct cursor c = cursor_over(sector_at(marks, s), SECTOR);
		cursor_put_u32(&c, 0); // the checksum's place
		cursor_put_u32(&c, (uint32_t)s);
		cursor_put_bytes(&c, instance->bytes, UUID_SIZE);
		touch(marks, s);
	}
	return 0;
}

uint64_t state_marks_memory(uint64_t size)
{
	return state_mark_sectors(size) * (SECTOR + 1);
}

void state_marks_done(struct state_marks *marks)
{
	free(marks->bytes);
	free(marks->touched);
	*marks = (struct state_marks){0};
}

static unsigned char *bits_of(const struct state_marks *marks, uint64_t region, unsigned char *ret_bit)
{
	assert(region < marks->regions);
	unsigned at = (unsigned)(region % STATE_MARK_REGIONS);
	*ret_bit = (unsigned char)(1u << at % 8);
	return sector_at(marks, region / STATE_MARK_REGIONS) + BITS_AT + at / 8;
}

void state_marks_put(struct state_marks *marks, uint64_t region, bool on)
{
	unsigned char bit, *bits = bits_of(marks, region, &bit);
	if (((*bits & bit) != 0) == on)
		return;
	*bits ^= bit;
	if (on)
		marks->marked++;
	else
		marks->marked--;
	touch(marks, region / STATE_MARK_REGIONS);
}

bool state_marks_has(const struct state_marks *marks, uint64_t region)
{
	unsigned char bit;
	return *bits_of(marks, region, &bit) & bit;
}

uint64_t state_marks_digest(const unsigned char *bytes, uint64_t sectors)
{
	uint64_t digest = sectors;
	for (uint64_t s = 0; s < sectors; s++)
		digest = XXH3_64bits_withSeed(bytes + s * SECTOR + BITS_AT, SECTOR - BITS_AT, digest);
	return digest;
}

bool state_marks_digest_of(struct env_file *file, const struct state_header *h, uint64_t *ret_digest)
{
	uint64_t sectors = state_mark_sectors(h->size);
	AUTO_FREE unsigned char *bytes = malloc(sectors * SECTOR);
	if (!bytes || env_pread_full(file, bytes, sectors * SECTOR, STATE_MARKS_AT))
		return false;
	*ret_digest = state_marks_digest(bytes, sectors);
	return true;
}

bool state_marks_differ(const struct state_marks *marks)
{
	return marks->touched_end != 0;
}

void state_marks_seal(struct state_marks *marks)
{
	for (uint64_t s = marks->touched_first; s < marks->touched_end; s++) {
		if (marks->touched[s])
			sector_seal(sector_at(marks, s));
		marks->touched[s] = 0;
	}
	marks->touched_first = UINT64_MAX;
	marks->touched_end = 0;
}

int state_marks_write(struct state_marks *marks, struct env_file *file)
{
	int rc = 0;
	uint64_t end = 0;
	for (uint64_t s = marks->touched_first; s < marks->touched_end && rc == 0; s = end + 1) {
		for (end = s; end < marks->touched_end && marks->touched[end]; end++)
			sector_seal(sector_at(marks, end));
		if (end > s)
			rc = env_pwrite(file, sector_at(marks, s), (size_t)(end - s) * SECTOR, STATE_MARKS_AT + s * SECTOR);
	}
	if (rc == 0)
		state_marks_seal(marks);
	return rc;
}

// Whether a sector is number `at` of this file and names no region past the disk's last.
static bool sector_valid(const struct state_header *h, uint64_t at, const unsigned char *sector)
{
	struct cursor c = cursor_reading(sector, SECTOR);
	struct uuid instance;
	uint32_t crc = cursor_get_u32(&c);
	uint32_t number = cursor_get_u32(&c);
	cursor_get_bytes(&c, instance.bytes, UUID_SIZE);
	uint64_t zero = cursor_get_u64(&c);
	if (crc != crc32c(sector + 4, SECTOR - 4) || number != at || !uuid_equal(&instance, &h->instance) || zero != 0)
		return false;
	uint64_t regions = min_u64(STATE_MARK_REGIONS, size_regions(h->size) - at * STATE_MARK_REGIONS);
	for (uint64_t r = regions; r % 8 != 0; r++)
		if (sector[BITS_AT + r / 8] & 1u << r % 8)
			return false;
	size_t used = BITS_AT + (size_t)(regions + 7) / 8;
	return bytes_zero(sector + used, SECTOR - used);
}

static void sector_mark(uint64_t at, const unsigned char *sector, struct dirty *dirty)
{
	for (unsigned i = 0; i < STATE_MARK_REGIONS / 8; i++)
		for (unsigned bits = sector[BITS_AT + i]; bits; bits &= bits - 1) {
			uint64_t region = at * STATE_MARK_REGIONS + (uint64_t)i * 8 + (unsigned)__builtin_ctz(bits);
			dirty_mark(dirty, region * REGION_SIZE, REGION_SIZE);
		}
}

bool state_marks_load(struct env_file *file, const struct state_header *h, struct dirty *dirty)
{
	uint64_t sectors = state_mark_sectors(h->size);
	AUTO_FREE unsigned char *bytes = malloc(sectors * SECTOR);
	if (!bytes || env_pread_full(file, bytes, sectors * SECTOR, STATE_MARKS_AT))
		return false;
	for (uint64_t s = 0; s < sectors; s++)
		if (!sector_valid(h, s, bytes + s * SECTOR))
			return false;
	for (uint64_t s = 0; s < sectors; s++)
		sector_mark(s, bytes + s * SECTOR, dirty);
	return true;
}
