// SPDX-License-Identifier: Apache-2.0
// The header: encode and decode side by side, and the one change that is made to a finished image (its backing name).
//
//	offset size field                     ours
//	0      4    magic                     "QFI\xfb"
//	4      4    version                   3
//	8      8    backing name, offset      behind the extensions, or 0
//	16     4    backing name, length
//	20     4    cluster bits              16
//	24     8    virtual size
//	32     4    encryption                0
//	36     4    L1 entries
//	40     8    L1 offset
//	48     8    refcount table, offset
//	56     4    refcount table, clusters
//	60     4    snapshots                 0
//	64     8    snapshot table, offset    0
//	72     8    incompatible features     bit 4 (extended L2); bit 3 (compression type) with zstd
//	80     8    compatible features       0
//	88     8    autoclear features        0
//	96     4    refcount order            4
//	100    4    header length             112
//	104    1    compression type          0 zlib, 1 zstd
//	112         extensions: u32 type, u32 length, data padded to 8; type 0 ends them
#include "format/qcow2_header.h"

#include "format/qcow2_layout.h"

#include <errno.h>

enum {
	MAGIC = 0x514649fb,
	VERSION = 3,
	TYPE_ZLIB = 0,
	TYPE_ZSTD = 1,
};
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define FEATURE_COMPRESSION_TYPE (UINT64_C(1) << 3)
#define FEATURE_EXTENDED_L2 (UINT64_C(1) << 4)
#define FEATURES_KNOWN (FEATURE_COMPRESSION_TYPE | FEATURE_EXTENDED_L2)
#define REFCOUNT_TABLE_MAX (8u << 20) // QEMU's own limit, in bytes

#define DAMAGED "; the image is damaged: copy it again"
#define FOREIGN "; the image was changed by another program: use qemu-img convert to copy what it holds"

int qcow2_backing_check(const char *name, struct err *err)
{
	size_t len = strlen(name);
	if (len == 0 || len > QCOW2_BACKING_MAX)
		return err_set(err, -EINVAL, "backing name of %zu bytes: it has 1 to %d", len, QCOW2_BACKING_MAX);
	if (name[0] == '/')
		return err_set(err, -EINVAL, "backing name is absolute: it must be relative to the image");
	for (size_t i = 0; i < len; i++)
		if (name[i] == ':' || (unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return err_set(err, -EINVAL, "backing name has a colon or a control character at byte %zu", i);
	return 0;
}

static const char *backing_format_name(enum qcow2_backing backing)
{
	return backing == QCOW2_BACKING_RAW ? "raw" : "qcow2";
}

// The format extension, the end mark, then the name.
static void encode_backing(unsigned char *to, const struct qcow2_header *header)
{
	const char *format = backing_format_name(header->backing);
	size_t len = strlen(header->backing_name);
	unsigned char *at = to + QCOW2_HEADER_LEN;
	put_be32(at, EXTENSION_BACKING_FORMAT);
	put_be32(at + 4, (uint32_t)strlen(format));
	memcpy(at + 8, format, strlen(format));
	at += 8 + 8 + 8; // padded data, end mark of zeros
	memcpy(at, header->backing_name, len);
	put_be64(to + 8, (uint64_t)(at - to));
	put_be32(to + 16, (uint32_t)len);
}

void qcow2_header_encode(unsigned char to[QCOW2_HEADER_SECTOR], const struct qcow2_header *header)
{
	memset(to, 0, QCOW2_HEADER_SECTOR);
	put_be32(to, MAGIC);
	put_be32(to + 4, VERSION);
	put_be32(to + 20, QCOW2_CLUSTER_BITS);
	put_be64(to + 24, header->size);
	put_be32(to + 36, header->l1_entries);
	put_be64(to + 40, header->l1_offset);
	put_be64(to + 48, header->refcount_offset);
	put_be32(to + 56, header->refcount_clusters);
	put_be64(to + 72, FEATURE_EXTENDED_L2 | (header->codec == CODEC_ZSTD ? FEATURE_COMPRESSION_TYPE : 0));
	put_be64(to + 80, header->compatible);
	put_be32(to + 96, header->refcount_order);
	put_be32(to + 100, QCOW2_HEADER_LEN);
	to[104] = header->codec == CODEC_ZSTD ? TYPE_ZSTD : TYPE_ZLIB;
	if (header->backing_name[0])
		encode_backing(to, header);
}

// What this image must be for us to read it at all.
static int decode_kind(const unsigned char *from, struct err *err)
{
	if (get_be32(from) != MAGIC)
		return err_set(err, -EBADMSG, "no qcow2 magic: the image was never finished, or is something else");
	if (get_be32(from + 4) != VERSION)
		return err_set(err, -EOPNOTSUPP, "qcow2 version %u, we read 3" FOREIGN, get_be32(from + 4));
	if (get_be32(from + 20) != QCOW2_CLUSTER_BITS)
		return err_set(err, -EOPNOTSUPP, "clusters of 2^%u bytes, we read 2^16" FOREIGN, get_be32(from + 20));
	if (get_be32(from + 32) != 0)
		return err_set(err, -EOPNOTSUPP, "image is encrypted (method %u)" FOREIGN, get_be32(from + 32));
	if (get_be32(from + 60) != 0)
		return err_set(err, -EOPNOTSUPP, "image has %u internal snapshots" FOREIGN, get_be32(from + 60));
	uint64_t features = get_be64(from + 72);
	if (features & ~FEATURES_KNOWN)
		return err_set(err, -EOPNOTSUPP,
			       "incompatible features %#llx (dirty, corrupt, external data file or unknown)" FOREIGN,
			       (unsigned long long)(features & ~FEATURES_KNOWN));
	if (!(features & FEATURE_EXTENDED_L2))
		return err_set(err, -EOPNOTSUPP, "image has no extended L2 entries" FOREIGN);
	return 0;
}

static int decode_codec(const unsigned char *from, struct qcow2_header *header, struct err *err)
{
	bool typed = get_be64(from + 72) & FEATURE_COMPRESSION_TYPE;
	if (typed ? from[104] != TYPE_ZSTD : from[104] != TYPE_ZLIB)
		return err_set(err, -EBADMSG, "compression type %u does not fit the features" DAMAGED, from[104]);
	header->codec = typed ? CODEC_ZSTD : CODEC_ZLIB;
	return 0;
}

static int decode_tables(const unsigned char *from, uint64_t file_size, struct qcow2_header *header, struct err *err)
{
	header->size = get_be64(from + 24);
	header->l1_entries = get_be32(from + 36);
	header->l1_offset = get_be64(from + 40);
	header->refcount_offset = get_be64(from + 48);
	header->refcount_clusters = get_be32(from + 56);
	header->compatible = get_be64(from + 80);
	header->refcount_order = get_be32(from + 96);
	if (!size_disk_ok(header->size))
		return err_set(err, -EBADMSG, "virtual size %llu is out of range" DAMAGED,
			       (unsigned long long)header->size);
	if (header->l1_entries < qcow2_l1_entries(header->size) || header->l1_entries > qcow2_l1_entries(DISK_SIZE_MAX))
		return err_set(err, -EBADMSG, "L1 table of %u entries" DAMAGED, header->l1_entries);
	if (header->l1_offset % QCOW2_CLUSTER_SIZE || header->l1_offset == 0 ||
	    !size_within(header->l1_offset, header->l1_entries * UINT64_C(8), file_size))
		return err_set(err, -EBADMSG, "L1 table at %llu is outside of the file" DAMAGED,
			       (unsigned long long)header->l1_offset);
	uint64_t refcount_bytes = (uint64_t)header->refcount_clusters * QCOW2_CLUSTER_SIZE;
	if (header->refcount_offset % QCOW2_CLUSTER_SIZE || header->refcount_offset == 0 || refcount_bytes == 0 ||
	    refcount_bytes > REFCOUNT_TABLE_MAX || !size_within(header->refcount_offset, refcount_bytes, file_size))
		return err_set(err, -EBADMSG, "refcount table at %llu is outside of the file" DAMAGED,
			       (unsigned long long)header->refcount_offset);
	if (header->refcount_order > 6)
		return err_set(err, -EBADMSG, "refcount order %u" DAMAGED, header->refcount_order);
	return 0;
}

// Finds the recorded format of the backing file; other extensions say nothing that reading needs. The extensions
// end at the end mark, or where the backing name begins (`end`).
static int decode_backing_format(const unsigned char *from, size_t start, size_t end, enum qcow2_backing *ret_backing,
				 struct err *err)
{
	size_t at = start;
	while (end - at >= 8 && get_be32(from + at) != 0) {
		uint32_t type = get_be32(from + at), len = get_be32(from + at + 4);
		at += 8;
		if (!size_within(at, len, end) || size_round_up(at + len, 8) > end)
			return err_set(err, -EBADMSG, "header extension %#x of %u bytes does not fit" DAMAGED, type,
				       len);
		bool raw = len == 3 && memcmp(from + at, "raw", 3) == 0;
		bool qcow2 = len == 5 && memcmp(from + at, "qcow2", 5) == 0;
		if (type == EXTENSION_BACKING_FORMAT && (raw || qcow2)) {
			*ret_backing = raw ? QCOW2_BACKING_RAW : QCOW2_BACKING_QCOW2;
			return 0;
		}
		at = (size_t)size_round_up(at + len, 8);
	}
	return err_set(err, -EOPNOTSUPP, "format of the backing file is not recorded as raw or qcow2" FOREIGN);
}

static int decode_backing(const unsigned char *from, size_t len, size_t header_len, struct qcow2_header *header,
			  struct err *err)
{
	uint64_t at = get_be64(from + 8);
	uint32_t name_len = get_be32(from + 16);
	if (at == 0)
		return 0;
	if (at < header_len || !size_within(at, name_len, len))
		return err_set(err, -EBADMSG, "backing name at %llu is outside of the header" DAMAGED,
			       (unsigned long long)at);
	if (name_len == 0 || name_len > QCOW2_BACKING_MAX || memchr(from + at, 0, name_len))
		return err_set(err, -EBADMSG, "backing name of %u bytes" DAMAGED, name_len);
	memcpy(header->backing_name, from + at, name_len);
	header->backing_name[name_len] = 0;
	if (qcow2_backing_check(header->backing_name, err))
		return err_set(err, -EOPNOTSUPP,
			       "backing name is absolute, or has a colon or control character" FOREIGN);
	return decode_backing_format(from, header_len, (size_t)at, &header->backing, err);
}

int qcow2_header_decode(const unsigned char *from, size_t len, uint64_t file_size, struct qcow2_header *ret_header,
			struct err *err)
{
	struct qcow2_header header = {0};
	if (len < QCOW2_HEADER_SECTOR)
		return err_set(err, -EBADMSG, "file of %zu bytes is too short for a qcow2 image", len);
	int rc = decode_kind(from, err);
	if (rc)
		return rc;
	uint32_t header_len = get_be32(from + 100);
	if (header_len < QCOW2_HEADER_LEN || header_len % 8 || header_len > QCOW2_HEADER_SECTOR)
		return err_set(err, -EBADMSG, "header length %u" DAMAGED, header_len);
	rc = decode_codec(from, &header, err);
	if (rc == 0)
		rc = decode_tables(from, file_size, &header, err);
	if (rc == 0)
		rc = decode_backing(from, len, header_len, &header, err);
	if (rc == 0)
		*ret_header = header;
	return rc;
}

int qcow2_header_load(struct env_file *file, struct qcow2_header *ret_header, uint64_t *ret_file_size, struct err *err)
{
	unsigned char from[QCOW2_HEADER_READ];
	uint64_t file_size;
	size_t len;
	int rc = env_size(file, &file_size);
	if (rc == 0)
		rc = env_pread(file, from, sizeof(from), 0, &len);
	if (rc)
		return err_sys(err, rc, "read the qcow2 header");
	rc = qcow2_header_decode(from, len, file_size, ret_header, err);
	if (rc == 0)
		*ret_file_size = file_size;
	return rc;
}

int qcow2_set_backing(struct env_file *file, const char *backing_name, enum qcow2_backing backing, struct err *err)
{
	struct qcow2_header header;
	uint64_t file_size;
	unsigned char sector[QCOW2_HEADER_SECTOR];
	int rc = qcow2_backing_check(backing_name, err);
	if (rc == 0)
		rc = qcow2_header_load(file, &header, &file_size, err);
	if (rc)
		return rc;
	memcpy(header.backing_name, backing_name, strlen(backing_name) + 1);
	header.backing = backing;
	qcow2_header_encode(sector, &header);
	rc = env_pwrite(file, sector, sizeof(sector), 0);
	if (rc)
		return err_sys(err, rc, "write the qcow2 header");
	rc = env_sync(file);
	return rc ? err_sys(err, rc, "sync the qcow2 header") : 0;
}
