// SPDX-License-Identifier: Apache-2.0
// Any bytes as head/checkpoint: sections whose check is put right first, so that what lies behind it is reached. What is found is read, and is
// what the writer makes again.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "receiver/checkpoint_file.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int each(void *context, const struct checkpoint_record *record, struct err *err)
{
	(void)err;
	if (record->kind != CHECKPOINT_DISK && record->kind != CHECKPOINT_BLOCK)
		__builtin_trap();
	++*(uint64_t *)context;
	return 0;
}

// Gives each section that says how long it is the check that it should have.
static void reframe(unsigned char *data, size_t len)
{
	for (size_t at = 0; at + CHECKPOINT_SECTOR <= len;) {
		uint32_t length = get_le32(data + at + 12);
		if (length < CHECKPOINT_SECTOR || length % CHECKPOINT_SECTOR || length > len - at)
			length = CHECKPOINT_SECTOR;
		put_le32(data + at + length - 4, crc32c(data + at, length - 4));
		at += length;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sim *sim = sim_new(1);
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	struct checkpoint_extent extent;
	uint64_t records = 0;
	unsigned char *copy = malloc(len ? len : 1);
	if (!copy || env_root_open(sim_env(sim), "/", &root) || env_open(root, "f", ENV_CREATE, &file))
		abort();
	memcpy(copy, data, len);
	if (len && data[0] == 'K')
		reframe(copy, len);
	if (env_pwrite(file, copy, len, 0))
		abort();
	int rc = checkpoint_find(file, &extent, NULL);
	if (rc == 0 && (extent.length > len || extent.length == 0))
		__builtin_trap();
	if (rc == 0) {
		rc = checkpoint_read(file, &extent, each, &records, NULL);
		if (rc && rc != -EBADMSG)
			__builtin_trap();
		if (rc == 0 && records != extent.records)
			__builtin_trap();
	}
	env_close(file);
	env_root_close(root);
	sim_free(sim);
	free(copy);
	return 0;
}
