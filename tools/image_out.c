// SPDX-License-Identifier: Apache-2.0
// What is zeros is not written: 4 KiB at a time in a raw file, so that it is as sparse as the guest's own.
#include "tools/image_out.h"

#include "base/auto.h"
#include "base/bytes.h"
#include "base/size.h"
#include "format/qcow2.h"

#include <errno.h>
#include <string.h>

int image_out_begin(struct image_out *image, struct env_file *file, uint64_t size, bool qcow2, struct err *err)
{
	*image = (struct image_out){.file = file, .size = size};
	if (!size_disk_ok(size))
		return err_set(err, -EBADMSG, "a disk of %llu bytes", (unsigned long long)size);
	if (qcow2) {
		const struct qcow2_config config = {.size = size, .codec = CODEC_ZSTD};
		return qcow2_writer_new(file, &config, &image->writer, err);
	}
	int rc = env_truncate(file, size);
	return rc ? err_sys(err, rc, "make a file of %llu bytes", (unsigned long long)size) : 0;
}

static uint16_t pieces_with_data(const unsigned char *data, uint32_t len)
{
	uint16_t mask = 0;
	for (unsigned i = 0; i * PIECE_SIZE < len; i++)
		if (!bytes_zero(data + i * PIECE_SIZE, (size_t)min_u64(PIECE_SIZE, len - i * PIECE_SIZE)))
			mask |= (uint16_t)(1u << i);
	return mask;
}

// Runs of pieces with data, each in one write.
static int raw_write(const struct image_out *image, uint64_t offset, const unsigned char *data, uint32_t len)
{
	uint16_t mask = pieces_with_data(data, len);
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < PIECES_PER_BLOCK; i++) {
		unsigned first = i;
		if (!(mask >> i & 1))
			continue;
		while (i + 1 < PIECES_PER_BLOCK && mask >> (i + 1) & 1)
			i++;
		uint32_t from = first * PIECE_SIZE, to = (uint32_t)min_u64((i + 1) * PIECE_SIZE, len);
		rc = env_pwrite(image->file, data + from, to - from, offset + from);
	}
	return rc;
}

static int qcow2_write(const struct image_out *image, uint64_t offset, const void *data, uint32_t len, struct err *err)
{
	uint16_t mask = pieces_with_data(data, len);
	AUTO_FREE unsigned char *block = calloc(1, BLOCK_SIZE);
	if (!block)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(block, data, len);
	return mask ? qcow2_write_pieces(image->writer, offset / BLOCK_SIZE, mask, block, err) : 0; // what is not there is zeros
}

int image_out_block(struct image_out *image, uint64_t offset, const void *data, uint32_t len, struct err *err)
{
	if (offset % BLOCK_SIZE || offset >= image->size || len != size_of_block(image->size, offset / BLOCK_SIZE))
		return err_set(err, -EBADMSG, "%u bytes at %llu are no block of the disk", len, (unsigned long long)offset);
	if (image->writer)
		return qcow2_write(image, offset, data, len, err);
	int rc = raw_write(image, offset, data, len);
	return rc ? err_sys(err, rc, "write") : 0;
}

int image_out_end(struct image_out *image, struct err *err)
{
	return image->writer ? qcow2_writer_finish(image->writer, err) : 0;
}

void image_out_done(struct image_out *image)
{
	qcow2_writer_free(image->writer);
	image->writer = NULL;
}
