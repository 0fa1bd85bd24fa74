// SPDX-License-Identifier: Apache-2.0
// The state file: two header slots of which the newer valid one counts, and behind them the map of a clean stop.
//
// A map is true if and only if the valid header with the greatest sequence says clean, and every page carries that
// header's instance and sequence. The header is made durable after its pages, so no crash can join a clean header with pages
// of another stop; and the header with clean = 0 is durable before the first write that the map does not know.
#include "replicator/state_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	PAGE = 4096,
	HEADER_LEN = 256,
	HEADER_CRC_AT = 28,
	VERSION = 1,
	PAGES_AT = 2 * PAGE,
	ENTRIES_MAX = 29,
	FILE_NAME_SIZE = 512,
};
static const unsigned char magic[8] = "KAGAMIPS";
#define SEQUENCE_LAST (UINT64_MAX - 8) // a file that got there, which none of ours does, is written anew

struct header {
	struct uuid instance;
	uint64_t sequence;
	struct state_position position;
	uint64_t size;
	bool clean;
	uint64_t page_count;
	struct image_identity identity;
	char disk[NAME_SIZE];
};

struct state_file {
	struct env_file *file;
	struct header header; // the newest that is durable
	int newest;	      // its slot
};

const char *sync_reason_name(enum sync_reason reason)
{
	static const char *const names[] = {
		NULL,	     "initial",	     "state-missing", "state-unreadable", "state-foreign", "unclean-stop",
		"image-changed", "position",
	};
	return names[reason];
}

static uint64_t page_count_max(uint64_t size)
{
	return (size_regions(size) + ENTRIES_MAX - 1) / ENTRIES_MAX;
}

static void header_encode(const struct header *h, unsigned char slot[PAGE])
{
	memset(slot, 0, PAGE);
	struct cursor c = cursor_over(slot, HEADER_LEN);
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
	cursor_put_u8(&c, h->clean);
	cursor_put_bytes(&c, "\0\0\0\0\0\0", 7);
	cursor_put_u64(&c, h->page_count);
	cursor_put_u64(&c, h->identity.device);
	cursor_put_u64(&c, h->identity.inode);
	cursor_put_u64(&c, h->identity.size);
	cursor_put_u64(&c, (uint64_t)h->identity.mtime_ns);
	cursor_put_u64(&c, (uint64_t)h->identity.ctime_ns);
	cursor_put_bytes(&c, h->disk, NAME_SIZE);
	cursor_put_bytes(&c, h->position.last_cut.bytes, UUID_SIZE);
	put_le32(slot + HEADER_CRC_AT, crc32c(slot, HEADER_LEN));
}

static bool header_decode(unsigned char slot[PAGE], struct header *ret_header)
{
	uint32_t crc = get_le32(slot + HEADER_CRC_AT);
	put_le32(slot + HEADER_CRC_AT, 0);
	if (crc != crc32c(slot, HEADER_LEN) || memcmp(slot, magic, sizeof(magic)) != 0)
		return false;
	struct header h = {0};
	struct cursor c = cursor_over(slot + sizeof(magic), HEADER_LEN - sizeof(magic));
	unsigned char reserved[7];
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
	uint8_t clean = cursor_get_u8(&c);
	cursor_get_bytes(&c, reserved, sizeof(reserved));
	h.page_count = cursor_get_u64(&c);
	h.identity.device = cursor_get_u64(&c);
	h.identity.inode = cursor_get_u64(&c);
	h.identity.size = cursor_get_u64(&c);
	h.identity.mtime_ns = (int64_t)cursor_get_u64(&c);
	h.identity.ctime_ns = (int64_t)cursor_get_u64(&c);
	cursor_get_bytes(&c, h.disk, NAME_SIZE);
	cursor_get_bytes(&c, h.position.last_cut.bytes, UUID_SIZE);
	h.clean = clean == 1;
	*ret_header = h;
	return version == VERSION && zero == 0 && length == HEADER_LEN && refuse == 0 && clean <= 1 &&
	       bytes_zero(reserved, sizeof(reserved)) && h.disk[NAME_SIZE - 1] == 0 && size_disk_ok(h.size) &&
	       h.page_count <= page_count_max(h.size) && h.sequence < UINT64_MAX;
}

// The newest valid slot, or -1.
static int header_read(struct env_file *file, struct header *ret_header)
{
	int newest = -1;
	for (int slot = 0; slot < 2; slot++) {
		unsigned char page[PAGE];
		struct header h;
		if (env_pread_full(file, page, PAGE, (uint64_t)slot * PAGE) || !header_decode(page, &h))
			continue;
		if (newest < 0 || h.sequence > ret_header->sequence) {
			*ret_header = h;
			newest = slot;
		}
	}
	return newest;
}

static void page_encode(const struct header *h, uint32_t number, unsigned char page[PAGE], uint32_t entries)
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

enum { PAGE_HEAD = 40, ENTRY = 8 + DIRTY_REGION_BYTES };

// Marks what one page names. `next_region`: no region below may come any more.
static bool page_load(const struct header *h, uint64_t number, const unsigned char page[PAGE], uint64_t *next_region,
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

static bool map_load(struct env_file *file, const struct header *h, struct dirty *dirty)
{
	uint64_t next_region = 0;
	for (uint64_t number = 0; number < h->page_count; number++) {
		unsigned char page[PAGE];
		if (env_pread_full(file, page, PAGE, PAGES_AT + number * PAGE) ||
		    !page_load(h, number, page, &next_region, dirty))
			return false;
	}
	return true;
}

static bool identity_same(const struct image_identity *a, const struct image_identity *b)
{
	return a->inode == b->inode && a->size == b->size && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

// Everything that the header alone decides.
static enum sync_reason header_judge(const struct header *h, const char *disk, const struct state_position *expected,
				     const struct image_identity *identity, uint64_t size)
{
	if (!uuid_equal(&h->position.protection, &expected->protection) ||
	    !uuid_equal(&h->position.generation, &expected->generation) || strcmp(h->disk, disk) != 0)
		return SYNC_STATE_FOREIGN;
	if (!h->clean)
		return SYNC_UNCLEAN_STOP;
	if (h->size != size || !identity_same(&h->identity, identity))
		return SYNC_IMAGE_CHANGED;
	return SYNC_NONE;
}

enum sync_reason state_file_load(struct env_root *root, const char *name, const char *disk,
				 const struct state_position *expected, const struct image_identity *identity, bool is_new,
				 struct dirty *dirty, struct state_position *ret_position)
{
	struct env_file *file = NULL;
	int rc = env_open(root, name, ENV_READ, &file);
	if (is_new)
		rc = -ENOENT; // whatever is there, there is no point that it could be relative to
	if (rc) {
		env_close(file);
		return is_new ? SYNC_INITIAL : rc == -ENOENT ? SYNC_STATE_MISSING : SYNC_STATE_UNREADABLE;
	}
	struct header h;
	enum sync_reason reason =
		header_read(file, &h) < 0 ? SYNC_STATE_UNREADABLE : header_judge(&h, disk, expected, identity, dirty->size);
	if (reason == SYNC_NONE) {
		struct dirty loaded;
		if (dirty_init(&loaded, dirty->size)) {
			reason = SYNC_STATE_UNREADABLE;
		} else {
			if (map_load(file, &h, &loaded))
				dirty_merge(dirty, &loaded);
			else
				reason = SYNC_STATE_UNREADABLE;
			dirty_done(&loaded);
		}
	}
	env_close(file);
	if (reason == SYNC_NONE)
		*ret_position = h.position;
	return reason;
}

// Writes `h` with the next sequence into the slot that is not the newest. Only after the sync is it the newest.
static int header_write(struct state_file *state, const struct header *h)
{
	unsigned char slot[PAGE];
	int target = 1 - state->newest;
	header_encode(h, slot);
	int rc = env_pwrite(state->file, slot, PAGE, (uint64_t)target * PAGE);
	if (rc == 0)
		rc = env_sync(state->file);
	if (rc)
		return rc;
	state->header = *h;
	state->newest = target;
	return 0;
}

// Two slots, of which the second is not valid yet.
static int file_create(struct env_root *root, const char *name, const struct header *h)
{
	unsigned char slots[2 * PAGE] = {0};
	char dir[FILE_NAME_SIZE] = ".";
	const char *end = strrchr(name, '/');
	if (end && snprintf(dir, sizeof(dir), "%.*s", (int)(end - name), name) >= (int)sizeof(dir))
		return -ENAMETOOLONG;
	header_encode(h, slots);
	return env_replace(root, dir, name, slots, sizeof(slots));
}

// Both slots, one after the other: damage to one of them must not bring back the clean stop before.
static int run_write(struct state_file *state, struct header *h)
{
	int rc = 0;
	for (int slot = 0; slot < 2 && rc == 0; slot++) {
		h->sequence = state->header.sequence + 1;
		rc = header_write(state, h);
	}
	return rc;
}

int state_file_open_run(struct env_root *root, const char *name, const char *disk, const struct state_position *position,
			uint64_t size, struct state_file **ret_file, struct err *err)
{
	struct state_file *state = calloc(1, sizeof(*state));
	if (!state)
		return err_sys(err, -ENOMEM, "state file %s", name);
	struct header h = {.sequence = 1, .position = *position, .size = size};
	(void)snprintf(h.disk, sizeof(h.disk), "%s", disk);
	int rc = env_open(root, name, ENV_WRITE, &state->file);
	state->newest = rc == 0 ? header_read(state->file, &state->header) : -1;
	if (state->newest >= 0 && state->header.sequence < SEQUENCE_LAST) {
		h.instance = state->header.instance;
		rc = run_write(state, &h);
	} else {
		env_close(STEAL(state->file));
		rc = uuid_new(root->env, &h.instance);
		if (rc == 0)
			rc = file_create(root, name, &h);
		if (rc == 0)
			rc = env_open(root, name, ENV_WRITE, &state->file);
		state->header = h;
		state->newest = 0;
	}
	if (rc) {
		state_file_close(state);
		return err_sys(err, rc, "write the state file %s", name);
	}
	*ret_file = state;
	return 0;
}

static int map_write(struct state_file *state, struct header *h, const struct dirty *dirty)
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
			rc = env_pwrite(state->file, page, PAGE, PAGES_AT + h->page_count * PAGE);
			h->page_count++;
			entries = 0;
			memset(page, 0, PAGE);
		}
	}
	return rc ? rc : env_sync(state->file);
}

int state_file_save(struct state_file *state, const struct state_position *position, const struct image_identity *identity,
		    const struct dirty *dirty, struct err *err)
{
	struct header h = state->header;
	h.sequence++;
	h.position = *position;
	h.size = dirty->size;
	h.identity = *identity;
	h.clean = true;
	int rc = map_write(state, &h, dirty);
	if (rc == 0)
		rc = header_write(state, &h);
	return rc ? err_sys(err, rc, "write the state file of disk %s", state->header.disk) : 0;
}

void state_file_close(struct state_file *state)
{
	if (!state)
		return;
	env_close(state->file);
	free(state);
}
