// SPDX-License-Identifier: Apache-2.0
// The header of an overlay, written anew from what the rest of the store says (qcow2_rebuild.c). What it promises: nothing is written that the list beside the
// overlay does not prove. docs/store.md, "Overlays that cannot be opened".
#include "receiver/overlay_mend.h"

#include "format/qcow2_rebuild.h"

#include <errno.h>
#include <string.h>

static uint64_t list_next(const void *context, uint64_t from)
{
	return table_next(context, from);
}

static int list_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	if (digest_is_unknown(digest))
		return err_set(err, -EBADMSG, "the list beside it is damaged as well");
	return table_set(context, index, digest) ? err_set(err, -ENOMEM, "out of memory for digests") : 0;
}

// Whether packed blocks unpack to what their digests say: then the codec is the right one. One of the first is enough, as any of them may have rotted itself.
static bool codec_proves(const struct mend *m, struct qcow2_reader *reader, const struct table *list, unsigned char *block)
{
	enum { PROOFS_MOST = 64 };
	unsigned proofs = 0;
	for (uint64_t b = table_next(list, 0); b != TABLE_END && proofs < PROOFS_MOST; b = table_next(list, b + 1)) {
		struct qcow2_held held;
		uint16_t mask = 0;
		if (qcow2_reader_held(reader, b, &held, NULL) || !held.packed)
			continue;
		proofs++;
		memset(block, 0, BLOCK_SIZE);
		if (qcow2_reader_read(reader, b, block, &mask, NULL))
			continue;
		struct digest found = digest_of(&m->r->prot.digest, (uint16_t)m->disk, b, block);
		if (digest_equal(&found, table_get(list, b)))
			return true;
	}
	return proofs == 0; // no block needs it
}

static int header_try(struct mend *m, enum codec codec, const struct table *list, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	AUTO_READER struct qcow2_reader *reader = NULL;
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	char backing[REPLICA_PATH_SIZE];
	struct qcow2_config config = {.size = m->point.disk[m->disk].size, .codec = codec, .backing_name = backing};
	if (!block || !overlay_backing(m, backing, &config.backing))
		return block ? err_set(err, -EBADMSG, "what it stands on is missing") : err_set(err, -ENOMEM, "out of memory");
	int rc = env_open(m->r->root, m->path, ENV_WRITE, &file);
	if (rc)
		return err_sys(err, rc, "%s", m->path);
	rc = qcow2_rebuild(file, &config, list_next, list, &reader, err);
	if (rc == 0 && !codec_proves(m, reader, list, block))
		rc = err_set(err, -EBADMSG, "no block of it is what its digest says");
	if (rc)
		return rc;
	rc = qcow2_rebuild_write(reader, err);
	return rc ? err_set(err, -EIO, "%s: a write or a sync failed", m->path) : 0;
}

int overlay_header_rebuild(struct mend *m, struct err *err)
{
	static const enum codec codecs[] = {CODEC_ZSTD, CODEC_ZLIB};
	struct table list;
	table_init(&list, size_blocks(m->point.disk[m->disk].size));
	int rc = digests_of_point(m->r, &m->point, m->disk, list_take, &list, err);
	for (size_t i = 0; rc == 0 && i < sizeof(codecs) / sizeof(codecs[0]); i++) {
		rc = header_try(m, codecs[i], &list, err);
		if (rc != -EBADMSG)
			break;
		rc = i + 1 < sizeof(codecs) / sizeof(codecs[0]) ? 0 : rc;
	}
	table_done(&list);
	return rc;
}
