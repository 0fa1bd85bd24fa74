// SPDX-License-Identifier: Apache-2.0
// The header of a qcow2 image: all of it, with its extensions and the backing name, in one 512-byte sector.
#ifndef KAGAMI_FORMAT_QCOW2_HEADER_H
#define KAGAMI_FORMAT_QCOW2_HEADER_H

#include "format/qcow2.h"

enum {
	QCOW2_HEADER_LEN = 112,
	QCOW2_HEADER_SECTOR = 512,
	QCOW2_HEADER_READ = 4096, // QEMU's own tools, when they rewrite a header, need more than a sector
	QCOW2_BACKING_MAX = QCOW2_HEADER_SECTOR - QCOW2_HEADER_LEN - 24, // behind the format extension and the end mark
};

struct qcow2_header {
	uint64_t size;
	uint64_t l1_offset;
	uint32_t l1_entries;
	uint64_t refcount_offset;
	uint32_t refcount_clusters;
	uint32_t refcount_order;
	uint64_t compatible;
	enum codec codec;
	enum qcow2_backing backing;
	char backing_name[QCOW2_BACKING_MAX + 1]; // "" without one
};

// Whether `name` may stand in a header: relative, no colon (QEMU would take it for a protocol), no control
// characters, and short enough. -EINVAL otherwise.
int qcow2_backing_check(const char *name, struct err *err);

void qcow2_header_encode(unsigned char to[QCOW2_HEADER_SECTOR], const struct qcow2_header *header);
// Takes the first `len` bytes of a file of `file_size` bytes; nothing in them is trusted. The tables that the
// result names lie within the file. -EBADMSG when it is damaged or no qcow2, -EOPNOTSUPP when it is none of our
// kind.
int qcow2_header_decode(const unsigned char *from, size_t len, uint64_t file_size, struct qcow2_header *ret_header,
			struct err *err);
// Reads and decodes the header of `file`, and tells the file's size.
int qcow2_header_load(struct env_file *file, struct qcow2_header *ret_header, uint64_t *ret_file_size, struct err *err);

#endif
