// SPDX-License-Identifier: Apache-2.0
// The arithmetic of qcow2_merge.c, qcow2_space.c and qcow2_finish.c; tests/unit/test_qcow2_weigh.c holds it to what these do.
//
// Why the bounds hold. A merge gives nothing back, so its file is: header, plain clusters, runs of packed streams, tables. A run is reserved when what
// is left of the one before is too short for the next stream; what is left is then lost if a plain cluster was taken since, or else used. Of two
// such writers of the same blocks, the one whose streams are as long or longer is never behind the other in the row of runs; and where both are in the same run it
// began it no later, so that what breaks the run for the other breaks it for this one. So shorter streams never make a longer file.
// A block that is packed again, or not, counts in `most` as both.
#include "format/qcow2_weigh.h"

#include "format/qcow2_layout.h"

#include <assert.h>

enum { RUN_SIZE = 4 * QCOW2_CLUSTER_SIZE, ZERO_SHARE_MIN = 64 }; // as qcow2_space.c, qcow2_finish.c

// --- a block ---

void qcow2_made_add(struct qcow2_made *made, const struct qcow2_weight *weight, uint16_t need, bool as_it_is)
{
	if (made->have == need || weight->mask == 0)
		return;
	if (weight->packed && made->have == 0 && as_it_is && weight->len_least <= BLOCK_SIZE) {
		*made = (struct qcow2_made){.have = need, .data = need, .stream = true, .longest = *weight};
		return;
	}
	uint16_t adds = weight->mask & (uint16_t)~made->have;
	made->have |= adds;
	made->data |= adds & (uint16_t)~weight->zeros;
	if (weight->packed && weight->len_likely > made->longest.len_likely)
		made->longest = *weight;
}

// --- the writer ---

static void stream_add(struct qcow2_sheet *sheet, uint64_t len)
{
	if (sheet->run_end - sheet->run_at < len) {
		if (sheet->broken)
			sheet->run_at = sheet->run_end;
		sheet->run_end += RUN_SIZE;
		sheet->broken = false;
	}
	sheet->run_at += len;
}

static void plain_add(struct qcow2_sheet *sheet)
{
	sheet->plain++;
	sheet->broken = true;
}

static void again_add(struct qcow2_weigher *w, const struct qcow2_made *made)
{
	uint32_t likely = made->longest.len_likely;
	w->again++;
	if (likely && likely < BLOCK_SIZE)
		stream_add(&w->likely, likely);
	else
		plain_add(&w->likely);
	plain_add(&w->most);
	stream_add(&w->most, BLOCK_SIZE - 1);
	w->most.broken = true;
}

static void block_add(struct qcow2_weigher *w, const struct qcow2_made *made, bool whole)
{
	if (made->stream) {
		w->streams++;
		w->streams_most += made->longest.len_most;
		stream_add(&w->least, made->longest.len_least);
		stream_add(&w->likely, made->longest.len_likely);
		stream_add(&w->most, made->longest.len_most);
	} else if (!whole) {
		plain_add(&w->least);
		plain_add(&w->likely);
		plain_add(&w->most);
	} else if (made->data) {
		again_add(w, made);
	}
}

static void table_count(struct qcow2_sheet *sheet, bool zeros)
{
	sheet->tables += !zeros;
	sheet->zero_tables += zeros;
}

void qcow2_weigh_begin(struct qcow2_weigher *w, uint64_t size)
{
	*w = (struct qcow2_weigher){.size = size};
}

void qcow2_weigh_table(struct qcow2_weigher *w, uint32_t table, const struct qcow2_made *made)
{
	uint64_t first = (uint64_t)table * QCOW2_L2_ENTRIES;
	unsigned zeros = 0, again = 0, held = 0;
	assert(first < size_blocks(w->size));
	for (unsigned i = 0; i < QCOW2_L2_ENTRIES && first + i < size_blocks(w->size); i++) {
		if (made[i].have == 0)
			continue;
		bool whole = made[i].have == qcow2_pieces_of(w->size, first + i);
		held++;
		zeros += whole && !made[i].data;
		again += whole && made[i].data && !made[i].stream;
		block_add(w, &made[i], whole);
	}
	if (!held)
		return;
	table_count(&w->least, zeros + again == QCOW2_L2_ENTRIES);
	table_count(&w->likely, zeros == QCOW2_L2_ENTRIES);
	table_count(&w->most, zeros == QCOW2_L2_ENTRIES);
}

// --- the file ---

static uint64_t round_div(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit;
}

// Many tables of nothing but zeros share one.
static uint64_t zero_clusters(uint64_t tables)
{
	uint64_t clusters = 0;
	for (; tables >= ZERO_SHARE_MIN; clusters++)
		tables -= min_u64(tables, QCOW2_REFCOUNT_MAX);
	return clusters + tables;
}

static uint64_t refcount_clusters(uint64_t used)
{
	uint64_t blocks = 0, tables = 0, need = 1;
	while (blocks < need) {
		blocks = need;
		tables = round_div(blocks, QCOW2_CLUSTER_SIZE / 8);
		need = round_div(used + blocks + tables, QCOW2_REFBLOCK_ENTRIES);
	}
	return blocks + tables;
}

static uint64_t data_clusters(const struct qcow2_sheet *sheet)
{
	return sheet->plain + round_div(sheet->broken ? sheet->run_end : sheet->run_at, QCOW2_CLUSTER_SIZE);
}

// However runs are broken, three of a run's four clusters are full but for a stream: a bound that does not count what is packed again twice.
static uint64_t data_clusters_most(const struct qcow2_weigher *w)
{
	uint64_t plain = w->most.plain - w->again, packed = w->streams_most + w->again * (BLOCK_SIZE - 1);
	uint64_t apart = plain + 4 + 4 * packed / (RUN_SIZE - BLOCK_SIZE);
	return min_u64(data_clusters(&w->most), apart);
}

static uint64_t file_bytes(const struct qcow2_weigher *w, const struct qcow2_sheet *sheet, uint64_t data)
{
	uint64_t l1 = round_div(qcow2_l1_entries(w->size), QCOW2_L1_PER_CLUSTER);
	uint64_t used = 1 + data + l1 + sheet->tables + zero_clusters(sheet->zero_tables);
	return (used + refcount_clusters(used)) * QCOW2_CLUSTER_SIZE;
}

struct qcow2_span qcow2_weigh_end(const struct qcow2_weigher *w)
{
	struct qcow2_span span = {
		.least = file_bytes(w, &w->least, data_clusters(&w->least)),
		.likely = file_bytes(w, &w->likely, data_clusters(&w->likely)),
		.most = file_bytes(w, &w->most, data_clusters_most(w)),
	};
	span.likely = min_u64(max_u64(span.likely, span.least), span.most);
	return span;
}
