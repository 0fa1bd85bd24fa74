// SPDX-License-Identifier: Apache-2.0
// The ledger's file under crash enumeration (common/rpo/ledger_file.c over tests/sim). What any crash leaves is a header of one save, at least
// as new as the last one that was synced, and each slot and each list of misses as one of the saves wrote it, none of them newer than that
// header: else what is counted again would be counted twice (ledger.h, L1). What was synced is not lost but for slots that were written over since.
#include "rpo/ledger_file.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NS UINT64_C(1000000000)
#define NAME "history/vm1.ledger"
enum { SAVES = 6, SYNCED_A = 1, SYNCED_B = 3, SAVE_SECONDS = 40, NETWORK = 12 };
#define WALL (INT64_C(1790000000) * (int64_t)NS)

struct promise {
	unsigned synced, begun; // saves, from 1
};

struct world {
	struct ledger at[SAVES + 1]; // as each save writes it; [0]: begun
	struct promise promise;
};

// A point each 70 s with an RPO of 30 s: a miss in each, and slots of both scales.
static void feed(struct ledger *l, unsigned save)
{
	for (unsigned s = (save - 1) * SAVE_SECONDS; s < save * SAVE_SECONDS; s++) {
		(void)ledger_tick(l, (s + 1) * NS, WALL + (int64_t)((s + 1) * NS));
		if (s % 70 == 0)
			ledger_point(l, s / 70 + 1, 2000, 8192, 300);
	}
}

static struct world *world_new(void)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	ledger_init(&w->at[0], 30000, LEDGER_OBJECTIVE_DEFAULT, 0, WALL);
	ledger_cause(&w->at[0], NETWORK);
	for (unsigned i = 1; i <= SAVES; i++) {
		w->at[i] = w->at[i - 1];
		feed(&w->at[i], i);
	}
	return w;
}

static int setup(struct env *env, void *context, struct err *err)
{
	struct env_root *root = NULL;
	(void)context;
	int rc = env_root_open(env, "/", &root);
	if (rc == 0)
		rc = env_mkdir(root, "history");
	if (rc == 0)
		rc = env_sync_dir(root, ".");
	env_root_close(root);
	return rc ? err_sys(err, rc, "setup") : 0;
}

// A failing disk: the save is tried anew, as the caller's next one would.
static int save(struct ledger_file *file, struct ledger *l, struct err *err)
{
	int rc = ledger_file_save(file, l, err);
	return rc && rc != -ESHUTDOWN ? ledger_file_save(file, l, err) : rc;
}

static int run(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct env_root *root = NULL;
	struct ledger_file file;
	struct ledger *l = malloc(sizeof(*l));
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	w->promise = (struct promise){.synced = 0};
	int rc = env_root_open(env, "/", &root);
	ledger_file_init(&file, root, NAME);
	*l = w->at[0];
	for (unsigned i = 1; rc == 0 && i <= SAVES; i++) {
		feed(l, i);
		bool sync = i == SYNCED_A || i == SYNCED_B;
		unsigned char same[8];
		if (i % 2)
			ledger_file_close(&file);
		memcpy(same, file.instance, sizeof(same));
		w->promise.begun = i;
		if (sync)
			file.synced_ns = env_mono_ns(env) - LEDGER_SYNC_SECONDS * NS;
		rc = save(&file, l, err);
		if ((rc && !file.made) || memcmp(same, file.instance, sizeof(same)) != 0)
			w->promise.synced = 0; // made anew: nothing of it is certain yet
		else if (rc == 0 && sync)
			w->promise.synced = i;
	}
	ledger_file_close(&file);
	env_root_close(root);
	free(l);
	return rc;
}

static bool slot_same(const struct ledger_slot *a, const struct ledger_slot *b)
{
	struct ledger_slot x = *a, y = *b;
	x.changed = y.changed = false;
	return memcmp(&x, &y, sizeof(x)) == 0; // NOLINT(bugprone-suspicious-memory-comparison): both are copies of slots that began as zeros
}

static int check_slot(const struct world *w, const struct ledger *l, unsigned index, unsigned header, struct err *err)
{
	const struct ledger_slot *got = &l->slot[index];
	for (unsigned i = 0; i <= header; i++)
		if (slot_same(got, &w->at[i].slot[index])) {
			bool written_since = !slot_same(&w->at[w->promise.begun].slot[index], &w->at[w->promise.synced].slot[index]);
			if (i >= w->promise.synced || slot_same(got, &w->at[w->promise.synced].slot[index]) || written_since)
				return 0;
			return err_set(err, -EIO, "slot %u is older than what was synced", index);
		}
	return err_set(err, -EIO, "slot %u is that of no save up to the header's", index);
}

// Whether the sector of misses that has number `at` was written again since it was synced.
static bool misses_written_since(const struct world *w, unsigned at)
{
	unsigned first = at / LEDGER_MISSES_A_SECTOR * LEDGER_MISSES_A_SECTOR;
	for (unsigned i = first; i < first + LEDGER_MISSES_A_SECTOR; i++)
		if (w->at[w->promise.begun].ended[i].serial != w->at[w->promise.synced].ended[i].serial)
			return true;
	return false;
}

static int check_misses(const struct world *w, const struct ledger *l, struct err *err)
{
	for (unsigned i = 0; i < LEDGER_MISSES; i++) {
		const struct ledger_miss *got = &l->ended[i], *want = &w->at[SAVES].ended[i];
		if (got->serial && (got->began_ms != want->began_ms || got->ended_ms != want->ended_ms || got->cause != want->cause || got->max_ms != want->max_ms))
			return err_set(err, -EIO, "miss %u is none that there was", i);
		if (!got->serial && w->at[w->promise.synced].ended[i].serial && !misses_written_since(w, i))
			return err_set(err, -EIO, "miss %u was synced, and is gone", i);
	}
	return 0;
}

static int check_loaded(const struct world *w, struct ledger *l, struct err *err)
{
	unsigned header = 0;
	for (unsigned i = 1; i <= SAVES; i++)
		if (l->clock_ms == w->at[i].clock_ms && l->cut_ms == w->at[i].cut_ms && l->missing == w->at[i].missing &&
		    memcmp(l->total_missed_ms, w->at[i].total_missed_ms, sizeof(l->total_missed_ms)) == 0)
			header = i;
	if (!header || header < w->promise.synced || header > w->promise.begun)
		return err_set(err, -EIO, "the header is of save %u, of %u that were begun and %u that were synced", header, w->promise.begun, w->promise.synced);
	for (unsigned i = 0; i < LEDGER_SLOTS; i++) {
		int rc = check_slot(w, l, i, header, err);
		if (rc)
			return rc;
	}
	return check_misses(w, l, err);
}

// Goes on: what is counted from here on never makes a slot longer than it is.
static int check_goes_on(struct ledger *l, struct err *err)
{
	ledger_resume(l, 4, 0, WALL + 20 * 60 * (int64_t)NS);
	ledger_point(l, l->point, 0, 0, 0);
	for (unsigned i = 0; i < LEDGER_SLOTS; i++)
		if (l->slot[i].number != LEDGER_EMPTY &&
		    (int64_t)l->slot[i].observed_ms + l->slot[i].unobserved_ms > ledger_slot_length_ms(i < LEDGER_FINE_SLOTS ? LEDGER_FINE : LEDGER_COARSE))
			return err_set(err, -EIO, "slot %u has more time than there was", i);
	return 0;
}

static int check(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct env_root *root = NULL;
	struct ledger_file file;
	struct err why = {0};
	struct ledger *l = malloc(sizeof(*l));
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	int rc = env_root_open(env, "/", &root);
	ledger_file_init(&file, root, NAME);
	if (rc == 0)
		rc = ledger_file_load(&file, l, &why);
	if (rc == -ENOENT || rc == -EBADMSG)
		rc = w->promise.synced ? err_set(err, -EIO, "the synced history is gone: %s", why.text) : 1;
	else if (rc)
		(void)err_set(err, rc, "%s", why.text);
	if (rc == 0)
		rc = check_loaded(w, l, err);
	if (rc == 0)
		rc = check_goes_on(l, err);
	ledger_file_close(&file);
	env_root_close(root);
	free(l);
	return rc == 1 ? 0 : rc;
}

static void ledger_file_is_of_one_save_or_another_after_every_crash(void **state)
{
	(void)state;
	struct world *w = world_new();
	const struct crash_scenario scenario = {
		.name = "ledger-saves",
		.context = w,
		.promise = &w->promise,
		.promise_size = sizeof(w->promise),
		.setup = setup,
		.run = run,
		.check = check,
		.states_max = 20000,
	};
	assert_true(w->at[SAVES].misses_ended >= 2);
	assert_true(crash_test(&scenario));
	assert_true(anomaly_test(&scenario));
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(ledger_file_is_of_one_save_or_another_after_every_crash)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
