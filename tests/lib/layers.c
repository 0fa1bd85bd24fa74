// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/layers.h"

#include "base/auto.h"
#include "base/size.h"
#include "format/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 300, PATH_SIZE = 512 };

// `name`, relative to the directory of `path`; takes "../" off the front only.
static int resolve(const char *path, const char *name, char *to, struct err *err)
{
	char dir[PATH_SIZE];
	(void)snprintf(dir, sizeof(dir), "%s", path);
	char *end = strrchr(dir, '/');
	while (end && strncmp(name, "../", 3) == 0) {
		*end = 0;
		end = strrchr(dir, '/');
		name += 3;
	}
	if (end)
		*end = 0;
	if (snprintf(to, PATH_SIZE, "%s/%s", dir, name) >= PATH_SIZE)
		return err_set(err, -ENAMETOOLONG, "%s: the backing name is too long", path);
	return 0;
}

static int raw_read(struct env_root *root, const char *path, uint64_t size, unsigned char *to, struct err *err)
{
	struct env_file *file = NULL;
	size_t got = 0;
	int rc = env_open(root, path, ENV_READ, &file);
	if (rc == 0)
		rc = env_pread(file, to, size, 0, &got);
	env_close(file);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

static int overlay_lay(struct qcow2_reader *reader, uint64_t size, unsigned char *to, struct err *err)
{
	unsigned char block[BLOCK_SIZE];
	uint64_t index = 0;
	int rc;
	while ((rc = qcow2_reader_next(reader, index, &index, err)) == 0) {
		uint16_t mask = 0;
		rc = qcow2_reader_read(reader, index, block, &mask, err);
		if (rc == -EBADMSG) { // perhaps nobody sees it, and a later layer has it whole; else it is nothing that any disk held
			memset(block, 0xee, sizeof(block));
			mask = MASK_FULL;
		} else if (rc) {
			return rc;
		}
		for (unsigned p = 0; p < PIECES_PER_BLOCK; p++) {
			uint64_t off = index * BLOCK_SIZE + (uint64_t)p * PIECE_SIZE;
			if (mask >> p & 1 && off < size)
				memcpy(to + off, block + (size_t)p * PIECE_SIZE, min_u64(PIECE_SIZE, size - off));
		}
		index++;
	}
	return rc == -ENOENT ? 0 : rc;
}

static int layer_read(struct env_root *root, const char *path, uint64_t size, bool exact, unsigned depth, unsigned char *to,
		      struct err *err)
{
	struct env_file *file = NULL;
	struct qcow2_reader *reader = NULL;
	char below[PATH_SIZE];
	if (depth > DEPTH_MAX)
		return err_set(err, -ELOOP, "%s: the chain has no end", path);
	int rc = env_open(root, path, ENV_READ, &file);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = qcow2_reader_open(file, &reader, err);
	if (rc == 0 && exact && qcow2_reader_size(reader) != size)
		rc = err_set(err, -EBADMSG, "is of another size than its point");
	uint64_t own = rc ? 0 : min_u64(size, qcow2_reader_size(reader));
	if (rc == 0)
		rc = resolve(path, qcow2_reader_backing(reader), below, err);
	if (rc == 0 && qcow2_reader_backing_format(reader) == QCOW2_BACKING_QCOW2)
		rc = layer_read(root, below, own, false, depth + 1, to, err);
	else if (rc == 0)
		rc = raw_read(root, below, own, to, err);
	if (rc == 0)
		rc = overlay_lay(reader, own, to, err);
	qcow2_reader_free(reader);
	env_close(file);
	return rc ? err_wrap(err, "%s", path) : 0;
}

int layers_read(struct env_root *root, const char *path, uint64_t size, unsigned char *to, struct err *err)
{
	memset(to, 0, size_blocks(size) * BLOCK_SIZE);
	return layer_read(root, path, size, true, 0, to, err);
}
