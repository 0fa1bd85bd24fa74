// SPDX-License-Identifier: Apache-2.0
// The tables of an overlay without any of its blocks: what it stores of each, and how long that is, as far as tables say.
#ifndef KAGAMI_FORMAT_QCOW2_TABLES_H
#define KAGAMI_FORMAT_QCOW2_TABLES_H

#include "format/qcow2.h"

struct qcow2_tables; // which tables there are: 16 bytes for each, and no open file

// Reads the header and the L1 table of `file`, which is not needed afterwards. Errors as those of qcow2_reader_open(), and -EBADMSG for an
// entry that leads nowhere.
int qcow2_tables_load(struct env_file *file, struct qcow2_tables **ret_tables, struct err *err);
void qcow2_tables_free(struct qcow2_tables *tables); // takes NULL
uint64_t qcow2_tables_size(const struct qcow2_tables *tables); // of the disk
enum codec qcow2_tables_codec(const struct qcow2_tables *tables);
bool qcow2_tables_has(const struct qcow2_tables *tables, uint32_t table); // anything of the blocks of this table

// What is stored of a block. A table tells in which sectors a stream lies, and not where in the last one it ends.
struct qcow2_weight {
	uint16_t mask;	// the pieces; 0: none
	uint16_t zeros; // of them those that are zeros and take nothing
	bool packed;
	uint32_t len_least, len_likely, len_most; // of the stream
};

// The blocks of `table`, which the overlay has: QCOW2_TABLE_BLOCKS of them. `scratch` has 64 KiB. `file` is the one that was loaded, opened again.
int qcow2_tables_read(const struct qcow2_tables *tables, struct env_file *file, uint32_t table, struct qcow2_weight *ret_weights, void *scratch,
		      struct err *err);

#endif
