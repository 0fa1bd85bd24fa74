// SPDX-License-Identifier: Apache-2.0
// The reader and the check on any bytes: opening, walking, reading and checking never crash, never read outside and never take long. What
// reads is also given another backing name, after which it still opens.
//
// Inputs are sparse images: records of u32 file offset (of units of 16 bytes), u8 length, and the bytes. So that
// mutations start within reach, a whole small image is written below the records.
#include "base/bytes.h"
#include "base/env.h"
#include "base/size.h"
#include "format/qcow2.h"
#include "format/qcow2_check.h"
#include "format/qcow2_rebuild.h"
#include "format/qcow2_tables.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCKS = 8, READS_MAX = 64, RECORD_HEAD = 5, FILE_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct env_file *file;
static unsigned char *image;
static uint64_t image_len;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void image_write(void)
{
	static unsigned char block[BLOCK_SIZE];
	unsigned char packed[BLOCK_SIZE];
	struct qcow2_config config = {.size = BLOCKS * BLOCK_SIZE - 512,
				      .codec = CODEC_ZSTD,
				      .backing_name = "base.raw"};
	struct codec_context *codec = codec_new();
	struct qcow2_writer *writer = NULL;
	must(codec && qcow2_writer_new(file, &config, &writer, NULL) == 0);
	size_t len = codec_pack(codec, CODEC_ZSTD, block, sizeof(block), packed, sizeof(packed));
	must(qcow2_write_packed(writer, 0, packed, len, NULL) == 0);
	must(qcow2_write_packed(writer, BLOCKS - 1, packed, len, NULL) == 0);
	must(qcow2_write_pieces(writer, 2, 0x0ff0, block, NULL) == 0);
	must(qcow2_write_zeros(writer, 3, 2, NULL) == 0);
	must(qcow2_writer_finish(writer, NULL) == 0);
	qcow2_writer_free(writer);
	codec_free(codec);
}

static void begin(void)
{
	char dir[] = "/tmp/kagami-fuzz.XXXXXX";
	struct env_root *root = NULL;
	must(mkdtemp(dir) && env_root_open(env_posix(), dir, &root) == 0);
	must(env_open(root, "image", ENV_CREATE, &file) == 0 && env_unlink(root, "image") == 0);
	env_root_close(root);
	must(rmdir(dir) == 0);
	image_write();
	must(env_size(file, &image_len) == 0 && (image = malloc(image_len)));
	must(env_pread_full(file, image, image_len, 0) == 0);
}

// The image with the records over it. The tables lie within its last five clusters, the header in the first.
static void input_write(const uint8_t *data, size_t size)
{
	must(env_truncate(file, 0) == 0 && env_pwrite(file, image, image_len, 0) == 0);
	while (size > RECORD_HEAD) {
		uint64_t off = (uint64_t)get_le32(data) * 16 % FILE_MAX;
		size_t len = data[4] < size - RECORD_HEAD ? data[4] : size - RECORD_HEAD;
		must(env_pwrite(file, data + RECORD_HEAD, len, off) == 0);
		data += RECORD_HEAD + len;
		size -= RECORD_HEAD + len;
	}
}

static void read_some(struct qcow2_reader *reader)
{
	unsigned char block[BLOCK_SIZE];
	uint64_t index = 0;
	uint16_t mask;
	for (unsigned i = 0; i < READS_MAX && qcow2_reader_next(reader, index, &index, NULL) == 0; i++, index++)
		(void)qcow2_reader_read(reader, index, block, &mask, NULL);
	for (index = 0; index < 2 * BLOCKS; index++)
		if (qcow2_reader_read(reader, index, block, &mask, NULL) == 0)
			must(index < size_blocks(qcow2_reader_size(reader)));
}

static void on_finding(void *context, const char *text)
{
	must(text[0]);
	++*(uint64_t *)context;
}

// What the check tells is what it counts, up to its bound; an image that it refuses is one that the reader refuses, or has foreign refcounts.
static void check_any(void)
{
	uint64_t told = 0, findings = 0;
	(void)qcow2_check(file, on_finding, &told, &findings, NULL);
	must(told == (findings > QCOW2_CHECK_FINDINGS_MAX ? QCOW2_CHECK_FINDINGS_MAX + 1 : findings));
}

// The tables alone: what they say of a block is what the reader says that is held of it.
static void tables_any(void)
{
	static struct qcow2_weight weights[QCOW2_TABLE_BLOCKS];
	static unsigned char scratch[BLOCK_SIZE];
	struct qcow2_tables *tables;
	struct qcow2_reader *reader;
	if (qcow2_tables_load(file, &tables, NULL))
		return;
	must(qcow2_reader_open(file, &reader, NULL) == 0);
	if (qcow2_tables_has(tables, 0) && qcow2_tables_read(tables, file, 0, weights, scratch, NULL) == 0)
		for (uint64_t i = 0; i < QCOW2_TABLE_BLOCKS; i++) {
			struct qcow2_held held = {.mask = 0};
			if (qcow2_reader_held(reader, i, &held, NULL))
				held.packed = held.mask = 0; // past the end, or an entry that holds nothing and is not sound
			must(weights[i].mask == held.mask && weights[i].packed == held.packed && (weights[i].mask & weights[i].zeros) == weights[i].zeros);
			must(!held.packed || (weights[i].len_least >= 1 && weights[i].len_least <= weights[i].len_likely));
		}
	qcow2_reader_free(reader);
	qcow2_tables_free(tables);
}

// What the image was made with: blocks 0, 2, 3, 4 and the last.
static uint64_t next_made(const void *context, uint64_t from)
{
	(void)context;
	while (from < BLOCKS && !(UINT32_C(1) << from & (1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << (BLOCKS - 1))))
		from++;
	return from < BLOCKS ? from : UINT64_MAX;
}

// Without a header: where one is made, the image opens by it, and holds what it was asked for.
static void header_any(void)
{
	const struct qcow2_config config = {.size = BLOCKS * BLOCK_SIZE - 512, .codec = CODEC_ZSTD, .backing_name = "base.raw"};
	unsigned char was[512];
	struct qcow2_reader *reader, *again;
	uint64_t index = 0;
	if (env_pread_full(file, was, sizeof(was), 0) || qcow2_rebuild(file, &config, next_made, NULL, &reader, NULL))
		return;
	must(qcow2_rebuild_write(reader, NULL) == 0);
	must(qcow2_reader_open(file, &again, NULL) == 0 && qcow2_reader_size(again) == config.size);
	must(qcow2_reader_next(again, 0, &index, NULL) == 0 && index == 0 && qcow2_reader_next(again, 5, &index, NULL) == 0 && index == BLOCKS - 1);
	qcow2_reader_free(again);
	qcow2_reader_free(reader);
	must(env_pwrite(file, was, sizeof(was), 0) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qcow2_reader *reader;
	if (!file)
		begin();
	input_write(data, size);
	check_any();
	tables_any();
	header_any();
	if (qcow2_reader_open(file, &reader, NULL))
		return 0;
	read_some(reader);
	qcow2_reader_free(reader);
	must(qcow2_set_backing(file, "other", QCOW2_BACKING_RAW, NULL) == 0);
	must(qcow2_reader_open(file, &reader, NULL) == 0);
	must(strcmp(qcow2_reader_backing(reader), "other") == 0);
	qcow2_reader_free(reader);
	return 0;
}
