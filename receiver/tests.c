// SPDX-License-Identifier: Apache-2.0
// The list of tests, and the holds that go with them. The order of a test's steps and of its hold is docs/store.md's.
//
// Where test.json of a test cannot be trusted, or tests/ cannot be listed, nobody knows what its disks stand on: every point of the protection is held then.
#include "receiver/tests.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "receiver/boot_command.h"
#include "receiver/image_use.h"
#include "receiver/mount_session.h"
#include "receiver/unlisted.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = 4096, DISK_NAME_SIZE = TEST_PATH_SIZE + NAME_SIZE, CHOSEN_MAX = 10000 };

struct test {
	struct test_info info;
	uint64_t held_from, held_to; // points; 0 and 0: none
};

struct tests {
	struct store *store;
	struct env_root *root; // the store's
	pthread_mutex_t working; // held for the length of a start or stop
	struct unlisted unlisted; // guarded by it
	pthread_mutex_t listing; // guards what follows; taken inside `working`
	struct test *test[TESTS_MAX]; // by protection, oldest first
	size_t count;
};

// --- the list ---

// With `name` NULL any of the protection.
static bool is_named(const struct test *test, const char *protection, const char *name)
{
	return strcmp(test->info.protection, protection) == 0 && (!name || strcmp(test->info.name, name) == 0);
}

// For whoever is `working`: nobody else takes a test from the list.
static struct test *find(struct tests *tests, const char *protection, const char *name)
{
	LOCK_SCOPE(&tests->listing);
	for (size_t i = 0; i < tests->count; i++)
		if (is_named(tests->test[i], protection, name))
			return tests->test[i];
	return NULL;
}

static bool comes_before(const struct test_info *a, const struct test_info *b)
{
	int by_name = strcmp(a->protection, b->protection);
	return by_name < 0 || (by_name == 0 && a->started_wall_ns <= b->started_wall_ns);
}

static void list_insert(struct tests *tests, struct test *test)
{
	LOCK_SCOPE(&tests->listing);
	size_t i = tests->count++;
	for (; i > 0 && !comes_before(&tests->test[i - 1]->info, &test->info); i--)
		tests->test[i] = tests->test[i - 1];
	tests->test[i] = test;
}

static void list_drop(struct tests *tests, const struct test *test)
{
	LOCK_SCOPE(&tests->listing);
	size_t i = 0;
	while (tests->test[i] != test)
		i++;
	tests->count--;
	memmove(&tests->test[i], &tests->test[i + 1], (tests->count - i) * sizeof(tests->test[0]));
}

static bool list_full(struct tests *tests)
{
	LOCK_SCOPE(&tests->listing);
	return tests->count == TESTS_MAX;
}

bool tests_at(struct tests *tests, size_t n, struct test_info *ret_test)
{
	LOCK_SCOPE(&tests->listing);
	if (n >= tests->count)
		return false;
	*ret_test = tests->test[n]->info;
	return true;
}

int tests_none(struct tests *tests, const char *protection, struct err *err)
{
	LOCK_SCOPE(&tests->listing);
	for (size_t i = 0; i < tests->count; i++)
		if (is_named(tests->test[i], protection, NULL))
			return err_set(err, -EBUSY, "%s has the test %s: stop it first (kagami test stop %s %s)", protection,
				       tests->test[i]->info.name, protection, tests->test[i]->info.name);
	return 0;
}

// --- holds ---

static void test_release(struct tests *tests, const struct test *test)
{
	struct replica *replica = store_find(tests->store, test->info.protection);
	for (uint64_t n = test->held_from; replica && n && n <= test->held_to; n++)
		replica_release(replica, n);
}

static int hold_one(struct replica *replica, struct test *test, bool damaged, struct err *err)
{
	int rc = damaged ? replica_hold(replica, test->info.point, &test->info.point, err) :
			   replica_hold_sound(replica, test->info.point, &test->info.point, err);
	if (rc == 0)
		test->held_from = test->held_to = test->info.point;
	return rc;
}

// Every point that is there: they stay then, so that those between the first and the last are the ones held.
static void hold_all(struct replica *replica, struct test *test)
{
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	uint64_t held;
	if (replica_points(replica, &points, &count) || count == 0)
		return;
	for (size_t i = 0; i < count; i++)
		(void)replica_hold(replica, points[i].number, &held, NULL);
	test->held_from = points[0].number;
	test->held_to = points[count - 1].number;
}

// --- what is there at start ---

static void adopt(struct tests *tests, struct replica *replica, const char *protection, const char *name)
{
	struct err err = {.code = 0};
	struct test *test = calloc(1, sizeof(*test));
	if (!test || list_full(tests)) {
		bool held = replica_hold_unread(replica, 0) == 0;
		log_error("A test is not listed: there are too many. protection=%s test=%s points_held=%s", protection, name, held ? "all" : "none");
		free(test);
		return;
	}
	int rc = test_dir_load(tests->root, protection, name, &test->info, &err);
	if (rc) {
		(void)snprintf(test->info.protection, NAME_SIZE, "%s", protection);
		(void)snprintf(test->info.name, NAME_SIZE, "%s", name);
		hold_all(replica, test);
		if (replica_is_broken(replica)) // points that cannot be read may be what it stands on
			replica_keep_broken(replica);
	} else {
		rc = hold_one(replica, test, true, &err);
		if (rc && replica_is_broken(replica) && replica_hold_unread(replica, test->info.point) == 0)
			test->held_from = test->held_to = test->info.point;
	}
	if (rc) {
		(void)snprintf(test->info.reason, sizeof(test->info.reason), "%s", err.text);
		log_warning("A test cannot be used any more; stop it. protection=%s test=%s reason=\"%s\"", protection, name, err.text);
	} else {
		log_info("A test goes on. protection=%s test=%s point=%llu", protection, name, (unsigned long long)test->info.point);
	}
	list_insert(tests, test);
}

// What of it cannot be read is held. 1: the names cannot, for the reason in `err`, and tests_look() tries again.
static int adopt_all(void *owner, struct replica *replica, struct err *err)
{
	struct tests *tests = owner;
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	struct err left = {.code = 0};
	char **names = NULL;
	size_t count = 0;
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(replica, info);
	int rc = unlisted_read(&tests->unlisted, tests->root, replica, info->name, &names, &count, err);
	if (rc)
		return rc;
	if (test_dir_clear(tests->root, info->name, &left))
		log_warning("What is left of a test could not be cleared; the next start tries again. protection=%s reason=\"%s\"",
			    info->name, left.text);
	for (size_t i = 0; i < count; i++)
		if (name_ok(names[i]) && strncmp(names[i], MOUNT_SESSION_PREFIX, strlen(MOUNT_SESSION_PREFIX)) != 0)
			adopt(tests, replica, info->name, names[i]);
	env_list_free(names, count);
	unlisted_over(&tests->unlisted, replica);
	return 0;
}

int tests_open(struct store *store, struct tests **ret_tests, struct err *err)
{
	AUTO_FREE struct tests *tests = calloc(1, sizeof(*tests));
	if (!tests)
		return err_set(err, -ENOMEM, "out of memory");
	tests->store = store;
	tests->root = store_root(store);
	(void)pthread_mutex_init(&tests->working, NULL);
	(void)pthread_mutex_init(&tests->listing, NULL);
	int rc = 0;
	struct replica *replica;
	for (size_t n = 0; rc >= 0 && (replica = store_at(store, n)); n++)
		rc = adopt_all(tests, replica, err);
	if (rc < 0) {
		tests_close(STEAL(tests));
		return rc;
	}
	*ret_tests = STEAL(tests);
	return 0;
}

void tests_look(struct tests *tests)
{
	unlisted_look(&tests->unlisted, &tests->working, adopt_all, tests);
}

// Before anything is made or taken away there: it is known what is.
static int known(struct tests *tests, struct replica *replica, struct err *err)
{
	bool unknown = replica && unlisted_has(&tests->unlisted, replica) && adopt_all(tests, replica, err);
	return unknown ? err_wrap(err, "nobody knows what tests there are") : 0;
}

void tests_close(struct tests *tests)
{
	if (!tests)
		return;
	for (size_t i = 0; i < tests->count; i++) {
		test_release(tests, tests->test[i]);
		free(tests->test[i]);
	}
	unlisted_done(&tests->unlisted);
	(void)pthread_mutex_destroy(&tests->working);
	(void)pthread_mutex_destroy(&tests->listing);
	free(tests);
}

// --- starting ---

static int name_choose(struct tests *tests, const char *protection, const char *asked, char name[NAME_SIZE], struct err *err)
{
	if (!asked) {
		for (unsigned i = 1; i < CHOSEN_MAX; i++) {
			(void)snprintf(name, NAME_SIZE, "test-%u", i);
			if (!find(tests, protection, name))
				return 0;
		}
		return err_set(err, -EEXIST, "no name is free: give one");
	}
	if (!name_ok(asked) || strncmp(asked, MOUNT_SESSION_PREFIX, strlen(MOUNT_SESSION_PREFIX)) == 0)
		return err_set(err, -EINVAL, "\"%.80s\" cannot be the name of a test: " NAME_RULE ", and not with " MOUNT_SESSION_PREFIX, asked);
	if (find(tests, protection, asked))
		return err_set(err, -EEXIST, "%s has a test %s already: choose another name, or stop that one (kagami test stop %s %s)",
			       protection, asked, protection, asked);
	(void)snprintf(name, NAME_SIZE, "%s", asked);
	return 0;
}

// What the held point is of.
static int test_describe(struct tests *tests, struct replica *replica, struct test_info *test, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	AUTO_FREE struct point_info *points = NULL;
	size_t count = 0;
	if (!info || replica_points(replica, &points, &count))
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(replica, info);
	test->disk_count = info->disk_count;
	for (unsigned i = 0; i < info->disk_count; i++)
		(void)snprintf(test->disk[i], NAME_SIZE, "%s", info->disk[i].name);
	for (size_t i = 0; i < count; i++)
		if (points[i].number == test->point)
			test->cut_wall_ns = points[i].cut_wall_ns;
	test->started_wall_ns = env_wall_ns(tests->root->env);
	return 0;
}

// With the point held: true in *ret_there when the test is on disk, whatever is returned.
static int test_make(struct tests *tests, struct replica *replica, struct test *test, bool *ret_there, struct err *err)
{
	uint64_t size[DISKS_MAX];
	int rc = store_leads(tests->store, test->info.protection, err); // the paths that are told are of this test
	if (rc == 0)
		rc = replica_point_sizes(replica, test->info.point, size, err);
	if (rc == 0)
		rc = test_describe(tests, replica, &test->info, err);
	return rc ? rc : test_dir_make(tests->root, &test->info, size, ret_there, err);
}

int tests_start(struct tests *tests, const char *protection, const char *name, uint64_t point, bool damaged, struct test_info *ret_test,
		struct err *err)
{
	LOCK_SCOPE(&tests->working);
	AUTO_FREE struct test *test = calloc(1, sizeof(*test));
	struct replica *replica = store_find(tests->store, protection);
	bool there = false;
	if (!test)
		return err_set(err, -ENOMEM, "out of memory");
	if (!replica)
		return err_set(err, -ENOENT, "there is no protection %s here: see kagami status", protection);
	int rc = known(tests, replica, err);
	if (rc)
		return rc;
	if (list_full(tests))
		return err_set(err, -EBUSY, "there are %d tests, which is all that may be: stop one", TESTS_MAX);
	rc = name_choose(tests, protection, name, test->info.name, err);
	if (rc)
		return rc;
	(void)snprintf(test->info.protection, NAME_SIZE, "%s", protection);
	test->info.point = point;
	rc = hold_one(replica, test, damaged, err);
	if (rc)
		return rc;
	rc = test_make(tests, replica, test, &there, err);
	if (!there)
		test_release(tests, test);
	if (rc == 0) {
		*ret_test = test->info;
		log_info("Started a test. protection=%s test=%s point=%llu", protection, test->info.name,
			 (unsigned long long)test->info.point);
		event_emit(EVENT_INFO, "failover", protection, NULL, "a test of %s was started: %s, of point %llu", protection, test->info.name,
			   (unsigned long long)test->info.point);
	}
	if (there)
		list_insert(tests, STEAL(test));
	return rc;
}

// --- stopping ---

static int check_unused(const struct tests *tests, const struct test_info *test, struct err *err)
{
	int rc = 0;
	if (test->disk_count == 0)
		return err_set(err, -EBUSY, "nobody knows which disks it has (%s): see that no virtual machine uses them, and say --force",
			       test->reason);
	for (unsigned i = 0; rc == 0 && i < test->disk_count; i++)
		rc = tests_unused(tests, test, i, err);
	return rc;
}

static void test_spoil(struct tests *tests, struct test *test, const struct err *why)
{
	LOCK_SCOPE(&tests->listing);
	memcpy(test->info.reason, why->text, sizeof(test->info.reason));
}

int tests_stop(struct tests *tests, const char *protection, const char *name, bool force, struct err *err)
{
	LOCK_SCOPE(&tests->working);
	char trash[TEST_PATH_SIZE];
	int rc = known(tests, store_find(tests->store, protection), err);
	if (rc)
		return rc;
	struct test *test = find(tests, protection, name);
	if (!test)
		return err_set(err, -ENOENT, "%s has no test %s: kagami test list shows what there is", protection, name);
	rc = force ? 0 : check_unused(tests, &test->info, err);
	if (rc)
		return rc == -EBUSY ? (err_wrap(err, "the test %s is in use", name), rc) : rc;
	struct err why = {.code = 0};
	rc = test_dir_leave(tests->root, protection, name, trash, &why);
	if (rc) {
		test_spoil(tests, test, &why);
		return err_set(err, rc, "%s", why.text);
	}
	test_release(tests, test);
	log_info("Stopped a test. protection=%s test=%s point=%llu", protection, name, (unsigned long long)test->info.point);
	event_emit(EVENT_INFO, "failover", protection, NULL, "the test %s of %s was stopped", name, protection);
	list_drop(tests, test);
	free(test);
	rc = env_remove_tree(tests->root, trash);
	if (rc) // it is no test any more; its space returns at the next start
		log_warning("The files of a test cannot be removed; the next start tries again. path=%s errno=%d", trash, -rc);
	return 0;
}

// --- showing ---

static void disk_name(const struct test_info *test, unsigned disk, char name[DISK_NAME_SIZE])
{
	(void)snprintf(name, DISK_NAME_SIZE, "%s/tests/%s/%s.qcow2", test->protection, test->name, test->disk[disk]);
}

int tests_path(const struct tests *tests, const struct test_info *test, unsigned disk, char *path, size_t cap)
{
	char name[DISK_NAME_SIZE];
	disk_name(test, disk, name);
	int n = snprintf(path, cap, "%s/%s", store_path(tests->store), name);
	return n > 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

int tests_unused(const struct tests *tests, const struct test_info *test, unsigned disk, struct err *err)
{
	char name[DISK_NAME_SIZE];
	disk_name(test, disk, name);
	return image_unused(tests->store, name, err);
}

uint64_t tests_bytes(const struct tests *tests, const struct test_info *test)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < test->disk_count; i++) {
		char name[DISK_NAME_SIZE];
		struct env_stat st;
		disk_name(test, i, name);
		if (env_stat(tests->root, name, &st) == 0)
			sum += st.allocated;
	}
	return sum;
}

char *tests_command(const struct tests *tests, const struct test_info *test)
{
	struct boot_command command;
	boot_command_begin(&command);
	boot_command_words(&command, " -nic none"); // its twin is on the network
	for (unsigned i = 0; i < test->disk_count; i++) {
		char path[PATH_SIZE];
		boot_command_disk(&command, tests_path(tests, test, i, path, sizeof(path)) ? NULL : path);
	}
	return boot_command_end(&command);
}
