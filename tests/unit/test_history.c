// SPDX-License-Identifier: Apache-2.0
// What another RPO would cost, from synthetic histories whose answer is known.
#include "base/size.h"
#include "replicator/history.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define MINUTE (60 * SECOND)
#define MB UINT64_C(1000000)
#define TB (UINT64_C(1) << 40)

static bool about(uint64_t a, uint64_t b)
{
	double by = (double)a / (double)b;
	return by > 0.97 && by < 1.03;
}

// A guest that writes new places all the time: in proportion.
static struct history linear(uint64_t rate, unsigned stretches)
{
	struct history h;
	memset(&h, 0, sizeof(h));
	for (int i = 0; i < 100; i++)
		for (unsigned s = 0; s < stretches; s++)
			history_see(&h, s, rate << s);
	history_cycle(&h, 10 * MB, 5 * MB, 40 * MB);
	return h;
}

static void what_was_measured_is_what_is_said(void **state)
{
	(void)state;
	struct history h = linear(MB, 10);
	bool measured;
	for (unsigned s = 0; s < 10; s++) {
		assert_true(about(history_bytes(&h, history_stretch_ns(s), TB, &measured), MB << s));
		assert_true(measured);
	}
	assert_true(about(history_bytes(&h, 300 * SECOND, TB, &measured), 300 * MB) && measured);
	assert_true(about(history_bytes(&h, SECOND / 4, TB, &measured), MB / 4) && !measured);
}

static void longer_stretches_follow_the_curve_and_end_at_the_size_of_the_disks(void **state)
{
	(void)state;
	bool measured;
	struct history h = linear(MB, 10);
	assert_true(about(history_bytes(&h, 4096 * SECOND, TB, &measured), 4096 * MB) && !measured);
	assert_true(history_bytes(&h, 4096 * SECOND, 1000 * MB, &measured) == 1000 * MB);
	memset(&h, 0, sizeof(h));
	for (unsigned s = 0; s < 9; s += 2) // the square root of the time, seen at every second stretch
		history_see(&h, s, MB << (s / 2));
	assert_true(about(history_bytes(&h, history_stretch_ns(14), TB, &measured), MB << 7) && !measured);
	assert_true(about(history_bytes(&h, 128 * SECOND, TB, &measured), (uint64_t)(11.3137 * 1e6)) && measured);
	memset(&h, 0, sizeof(h)); // a guest that writes the same 50 MB over and over
	for (unsigned s = 3; s < 8; s++)
		history_see(&h, s, 50 * MB);
	assert_true(about(history_bytes(&h, history_stretch_ns(17), TB, &measured), 50 * MB));
	memset(&h, 0, sizeof(h));
	assert_true(history_bytes(&h, MINUTE, TB, &measured) == 0 && !measured);
}

static void stretch_of_a_quieter_time_is_not_believed(void **state)
{
	(void)state;
	bool measured;
	struct history h = linear(0, 12); // an hour between cuts, and a guest that sleeps
	for (int i = 0; i < 100; i++)
		for (unsigned s = 0; s < 2; s++) // then 3 s between cuts, and one that writes
			history_see(&h, s, MB << s);
	assert_true(about(history_bytes(&h, 2 * SECOND, TB, &measured), 2 * MB) && measured);
	assert_true(about(history_bytes(&h, 15 * SECOND, TB, &measured), 15 * MB) && !measured);
	assert_true(about(history_bytes(&h, 60 * MINUTE, TB, &measured), 3600 * MB) && !measured);
	h = linear(MB, 12);
	history_see(&h, 6, 50 * MB); // a little less than it was is chance
	assert_true(about(history_bytes(&h, 64 * SECOND, TB, &measured), h.stretch[6].mean_bytes) && measured);
}

static void rpo_is_kept_where_the_line_takes_half_of_it_for_the_other_half(void **state)
{
	(void)state;
	struct history h = linear(10 * MB, 12);
	struct what_if_setting fast = {.rate = 11 * MB, .fixed_ns = SECOND / 10, .disk_bytes = TB, .points_keep = 24};
	struct what_if_setting slow = fast;
	struct what_if w;
	slow.rate = 9 * MB;
	history_what_if(&h, &fast, 15 * MINUTE, &w);
	assert_true(w.kept && about(w.rate_needed, 10 * MB));
	assert_true(w.interval_ns + w.transfer_ns <= 15 * MINUTE);
	history_what_if(&h, &slow, 15 * MINUTE, &w);
	assert_true(!w.kept);
	assert_true(history_smallest_rpo(&h, &slow) == 0);
	// 5 MB/s into a line of 100: 0.1 s fixed leaves nothing of a second's half too short.
	h = linear(5 * MB, 12);
	fast.rate = 100 * MB;
	assert_true(history_smallest_rpo(&h, &fast) == SECOND);
	fast.fixed_ns = 2 * SECOND;
	uint64_t smallest = history_smallest_rpo(&h, &fast);
	assert_true(smallest > 4 * SECOND && smallest < 5 * SECOND);
	history_what_if(&h, &fast, smallest, &w);
	assert_true(w.kept);
}

static void smallest_rpo_is_not_known_before_a_cycle_has_shown_the_line(void **state)
{
	(void)state;
	struct history h = linear(MB / 10, 12);
	struct what_if_setting setting = {.rate = 0, .fixed_ns = SECOND / 10, .disk_bytes = TB, .points_keep = 24};
	struct what_if w;
	assert_true(history_smallest_rpo(&h, &setting) == 0);
	history_what_if(&h, &setting, 15 * MINUTE, &w); // what is assumed of it serves the other figures
	assert_true(w.transfer_ns > 0 && w.delta_bytes > 0);
	setting.rate = 8 * MB;
	assert_true(history_smallest_rpo(&h, &setting) > 0);
}

// A thread that had no processor may miss the shortest: what the others saw says enough.
static void samples_are_those_of_whatever_stretch_was_seen(void **state)
{
	(void)state;
	struct history h = linear(MB, 12);
	assert_true(history_samples(&h) > 0);
	h.stretch[0].samples = 0;
	assert_true(history_samples(&h) > 0);
	for (unsigned i = 0; i < HISTORY_STRETCHES; i++)
		h.stretch[i].samples = 0;
	h.stretch[3].samples = 2;
	assert_true(history_samples(&h) == 2);
	h.stretch[3].samples = 0;
	assert_true(history_samples(&h) == 0);
}

static void figures_of_another_rpo_add_up(void **state)
{
	(void)state;
	struct history h = linear(MB, 12);
	struct what_if_setting setting = {.rate = 100 * MB, .fixed_ns = SECOND / 20, .disk_bytes = TB, .points_keep = 24};
	uint64_t delta = 0, day = 0;
	static const uint64_t rpos[] = {15 * SECOND, MINUTE, 5 * MINUTE, 60 * MINUTE};
	for (int i = 0; i < 4; i++) {
		struct what_if w;
		history_what_if(&h, &setting, rpos[i], &w);
		assert_true(w.kept && w.delta_bytes > delta);
		assert_true(w.interval_ns > rpos[i] / 10 * 8 && w.interval_ns < rpos[i]);
		assert_true(about(w.delta_wire_bytes, w.delta_bytes / 2)); // as the cycles had it
		assert_true(w.retention_bytes == w.delta_wire_bytes * 24);
		assert_true(about(w.day_wire_bytes, 43200 * MB)); // nothing is written twice: it is the same for all
		assert_true(about(w.crash_bytes, rpos[i] / SECOND * 4 * MB));
		delta = w.delta_bytes;
		day = w.day_wire_bytes;
	}
	assert_true(day > 0);
	memset(&h, 0, sizeof(h)); // the same places over and over: a longer RPO costs less
	for (unsigned s = 0; s < 12; s++)
		history_see(&h, s, 50 * MB);
	struct what_if often, seldom;
	history_what_if(&h, &setting, 15 * SECOND, &often);
	history_what_if(&h, &setting, 60 * MINUTE, &seldom);
	assert_true(seldom.day_wire_bytes * 100 < often.day_wire_bytes);
}

static struct last_cycle some_cycle(void)
{
	struct last_cycle last = {.number = 7, .point = 41, .cut_wall_ns = 1767225600000000001, .commit_wall_ns = 1767225600080000002, .duration_ns = 80000001,
				  .hold_ns = 210001, .sync = SYNC_FALSE_HOLE, .dirty_bytes = 131072, .read_bytes = 196608, .sent_blocks = 3, .wire_bytes = 40233,
				  .known_blocks = 1, .unasked_blocks = 2, .piece_blocks = 4, .plain_blocks = 5, .point_bytes = 6, .precopies = 8, .why = CYCLE_WHY_RESTING};
	for (unsigned i = 0; i < RPO_STAGES; i++)
		last.stage_ns[i] = 1000000 * i + 1;
	return last;
}

// All members; what lies between them behind the two enums is nobody's.
static void assert_same_cycle(const struct last_cycle *a, const struct last_cycle *b)
{
	assert_memory_equal(a, b, offsetof(struct last_cycle, sync));
	assert_int_equal(a->sync, b->sync);
	assert_memory_equal(&a->dirty_bytes, &b->dirty_bytes, offsetof(struct last_cycle, why) - offsetof(struct last_cycle, dirty_bytes));
	assert_int_equal(a->why, b->why);
	assert_memory_equal(a->stage_ns, b->stage_ns, sizeof(a->stage_ns));
}

static void history_survives_a_restart_and_damage_is_an_empty_one(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_root *root;
	struct err err;
	struct history h = linear(MB, 7), back;
	struct last_cycle last = some_cycle(), none = {.point = 0}, seen;
	assert_int_equal(env_root_open(sim_env(sim), "/", &root), 0);
	assert_int_equal(env_mkdir(root, "protections"), 0);
	assert_int_equal(env_mkdir(root, "protections/vm1"), 0);
	assert_int_equal(history_load(root, "vm1", &back, &seen, &err), 0);
	assert_true(back.cycles == 0 && seen.point == 0);
	assert_int_equal(history_save(root, "vm1", &h, &none, &err), 0);
	assert_int_equal(history_load(root, "vm1", &back, &seen, &err), 0);
	assert_memory_equal(&back, &h, sizeof(h));
	assert_true(seen.point == 0);
	for (last.sync = SYNC_NONE; last.sync <= SYNC_FALSE_HOLE; last.sync++) { // all of it comes back, but that it is of this run
		assert_int_equal(history_save(root, "vm1", &h, &last, &err), 0);
		assert_int_equal(history_load(root, "vm1", &back, &seen, &err), 0);
		assert_true(seen.number == 0);
		seen.number = last.number;
		assert_same_cycle(&seen, &last);
		assert_memory_equal(&back, &h, sizeof(h));
	}
	static const char *const bad[] = {"", "[]", "{\"version\": 1}", "{\"version\": 1, \"cycles\": 1, \"wire_ppm\": 1, \"marked_ppm\": 1, \"stretches\": []}"};
	for (int i = 0; i < 4; i++) {
		assert_int_equal(env_replace(root, "protections/vm1", "protections/vm1/history.json", bad[i], strlen(bad[i])), 0);
		assert_true(history_load(root, "vm1", &back, &seen, &err) < 0);
		assert_true(back.cycles == 0 && back.stretch[0].samples == 0 && seen.point == 0);
	}
	env_root_close(root);
	sim_free(sim);
}

// Each member of it, missing or of another kind; and what is none of its.
static void damaged_cycle_is_none(void **state)
{
	(void)state;
	struct last_cycle last = some_cycle(), seen = {.point = 0};
	struct err err = {0};
	json_t *whole = last_cycle_encode(&last), *value;
	const char *name;
	assert_int_equal(last_cycle_decode(whole, &seen, &err), 0);
	json_object_foreach(whole, name, value)
	{
		json_t *other = json_deep_copy(whole);
		(void)json_object_set_new(other, name, json_is_string(value) ? json_string("nobody's") : json_string("1"));
		seen.point = 0;
		assert_int_equal(last_cycle_decode(other, &seen, &err), -EINVAL);
		(void)json_object_del(other, name);
		assert_int_equal(last_cycle_decode(other, &seen, &err), strcmp(name, "sync_reason") == 0 ? 0 : -EINVAL);
		json_decref(other);
	}
	(void)json_array_set_new(json_object_get(whole, "stages_ns"), 1, json_integer(-1));
	assert_int_equal(last_cycle_decode(whole, &seen, &err), -EINVAL);
	(void)json_object_set_new(whole, "more", json_integer(1));
	assert_int_equal(last_cycle_decode(whole, &seen, &err), -EINVAL);
	json_decref(whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_measured_is_what_is_said),
		cmocka_unit_test(longer_stretches_follow_the_curve_and_end_at_the_size_of_the_disks),
		cmocka_unit_test(stretch_of_a_quieter_time_is_not_believed),
		cmocka_unit_test(rpo_is_kept_where_the_line_takes_half_of_it_for_the_other_half),
		cmocka_unit_test(smallest_rpo_is_not_known_before_a_cycle_has_shown_the_line),
		cmocka_unit_test(samples_are_those_of_whatever_stretch_was_seen),
		cmocka_unit_test(figures_of_another_rpo_add_up),
		cmocka_unit_test(history_survives_a_restart_and_damage_is_an_empty_one),
		cmocka_unit_test(damaged_cycle_is_none),
	};
	return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
