// SPDX-License-Identifier: Apache-2.0
#include "format/qcow2_packed.h"

#include <errno.h>
#include <stdlib.h>

int qcow2_unpack(struct qcow2_unpacker *unpacker, struct env_file *file, enum codec codec, struct qcow2_entry entry,
		 void *block, struct err *err)
{
	uint64_t offset = qcow2_packed_offset(entry);
	if (!unpacker->packed)
		unpacker->packed = malloc(QCOW2_PACKED_SECTORS_MAX * SECTOR_SIZE);
	if (!unpacker->context)
		unpacker->context = codec_new();
	if (!unpacker->packed || !unpacker->context)
		return err_sys(err, -ENOMEM, "unpack a cluster");
	size_t len;
	int rc = env_pread(file, unpacker->packed, qcow2_packed_bytes(entry), offset, &len);
	if (rc)
		return err_sys(err, rc, "read the packed cluster at %llu", (unsigned long long)offset);
	rc = codec_unpack_padded(unpacker->context, codec, unpacker->packed, len, block, BLOCK_SIZE);
	if (rc)
		return err_set(err, -EBADMSG,
			       "packed cluster at %llu is no %s stream of a block; the block must be copied again",
			       (unsigned long long)offset, codec_name(codec));
	return 0;
}

void qcow2_unpacker_done(struct qcow2_unpacker *unpacker)
{
	codec_free(unpacker->context);
	free(unpacker->packed);
	*unpacker = (struct qcow2_unpacker){0};
}
