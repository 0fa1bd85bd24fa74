// SPDX-License-Identifier: Apache-2.0
// One header, both ways. What it means is decided in state_file.c.
#include "replicator/state_header.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"

#include <string.h>

enum { HEADER_LEN = 264, HEADER_CRC_AT = 28, VERSION = 1, PAGE_ENTRIES = 29 };
static const unsigned char magic[8] = "KAGAMIPS";

uint64_t state_mark_sectors(uint64_t size)
{
	return (size_regions(size) + STATE_MARK_REGIONS - 1) / STATE_MARK_REGIONS;
}

uint64_t state_pages_at(uint64_t size)
{
	return size_round_up(STATE_MARKS_AT + state_mark_sectors(size) * STATE_MARK_SECTOR, STATE_PAGE);
}

static uint64_t page_count_max(uint64_t size)
{
	return (size_regions(size) + PAGE_ENTRIES - 1) / PAGE_ENTRIES;
}

void state_header_encode(const struct state_header *h, unsigned char sector[STATE_HEADER])
{
	memset(sector, 0, STATE_HEADER);
	struct cursor c = cursor_over(sector, HEADER_LEN);
	cursor_put_bytes(&c, magic, sizeof(magic));
	cursor_put_u16(&c, VERSION);
	cursor_put_u16(&c, 0);
	cursor_put_u32(&c, HEADER_LEN);
	for (int features = 0; features < 3; features++)
		cursor_put_u32(&c, 0);
	cursor_put_u32(&c, 0); // the checksum's place
	cursor_put_bytes(&c, h->instance.bytes, UUID_SIZE);
	cursor_put_u64(&c, h->sequence);
	cursor_put_bytes(&c, h->position.protection.bytes, UUID_SIZE);
	cursor_put_bytes(&c, h->position.generation.bytes, UUID_SIZE);
	cursor_put_u64(&c, h->size);
	cursor_put_u64(&c, h->position.point);
	cursor_put_bytes(&c, h->position.pending_cut.bytes, UUID_SIZE);
	cursor_put_u8(&c, (uint8_t)h->phase);
	cursor_put_u8(&c, (uint8_t)h->position.owed);
	cursor_put_bytes(&c, "\0\0\0\0\0", 6);
	cursor_put_u64(&c, h->page_count);
	cursor_put_u64(&c, h->identity.device);
	cursor_put_u64(&c, h->identity.inode);
	cursor_put_u64(&c, h->identity.size);
	cursor_put_u64(&c, h->phase == STATE_RUNS ? h->run : (uint64_t)h->identity.mtime_ns);
	cursor_put_u64(&c, (uint64_t)h->identity.ctime_ns);
	cursor_put_bytes(&c, h->disk, NAME_SIZE);
	cursor_put_bytes(&c, h->position.last_cut.bytes, UUID_SIZE);
	cursor_put_u64(&c, (uint64_t)h->position.last_cut_wall_ns);
	put_le32(sector + HEADER_CRC_AT, crc32c(sector, HEADER_LEN));
}

bool state_header_decode(unsigned char sector[STATE_HEADER], struct state_header *ret_header)
{
	uint32_t crc = get_le32(sector + HEADER_CRC_AT);
	put_le32(sector + HEADER_CRC_AT, 0);
	if (memcmp(sector, magic, sizeof(magic)) != 0 || crc != crc32c(sector, HEADER_LEN))
		return false;
	struct state_header h = {0};
	struct cursor c = cursor_over(sector + sizeof(magic), HEADER_LEN - sizeof(magic));
	unsigned char reserved[6];
	uint16_t version = cursor_get_u16(&c);
	uint16_t zero = cursor_get_u16(&c);
	uint32_t length = cursor_get_u32(&c);
	uint32_t refuse = cursor_get_u32(&c);
	(void)cursor_get_u32(&c); // features to ignore
	(void)cursor_get_u32(&c); // features to clear: a header is always written whole, without them
	(void)cursor_get_u32(&c); // the checksum
	cursor_get_bytes(&c, h.instance.bytes, UUID_SIZE);
	h.sequence = cursor_get_u64(&c);
	cursor_get_bytes(&c, h.position.protection.bytes, UUID_SIZE);
	cursor_get_bytes(&c, h.position.generation.bytes, UUID_SIZE);
	h.size = cursor_get_u64(&c);
	h.position.point = cursor_get_u64(&c);
	cursor_get_bytes(&c, h.position.pending_cut.bytes, UUID_SIZE);
	uint8_t phase = cursor_get_u8(&c);
	uint8_t owed = cursor_get_u8(&c);
	cursor_get_bytes(&c, reserved, sizeof(reserved));
	h.page_count = cursor_get_u64(&c);
	h.identity.device = cursor_get_u64(&c);
	h.identity.inode = cursor_get_u64(&c);
	h.identity.size = cursor_get_u64(&c);
	uint64_t run_or_mtime = cursor_get_u64(&c);
	h.identity.ctime_ns = (int64_t)cursor_get_u64(&c);
	cursor_get_bytes(&c, h.disk, NAME_SIZE);
	cursor_get_bytes(&c, h.position.last_cut.bytes, UUID_SIZE);
	h.position.last_cut_wall_ns = (int64_t)cursor_get_u64(&c);
	h.phase = (enum state_phase)phase;
	h.position.owed = (enum sync_reason)owed;
	if (h.phase == STATE_RUNS)
		h.run = run_or_mtime;
	else
		h.identity.mtime_ns = (int64_t)run_or_mtime;
	*ret_header = h;
	return version == VERSION && zero == 0 && length == HEADER_LEN && refuse == 0 && phase <= STATE_LOST && owed <= SYNC_LAST &&
	       bytes_zero(reserved, sizeof(reserved)) && h.disk[NAME_SIZE - 1] == 0 && size_disk_ok(h.size) &&
	       h.page_count <= page_count_max(h.size) && h.sequence < UINT64_MAX;
}

int state_header_read(struct env_file *file, struct state_header *ret_header)
{
	int newest = -1;
	for (int slot = 0; slot < 2; slot++) {
		unsigned char sector[STATE_HEADER];
		struct state_header h;
		if (env_pread_full(file, sector, sizeof(sector), (uint64_t)slot * STATE_PAGE) || !state_header_decode(sector, &h))
			continue;
		if (newest < 0 || h.sequence > ret_header->sequence) {
			*ret_header = h;
			newest = slot;
		}
	}
	return newest;
}

int state_header_write(struct env_file *file, int slot, const struct state_header *header)
{
	unsigned char sector[STATE_HEADER];
	state_header_encode(header, sector);
	return env_pwrite(file, sector, sizeof(sector), (uint64_t)slot * STATE_PAGE);
}
