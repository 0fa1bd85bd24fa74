// SPDX-License-Identifier: Apache-2.0
// The model itself: setting up, finding out what is there after a power cut, and comparing. Operations: store_model_ops.c, store_model_recovery.c.
#include "tests/lib/store_model_private.h"

#include "tests/lib/layers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t model_draw(struct store_model *m, uint64_t end)
{
	return draw_below(&m->draws, end);
}

void model_wrong(struct store_model *m, const char *fmt, ...)
{
	char text[600], before[600] = "";
	size_t len = 0;
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	for (unsigned i = m->steps > 20 ? m->steps - 20 : 0; i < m->steps; i++)
		len += (size_t)snprintf(before + len, sizeof(before) - len, "%s; ", m->history[i]);
	fail_msg("SEED=%llu, operation %u: %s (the last ones: %s)", (unsigned long long)m->run, m->steps, text, before);
}

const struct model_point *model_last(const struct store_model *m)
{
	return m->points ? &m->point[m->points - 1] : NULL;
}

static void point_free(struct model_point *p)
{
	for (unsigned d = 0; d < MODEL_DISKS; d++)
		free(p->content[d]);
	*p = (struct model_point){.number = 0};
}

void model_drop_point(struct store_model *m, size_t n)
{
	point_free(&m->point[n]);
	memmove(&m->point[n], &m->point[n + 1], (m->points - n - 1) * sizeof(m->point[0]));
	m->points--;
}

void model_add_point(struct store_model *m, const struct model_point *p)
{
	assert_true(m->points < MODEL_POINTS_MAX);
	m->point[m->points++] = *p;
}

struct model_point model_snapshot(const struct store_model *m, uint64_t number, const struct uuid *cut)
{
	struct model_point p = {.number = number, .cut = *cut};
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		p.size[d] = m->open.disk[d].size;
		p.content[d] = malloc(MODEL_DISK_MAX);
		assert_non_null(p.content[d]);
		memcpy(p.content[d], m->live[d], MODEL_DISK_MAX);
	}
	return p;
}

// The head began anew from the newest point, or from nothing.
void model_head_anew(struct store_model *m, const struct uuid *uuid)
{
	const struct model_point *last = model_last(m);
	m->head_uuid = *uuid;
	for (unsigned d = 0; d < MODEL_DISKS; d++)
		if (last)
			memcpy(m->head[d], last->content[d], MODEL_DISK_MAX);
		else
			memset(m->head[d], 0, MODEL_DISK_MAX);
}

// --- a protection, and the store around it ---

void model_create(struct store_model *m)
{
	struct err err = {0};
	m->open = (struct wire_open){.name = "vm1", .codec = CODEC_ZSTD, .points_keep = 1 + (uint32_t)model_draw(m, 6), .rpo_ms = 15000,
				     .disk_count = MODEL_DISKS, .digest = {.kind = DIGEST_XXH3}};
	for (unsigned i = 0; i < DIGEST_SECRET_SIZE; i++)
		m->open.digest.secret[i] = (unsigned char)draw(&m->draws);
	for (unsigned i = 0; i < UUID_SIZE; i++)
		m->open.protection.bytes[i] = m->open.generation.bytes[i] = (unsigned char)(draw(&m->draws) | 1);
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		(void)snprintf(m->open.disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		m->open.disk[d].size = (1 + model_draw(m, 6)) * BLOCK_SIZE + model_draw(m, 128) * SECTOR_SIZE;
		memset(m->live[d], 0, MODEL_DISK_MAX);
	}
	if (store_create(m->store, &m->open, m->pin, &m->replica, &err))
		model_wrong(m, "create: %s", err.text);
	const struct retention policy = {.points = m->open.points_keep}; // the newest so many, without a floor
	if (replica_set_retention(m->replica, &policy, &err))
		model_wrong(m, "set the retention: %s", err.text);
	struct replica_info info;
	replica_info(m->replica, &info);
	model_head_anew(m, &info.head);
}

void store_model_begin(struct store_model *m, uint64_t seed)
{
	*m = (struct store_model){.run = seed, .draws = seed, .pin = {7, 8, 9}, .codec = codec_new()};
	m->sim = sim_new(seed);
	chooser_init(&m->chooser);
	chooser_draw(&m->chooser, 0, seed);
	sim_set_chooser(m->sim, &m->chooser);
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		m->live[d] = calloc(1, MODEL_DISK_MAX);
		m->head[d] = calloc(1, MODEL_DISK_MAX);
		assert_true(m->live[d] && m->head[d] && m->codec);
	}
	struct env_root *top = NULL;
	struct err err = {0};
	assert_int_equal(env_root_open(sim_env(m->sim), "/", &top), 0);
	assert_int_equal(env_mkdir(top, "store"), 0);
	assert_int_equal(env_sync_dir(top, "."), 0);
	env_root_close(top);
	if (store_open(sim_env(m->sim), "/store", &m->store, &err))
		model_wrong(m, "open: %s", err.text);
	assert_int_equal(env_root_open(sim_env(m->sim), "/store", &m->root), 0);
	model_create(m);
	if (tests_open(m->store, &m->tests, &err))
		model_wrong(m, "open the tests: %s", err.text);
}

void model_forget_points(struct store_model *m)
{
	while (m->points)
		model_drop_point(m, m->points - 1);
	m->fenced = 0;
	m->fence_final = m->failover_disks = false;
}

void store_model_end(struct store_model *m)
{
	model_session_end(m);
	tests_close(m->tests);
	store_close(m->store);
	env_root_close(m->root);
	model_forget_points(m);
	point_free(&m->asked.seal);
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		free(m->live[d]);
		free(m->head[d]);
	}
	codec_free(m->codec);
	chooser_done(&m->chooser);
	sim_free(m->sim);
}

// --- after a power cut ---

// What was under way is there or is not; the model follows what it finds, within what was asked for.
static void find(struct store_model *m)
{
	struct point_info *points = NULL;
	size_t count = 0;
	assert_int_equal(replica_points(m->replica, &points, &count), 0);
	uint64_t last = count ? points[count - 1].number : 0;
	bool gone = m->asked.goes;
	for (size_t i = 0; gone && i < count; i++)
		gone = points[i].number != m->point[m->asked.goes_from].number;
	free(points);
	for (size_t i = 0; gone && i < m->asked.goes; i++) // all or none
		model_drop_point(m, m->asked.goes_from);
	if (m->asked.seal.number && last == m->asked.seal.number) {
		model_add_point(m, &m->asked.seal);
		m->asked.seal.number = 0;
		memset(m->asked.seal.content, 0, sizeof(m->asked.seal.content));
	}
	struct replica_info info;
	replica_info(m->replica, &info);
	model_head_anew(m, &info.head);
}

// The store is opened again, by the machine's next life.
void model_open(struct store_model *m)
{
	struct err err = {0};
	if (store_open(sim_env(m->sim), "/store", &m->store, &err))
		model_wrong(m, "open again: %s", err.text);
	assert_int_equal(env_root_open(sim_env(m->sim), "/store", &m->root), 0);
	for (size_t i = 0; i < m->points; i++)
		m->point[i].holds = 0;
	m->replica = store_find(m->store, "vm1");
	if (!m->replica && m->asked.forget) {
		model_forget_points(m);
		model_create(m);
	} else if (!m->replica) {
		model_wrong(m, "the protection is gone");
	} else {
		find(m);
	}
	if (tests_open(m->store, &m->tests, &err))
		model_wrong(m, "open the tests again: %s", err.text);
	model_recovery_find(m);
	point_free(&m->asked.seal);
	memset(&m->asked, 0, sizeof(m->asked));
}

void model_close(struct store_model *m)
{
	model_session_end(m);
	tests_close(m->tests);
	store_close(m->store);
	env_root_close(m->root);
	m->tests = NULL;
	m->store = NULL;
	m->root = NULL;
	m->replica = NULL;
}

void model_power_back(struct store_model *m)
{
	m->did.cuts++;
	model_close(m);
	if (!sim_is_off(m->sim))
		sim_power_off(m->sim);
	chooser_draw(&m->chooser, 0, draw(&m->draws));
	sim_power_on(m->sim);
	model_open(m);
}

// --- the check ---

static void check_content(struct store_model *m, const struct model_point *p)
{
	static unsigned char found[MODEL_DISK_MAX];
	struct err err = {0};
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		char path[96];
		(void)snprintf(path, sizeof(path), "vm1/points/%llu/%s.qcow2", (unsigned long long)p->number, m->open.disk[d].name);
		if (layers_read(m->root, path, p->size[d], found, &err))
			model_wrong(m, "%s", err.text);
		if (memcmp(found, p->content[d], p->size[d]) != 0)
			model_wrong(m, "point %llu, disk %u is not what it was at its cut", (unsigned long long)p->number, d);
		m->did.compared++;
	}
}

void store_model_check(struct store_model *m)
{
	struct point_info *points = NULL;
	struct replica_info info;
	size_t count = 0;
	assert_int_equal(replica_points(m->replica, &points, &count), 0);
	replica_info(m->replica, &info);
	if (info.broken)
		model_wrong(m, "the replica is broken: %s", info.broken_reason);
	if (count != m->points)
		model_wrong(m, "%zu points are there, %zu should be", count, m->points);
	for (size_t i = 0; i < count; i++) {
		const struct model_point *p = &m->point[i];
		unsigned holds = p->holds + model_tests_on(m, p->number);
		if (points[i].number != p->number || points[i].holds != holds || !uuid_equal(&points[i].cut, &p->cut))
			model_wrong(m, "point %zu is %llu with %u holds, should be %llu with %u", i, (unsigned long long)points[i].number,
				    points[i].holds, (unsigned long long)p->number, holds);
		if (points[i].pinned != (p->pin[0] != 0) || strcmp(points[i].pin_text, p->pin) != 0)
			model_wrong(m, "point %llu has the pin \"%s\", should have \"%s\"", (unsigned long long)p->number, points[i].pin_text, p->pin);
		check_content(m, p);
	}
	free(points);
	model_recovery_check(m, &info);
}
