// SPDX-License-Identifier: Apache-2.0
// How a protection comes into the store and goes out of it. What it promises: it is there as a whole or not at all.
#include "receiver/seed.h"
#include "receiver/store_lists.h"

#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
	bool there = store_list_find(s, open->name);
	s->awaited += !there;
	int rc = there		      ? err_set(err, -EEXIST, "%s exists at this receiver; protect under another name", open->name)
		 : store_lists_reserve(s) ? err_set(err, -ENOMEM, "out of memory")
				      : owner_check(s, pin, err);
	(void)pthread_mutex_unlock(&s->lock);
	if (rc == 0)
		rc = create(s, open, pin, &r, err);
	LOCK_SCOPE(&s->lock);
	s->awaited -= !there;
	name_give(s, &own);
	if (rc)
		return rc;
	store_list_insert(s, r);
	event_emit(EVENT_INFO, "settings", r->name, NULL, "%s is protected by this receiver from now on", r->name);
	*ret_replica = r;
	return 0;
}

static int forget_check(struct replica *r, struct err *err)
{
	if (r->session_open || r->opening)
		return err_set(err, -EBUSY, "%s has a session: unprotect it at the source first, or `kagami unpair` that", r->name);
	for (size_t i = 0; i < r->point_count; i++)
		if (r->points[i].holds)
			return err_set(err, -EBUSY, "point %llu of %s is in use: umount it, or stop its test, first",
				       (unsigned long long)r->points[i].number, r->name);
	if (held_unknown(r))
		return err_set(err, -EBUSY, "a point of %s may be in use by a test or a mount of an earlier receiver, and nobody knows by which (the log says why): see that "
					    "there is none, and start the receiver again, first", r->name);
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
	rc = trash_make(s->root, ".", STORE_TRASH, err);
	if (rc)
		return rc;
	rc = env_rename(s->root, r->name, trash);
	if (rc)
		return err_sys(err, rc, "%s: move to " STORE_TRASH, r->name);
	forget_in_memory(r);
	return 0;
}

static void list_remove(struct store *s, struct replica *r)
{
	size_t i = store_place_of(s, r->name);
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
	int rc = store_list_find(s, r->name) != r ? err_set(err, -ENOENT, "%s was removed already", r->name)
		 : store_lists_reserve(s)    ? err_set(err, -ENOMEM, "out of memory")
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
