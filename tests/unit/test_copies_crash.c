// SPDX-License-Identifier: Apache-2.0
// Files that are kept twice (receiver/copies.c) under crash enumeration: in no crash state does a copy say something else than its file, so that what was promised
// is kept when the file is damaged in just that state; and restoring one from the other leaves one of them whole at any time.
#include "base/log.h"
#include "receiver/copies.h"
#include "receiver/replica.h"
#include "tests/lib/store_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// A copy that is not certain yet, or whose sync has failed, cannot carry what its file loses in the same moment: so it is made certain first.
static int rot(struct env_root *root, const char *path)
{
	struct env_file *file = NULL;
	unsigned char byte = 0;
	char dir[64], copy[80];
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	(void)snprintf(dir, sizeof(dir), "%.*s", (int)(strrchr(path, '/') - path), path);
	(void)snprintf(copy, sizeof(copy), "%s" COPY_SUFFIX, path);
	int rc = env_read_file(root, copy, 1 << 16, &text, &len);
	if (rc == 0)
		rc = env_replace(root, dir, copy, text, len);
	if (rc == 0)
		rc = env_open(root, path, ENV_WRITE, &file);
	if (rc == 0)
		rc = env_pread_full(file, &byte, 1, 100);
	byte ^= 0x40;
	if (rc == 0)
		rc = env_pwrite(file, &byte, 1, 100);
	if (rc == 0)
		rc = env_sync(file);
	env_close(file);
	return rc;
}

static bool there(struct env_root *root, const char *path)
{
	struct env_stat st;
	return env_stat(root, path, &st) == 0;
}

// What recovery meets more than once is damaged at most once: its name says so then.
static int note(struct env_root *root, const char *damaged)
{
	struct env_file *file = NULL;
	int rc = there(root, damaged) ? 0 : env_open(root, damaged, ENV_CREATE, &file);
	env_close(file);
	return rc;
}

// Each file whose copy is whole gets damaged, and the copy has to carry it alone. A point has had both since it had its name.
static int file_found(struct env_root *root, const char *path, bool must, struct err *err)
{
	struct copies_state state;
	char damaged[80];
	(void)snprintf(damaged, sizeof(damaged), "%s.damaged", path);
	copies_state(root, path, &state);
	if (state.file == 0 && state.copy == 0 && !state.alike)
		return err_set(err, -EBADMSG, "%s: its copy says something else", path);
	if (state.copy && must)
		return err_set(err, -EBADMSG, "%s: its copy is not whole", path);
	if (state.file && state.copy)
		return err_set(err, -EBADMSG, "%s: neither it nor its copy is whole", path);
	if (state.file || there(root, damaged))
		return 0;
	int rc = state.copy ? note(root, damaged) : rot(root, path);
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

static int files_found(struct env *env, void *context, struct err *err)
{
	struct env_root *root = NULL;
	char path[64];
	(void)context;
	int rc = env_root_open(env, "/store", &root);
	if (rc)
		return err_sys(err, rc, "/store");
	if (there(root, "vm1"))
		rc = file_found(root, "vm1/protection.json", false, err);
	for (unsigned n = 1; rc == 0 && n <= WORLD_POINTS_MAX; n++) {
		(void)snprintf(path, sizeof(path), "vm1/points/%u", n);
		if (!there(root, path))
			continue;
		(void)snprintf(path, sizeof(path), "vm1/points/%u/point.json", n);
		rc = file_found(root, path, true, err);
	}
	env_root_close(root);
	return rc;
}

static int use_commit(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)r;
	int rc = world_commit(w, store, w->setup_points + 1, false, err);
	if (rc == 0)
		w->promise.last_from = w->setup_points + 1;
	return rc;
}

static int use_fence(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)store;
	w->promise.fence_asked = true;
	int rc = replica_fence(r, w->setup_points, err);
	if (rc == 0)
		w->promise.fenced = w->setup_points;
	return rc;
}

// The file rots while the receiver runs, and is replaced next.
static int use_fence_over_rot(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	struct env_root *root = NULL;
	int rc = env_root_open(env, "/store", &root);
	if (rc == 0)
		rc = rot(root, "vm1/protection.json");
	env_root_close(root);
	return rc ? err_sys(err, rc, "a bit turns") : use_fence(env, w, store, r, err);
}

static int use_round(struct env *env, struct store_world *w, struct store *store, struct replica *r, struct err *err)
{
	(void)env, (void)w, (void)store;
	copies_round(r);
	return replica_is_broken(r) || atomic_load(&r->copies_due) ? err_set(err, -EIO, "not all was made good") : 0;
}

static int promised(struct env *env, struct store_world *w, uint64_t last_to, world_use *use, struct err *err)
{
	w->promise = (struct world_promise){.first_from = 1, .first_to = 1, .last_from = w->setup_points, .last_to = last_to, .created = true};
	return world_with(env, w, use, err);
}

static int run_commit(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	return promised(env, w, w->setup_points + 1, use_commit, err);
}

static int run_fence(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	return promised(env, w, w->setup_points, use_fence, err);
}

static int run_fence_over_rot(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	return promised(env, w, w->setup_points, use_fence_over_rot, err);
}

static int run_round(struct env *env, void *context, struct err *err)
{
	struct store_world *w = context;
	return promised(env, w, w->setup_points, use_round, err);
}

static int setup_damaged(struct env *env, void *context, struct err *err)
{
	int rc = world_setup(env, context, err);
	return rc ? rc : files_found(env, context, err);
}

static void fence_outlasts_the_file_that_says_so(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	w->found = files_found;
	w->states_max = 1000; // in which the names of copies are as they may be
	world_survive(w, "copies-fence", run_fence);
	world_free(w);
}

static void copy_that_stands_in_stays_until_its_file_is_whole(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	w->found = files_found;
	w->states_max = 300;
	world_survive(w, "copies-fence-over-rot", run_fence_over_rot);
	world_free(w);
}

static void point_outlasts_the_file_that_says_so(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 1);
	w->found = files_found;
	world_survive(w, "copies-commit", run_commit);
	world_free(w);
}

static void restoring_leaves_one_of_the_two_whole(void **state)
{
	(void)state;
	struct store_world *w = world_new(8, 2);
	w->setup = setup_damaged;
	world_survive(w, "copies-restored", run_round);
	world_free(w);
}

int main(void)
{
	log_init("test_copies_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fence_outlasts_the_file_that_says_so),
		cmocka_unit_test(copy_that_stands_in_stays_until_its_file_is_whole),
		cmocka_unit_test(point_outlasts_the_file_that_says_so),
		cmocka_unit_test(restoring_leaves_one_of_the_two_whole),
	};
	return cmocka_run_group_tests_name("copies_crash", tests, NULL, NULL);
}
