// SPDX-License-Identifier: Apache-2.0
// The operator's operations of the model: pins, tests, a failover, its rollback and its commit. Each is durable when it is answered; one that
// the power cut short happened or did not, which model_recovery_find() settles.
#include "tests/lib/store_model_private.h"

#include "receiver/failover.h"
#include "tests/lib/layers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- pins ---

static unsigned pins(const struct store_model *m)
{
	unsigned count = 0;
	for (size_t i = 0; i < m->points; i++)
		count += m->point[i].pin[0] != 0;
	return count;
}

// Of a point that is pinned already it replaces the text.
void model_op_pin(struct store_model *m)
{
	struct err err = {0};
	char text[MODEL_PIN_SIZE];
	if (m->points == 0) {
		if (replica_pin(m->replica, 1, "none", &err) != -ENOENT)
			model_wrong(m, "a pin of nothing");
		return;
	}
	struct model_point *p = &m->point[model_draw(m, m->points)];
	(void)snprintf(text, sizeof(text), "kept %u", m->steps);
	m->asked.pin = p->number;
	(void)snprintf(m->asked.pin_text, sizeof(m->asked.pin_text), "%s", text);
	bool full = !p->pin[0] && pins(m) == POINT_PINS_MAX;
	int rc = replica_pin(m->replica, p->number, text, &err);
	if (full && rc != -EBUSY)
		model_wrong(m, "pin %d of %d: %d", POINT_PINS_MAX + 1, POINT_PINS_MAX, rc);
	if (rc && !full) {
		model_unless_off(m, "pin", &err);
		return;
	}
	m->asked.pin = 0;
	if (full)
		return;
	(void)snprintf(p->pin, sizeof(p->pin), "%s", text);
	m->did.pins++;
}

void model_op_unpin(struct store_model *m)
{
	struct err err = {0};
	size_t from = m->points ? model_draw(m, m->points) : 0;
	for (size_t i = 0; i < m->points; i++) {
		struct model_point *p = &m->point[(from + i) % m->points];
		if (!p->pin[0])
			continue;
		m->asked.pin = p->number;
		m->asked.pin_text[0] = 0;
		if (replica_unpin(m->replica, p->number, &err)) {
			model_unless_off(m, "unpin", &err);
			return;
		}
		m->asked.pin = 0;
		p->pin[0] = 0;
		m->did.unpins++;
		return;
	}
}

// --- tests ---

unsigned model_tests_on(const struct store_model *m, uint64_t number)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MODEL_TESTS; i++)
		count += m->test[i] != 0 && m->test[i] == number;
	return count;
}

static void test_name(unsigned n, char name[NAME_SIZE])
{
	(void)snprintf(name, NAME_SIZE, "t%u", n);
}

void model_op_test_start(struct store_model *m)
{
	struct err err = {0};
	struct test_info info;
	char name[NAME_SIZE];
	unsigned n = (unsigned)model_draw(m, MODEL_TESTS);
	size_t at = m->points ? model_draw(m, m->points + 1) : 0;
	uint64_t asked = at < m->points ? m->point[at].number : 0; // 0: the newest
	uint64_t point = asked || m->points == 0 ? asked : model_last(m)->number;
	int must = m->test[n] ? -EEXIST : m->points == 0 ? -ENOENT : 0;
	test_name(n, name);
	if (must == 0) {
		m->asked.test = true;
		m->asked.test_n = n;
		m->asked.test_point = point;
	}
	int rc = tests_start(m->tests, "vm1", name, asked, false, &info, &err);
	if (must && rc != must)
		model_wrong(m, "test %s of point %llu: %d, should be %d", name, (unsigned long long)asked, rc, must);
	if (must == 0 && rc) {
		model_unless_off(m, "test start", &err);
		return;
	}
	m->asked.test = false;
	if (must)
		return;
	if (info.point != point)
		model_wrong(m, "test %s is of point %llu, should be of %llu", name, (unsigned long long)info.point, (unsigned long long)point);
	m->test[n] = point;
	m->did.tests_started++;
}

void model_op_test_stop(struct store_model *m)
{
	struct err err = {0};
	char name[NAME_SIZE];
	unsigned n = (unsigned)model_draw(m, MODEL_TESTS);
	test_name(n, name);
	if (!m->test[n]) {
		if (tests_stop(m->tests, "vm1", name, false, &err) != -ENOENT)
			model_wrong(m, "the test %s was stopped, and there is none", name);
		return;
	}
	m->asked.test = true;
	m->asked.test_n = n;
	m->asked.test_point = 0;
	if (tests_stop(m->tests, "vm1", name, false, &err)) {
		model_unless_off(m, "test stop", &err);
		return;
	}
	m->asked.test = false;
	m->test[n] = 0;
	m->did.tests_stopped++;
}

// --- failover ---

void model_op_failover(struct store_model *m)
{
	struct failover_info failover;
	struct err err = {0};
	if (m->points == 0)
		return;
	uint64_t number = m->fenced ? m->fenced : m->point[model_draw(m, m->points)].number;
	m->asked.failover = number;
	int rc = failover_run(sim_env(m->sim), m->store, m->replica, number, false, NULL, &failover, &err);
	if (rc) {
		model_unless_off(m, "failover", &err);
		return;
	}
	m->asked.failover = 0;
	m->fenced = number;
	m->failover_disks = true;
	m->did.failovers++;
	model_session_end(m);
	if (failover.point != number)
		model_wrong(m, "failed over to %llu", (unsigned long long)failover.point);
}

// What a rollback or commit of point `number` must answer.
static int must_of_fence(const struct store_model *m, uint64_t number, bool commit)
{
	if (!m->fenced)
		return -ENOENT;
	if (number && number != m->fenced)
		return -EALREADY;
	return m->fence_final && !commit ? -EPERM : 0;
}

static uint64_t number_for_fence(struct store_model *m)
{
	static const int beside[] = {0, 0, 0, 1};
	uint64_t any = m->fenced + (uint64_t)beside[model_draw(m, 4)];
	return model_draw(m, 2) ? any : 0;
}

void model_op_rollback(struct store_model *m)
{
	struct err err = {0};
	struct replica_info info;
	uint64_t number = number_for_fence(m);
	int must = must_of_fence(m, number, false);
	m->asked.rollback = must == 0;
	int rc = replica_unfence(m->replica, number, &err);
	if (must) {
		if (rc != must)
			model_wrong(m, "rollback of %llu: %d, should be %d", (unsigned long long)number, rc, must);
		m->did.refused += must != -ENOENT;
	} else if (rc) {
		model_unless_off(m, "rollback", &err);
	} else {
		m->asked.rollback = false;
		m->fenced = 0;
		m->failover_disks = false;
		m->did.rollbacks++;
		replica_info(m->replica, &info); // the head went with the fence
		model_head_anew(m, &info.head);
	}
}

void model_op_commit(struct store_model *m)
{
	struct err err = {0};
	uint64_t number = number_for_fence(m);
	int must = must_of_fence(m, number, true);
	m->asked.commit = must == 0;
	int rc = replica_fence_commit(m->replica, number, &err);
	if (must) {
		if (rc != must)
			model_wrong(m, "commit of %llu: %d, should be %d", (unsigned long long)number, rc, must);
	} else if (rc) {
		model_unless_off(m, "commit", &err);
	} else {
		m->asked.commit = false;
		m->did.commits += !m->fence_final;
		m->fence_final = true;
	}
}

// --- after a power cut ---

static void find_pin(struct store_model *m, const struct point_info *points, size_t count)
{
	for (size_t i = 0; i < m->points; i++)
		for (size_t k = 0; m->point[i].number == m->asked.pin && k < count; k++)
			if (points[k].number == m->asked.pin && strcmp(points[k].pin_text, m->asked.pin_text) == 0)
				memcpy(m->point[i].pin, m->asked.pin_text, MODEL_PIN_SIZE);
}

static uint64_t point_of_test(struct store_model *m, unsigned n)
{
	struct test_info info;
	char name[NAME_SIZE];
	test_name(n, name);
	for (size_t i = 0; tests_at(m->tests, i, &info); i++)
		if (strcmp(info.name, name) == 0)
			return info.point;
	return 0;
}

// Of the operations here: the model follows what it finds, where that is what was asked for.
void model_recovery_find(struct store_model *m)
{
	struct point_info *points = NULL;
	struct replica_info info;
	size_t count = 0;
	replica_info(m->replica, &info);
	if (m->asked.pin && replica_points(m->replica, &points, &count) == 0)
		find_pin(m, points, count);
	free(points);
	if (m->asked.test && point_of_test(m, m->asked.test_n) == m->asked.test_point)
		m->test[m->asked.test_n] = m->asked.test_point;
	if (m->asked.failover && info.fenced)
		m->fenced = m->asked.failover;
	if (m->asked.commit && info.fence_final)
		m->fence_final = true;
	if (m->asked.rollback) {
		m->failover_disks = false; // they are gone before the fence is
		m->fenced = info.fenced ? m->fenced : 0;
	}
}

// --- the check ---

static void check_disks(struct store_model *m, const char *where, const struct model_point *p)
{
	static unsigned char found[MODEL_DISK_MAX];
	struct err err = {0};
	for (unsigned d = 0; d < MODEL_DISKS; d++) {
		char path[160];
		(void)snprintf(path, sizeof(path), "vm1/%s/%s.qcow2", where, m->open.disk[d].name);
		if (layers_read(m->root, path, p->size[d], found, &err))
			model_wrong(m, "%s", err.text);
		if (memcmp(found, p->content[d], p->size[d]) != 0)
			model_wrong(m, "%s: disk %u is not point %llu's", where, d, (unsigned long long)p->number);
	}
}

static const struct model_point *point_at(const struct store_model *m, uint64_t number)
{
	for (size_t i = 0; i < m->points; i++)
		if (m->point[i].number == number)
			return &m->point[i];
	return NULL;
}

static void check_tests(struct store_model *m)
{
	struct test_info info;
	unsigned there = 0, should = 0;
	while (tests_at(m->tests, there, &info))
		there++;
	for (unsigned n = 0; n < MODEL_TESTS; n++) {
		char where[NAME_SIZE + 8] = "tests/";
		const struct model_point *p = m->test[n] ? point_at(m, m->test[n]) : NULL;
		if (point_of_test(m, n) != m->test[n])
			model_wrong(m, "test t%u is of point %llu, should be of %llu (0: is not there)", n, (unsigned long long)point_of_test(m, n),
				    (unsigned long long)m->test[n]);
		should += m->test[n] != 0;
		if (m->test[n] && !p)
			model_wrong(m, "point %llu is gone under the test t%u", (unsigned long long)m->test[n], n);
		test_name(n, where + strlen(where));
		if (p)
			check_disks(m, where, p);
	}
	if (there != should)
		model_wrong(m, "%u tests are there, %u should be", there, should);
}

void model_recovery_check(struct store_model *m, const struct replica_info *info)
{
	if (info->fenced != (m->fenced != 0) || (info->fenced && info->fenced_point != m->fenced))
		model_wrong(m, "fenced at %llu, should be %llu", (unsigned long long)info->fenced_point, (unsigned long long)m->fenced);
	if (info->fence_final != m->fence_final)
		model_wrong(m, "the fence is %sfinal", m->fence_final ? "not " : "");
	check_tests(m);
	if (!m->failover_disks)
		return;
	const struct model_point *p = point_at(m, m->fenced);
	if (!p)
		model_wrong(m, "point %llu is gone under the failover", (unsigned long long)m->fenced);
	else
		check_disks(m, "failover", p);
}
