// SPDX-License-Identifier: Apache-2.0
// The store as a whole: its lock, which replicas there are, and how they come into memory at start. What it promises: one that is damaged disturbs no
// other. How they come and go is in store_coming.c.
#include "receiver/seed.h"
#include "receiver/store_lists.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *store_path(const struct store *store)
{
	return store->path;
}

int store_space(struct store *store, uint64_t *ret_bytes)
{
	return env_space(store->root, ret_bytes);
}

uint64_t store_free_bytes(struct store *store)
{
	uint64_t bytes = 0;
	return store_space(store, &bytes) ? 0 : bytes;
}

void store_set_reserve(struct store *store, uint64_t bytes)
{
	atomic_store(&store->reserve_bytes, bytes);
}

uint64_t store_reserve(struct store *store)
{
	return atomic_load(&store->reserve_bytes);
}

uint64_t store_memory(struct store *store, uint64_t *ret_taken)
{
	*ret_taken = budget_has(&store->budget, NULL);
	return store->budget.bytes;
}

void store_set_owner_most(struct store *store, size_t protections)
{
	store->owner_most = protections;
}

// --- opening ---

static int half_made_remove(struct store *s, struct err *err)
{
	int rc = env_remove_tree(s->root, STORE_NEW);
	if (rc == 0)
		rc = env_remove_tree(s->root, SEEDS_NEW);
	if (rc)
		return err_sys(err, rc, "store %s: cannot be written", s->path);
	rc = trash_clear(s->root, STORE_TRASH, err);
	if (rc)
		return err_wrap(err, "store %s", s->path);
	rc = env_sync_dir(s->root, ".");
	return rc ? err_sys(err, rc, "store %s: sync", s->path) : 0;
}

// What cannot be looked at counts as there: recovery reports it.
static bool exists(struct env_root *root, const char *dir, const char *what)
{
	char path[REPLICA_PATH_SIZE];
	struct env_stat st;
	(void)snprintf(path, sizeof(path), "%s/%s", dir, what);
	return env_stat(root, path, &st) != -ENOENT;
}

bool store_has_protection(struct env_root *root, const char *name)
{
	static const char *const signs[] = {"protection.json", "base", "points"};
	struct env_stat st;
	if (!name_ok(name) || env_stat(root, name, &st) || !st.is_dir)
		return false;
	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
		if (exists(root, name, signs[i]))
			return true;
	return false;
}

// Where `name` is or belongs among the replicas.
size_t store_place_of(const struct store *s, const char *name)
{
	size_t i = 0;
	while (i < s->count && strcmp(s->replicas[i]->name, name) < 0)
		i++;
	return i;
}

struct replica *store_list_find(const struct store *s, const char *name)
{
	size_t i = store_place_of(s, name);
	return i < s->count && strcmp(s->replicas[i]->name, name) == 0 ? s->replicas[i] : NULL;
}

// Room for one more in both lists, so that neither coming nor going can fail once it is on disk.
int store_lists_reserve(struct store *s)
{
	size_t room = (s->count + s->gone_count + s->awaited + 1) * sizeof(struct replica *);
	struct replica **more = realloc(s->replicas, room);
	if (!more)
		return -ENOMEM;
	s->replicas = more;
	more = realloc(s->gone, room);
	if (!more)
		return -ENOMEM;
	s->gone = more;
	return 0;
}

void store_list_insert(struct store *s, struct replica *r)
{
	r->reserve_bytes = &s->reserve_bytes;
	r->budget = &s->budget;
	memcpy(r->owner, r->prot.owner_pin, sizeof(r->owner)); // nobody else has it yet
	size_t i = store_place_of(s, r->name);
	memmove(s->replicas + i + 1, s->replicas + i, (s->count - i) * sizeof(*s->replicas));
	s->replicas[i] = r;
	s->count++;
}

static int replicas_load(struct store *s, struct err *err)
{
	char **names = NULL;
	size_t count = 0;
	int rc = env_list(s->root, ".", &names, &count);
	if (rc)
		return err_sys(err, rc, "store %s: list", s->path);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		if (!store_has_protection(s->root, names[i]))
			continue;
		struct replica *r = store_lists_reserve(s) ? NULL : replica_new(s->root, s->path, names[i]);
		if (!r) {
			rc = err_set(err, -ENOMEM, "out of memory");
			break;
		}
		r->budget = &s->budget; // for its head
		replica_recover(r);
		store_list_insert(s, r);
	}
	env_list_free(names, count);
	return rc;
}

static int store_lock(struct store *s, struct err *err)
{
	int rc = env_open(s->root, STORE_LOCK, ENV_CREATE_OPEN, &s->lock_file);
	if (rc)
		return err_directory(err, rc, "store", s->path);
	rc = env_lock(s->lock_file);
	if (rc == -EBUSY)
		return err_set(err, rc, "store %s is in use by another receiver; stop that one, or use another directory", s->path);
	return rc ? err_sys(err, rc, "store %s: lock", s->path) : 0;
}

static int store_fill(struct store *s, const char *path, struct env *env, struct err *err)
{
	int rc = env_root_open(env, path, &s->root);
	if (rc)
		return err_directory(err, rc, "store", path);
	rc = store_lock(s, err);
	if (rc == 0)
		rc = half_made_remove(s, err);
	return rc ? rc : replicas_load(s, err);
}

int store_open(struct env *env, const char *path, struct store **ret_store, struct err *err)
{
	return store_open_within(env, path, 0, ret_store, err);
}

int store_open_within(struct env *env, const char *path, uint64_t memory, struct store **ret_store, struct err *err)
{
	if (path[0] != '/') // it goes into names that people and QEMU use from elsewhere
		return err_set(err, -EINVAL, "store %s: give its absolute path", path);
	struct store *s = calloc(1, sizeof(*s));
	if (s)
		s->path = strdup(path);
	if (!s || !s->path) {
		free(s);
		return err_set(err, -ENOMEM, "out of memory");
	}
	s->owner_most = STORE_OWNER_MOST_DEFAULT;
	budget_init(&s->budget, memory);
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->came, NULL);
	int rc = store_fill(s, path, env, err);
	if (rc) {
		store_close(s);
		return rc;
	}
	*ret_store = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->count; i++)
		replica_free(s->replicas[i]);
	for (size_t i = 0; i < s->gone_count; i++)
		replica_free(s->gone[i]);
	free(s->replicas);
	free(s->gone);
	budget_done(&s->budget);
	env_close(s->lock_file);
	env_root_close(s->root);
	(void)pthread_cond_destroy(&s->came);
	(void)pthread_mutex_destroy(&s->lock);
	free(s->path);
	free(s);
}

struct replica *store_find(struct store *s, const char *name)
{
	LOCK_SCOPE(&s->lock);
	return store_list_find(s, name);
}

struct replica *store_at(struct store *s, size_t n)
{
	LOCK_SCOPE(&s->lock);
	return n < s->count ? s->replicas[n] : NULL;
}
