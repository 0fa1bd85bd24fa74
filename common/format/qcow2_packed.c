// SPDX-License-Identifier: Apache-2.0
#include "format/qcow2_packed.h"

#include <errno.h>
#include <stdlib.h>

// Reads the sectors of a cluster into unpacker->packed.
static int sectors_read(struct qcow2_unpacker *unpacker, struct env_file *file, struct qcow2_entry entry, size_t *ret_len,
			struct err *err)
{
	uint64_t offset = qcow2_packed_offset(entry);
	if (!unpacker->packed)
		unpacker->packed = malloc(QCOW2_PACKED_SECTORS_MAX * SECTOR_SIZE);
	if (!unpacker->context)
		unpacker->context = codec_new();
	if (!unpacker->packed || !unpacker->context)
		return err_sys(err, -ENOMEM, "unpack a cluster");
	int rc = env_pread(file, unpacker->packed, qcow2_packed_bytes(entry), offset, ret_len);
	return rc ? err_sys(err, rc, "read the packed cluster at %llu", (unsigned long long)offset) : 0;
}

static int no_stream(struct qcow2_entry entry, enum codec codec, struct err *err)
{
	return err_set(err, -EBADMSG, "packed cluster at %llu is no %s stream of a block; the block must be copied again",
		       (unsigned long long)qcow2_packed_offset(entry), codec_name(codec));
}

int qcow2_unpack(struct qcow2_unpacker *unpacker, struct env_file *file, enum codec codec, struct qcow2_entry entry,
		 void *block, struct err *err)
{
	size_t len;
	int rc = sectors_read(unpacker, file, entry, &len, err);
	if (rc)
		return rc;
	rc = codec_unpack_padded(unpacker->context, codec, unpacker->packed, len, block, BLOCK_SIZE);
	return rc ? no_stream(entry, codec, err) : 0;
}

int qcow2_packed_stream(struct qcow2_unpacker *unpacker, struct env_file *file, enum codec codec, struct qcow2_entry entry,
			void *scratch, const void **ret_stream, size_t *ret_len, struct err *err)
{
	size_t len;
	int rc = sectors_read(unpacker, file, entry, &len, err);
	if (rc)
		return rc;
	if (codec_stream_length(unpacker->context, codec, unpacker->packed, len, scratch, BLOCK_SIZE, ret_len))
		return no_stream(entry, codec, err);
	*ret_stream = unpacker->packed;
	return 0;
}

void qcow2_unpacker_done(struct qcow2_unpacker *unpacker)
{
	codec_free(unpacker->context);
	free(unpacker->packed);
	*unpacker = (struct qcow2_unpacker){0};
}
