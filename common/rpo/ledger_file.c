// SPDX-License-Identifier: Apache-2.0
// Order of a save: slots and misses, then the header, in the one of two sectors that is not the newest. There is no sync in between, so that
// after a power cut a slot may be newer than the header: such a slot is left out, for what the header does not know of is counted again as a gap.
#include "rpo/ledger_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1, FLAG_POINT = 1, FLAG_MISSING = 2, PAYLOAD = 496 };
enum { AT_INSTANCE = 496, AT_NUMBER = 504, AT_CRC = 508 };

static const char magic[8] = {'K', 'G', 'M', 'A', 'G', 'E', 'S', '1'};

void ledger_file_init(struct ledger_file *f, struct env_root *root, const char *name)
{
	*f = (struct ledger_file){.root = root};
	(void)snprintf(f->name, sizeof(f->name), "%s", name);
}

void ledger_file_close(struct ledger_file *f)
{
	env_close(f->file);
	f->file = NULL;
}

// --- sectors ---

static void sector_seal(const struct ledger_file *f, unsigned char sector[LEDGER_SECTOR], unsigned number)
{
	memcpy(sector + AT_INSTANCE, f->instance, sizeof(f->instance));
	put_le32(sector + AT_NUMBER, number);
	put_le32(sector + AT_CRC, crc32c(sector, AT_CRC));
}

static bool sector_ok(const unsigned char sector[LEDGER_SECTOR], unsigned number)
{
	return get_le32(sector + AT_NUMBER) == number && get_le32(sector + AT_CRC) == crc32c(sector, AT_CRC);
}

static bool sector_ours(const struct ledger_file *f, const unsigned char sector[LEDGER_SECTOR], unsigned number)
{
	return sector_ok(sector, number) && memcmp(sector + AT_INSTANCE, f->instance, sizeof(f->instance)) == 0;
}

static bool clock_ok(int64_t ms)
{
	return ms >= 0 && ms <= LEDGER_CLOCK_MAX;
}

// --- the header ---

static void header_encode(const struct ledger *l, uint64_t sequence, unsigned char sector[LEDGER_SECTOR])
{
	struct cursor c = cursor_over(sector, PAYLOAD);
	memset(sector, 0, LEDGER_SECTOR);
	cursor_put_bytes(&c, magic, sizeof(magic));
	cursor_put_u32(&c, VERSION);
	cursor_put_u32(&c, LEDGER_FILE_SIZE);
	for (unsigned i = 0; i < 3; i++)
		cursor_put_u32(&c, 0); // features: refuse, ignore, clear
	cursor_put_u32(&c, (l->has_point ? FLAG_POINT : 0) | (l->missing ? FLAG_MISSING : 0));
	cursor_put_u64(&c, sequence);
	cursor_put_u64(&c, (uint64_t)l->clock_ms);
	cursor_put_u64(&c, (uint64_t)l->wall_offset_ms);
	cursor_put_u64(&c, l->rpo_ms);
	cursor_put_u64(&c, l->point);
	cursor_put_u64(&c, (uint64_t)l->cut_ms);
	cursor_put_u32(&c, l->objective_ppm);
	cursor_put_u32(&c, l->cause);
	cursor_put_u64(&c, l->miss.serial);
	cursor_put_u64(&c, (uint64_t)l->miss.began_ms);
	cursor_put_u64(&c, l->miss.max_ms);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		cursor_put_u64(&c, l->miss_by_ms[i]);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		cursor_put_u64(&c, l->total_missed_ms[i]);
}

static bool header_sane(const struct ledger *l)
{
	bool cut = l->cut_ms <= LEDGER_CLOCK_MAX && l->cut_ms >= -LEDGER_CLOCK_MAX;
	bool offset = l->wall_offset_ms <= LEDGER_CLOCK_MAX && l->wall_offset_ms >= -LEDGER_CLOCK_MAX;
	bool miss = !l->missing || (l->has_point && l->miss.serial && clock_ok(l->miss.began_ms) && l->miss.began_ms <= l->clock_ms);
	return clock_ok(l->clock_ms) && cut && offset && miss && l->rpo_ms && l->rpo_ms <= (uint64_t)LEDGER_CLOCK_MAX && l->objective_ppm <= LEDGER_PPM &&
	       l->cause < LEDGER_CAUSES && l->miss.serial < UINT64_MAX;
}

static int header_decode(const unsigned char sector[LEDGER_SECTOR], unsigned number, struct ledger *l, uint64_t *ret_sequence)
{
	struct cursor c = cursor_reading(sector, PAYLOAD);
	if (!sector_ok(sector, number) || memcmp(cursor_take(&c, sizeof(magic)), magic, sizeof(magic)) != 0)
		return -EBADMSG;
	uint32_t version = cursor_get_u32(&c), length = cursor_get_u32(&c), refuse = cursor_get_u32(&c);
	(void)cursor_take(&c, 8);
	if (version != VERSION || length != LEDGER_FILE_SIZE || refuse)
		return -EBADMSG;
	uint32_t flags = cursor_get_u32(&c);
	l->has_point = flags & FLAG_POINT;
	l->missing = flags & FLAG_MISSING;
	*ret_sequence = cursor_get_u64(&c);
	l->clock_ms = (int64_t)cursor_get_u64(&c);
	l->wall_offset_ms = (int64_t)cursor_get_u64(&c);
	l->rpo_ms = cursor_get_u64(&c);
	l->point = cursor_get_u64(&c);
	l->cut_ms = (int64_t)cursor_get_u64(&c);
	l->objective_ppm = cursor_get_u32(&c);
	l->cause = cursor_get_u32(&c);
	l->miss = (struct ledger_miss){.serial = cursor_get_u64(&c), .open = l->missing};
	l->miss.began_ms = (int64_t)cursor_get_u64(&c);
	l->miss.max_ms = cursor_get_u64(&c);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		l->miss_by_ms[i] = cursor_get_u64(&c);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		l->total_missed_ms[i] = cursor_get_u64(&c);
	unsigned worst = ledger_worst(l->miss_by_ms);
	l->miss.cause = worst == LEDGER_CAUSES ? 0 : worst;
	return cursor_ok(&c) && header_sane(l) ? 0 : -EBADMSG;
}

// --- misses ---

static void misses_encode(const struct ledger *l, unsigned index, unsigned char sector[LEDGER_SECTOR])
{
	struct cursor c = cursor_over(sector, PAYLOAD);
	memset(sector, 0, LEDGER_SECTOR);
	for (unsigned i = 0; i < LEDGER_MISSES_A_SECTOR; i++) {
		const struct ledger_miss *miss = &l->ended[index * LEDGER_MISSES_A_SECTOR + i];
		cursor_put_u64(&c, miss->serial);
		cursor_put_u64(&c, (uint64_t)miss->began_ms);
		cursor_put_u64(&c, (uint64_t)miss->ended_ms);
		cursor_put_u64(&c, miss->max_ms);
		cursor_put_u64(&c, miss->cause);
	}
}

static void misses_decode(struct ledger *l, unsigned index, const unsigned char sector[LEDGER_SECTOR])
{
	struct cursor c = cursor_reading(sector, PAYLOAD);
	for (unsigned i = 0; i < LEDGER_MISSES_A_SECTOR; i++) {
		unsigned at = index * LEDGER_MISSES_A_SECTOR + i;
		struct ledger_miss miss = {.serial = cursor_get_u64(&c)};
		miss.began_ms = (int64_t)cursor_get_u64(&c);
		miss.ended_ms = (int64_t)cursor_get_u64(&c);
		miss.max_ms = cursor_get_u64(&c);
		uint64_t cause = cursor_get_u64(&c);
		miss.cause = (unsigned)cause;
		bool known = miss.serial && miss.serial % LEDGER_MISSES == at && (l->missing ? miss.serial < l->miss.serial : miss.serial <= l->miss.serial);
		if (known && clock_ok(miss.began_ms) && miss.began_ms <= miss.ended_ms && miss.ended_ms <= l->clock_ms && cause < LEDGER_CAUSES)
			l->ended[at] = miss;
	}
}

// --- slots ---

static void slot_encode(const struct ledger_slot *s, unsigned char sector[LEDGER_SECTOR])
{
	struct cursor c = cursor_over(sector, PAYLOAD);
	memset(sector, 0, LEDGER_SECTOR);
	cursor_put_u64(&c, (uint64_t)s->number);
	cursor_put_u64(&c, (uint64_t)s->until_ms);
	cursor_put_u64(&c, s->rpo_ms);
	cursor_put_u64(&c, s->max_ms);
	cursor_put_u64(&c, s->lead_ms);
	cursor_put_u64(&c, s->dirty_bytes);
	cursor_put_u64(&c, s->wire_bytes);
	cursor_put_u32(&c, s->points);
	cursor_put_u32(&c, s->observed_ms);
	cursor_put_u32(&c, s->unobserved_ms);
	for (unsigned i = 0; i < LEDGER_BUCKETS; i++)
		cursor_put_u32(&c, s->bucket_ms[i]);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		cursor_put_u32(&c, s->missed_ms[i]);
}

static bool slot_sane(const struct ledger *l, const struct ledger_slot *s, enum ledger_scale scale, size_t index)
{
	int64_t length = ledger_slot_length_ms(scale);
	uint64_t buckets = 0, missed = 0;
	for (unsigned i = 0; i < LEDGER_BUCKETS; i++)
		buckets += s->bucket_ms[i];
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		missed += s->missed_ms[i];
	if (s->number < 0 || s->number > LEDGER_CLOCK_MAX / length || (size_t)s->number % ledger_slot_count(scale) != index)
		return false;
	int64_t begin = s->number * length;
	return s->until_ms >= begin && s->until_ms <= begin + length && s->until_ms <= l->clock_ms &&
	       (uint64_t)s->observed_ms + s->unobserved_ms <= (uint64_t)(s->until_ms - begin) && buckets == s->observed_ms && missed <= s->observed_ms &&
	       s->rpo_ms && s->rpo_ms <= (uint64_t)LEDGER_CLOCK_MAX && s->max_ms <= 2 * (uint64_t)LEDGER_CLOCK_MAX;
}

static void slot_decode(struct ledger *l, unsigned at, const unsigned char sector[LEDGER_SECTOR])
{
	enum ledger_scale scale = at < LEDGER_FINE_SLOTS ? LEDGER_FINE : LEDGER_COARSE;
	struct cursor c = cursor_reading(sector, PAYLOAD);
	struct ledger_slot s = {.number = (int64_t)cursor_get_u64(&c)};
	s.until_ms = (int64_t)cursor_get_u64(&c);
	s.rpo_ms = cursor_get_u64(&c);
	s.max_ms = cursor_get_u64(&c);
	s.lead_ms = cursor_get_u64(&c);
	s.dirty_bytes = cursor_get_u64(&c);
	s.wire_bytes = cursor_get_u64(&c);
	s.points = cursor_get_u32(&c);
	s.observed_ms = cursor_get_u32(&c);
	s.unobserved_ms = cursor_get_u32(&c);
	for (unsigned i = 0; i < LEDGER_BUCKETS; i++)
		s.bucket_ms[i] = cursor_get_u32(&c);
	for (unsigned i = 0; i < LEDGER_CAUSES; i++)
		s.missed_ms[i] = cursor_get_u32(&c);
	if (slot_sane(l, &s, scale, at - (scale == LEDGER_FINE ? 0 : LEDGER_FINE_SLOTS)))
		l->slot[at] = s;
}

// --- loading ---

static int header_load(struct ledger_file *f, const unsigned char *data, struct ledger *l)
{
	struct ledger *other = malloc(sizeof(*other));
	uint64_t sequence = 0;
	bool found = false;
	if (!other)
		return -ENOMEM;
	for (unsigned i = 0; i < LEDGER_HEADERS; i++) {
		const unsigned char *sector = data + (size_t)i * LEDGER_SECTOR;
		ledger_init(other, 1, 0, 0, 0);
		if (header_decode(sector, i, other, &sequence) || (found && sequence < f->sequence))
			continue;
		*l = *other;
		f->sequence = sequence;
		memcpy(f->instance, sector + AT_INSTANCE, sizeof(f->instance));
		found = true;
	}
	free(other);
	return found ? 0 : -EBADMSG;
}

static void sectors_load(const struct ledger_file *f, const unsigned char *data, struct ledger *l)
{
	for (unsigned n = LEDGER_HEADERS; n < LEDGER_SECTORS; n++) {
		const unsigned char *sector = data + (size_t)n * LEDGER_SECTOR;
		if (!sector_ours(f, sector, n))
			continue;
		if (n < LEDGER_FIRST_SLOT)
			misses_decode(l, n - LEDGER_HEADERS, sector);
		else
			slot_decode(l, n - LEDGER_FIRST_SLOT, sector);
	}
}

int ledger_file_decode(struct ledger_file *f, const unsigned char data[LEDGER_FILE_SIZE], struct ledger *l)
{
	int rc = header_load(f, data, l);
	if (rc == 0)
		sectors_load(f, data, l);
	return rc;
}

int ledger_file_load(struct ledger_file *f, struct ledger *l, struct err *err)
{
	AUTO_FREE unsigned char *data = malloc(LEDGER_FILE_SIZE);
	int rc = data ? env_open(f->root, f->name, ENV_WRITE, &f->file) : -ENOMEM;
	f->unread = rc && rc != -ENOENT;
	if (rc)
		return err_sys(err, rc, "%s", f->name);
	rc = env_pread_full(f->file, data, LEDGER_FILE_SIZE, 0);
	rc = rc == -ENODATA ? -EBADMSG : rc; // shorter than it was made
	if (rc == 0)
		rc = ledger_file_decode(f, data, l);
	if (rc) {
		ledger_file_close(f);
		f->unread = rc != -EBADMSG;
		return rc == -EBADMSG ? err_set(err, rc, "%s: it is no history, or a damaged one", f->name) : err_sys(err, rc, "%s", f->name);
	}
	f->made = true;
	f->synced_ns = env_mono_ns(f->root->env);
	return 0;
}

// --- saving ---

static int sector_write(const struct ledger_file *f, unsigned char sector[LEDGER_SECTOR], unsigned number)
{
	sector_seal(f, sector, number);
	return env_pwrite(f->file, sector, LEDGER_SECTOR, (uint64_t)number * LEDGER_SECTOR);
}

static int misses_save(const struct ledger_file *f, struct ledger *l)
{
	unsigned char sector[LEDGER_SECTOR];
	for (unsigned n = 0; n < LEDGER_MISS_SECTORS; n++) {
		struct ledger_miss *miss = &l->ended[n * LEDGER_MISSES_A_SECTOR];
		bool changed = false;
		for (unsigned i = 0; i < LEDGER_MISSES_A_SECTOR; i++)
			changed |= miss[i].changed;
		if (!changed)
			continue;
		misses_encode(l, n, sector);
		int rc = sector_write(f, sector, LEDGER_HEADERS + n);
		if (rc)
			return rc;
		for (unsigned i = 0; i < LEDGER_MISSES_A_SECTOR; i++)
			miss[i].changed = false;
	}
	return 0;
}

static int slots_save(const struct ledger_file *f, struct ledger *l)
{
	unsigned char sector[LEDGER_SECTOR];
	for (unsigned i = 0; i < LEDGER_SLOTS; i++) {
		if (!l->slot[i].changed)
			continue;
		slot_encode(&l->slot[i], sector);
		int rc = sector_write(f, sector, LEDGER_FIRST_SLOT + i);
		if (rc)
			return rc;
		l->slot[i].changed = false;
	}
	return 0;
}

// A file of its whole size, of holes: a sector of zeros is none of ours.
void ledger_changed(struct ledger *l)
{
	for (unsigned i = 0; i < LEDGER_SLOTS; i++)
		l->slot[i].changed = l->slot[i].number != LEDGER_EMPTY;
	for (unsigned i = 0; i < LEDGER_MISSES; i++)
		l->ended[i].changed = l->ended[i].serial != 0;
}

// Takes the name from the file that has it: one that could only not be read is no worse for that, and is kept beside.
static int file_leave(struct ledger_file *f)
{
	char aside[LEDGER_PATH_SIZE + sizeof(LEDGER_UNREAD)];
	(void)snprintf(aside, sizeof(aside), "%s" LEDGER_UNREAD, f->name);
	int rc = f->unread ? env_rename(f->root, f->name, aside) : env_unlink(f->root, f->name);
	if (rc == 0 || rc == -ENOENT)
		f->unread = false;
	return rc == -ENOENT ? 0 : rc;
}

static int file_make(struct ledger_file *f, struct ledger *l)
{
	struct env *env = f->root->env;
	int rc = file_leave(f);
	if (rc == 0)
		rc = env_open(f->root, f->name, ENV_CREATE, &f->file);
	if (rc == 0)
		rc = env_truncate(f->file, LEDGER_FILE_SIZE);
	if (rc == 0)
		rc = env_random(env, f->instance, sizeof(f->instance));
	f->synced_ns = env_mono_ns(env);
	f->named = false;
	f->made = rc == 0;
	ledger_changed(l);
	return rc;
}

static int header_save(struct ledger_file *f, const struct ledger *l)
{
	unsigned char sector[LEDGER_SECTOR];
	f->sequence++;
	header_encode(l, f->sequence, sector);
	return sector_write(f, sector, (unsigned)(f->sequence % LEDGER_HEADERS));
}

// The file, and its name once.
static int file_sync(struct ledger_file *f)
{
	char dir[LEDGER_PATH_SIZE];
	int rc = env_sync(f->file);
	if (rc || f->named)
		return rc;
	(void)snprintf(dir, sizeof(dir), "%s", f->name);
	char *slash = strrchr(dir, '/');
	if (slash)
		*slash = 0;
	rc = env_sync_dir(f->root, slash ? dir : ".");
	f->named = rc == 0;
	return rc;
}

int ledger_file_save(struct ledger_file *f, struct ledger *l, struct err *err)
{
	uint64_t now = env_mono_ns(f->root->env);
	int rc = f->file ? 0 : f->made ? env_open(f->root, f->name, ENV_WRITE, &f->file) : file_make(f, l);
	if (rc == 0)
		rc = misses_save(f, l);
	if (rc == 0)
		rc = slots_save(f, l);
	if (rc == 0)
		rc = header_save(f, l);
	if (rc == 0 && now - f->synced_ns >= LEDGER_SYNC_SECONDS * UINT64_C(1000000000)) {
		rc = file_sync(f);
		f->made = rc == 0;
		f->synced_ns = now;
	}
	if (rc == 0)
		return 0;
	ledger_file_close(f);
	f->made = f->made && (rc == -ENOSPC || rc == -EDQUOT); // without room, what it holds is better than nothing; else another one takes its place
	return err_sys(err, rc, "%s", f->name);
}
