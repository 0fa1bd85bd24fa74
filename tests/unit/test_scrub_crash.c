// SPDX-License-Identifier: Apache-2.0
// The scrub under crash enumeration (receiver/scrub.c over tests/sim): S1, the durable position is never past a block whose damage is not
// durable too; what was answered as found is found again by recovery; and R5, a point that is not refused reads as it was at its cut, or does
// not read at all, after every crash of a scrub, of a repair, and of a fold over a block that cannot be unpacked.
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "receiver/replica.h"
#include "receiver/scrub.h"
#include "receiver/scrub_chain.h"
#include "receiver/scrubber.h"
#include "tests/lib/feed.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 4, POINTS = 4, FLIPPED = 0, GARBAGE = 3 }; // of the blocks: one damaged in a point, one in the base

struct promise { // what the run was told
	uint64_t found;	 // blocks
	uint64_t sealed; // the point
	bool settled;	 // that it is sound is durable
	bool begun;	 // a session was
};

struct world {
	unsigned char oracle[POINTS + 1][BLOCKS][BLOCK_SIZE];
	struct wire_open open;
	struct codec_context *codec;
	bool packed;  // the flipped block is one that cannot be unpacked
	bool scrubbed; // the setup ends with a scrub
	bool lost;     // the digests of what is damaged are damaged as well
	struct promise promise;
};

static void fill(unsigned char *to, unsigned seed)
{
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		to[i] = (unsigned char)(i / 97 * seed + seed);
}

// Block 0 is written in the first point and in the third, 1 in the first and in pieces later, 2 in each, 3 never.
static void make_oracle(struct world *w)
{
	memset(w->oracle, 0, sizeof(w->oracle));
	for (unsigned p = 1; p <= POINTS; p++) {
		memcpy(w->oracle[p], w->oracle[p - 1], sizeof(w->oracle[p]));
		if (p == 1 || p == 3)
			fill(w->oracle[p][0], p);
		if (p == 1)
			fill(w->oracle[p][1], p + 10);
		else
			memset(w->oracle[p][1] + p * PIECE_SIZE, (int)p, PIECE_SIZE);
		fill(w->oracle[p][2], p + 20);
	}
}

static struct world *world_new(bool packed, bool scrubbed, uint32_t keep)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	make_oracle(w);
	w->packed = packed;
	w->scrubbed = scrubbed;
	w->codec = codec_new();
	assert_non_null(w->codec);
	const uint64_t size = BLOCKS * BLOCK_SIZE;
	w->open = feed_open(1, &size, keep);
	return w;
}

static void world_free(struct world *w)
{
	codec_free(w->codec);
	free(w);
}

// What changed between two states of the disk; with `whole`, also the blocks in that mask, all of them.
static int commit(struct world *w, struct replica *r, uint64_t number, unsigned whole, struct err *err)
{
	struct wire_opened opened;
	int rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return rc;
	for (uint64_t b = 0; rc == 0 && b < BLOCKS; b++) {
		const unsigned char *new = w->oracle[number][b];
		uint16_t mask = whole >> b & 1 ? MASK_FULL : feed_pieces(w->oracle[number - 1][b], new);
		rc = feed_block(&w->open, w->packed ? w->codec : NULL, r, 0, b, new, mask, err);
	}
	if (rc == 0)
		rc = feed_seal(r, (unsigned char)number, (int64_t)number, err);
	replica_session_end(r);
	return rc;
}

// --- damage ---

static uint64_t be64_at(struct env_file *file, uint64_t off)
{
	unsigned char bytes[8] = {0};
	(void)env_pread_full(file, bytes, 8, off);
	return get_be64(bytes);
}

static int plant(struct env *env, const struct world *w, struct err *err)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	int rc = env_root_open(env, "/store", &root);
	if (rc == 0)
		rc = env_open(root, "vm1/points/1/vda.qcow2", ENV_WRITE, &file);
	if (rc == 0) {
		uint64_t l2 = be64_at(file, be64_at(file, 40)) & UINT64_C(0x00fffffffffffe00), where = be64_at(file, l2 + FLIPPED * 16);
		uint64_t at = w->packed ? where & ((UINT64_C(1) << 54) - 1) : (where & UINT64_C(0x00fffffffffffe00)) + 5;
		rc = env_pwrite(file, "XXXX", 4, at);
	}
	env_close(file);
	file = NULL;
	if (rc == 0)
		rc = env_open(root, "vm1/base/vda.raw", ENV_WRITE, &file);
	if (rc == 0 && !w->packed)
		rc = env_pwrite(file, "Y", 1, GARBAGE * BLOCK_SIZE + 9);
	env_close(file);
	env_root_close(root);
	return rc ? err_sys(err, rc, "plant") : 0;
}

static int sector_spoil(struct env *env, const char *name, struct err *err)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	int rc = env_root_open(env, "/store", &root);
	if (rc == 0)
		rc = env_open(root, name, ENV_WRITE, &file);
	if (rc == 0)
		rc = env_pwrite(file, "Z", 1, DIGEST_SECTOR + 11);
	env_close(file);
	env_root_close(root);
	return rc ? err_sys(err, rc, "%s", name) : 0;
}

// A pass from where it is to its end, a block at a time, its position durable after each. As the scrubber, it goes on after a failure, and
// saves at its end whatever was before.
static int scrub_on(struct world *w, struct replica *r, struct err *err)
{
	struct scrub_step step = {.ended = false};
	unsigned failures = 0;
	int rc = 0;
	while (!step.ended && failures < 3) {
		r->scrub_range = 1;
		rc = scrub_slice(r, &step, err);
		if (rc == 0)
			w->promise.found += step.mismatches;
		if (rc == 0)
			rc = scrub_save(r, err);
		failures += rc != 0;
	}
	int saved = scrub_save(r, rc ? NULL : err);
	return rc ? rc : saved;
}

static int setup(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct replica *r = NULL;
	int rc = feed_make_dir(env, "store", err);
	if (rc)
		return rc;
	rc = store_open(env, "/store", &store, err);
	if (rc == 0)
		rc = store_create(store, &w->open, feed_pin, &r, err);
	const struct retention policy = {.points = w->open.points_keep}; // without a floor
	if (rc == 0)
		rc = replica_set_retention(r, &policy, err);
	for (uint64_t p = 1; rc == 0 && p < POINTS; p++)
		rc = commit(w, r, p, 0, err);
	if (rc == 0)
		rc = plant(env, w, err);
	if (rc == 0 && w->lost)
		rc = sector_spoil(env, "vm1/points/1/vda.digests", err);
	if (rc == 0 && w->lost)
		rc = sector_spoil(env, "vm1/base/vda.digests", err);
	if (rc == 0 && w->scrubbed)
		rc = scrub_begin(r, 0, SCRUB_RATE_DEFAULT, err);
	if (rc == 0 && w->scrubbed)
		rc = scrub_on(w, r, err);
	store_close(store);
	return rc;
}

// --- what is run ---

static int run_scrub(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	w->promise = (struct promise){.found = 0};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	if (rc == 0)
		rc = scrub_begin(r, 0, SCRUB_RATE_DEFAULT, err);
	if (rc == 0)
		rc = scrub_on(w, r, err);
	if (rc == 0 && w->promise.found != 2)
		rc = err_set(err, -EBADMSG, "found %llu blocks", (unsigned long long)w->promise.found);
	store_close(store);
	return rc;
}

static int run_repair(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	w->promise = (struct promise){.found = 0};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	if (rc == 0)
		rc = commit(w, r, POINTS, 1u << FLIPPED | 1u << GARBAGE, err);
	if (rc == 0)
		w->promise.sealed = POINTS;
	if (rc == 0)
		rc = scrub_save(r, err);
	w->promise.settled = rc == 0;
	store_close(store);
	return rc;
}

// A session over digests that are lost, which ends with the point that makes good what the newest one shows.
static int run_lost(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct wire_opened opened;
	w->promise = (struct promise){.found = 0};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	if (rc == 0 && (rc = replica_session_begin(r, &w->open, feed_pin, &opened, err)) == 0) {
		w->promise.begun = true;
		replica_session_end(r);
	}
	if (rc == 0)
		rc = commit(w, r, POINTS, 1u << GARBAGE, err);
	if (rc == 0)
		w->promise.sealed = POINTS;
	if (rc == 0)
		rc = scrub_save(r, err);
	w->promise.settled = rc == 0;
	store_close(store);
	return rc;
}

static int run_fold(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	w->promise = (struct promise){.found = 0};
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (rc == 0 && !r)
		rc = err_set(err, -ENOENT, "vm1 is not in the store");
	int folded = rc == 0;
	while (rc == 0 && folded == 1) {
		folded = replica_retain(r, err);
		rc = folded < 0 ? folded : 0;
	}
	store_close(store);
	return rc;
}

static int recover(struct env *env, void *context, struct err *err)
{
	struct store *store = NULL;
	(void)context;
	int rc = store_open(env, "/store", &store, err);
	store_close(store);
	return rc;
}

// --- what must hold ---

// R5: what is not refused is right, or an error.
static int points_check(const struct world *w, struct replica *r, struct err *err)
{
	AUTO_FREE unsigned char *block = malloc(BLOCK_SIZE);
	struct scrub_level level[POINTS];
	struct scrub_chain chain = {.replica = r, .level = level, .count = r->point_count};
	if (r->broken || r->point_count == 0 || r->point_count > POINTS)
		return err_set(err, -EBADMSG, "broken, or without points: %s", r->why.text);
	for (size_t i = 0; i < r->point_count; i++)
		level[i] = (struct scrub_level){.number = r->points[i].number, .size = BLOCKS * BLOCK_SIZE};
	int rc = scrub_chain_open(&chain, err);
	for (size_t i = 0; rc == 0 && i < chain.count; i++)
		for (uint64_t b = 0; rc == 0 && b < BLOCKS; b++)
			if (replica_sound(r, level[i].number, NULL) == 0 && scrub_chain_read(&chain, i, b, block, NULL) == 0 &&
			    memcmp(block, w->oracle[level[i].number][b], BLOCK_SIZE) != 0)
				rc = err_set(err, -EBADMSG, "point %llu, block %llu: damaged and not refused",
					     (unsigned long long)level[i].number, (unsigned long long)b);
	scrub_chain_close(&chain);
	return rc;
}

// S1, and what was answered. Then the pass is brought to its end, and knows all.
static int scrub_check(struct world *w, struct replica *r, struct err *err)
{
	const struct scrub_state *s = &r->scrub;
	uint64_t past = s->open ? s->pass.block : s->ended ? BLOCKS : 0, known = damage_blocks(&s->damage);
	if (s->suspect)
		return err_set(err, -EBADMSG, "scrub.json does not check");
	if ((past > FLIPPED && !damage_touches(&s->damage, 0, FLIPPED)) || (past > GARBAGE && !damage_touches(&s->damage, 0, GARBAGE)))
		return err_set(err, -EBADMSG, "the position is past block %llu, whose damage is not known", (unsigned long long)past - 1);
	if (known < w->promise.found)
		return err_set(err, -EBADMSG, "%llu blocks were found, %llu are known", (unsigned long long)w->promise.found,
			       (unsigned long long)known);
	int rc = s->open ? 0 : scrub_begin(r, 0, SCRUB_RATE_DEFAULT, err);
	struct promise told = w->promise;
	if (rc == 0)
		rc = scrub_on(w, r, err);
	w->promise = told;
	return rc ? rc : points_check(w, r, err);
}

static int check_with(struct env *env, struct world *w, int (*more)(struct world *w, struct replica *r, struct err *err), struct err *err)
{
	struct store *store = NULL;
	int rc = store_open(env, "/store", &store, err);
	if (rc)
		return rc;
	struct replica *r = store_find(store, "vm1");
	rc = r ? more(w, r, err) : err_set(err, -ENOENT, "vm1 is not in the store");
	store_close(store);
	return rc;
}

static int check_scrub(struct env *env, void *context, struct err *err)
{
	return check_with(env, context, scrub_check, err);
}

static int repair_check(struct world *w, struct replica *r, struct err *err)
{
	int rc = points_check(w, r, err);
	if (rc == 0 && w->promise.sealed && replica_last_point(r) != w->promise.sealed)
		rc = err_set(err, -EBADMSG, "the point that was answered is not there");
	if (rc == 0 && w->promise.settled && replica_sound(r, w->promise.sealed, NULL))
		rc = err_set(err, -EBADMSG, "the point that is whole again is refused");
	if (rc == 0 && replica_sound(r, POINTS - 1, NULL) == 0)
		rc = err_set(err, -EBADMSG, "the point before it is not refused");
	return rc;
}

static int check_repair(struct env *env, void *context, struct err *err)
{
	return check_with(env, context, repair_check, err);
}

static int none_take(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	(void)context, (void)index, (void)digest, (void)err;
	return 0;
}

// Whether the base's table checks, so that nobody would find by it that digests are lost.
static bool table_checks(struct replica *r)
{
	AUTO_FILE struct env_file *table = NULL;
	struct digest_disk of = replica_disk(r, 0);
	return replica_open_file(r, ENV_READ, &table, NULL, "base/vda.digests") == 0 && digest_table_load(table, &of, none_take, NULL, NULL) == 0;
}

// What was noted before a session was answered, or a fold wrote the table, is there. Then a session finds the rest, heals, and retention comes to its end.
static int lost_check(struct world *w, struct replica *r, struct err *err)
{
	int rc = 0;
	if (r->broken)
		return err_set(err, -EBADMSG, "broken: %s", r->why.text);
	if (w->promise.begun || table_checks(r))
		rc = points_check(w, r, err);
	if (rc == 0 && w->promise.sealed && replica_last_point(r) != w->promise.sealed)
		rc = err_set(err, -EBADMSG, "the point that was answered is not there");
	if (rc == 0 && w->promise.settled && !r->scrub.suspect && replica_sound(r, w->promise.sealed, err))
		rc = err_wrap(err, "the point that is whole again");
	if (rc == 0 && replica_last_point(r) < POINTS)
		rc = commit(w, r, POINTS, 1u << GARBAGE, err);
	if (rc == 0)
		rc = points_check(w, r, err);
	if (rc == 0 && replica_last_point(r) == POINTS && scrub_begin(r, 0, SCRUB_RATE_DEFAULT, err) == 0)
		rc = scrub_on(w, r, err);
	const struct retention policy = {.points = 1};
	if (rc == 0)
		rc = replica_set_retention(r, &policy, err);
	while (rc == 0 && (rc = replica_retain(r, err)) == 1)
		rc = points_check(w, r, err);
	return rc || replica_sound(r, POINTS, err) == 0 ? rc : err_wrap(err, "at the end");
}

static int check_lost(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct promise told = w->promise;
	int rc = check_with(env, context, lost_check, err);
	w->promise = told;
	return rc;
}

static int fold_check(struct world *w, struct replica *r, struct err *err)
{
	int rc = points_check(w, r, err);
	return rc || replica_sound(r, replica_last_point(r), err) == 0 ? rc : err_wrap(err, "the newest point holds all of its blocks");
}

static int check_fold(struct env *env, void *context, struct err *err)
{
	return check_with(env, context, fold_check, err);
}

// Of failures a look at each, twice; `make test-crash` looks at all that each can leave.
enum { FEW = 400 };

static struct crash_scenario scenario(const char *name, struct world *w, crash_step *run, crash_step *check)
{
	return (struct crash_scenario){.name = name, .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise), .setup = setup,
				       .run = run, .recover = recover, .check = check, .at_syncs = true, .states_max = 4000};
}

static void s1_the_position_is_never_past_what_is_not_known(void **state)
{
	(void)state;
	struct world *w = world_new(false, false, 8);
	const struct crash_scenario s = scenario("scrub", w, run_scrub, check_scrub);
	assert_true(crash_test_quiet(&s));
	struct crash_scenario faults = scenario("scrub_faults", w, run_scrub, check_scrub);
	faults.states_max = FEW;
	assert_true(anomaly_test_quiet(&faults));
	world_free(w);
}

static void r5_no_damaged_point_is_let_out_by_a_repair(void **state)
{
	(void)state;
	struct world *w = world_new(false, true, 8);
	const struct crash_scenario s = scenario("scrub_repair", w, run_repair, check_repair);
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void r5_no_damaged_point_is_let_out_by_a_fold(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 1);
	const struct crash_scenario s = scenario("scrub_fold", w, run_fold, check_fold);
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

static void r5_lost_digests_are_noted_before_a_session_goes_on(void **state)
{
	(void)state;
	struct world *w = world_new(false, false, 8);
	w->lost = true;
	const struct crash_scenario s = scenario("lost_digests", w, run_lost, check_lost);
	assert_true(crash_test_quiet(&s));
	const struct crash_scenario faults = scenario("lost_digests_faults", w, run_lost, check_lost);
	assert_true(anomaly_test_quiet(&faults));
	world_free(w);
}

static void r5_lost_digests_are_noted_before_a_fold_writes_them(void **state)
{
	(void)state;
	struct world *w = world_new(false, false, 2);
	w->lost = true;
	const struct crash_scenario s = scenario("lost_digests_fold", w, run_fold, check_lost);
	assert_true(crash_test_quiet(&s));
	world_free(w);
}

// --- the schedule, by the simulated clock ---

static const uint64_t second = UINT64_C(1000000000), hour = 3600 * UINT64_C(1000000000), day = 24 * 3600 * UINT64_C(1000000000);

// Lets the scrubber take steps until it waits for longer than a slice does; how many bytes a second it proved at the most.
static uint64_t steps(struct sim *sim, struct store *store, const struct scrubber_config *config)
{
	size_t cursor = 0;
	uint64_t began = env_mono_ns(sim_env(sim)), wait;
	struct scrub_info info = {.ended = false};
	while ((wait = scrubber_step(sim_env(sim), store, config, &cursor)) < 30 * second)
		sim_clock_advance(sim, wait);
	scrub_info(store_find(store, "vm1"), &info);
	uint64_t took_ms = (env_mono_ns(sim_env(sim)) - began) / 1000000;
	return info.ended && took_ms ? info.last_proven * BLOCK_SIZE * 1000 / took_ms : 0;
}

static void every_protection_is_scrubbed_once_in_its_interval_at_its_rate(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 8);
	struct sim *sim = sim_new(1);
	struct store *store = NULL;
	struct err err = {0};
	const struct scrubber_config config = {.rate = BLOCK_SIZE, .interval_ns = (int64_t)(7 * day)}, never = {.rate = BLOCK_SIZE};
	struct scrub_info info;
	if (setup(sim_env(sim), w, &err) || store_open(sim_env(sim), "/store", &store, &err))
		fail_msg("%s", err.text);
	struct replica *r = store_find(store, "vm1");
	assert_int_equal(steps(sim, store, &config), 0); // it has only just come
	sim_clock_advance(sim, hour);
	assert_int_equal(steps(sim, store, &never), 0);
	uint64_t rate = steps(sim, store, &config);
	assert_true(rate > 0 && rate <= 3 * BLOCK_SIZE); // the last slice's wait is not in it, and blocks of zeros count for less
	scrub_info(r, &info);
	assert_true(info.ended && info.last_mismatches == 1); // the block that cannot be unpacked
	int64_t first = info.last_began_ns;
	sim_clock_advance(sim, 6 * day);
	(void)steps(sim, store, &config);
	scrub_info(r, &info);
	assert_true(info.last_began_ns == first);
	sim_clock_advance(sim, day);
	(void)steps(sim, store, &config);
	scrub_info(r, &info);
	assert_true(info.last_began_ns > first);
	sim_clock_step(sim, -400 * (int64_t)day); // a clock that is set back by a year does not end scrubbing
	sim_clock_advance(sim, 2 * hour);
	(void)steps(sim, store, &config);
	scrub_info(r, &info);
	assert_true(info.last_began_ns < first);
	store_close(store);
	sim_free(sim);
	world_free(w);
}

// --- the window ---

static const int64_t minute_ns = INT64_C(60000000000);

// Monday 2026-03-02 12:00 UTC.
static void clock_to_monday_noon(struct sim *sim)
{
	(void)setenv("TZ", "UTC", 1);
	tzset();
	sim_clock_step(sim, INT64_C(1772452800) * 1000000000 - env_wall_ns(sim_env(sim)));
}

static uint64_t passed(const struct scrub_info *info)
{
	return info->open ? info->done_bytes : info->ended ? info->total_bytes : 0;
}

// Lets the scrubber run for `for_ns`, a step after the other as its thread does; how much of the protection's disks was passed.
static uint64_t live(struct sim *sim, struct store *store, const struct scrubber_config *config, uint64_t for_ns)
{
	static size_t cursor;
	struct scrub_info before, after;
	uint64_t end = env_mono_ns(sim_env(sim)) + for_ns;
	struct replica *r = store_find(store, "vm1");
	scrub_info(r, &before);
	while (env_mono_ns(sim_env(sim)) < end) {
		uint64_t wait = scrubber_step(sim_env(sim), store, config, &cursor);
		sim_clock_advance(sim, min_u64(max_u64(wait, 1), end - env_mono_ns(sim_env(sim))));
	}
	scrub_info(r, &after);
	return passed(&after) - passed(&before);
}

static void scrub_keeps_to_its_window_and_goes_on_at_the_next(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 8);
	struct sim *sim = sim_new(1);
	struct store *store = NULL;
	struct err err = {0};
	struct scrub_info info;
	// A block in 10 s: what 5 minutes of a night give is less than the disks have.
	struct scrubber_config config = {.rate = BLOCK_SIZE / 10, .interval_ns = (int64_t)day, .has_window = true};
	assert_int_equal(bandwidth_window_read("22:00-22:01", &config.window, &err), 0);
	if (setup(sim_env(sim), w, &err) || store_open(sim_env(sim), "/store", &store, &err))
		fail_msg("%s", err.text);
	clock_to_monday_noon(sim);
	assert_int_equal(live(sim, store, &config, 10 * hour - (uint64_t)minute_ns), 0); // due since an hour after the start, and it waits
	struct replica *r = store_find(store, "vm1");
	scrub_info(r, &info);
	assert_true(!info.open && scrubber_waits(&config, &info, env_wall_ns(sim_env(sim))) == 1);
	uint64_t nights[4] = {0};
	for (unsigned night = 0; night < 4; night++) {
		nights[night] = live(sim, store, &config, 3 * (uint64_t)minute_ns); // the minute, and one on either side
		scrub_info(r, &info);
		if (night == 0)
			assert_true(info.open && !info.asked && nights[0] > 0 && info.done_bytes < info.total_bytes);
		if (info.open) { // held: nothing more by day, and no speed of it
			assert_int_equal(scrubber_waits(&config, &info, env_wall_ns(sim_env(sim))), 24 * 60 - 2);
			assert_int_equal(live(sim, store, &config, day - 3 * (uint64_t)minute_ns), 0);
			scrub_info(r, &info);
			assert_int_equal(info.bytes_per_second, 0);
			assert_true(scrub_is_late(&info, env_wall_ns(sim_env(sim)), config.interval_ns) == (night >= 1));
		} else {
			break;
		}
	}
	assert_true(nights[1] > 0);
	assert_true(info.ended && info.last_proven > 0); // over several nights, and each block once
	store_close(store);
	sim_free(sim);
	world_free(w);
}

static void scrub_that_was_asked_for_waits_for_no_window(void **state)
{
	(void)state;
	struct world *w = world_new(true, false, 8);
	struct sim *sim = sim_new(1);
	struct store *store = NULL;
	struct err err = {0};
	struct scrub_info info;
	struct scrubber_config config = {.rate = BLOCK_SIZE, .interval_ns = (int64_t)(7 * day), .has_window = true};
	assert_int_equal(bandwidth_window_read("sat,sun", &config.window, &err), 0);
	if (setup(sim_env(sim), w, &err) || store_open(sim_env(sim), "/store", &store, &err))
		fail_msg("%s", err.text);
	clock_to_monday_noon(sim);
	struct replica *r = store_find(store, "vm1");
	assert_int_equal(scrub_begin_due(r, config.rate, &err), 0);
	assert_int_equal(live(sim, store, &config, hour), 0);
	assert_int_equal(scrub_begin(r, 0, config.rate, &err), 0);
	store_close(store); // it is still asked for after a restart
	assert_int_equal(store_open(sim_env(sim), "/store", &store, &err), 0);
	r = store_find(store, "vm1");
	(void)live(sim, store, &config, hour);
	scrub_info(r, &info);
	assert_true(info.ended && !info.open);
	// A doubt in all points waits for none, either.
	struct scrub_info doubt = {.suspect = true}, due = {.suspect = false};
	assert_int_equal(scrubber_waits(&config, &doubt, env_wall_ns(sim_env(sim))), 0);
	assert_true(scrubber_waits(&config, &due, env_wall_ns(sim_env(sim))) > 4 * 24 * 60 - 300);
	store_close(store);
	sim_free(sim);
	world_free(w);
}

int main(void)
{
	log_init("test_scrub_crash", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_protection_is_scrubbed_once_in_its_interval_at_its_rate),
		cmocka_unit_test(scrub_keeps_to_its_window_and_goes_on_at_the_next),
		cmocka_unit_test(scrub_that_was_asked_for_waits_for_no_window),
		cmocka_unit_test(s1_the_position_is_never_past_what_is_not_known),
		cmocka_unit_test(r5_no_damaged_point_is_let_out_by_a_repair),
		cmocka_unit_test(r5_no_damaged_point_is_let_out_by_a_fold),
		cmocka_unit_test(r5_lost_digests_are_noted_before_a_session_goes_on),
		cmocka_unit_test(r5_lost_digests_are_noted_before_a_fold_writes_them),
	};
	return cmocka_run_group_tests_name("scrub_crash", tests, NULL, NULL);
}
