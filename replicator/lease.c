// SPDX-License-Identifier: Apache-2.0
#include "replicator/lease.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/cursor.h"

#include <errno.h>
#include <string.h>

#define LEASE_NS (LEASE_S * INT64_C(1000000000))
enum { LEASE_VERSION = 1, LEASE_CRC_AT = 12, LEASE_HEAD = 16, LEASE_RUN = 16 };
static const unsigned char magic[8] = "KAGAMILS";
static const char name[] = "lease";

void lease_encode(const struct lease_book *book, unsigned char sector[LEASE_BYTES])
{
	memset(sector, 0, LEASE_BYTES);
	struct cursor c = cursor_over(sector, LEASE_BYTES);
	cursor_put_bytes(&c, magic, sizeof(magic));
	cursor_put_u16(&c, LEASE_VERSION);
	cursor_put_u16(&c, (uint16_t)book->count);
	cursor_put_u32(&c, 0); // the checksum's place
	for (unsigned i = 0; i < book->count; i++) {
		cursor_put_u64(&c, book->of[i].run);
		cursor_put_u64(&c, (uint64_t)book->of[i].until_ns);
	}
	put_le32(sector + LEASE_CRC_AT, crc32c(sector, LEASE_BYTES));
}

bool lease_decode(unsigned char sector[LEASE_BYTES], struct lease_book *ret_book)
{
	uint32_t crc = get_le32(sector + LEASE_CRC_AT);
	put_le32(sector + LEASE_CRC_AT, 0);
	if (memcmp(sector, magic, sizeof(magic)) != 0 || crc != crc32c(sector, LEASE_BYTES))
		return false;
	struct cursor c = cursor_reading(sector + sizeof(magic), LEASE_BYTES - sizeof(magic));
	uint16_t version = cursor_get_u16(&c), count = cursor_get_u16(&c);
	(void)cursor_get_u32(&c); // the checksum
	if (version != LEASE_VERSION || count == 0 || count > LEASE_RUNS_MAX)
		return false;
	struct lease_book book = {.count = count};
	for (unsigned i = 0; i < count; i++) {
		book.of[i].run = cursor_get_u64(&c);
		book.of[i].until_ns = (int64_t)cursor_get_u64(&c);
		if (book.of[i].run == 0)
			return false;
	}
	size_t end = LEASE_HEAD + (size_t)count * LEASE_RUN;
	if (!bytes_zero(sector + end, LEASE_BYTES - end))
		return false;
	*ret_book = book;
	return true;
}

static void book_read(struct env_root *state, struct lease_book *ret_book)
{
	unsigned char sector[LEASE_BYTES];
	struct env_file *file = NULL;
	if (env_open(state, name, ENV_READ, &file))
		return;
	if (env_pread_full(file, sector, sizeof(sector), 0) == 0)
		(void)lease_decode(sector, ret_book);
	env_close(file);
}

int lease_begin(struct lease *lease, struct env_root *state, struct err *err)
{
	struct lease_book before = {0};
	*lease = (struct lease){.state = state, .book = {.count = 1}};
	struct lease_run *own = &lease->book.of[0];
	do {
		int rc = env_random(state->env, &own->run, sizeof(own->run));
		if (rc)
			return err_sys(err, rc, "draw a random number");
	} while (own->run == 0);
	book_read(state, &before);
	for (unsigned i = 0; i < before.count && lease->book.count < LEASE_RUNS_MAX; i++) // L3; the oldest may go
		lease->book.of[lease->book.count++] = before.of[i];
	return 0;
}

static int file_open(struct lease *lease)
{
	int rc = env_open(lease->state, name, ENV_CREATE_OPEN, &lease->file);
	return rc ? rc : env_sync_dir(lease->state, ".");
}

int lease_renew(struct lease *lease, struct err *err)
{
	unsigned char sector[LEASE_BYTES];
	int rc = lease->file ? 0 : file_open(lease);
	lease->book.of[0].until_ns = env_wall_ns(lease->state->env) + LEASE_NS; // as late as can be: what waited for the disk is no part of it
	lease_encode(&lease->book, sector);
	if (rc == 0)
		rc = env_pwrite(lease->file, sector, sizeof(sector), 0);
	if (rc == 0)
		rc = env_sync(lease->file);
	if (rc == 0)
		return 0;
	env_close(lease->file); // and opened anew the next time
	lease->file = NULL;
	return err_sys(err, rc, "write the lease");
}

void lease_end(struct lease *lease)
{
	env_close(lease->file);
	lease->file = NULL;
}

uint64_t lease_use(struct lease *lease)
{
	if (!lease)
		return 0;
	atomic_store(&lease->used, true);
	return lease->book.of[0].run;
}

bool lease_used(const struct lease *lease)
{
	return atomic_load(&lease->used);
}

bool lease_covers(const struct lease *lease, uint64_t run, int64_t changed_ns)
{
	for (unsigned i = 1; lease && i < lease->book.count; i++)
		if (lease->book.of[i].run == run)
			return changed_ns <= lease->book.of[i].until_ns;
	return false;
}
