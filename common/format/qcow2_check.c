// SPDX-License-Identifier: Apache-2.0
// The check counts, for every cluster of the file, the references to it as `qemu-img check` does, and compares them with the
// refcounts that the file records. Promises: it reads each table once, nothing outside of the file, and no data.
//
//	counted                      once for
//	header, L1, refcount table   each cluster that they take
//	L2 table                     each L1 entry that names it; more than one may only where the table holds no data
//	refcount block               each entry of the refcount table that names it
//	plain cluster                each L2 entry that names it: two are damage (writing one block would change another)
//	packed streams               each stream that touches the cluster
#include "format/qcow2_check.h"

#include "format/qcow2_header.h"
#include "format/qcow2_layout.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// What one cluster is for: one that is for two things is damage.
enum use { USE_NONE, USE_TABLES, USE_L2_ZEROS, USE_L2_DATA, USE_PLAIN, USE_PACKED };

struct cluster {
	uint32_t refs : 29;
	uint32_t use : 3;
};
enum { REFS_MAX = (1 << 29) - 1 };

struct check {
	struct env_file *file;
	uint64_t file_size;
	uint64_t clusters; // of the file, the last one perhaps in part
	struct qcow2_header header;
	struct cluster *cluster;
	unsigned char *l1, *table; // of one cluster each
	uint64_t findings;
	qcow2_found *found;
	void *context;
};

static void found(struct check *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void found(struct check *c, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;
	if (c->findings++ >= QCOW2_CHECK_FINDINGS_MAX)
		return;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	c->found(c->context, text);
}

static const char *use_name(unsigned use)
{
	static const char *const names[] = {"nothing", "a table", "an L2 table", "an L2 table", "a block", "packed blocks"};
	return names[use];
}

// Counts one reference to the cluster at `offset`, which lies in the file. False when it may not be used so.
static bool count(struct check *c, uint64_t offset, enum use use, const char *by, uint64_t by_index)
{
	struct cluster *cluster = &c->cluster[offset / QCOW2_CLUSTER_SIZE];
	bool shared = (use == USE_PACKED && cluster->use == USE_PACKED) || (use == USE_L2_ZEROS && cluster->use == USE_L2_ZEROS);
	bool good = cluster->use == USE_NONE || shared;
	if (!good)
		found(c, "cluster at %llu is referenced twice: by %s %llu, and as %s", (unsigned long long)offset, by,
		      (unsigned long long)by_index, use_name(cluster->use));
	if (cluster->refs < REFS_MAX)
		cluster->refs++;
	if (cluster->use == USE_NONE)
		cluster->use = use;
	return good;
}

static void count_run(struct check *c, uint64_t offset, uint64_t bytes, const char *by)
{
	for (uint64_t at = offset; at < offset + bytes; at += QCOW2_CLUSTER_SIZE)
		(void)count(c, at, USE_TABLES, by, 0);
}

// --- L1 and L2 ---

static void packed_count(struct check *c, uint64_t index, struct qcow2_entry entry)
{
	uint64_t first = qcow2_packed_offset(entry), end = min_u64(first + qcow2_packed_bytes(entry), c->file_size);
	for (uint64_t at = first / QCOW2_CLUSTER_SIZE; at <= (end - 1) / QCOW2_CLUSTER_SIZE; at++)
		(void)count(c, at * QCOW2_CLUSTER_SIZE, USE_PACKED, "packed block", index);
}

static void entry_count(struct check *c, uint64_t index, struct qcow2_entry entry)
{
	if (entry.where == 0 && entry.bits == 0)
		return;
	if (index >= size_blocks(c->header.size))
		found(c, "L2 entry of block %llu: past the end of the disk", (unsigned long long)index);
	else if (!qcow2_entry_sound(entry, c->file_size))
		found(c, "L2 entry of block %llu is %#llx %#llx: reserved bits, or outside of the file", (unsigned long long)index,
		      (unsigned long long)entry.where, (unsigned long long)entry.bits);
	else if (qcow2_entry_packed(entry))
		packed_count(c, index, entry);
	else if (qcow2_entry_offset(entry) && qcow2_entry_offset(entry) < c->file_size)
		(void)count(c, qcow2_entry_offset(entry), USE_PLAIN, "block", index);
}

static bool table_has_data(const unsigned char *table)
{
	for (unsigned i = 0; i < QCOW2_L2_ENTRIES; i++)
		if (qcow2_entry_get(table + i * QCOW2_ENTRY_SIZE).where)
			return true;
	return false;
}

// The table behind an L1 entry; read when it is seen first.
static int table_walk(struct check *c, uint32_t l1, uint64_t offset, struct err *err)
{
	unsigned seen = c->cluster[offset / QCOW2_CLUSTER_SIZE].use;
	if (seen != USE_NONE) {
		(void)count(c, offset, USE_L2_ZEROS, "L1 entry", l1);
		return 0;
	}
	int rc = env_pread_full(c->file, c->table, QCOW2_CLUSTER_SIZE, offset);
	if (rc)
		return err_sys(err, rc, "read the L2 table at %llu", (unsigned long long)offset);
	(void)count(c, offset, table_has_data(c->table) ? USE_L2_DATA : USE_L2_ZEROS, "L1 entry", l1);
	for (unsigned i = 0; i < QCOW2_L2_ENTRIES; i++)
		entry_count(c, (uint64_t)l1 * QCOW2_L2_ENTRIES + i, qcow2_entry_get(c->table + i * QCOW2_ENTRY_SIZE));
	return 0;
}

typedef int l1_each(struct check *c, uint32_t index, uint64_t entry, struct err *err);

static int l1_read(struct check *c, l1_each *each, struct err *err)
{
	for (uint32_t first = 0; first < c->header.l1_entries; first += QCOW2_L1_PER_CLUSTER) {
		uint32_t n = (uint32_t)min_u64(QCOW2_L1_PER_CLUSTER, c->header.l1_entries - first);
		int rc = env_pread_full(c->file, c->l1, n * (size_t)8, c->header.l1_offset + (uint64_t)first * 8);
		if (rc)
			return err_sys(err, rc, "read the L1 table at %llu", (unsigned long long)c->header.l1_offset);
		for (uint32_t i = 0; rc == 0 && i < n; i++)
			rc = get_be64(c->l1 + i * (size_t)8) ? each(c, first + i, get_be64(c->l1 + i * (size_t)8), err) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

static int l1_entry_count(struct check *c, uint32_t index, uint64_t entry, struct err *err)
{
	if (qcow2_l1_entry_sound(entry, c->file_size))
		return table_walk(c, index, entry & QCOW2_OFFSET_MASK, err);
	found(c, "L1 entry %u is %#llx: reserved bits, or outside of the file", index, (unsigned long long)entry);
	return 0;
}

// --- COPIED says "the refcount is exactly one", so it is looked at when all is counted ---

static void copied_check(struct check *c, uint64_t where, const char *what, uint64_t index)
{
	uint32_t refs = c->cluster[(where & QCOW2_OFFSET_MASK) / QCOW2_CLUSTER_SIZE].refs;
	if (!(where & QCOW2_COPIED) != (refs != 1))
		found(c, "%s %llu: the mark COPIED is %s, with %u references", what, (unsigned long long)index,
		      where & QCOW2_COPIED ? "set" : "missing", refs);
}

static int l1_copied_check(struct check *c, uint32_t l1, uint64_t entry, struct err *err)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK;
	if (!qcow2_l1_entry_sound(entry, c->file_size))
		return 0;
	copied_check(c, entry, "L1 entry", l1);
	if (c->cluster[offset / QCOW2_CLUSTER_SIZE].use != USE_L2_DATA)
		return 0;
	int rc = env_pread_full(c->file, c->table, QCOW2_CLUSTER_SIZE, offset);
	if (rc)
		return err_sys(err, rc, "read the L2 table at %llu", (unsigned long long)offset);
	for (unsigned i = 0; i < QCOW2_L2_ENTRIES; i++) {
		struct qcow2_entry e = qcow2_entry_get(c->table + i * QCOW2_ENTRY_SIZE);
		uint64_t at = qcow2_entry_offset(e);
		if (at && at < c->file_size && qcow2_entry_sound(e, c->file_size))
			copied_check(c, e.where, "block", (uint64_t)l1 * QCOW2_L2_ENTRIES + i);
	}
	return 0;
}

// --- refcounts ---

static void refcount_compare(struct check *c, uint64_t cluster, uint32_t recorded)
{
	uint32_t counted = cluster < c->clusters ? c->cluster[cluster].refs : 0;
	if (recorded < counted)
		found(c, "cluster at %llu has refcount %u and %u references", (unsigned long long)cluster * QCOW2_CLUSTER_SIZE, recorded,
		      counted);
	else if (recorded > counted)
		found(c, "cluster at %llu is leaked: refcount %u, %u references", (unsigned long long)cluster * QCOW2_CLUSTER_SIZE,
		      recorded, counted);
}

static void refcounts_absent(struct check *c, uint64_t block)
{
	uint64_t end = min_u64(c->clusters, (block + 1) * QCOW2_REFBLOCK_ENTRIES);
	for (uint64_t i = block * QCOW2_REFBLOCK_ENTRIES; i < end; i++)
		refcount_compare(c, i, 0);
}

// `compare`: the second pass, when every reference is counted; in the first the blocks of refcounts are counted themselves.
static int refcount_block(struct check *c, uint64_t block, uint64_t offset, bool compare, struct err *err)
{
	bool sound = offset % QCOW2_CLUSTER_SIZE == 0 && size_within(offset, QCOW2_CLUSTER_SIZE, c->file_size);
	if (!compare) {
		if (offset && !sound)
			found(c, "refcount block %llu at %llu is outside of the file", (unsigned long long)block, (unsigned long long)offset);
		else if (offset)
			(void)count(c, offset, USE_TABLES, "refcount block", block);
		return 0;
	}
	if (offset == 0 || !sound) {
		refcounts_absent(c, block);
		return 0;
	}
	if (c->cluster[offset / QCOW2_CLUSTER_SIZE].refs != 1) // told already; and a table full of one block would take for ever
		return 0;
	int rc = env_pread_full(c->file, c->l1, QCOW2_CLUSTER_SIZE, offset);
	if (rc)
		return err_sys(err, rc, "read the refcount block at %llu", (unsigned long long)offset);
	for (uint64_t i = 0; i < QCOW2_REFBLOCK_ENTRIES; i++)
		refcount_compare(c, block * QCOW2_REFBLOCK_ENTRIES + i, get_be16(c->l1 + i * 2));
	return 0;
}

static int refcounts_walk(struct check *c, bool compare, struct err *err)
{
	const uint64_t per_cluster = QCOW2_CLUSTER_SIZE / 8;
	uint64_t blocks = c->header.refcount_clusters * per_cluster;
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t at = c->header.refcount_offset + i / per_cluster * QCOW2_CLUSTER_SIZE;
		int rc = i % per_cluster ? 0 : env_pread_full(c->file, c->table, QCOW2_CLUSTER_SIZE, at);
		if (rc)
			return err_sys(err, rc, "read the refcount table at %llu", (unsigned long long)at);
		rc = refcount_block(c, i, get_be64(c->table + i % per_cluster * 8), compare, err);
		if (rc)
			return rc;
	}
	if (compare && c->clusters > blocks * QCOW2_REFBLOCK_ENTRIES)
		found(c, "the refcount table is too short for the file");
	return 0;
}

// --- the whole ---

static int check_begin(struct check *c, struct err *err)
{
	int rc = qcow2_header_load(c->file, &c->header, &c->file_size, err);
	if (rc)
		return rc;
	if (c->header.refcount_order != QCOW2_REFCOUNT_ORDER)
		return err_set(err, -EOPNOTSUPP, "refcounts of 2^%u bits: the image was changed by another program", c->header.refcount_order);
	c->clusters = size_round_up(c->file_size, QCOW2_CLUSTER_SIZE) / QCOW2_CLUSTER_SIZE;
	c->cluster = calloc((size_t)c->clusters, sizeof(*c->cluster));
	c->l1 = malloc(2 * QCOW2_CLUSTER_SIZE);
	if (!c->cluster || !c->l1)
		return err_sys(err, -ENOMEM, "check an image of %llu bytes", (unsigned long long)c->file_size);
	c->table = c->l1 + QCOW2_CLUSTER_SIZE;
	return 0;
}

static int check_all(struct check *c, struct err *err)
{
	count_run(c, 0, 1, "the header");
	count_run(c, c->header.l1_offset, c->header.l1_entries * UINT64_C(8), "the L1 table");
	count_run(c, c->header.refcount_offset, (uint64_t)c->header.refcount_clusters * QCOW2_CLUSTER_SIZE, "the refcount table");
	int rc = refcounts_walk(c, false, err);
	if (rc == 0)
		rc = l1_read(c, l1_entry_count, err);
	if (rc == 0)
		rc = l1_read(c, l1_copied_check, err);
	return rc ? rc : refcounts_walk(c, true, err);
}

int qcow2_check(struct env_file *file, qcow2_found *each, void *context, uint64_t *ret_findings, struct err *err)
{
	struct check c = {.file = file, .found = each, .context = context};
	int rc = check_begin(&c, err);
	if (rc == 0)
		rc = check_all(&c, err);
	if (c.findings > QCOW2_CHECK_FINDINGS_MAX) {
		char text[64];
		(void)snprintf(text, sizeof(text), "and %llu things more", (unsigned long long)c.findings - QCOW2_CHECK_FINDINGS_MAX);
		each(context, text);
	}
	*ret_findings = c.findings;
	free(c.cluster);
	free(c.l1);
	return rc;
}
