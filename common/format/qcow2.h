// SPDX-License-Identifier: Apache-2.0
// qcow2 v3 overlays with extended L2 and 64 KiB clusters: written once from front to back, and read.
// Source: docs/interop/qcow2.txt of QEMU.
//
// One cluster is one block. A writer collects the clusters of one overlay: their data is appended to the file as it
// comes, the tables stay in memory until qcow2_writer_finish(), which makes the file an image. Until then the file has no
// valid header, so that a file cut off anywhere is never taken for an image.
//
// All I/O goes through base/env. Not thread-safe: one thread at a time per writer or reader.
#ifndef KAGAMI_FORMAT_QCOW2_H
#define KAGAMI_FORMAT_QCOW2_H

#include "base/env.h"
#include "base/err.h"
#include "format/codec.h"

#include <stdbool.h>
#include <stdint.h>

enum qcow2_backing { QCOW2_BACKING_RAW, QCOW2_BACKING_QCOW2 };

struct qcow2_config {
	uint64_t size;		    // of the virtual disk, in bytes; a multiple of 512
	enum codec codec;	    // type of compressed clusters: CODEC_ZSTD or CODEC_ZLIB
	const char *backing_name;   // relative, made by us; the header with it fits in the first 512 bytes
	enum qcow2_backing backing; // its format, recorded so that nothing is ever probed
};

struct qcow2_writer;

// Starts an overlay in `file`, which is empty and stays the caller's.
int qcow2_writer_new(struct env_file *file, const struct qcow2_config *config, struct qcow2_writer **ret_writer,
		     struct err *err);
void qcow2_writer_free(struct qcow2_writer *writer); // takes NULL; the file is left as it is

// The whole of block `index` as a compressed stream of the writer's codec, stored as it came. Replaces what was there.
int qcow2_write_packed(struct qcow2_writer *writer, uint64_t index, const void *packed, size_t len, struct err *err);
// The pieces of block `index` named by `mask` (bit i: bytes i*4096 onward), from `block`, BLOCK_SIZE bytes of which only
// those pieces are read. Other pieces of the block keep what this overlay holds or, when it holds nothing, read through.
// A compressed cluster that is there is unpacked first.
int qcow2_write_pieces(struct qcow2_writer *writer, uint64_t index, uint16_t mask, const void *block, struct err *err);
// Makes blocks [first, first + count) read as zeros.
int qcow2_write_zeros(struct qcow2_writer *writer, uint64_t first, uint64_t count, struct err *err);

// The pieces of block `index` that the overlay holds so far; all sixteen of a whole one, also of the disk's last. Any state but failed.
uint16_t qcow2_writer_mask(const struct qcow2_writer *writer, uint64_t index);

// Writes tables, refcounts and, last and after a sync, the header; then syncs again. Afterwards only free is allowed.
int qcow2_writer_finish(struct qcow2_writer *writer, struct err *err);

// Keeping: what a writer holds is brought to stable storage, and can be taken up again after a crash by a record that the caller keeps of
// it: the entry of each block, and the number of clusters. What was kept last, and the time before, is not overwritten by anything that follows.
//
//	qcow2_writer_sync()	what is written is durable; then the caller makes its record durable
//	qcow2_writer_kept()	that is done
//
// A failed sync is -EIO; the writer is only good for qcow2_writer_free() then.
int qcow2_writer_sync(struct qcow2_writer *writer, struct err *err);
void qcow2_writer_kept(struct qcow2_writer *writer);

struct qcow2_slot { // the entry of a block, opaque: as the tables of the file would have it
	uint64_t where, bits;
};
struct qcow2_slot qcow2_writer_slot(const struct qcow2_writer *writer, uint64_t index);
uint64_t qcow2_writer_clusters(const struct qcow2_writer *writer);

// Takes an overlay up as it was kept: resume, the slot of each block (of several the last counts), then resume_end, which proves that
// they fit together (-EBADMSG), cuts off what was not kept and takes the header away that a finish may have left; durable on return.
int qcow2_writer_resume(struct env_file *file, const struct qcow2_config *config, uint64_t clusters, struct qcow2_writer **ret_writer,
			struct err *err);
int qcow2_writer_resume_slot(struct qcow2_writer *writer, uint64_t index, struct qcow2_slot slot, struct err *err);
int qcow2_writer_resume_end(struct qcow2_writer *writer, struct err *err);

struct qcow2_writer_stats {
	uint64_t blocks;       // clusters that the overlay holds something of
	uint64_t file_bytes;   // of the file so far
	uint64_t dead_bytes;   // of clusters that were written again
	uint64_t memory_bytes; // of the tables
};
void qcow2_writer_stats(const struct qcow2_writer *writer, struct qcow2_writer_stats *ret_stats);

// Reading: any image of the kind the writer makes. Everything else is refused with -EBADMSG or -EOPNOTSUPP and a reason:
// unknown incompatible features, external data files, encryption, other cluster sizes, tables outside of the file,
// backing names with a colon or that begin with '/'. The image is not trusted.
struct qcow2_reader;

int qcow2_reader_open(struct env_file *file, struct qcow2_reader **ret_reader, struct err *err);
void qcow2_reader_free(struct qcow2_reader *reader); // takes NULL; the file stays the caller's
uint64_t qcow2_reader_size(const struct qcow2_reader *reader);
const char *qcow2_reader_backing(const struct qcow2_reader *reader); // "" without one
enum qcow2_backing qcow2_reader_backing_format(const struct qcow2_reader *reader);

// The next block at or after `from` of which the overlay holds something. -ENOENT when there is none. On any other error *ret_index is the
// first block at or after `from` that nobody knows of: a table was not read, which has the blocks up to the next multiple of QCOW2_TABLE_BLOCKS.
enum { QCOW2_TABLE_BLOCKS = 4096 };
int qcow2_reader_next(struct qcow2_reader *reader, uint64_t from, uint64_t *ret_index, struct err *err);
// What the overlay itself holds of a block: *ret_mask names the pieces that it stores (data or zeros); those are written to
// `block` (BLOCK_SIZE bytes), the others are left alone.
int qcow2_reader_read(struct qcow2_reader *reader, uint64_t index, void *block, uint16_t *ret_mask, struct err *err);

// What the overlay stores of a block, by its tables alone.
struct qcow2_held {
	uint16_t mask;	// the pieces; 0: none
	bool packed;	// as one compressed stream
	uint32_t bytes; // that it takes in the file: of a stream the sectors that it touches
};
int qcow2_reader_held(struct qcow2_reader *reader, uint64_t index, struct qcow2_held *ret_held, struct err *err);
enum codec qcow2_reader_codec(const struct qcow2_reader *reader); // of its packed blocks
// The stream of a packed block, as qcow2_write_packed() of a writer of the same codec takes it; valid until the next call. -ENOENT
// when the block is not packed, or longer than a writer takes: then qcow2_reader_read() has it. Damage is found as far as
// the stream's length shows it.
int qcow2_reader_packed(struct qcow2_reader *reader, uint64_t index, const void **ret_packed, size_t *ret_len, struct err *err);

// Names another backing file in the header of a finished image, by overwriting its first 512 bytes in one write, then a
// sync. A sector is written whole or not at all, so that after a crash the image names the old file or the new.
int qcow2_set_backing(struct env_file *file, const char *backing_name, enum qcow2_backing backing, struct err *err);

#endif
