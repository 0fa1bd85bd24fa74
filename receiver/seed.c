// SPDX-License-Identifier: Apache-2.0
// Seeds on disk. What it promises: after a crash there is a whole seed or none.
#include "receiver/seed.h"

#include "base/log.h"
#include "receiver/json_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "kagami-seed"
enum { VERSION = 1 };

static void path_of(const char *name, const char *disk, char path[REPLICA_PATH_SIZE], const char *what)
{
	(void)snprintf(path, REPLICA_PATH_SIZE, SEEDS "/%s/%s%s", name, disk, what);
}

static int dir_make(struct env_root *root, const char *path, struct err *err)
{
	int rc = env_mkdir(root, path);
	return rc && rc != -EEXIST ? err_sys(err, rc, "%s", path) : 0;
}

int seed_begin(struct env_root *root, struct err *err)
{
	int rc = dir_make(root, SEEDS, err);
	if (rc)
		return rc;
	rc = env_remove_tree(root, SEEDS_NEW);
	if (rc == 0)
		rc = env_mkdir(root, SEEDS_NEW);
	return rc ? err_sys(err, rc, SEEDS_NEW) : 0;
}

void seed_give_up(struct env_root *root)
{
	(void)env_remove_tree(root, SEEDS_NEW); // what is left goes at the next start
}

// --- seed.json ---

static int seed_encode(const struct seed *seed, char **ret_text, size_t *ret_len)
{
	AUTO_JSON json_t *object = json_object();
	if (json_object_set_new(object, "name", json_string(seed->name)) || json_object_set_new(object, "disk", json_string(seed->disk)) ||
	    json_object_set_new(object, "size", json_new_u64(seed->size)) ||
	    json_object_set_new(object, "made_ns", json_integer(seed->made_wall_ns)) ||
	    (!seed->any_source && json_object_set_new(object, "source", json_new_hex(seed->source, OWNER_PIN_SIZE))))
		return -ENOMEM;
	return json_file_encode(object, FORMAT, VERSION, ret_text, ret_len);
}

static int seed_decode(const char *text, size_t len, struct seed *ret_seed, struct err *err)
{
	AUTO_JSON json_t *object = NULL;
	struct seed seed = {.any_source = true};
	int rc = json_file_decode(text, len, FORMAT, VERSION, &object, err);
	if (rc == 0)
		rc = json_get_name(object, "name", seed.name, err);
	if (rc == 0)
		rc = json_get_name(object, "disk", seed.disk, err);
	if (rc == 0)
		rc = json_get_u64(object, "size", 1, DISK_SIZE_MAX, &seed.size, err);
	if (rc == 0)
		rc = json_get_ns(object, "made_ns", &seed.made_wall_ns, err);
	if (rc == 0 && json_object_get(object, "source")) {
		seed.any_source = false;
		rc = json_get_hex(object, "source", seed.source, OWNER_PIN_SIZE, err);
	}
	if (rc == 0)
		*ret_seed = seed;
	return rc;
}

// --- making ---

static int raw_sync(struct env_root *root, const char *path, struct err *err)
{
	AUTO_FILE struct env_file *raw = NULL;
	int rc = env_open(root, path, ENV_WRITE, &raw);
	if (rc == 0)
		rc = env_sync(raw);
	return rc ? err_sys(err, rc, "%s: sync", path) : 0;
}

static int record_sync(struct env_root *root, const struct seed *seed, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = seed_encode(seed, &text, &len);
	if (rc == 0)
		rc = env_replace(root, SEEDS_NEW, SEEDS_NEW "/seed.json", text, len); // syncs the directory, too
	return rc ? err_sys(err, rc, SEEDS_NEW "/seed.json") : 0;
}

// Gives SEEDS_NEW, which has all that it is to have, its name.
static int publish(struct env_root *root, const struct seed *seed, struct err *err)
{
	char dir[REPLICA_PATH_SIZE], path[REPLICA_PATH_SIZE], made[REPLICA_PATH_SIZE];
	struct env_stat st;
	(void)snprintf(dir, sizeof(dir), SEEDS "/%s", seed->name);
	path_of(seed->name, seed->disk, path, "");
	(void)snprintf(made, sizeof(made), "%s/protection.json", seed->name);
	if (env_stat(root, made, &st) == 0)
		return err_set(err, -EEXIST, "%s came into the store meanwhile, and its base is what it is: the seed is not taken", seed->name);
	int rc = seed_place_remove(root, seed->name, seed->disk, err);
	if (rc)
		return rc;
	if (env_stat(root, path, &st) == 0)
		return err_set(err, -EEXIST, "there is a seed of %s/%s already: 'kagami seed drop %s/%s' removes it", seed->name, seed->disk,
			       seed->name, seed->disk);
	rc = record_sync(root, seed, err);
	if (rc == 0)
		rc = dir_make(root, dir, err);
	if (rc)
		return rc;
	rc = env_rename(root, SEEDS_NEW, path);
	if (rc == 0)
		rc = env_sync_dir(root, dir);
	if (rc == 0)
		rc = env_sync_dir(root, SEEDS);
	if (rc == 0)
		rc = env_sync_dir(root, ".");
	return rc ? err_sys(err, rc, "%s", path) : 0;
}

int seed_publish(struct env_root *root, const struct seed *seed, struct err *err)
{
	int rc = raw_sync(root, SEEDS_NEW "/raw", err);
	return rc ? rc : publish(root, seed, err);
}

int seed_place(struct env_root *root, const struct seed *seed, struct err *err)
{
	return publish(root, seed, err);
}

int seed_moved(struct env_root *root, const struct seed *seed, struct err *err)
{
	char path[REPLICA_PATH_SIZE], raw[REPLICA_PATH_SIZE];
	path_of(seed->name, seed->disk, path, "");
	seed_path(seed->name, seed->disk, raw);
	int rc = raw_sync(root, raw, err);
	if (rc)
		return rc;
	rc = env_sync_dir(root, path);
	return rc ? err_sys(err, rc, "%s: sync", path) : 0;
}

void seed_path(const char *name, const char *disk, char path[REPLICA_PATH_SIZE])
{
	path_of(name, disk, path, "/raw");
}

// --- finding ---

int seed_load(struct env_root *root, const char *name, const char *disk, struct seed *ret_seed, struct err *err)
{
	AUTO_FREE char *text = NULL;
	char path[REPLICA_PATH_SIZE];
	size_t len = 0;
	struct env_stat st;
	seed_path(name, disk, path);
	int rc = env_stat(root, path, &st);
	if (rc) // a place without its file is no seed
		return err_sys(err, rc, "%s", path);
	path_of(name, disk, path, "/seed.json");
	rc = env_read_file(root, path, JSON_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "%s", path);
	rc = seed_decode(text, len, ret_seed, err);
	if (rc)
		return err_wrap(err, "%s", path);
	if (strcmp(ret_seed->name, name) != 0 || strcmp(ret_seed->disk, disk) != 0)
		return err_set(err, -EBADMSG, "%s: it is another disk's", path);
	return 0;
}

int seed_for(struct env_root *root, const char *name, const char *disk, const unsigned char pin[OWNER_PIN_SIZE], struct seed *ret_seed,
	     struct err *err)
{
	struct err why = {0};
	int rc = seed_load(root, name, disk, ret_seed, &why);
	if (rc == -EBADMSG)
		log_warning("a seed is not taken: %s protection=%s", why.text, name);
	if (rc == -ENOENT || rc == -EBADMSG)
		return 0;
	if (rc)
		return err_set(err, rc, "%s", why.text);
	return ret_seed->any_source || memcmp(ret_seed->source, pin, OWNER_PIN_SIZE) == 0;
}

struct found {
	struct seed *seed;
	size_t count;
};

static int found_add(struct env_root *root, struct found *found, const char *name, const char *disk)
{
	struct seed seed;
	if (!name_ok(disk) || seed_load(root, name, disk, &seed, NULL))
		return 0;
	struct seed *more = realloc(found->seed, (found->count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	found->seed = more;
	found->seed[found->count++] = seed;
	return 0;
}

int seed_list(struct env_root *root, struct seed **ret_seeds, size_t *ret_count, struct err *err)
{
	struct found found = {.count = 0};
	char **names = NULL, path[REPLICA_PATH_SIZE];
	size_t name_count = 0;
	int rc = env_list(root, SEEDS, &names, &name_count);
	if (rc == -ENOENT)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < name_count; i++) {
		char **disks = NULL;
		size_t disk_count = 0;
		if (!name_ok(names[i]))
			continue;
		(void)snprintf(path, sizeof(path), SEEDS "/%s", names[i]);
		rc = env_list(root, path, &disks, &disk_count);
		for (size_t d = 0; rc == 0 && d < disk_count; d++)
			rc = found_add(root, &found, names[i], disks[d]);
		env_list_free(disks, disk_count);
	}
	env_list_free(names, name_count);
	if (rc) {
		free(found.seed);
		return err_sys(err, rc, SEEDS);
	}
	*ret_seeds = found.seed;
	*ret_count = found.count;
	return 0;
}

int seed_place_remove(struct env_root *root, const char *name, const char *disk, struct err *err)
{
	char path[REPLICA_PATH_SIZE];
	struct env_stat st;
	seed_path(name, disk, path);
	int raw = env_stat(root, path, &st);
	path_of(name, disk, path, "");
	int place = env_stat(root, path, &st);
	return raw == -ENOENT && place == 0 ? seed_remove(root, name, disk, err) : 0;
}

int seed_remove(struct env_root *root, const char *name, const char *disk, struct err *err)
{
	char path[REPLICA_PATH_SIZE], trash[REPLICA_PATH_SIZE], text[UUID_TEXT_SIZE];
	struct uuid fresh;
	int rc = uuid_new(root->env, &fresh);
	if (rc)
		return err_sys(err, rc, "random");
	uuid_format(&fresh, text);
	path_of(name, disk, path, "");
	(void)snprintf(trash, sizeof(trash), STORE_TRASH "/seed.%s", text);
	rc = trash_make(root, ".", STORE_TRASH, err);
	if (rc)
		return rc;
	rc = env_rename(root, path, trash);
	if (rc == -ENOENT)
		return err_set(err, rc, "there is no seed of %s/%s", name, disk);
	if (rc == 0)
		rc = env_sync_dir(root, STORE_TRASH);
	if (rc)
		return err_sys(err, rc, "%s: move to " STORE_TRASH, path);
	(void)env_remove_tree(root, trash); // its space returns now, or at the next start
	(void)snprintf(path, sizeof(path), SEEDS "/%s", name);
	(void)env_rmdir(root, path); // unless there are others of that name
	return 0;
}
