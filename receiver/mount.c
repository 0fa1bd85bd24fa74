// SPDX-License-Identifier: Apache-2.0
// The list of mounts, the hold that goes with each, and their life from start to stop of the receiver.
//
// A hold is taken before the first step of a mount and released after the last step of its undoing, so that no fold ever
// moves under a running storage daemon. What a killed receiver left is undone before anything is folded; where that fails
// (a process that does not end) its point is held again until the next start. Where nobody knows what it left, every point is held.
#include "receiver/mount.h"

#include "base/auto.h"
#include "base/log.h"
#include "receiver/mount_session.h"
#include "receiver/unlisted.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct mounts {
	struct env *env;
	struct store *store;
	struct verifier *verifier;
	struct env_root *root; // the store's
	pthread_mutex_t working; // held for the length of a mount or unmount
	struct unlisted unlisted; // guarded by it
	pthread_mutex_t listing; // guards what follows; taken inside `working`
	struct mount_session *session[MOUNTS_MAX]; // oldest first
	size_t count;
};

// --- the list ---

// The newest one there: an older one may have been unmounted by hand.
static struct mount_session *find(struct mounts *mounts, const char *directory)
{
	LOCK_SCOPE(&mounts->listing);
	for (size_t i = mounts->count; i-- > 0;)
		if (strcmp(mounts->session[i]->info.directory, directory) == 0)
			return mounts->session[i];
	return NULL;
}

static void list_append(struct mounts *mounts, struct mount_session *session)
{
	LOCK_SCOPE(&mounts->listing);
	mounts->session[mounts->count++] = session;
}

static void list_drop(struct mounts *mounts, const struct mount_session *session)
{
	LOCK_SCOPE(&mounts->listing);
	size_t index = 0;
	while (index < mounts->count && mounts->session[index] != session)
		index++;
	if (index == mounts->count)
		return;
	mounts->count--;
	memmove(&mounts->session[index], &mounts->session[index + 1], (mounts->count - index) * sizeof(mounts->session[0]));
}

static size_t list_count(struct mounts *mounts)
{
	LOCK_SCOPE(&mounts->listing);
	return mounts->count;
}

bool mounts_at(struct mounts *mounts, size_t n, struct mount_info *ret_info)
{
	LOCK_SCOPE(&mounts->listing);
	if (n >= mounts->count)
		return false;
	*ret_info = mounts->session[n]->info;
	return true;
}

// --- the directory ---

static int directory_is_empty(const char *path)
{
	DIR *dir = opendir(path);
	if (!dir)
		return -errno;
	int rc = 1;
	const struct dirent *entry;
	while (rc == 1 && (entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			rc = 0;
	(void)closedir(dir);
	return rc;
}

static int directory_check(struct mounts *mounts, const char *asked, char path[MOUNT_PATH_SIZE], struct err *err)
{
	if (asked[0] != '/')
		return err_set(err, -EINVAL, "%s is not an absolute path: name the directory from / on", asked);
	AUTO_FREE char *real = realpath(asked, NULL);
	if (!real)
		return err_sys(err, -errno, "mount on %s", asked);
	if (find(mounts, real))
		return err_set(err, -EBUSY, "a point is mounted on %s already: unmount it first (kagami umount %s)", asked, asked);
	int rc = directory_is_empty(real);
	if (rc < 0)
		return err_sys(err, rc, "mount on %s", asked);
	if (rc == 0)
		return err_set(err, -EEXIST, "%s is not empty, and what is in it would be hidden: name an empty directory", asked);
	if (snprintf(path, MOUNT_PATH_SIZE, "%s", real) >= MOUNT_PATH_SIZE)
		return err_set(err, -ENAMETOOLONG, "the path of %s is too long", asked);
	return 0;
}

// --- mounting ---

static int disk_choose(const struct replica_info *info, const char *name, struct mount_session *session,
		       unsigned *ret_disk, struct err *err)
{
	for (unsigned i = 0; i < info->disk_count; i++) {
		if (name && strcmp(info->disk[i].name, name) != 0)
			continue;
		(void)snprintf(session->info.disk, NAME_SIZE, "%s", info->disk[i].name);
		*ret_disk = i;
		return 0;
	}
	return err_set(err, -ENOENT, "%s has no disk %s: see its disks with kagami points %s --json", info->name,
		       name ? name : "at all", info->name);
}

static int session_fill(struct mounts *mounts, struct replica *replica, const struct mount_request *request,
			struct mount_session *session, unsigned *ret_disk, struct err *err)
{
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(replica, info);
	(void)snprintf(session->info.protection, NAME_SIZE, "%s", info->name);
	session->info.proven = request->proven;
	int rc = request->directory ? directory_check(mounts, request->directory, session->info.directory, err) : 0;
	struct point_info point;
	if (rc == 0) // first: of a replica without points it may not be known which disks it has
		rc = replica_point_look(replica, request->point, &point, err);
	if (rc == 0)
		rc = disk_choose(info, request->disk, session, ret_disk, err);
	if (rc == 0)
		rc = mount_session_name(session, mounts->env, store_path(mounts->store), err);
	if (rc == 0 && !request->directory)
		rc = mount_session_own(session, err);
	return rc;
}

// Mounts what a filled-in session names, with its point held. On failure nothing is left, nor held.
static int session_start(struct mounts *mounts, struct replica *replica, const struct mount_request *request,
			 struct mount_session *session, unsigned disk, struct err *err)
{
	uint64_t size[DISKS_MAX]; // at the cut: the disk may have grown since
	int rc = request->proven ? replica_hold_sound(replica, request->point, &session->info.point, err) :
				   replica_hold(replica, request->point, &session->info.point, err);
	if (rc)
		return rc;
	rc = replica_point_sizes(replica, session->info.point, size, err);
	if (rc) {
		replica_release(replica, session->info.point);
		return rc;
	}
	if (request->proven)
		rc = proven_view_start(replica, session->info.point, session->info.disk, mounts->verifier, &session->proven, err);
	if (rc == 0)
		rc = mount_session_do(session, mounts->root, size[disk], request->partition, err);
	if (rc == 0)
		return 0;
	if (proven_view_damaged(session->proven, err))
		rc = err->code;
	struct err undo = {.code = 0};
	if (mount_session_undo(session, mounts->root, true, &undo)) {
		log_warning("A mount that failed could not be cleaned up; the next start tries again. session=%s reason=\"%s\"",
			    session->name, undo.text);
		proven_view_stop(session->proven);
		session->proven = NULL;
	} else
		replica_release(replica, session->info.point);
	return rc;
}

int mounts_add(struct mounts *mounts, const struct mount_request *request, struct mount_info *ret_info, struct err *err)
{
	LOCK_SCOPE(&mounts->working);
	struct replica *replica = store_find(mounts->store, request->protection);
	if (!replica)
		return err_set(err, -ENOENT, "there is no protection %s here: see kagami status", request->protection);
	if (unlisted_has(&mounts->unlisted, replica)) // what is there is undone at its next look: nothing new is put beside it
		return err_set(err, -EIO, "what is mounted of %s is not known: %s/%s/tests could not be listed, which is tried again by itself", request->protection,
			       store_path(mounts->store), request->protection);
	if (list_count(mounts) == MOUNTS_MAX)
		return err_set(err, -EBUSY, "%d points are mounted, which is all that may be: unmount one", MOUNTS_MAX);
	AUTO_FREE struct mount_session *session = calloc(1, sizeof(*session));
	if (!session)
		return err_set(err, -ENOMEM, "out of memory");
	unsigned disk = 0;
	int rc = store_leads(mounts->store, request->protection, err); // QEMU and the kernel open it by its path
	if (rc == 0)
		rc = session_fill(mounts, replica, request, session, &disk, err);
	if (rc == 0)
		rc = session_start(mounts, replica, request, session, disk, err);
	if (rc)
		return rc;
	log_info("Mounted a point. protection=%s point=%llu disk=%s partition=%u filesystem=%s directory=\"%s\"",
		 session->info.protection, (unsigned long long)session->info.point, session->info.disk,
		 session->info.partition, session->info.filesystem, session->info.directory);
	*ret_info = session->info;
	list_append(mounts, STEAL(session));
	return 0;
}

// --- unmounting ---

static int session_stop(struct mounts *mounts, struct mount_session *session, bool force, struct err *err)
{
	int rc = mount_session_undo(session, mounts->root, force, err);
	if (rc)
		return rc;
	struct replica *replica = store_find(mounts->store, session->info.protection);
	if (replica)
		replica_release(replica, session->info.point);
	log_info("Unmounted a point. protection=%s point=%llu directory=\"%s\"", session->info.protection,
		 (unsigned long long)session->info.point, session->info.directory);
	list_drop(mounts, session);
	free(session);
	return 0;
}

int mounts_remove(struct mounts *mounts, const char *directory, struct err *err)
{
	LOCK_SCOPE(&mounts->working);
	AUTO_FREE char *real = realpath(directory, NULL); // NULL too when it is gone, or when its mount is broken
	struct mount_session *session = find(mounts, real ? real : directory);
	if (!session)
		return err_set(err, -ENOENT, "no point is mounted on %s: kagami mounts lists what is", directory);
	return session_stop(mounts, session, false, err);
}

void mounts_explain(struct mounts *mounts, const char *directory, struct err *err)
{
	LOCK_SCOPE(&mounts->working);
	struct mount_session *session = find(mounts, directory);
	struct err why = {.code = 0};
	if (session && proven_view_damaged(session->proven, &why))
		(void)err_set(err, -EUCLEAN, "%s; --damaged takes it as it is", why.text);
}

void mounts_set_verifier(struct mounts *mounts, struct verifier *verifier)
{
	mounts->verifier = verifier;
}

void mounts_end(struct mounts *mounts, const char *directory)
{
	LOCK_SCOPE(&mounts->working);
	struct err err = {.code = 0};
	struct mount_session *session = find(mounts, directory);
	if (session && session_stop(mounts, session, true, &err))
		log_warning("A mount could not be undone; unmount it, or the next start tries again. directory=\"%s\" reason=\"%s\"",
			    directory, err.text);
}

void mounts_close(struct mounts *mounts)
{
	if (!mounts)
		return;
	for (size_t i = mounts->count; i-- > 0;) {
		struct err err = {.code = 0};
		struct mount_session *session = mounts->session[i];
		if (session_stop(mounts, session, true, &err) == 0)
			continue;
		log_warning("A mount could not be undone; the next start tries again. directory=\"%s\" reason=\"%s\"",
			    session->info.directory, err.text);
		proven_view_stop(session->proven);
		free(session);
	}
	unlisted_done(&mounts->unlisted);
	(void)pthread_mutex_destroy(&mounts->working);
	(void)pthread_mutex_destroy(&mounts->listing);
	free(mounts);
}

// --- what a predecessor left ---

static void recover_one(struct mounts *mounts, struct replica *replica, const char *protection, const char *id)
{
	struct err err = {.code = 0};
	uint64_t point = 0;
	AUTO_FREE struct mount_session *session = calloc(1, sizeof(*session));
	if (!session || mount_session_found(session, store_path(mounts->store), protection, id, &err))
		return;
	int known = mount_session_point(session, mounts->root, &point);
	if (mount_session_undo(session, mounts->root, true, &err) == 0) {
		log_info("Undid a mount that an earlier receiver left. session=%s", session->name);
		return;
	}
	bool broken = replica_is_broken(replica); // its point may be one that cannot be read now
	bool held = known == 0 && (replica_hold(replica, point, &point, NULL) == 0 || (broken && replica_hold_unread(replica, point) == 0));
	bool lost = known && known != -ENOENT; // without its record it never came to stand on a point
	if (!held && (broken || lost))
		(void)replica_hold_unread(replica, 0);
	if (!held && broken)
		replica_keep_broken(replica);
	log_warning("A mount that an earlier receiver left could not be undone; the next start tries again. session=%s "
		    "point_held=%s reason=\"%s\"",
		    session->name, held ? "yes" : broken || lost ? "all" : "no", err.text);
}

// 1: what was left cannot be listed, for the reason in `err`, and mounts_look() tries again.
static int recover_replica(void *owner, struct replica *replica, struct err *err)
{
	struct mounts *mounts = owner;
	AUTO_FREE struct replica_info *info = malloc(sizeof(*info));
	char **ids = NULL;
	size_t count = 0;
	if (!info)
		return err_set(err, -ENOMEM, "out of memory");
	replica_info(replica, info);
	int rc = unlisted_read(&mounts->unlisted, mounts->root, replica, info->name, &ids, &count, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < count; i++)
		if (strncmp(ids[i], MOUNT_SESSION_PREFIX, strlen(MOUNT_SESSION_PREFIX)) == 0)
			recover_one(mounts, replica, info->name, ids[i]);
	env_list_free(ids, count);
	unlisted_over(&mounts->unlisted, replica);
	return 0;
}

void mounts_look(struct mounts *mounts)
{
	unlisted_look(&mounts->unlisted, &mounts->working, recover_replica, mounts);
}

int mounts_open(struct env *env, struct store *store, struct mounts **ret_mounts, struct err *err)
{
	AUTO_FREE struct mounts *mounts = calloc(1, sizeof(*mounts));
	if (!mounts)
		return err_set(err, -ENOMEM, "out of memory");
	mounts->env = env;
	mounts->store = store;
	mounts->root = store_root(store);
	(void)pthread_mutex_init(&mounts->working, NULL);
	(void)pthread_mutex_init(&mounts->listing, NULL);
	int rc = 0;
	struct replica *replica;
	for (size_t n = 0; rc >= 0 && (replica = store_at(store, n)); n++)
		rc = recover_replica(mounts, replica, err);
	if (rc < 0) {
		mounts_close(STEAL(mounts));
		return rc;
	}
	*ret_mounts = STEAL(mounts);
	return 0;
}
