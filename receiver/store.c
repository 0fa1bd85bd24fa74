// SPDX-License-Identifier: Apache-2.0
// The store as a whole: its lock, which replicas there are, and their coming and going. What it promises: a protection
// is there as a whole or not at all, and one that is damaged disturbs no other.
#include "receiver/replica.h"
#include "receiver/seed.h"

#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct coming { // on the stack of its thread
	const char *name;
	const unsigned char *owner; // whose it is to be; NULL: it goes
	struct coming *next;
};

struct store {
	struct env_root *root;
	struct env_file *lock_file;
	char *path;
	pthread_mutex_t lock; // of the lists below; never held over a wait for the disk
	struct replica **replicas; // by name
	size_t count;
	struct replica **gone; // removed, but callers may still have them
	size_t gone_count;
	size_t awaited; // those of them that are to come, for which there is room
	struct coming *coming; // names that are being made or removed, each by a thread
	pthread_cond_t came;   // one of them is done
	_Atomic uint64_t reserve_bytes;
	size_t owner_most; // protections of one source; set before sessions are
};

const char *store_path(const struct store *store)
{
	return store->path;
}

uint64_t store_free_bytes(struct store *store)
{
	uint64_t bytes = 0;
	return env_space(store->root, &bytes) ? 0 : bytes;
}

void store_set_reserve(struct store *store, uint64_t bytes)
{
	atomic_store(&store->reserve_bytes, bytes);
}

uint64_t store_reserve(struct store *store)
{
	return atomic_load(&store->reserve_bytes);
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
static size_t place_of(const struct store *s, const char *name)
{
	size_t i = 0;
	while (i < s->count && strcmp(s->replicas[i]->name, name) < 0)
		i++;
	return i;
}

static struct replica *find(const struct store *s, const char *name)
{
	size_t i = place_of(s, name);
	return i < s->count && strcmp(s->replicas[i]->name, name) == 0 ? s->replicas[i] : NULL;
}

// Room for one more in both lists, so that neither coming nor going can fail once it is on disk.
static int lists_reserve(struct store *s)
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

static void list_insert(struct store *s, struct replica *r)
{
	r->reserve_bytes = &s->reserve_bytes;
	memcpy(r->owner, r->prot.owner_pin, sizeof(r->owner)); // nobody else has it yet
	size_t i = place_of(s, r->name);
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
		struct replica *r = lists_reserve(s) ? NULL : replica_new(s->root, s->path, names[i]);
		if (!r) {
			rc = err_set(err, -ENOMEM, "out of memory");
			break;
		}
		replica_recover(r);
		list_insert(s, r);
	}
	env_list_free(names, count);
	return rc;
}

static int store_lock(struct store *s, struct err *err)
{
	int rc = env_open(s->root, STORE_LOCK, ENV_CREATE_OPEN, &s->lock_file);
	if (rc)
		return err_sys(err, rc, "store %s: lock", s->path);
	rc = env_lock(s->lock_file);
	if (rc == -EBUSY)
		return err_set(err, rc, "store %s is in use by another receiver; stop that one, or use another directory", s->path);
	return rc ? err_sys(err, rc, "store %s: lock", s->path) : 0;
}

static int store_fill(struct store *s, const char *path, struct env *env, struct err *err)
{
	int rc = env_root_open(env, path, &s->root);
	if (rc)
		return err_sys(err, rc, "store %s; give a directory that exists and that this user may write", path);
	rc = store_lock(s, err);
	if (rc == 0)
		rc = half_made_remove(s, err);
	return rc ? rc : replicas_load(s, err);
}

int store_open(struct env *env, const char *path, struct store **ret_store, struct err *err)
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
	return find(s, name);
}

struct replica *store_at(struct store *s, size_t n)
{
	LOCK_SCOPE(&s->lock);
	return n < s->count ? s->replicas[n] : NULL;
}

// --- coming and going ---

// A name is made or removed by one thread at a time, without the lock: a slow disk keeps only those waiting that want this name.
// Under the lock; may give it up meanwhile.
static void name_take(struct store *s, struct coming *own, const char *name, const unsigned char *owner)
{
	struct coming *other = s->coming;
	while (other) {
		if (strcmp(other->name, name) == 0) {
			(void)pthread_cond_wait(&s->came, &s->lock);
			other = s->coming;
			continue;
		}
		other = other->next;
	}
	*own = (struct coming){.name = name, .owner = owner, .next = s->coming};
	s->coming = own;
}

// Under the lock.
static void name_give(struct store *s, const struct coming *own)
{
	struct coming **at = &s->coming;
	while (*at != own)
		at = &(*at)->next;
	*at = own->next;
	(void)pthread_cond_broadcast(&s->came);
}

// Under the lock: how many protections the source has, and is about to have with that one, which is among those coming.
static size_t owned(const struct store *s, const unsigned char pin[OWNER_PIN_SIZE])
{
	size_t count = 0;
	for (size_t i = 0; i < s->count; i++)
		count += memcmp(s->replicas[i]->owner, pin, OWNER_PIN_SIZE) == 0;
	for (const struct coming *c = s->coming; c; c = c->next)
		count += c->owner && memcmp(c->owner, pin, OWNER_PIN_SIZE) == 0;
	return count;
}

static int owner_check(const struct store *s, const unsigned char pin[OWNER_PIN_SIZE], struct err *err)
{
	if (owned(s, pin) <= s->owner_most)
		return 0;
	return err_set(err, -EDQUOT,
		       "this source has %zu protections at the receiver, as many as one may have: remove some there (`kagami forget`), or start it with a larger "
		       "--source-protections", s->owner_most);
}

size_t store_owned(struct store *s, const unsigned char pin[OWNER_PIN_SIZE])
{
	LOCK_SCOPE(&s->lock);
	return owned(s, pin);
}

static int reserve_check(struct store *s, struct err *err)
{
	uint64_t free_bytes = UINT64_MAX, reserve = store_reserve(s);
	if (reserve && env_space(s->root, &free_bytes) == 0 && free_bytes < reserve)
		return err_set(err, -ENOSPC, "the target's store %s is full, but for its reserve: free space there", s->path);
	return 0;
}

// On disk, and in memory; without the store's lock.
static int create(struct store *s, const struct wire_open *open, const unsigned char pin[OWNER_PIN_SIZE], struct replica **ret_replica,
		  struct err *err)
{
	int rc = reserve_check(s, err);
	if (rc)
		return rc;
	struct replica *r = replica_new(s->root, s->path, open->name);
	if (!r)
		return err_set(err, -ENOMEM, "out of memory");
	rc = replica_create(s->root, open, pin, err);
	if (rc) {
		replica_free(r);
		if (rc == -ENOSPC)
			(void)err_wrap(err, "the target's store %s is full: free space there", s->path);
		return rc;
	}
	replica_recover(r); // one way to come into memory
	*ret_replica = r;
	return 0;
}

int store_seeded(struct store *s, const struct wire_open *open, const unsigned char pin[OWNER_PIN_SIZE], struct err *err)
{
	for (unsigned i = 0; i < open->disk_count; i++) {
		const char *disk = open->disk[i].name;
		struct seed seed;
		int rc = seed_for(s->root, open->name, disk, pin, &seed, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return err_set(err, -ENODATA,
				       "no seed of %s/%s for this source at the receiver yet: run there `kagami seed %s/%s FILE --format raw|qcow2`; "
				       "`kagami seed list` shows one that is being made", open->name, disk, open->name, disk);
	}
	return 0;
}

int store_create(struct store *s, const struct wire_open *open, const unsigned char pin[OWNER_PIN_SIZE],
		 struct replica **ret_replica, struct err *err)
{
	struct coming own;
	struct replica *r = NULL;
	(void)pthread_mutex_lock(&s->lock);
	name_take(s, &own, open->name, pin);
	bool there = find(s, open->name);
	s->awaited += !there;
	int rc = there		      ? err_set(err, -EEXIST, "%s exists at this receiver; protect under another name", open->name)
		 : lists_reserve(s) ? err_set(err, -ENOMEM, "out of memory")
				      : owner_check(s, pin, err);
	(void)pthread_mutex_unlock(&s->lock);
	if (rc == 0)
		rc = create(s, open, pin, &r, err);
	LOCK_SCOPE(&s->lock);
	s->awaited -= !there;
	name_give(s, &own);
	if (rc)
		return rc;
	list_insert(s, r);
	event_emit(EVENT_INFO, "settings", r->name, NULL, "%s is protected by this receiver from now on", r->name);
	*ret_replica = r;
	return 0;
}

static int forget_check(struct replica *r, struct err *err)
{
	if (r->session_open)
		return err_set(err, -EBUSY, "%s has a session: unprotect it at the source first, or `kagami unpair` that", r->name);
	for (size_t i = 0; i < r->point_count; i++)
		if (r->points[i].holds)
			return err_set(err, -EBUSY, "point %llu of %s is in use: umount it, or stop its test, first",
				       (unsigned long long)r->points[i].number, r->name);
	if (r->held_count && r->held[0].number == 0)
		return err_set(err, -EBUSY, "a point of %s is in use by a mount that an earlier receiver left, and which is not known: umount it, and start the "
					    "receiver again, first", r->name);
	if (r->held_count) // of a replica that cannot be read, and whose points are not known
		return err_set(err, -EBUSY, "point %llu of %s is in use: umount it, or stop its test, first", (unsigned long long)r->held[0].number, r->name);
	return 0;
}

// Under the replica's lock.
static void forget_in_memory(struct replica *r)
{
	r->broken = r->gone = true; // for whoever still has it
	r->passing = false;
	(void)err_set(&r->why, -ENOENT, "it was removed");
	r->point_count = 0;
	head_close(r);
}

static int forget_rename(struct store *s, struct replica *r, char trash[REPLICA_PATH_SIZE], struct err *err)
{
	struct uuid fresh;
	char text[UUID_TEXT_SIZE];
	LOCK_SCOPE(&r->lock);
	int rc = forget_check(r, err);
	if (rc)
		return rc;
	rc = uuid_new(s->root->env, &fresh);
	if (rc)
		return err_sys(err, rc, "random");
	uuid_format(&fresh, text);
	(void)snprintf(trash, REPLICA_PATH_SIZE, STORE_TRASH "/%s.%s", r->name, text);
	rc = env_rename(s->root, r->name, trash);
	if (rc)
		return err_sys(err, rc, "%s: move to " STORE_TRASH, r->name);
	forget_in_memory(r);
	return 0;
}

static void list_remove(struct store *s, struct replica *r)
{
	size_t i = place_of(s, r->name);
	s->count--;
	memmove(s->replicas + i, s->replicas + i + 1, (s->count - i) * sizeof(*s->replicas));
	s->gone[s->gone_count++] = r;
}

// The move is made certain before anything else may have the name.
static int forget(struct store *s, struct replica *r, char trash[REPLICA_PATH_SIZE], struct err *err)
{
	struct coming own;
	(void)pthread_mutex_lock(&s->lock);
	name_take(s, &own, r->name, NULL);
	int rc = find(s, r->name) != r ? err_set(err, -ENOENT, "%s was removed already", r->name)
		 : lists_reserve(s)    ? err_set(err, -ENOMEM, "out of memory")
				       : 0;
	(void)pthread_mutex_unlock(&s->lock);
	if (rc == 0)
		rc = forget_rename(s, r, trash, err);
	if (rc == 0) {
		{
			LOCK_SCOPE(&s->lock);
			list_remove(s, r);
		}
		rc = env_sync_dir(s->root, STORE_TRASH);
		if (rc)
			(void)err_sys(err, rc, "store %s: sync; start the receiver again", s->path);
	}
	LOCK_SCOPE(&s->lock);
	name_give(s, &own);
	return rc;
}

int store_forget(struct store *s, const char *name, struct err *err)
{
	char trash[REPLICA_PATH_SIZE];
	struct replica *r = store_find(s, name);
	if (!r)
		return err_set(err, -ENOENT, "there is no replica %s; list them with 'kagami status'", name);
	LOCK_SCOPE(&r->retain_lock); // waits for a fold, and keeps nobody else waiting
	int rc = forget(s, r, trash, err);
	if (rc)
		return rc;
	rc = env_remove_tree(s->root, trash);
	if (rc) // it is gone; its space returns at the next start
		log_warning("cannot remove all files of a replica protection=%s errno=%d", name, -rc);
	return 0;
}
