// SPDX-License-Identifier: Apache-2.0
// A page counts if and only if it carries the header's instance and sequence: so no crash can join a clean header with pages of
// another stop.
#include "replicator/state_map.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"

#include <string.h>

enum { PAGE = STATE_PAGE, PAGE_HEAD = 40, ENTRY = 8 + DIRTY_REGION_BYTES, ENTRIES_MAX = (PAGE - PAGE_HEAD) / ENTRY };

static void page_encode(const struct state_header *h, uint32_t number, unsigned char page[PAGE], uint32_t entries)
{
	struct cursor c = cursor_over(page, PAGE);
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, number);
	cursor_put_bytes(&c, h->instance.bytes, UUID_SIZE);
	cursor_put_u64(&c, h->sequence);
	cursor_put_u32(&c, entries);
	cursor_put_u32(&c, 0);
	put_le32(page, crc32c(page + 4, PAGE - 4));
}

// Marks what one page names. `next_region`: no region below may come any more.
static bool page_load(const struct state_header *h, uint64_t number, const unsigned char page[PAGE], uint64_t *next_region,
		      struct dirty *dirty)
{
	struct cursor c = cursor_reading(page, PAGE);
	struct uuid instance;
	uint32_t crc = cursor_get_u32(&c);
	uint32_t at = cursor_get_u32(&c);
	cursor_get_bytes(&c, instance.bytes, UUID_SIZE);
	uint64_t sequence = cursor_get_u64(&c);
	uint32_t entries = cursor_get_u32(&c);
	uint32_t zero = cursor_get_u32(&c);
	if (crc != crc32c(page + 4, PAGE - 4) || at != number || !uuid_equal(&instance, &h->instance) ||
	    sequence != h->sequence || entries < 1 || entries > ENTRIES_MAX || zero != 0)
		return false;
	for (uint32_t i = 0; i < entries; i++) {
		uint64_t region = cursor_get_u64(&c);
		const unsigned char *bits = cursor_take(&c, DIRTY_REGION_BYTES);
		if (!bits || region < *next_region || region >= size_regions(h->size))
			return false;
		dirty_load_region(dirty, region, bits);
		*next_region = region + 1;
	}
	return true;
}

bool state_map_load(struct env_file *file, const struct state_header *h, struct dirty *dirty)
{
	uint64_t next_region = 0;
	for (uint64_t number = 0; number < h->page_count; number++) {
		unsigned char page[PAGE];
		if (env_pread_full(file, page, PAGE, state_pages_at(h->size) + number * PAGE) ||
		    !page_load(h, number, page, &next_region, dirty))
			return false;
	}
	return true;
}

int state_map_write(struct env_file *file, struct state_header *h, const struct dirty *dirty)
{
	unsigned char page[PAGE];
	uint32_t entries = 0;
	int rc = 0;
	h->page_count = 0;
	memset(page, 0, PAGE);
	for (uint64_t region = 0; region <= dirty->regions && rc == 0; region++) {
		bool end = region == dirty->regions;
		unsigned char *entry = page + PAGE_HEAD + (size_t)entries * ENTRY;
		if (!end && dirty_save_region(dirty, region, entry + 8)) {
			put_le64(entry, region);
			entries++;
		}
		if (entries == ENTRIES_MAX || (end && entries)) {
			page_encode(h, (uint32_t)h->page_count, page, entries);
			rc = env_pwrite(file, page, PAGE, state_pages_at(h->size) + h->page_count * PAGE);
			h->page_count++;
			entries = 0;
			memset(page, 0, PAGE);
		}
	}
	return rc ? rc : env_sync(file);
}
