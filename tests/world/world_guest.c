// SPDX-License-Identifier: Apache-2.0
// The guest of a side: stamped writes, trims, zeroes, flushes and reads, several at a time, none over another. It knows what it was told, and
// holds the disks to it: a read returns the last completed write (G1), what was flushed is there after any crash (G2), and no error comes that
// the disk did not give (G3, G5).
#include "tests/world/world.h"

#include "replicator/group.h"
#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_FLIGHT_MAX = 6, REQUEST_MAX = 192 << 10 };

// ---- contents

void content_set(struct content **place, struct content *to)
{
	if (to)
		to->refs++;
	if (*place && --(*place)->refs == 0)
		free(*place);
	*place = to;
}

static bool all_zero(const unsigned char *data)
{
	static const unsigned char zeros[BLOCK_SIZE];
	return memcmp(data, zeros, BLOCK_SIZE) == 0;
}

bool content_equal(const struct content *a, const struct content *b)
{
	if (a == b)
		return true;
	if (!a || !b)
		return all_zero(a ? a->data : b->data);
	return memcmp(a->data, b->data, BLOCK_SIZE) == 0;
}

static unsigned char *content_own(struct content **place)
{
	if (*place && (*place)->refs == 1)
		return (*place)->data;
	struct content *own = malloc(sizeof(*own));
	assert(own);
	own->refs = 0;
	if (*place)
		memcpy(own->data, (*place)->data, BLOCK_SIZE);
	else
		memset(own->data, 0, BLOCK_SIZE);
	content_set(place, own);
	return own->data;
}

// Writes a range; `data` NULL: zeros.
static void range_write(struct content **blocks, uint64_t off, const unsigned char *data, uint64_t len)
{
	while (len) {
		uint64_t within = off % BLOCK_SIZE, part = min_u64(len, BLOCK_SIZE - within);
		struct content **place = &blocks[off / BLOCK_SIZE];
		if (data && !(part == BLOCK_SIZE && all_zero(data)))
			memcpy(content_own(place) + within, data, part);
		else if (part == BLOCK_SIZE)
			content_set(place, NULL);
		else if (*place)
			memset(content_own(place) + within, 0, part);
		data = data ? data + part : NULL;
		off += part;
		len -= part;
	}
}

static void range_read(struct content *const *blocks, uint64_t off, unsigned char *data, uint64_t len)
{
	while (len) {
		uint64_t within = off % BLOCK_SIZE, part = min_u64(len, BLOCK_SIZE - within);
		const struct content *from = blocks[off / BLOCK_SIZE];
		if (from)
			memcpy(data, from->data + within, part);
		else
			memset(data, 0, part);
		data += part;
		off += part;
		len -= part;
	}
}

static void *array(uint64_t count, size_t size)
{
	void *memory = calloc(count, size);
	assert(memory);
	return memory;
}

void guest_make(struct side *side)
{
	for (uint16_t d = 0; d < side->config.disk_count; d++) {
		struct side_disk *disk = &side->disk[d];
		uint64_t n = disk->blocks_max = size_blocks(disk->size) + 4 * BLOCKS_PER_REGION;
		disk->image = array(n, sizeof(*disk->image));
		disk->acked = array(n, sizeof(*disk->acked));
		disk->flushed = array(n, sizeof(*disk->flushed));
		disk->unflushed = array(n, 1);
		disk->writers = array(n, sizeof(*disk->writers));
		disk->busy = array(n, sizeof(*disk->busy));
		disk->touched = array(n, 1);
		disk->allowed = array(n, 1);
		disk->told = array(n, 1);
		disk->marked = array(n, 1);
		disk->unsure = array(n, 1);
	}
}

void guest_free(struct side *side)
{
	for (uint16_t d = 0; d < side->config.disk_count; d++) {
		struct side_disk *disk = &side->disk[d];
		for (uint64_t b = 0; b < disk->blocks_max; b++) {
			content_set(&disk->image[b], NULL);
			content_set(&disk->acked[b], NULL);
			content_set(&disk->flushed[b], NULL);
		}
		free((void *)disk->image);
		free((void *)disk->acked);
		free((void *)disk->flushed);
		free(disk->unflushed);
		free(disk->writers);
		free(disk->busy);
		free(disk->touched);
		free(disk->allowed);
		free(disk->told);
		free(disk->marked);
		free(disk->unsure);
	}
}

// ---- what the images hold

static void reread_range(struct side *side, uint16_t d, uint64_t off, uint64_t len)
{
	static unsigned char data[REQUEST_MAX + 2 * BLOCK_SIZE];
	char name[NAME_SIZE * 2];
	struct env_file *file = NULL;
	(void)snprintf(name, sizeof(name), "%s", side->config.disk[d].path);
	int rc = env_open(the_world->images, name, ENV_READ, &file);
	if (rc)
		world_wrong("%s: the image of %s cannot be opened by the test (%d)", side->config.name, name, rc);
	while (len) {
		uint64_t part = min_u64(len, sizeof(data));
		size_t got = 0;
		if (env_pread(file, data, part, off, &got))
			world_wrong("%s: the image cannot be read by the test", side->config.name);
		memset(data + got, 0, part - got);
		range_write(side->disk[d].image, off, data, part);
		off += part;
		len -= part;
	}
	env_close(file);
}

void guest_applied(struct side *side, uint16_t d, enum aio_kind kind, uint64_t off, const void *data, uint64_t len)
{
	struct side_disk *disk = &side->disk[d];
	disk->mtime_ns = the_world->now_ns;
	if (the_world->source.dead || sim_is_off(the_world->source.sim))
		return; // it is read again
	if (kind == AIO_WRITE || kind == AIO_PUNCH || kind == AIO_ZERO) {
		range_write(disk->image, off, kind == AIO_WRITE ? data : NULL, len);
		return;
	}
	host_oracle_begin(&the_world->source);
	reread_range(side, d, off, len);
	host_oracle_end(&the_world->source);
}

// After a start: what is there, and whether what was flushed is part of it.
void guest_reread(struct side *side)
{
	host_oracle_begin(&the_world->source);
	for (uint16_t d = 0; d < side->config.disk_count; d++) {
		struct side_disk *disk = &side->disk[d];
		uint64_t blocks = size_blocks(disk->size);
		reread_range(side, d, 0, disk->size);
		for (uint64_t b = 0; b < blocks; b++) {
			if (!disk->unflushed[b] && !content_equal(disk->image[b], disk->flushed[b]))
				world_wrong("%s, disk %u, block %llu: what was flushed is not there after the crash (G2)", side->config.name, d,
					    (unsigned long long)b);
			content_set(&disk->acked[b], disk->image[b]);
			if (side->cut_power)
				content_set(&disk->flushed[b], disk->image[b]);
			disk->unflushed[b] &= !side->cut_power;
			disk->writers[b] = 0;
		}
	}
	side->cut_power = false;
	host_oracle_end(&the_world->source);
}

// ---- requests

static void each_block(struct guest_request *r, int more)
{
	struct side_disk *disk = &r->side->disk[r->disk];
	if (r->request.command == VOLUME_READ || r->request.command == VOLUME_FLUSH)
		return;
	for (uint64_t b = r->request.off / BLOCK_SIZE; b <= (r->request.off + r->request.len - 1) / BLOCK_SIZE; b++) {
		disk->writers[b] += (unsigned)more;
		disk->busy[b] = r->side->sequence;
		disk->unflushed[b] = true;
		disk->touched[b] |= more > 0;
	}
}

static void unlink_request(struct guest_request *r)
{
	for (struct guest_request **at = &r->side->requests; *at; at = &(*at)->next)
		if (*at == r) {
			*at = r->next;
			break;
		}
	r->side->in_flight--;
	free(r->data);
	free(r);
}

static void flush_ended(struct guest_request *r)
{
	struct side_disk *disk = &r->side->disk[r->disk];
	for (uint64_t b = 0; b < size_blocks(disk->size); b++)
		if (disk->unflushed[b] && !disk->writers[b] && disk->busy[b] < r->began) {
			disk->unflushed[b] = false;
			content_set(&disk->flushed[b], disk->acked[b]);
		}
}

static void check_read(struct guest_request *r)
{
	static unsigned char expected[REQUEST_MAX];
	range_read(r->side->disk[r->disk].acked, r->request.off, expected, r->request.len);
	the_world->did.reads_checked++;
	if (memcmp(expected, r->data, r->request.len) != 0)
		world_wrong("%s, disk %u: a read at %llu does not return the last completed write (G1)", r->side->config.name, r->disk,
			    (unsigned long long)r->request.off);
}

static void on_done(struct volume_request *request, int res)
{
	struct guest_request *r = (struct guest_request *)(void *)request;
	struct side *side = r->side;
	struct side_disk *disk = &side->disk[r->disk];
	if (the_world->source.dead) {
		r->ended = true; // nobody is told; freed with the export
		return;
	}
	if (res < 0 && !side->failed)
		world_wrong("%s, disk %u: the guest got an error (%d) that the disk did not give", side->config.name, r->disk, res);
	side->sequence++;
	each_block(r, -1);
	switch (request->command) {
	case VOLUME_READ:
		if (res == 0)
			check_read(r);
		break;
	case VOLUME_FLUSH:
		if (res == 0)
			flush_ended(r);
		break;
	default:
		if (res == 0) {
			range_write(disk->acked, request->off, request->command == VOLUME_WRITE ? r->data : NULL, request->len);
			break;
		}
		for (uint64_t at = 0; at < request->len; at += SECTOR_SIZE) { // whatever it did
			unsigned char sector[SECTOR_SIZE];
			range_read(disk->image, request->off + at, sector, SECTOR_SIZE);
			range_write(disk->acked, request->off + at, sector, SECTOR_SIZE);
		}
	}
	unlink_request(r);
}

static bool overlaps(const struct side *side, const struct guest_request *r)
{
	for (const struct guest_request *o = side->requests; o; o = o->next)
		if (o->disk == r->disk && o->request.off < r->request.off + r->request.len && r->request.off < o->request.off + o->request.len)
			return true;
	return false;
}

static void fill(struct guest_request *r)
{
	uint64_t noise = world_draw(3);
	for (uint64_t at = 0; at < r->request.len; at += SECTOR_SIZE) {
		uint64_t words[2] = {++the_world->stamp, r->request.off + at};
		memset(r->data + at, noise ? (int)(the_world->stamp & 0xff) : 0, SECTOR_SIZE);
		memcpy(r->data + at, words, sizeof(words));
	}
	if (noise == 2 && r->request.command == VOLUME_WRITE && world_one_in(3))
		memset(r->data, 0, r->request.len); // zeros by content
}

static void place(struct side *side, struct guest_request *r)
{
	struct side_disk *disk = &side->disk[r->disk];
	uint64_t sectors = disk->size / SECTOR_SIZE;
	uint64_t span = world_one_in(4) ? sectors : sectors / 6 + 1;
	uint64_t at = world_draw(span);
	uint64_t len = 1 + world_draw(world_one_in(6) ? REQUEST_MAX / SECTOR_SIZE : 24);
	if (world_one_in(2)) { // as file systems write
		at -= at % 8;
		len = len + 7 - (len + 7) % 8;
	}
	r->request.off = at * SECTOR_SIZE;
	r->request.len = min_u64(len, min_u64(sectors - at, REQUEST_MAX / SECTOR_SIZE)) * SECTOR_SIZE;
}

static void issue(struct side *side)
{
	static const enum volume_command commands[] = {VOLUME_WRITE, VOLUME_WRITE, VOLUME_WRITE, VOLUME_WRITE, VOLUME_WRITE, VOLUME_WRITE,
						       VOLUME_TRIM,  VOLUME_ZERO,  VOLUME_FLUSH, VOLUME_FLUSH, VOLUME_READ,  VOLUME_READ};
	struct guest_request *r = calloc(1, sizeof(*r));
	assert(r);
	r->side = side;
	r->disk = (uint16_t)world_draw(side->config.disk_count);
	r->request.command = commands[world_draw(sizeof(commands) / sizeof(commands[0]))];
	r->request.fua = r->request.command == VOLUME_WRITE && world_one_in(8);
	r->request.no_hole = world_one_in(2);
	r->request.done = on_done;
	if (r->request.command != VOLUME_FLUSH)
		place(side, r);
	if (overlaps(side, r)) {
		free(r);
		return;
	}
	if (r->request.len) {
		r->data = malloc(r->request.len);
		assert(r->data);
		fill(r);
		r->request.data = r->data;
	}
	r->next = side->requests;
	side->requests = r;
	side->in_flight++;
	r->began = ++side->sequence;
	each_block(r, 1);
	volume_submit(&export_group(side->export)->volume[r->disk], &r->request);
}

static void guest_tick(void *context, uint64_t life)
{
	struct side *side = context;
	if (life != side->guest_life || !side->running || the_world->source.dead)
		return;
	for (uint64_t n = 1 + world_draw(3); n && side->in_flight < IN_FLIGHT_MAX; n--)
		issue(side);
	world_at(the_world->now_ns + world_draw(world_one_in(20) ? 3000 : 250) * WORLD_MS, guest_tick, side, life);
}

static void burst(void *context, uint64_t life)
{
	struct side *side = context;
	if (life == side->guest_life && side->running && !the_world->source.dead && side->in_flight < IN_FLIGHT_MAX)
		issue(side);
}

// While a cut holds what is new: just then.
void guest_burst(struct side *side)
{
	for (uint64_t n = world_draw(4); n; n--)
		world_at(the_world->now_ns + world_draw(2 * WORLD_MS), burst, side, side->guest_life);
}

void guest_started(struct side *side)
{
	side->running = true;
	side->guest_life++;
	world_at(the_world->now_ns + world_draw(500) * WORLD_MS, guest_tick, side, side->guest_life);
}

void guest_stopping(struct side *side)
{
	side->running = false;
}

void guest_died(struct side *side)
{
	side->running = false;
	side->guest_life++;
}

void guest_forget(struct side *side)
{
	while (side->requests) {
		side->in_flight = 1;
		unlink_request(side->requests);
	}
	side->in_flight = 0;
}

void guest_grown(struct side *side, uint16_t d, uint64_t size)
{
	struct side_disk *disk = &side->disk[d];
	for (uint64_t b = disk->size / BLOCK_SIZE; b < size_blocks(size); b++)
		disk->touched[b] = true;
	disk->size = size;
}
