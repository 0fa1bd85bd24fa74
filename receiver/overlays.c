// SPDX-License-Identifier: Apache-2.0
// An overlay that cannot be opened takes its point, and all that stand on it, with it, whatever its blocks are. What is done about it, in this order:
//
//	its header is damaged		it is written anew from what the rest of the store says: nothing is lost (overlay_header.c), and the list proves it
//	else, or the disk gives EIO	what it held goes into quarantine by its list, durably; then the file is moved aside, and an empty one takes its place (overlay_replace.c)
//
// What it promises: the points below stay as they are; no point that showed what was lost passes for sound before a source has sent it anew; nothing is put in the
// place of a file that somebody's disk stands on. docs/store.md, "Overlays that cannot be opened".
#include "receiver/overlays.h"

#include "base/log.h"
#include "link/events.h"
#include "receiver/chain.h"
#include "receiver/copies.h"
#include "receiver/overlay_mend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { OVERLAYS_MIN_S = 60, OVERLAYS_MAX_S = 3600 };

// --- what is wrong with it ---

bool overlay_backing(const struct mend *m, char backing[REPLICA_PATH_SIZE], enum qcow2_backing *ret_kind)
{
	const char *name = m->r->prot.disk[m->disk].name;
	for (size_t i = 0; i < m->at; i++)
		if (m->number[i] == m->point.predecessor) {
			*ret_kind = QCOW2_BACKING_QCOW2;
			(void)snprintf(backing, REPLICA_PATH_SIZE, "../%llu/%s.qcow2", (unsigned long long)m->point.predecessor, name);
			return true;
		}
	*ret_kind = QCOW2_BACKING_RAW;
	(void)snprintf(backing, REPLICA_PATH_SIZE, "../../base/%s.raw", name);
	return m->at == 0;
}

// What names a point that is gone says so, and is not damaged: nothing may be put under it.
static bool backing_fits(const struct mend *m, const struct qcow2_reader *reader)
{
	char backing[REPLICA_PATH_SIZE], base[REPLICA_PATH_SIZE], gone[REPLICA_PATH_SIZE];
	enum qcow2_backing kind;
	bool known = overlay_backing(m, backing, &kind), raw = qcow2_reader_backing_format(reader) == QCOW2_BACKING_RAW;
	(void)snprintf(base, sizeof(base), "../../base/%s.raw", m->r->prot.disk[m->disk].name);
	bool folded = m->at == 1 && raw && strcmp(qcow2_reader_backing(reader), base) == 0; // a fold was cut off between its steps 3 and 4
	(void)snprintf(gone, sizeof(gone), "../%llu/%s.qcow2", (unsigned long long)m->point.predecessor, m->r->prot.disk[m->disk].name);
	return !known || folded || (m->at == 0 && strcmp(qcow2_reader_backing(reader), gone) == 0) || (raw == (kind == QCOW2_BACKING_RAW) && strcmp(qcow2_reader_backing(reader), backing) == 0);
}

static int overlay_look(const struct mend *m, struct err *err)
{
	AUTO_FILE struct env_file *file = NULL;
	AUTO_READER struct qcow2_reader *reader = NULL;
	uint64_t size = 0;
	int rc = env_open(m->r->root, m->path, ENV_READ, &file);
	if (rc == 0)
		rc = env_size(file, &size);
	if (rc)
		return err_sys(err, rc, "%s", m->path);
	if (size != m->point.disk[m->disk].stored_bytes)
		return err_set(err, -ENODATA, "%s: has %llu bytes, was committed with %llu", m->path, (unsigned long long)size,
			       (unsigned long long)m->point.disk[m->disk].stored_bytes);
	rc = qcow2_reader_open(file, &reader, err);
	if (rc == 0 && qcow2_reader_size(reader) != m->point.disk[m->disk].size)
		rc = err_set(err, -EBADMSG, "not of the size that the disk had");
	if (rc == 0 && !backing_fits(m, reader))
		rc = err_set(err, -EBADMSG, "backing file: not the point below it");
	return rc ? err_wrap(err, "%s", m->path) : 0;
}

// --- all of them ---

static int disk_mend(struct mend *m, struct err *err)
{
	struct err why = {0}, cannot = {0};
	int rc = overlay_look(m, &why);
	if (rc == 0)
		return 0;
	bool header = rc == -EBADMSG || rc == -EOPNOTSUPP;
	if (rc != -EIO && mend_passes(rc)) // no descriptors, no memory: nobody knows
		return err_set(err, rc, "%s", why.text);
	if (!header && rc != -ENODATA && rc != -ENOENT && !(rc == -EIO && m->given_up)) // a link: not for us
		return 0;
	rc = header ? overlay_header_rebuild(m, &cannot) : -EBADMSG;
	if (rc == 0) {
		m->mended = true;
		log_error("the header of an overlay was damaged, and is written anew; nothing is lost protection=%s file=%s reason=\"%s\"", m->r->name, m->path, why.text);
		event_emit(EVENT_WARNING, "damage", m->r->name, NULL, "the header of %s was damaged, and is written anew; nothing is lost", m->path);
		return 0;
	}
	if (rc == -EBADMSG)
		rc = overlay_replace(m, &why, &cannot);
	m->mended = m->mended || rc == 0;
	if (rc == -EBUSY)
		return err_set(err, rc, "%s", cannot.text);
	return rc ? err_set(err, rc, "%.200s; it cannot be made good now: %.250s", why.text, cannot.text) : 0;
}

static bool says_nothing(const struct mend *m, int rc)
{
	return rc == -EIO ? !m->given_up : mend_passes(rc);
}

// Where the files beside it do not say enough either, recovery says what is damaged.
static int manifest_try(struct mend *m, const struct err *why, struct err *err)
{
	const struct manifest manifest = {.replica = m->r, .number = m->number, .count = m->count, .at = m->at};
	struct copies_state state;
	struct err cannot = {0};
	replica_file(m->r, m->path, "points/%llu/point.json", (unsigned long long)m->number[m->at]);
	copies_state(m->r->root, m->path, &state);
	if (state.file == 0 || state.copy == 0 || says_nothing(m, state.file) || says_nothing(m, state.copy)) // whole, and another point's; or nobody knows
		return 0;
	int rc = manifest_mend(&manifest, why, &cannot);
	m->mended = m->mended || rc == 0;
	return rc && mend_passes(rc) ? err_set(err, rc, "%.200s; it cannot be made good now: %.250s", why->text, cannot.text) : 0;
}

// Whoever stands on one may do so for long: the others are made good none the less. -EBUSY: of one of them.
static int disks_mend(struct mend *m, struct err *err)
{
	struct err busy = {0};
	for (m->disk = 0; m->disk < m->r->prot.disk_count; m->disk++) {
		struct err why = {0};
		replica_file(m->r, m->path, "points/%llu/%s.qcow2", (unsigned long long)m->number[m->at], m->r->prot.disk[m->disk].name);
		int rc = disk_mend(m, &why);
		if (rc == -EBUSY && busy.code == 0)
			busy = why;
		else if (rc && rc != -EBUSY)
			return err_set(err, rc, "%s", why.text);
	}
	return busy.code ? err_set(err, busy.code, "%s", busy.text) : 0;
}

static int point_mend(struct mend *m, struct err *err)
{
	struct err why = {0};
	int rc = replica_read_point(m->r, m->number[m->at], &m->point, &why);
	if (rc == -EIO && !m->given_up) // recovery says so
		return 0;
	if (rc && (chain_is_damaged(rc) || rc == -EIO))
		return manifest_try(m, &why, err);
	if (rc)
		return mend_passes(rc) ? err_set(err, rc, "%s", why.text) : 0;
	return disks_mend(m, err);
}

int overlays_mend(struct replica *r, bool given_up, bool *ret_mended, struct err *err)
{
	AUTO_FREE struct mend *m = calloc(1, sizeof(*m));
	AUTO_FREE uint64_t *number = NULL;
	struct err busy = {0};
	*ret_mended = false;
	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	*m = (struct mend){.r = r, .given_up = given_up};
	int rc = replica_numbers(r, &number, &m->count, err);
	m->number = number;
	for (m->at = 0; rc == 0 && m->at < m->count; m->at++) {
		struct err why = {0};
		rc = point_mend(m, &why);
		if (rc == -EBUSY && busy.code == 0)
			busy = why;
		rc = rc == -EBUSY ? 0 : rc; // whoever stands on it may do so for long: the others are made good none the less
		if (rc)
			*err = why;
	}
	if (rc == 0)
		rc = tables_mend(r, m->count ? number[0] : 0, given_up || atomic_load(&r->digests_given_up), &m->mended, err);
	*ret_mended = m->mended;
	return rc || busy.code == 0 ? rc : err_set(err, busy.code, "%s", busy.text);
}

int overlays_were_it(struct replica *r, const struct err *why, struct err *err)
{
	bool mended = false;
	struct err cannot = {0};
	bool given_up = why->code == -EIO && atomic_load(&r->digests_given_up); // perhaps of a table that cannot even be opened
	if (r->broken || r->gone || (!chain_is_damaged(why->code) && !given_up))
		return 0;
	int rc = overlays_mend(r, false, &mended, &cannot);
	if (rc)
		log_error("an overlay cannot be opened, and could not be made good protection=%s reason=\"%s\"", r->name, cannot.text);
	if (rc && !mended && !chain_is_damaged(rc))
		return err_set(err, rc, "%s", cannot.text);
	return mended;
}

bool overlays_in_turn(struct replica *r, const struct err *why)
{
	uint64_t now_ns = env_mono_ns(r->root->env), wait_s = OVERLAYS_MIN_S;
	if (now_ns < r->overlays_ns)
		return false;
	bool mended = overlays_were_it(r, why, NULL) > 0;
	r->overlays_failures = mended ? 0 : r->overlays_failures + 1;
	for (unsigned i = 1; i < r->overlays_failures && wait_s < OVERLAYS_MAX_S; i++)
		wait_s *= 2;
	r->overlays_ns = mended ? 0 : now_ns + min_u64(wait_s, OVERLAYS_MAX_S) * UINT64_C(1000000000);
	return mended;
}
