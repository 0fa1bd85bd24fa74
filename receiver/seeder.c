// SPDX-License-Identifier: Apache-2.0
#include "receiver/seeder.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "base/thread.h"
#include "link/json.h"
#include "receiver/seed.h"
#include "receiver/seed_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDLE_NS UINT64_C(1000000000)

struct seeder {
	struct env *env;
	struct store *store;
	struct pairing *pairing;
	struct env_root *root; // the store's
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_t adopter, maker;
	bool stop, made, making; // `made`: there is a thread to join
	bool looking; // at a file that may be made a seed: without the lock, as its file system may hang
	struct seed seed;	 // being made, or that was
	struct seed_request request;
	char *path; // of `request`
	struct seed_file file;
	struct seed_progress progress;
	struct err why; // the newest failed
};

// --- adopting ---

static bool wait_for(struct seeder *s, uint64_t ns)
{
	LOCK_SCOPE(&s->lock);
	struct timespec until = clock_mono_after(ns);
	while (ns && !s->stop && pthread_cond_timedwait(&s->wake, &s->lock, &until) == 0)
		;
	return !s->stop;
}

static void *adopter_thread(void *context)
{
	struct seeder *s = context;
	uint64_t wait_ns = 0;
	while (wait_for(s, wait_ns)) {
		struct replica *replica;
		wait_ns = IDLE_NS;
		for (size_t n = 0; (replica = store_at(s->store, n)); n++) {
			struct err err = {0};
			int rc = replica_adopt(replica, &err);
			if (rc < 0)
				log_warning("a seed is not read on, and is tried again: %s", err.text);
			if (rc == 1)
				wait_ns = 0;
		}
	}
	return NULL;
}

// --- making ---

static int room(void *context, uint64_t bytes, struct err *err)
{
	struct seeder *s = context;
	uint64_t free_bytes = store_free_bytes(s->store), reserve = store_reserve(s->store);
	if (free_bytes >= bytes && free_bytes - bytes >= reserve)
		return 0;
	return err_set(err, -ENOSPC, "the store %s is full, but for its reserve: free space there", store_path(s->store));
}

// The file is at its own place or at the seed's in every crash state, and never where a start deletes.
static int make_by_move(struct seeder *s, struct err *err)
{
	char to[REPLICA_PATH_SIZE + 4096], name[REPLICA_PATH_SIZE];
	struct err left;
	seed_path(s->seed.name, s->seed.disk, name);
	(void)snprintf(to, sizeof(to), "%s/%s", store_path(s->store), name);
	int rc = seed_place(s->root, &s->seed, err);
	if (rc)
		return rc;
	rc = seed_file_bring(&s->file, &s->request, to, &s->progress, room, s, err);
	if (rc == 0)
		return seed_moved(s->root, &s->seed, err);
	(void)seed_place_remove(s->root, s->seed.name, s->seed.disk, &left);
	return rc;
}

static int make_by_copy(struct seeder *s, struct err *err)
{
	char to[REPLICA_PATH_SIZE + 4096];
	(void)snprintf(to, sizeof(to), "%s/" SEEDS_NEW "/raw", store_path(s->store));
	int rc = seed_file_bring(&s->file, &s->request, to, &s->progress, room, s, err);
	return rc ? rc : seed_publish(s->root, &s->seed, err);
}

static int make(struct seeder *s, struct err *err)
{
	int rc = store_leads(s->store, ".", err); // the file is brought there by its path
	if (rc)
		return rc;
	rc = seed_begin(s->root, err);
	if (rc == 0)
		rc = s->request.how == SEED_MOVE ? make_by_move(s, err) : make_by_copy(s, err);
	if (rc)
		seed_give_up(s->root);
	return rc;
}

static void *maker_thread(void *context)
{
	struct seeder *s = context;
	struct err why = {0};
	int rc = make(s, &why);
	seed_file_close(&s->file);
	LOCK_SCOPE(&s->lock);
	s->why = why;
	s->making = false;
	if (rc)
		log_warning("a seed was not made protection=%s disk=%s reason=\"%s\"", s->seed.name, s->seed.disk, why.text);
	else
		log_info("a seed is there protection=%s disk=%s bytes=%llu", s->seed.name, s->seed.disk, (unsigned long long)s->seed.size);
	return NULL;
}

// Whose the seed is. A seed is content: for which source it is, is not left to who comes first, unless that is said.
static int owner_find(struct seeder *s, const char *peer, struct seed *seed, struct err *err)
{
	json_t *peers = pairing_json(s->pairing);
	const json_t *one, *found = NULL;
	size_t i, count = 0;
	seed->any_source = peer && strcmp(peer, "any") == 0;
	json_array_foreach(peers, i, one) {
		const char *name = json_string_value(json_object_get(one, "name")), *key = json_string_value(json_object_get(one, "fingerprint"));
		if (peer && (!name || strcmp(name, peer) != 0) && (!key || strcmp(key, peer) != 0))
			continue;
		found = one;
		count++;
	}
	int rc = 0;
	if (!seed->any_source && count != 1)
		rc = err_set(err, count ? -EINVAL : -ENOENT,
			     peer	? "%s is not the name or key of one source that is paired here: 'kagami peers' lists them"
			     : count ? "several sources are paired with this receiver: say with --peer whose seed it is%s"
				     : "no source is paired with this receiver yet: pair it first, or say --peer any%s",
			     peer ? peer : "");
	const char *key = found ? json_string_value(json_object_get(found, "fingerprint")) : NULL;
	struct pin pin;
	if (rc == 0 && !seed->any_source && (!key || !pin_read(key, &pin)))
		rc = err_set(err, -EBADMSG, "the fingerprint of that source cannot be read");
	else if (rc == 0 && !seed->any_source)
		memcpy(seed->source, pin.bytes, OWNER_PIN_SIZE);
	json_decref(peers);
	return rc;
}

// Under the lock; then the file may be looked at.
static int begin_check(struct seeder *s, const struct seed_request *request, struct seed *seed, struct err *err)
{
	struct seed there;
	if (s->looking)
		return err_set(err, -EBUSY, "the file of another seed is being looked at: try again in a moment");
	if (s->making)
		return err_set(err, -EBUSY, "the seed of %s/%s is being made: wait, or drop it", s->seed.name, s->seed.disk);
	if (store_find(s->store, request->protection))
		return err_set(err, -EEXIST, "%s is in the store already: a seed is for a protection that has no copy yet", request->protection);
	if (seed_load(s->root, request->protection, request->disk, &there, NULL) != -ENOENT)
		return err_set(err, -EEXIST, "there is a seed of %s/%s already: 'kagami seed drop %s/%s' removes it", request->protection,
			       request->disk, request->protection, request->disk);
	(void)snprintf(seed->name, sizeof(seed->name), "%s", request->protection);
	(void)snprintf(seed->disk, sizeof(seed->disk), "%s", request->disk);
	return owner_find(s, request->peer, seed, err);
}

// Without the lock.
static int file_look(struct seeder *s, const struct seed_request *request, struct seed *seed, struct seed_file *file, struct err *err)
{
	int rc = store_leads(s->store, ".", err);
	if (rc)
		return rc;
	rc = seed_file_open(request, file, err);
	if (rc == 0 && request->how == SEED_MOVE && (rc = seed_file_outside(request->path, store_path(s->store), err)))
		seed_file_close(file);
	if (rc == 0 && request->how == SEED_COPY && (rc = room(s, file->bytes, err)))
		seed_file_close(file);
	seed->size = file->size;
	seed->made_wall_ns = env_wall_ns(s->env);
	return rc;
}

static int making_start(struct seeder *s, const struct seed_request *request, const struct seed *seed, const struct seed_file *file,
			struct err *err)
{
	char *path = strdup(request->path);
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	if (s->made)
		(void)pthread_join(s->maker, NULL); // it has ended, or is on its last instruction after the lock
	free(s->path);
	s->path = path;
	s->request = *request;
	s->request.path = path;
	s->request.protection = s->request.disk = s->request.peer = NULL; // in `seed`
	s->seed = *seed;
	s->file = *file;
	s->why = (struct err){0};
	atomic_store(&s->progress.done, 0);
	atomic_store(&s->progress.total, file->size);
	atomic_store(&s->progress.stop, false);
	int rc = -pthread_create(&s->maker, NULL, maker_thread, s);
	s->made = s->making = rc == 0;
	return rc ? err_sys(err, rc, "start a thread") : 0;
}

static json_t *seed_json(const struct seed *seed)
{
	char source[PIN_TEXT_SIZE] = "any";
	struct pin pin;
	memcpy(pin.bytes, seed->source, OWNER_PIN_SIZE);
	if (!seed->any_source)
		pin_format(&pin, source);
	return json_pack("{s:s, s:s, s:I, s:s, s:o}", "protection", seed->name, "disk", seed->disk, "size", (json_int_t)seed->size, "source", source,
			 "made", json_when(seed->made_wall_ns));
}

int seeder_begin(struct seeder *s, const struct seed_request *request, bool dry_run, json_t **ret_json, struct err *err)
{
	struct seed seed = {.size = 0};
	struct seed_file file = {.fd = -1};
	{
		LOCK_SCOPE(&s->lock);
		int rc = begin_check(s, request, &seed, err);
		if (rc)
			return rc;
		s->looking = true;
	}
	int rc = file_look(s, request, &seed, &file, err);
	LOCK_SCOPE(&s->lock);
	s->looking = false;
	if (rc)
		return rc;
	json_t *json = seed_json(&seed);
	if (json)
		(void)json_object_set_new(json, "bytes", json_integer((json_int_t)file.bytes));
	rc = dry_run ? 0 : making_start(s, request, &seed, &file, err);
	if (rc || dry_run)
		seed_file_close(&file);
	if (rc)
		json_decref(json);
	else
		*ret_json = json;
	return rc;
}

json_t *seeder_json(struct seeder *s)
{
	struct seed *seeds = NULL;
	size_t count = 0;
	LOCK_SCOPE(&s->lock);
	json_t *array = json_array(), *making = s->making ? seed_json(&s->seed) : json_null();
	int rc = seed_list(s->root, &seeds, &count, NULL);
	for (size_t i = 0; rc == 0 && i < count; i++)
		(void)json_array_append_new(array, seed_json(&seeds[i]));
	free(seeds);
	if (s->making && making) {
		(void)json_object_set_new(making, "done_bytes", json_integer((json_int_t)atomic_load(&s->progress.done)));
		(void)json_object_set_new(making, "total_bytes", json_integer((json_int_t)atomic_load(&s->progress.total)));
	}
	return json_pack("{s:o, s:o, s:s}", "making", making, "seeds", array, "error", s->why.text);
}

int seeder_drop(struct seeder *s, const char *protection, const char *disk, struct err *err)
{
	bool join = false;
	{
		LOCK_SCOPE(&s->lock);
		if (s->making && strcmp(s->seed.name, protection) == 0 && strcmp(s->seed.disk, disk) == 0) {
			atomic_store(&s->progress.stop, true);
			join = true;
		}
	}
	for (bool making = join; making;) {
		(void)usleep(10000);
		LOCK_SCOPE(&s->lock);
		making = s->making;
	}
	struct err why = {0};
	int rc = seed_remove(s->root, protection, disk, &why);
	if (rc == -ENOENT && join)
		return 0;
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

// --- coming and going ---

int seeder_start(struct env *env, struct store *store, struct pairing *pairing, struct seeder **ret_seeder, struct err *err)
{
	struct seeder *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->env = env;
	s->store = store;
	s->pairing = pairing;
	s->file.fd = -1;
	s->root = store_root(store);
	(void)pthread_mutex_init(&s->lock, NULL);
	thread_condition_init(&s->wake);
	int rc = -pthread_create(&s->adopter, NULL, adopter_thread, s);
	if (rc) {
		free(s);
		return err_sys(err, rc, "start the seeder");
	}
	*ret_seeder = s;
	return 0;
}

void seeder_stop(struct seeder *s)
{
	if (!s)
		return;
	{
		LOCK_SCOPE(&s->lock);
		s->stop = true;
		atomic_store(&s->progress.stop, true);
		(void)pthread_cond_signal(&s->wake);
	}
	(void)pthread_join(s->adopter, NULL);
	if (s->made)
		(void)pthread_join(s->maker, NULL);
	(void)pthread_mutex_destroy(&s->lock);
	(void)pthread_cond_destroy(&s->wake);
	free(s->path);
	free(s);
}
