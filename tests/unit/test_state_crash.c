// SPDX-License-Identifier: Apache-2.0
// The state file under crash enumeration (replicator/state_file.h over tests/sim), B1: two lives of an agent, each load, run, more
// is dirty, stop; the power goes off, or the process dies, or a disk fails, at every operation. What a later load believes holds
// every dirty piece; what it does not believe has the right reason; and what was promised durable is there.
//
// The image's identity is the same all the time: a power cut may take an image's times back.
#include "replicator/state_file.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NAME "protections/vm1/vda.state"
enum { REGIONS_MAX = 31, LIVES = 2 };

enum phase { STOPPED, STARTING, RUNNING, STOPPING }; // of the agent, when it was disturbed

struct world {
	uint64_t regions;
	bool begins_clean;  // the setup leaves a clean stop; otherwise nothing, or
	bool begins_broken; // a file that cannot be read
	// What the run notes: what the last clean stop said, and what the one under way says.
	enum phase phase;
	bool saved;
	unsigned saved_life, life;
	bool all, saved_all; // the map of that life is everything, for its load had a reason
};

static const struct image_identity identity = {1, 2, 3, 4, 5};

static uint64_t size_of(const struct world *w)
{
	return w->regions * REGION_SIZE;
}

static struct state_position position_of(unsigned life)
{
	return (struct state_position){.protection = {{1}},
				       .generation = {{2}},
				       .point = life,
				       .last_cut = {{(unsigned char)(life + 1)}}};
}

// What is dirty at the end of a life: partly the same regions with other pieces, so that a mix of two lives shows.
static void truth_mark(const struct world *w, unsigned life, struct dirty *dirty)
{
	for (uint64_t r = 0; r < w->regions; r++)
		if (r % 3 != life % 3 || w->regions > 3)
			dirty_mark(dirty, r * REGION_SIZE + (life * 8 + r) * PIECE_SIZE, PIECE_SIZE);
}

static bool same_map(const struct dirty *a, const struct dirty *b)
{
	for (uint64_t r = 0; r < a->regions; r++) {
		unsigned char x[DIRTY_REGION_BYTES] = {0}, y[DIRTY_REGION_BYTES] = {0};
		(void)dirty_save_region(a, r, x);
		(void)dirty_save_region(b, r, y);
		if (memcmp(x, y, sizeof(x)) != 0)
			return false;
	}
	return true;
}

static enum sync_reason load(const struct world *w, struct env_root *root, struct dirty *map,
			     struct state_position *position)
{
	struct state_position expected = position_of(0);
	if (dirty_init(map, size_of(w)))
		abort();
	return state_file_load(root, NAME, "vda", &expected, &identity, false, map, position);
}

// --- the run ---

static int stop(struct world *w, struct state_file *file, const struct state_position *position, struct err *err)
{
	struct dirty map;
	if (dirty_init(&map, size_of(w)))
		abort();
	truth_mark(w, w->life, &map);
	if (w->all)
		dirty_mark_all(&map);
	w->phase = STOPPING;
	int rc = state_file_save(file, position, &identity, &map, err);
	if (rc == 0) {
		w->phase = STOPPED;
		w->saved = true;
		w->saved_life = w->life;
		w->saved_all = w->all;
	}
	dirty_done(&map);
	return rc;
}

static int live(struct world *w, struct env_root *root, struct err *err)
{
	struct dirty map;
	struct state_position position = {.point = 0};
	struct state_file *file = NULL;
	enum sync_reason reason = load(w, root, &map, &position);
	dirty_done(&map);
	w->all = reason != SYNC_NONE && w->life > 0;
	w->phase = STARTING;
	position = position_of(w->life);
	int rc = state_file_open_run(root, NAME, "vda", &position, size_of(w), &file, err);
	if (rc)
		return rc;
	w->phase = RUNNING; // from here on a guest writes
	rc = stop(w, file, &position, err);
	state_file_close(file);
	return rc;
}

static int setup(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct env_root *root = NULL;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_mkdir(root, "protections");
	if (rc == 0)
		rc = env_mkdir(root, "protections/vm1");
	w->saved = false;
	w->life = 0;
	w->phase = STOPPED;
	if (rc == 0 && w->begins_clean)
		rc = live(w, root, err);
	if (rc == 0 && w->begins_broken)
		rc = env_replace(root, "protections/vm1", NAME, "not one of ours", 15);
	env_root_close(root);
	return rc ? err_sys(err, rc, "setup") : 0;
}

static int run(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct env_root *root = NULL;
	w->saved = w->begins_clean;
	w->saved_life = 0;
	w->saved_all = false;
	w->phase = STOPPED;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "open");
	for (w->life = 1; w->life <= LIVES && rc == 0; w->life++)
		rc = live(w, root, err);
	if (rc)
		w->life--; // the one that was disturbed
	env_root_close(root);
	return rc;
}

// --- what a later start may find ---

static int believed(const struct world *w, unsigned life, bool all, const struct dirty *map,
		    const struct state_position *position, struct err *err)
{
	struct dirty truth;
	struct state_position expected = position_of(life);
	if (dirty_init(&truth, size_of(w)))
		abort();
	truth_mark(w, life, &truth);
	if (all)
		dirty_mark_all(&truth);
	bool good = same_map(map, &truth) && memcmp(position, &expected, sizeof(expected)) == 0;
	dirty_done(&truth);
	return good ? 0 : err_set(err, -EBADMSG, "believes a map that is not that of life %u", life);
}

static int judge(const struct world *w, enum sync_reason reason, const struct dirty *map,
		 const struct state_position *position, struct err *err)
{
	// Before the first header of ours is durable there is what there was.
	bool before = !w->saved && w->phase == STARTING && w->life == 1;
	enum sync_reason was = w->begins_broken ? SYNC_STATE_UNREADABLE : SYNC_STATE_MISSING;
	if (reason == SYNC_NONE) {
		if (w->phase == RUNNING || (w->phase == STARTING && !w->saved))
			return err_set(err, -EBADMSG, "a clean stop in phase %d of life %u", w->phase, w->life);
		return w->phase == STOPPING ? believed(w, w->life, w->all, map, position, err)
					    : believed(w, w->saved_life, w->saved_all, map, position, err);
	}
	if (w->phase == STOPPED && w->saved)
		return err_set(err, -EBADMSG, "a clean stop is lost: %s", sync_reason_name(reason));
	if (reason != SYNC_UNCLEAN_STOP && !((before || (w->phase == STOPPED && !w->saved)) && reason == was))
		return err_set(err, -EBADMSG, "phase %d of life %u gives %s", w->phase, w->life,
			       sync_reason_name(reason));
	return 0;
}

static int check(struct env *env, void *context, struct err *err)
{
	const struct world *w = context;
	struct env_root *root = NULL;
	struct dirty map;
	struct state_position position = {.point = 0};
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "open");
	enum sync_reason reason = load(w, root, &map, &position);
	rc = judge(w, reason, &map, &position, err);
	dirty_done(&map);
	env_root_close(root);
	return rc;
}

static void explore(const char *name, struct world world)
{
	struct crash_scenario s = {
		.name = name, .context = &world, .setup = setup, .run = run, .check = check, .states_max = 30000};
	assert_true(crash_test(&s));
	assert_true(anomaly_test(&s));
}

static void state_of_two_lives_is_the_truth_or_lost_after_a_crash_anywhere(void **state)
{
	(void)state;
	explore("lives", (struct world){.regions = 3, .begins_clean = true});
}

static void state_of_more_than_one_page_is_the_truth_or_lost(void **state)
{
	(void)state;
	explore("pages", (struct world){.regions = REGIONS_MAX, .begins_clean = true});
}

static void state_that_was_not_there_is_never_a_clean_stop_before_there_was_one(void **state)
{
	(void)state;
	explore("new", (struct world){.regions = 3});
}

static void state_that_was_broken_is_never_a_clean_stop_before_there_was_one(void **state)
{
	(void)state;
	explore("broken", (struct world){.regions = 3, .begins_broken = true});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state_of_two_lives_is_the_truth_or_lost_after_a_crash_anywhere),
		cmocka_unit_test(state_of_more_than_one_page_is_the_truth_or_lost),
		cmocka_unit_test(state_that_was_not_there_is_never_a_clean_stop_before_there_was_one),
		cmocka_unit_test(state_that_was_broken_is_never_a_clean_stop_before_there_was_one),
	};
	return cmocka_run_group_tests_name("state_crash", tests, NULL, NULL);
}
