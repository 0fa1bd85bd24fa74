// SPDX-License-Identifier: Apache-2.0
// The part of a check that is about what is no point: scrub.json, a failover, and tests. Each record is read by the decoder of whoever uses it, and the overlays beside it are
// looked at as far as the header goes: what lies behind that is the guest's program's, which may have it open, and may have given it another shape.
#include "receiver/check_part.h"

#include "format/qcow2_header.h"
#include "receiver/copies.h"
#include "receiver/failover.h"
#include "receiver/json_file.h"
#include "receiver/mount_session.h"
#include "receiver/replica.h"
#include "receiver/test_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void memory_short(struct check *c, const char *path)
{
	struct err why = {0};
	(void)err_sys(&why, -ENOMEM, "%s", path);
	check_damage(c, &why);
}

// --- scrub.json ---

static void scrub_check(struct check *c)
{
	const struct replica *r = c->replica;
	AUTO_FREE struct scrub_state *state = malloc(sizeof(*state));
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	struct err why = {0};
	size_t len = 0;
	replica_file(r, path, "scrub.json");
	if (!state) {
		memory_short(c, path);
		return;
	}
	struct copies_state copies;
	check_copies(c, path);
	copies_state(r->root, path, &copies);
	int rc = env_read_file(r->root, path, JSON_FILE_MAX, &text, &len);
	if ((rc == -ENOENT && copies.copy == -ENOENT) || (copies.file && copies.copy == 0)) // before the first pass; or it is told already
		return;
	if (rc)
		(void)err_sys(&why, rc, "%s", path);
	else if (scrub_decode(text, len, &r->prot, state, &why))
		(void)err_wrap(&why, "%s", path);
	if (why.code)
		check_damage(c, &why);
}

// --- the disks of a failover or a test ---

static bool stands_on(const struct qcow2_header *header, const char *backing)
{
	return header->backing_name[0] == 0 || // somebody put all of it into one file
	       (header->backing == QCOW2_BACKING_QCOW2 && strcmp(header->backing_name, backing) == 0);
}

// `backing`: what it stands on; NULL: nobody knows. `owned`: it may be gone.
static void disk_check(struct check *c, const char *path, const char *backing, bool owned)
{
	AUTO_FILE struct env_file *file = NULL;
	AUTO_FREE struct qcow2_header *header = malloc(sizeof(*header));
	struct err why = {0};
	uint64_t size = 0;
	if (!header) {
		memory_short(c, path);
		return;
	}
	int rc = env_open(c->replica->root, path, ENV_READ, &file);
	if (rc)
		(void)err_sys(&why, rc, "%s", path);
	else if ((rc = qcow2_header_load(file, header, &size, &why)))
		(void)err_wrap(&why, "%s", path);
	else if (backing && !stands_on(header, backing))
		(void)err_set(&why, -EBADMSG, "%s: backing file: not the point that it was made on", path);
	if (rc == -EOPNOTSUPP || (rc == -ENOENT && owned)) // a snapshot in it, or another base: the guest's disk is its owner's
		check_found(c, CHECK_NOTE, why.text);
	else if (why.code)
		check_damage(c, &why);
}

// --- a failover ---

static void failover_record_check(struct check *c, const char *path)
{
	AUTO_FREE struct failover_info *failover = malloc(sizeof(*failover));
	AUTO_FREE char *text = NULL;
	struct copies_state state;
	struct err why = {0};
	size_t len = 0;
	if (!failover) {
		memory_short(c, path);
		return;
	}
	copies_state(c->replica->root, path, &state);
	check_copies(c, path);
	if (state.file && state.copy == 0) // which is told
		return;
	int rc = env_read_file(c->replica->root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		(void)err_sys(&why, rc, "%s", path);
	else if (failover_decode(text, len, failover, &why))
		(void)err_wrap(&why, "%s", path);
	if (why.code)
		check_damage(c, &why);
}

static void failover_check(struct check *c)
{
	const struct replica *r = c->replica;
	char path[REPLICA_PATH_SIZE], backing[REPLICA_PATH_SIZE];
	struct env_stat st;
	replica_file(r, path, "failover");
	if (env_stat(r->root, path, &st) == -ENOENT)
		return;
	replica_file(r, path, "failover/failover.json");
	failover_record_check(c, path);
	for (unsigned i = 0; i < r->prot.disk_count; i++) {
		replica_file(r, path, "failover/%s.qcow2", r->prot.disk[i].name);
		(void)snprintf(backing, sizeof(backing), "../points/%llu/%s.qcow2", (unsigned long long)r->prot.fenced_point, r->prot.disk[i].name);
		disk_check(c, path, r->prot.fenced ? backing : NULL, protection_fence_final(&r->prot));
	}
}

// --- tests ---

static void test_check(struct check *c, const char *name)
{
	const struct replica *r = c->replica;
	AUTO_FREE struct test_info *test = malloc(sizeof(*test));
	char path[REPLICA_PATH_SIZE], backing[REPLICA_PATH_SIZE];
	struct err why = {0};
	if (!test) {
		memory_short(c, r->name);
		return;
	}
	if (test_dir_load(r->root, r->name, name, test, &why)) {
		check_damage(c, &why);
		return;
	}
	for (unsigned i = 0; i < test->disk_count; i++) {
		replica_file(r, path, "tests/%s/%s.qcow2", name, test->disk[i]);
		(void)snprintf(backing, sizeof(backing), "../../points/%llu/%s.qcow2", (unsigned long long)test->point, test->disk[i]);
		disk_check(c, path, backing, false);
	}
}

// What is being made has a name with a dot; a mount's overlay is its own, and goes with it.
static void tests_check(struct check *c)
{
	char dir[REPLICA_PATH_SIZE], **names = NULL;
	size_t count = 0;
	struct err why = {0};
	replica_file(c->replica, dir, "tests");
	int rc = env_list(c->replica->root, dir, &names, &count);
	if (rc && rc != -ENOENT) {
		(void)err_sys(&why, rc, "%s", dir);
		check_damage(c, &why);
	}
	if (rc)
		return;
	for (size_t i = 0; i < count; i++)
		if (name_ok(names[i]) && strncmp(names[i], MOUNT_SESSION_PREFIX, strlen(MOUNT_SESSION_PREFIX)) != 0)
			test_check(c, names[i]);
	env_list_free(names, count);
}

void check_records(struct check *c)
{
	scrub_check(c);
	failover_check(c);
	tests_check(c);
}
