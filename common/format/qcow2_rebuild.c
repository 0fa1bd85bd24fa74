// SPDX-License-Identifier: Apache-2.0
#include "format/qcow2_rebuild.h"

#include "base/auto.h"
#include "format/qcow2_header.h"
#include "format/qcow2_layout.h"
#include "format/qcow2_reader_state.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { L1_READ = 64 }; // entries of a table at a time

static uint64_t round_div(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit;
}

// Where the refcounts are in a file of `clusters`; refcounts_place() has taken the fewest blocks that cover all of them. False: there is no room for any.
static bool refcounts_find(uint64_t clusters, struct qcow2_header *header, uint64_t *ret_blocks_at)
{
	uint64_t blocks = round_div(clusters, QCOW2_REFBLOCK_ENTRIES), tables = round_div(blocks, QCOW2_CLUSTER_SIZE / 8);
	if (clusters < 1 + blocks + tables)
		return false;
	header->refcount_clusters = (uint32_t)tables;
	header->refcount_offset = (clusters - tables) * QCOW2_CLUSTER_SIZE;
	*ret_blocks_at = header->refcount_offset - blocks * QCOW2_CLUSTER_SIZE;
	return true;
}

// Which L1 entries have a table, one byte each, and how many.
static uint64_t tables_wanted(const struct qcow2_config *config, qcow2_next *next, const void *context, unsigned char *wanted)
{
	uint64_t blocks = size_blocks(config->size), count = 0;
	for (uint64_t at = next(context, 0); at < blocks; at = next(context, (at / QCOW2_L2_ENTRIES + 1) * QCOW2_L2_ENTRIES)) {
		wanted[at / QCOW2_L2_ENTRIES] = 1;
		count++;
	}
	return count;
}

// Whether an L1 table with exactly these entries lies there, its L2 tables between it and the refcounts. Of most places the first few entries say that it does not.
static int l1_fits(struct env_file *file, const struct qcow2_header *header, const unsigned char *wanted, uint64_t end, bool *ret_fits)
{
	unsigned char l1[L1_READ * 8];
	uint64_t from = header->l1_offset + size_round_up((uint64_t)header->l1_entries * 8, QCOW2_CLUSTER_SIZE);
	int rc = 0;
	*ret_fits = true;
	for (uint32_t i = 0; *ret_fits && i < header->l1_entries; i++) {
		if (i % L1_READ == 0)
			rc = env_pread_full(file, l1, min_u64(L1_READ, header->l1_entries - i) * 8, header->l1_offset + (uint64_t)i * 8);
		if (rc)
			break;
		uint64_t entry = get_be64(l1 + (size_t)(i % L1_READ) * 8), at = entry & QCOW2_OFFSET_MASK;
		*ret_fits = wanted[i] ? qcow2_l1_entry_sound(entry, end) && at >= from && at < end : entry == 0;
	}
	*ret_fits = *ret_fits && rc == 0;
	return rc == -ENODATA ? 0 : rc;
}

// L1 entries of zeros alone may share a table, so that there may be fewer tables than entries: the L1 table is looked for from where it is farthest.
static int l1_find(struct env_file *file, struct qcow2_header *header, const unsigned char *wanted, uint64_t tables, uint64_t end, struct err *err)
{
	uint64_t own = round_div(header->l1_entries, QCOW2_L1_PER_CLUSTER);
	for (uint64_t behind = tables + 1; behind-- > 0;) {
		bool fits = false;
		if (end / QCOW2_CLUSTER_SIZE < 1 + own + behind || (behind == 0 && tables))
			continue;
		header->l1_offset = end - (own + behind) * QCOW2_CLUSTER_SIZE;
		int rc = l1_fits(file, header, wanted, end, &fits);
		if (rc)
			return err_sys(err, rc, "read the L1 table at %llu", (unsigned long long)header->l1_offset);
		if (fits)
			return 0;
	}
	return err_set(err, -EBADMSG, "no L1 table of these blocks is where one should be");
}

static int blocks_compare(struct qcow2_reader *reader, qcow2_next *next, const void *context, struct err *err)
{
	uint64_t blocks = size_blocks(qcow2_reader_size(reader)), wanted = next(context, 0), at = 0;
	int rc = 0;
	for (;;) {
		rc = qcow2_reader_next(reader, at, &at, err);
		if (rc && rc != -ENOENT)
			return rc;
		if ((rc == -ENOENT) != (wanted >= blocks) || (rc == 0 && at != wanted))
			return err_set(err, -EBADMSG, "it holds other blocks than it should");
		if (rc == -ENOENT)
			return 0;
		wanted = next(context, ++at);
	}
}

int qcow2_rebuild(struct env_file *file, const struct qcow2_config *config, qcow2_next *next, const void *context, struct qcow2_reader **ret_reader,
		  struct err *err)
{
	struct qcow2_header header = {.size = config->size, .l1_entries = qcow2_l1_entries(config->size), .refcount_order = QCOW2_REFCOUNT_ORDER,
				      .codec = config->codec, .backing = config->backing};
	AUTO_FREE unsigned char *wanted = calloc(header.l1_entries, 1);
	struct qcow2_reader *reader = NULL;
	uint64_t file_size = 0, end = 0;
	int rc = wanted ? qcow2_backing_check(config->backing_name, err) : err_sys(err, -ENOMEM, "a header");
	if (rc)
		return rc;
	assert(wanted);
	memcpy(header.backing_name, config->backing_name, strlen(config->backing_name) + 1);
	if ((rc = env_size(file, &file_size)))
		return err_sys(err, rc, "size");
	if (file_size % QCOW2_CLUSTER_SIZE || !refcounts_find(file_size / QCOW2_CLUSTER_SIZE, &header, &end))
		return err_set(err, -EBADMSG, "a file of %llu bytes was cut off, or never finished", (unsigned long long)file_size);
	rc = l1_find(file, &header, wanted, tables_wanted(config, next, context, wanted), end, err);
	if (rc == 0)
		rc = qcow2_reader_open_as(file, &header, file_size, &reader, err);
	if (rc == 0 && (rc = blocks_compare(reader, next, context, err)))
		qcow2_reader_free(reader);
	if (rc == 0)
		*ret_reader = reader;
	return rc;
}

int qcow2_rebuild_write(const struct qcow2_reader *reader, struct err *err)
{
	unsigned char sector[QCOW2_HEADER_SECTOR];
	qcow2_header_encode(sector, qcow2_reader_header(reader));
	int rc = env_pwrite(qcow2_reader_file(reader), sector, sizeof(sector), 0);
	if (rc == 0)
		rc = env_sync(qcow2_reader_file(reader));
	return rc ? err_sys(err, rc, "write the qcow2 header") : 0;
}
