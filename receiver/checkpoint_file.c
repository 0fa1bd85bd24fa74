// SPDX-License-Identifier: Apache-2.0
// The journal of a head's checkpoints. What it promises: a checkpoint counts as a whole or not at all, and one that was durable and is damaged
// now is not taken for one that never was, as long as a later one is there.
#include "receiver/checkpoint_file.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { VERSION = 1, LAST = 1, CRC_SIZE = 4 };

static const char magic[8] = {'K', 'G', 'M', 'H', 'E', 'A', 'D', 'S'};

static uint32_t section_length(uint32_t records)
{
	return (uint32_t)size_round_up(CHECKPOINT_HEAD_SIZE + (uint64_t)records * CHECKPOINT_RECORD_SIZE + CRC_SIZE, CHECKPOINT_SECTOR);
}

// --- a section ---

static void section_seal(unsigned char *to, const struct checkpoint_section *s)
{
	struct cursor c = cursor_over(to, CHECKPOINT_HEAD_SIZE);
	memset(to, 0, CHECKPOINT_HEAD_SIZE);
	cursor_put_bytes(&c, magic, sizeof(magic));
	cursor_put_u32(&c, VERSION);
	cursor_put_u32(&c, s->length);
	cursor_put_u32(&c, 0); // features: refuse, ignore, clear
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, 0);
	cursor_put_bytes(&c, s->id.instance.bytes, UUID_SIZE);
	cursor_put_u64(&c, s->id.number);
	cursor_put_u64(&c, s->id.base);
	cursor_put_u64(&c, s->id.predecessor);
	cursor_put_bytes(&c, s->id.cut.bytes, UUID_SIZE);
	cursor_put_u32(&c, s->part);
	cursor_put_u32(&c, s->last ? LAST : 0);
	cursor_put_u32(&c, s->records);
	put_le32(to + s->length - CRC_SIZE, crc32c(to, s->length - CRC_SIZE));
}

int checkpoint_section_decode(const unsigned char *from, size_t len, struct checkpoint_section *ret_section)
{
	struct checkpoint_section s = {.part = 0};
	if (len < CHECKPOINT_SECTOR || memcmp(from, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	struct cursor c = cursor_reading(from + sizeof(magic), CHECKPOINT_HEAD_SIZE - sizeof(magic));
	uint32_t version = cursor_get_u32(&c);
	s.length = cursor_get_u32(&c);
	uint32_t refuse = cursor_get_u32(&c);
	(void)cursor_take(&c, 8);
	if (version != VERSION || refuse || s.length > CHECKPOINT_SECTION_MAX || s.length > len || s.length < CHECKPOINT_SECTOR)
		return -EBADMSG;
	cursor_get_bytes(&c, s.id.instance.bytes, UUID_SIZE);
	s.id.number = cursor_get_u64(&c);
	s.id.base = cursor_get_u64(&c);
	s.id.predecessor = cursor_get_u64(&c);
	cursor_get_bytes(&c, s.id.cut.bytes, UUID_SIZE);
	s.part = cursor_get_u32(&c);
	uint32_t flags = cursor_get_u32(&c);
	s.last = flags & LAST;
	s.records = cursor_get_u32(&c);
	if (s.records > CHECKPOINT_RECORDS_MAX || s.length != section_length(s.records) || flags & ~(uint32_t)LAST ||
	    s.id.number <= s.id.base || get_le32(from + s.length - CRC_SIZE) != crc32c(from, s.length - CRC_SIZE))
		return -EBADMSG;
	*ret_section = s;
	return 0;
}

static void record_encode(unsigned char *to, const struct checkpoint_record *r)
{
	struct cursor c = cursor_over(to, CHECKPOINT_RECORD_SIZE);
	cursor_put_u16(&c, (uint16_t)r->kind);
	cursor_put_u16(&c, r->disk);
	cursor_put_u32(&c, r->codec);
	cursor_put_u64(&c, r->index);
	cursor_put_u64(&c, r->where);
	cursor_put_u64(&c, r->bits);
	cursor_put_bytes(&c, r->digest.bytes, DIGEST_SIZE);
}

int checkpoint_record_decode(const unsigned char from[CHECKPOINT_RECORD_SIZE], struct checkpoint_record *ret_record)
{
	struct cursor c = cursor_reading(from, CHECKPOINT_RECORD_SIZE);
	struct checkpoint_record r = {.kind = (enum checkpoint_kind)cursor_get_u16(&c)};
	r.disk = cursor_get_u16(&c);
	r.codec = cursor_get_u32(&c);
	r.index = cursor_get_u64(&c);
	r.where = cursor_get_u64(&c);
	r.bits = cursor_get_u64(&c);
	cursor_get_bytes(&c, r.digest.bytes, DIGEST_SIZE);
	if ((r.kind != CHECKPOINT_DISK && r.kind != CHECKPOINT_BLOCK) || r.disk >= DISKS_MAX)
		return -EBADMSG;
	*ret_record = r;
	return 0;
}

// --- writing ---

int checkpoint_writer_init(struct checkpoint_writer *w, struct env_file *file, uint64_t at, const struct checkpoint_id *id)
{
	*w = (struct checkpoint_writer){.file = file, .at = at, .section = {.id = *id}, .buf = calloc(1, CHECKPOINT_SECTION_MAX)};
	return w->buf ? 0 : -ENOMEM;
}

static int section_write(struct checkpoint_writer *w, bool last, struct err *err)
{
	struct checkpoint_section *s = &w->section;
	uint32_t used = CHECKPOINT_HEAD_SIZE + s->records * CHECKPOINT_RECORD_SIZE;
	s->length = section_length(s->records);
	s->last = last;
	memset(w->buf + used, 0, s->length - used);
	section_seal(w->buf, s);
	int rc = env_pwrite(w->file, w->buf, s->length, w->at);
	if (rc)
		return err_sys(err, rc, "write");
	w->at += s->length;
	s->part++;
	s->records = 0;
	return 0;
}

int checkpoint_put(struct checkpoint_writer *w, const struct checkpoint_record *record, struct err *err)
{
	int rc = w->section.records == CHECKPOINT_RECORDS_MAX ? section_write(w, false, err) : 0;
	if (rc)
		return rc;
	record_encode(w->buf + CHECKPOINT_HEAD_SIZE + (size_t)w->section.records * CHECKPOINT_RECORD_SIZE, record);
	w->section.records++;
	return 0;
}

int checkpoint_end(struct checkpoint_writer *w, struct err *err)
{
	return section_write(w, true, err);
}

void checkpoint_writer_done(struct checkpoint_writer *w)
{
	free(w->buf);
	w->buf = NULL;
}

// --- reading ---

static int section_read(struct env_file *file, uint64_t at, unsigned char *buf, struct checkpoint_section *ret_section, struct err *err)
{
	size_t len = 0;
	int rc = env_pread(file, buf, CHECKPOINT_SECTION_MAX, at, &len);
	if (rc)
		return err_sys(err, rc, "read");
	return checkpoint_section_decode(buf, len, ret_section);
}

// Whether the section is the next part of a checkpoint that follows checkpoint `base`, of which `part` parts were seen.
static bool follows(const struct checkpoint_section *s, const struct checkpoint_id *newest, const struct checkpoint_id *begun, uint32_t part)
{
	if (s->part != part || s->id.base != newest->number)
		return false;
	if (newest->number && (!uuid_equal(&s->id.instance, &newest->instance) || s->id.predecessor != newest->predecessor ||
			       !uuid_equal(&s->id.cut, &newest->cut)))
		return false;
	return part == 0 || (s->id.number == begun->number && uuid_equal(&s->id.instance, &begun->instance));
}

// Whether a checkpoint that follows a later one than `newest` lies somewhere behind `at`.
static int later_there(struct env_file *file, uint64_t at, const struct checkpoint_id *newest, unsigned char *buf, struct err *err)
{
	uint64_t size = 0;
	int rc = env_size(file, &size);
	if (rc)
		return err_sys(err, rc, "size");
	for (; at < size; at += CHECKPOINT_SECTOR) {
		struct checkpoint_section s;
		size_t len = 0;
		rc = env_pread(file, buf, sizeof(magic), at, &len);
		if (rc)
			return err_sys(err, rc, "read");
		if (len < sizeof(magic) || memcmp(buf, magic, sizeof(magic)) != 0)
			continue;
		rc = section_read(file, at, buf, &s, err);
		if (rc && rc != -EBADMSG)
			return rc;
		bool own = rc == 0 && (newest->number == 0 || uuid_equal(&s.id.instance, &newest->instance));
		if (own && s.id.base > newest->number)
			return err_set(err, -EBADMSG, "checkpoint %llu is damaged, and later ones stand on it",
				       (unsigned long long)newest->number + 1);
	}
	return 0;
}

int checkpoint_find(struct env_file *file, struct checkpoint_extent *ret_extent, struct err *err)
{
	AUTO_FREE unsigned char *buf = malloc(CHECKPOINT_SECTION_MAX);
	struct checkpoint_extent found = {.length = 0};
	struct checkpoint_id begun = {.number = 0};
	uint64_t at = 0, records = 0;
	uint32_t part = 0;
	int rc;
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	for (;;) {
		struct checkpoint_section s;
		rc = section_read(file, at, buf, &s, err);
		if (rc || !follows(&s, &found.id, &begun, part))
			break;
		begun = s.id;
		at += s.length;
		part++;
		records += s.records;
		if (s.last) {
			found = (struct checkpoint_extent){.id = s.id, .length = at, .records = records};
			part = 0;
		}
	}
	if (rc == 0 || rc == -EBADMSG)
		rc = later_there(file, found.length, &found.id, buf, err);
	if (rc)
		return rc;
	if (found.length == 0)
		return err_set(err, -ENOENT, "no checkpoint is whole");
	*ret_extent = found;
	return 0;
}

int checkpoint_read(struct env_file *file, const struct checkpoint_extent *extent, checkpoint_each *each, void *context, struct err *err)
{
	AUTO_FREE unsigned char *buf = malloc(CHECKPOINT_SECTION_MAX);
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t at = 0; at < extent->length;) {
		struct checkpoint_section s;
		int rc = section_read(file, at, buf, &s, err);
		if (rc)
			return rc == -EBADMSG ? err_set(err, rc, "the section at %llu is damaged", (unsigned long long)at) : rc;
		for (uint32_t i = 0; i < s.records; i++) {
			struct checkpoint_record record;
			if (checkpoint_record_decode(buf + CHECKPOINT_HEAD_SIZE + (size_t)i * CHECKPOINT_RECORD_SIZE, &record))
				return err_set(err, -EBADMSG, "record %u of the section at %llu", i, (unsigned long long)at);
			rc = each(context, &record, err);
			if (rc)
				return rc;
		}
		at += s.length;
	}
	return 0;
}

int checkpoint_settle(struct env_file *file, const struct checkpoint_extent *extent, struct err *err)
{
	AUTO_FREE unsigned char *buf = malloc(CHECKPOINT_SECTION_MAX);
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = 0;
	for (uint64_t at = 0; rc == 0 && at < extent->length; at += CHECKPOINT_SECTION_MAX) {
		size_t len = (size_t)min_u64(CHECKPOINT_SECTION_MAX, extent->length - at);
		rc = env_pread_full(file, buf, len, at);
		if (rc == 0)
			rc = env_pwrite(file, buf, len, at);
	}
	if (rc == 0)
		rc = env_truncate(file, extent->length);
	if (rc)
		return err_sys(err, rc, "write again");
	return env_sync(file) ? err_set(err, -EIO, "sync failed") : 0;
}
