// SPDX-License-Identifier: Apache-2.0
// Overlays that cannot be opened are made good by recovery (receiver/overlays.c), which is cut before any of its operations, once and twice, and fails at each:
// in no state does a point pass for sound that shows what was lost, in none is a point below it touched, and recovery comes to its end.
#include "base/auto.h"
#include "base/log.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { POINTS = 3, LOST = 2 };

static int overlay_spoil(struct env *env, const char *name, bool cut, struct err *err)
{
	static const unsigned char zeros[512];
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	int rc = env_root_open(env, "/store", &root);
	if (rc == 0)
		rc = env_open(root, name, ENV_WRITE, &file);
	if (rc == 0)
		rc = cut ? env_truncate(file, 65536) : env_pwrite(file, zeros, sizeof(zeros), 0);
	if (rc == 0)
		rc = env_sync(file);
	env_close(file);
	env_root_close(root);
	return rc ? err_sys(err, rc, "%s", name) : 0;
}

static int setup(struct env *env, void *context, struct err *err)
{
	int rc = world_setup(env, context, err);
	if (rc == 0)
		rc = overlay_spoil(env, "vm1/points/2/vda.qcow2", true, err);
	return rc ? rc : overlay_spoil(env, "vm1/points/3/vdb.qcow2", false, err);
}

static int use_whole(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)w, (void)store;
	return r->broken ? err_set(err, -EIO, "broken: %s", r->why.text) : 0;
}

static int run(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	w->promise = (struct world_promise){.created = true};
	return world_with(env, w, use_whole, err);
}

static int use_look(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	static struct wire_damaged damaged;
	struct wire_opened opened;
	(void)env, (void)store;
	if (r->broken || r->point_count != POINTS)
		return err_set(err, -EBADMSG, "%zu points: %s", r->point_count, r->why.text);
	for (uint64_t n = 1; n <= POINTS; n++)
		if (replica_sound(r, n, NULL) != (n >= LOST || r->scrub.suspect ? -EUCLEAN : 0)) // the record of damage itself was not read, once
			return err_set(err, -EBADMSG, "point %llu: passes for what it is not", (unsigned long long)n);
	world_open_at(w, POINTS + 1);
	int rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return rc;
	replica_damaged(r, &damaged);
	replica_session_end(r);
	return damaged.count ? 0 : err_set(err, -EBADMSG, "the source is told nothing");
}

static int check(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	int rc = world_with(env, w, use_look, err);
	return rc ? rc : world_read_points(w, env, 1, 1, 1u << 1, err);
}

static void recovery_that_is_cut_makes_them_good_in_the_end(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, POINTS);
	struct crash_scenario s = {.name = "overlays-crash", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise), .setup = setup, .run = run,
				   .recover = world_recover, .check = check, .crashes = 2, .settles = true, .states_max = 3000};
	assert_true(crash_test_quiet(&s));
	s.name = "overlays-error";
	s.crashes = 1;
	s.settles = false;
	assert_true(anomaly_test_quiet(&s));
	world_free(w);
}

// --- the base's table and a point.json that are lost as a whole ---

static int file_remove(struct env *env, const char *name, struct err *err)
{
	struct env_root *root = NULL;
	int rc = env_root_open(env, "/store", &root);
	if (rc == 0)
		rc = env_unlink(root, name);
	env_root_close(root);
	return rc ? err_sys(err, rc, "%s", name) : 0;
}

static int setup_files(struct env *env, void *context, struct err *err)
{
	int rc = world_setup(env, context, err);
	if (rc == 0)
		rc = file_remove(env, "vm1/base/vdb.digests", err);
	if (rc == 0)
		rc = overlay_spoil(env, "vm1/points/2/point.json", false, err);
	return rc ? rc : overlay_spoil(env, "vm1/points/2/point.json.copy", false, err);
}

static int use_look_files(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct wire_opened opened;
	(void)env, (void)store;
	if (r->broken || r->point_count != POINTS)
		return err_set(err, -EBADMSG, "%zu points: %s", r->point_count, r->why.text);
	for (uint64_t n = 1; n <= POINTS; n++)
		if (replica_sound(r, n, NULL) != -EUCLEAN)
			return err_set(err, -EBADMSG, "point %llu: passes for what nobody knows", (unsigned long long)n);
	world_open_at(w, POINTS + 1);
	int rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc == 0)
		replica_session_end(r);
	return rc;
}

// Nothing that they show has changed.
static int check_files(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	int rc = world_with(env, w, use_look_files, err);
	return rc ? rc : world_read_points(w, env, 1, POINTS, 0xe, err);
}

static void recovery_that_is_cut_makes_lost_files_good_in_the_end(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, POINTS);
	struct crash_scenario s = {.name = "lost-files-crash", .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise), .setup = setup_files, .run = run,
				   .recover = world_recover, .check = check_files, .crashes = 2, .settles = true, .states_max = 3000};
	assert_true(crash_test_quiet(&s));
	s.name = "lost-files-error";
	s.crashes = 1;
	s.settles = false;
	assert_true(anomaly_test_quiet(&s));
	world_free(w);
}

int main(void)
{
	log_init("test_overlays_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recovery_that_is_cut_makes_them_good_in_the_end),
		cmocka_unit_test(recovery_that_is_cut_makes_lost_files_good_in_the_end),
	};
	return cmocka_run_group_tests_name("overlays_crash", tests, NULL, NULL);
}
