// SPDX-License-Identifier: Apache-2.0
// The state file under crash enumeration (replicator/state_file.h over tests/sim): a script of what an agent does is cut at every
// operation, by the power, by a kill, by a failing disk, and the start after that is cut too.
//
// The oracle is a model of three contents, each a number for each piece: the image as the guest reads it, the image as a
// power cut may leave it, and the receiver's point (or points: one whose SEAL was not answered may be committed). Whatever a start loads
//	holds every piece in which any of the images can differ from any of the points (B1), relative to a position that
//	names that point; after a crash alone it gives no reason to sync the whole disk, and marks no region that was
//	never marked, nor one that was durably unmarked (B5).
#include "replicator/state_file.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NAME "protections/vm1/vda.state"
enum { PLACES = 6, PIECES = 2, STEPS_MAX = 32 };
enum { PIECE_STEP = 8 }; // pieces 0 and 8 of each region are written

enum action {
	END,
	START,	   // load, check, open_run; `arg` is nothing
	WRITE,	   // to piece 0 of each place in `arg`, after one commit of marks for all of them
	REWRITE,   // to piece 8 of them
	CUT,	   // what is dirty is the set
	SEAL,	   // the cut is pending, durable; SEAL leaves
	COMMIT,	   // the receiver has committed and said so; the position is durable
	KEEP,	   // the image is synced, what stayed clean is unmarked
	KEEP_LATE, // the same, but the clears ride along with the next marks
	GIVE_BACK, // the set is dirty again
	STOP,	   // clean
	KILL,	   // the process dies, and nothing else
	GROW,	   // the state file, then the image, to the last places
	GROW_IN_VAIN, // the state file, and back: the image cannot
	GENERATION, // the next start is of another line of history
	LOSE,	   // a mark could not be made: the guest goes on
};
struct step {
	enum action action;
	unsigned arg; // places, one bit each
};

struct script {
	const char *name;
	uint64_t region[PLACES]; // where the places are, ascending; UINT64_MAX: nowhere
	uint64_t regions, grown; // of the disk, before and after GROW
	struct step before[STEPS_MAX], run[STEPS_MAX];
};

// All that a crash does not take: what is true of the image and the receiver, and what was promised.
struct truth {
	uint8_t now[PLACES][PIECES], synced[PLACES][PIECES], point[PLACES][PIECES], sealed[PLACES][PIECES];
	uint8_t cut[PLACES][PIECES]; // the agent's, as everything from here to `saved`
	uint8_t dirty[PLACES], set[PLACES];
	bool marked[PLACES], unmarking[PLACES], waiting[PLACES];
	struct state_position position;
	bool lost; // the agent goes on without the file
	uint8_t saved[PLACES];
	uint8_t version, cuts;
	struct uuid point_cut, sealed_cut; // of the receiver; null: none is on its way
	bool may_mark[PLACES];		   // a mark of it may be in the file
	bool file, saving, stopped, starting, losing, noted, other_generation, may_be_other, grows, grown;
};

struct world {
	const struct script *script;
	bool errors; // disks fail in this test, so whole syncs are in order
	struct truth t;
};

struct agent {
	struct env_root *root;
	struct state_file *file;
};

static uint64_t states_total;

static uint64_t size_of(const struct world *w, bool grown)
{
	return (grown ? w->script->grown : w->script->regions) * REGION_SIZE;
}

static struct image_identity identity_of(const struct world *w, bool grown)
{
	return (struct image_identity){1, 2, size_of(w, grown), 4, 5, 3, true, false};
}

static struct state_position expected_of(const struct world *w)
{
	struct state_position p = {.protection = {{1}}, .generation = {{2}}};
	p.generation.bytes[1] = w->t.other_generation;
	return p;
}

static bool exists(const struct world *w, unsigned k, bool grown)
{
	return w->script->region[k] < (grown ? w->script->grown : w->script->regions);
}

// --- the oracle ---

static bool may_differ(const struct truth *t, unsigned k, unsigned piece, bool sealed)
{
	uint8_t has = sealed ? t->sealed[k][piece] : t->point[k][piece];
	return t->now[k][piece] != has || t->synced[k][piece] != has;
}

static int superset(const struct world *w, const struct dirty *map, bool sealed, bool grown, struct err *err)
{
	for (unsigned k = 0; k < PLACES; k++)
		for (unsigned piece = 0; piece < PIECES && exists(w, k, grown); piece++) {
			uint64_t block = w->script->region[k] * BLOCKS_PER_REGION;
			if (may_differ(&w->t, k, piece, sealed) && !(dirty_mask(map, block) & 1u << piece * PIECE_STEP))
				return err_set(err, -EBADMSG, "B1: place %u piece %u may differ and is not dirty", k, piece);
		}
	return 0;
}

static int names_point(const struct state_position *p, const struct uuid *cut, struct err *err)
{
	if (uuid_equal(&p->last_cut, cut) || uuid_equal(&p->pending_cut, cut))
		return 0;
	return err_set(err, -EBADMSG, "the position names no point that the receiver may have");
}

// Only places that may be marked, each wholly; or, after a clean stop, exactly the map that was saved.
static int bounded(const struct world *w, const struct dirty *map, bool clean, bool grown, struct err *err)
{
	uint64_t pieces = 0;
	for (unsigned k = 0; k < PLACES; k++) {
		if (!exists(w, k, grown))
			continue;
		uint64_t has = 0, block = w->script->region[k] * BLOCKS_PER_REGION;
		for (unsigned b = 0; b < BLOCKS_PER_REGION; b++)
			has += (unsigned)__builtin_popcount(dirty_mask(map, block + b));
		unsigned saved = w->t.saved[k];
		unsigned mask = (saved & 1) | (saved & 2) << (PIECE_STEP - 1);
		if (clean ? dirty_mask(map, block) != mask : has != 0 && (has != PIECES_PER_REGION || !w->t.may_mark[k]))
			return err_set(err, -EBADMSG, "B5: place %u has %llu dirty pieces", k, (unsigned long long)has);
		pieces += has;
	}
	return pieces == map->pieces ? 0 : err_set(err, -EBADMSG, "B5: pieces are dirty that nobody wrote");
}

static int judge_whole(const struct world *w, enum sync_reason reason, struct err *err)
{
	const struct truth *t = &w->t;
	if (w->errors || (reason == SYNC_STATE_MISSING && !t->file) || (reason == SYNC_TRACKING_LOST && t->losing) ||
	    (reason == SYNC_STATE_FOREIGN && t->may_be_other))
		return 0;
	return err_set(err, -EBADMSG, "B5: a crash alone gives %s", sync_reason_name(reason));
}

// Against what a load says. `grown`: the image was found at its greater size.
static int judge(const struct world *w, enum sync_reason reason, const struct dirty *map, const struct state_position *position,
		 bool grown, struct err *err)
{
	const struct truth *t = &w->t;
	if (t->noted)
		return 0; // the file could neither be marked as lost nor removed: the caller's note says so
	if (reason != SYNC_NONE && reason != SYNC_UNCLEAN_STOP)
		return map->pieces == 0 ? judge_whole(w, reason, err) : err_set(err, -EBADMSG, "a map beside a whole sync");
	if (t->lost && !t->starting) // a start that was cut may have put a file there in which all is marked
		return err_set(err, -EBADMSG, "believed although it was lost");
	if (reason == SYNC_NONE ? !t->saving && !t->stopped : t->stopped && !t->starting)
		return err_set(err, -EBADMSG, "%s: clean stop", reason == SYNC_NONE ? "was none" : "lost");
	int rc = names_point(position, &t->point_cut, err);
	if (rc == 0)
		rc = superset(w, map, false, grown, err);
	if (rc == 0 && !uuid_is_zero(&t->sealed_cut))
		rc = names_point(position, &t->sealed_cut, err);
	if (rc == 0 && !uuid_is_zero(&t->sealed_cut))
		rc = superset(w, map, true, grown, err);
	return rc ? rc : bounded(w, map, reason == SYNC_NONE, grown, err);
}

static int load(const struct world *w, struct env_root *root, bool grown, struct dirty *map, struct state_position *position,
		enum sync_reason *reason, struct err *err)
{
	struct state_position expected = expected_of(w);
	struct image_identity identity = identity_of(w, grown);
	if (dirty_init(map, size_of(w, grown)))
		abort();
	*reason = state_file_load(root, NAME, "vda", &expected, &identity, false, map, position);
	return judge(w, *reason, map, position, grown, err);
}

// --- what an agent does ---

// A failure of the file while it runs: the guest goes on, and the next start must know. The power going off is none.
static int on_failure(struct world *w, struct agent *a, int rc, struct err *err)
{
	if (rc == 0 || rc == -ESHUTDOWN)
		return rc;
	w->t.losing = true;
	rc = state_file_lose(a->file, a->root, NAME, err);
	if (rc == -ESHUTDOWN)
		return rc;
	w->t.noted = rc != 0;
	w->t.lost = true;
	return 0;
}

static void unmarked_is_durable(struct truth *t)
{
	for (unsigned k = 0; k < PLACES; k++)
		if (t->unmarking[k])
			t->unmarking[k] = t->may_mark[k] = false;
}

static int start(struct world *w, struct agent *a, struct err *err)
{
	struct truth *t = &w->t;
	struct dirty map;
	struct state_position position = {.point = 0};
	enum sync_reason reason;
	int rc = load(w, a->root, t->grown, &map, &position, &reason, err);
	bool known = reason == SYNC_NONE || reason == SYNC_UNCLEAN_STOP;
	if (!known || t->noted) { // the receiver says what it has; and nothing is there but the places
		for (unsigned k = 0; k < PLACES; k++)
			if (exists(w, k, t->grown))
				dirty_mark(&map, w->script->region[k] * REGION_SIZE, REGION_SIZE);
		position = (struct state_position){.last_cut = t->point_cut, .pending_cut = t->sealed_cut};
	}
	position.protection = expected_of(w).protection;
	position.generation = expected_of(w).generation;
	t->position = position;
	t->starting = true;
	t->grows = false; // the image was found at that size
	memset(t->set, 0, sizeof(t->set));
	memset(t->waiting, 0, sizeof(t->waiting));
	memset(t->unmarking, 0, sizeof(t->unmarking));
	for (unsigned k = 0; k < PLACES; k++) {
		uint16_t mask = exists(w, k, t->grown) ? dirty_mask(&map, w->script->region[k] * BLOCKS_PER_REGION) : 0;
		t->dirty[k] = (uint8_t)((mask & 1) | (mask >> PIECE_STEP & 1) << 1);
		t->marked[k] = t->dirty[k] != 0;
		t->may_mark[k] |= t->marked[k];
	}
	struct image_identity identity = identity_of(w, t->grown);
	if (rc == 0)
		rc = state_file_open_run(a->root, NAME, "vda", &position, &identity, &map, NULL, &a->file, err);
	if (rc == 0) {
		t->starting = t->stopped = t->saving = t->lost = t->losing = t->noted = t->may_be_other = false;
		t->file = true;
		memcpy(t->may_mark, t->marked, sizeof(t->marked));
	}
	dirty_done(&map);
	return rc;
}

static int write_to(struct world *w, struct agent *a, unsigned places, unsigned piece, struct err *err)
{
	struct truth *t = &w->t;
	uint64_t set[PLACES], clear[PLACES];
	size_t sets = 0, clears = 0;
	for (unsigned k = 0; k < PLACES; k++) {
		bool wants = places >> k & 1;
		if (t->waiting[k] && !wants && !t->lost) {
			clear[clears++] = w->script->region[k];
			t->marked[k] = false;
			t->unmarking[k] = true;
		} else if (wants && !t->marked[k] && !t->lost) {
			set[sets++] = w->script->region[k];
			t->may_mark[k] = true;
			t->unmarking[k] = false;
		}
		t->waiting[k] = false;
	}
	if (!t->lost && (sets || clears)) {
		int rc = state_file_marks(a->file, set, sets, clear, clears, err);
		if (rc == 0 && sets)
			unmarked_is_durable(t);
		rc = on_failure(w, a, rc, err);
		if (rc)
			return rc;
	}
	t->version++;
	for (unsigned k = 0; k < PLACES; k++)
		if (places >> k & 1) {
			t->marked[k] = true;
			t->now[k][piece] = t->version;
			t->dirty[k] |= (uint8_t)(1u << piece);
		}
	return 0;
}

static void cut(struct truth *t)
{
	memcpy(t->cut, t->now, sizeof(t->cut));
	memcpy(t->set, t->dirty, sizeof(t->set));
	memset(t->dirty, 0, sizeof(t->dirty));
	t->cuts++;
}

static int put_position(struct world *w, struct agent *a, struct err *err)
{
	if (w->t.lost)
		return 0;
	int rc = state_file_position(a->file, &w->t.position, err);
	if (rc == 0)
		unmarked_is_durable(&w->t);
	return on_failure(w, a, rc, err);
}

static int seal(struct world *w, struct agent *a, struct err *err)
{
	struct truth *t = &w->t;
	struct uuid name = {{9, t->cuts}};
	t->position.pending_cut = name;
	int rc = put_position(w, a, err);
	if (rc)
		return rc;
	memcpy(t->sealed, t->cut, sizeof(t->sealed));
	t->sealed_cut = name;
	return 0;
}

static int commit(struct world *w, struct agent *a, struct err *err)
{
	struct truth *t = &w->t;
	memcpy(t->point, t->sealed, sizeof(t->point));
	t->point_cut = t->sealed_cut;
	t->sealed_cut = (struct uuid){{0}};
	t->position.point++;
	t->position.last_cut = t->point_cut;
	t->position.pending_cut = (struct uuid){{0}};
	return put_position(w, a, err);
}

static int keep(struct world *w, struct agent *a, bool late, struct err *err)
{
	struct truth *t = &w->t;
	uint64_t clear[PLACES];
	size_t clears = 0;
	memcpy(t->synced, t->now, sizeof(t->synced));
	memset(t->set, 0, sizeof(t->set));
	for (unsigned k = 0; k < PLACES; k++) {
		bool cold = t->marked[k] && !t->dirty[k];
		t->waiting[k] = cold && late;
		if (!cold || late || t->lost)
			continue;
		clear[clears++] = w->script->region[k];
		t->marked[k] = false;
		t->unmarking[k] = true;
	}
	return clears ? on_failure(w, a, state_file_marks(a->file, NULL, 0, clear, clears, err), err) : 0;
}

static void give_back(struct truth *t)
{
	for (unsigned k = 0; k < PLACES; k++)
		t->dirty[k] |= t->set[k];
	memset(t->set, 0, sizeof(t->set));
}

static int stop(struct world *w, struct agent *a, struct err *err)
{
	struct truth *t = &w->t;
	struct dirty map;
	int rc = 0;
	give_back(t);
	memcpy(t->synced, t->now, sizeof(t->synced));
	memcpy(t->saved, t->dirty, sizeof(t->saved));
	if (dirty_init(&map, size_of(w, t->grown)))
		abort();
	for (unsigned k = 0; k < PLACES; k++)
		for (unsigned piece = 0; piece < PIECES && exists(w, k, t->grown); piece++)
			if (t->dirty[k] >> piece & 1)
				dirty_mark(&map, w->script->region[k] * REGION_SIZE + piece * PIECE_STEP * PIECE_SIZE, 1);
	struct image_identity identity = identity_of(w, t->grown);
	t->saving = !t->lost;
	if (!t->lost)
		rc = state_file_save(a->file, &t->position, &identity, &map, err);
	t->stopped = rc == 0 && !t->lost;
	dirty_done(&map);
	state_file_close(a->file);
	a->file = NULL;
	return rc;
}

// The file first, then the image. The new places differ from the receiver's, which has nothing there.
static int grow(struct world *w, struct agent *a, struct err *err)
{
	struct truth *t = &w->t;
	struct image_identity identity = identity_of(w, false);
	bool old[PLACES];
	memcpy(old, t->may_mark, sizeof(old));
	for (unsigned k = 0; k < PLACES; k++)
		t->may_mark[k] |= !exists(w, k, false) && exists(w, k, true);
	int rc = state_file_grow(&a->file, a->root, NAME, size_of(w, true), &identity, err);
	if (rc && rc != -ESHUTDOWN)
		memcpy(t->may_mark, old, sizeof(old));
	t->grows = rc == 0;
	rc = on_failure(w, a, rc, err);
	if (rc)
		return rc;
	unmarked_is_durable(t);
	t->grown = true;
	t->version++;
	for (unsigned k = 0; k < PLACES; k++)
		if (!exists(w, k, false) && exists(w, k, true)) {
			t->marked[k] = true;
			t->dirty[k] = 3;
			t->now[k][0] = t->now[k][1] = t->version;
		}
	t->grows = false; // the image is durable
	return on_failure(w, a, state_file_grown(a->file, err), err);
}

// The file grows, the image cannot follow, and the file goes back.
static int grow_in_vain(struct world *w, struct agent *a, struct err *err)
{
	struct truth *t = &w->t;
	struct image_identity identity = identity_of(w, false);
	int rc = state_file_grow(&a->file, a->root, NAME, size_of(w, true), &identity, err);
	t->grows = rc == 0;
	if (rc == 0)
		rc = state_file_ungrow(&a->file, a->root, NAME, size_of(w, false), &identity, err);
	t->grows = t->grows && rc;
	bool sound = rc == 0;
	rc = on_failure(w, a, rc, err);
	if (sound)
		unmarked_is_durable(t);
	return rc;
}

static int lose(struct world *w, struct agent *a, struct err *err)
{
	w->t.losing = true;
	int rc = on_failure(w, a, -EIO, err);
	return rc;
}

static int take_step(struct world *w, struct agent *a, struct step step, struct err *err)
{
	switch (step.action) {
	case START:
		return start(w, a, err);
	case WRITE:
	case REWRITE:
		return write_to(w, a, step.arg, step.action == REWRITE, err);
	case CUT:
		cut(&w->t);
		return 0;
	case SEAL:
		return seal(w, a, err);
	case COMMIT:
		return commit(w, a, err);
	case KEEP:
	case KEEP_LATE:
		return keep(w, a, step.action == KEEP_LATE, err);
	case GIVE_BACK:
		give_back(&w->t);
		return 0;
	case STOP:
		return stop(w, a, err);
	case GROW:
		return grow(w, a, err);
	case GROW_IN_VAIN:
		return grow_in_vain(w, a, err);
	case GENERATION:
		w->t.other_generation = w->t.may_be_other = true;
		return 0;
	case LOSE:
		return lose(w, a, err);
	case KILL:
		state_file_close(a->file);
		a->file = NULL;
		return 0;
	case END:
		break;
	}
	return 0;
}

static int play(struct world *w, struct env *env, const struct step *steps, struct err *err)
{
	struct agent a = {0};
	int rc = env_root_open(env, "/", &a.root);
	if (rc)
		return err_sys(err, rc, "open");
	for (; steps->action != END && rc == 0; steps++)
		rc = take_step(w, &a, *steps, err);
	state_file_close(a.file);
	env_root_close(a.root);
	return rc;
}

// --- the scenario's steps ---

static struct truth settled; // of the setup: the run begins with it

static int setup(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct env_root *root = NULL;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_mkdir(root, "protections");
	if (rc == 0)
		rc = env_mkdir(root, "protections/vm1");
	env_root_close(root);
	w->t = (struct truth){.point_cut = {{8}}};
	if (rc == 0)
		rc = play(w, env, w->script->before, err);
	memcpy(w->t.synced, w->t.now, sizeof(w->t.synced));
	settled = w->t;
	return rc ? err_sys(err, rc, "setup") : 0;
}

static int run(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	w->t = settled;
	return play(w, env, w->script->run, err);
}

// The next start: it serves, and the guest writes to where nothing was.
static int recover(struct env *env, void *context, struct err *err)
{
	static const struct step life[] = {{START, 0}, {WRITE, 0x2}, {REWRITE, 0x1}, {END, 0}};
	return play(context, env, life, err);
}

static int check(struct env *env, void *context, struct err *err)
{
	const struct world *w = context;
	struct env_root *root = NULL;
	int rc = env_root_open(env, "/", &root);
	if (rc)
		return err_sys(err, rc, "open");
	for (int grown = 0; grown < 2 && rc == 0; grown++) {
		struct dirty map;
		struct state_position position = {.point = 0};
		enum sync_reason reason;
		if (grown ? !w->t.grown : w->t.grown && !w->t.grows)
			continue; // the image cannot have that size
		rc = load(w, root, grown, &map, &position, &reason, err);
		dirty_done(&map);
	}
	env_root_close(root);
	return rc;
}

static void explore(struct world *world, const char *kind, struct crash_scenario s)
{
	char name[64];
	struct crash_result result;
	snprintf(name, sizeof(name), "%s-%s", world->script->name, kind);
	s.name = name;
	s.context = world;
	s.promise = &world->t;
	s.promise_size = sizeof(world->t);
	s.setup = setup;
	s.run = run;
	s.check = check;
	s.states_max = 2000;
	(world->errors ? anomaly_explore : crash_explore)(&s, &result);
	states_total += result.states;
	assert_true(crash_report(&s, &result));
}

// What a crash leaves, as the next start finds it; what is left when that start is cut too, and the one after; and what failing disks
// leave.
static void survive(const struct script *script)
{
	struct world w = {.script = script};
	explore(&w, "crash", (struct crash_scenario){0});
	explore(&w, "start", (struct crash_scenario){.recover = recover, .crashes = 3});
	w.errors = true;
	explore(&w, "error", (struct crash_scenario){0});
	explore(&w, "error-start", (struct crash_scenario){.recover = recover, .crashes = 2});
}

// --- the scripts ---

#define SMALL .region = {0, 1, 2, 4, 5, UINT64_MAX}, .regions = 6, .grown = 6
#define WIDE .region = {0, 3839, 3840, 7000, 7680, 7681}, .regions = 7682, .grown = 7682 // three mark sectors

static void state_that_was_not_there_is_begun(void **state)
{
	static const struct script s = {.name = "create", SMALL, .run = {{START, 0}, {WRITE, 1}, {WRITE, 6}, {STOP, 0}, {START, 0}, {WRITE, 8}}};
	(void)state;
	survive(&s);
}

static void clean_stop_is_exact_and_a_start_after_it_tracks_again(void **state)
{
	static const struct script s = {.name = "stop", SMALL,
		.before = {{START, 0}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0}, {WRITE, 1}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 2}, {REWRITE, 1}, {STOP, 0}, {START, 0}, {WRITE, 4}, {STOP, 0}}};
	(void)state;
	survive(&s);
}

#define SYNCED {START, 0}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0}

static void unclean_start_finds_what_was_marked(void **state)
{
	static const struct script s = {.name = "unclean", SMALL, .before = {SYNCED, {WRITE, 1}},
		.run = {{START, 0}, {WRITE, 2}, {KILL, 0}, {START, 0}, {REWRITE, 4}, {KILL, 0}, {START, 0}, {WRITE, 8}}};
	(void)state;
	survive(&s);
}

static void cycles_mark_and_clear_in_groups(void **state)
{
	static const struct script s = {.name = "cycles", SMALL, .before = {SYNCED, {WRITE, 1}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 7}, {CUT, 0}, {WRITE, 8}, {REWRITE, 1}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0},
			{WRITE, 2}, {CUT, 0}, {SEAL, 0}, {WRITE, 16}, {COMMIT, 0}, {KEEP, 0}, {WRITE, 4}}};
	(void)state;
	survive(&s);
}

static void groups_over_several_sectors_are_marked_and_cleared(void **state)
{
	static const struct script s = {.name = "wide", WIDE, .before = {SYNCED, {WRITE, 0x21}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 0x3f}, {CUT, 0}, {WRITE, 0x12}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0}, {WRITE, 0x21}, {WRITE, 0x0c}}};
	(void)state;
	survive(&s);
}

static void cold_region_is_evicted_with_the_next_marks(void **state)
{
	static const struct script s = {.name = "evict", WIDE, .before = {SYNCED, {WRITE, 0x3}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 4}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP_LATE, 0}, {WRITE, 8}, {REWRITE, 1},
			{CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP_LATE, 0}, {WRITE, 2}, {WRITE, 1}}};
	(void)state;
	survive(&s);
}

static void answer_that_did_not_come_leaves_both_points_possible(void **state)
{
	static const struct script s = {.name = "pending", SMALL, .before = {SYNCED, {WRITE, 3}, {STOP, 0}},
		.run = {{START, 0}, {CUT, 0}, {REWRITE, 1}, {SEAL, 0}, {WRITE, 4}, {GIVE_BACK, 0}, {KILL, 0},
			{START, 0}, {WRITE, 8}, {STOP, 0}}};
	(void)state;
	survive(&s);
}

static void disk_that_grows_has_its_new_range_marked_in_the_same_step(void **state)
{
	static const struct script s = {.name = "grow", .region = {0, 1, 3838, 3839, 3840, 3841}, .regions = 3839, .grown = 3842,
		.before = {SYNCED, {WRITE, 1}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 4}, {GROW, 0}, {WRITE, 0x12}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0},
			{WRITE, 0x20}}};
	(void)state;
	survive(&s);
}

// Also a clean stop is possible then, and the same disk can grow after all.
static void disk_that_could_not_grow_keeps_its_marks(void **state)
{
	static const struct script s = {.name = "grow-in-vain", .region = {0, 1, 3838, 3839, 3840, 3841}, .regions = 3839, .grown = 3842,
		.before = {SYNCED, {WRITE, 1}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 4}, {GROW_IN_VAIN, 0}, {WRITE, 2}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0},
			{STOP, 0}, {START, 0}, {GROW_IN_VAIN, 0}, {GROW, 0}, {WRITE, 0x20}}};
	(void)state;
	survive(&s);
}

static void other_generation_begins_with_a_whole_sync(void **state)
{
	static const struct script s = {.name = "generation", SMALL, .before = {SYNCED, {WRITE, 1}, {STOP, 0}, {GENERATION, 0}},
		.run = {{START, 0}, {WRITE, 2}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0}, {WRITE, 4}}};
	(void)state;
	survive(&s);
}

static void tracking_that_was_lost_stays_lost_until_the_next_start(void **state)
{
	static const struct script s = {.name = "lose", SMALL, .before = {SYNCED, {WRITE, 1}, {STOP, 0}},
		.run = {{START, 0}, {WRITE, 2}, {LOSE, 0}, {WRITE, 4}, {CUT, 0}, {SEAL, 0}, {COMMIT, 0}, {KEEP, 0}, {KILL, 0},
			{START, 0}, {WRITE, 8}, {STOP, 0}}};
	(void)state;
	survive(&s);
}

// What all scenarios together have where nothing asks for more, or for some of them only.
static void states_are_as_many_as_were_asked_for(void **state)
{
	(void)state;
	static const char *const some[] = {"CRASH_TEST", "ANOMALY_TEST", "KAGAMI_CRASH_ONLY", "KAGAMI_CRASH_PART", "KAGAMI_CRASH_STATES", "KAGAMI_CRASH_THINNED"};
	bool all = true;
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
		all &= getenv(some[i]) == NULL;
	fprintf(stderr, "# state file: %llu states in all\n", (unsigned long long)states_total);
	assert_true(!all || states_total >= 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(state_that_was_not_there_is_begun),
		cmocka_unit_test(clean_stop_is_exact_and_a_start_after_it_tracks_again),
		cmocka_unit_test(unclean_start_finds_what_was_marked),
		cmocka_unit_test(cycles_mark_and_clear_in_groups),
		cmocka_unit_test(groups_over_several_sectors_are_marked_and_cleared),
		cmocka_unit_test(cold_region_is_evicted_with_the_next_marks),
		cmocka_unit_test(answer_that_did_not_come_leaves_both_points_possible),
		cmocka_unit_test(disk_that_grows_has_its_new_range_marked_in_the_same_step),
		cmocka_unit_test(disk_that_could_not_grow_keeps_its_marks),
		cmocka_unit_test(other_generation_begins_with_a_whole_sync),
		cmocka_unit_test(tracking_that_was_lost_stays_lost_until_the_next_start),
		cmocka_unit_test(states_are_as_many_as_were_asked_for),
	};
	return cmocka_run_group_tests_name("state_crash", tests, NULL, NULL);
}
