// SPDX-License-Identifier: Apache-2.0
// Making, reading and taking away the directory of a test. What it promises: under its name a test is whole, and a name that is
// taken away stays away before its point is let go.
#include "receiver/test_dir.h"

#include "base/auto.h"
#include "receiver/json_file.h"
#include "receiver/overlay.h"
#include "receiver/replica.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TEST_VERSION = 1 };
#define TEST_FORMAT "kagami-test"

// "<protection>/tests/" and the rest; names have at most 63 bytes each, so that it fits.
static void path_in(char path[TEST_PATH_SIZE], const char *protection, const char *front, const char *name, const char *back)
{
	(void)snprintf(path, TEST_PATH_SIZE, "%s/tests/%s%s%s", protection, front, name, back);
}

// --- test.json ---

static json_t *disks_encode(const struct test_info *test)
{
	json_t *disks = json_array();
	for (unsigned i = 0; i < test->disk_count; i++)
		if (json_array_append_new(disks, json_string(test->disk[i]))) {
			json_decref(disks);
			return NULL;
		}
	return disks;
}

static int record_encode(const struct test_info *test, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	if (json_object_set_new(object, "protection", json_string(test->protection)) ||
	    json_object_set_new(object, "name", json_string(test->name)) ||
	    json_object_set_new(object, "point", json_new_u64(test->point)) ||
	    json_object_set_new(object, "cut_ns", json_integer(test->cut_wall_ns)) ||
	    json_object_set_new(object, "cut", json_new_time(test->cut_wall_ns)) ||
	    json_object_set_new(object, "started_ns", json_integer(test->started_wall_ns)) ||
	    json_object_set_new(object, "started", json_new_time(test->started_wall_ns)) ||
	    json_object_set_new(object, "disks", disks_encode(test)))
		return -ENOMEM;
	return json_file_encode(object, TEST_FORMAT, TEST_VERSION, ret_text, ret_len);
}

static int disks_decode(const json_t *object, struct test_info *test, struct err *err)
{
	const json_t *disks;
	int rc = json_get_array(object, "disks", 1, DISKS_MAX, &disks, err);
	if (rc)
		return rc;
	test->disk_count = (uint16_t)json_array_size(disks);
	for (unsigned i = 0; i < test->disk_count; i++) {
		const char *name = json_string_value(json_array_get(disks, i));
		if (!name || !name_ok(name))
			return err_set(err, -EBADMSG, "disks: not a name");
		(void)snprintf(test->disk[i], NAME_SIZE, "%s", name);
	}
	return 0;
}

static int record_decode(const char *text, size_t len, struct test_info *test, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	int rc = json_file_decode(text, len, TEST_FORMAT, TEST_VERSION, &object, err);
	if (rc == 0)
		rc = json_get_name(object, "protection", test->protection, err);
	if (rc == 0)
		rc = json_get_name(object, "name", test->name, err);
	if (rc == 0)
		rc = json_get_u64(object, "point", 1, INT64_MAX, &test->point, err);
	if (rc == 0)
		rc = json_get_ns(object, "cut_ns", &test->cut_wall_ns, err);
	if (rc == 0)
		rc = json_get_ns(object, "started_ns", &test->started_wall_ns, err);
	return rc ? rc : disks_decode(object, test, err);
}

int test_dir_load(struct env_root *root, const char *protection, const char *name, struct test_info *ret_test, struct err *err)
{
	char path[TEST_PATH_SIZE];
	AUTO_FREE char *text = NULL;
	AUTO_FREE struct test_info *test = calloc(1, sizeof(*test));
	size_t len = 0;
	if (!test)
		return err_set(err, -ENOMEM, "out of memory");
	path_in(path, protection, "", name, "/test.json");
	int rc = env_read_file(root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s", path);
	if (record_decode(text, len, test, err))
		return err_wrap(err, "%s", path);
	if (strcmp(test->protection, protection) != 0 || strcmp(test->name, name) != 0)
		return err_set(err, -EBADMSG, "%s: it is that of the test %s of %s", path, test->name, test->protection);
	*ret_test = *test;
	return 0;
}

// --- making ---

static int parent_make(struct env_root *root, const char *protection, struct err *err)
{
	char path[TEST_PATH_SIZE];
	path_in(path, protection, "", "", "");
	path[strlen(path) - 1] = 0; // without the slash
	int rc = env_mkdir(root, path);
	if (rc == 0 || rc == -EEXIST) // a mount may have made it and not synced
		rc = env_sync_dir(root, protection);
	return rc ? err_sys(err, rc, "make %s", path) : 0;
}

static int disks_make(struct env_root *root, const char *dir, const struct test_info *test, const uint64_t *size, struct err *err)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < test->disk_count; i++) {
		char name[TEST_PATH_SIZE + NAME_SIZE + 8], backing[TEST_PATH_SIZE];
		(void)snprintf(name, sizeof(name), "%s/%s.qcow2", dir, test->disk[i]);
		(void)snprintf(backing, sizeof(backing), "../../points/%llu/%s.qcow2", (unsigned long long)test->point,
			       test->disk[i]);
		rc = overlay_create(root, name, size[i], backing, err);
	}
	return rc;
}

static int record_write(struct env_root *root, const char *dir, const struct test_info *test, struct err *err)
{
	char name[TEST_PATH_SIZE + 16];
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = record_encode(test, &text, &len);
	(void)snprintf(name, sizeof(name), "%s/test.json", dir);
	if (rc == 0)
		rc = env_replace(root, dir, name, text, len); // syncs the names of the disks too
	return rc ? err_sys(err, rc, "write %s", name) : 0;
}

// Step 3, in the directory `temp`.
static int contents_make(struct env_root *root, const char *temp, const struct test_info *test, const uint64_t *size,
			 struct err *err)
{
	int rc = env_remove_tree(root, temp);
	if (rc == 0)
		rc = env_mkdir(root, temp);
	if (rc)
		return err_sys(err, rc, "make %s", temp);
	rc = disks_make(root, temp, test, size, err);
	return rc ? rc : record_write(root, temp, test, err);
}

int test_dir_make(struct env_root *root, const struct test_info *test, const uint64_t *size, bool *ret_there, struct err *err)
{
	char temp[TEST_PATH_SIZE], done[TEST_PATH_SIZE], parent[TEST_PATH_SIZE];
	path_in(temp, test->protection, ".", test->name, ".new");
	path_in(done, test->protection, "", test->name, "");
	path_in(parent, test->protection, "", "", "");
	parent[strlen(parent) - 1] = 0;
	*ret_there = false;
	int rc = parent_make(root, test->protection, err);
	if (rc)
		return rc;
	rc = contents_make(root, temp, test, size, err);
	if (rc == 0) {
		rc = env_rename(root, temp, done);
		if (rc)
			(void)err_sys(err, rc, "rename %s to %s", temp, done);
	}
	if (rc) {
		(void)env_remove_tree(root, temp); // what stays goes at the next start
		return rc;
	}
	*ret_there = true;
	rc = env_sync_dir(root, parent);
	return rc ? err_sys(err, rc, "sync %s: the test may be gone after a power cut; stop it and start another", parent) : 0;
}

// --- taking away ---

int test_dir_leave(struct env_root *root, const char *protection, const char *name, char ret_trash[TEST_PATH_SIZE],
		   struct err *err)
{
	char path[TEST_PATH_SIZE], trash[TEST_PATH_SIZE], text[UUID_TEXT_SIZE];
	struct uuid fresh; // the trash may hold one of this name that could not be deleted
	int rc = uuid_new(root->env, &fresh);
	if (rc)
		return err_sys(err, rc, "random");
	uuid_format(&fresh, text);
	path_in(path, protection, "", name, "");
	(void)snprintf(trash, sizeof(trash), "%s/trash", protection);
	(void)snprintf(ret_trash, TEST_PATH_SIZE, "%s/trash/test-%s.%.8s", protection, name, text);
	rc = trash_make(root, protection, trash, err);
	if (rc)
		return rc;
	rc = env_rename(root, path, ret_trash);
	if (rc)
		return err_sys(err, rc, "rename %s to %s", path, ret_trash);
	rc = env_sync_dir(root, trash);
	return rc ? err_set(err, -EIO, "sync %s failed: the point stays held until the receiver is started again", trash) : 0;
}

int test_dir_clear(struct env_root *root, const char *protection, struct err *err)
{
	char path[TEST_PATH_SIZE], **names = NULL;
	size_t count = 0;
	(void)snprintf(path, sizeof(path), "%s/tests", protection);
	int rc = env_list(root, path, &names, &count);
	if (rc)
		return rc == -ENOENT ? 0 : err_sys(err, rc, "list %s", path);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (names[i][0] != '.')
			continue;
		char left[2 * TEST_PATH_SIZE];
		(void)snprintf(left, sizeof(left), "%s/%.160s", path, names[i]);
		rc = env_remove_tree(root, left);
		if (rc)
			(void)err_sys(err, rc, "remove %s", left);
	}
	env_list_free(names, count);
	if (rc)
		return rc;
	rc = env_sync_dir(root, path); // a name that is seen may not be durable yet: it is before anybody hears of it
	return rc ? err_sys(err, rc, "sync %s", path) : 0;
}
