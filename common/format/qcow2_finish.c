// SPDX-License-Identifier: Apache-2.0
// The writer's second half: tables and refcounts behind the data, then the header.
//
//	header | data … | L1 table | L2 tables | refcount blocks | refcount table
//
// Why a file that was cut off is never an image: all but the header is written and synced before the first byte of
// the header, and the header is one sector, so that there is either none or a whole one over tables and data that
// are on stable storage.
//
// Tables go to fresh clusters, which read as zeros, so that only what holds something is written. L1 entries whose
// blocks are all zeros share one L2 table, by its refcount and without the COPIED bit, as internal snapshots do:
// QEMU copies it before it writes to it. Only many of them do, because QEMU leaves the last user of a shared table
// without its COPIED bit, which is harmless, but an error to `qemu-img check`.
#include "base/auto.h"
#include "format/qcow2_writer_state.h"

#include <errno.h>
#include <stdlib.h>

enum { SHARE_MIN = 64 }; // 16 GiB of zeros

// What finish works with. Of the L1 entries whose blocks are all zeros, `zero_left` have no table yet, and
// `zero_uses` of them may still take the one at `zero_at`.
struct finish {
	struct qcow2_writer *writer;
	unsigned char *l1;     // a cluster of the L1 table
	unsigned char *buffer; // a cluster of anything else
	uint64_t zero_left;
	uint64_t zero_uses;
	uint64_t zero_at;
};

static void page_encode(const struct qcow2_page *page, unsigned char *to)
{
	const struct qcow2_entry zeros = {0, QCOW2_ZERO_ALL};
	for (unsigned i = 0; i < QCOW2_PAGE_ENTRIES; i++)
		qcow2_entry_put(to + i * QCOW2_ENTRY_SIZE, page == &qcow2_zero_page ? zeros : page->entry[i]);
}

// Writes the pages of a table that hold something, each run of them at once, to the fresh cluster at `offset`.
static int table_write(struct finish *finish, const struct qcow2_table *table, uint64_t offset)
{
	for (unsigned first = 0; first < QCOW2_PAGES; first++) {
		size_t len = 0;
		unsigned i = first;
		for (; i < QCOW2_PAGES && table->page[i]; i++, len += QCOW2_PAGE_SIZE)
			page_encode(table->page[i], finish->buffer + len);
		uint64_t at = offset + (uint64_t)first * QCOW2_PAGE_SIZE;
		int rc = len == 0 ? 0 : env_pwrite(finish->writer->file, finish->buffer, len, at);
		if (rc)
			return rc;
		first = i;
	}
	return 0;
}

// Places a table of its own.
static int table_place(struct finish *finish, const struct qcow2_table *table, uint64_t *ret_entry)
{
	uint64_t offset;
	int rc = qcow2_space_take_run(&finish->writer->space, 1, &offset);
	if (rc == 0)
		rc = table_write(finish, table, offset);
	if (rc == 0)
		*ret_entry = QCOW2_COPIED | offset;
	return rc;
}

// Gives an L1 entry whose blocks are all zeros a share of a table of zeros, or where sharing saves little its own.
static int zero_table_place(struct finish *finish, uint64_t *ret_entry)
{
	struct qcow2_space *space = &finish->writer->space;
	uint64_t uses = min_u64(finish->zero_left--, QCOW2_REFCOUNT_MAX);
	if (finish->zero_uses == 0) {
		int rc = table_place(finish, &qcow2_zero_table, ret_entry);
		if (rc || uses < SHARE_MIN)
			return rc;
		finish->zero_uses = uses;
		finish->zero_at = *ret_entry & QCOW2_OFFSET_MASK;
		space->refs[finish->zero_at / QCOW2_CLUSTER_SIZE] = (uint16_t)uses;
	}
	finish->zero_uses--;
	*ret_entry = finish->zero_at;
	return 0;
}

// Writes the L2 tables that one cluster of the L1 table names, and that cluster when it names any.
static int l1_cluster_write(struct finish *finish, uint32_t first)
{
	const struct qcow2_writer *writer = finish->writer;
	uint32_t end = (uint32_t)min_u64(writer->map.table_count, (uint64_t)first + QCOW2_L1_PER_CLUSTER);
	bool any = false;
	memset(finish->l1, 0, QCOW2_CLUSTER_SIZE);
	for (uint32_t i = first; i < end; i++) {
		const struct qcow2_table *table = writer->map.table[i];
		uint64_t entry;
		if (!table)
			continue;
		int rc = qcow2_table_is_zero(table) ? zero_table_place(finish, &entry)
						    : table_place(finish, table, &entry);
		if (rc)
			return rc;
		put_be64(finish->l1 + (size_t)(i - first) * 8, entry);
		any = true;
	}
	if (!any)
		return 0;
	return env_pwrite(writer->file, finish->l1, QCOW2_CLUSTER_SIZE, writer->header.l1_offset + (uint64_t)first * 8);
}

static uint64_t round_div(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit;
}

static int tables_write(struct finish *finish)
{
	struct qcow2_writer *writer = finish->writer;
	uint32_t entries = writer->map.table_count;
	for (uint32_t i = 0; i < entries; i++)
		finish->zero_left += qcow2_table_is_zero(writer->map.table[i]);
	int rc = qcow2_space_take_run(&writer->space, round_div(entries, QCOW2_L1_PER_CLUSTER),
				      &writer->header.l1_offset);
	writer->header.l1_entries = entries;
	for (uint32_t first = 0; rc == 0 && first < entries; first += QCOW2_L1_PER_CLUSTER)
		rc = l1_cluster_write(finish, first);
	return rc;
}

// Refcounts cover their own clusters too: takes the smallest number of blocks that does.
static int refcounts_place(struct qcow2_writer *writer, uint64_t *ret_blocks_at, uint64_t *ret_blocks)
{
	uint64_t used = writer->space.clusters, blocks = 0, tables = 0, need = 1;
	while (blocks < need) {
		blocks = need;
		tables = round_div(blocks, QCOW2_CLUSTER_SIZE / 8);
		need = round_div(used + blocks + tables, QCOW2_REFBLOCK_ENTRIES);
	}
	writer->header.refcount_clusters = (uint32_t)tables;
	*ret_blocks = blocks;
	int rc = qcow2_space_take_run(&writer->space, blocks, ret_blocks_at);
	return rc ? rc : qcow2_space_take_run(&writer->space, tables, &writer->header.refcount_offset);
}

static int refcounts_write(struct finish *finish)
{
	struct qcow2_writer *writer = finish->writer;
	uint64_t at, blocks;
	int rc = refcounts_place(writer, &at, &blocks);
	for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
		uint64_t first = i * QCOW2_REFBLOCK_ENTRIES, offset = at + i * QCOW2_CLUSTER_SIZE;
		size_t count = (size_t)min_u64(QCOW2_REFBLOCK_ENTRIES, writer->space.clusters - first);
		unsigned char entry[8];
		put_be64(entry, offset);
		for (size_t j = 0; j < count; j++)
			put_be16(finish->buffer + j * 2, writer->space.refs[first + j]);
		rc = env_pwrite(writer->file, finish->buffer, count * 2, offset);
		if (rc == 0)
			rc = env_pwrite(writer->file, entry, sizeof(entry), writer->header.refcount_offset + i * 8);
	}
	return rc;
}

static int header_write(struct qcow2_writer *writer)
{
	unsigned char sector[QCOW2_HEADER_SECTOR];
	qcow2_header_encode(sector, &writer->header);
	return env_pwrite(writer->file, sector, sizeof(sector), 0);
}

// Everything but the header.
static int body_write(struct finish *finish)
{
	struct qcow2_writer *writer = finish->writer;
	int rc = qcow2_space_close_run(&writer->space);
	if (rc == 0)
		rc = tables_write(finish);
	if (rc == 0)
		rc = refcounts_write(finish);
	if (rc == 0)
		rc = env_truncate(writer->file, writer->space.clusters * QCOW2_CLUSTER_SIZE);
	return rc;
}

int qcow2_writer_finish(struct qcow2_writer *writer, struct err *err)
{
	assert(!writer->finished);
	writer->finished = true;
	AUTO_FREE unsigned char *memory = malloc(2 * QCOW2_CLUSTER_SIZE);
	if (!memory)
		return err_sys(err, -ENOMEM, "finish the overlay");
	struct finish finish = {.writer = writer, .l1 = memory, .buffer = memory + QCOW2_CLUSTER_SIZE};
	int rc = body_write(&finish);
	if (rc)
		return err_sys(err, rc, "write the tables of the overlay");
	rc = env_sync(writer->file);
	if (rc)
		return err_sys(err, rc, "sync the overlay");
	rc = header_write(writer);
	if (rc)
		return err_sys(err, rc, "write the header of the overlay");
	rc = env_sync(writer->file);
	return rc ? err_sys(err, rc, "sync the header of the overlay") : 0;
}
