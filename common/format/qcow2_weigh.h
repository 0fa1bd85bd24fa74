// SPDX-License-Identifier: Apache-2.0
// How long the file of a merge would be (format/qcow2_merge.h), by the tables of what goes into it alone: what the writer would do is done with
// lengths in the place of bytes.
//
// `least` and `most` are bounds for any content. They are equal but for what tables do not tell: where in its last sector a stream ends (N streams that
// go over as they are: at most 511 · N bytes, before the file's length is rounded to clusters), and what becomes of a block that is put together of
// several layers and then whole, or that was whole and not packed: it is packed again, to any length, or to nothing where it is all zeros.
// `likely` takes a stream to be as long as its neighbour shows, and such a block as long as the longest of what went into it.
#ifndef KAGAMI_FORMAT_QCOW2_WEIGH_H
#define KAGAMI_FORMAT_QCOW2_WEIGH_H

#include "format/qcow2_tables.h"

struct qcow2_span {
	uint64_t least, likely, most;
};

// A block as it comes together, from the uppermost layer down; begins as zero.
struct qcow2_made {
	uint16_t have;		     // pieces so far
	uint16_t data;		     // of them: those that are not zeros for certain
	bool stream;		     // one stream, taken as it is
	struct qcow2_weight longest; // stream that is unpacked for it
};
// Adds what the next layer has. `need`: the pieces of the block in the uppermost layer; `as_it_is`: a stream of this layer may stand for the block.
void qcow2_made_add(struct qcow2_made *made, const struct qcow2_weight *weight, uint16_t need, bool as_it_is);

struct qcow2_sheet { // of a writer that only counts
	uint64_t run_at, run_end; // bytes of packed runs
	uint64_t plain;		  // clusters
	bool broken;		  // the newest run is not at the end of the file
	uint64_t tables, zero_tables;
};
struct qcow2_weigher {
	uint64_t size; // of the disk
	struct qcow2_sheet least, likely, most;
	uint64_t streams, again; // that go over as they are, and that are packed again
	uint64_t streams_most;	 // bytes of the former
};
void qcow2_weigh_begin(struct qcow2_weigher *weigher, uint64_t size);
// The blocks of one table, in the order of tables: QCOW2_TABLE_BLOCKS of them.
void qcow2_weigh_table(struct qcow2_weigher *weigher, uint32_t table, const struct qcow2_made *made);
struct qcow2_span qcow2_weigh_end(const struct qcow2_weigher *weigher);

#endif
