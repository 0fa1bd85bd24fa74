// SPDX-License-Identifier: Apache-2.0
// Makes empty overlays by the house's own qcow2 writer.
#include "receiver/overlay.h"

#include "format/qcow2.h"

static int overlay_write(struct env_file *file, uint64_t size, const char *backing, struct err *err)
{
	const struct qcow2_config config = {
		.size = size, .codec = CODEC_ZSTD, .backing_name = backing, .backing = QCOW2_BACKING_QCOW2};
	struct qcow2_writer *writer = NULL;
	int rc = qcow2_writer_new(file, &config, &writer, err);
	if (rc == 0)
		rc = qcow2_writer_finish(writer, err);
	qcow2_writer_free(writer);
	return rc;
}

int overlay_create(struct env_root *root, const char *name, uint64_t size, const char *backing, struct err *err)
{
	struct env_file *file = NULL;
	int rc = env_open(root, name, ENV_CREATE, &file);
	if (rc)
		return err_sys(err, rc, "create %s", name);
	rc = overlay_write(file, size, backing, err);
	env_close(file);
	if (rc)
		err_wrap(err, "write %s", name);
	return rc;
}
