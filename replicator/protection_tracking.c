// SPDX-License-Identifier: Apache-2.0
#include "replicator/protection_tracking.h"

#include "base/auto.h"
#include "base/log.h"
#include "base/when.h"
#include "link/events.h"
#include "replicator/lease.h"
#include "replicator/lost_note.h"
#include "replicator/protection_private.h"
#include "replicator/roll.h"

#include <errno.h>
#include <stdio.h>

enum { STATE_NAME_SIZE = 2 * NAME_SIZE + 32 };

static void state_name(const struct protection *p, unsigned disk, char name[STATE_NAME_SIZE])
{
	(void)snprintf(name, STATE_NAME_SIZE, "protections/%s/%s.state", p->config.name, p->config.disk[disk].name);
}

void tracking_init(struct protection *p)
{
	for (unsigned i = 0; i < DISKS_MAX; i++)
		(void)pthread_mutex_init(&p->tracking[i].lock, NULL);
}

void tracking_done(struct protection *p)
{
	for (unsigned i = 0; i < DISKS_MAX; i++) {
		state_file_close(p->tracking[i].file);
		state_note_close(&p->tracking[i].note);
		(void)pthread_mutex_destroy(&p->tracking[i].lock);
	}
}

// ---- lost

static void lost_publish(struct protection *p, unsigned disk, const char *why, bool in_file)
{
	char when[WHEN_SIZE];
	when_format(env_wall_ns(p->place.env), when);
	LOCK_SCOPE(&p->lock);
	p->tracking[disk].lost_in_file = in_file;
	(void)snprintf(p->tracking[disk].lost_why, sizeof(p->tracking[disk].lost_why), "%.*s (since %s)",
		       ERR_TEXT_MAX - WHEN_SIZE - 16, why, when);
}

static int note_lost(struct protection *p, unsigned disk, const char *why)
{
	struct err err = {0};
	int rc = lost_note_write(p->place.env, p->place.run_dir, p->config.name, p->config.disk[disk].name, why, &err);
	if (rc)
		log_warning("the note of lost tracking could not be written protection=%s disk=%s: %s", p->config.name, p->config.disk[disk].name, err.text);
	LOCK_SCOPE(&p->lock);
	p->tracking[disk].lost_in_note |= rc == 0;
	return rc;
}

// T3. With the disk's lock held. False when no place took the news: then a crash is found out only by the position.
static bool lose(struct protection *p, unsigned disk, const char *why)
{
	struct tracking *t = &p->tracking[disk];
	const char *disk_name = p->config.disk[disk].name;
	if (t->lost)
		return true;
	t->lost = true;
	char name[STATE_NAME_SIZE];
	state_name(p, disk, name);
	event_emit(EVENT_CRITICAL, "tracking", p->config.name, json_pack("{s:s}", "disk", p->config.disk[disk].name),
		   "the tracking of disk %s of %s is lost, and its guest goes on; the next start compares the whole disk: %s", p->config.disk[disk].name, p->config.name, why);
	log_error("tracking is lost, the guest goes on: mend the state directory and restart; the next start compares the whole disk "
		  "protection=%s disk=%s: %s",
		  p->config.name, disk_name, why);
	struct err file_err = {0};
	int in_file = state_file_lose(t->file, p->place.state, name, &file_err); // who waits for a mark and for this raises the doubt himself (T4)
	doubt_raise(p, disk, in_file == 0);
	int in_note = note_lost(p, disk, why);
	if (in_file)
		log_warning("the state file could not be made to say that tracking is lost protection=%s disk=%s: %s",
			    p->config.name, disk_name, file_err.text);
	bool told = in_file == 0 || doubt_wait(p, disk); // D1: whoever waits for a mark waits for the disk's lock
	lost_publish(p, disk, why, in_file == 0);
	return in_file == 0 || in_note == 0 || told;
}

static bool is_forsaken(struct tracking *t)
{
	return atomic_load(&t->forsaken);
}

// T4. With the disk's lock held.
static void lose_forsaken(struct protection *p, unsigned disk)
{
	(void)lose(p, disk, "the state directory has not answered for too long");
}

// ---- load

static void newer(struct state_position *joint, const struct state_position *with)
{
	joint->point = with->point;
	joint->last_cut = with->last_cut;
	joint->last_cut_wall_ns = with->last_cut_wall_ns;
	joint->pending_cut = with->pending_cut;
}

bool tracking_join(struct state_position *joint, const struct state_position *other)
{
	if (uuid_equal(&joint->last_cut, &other->last_cut)) {
		if (uuid_is_zero(&joint->pending_cut))
			joint->pending_cut = other->pending_cut;
		return true;
	}
	if (!uuid_is_zero(&joint->pending_cut) && uuid_equal(&joint->pending_cut, &other->last_cut)) {
		newer(joint, other);
		return true;
	}
	return !uuid_is_zero(&other->pending_cut) && uuid_equal(&other->pending_cut, &joint->last_cut);
}

static bool position_joins(struct protection *p, const struct state_position *position)
{
	if (p->position_known)
		return tracking_join(&p->position, position);
	p->position = *position;
	p->position_known = true;
	return true;
}

static struct state_note_place note_place(const struct protection *p, unsigned disk)
{
	return (struct state_note_place){.env = p->place.env, .run_dir = p->place.run_dir, .boot = p->place.boot,
					 .protection = p->config.name, .disk = p->config.disk[disk].name};
}

// Nothing but the image's own time tells who changed it last, since the host was started anew.
static bool changed_after_us(const struct protection *p, const char *name, const struct image_identity *identity)
{
	return !lease_covers(p->place.lease, state_file_run(p->place.state, name), identity->ctime_ns);
}

// `ret_position` is that of a file that is believed.
static enum sync_reason read_disk(struct protection *p, unsigned disk, bool is_new, enum rest_verdict verdict, const struct image_identity *identity,
				  struct state_position *ret_position)
{
	const char *disk_name = p->config.disk[disk].name;
	char name[STATE_NAME_SIZE];
	state_name(p, disk, name);
	struct state_position expected = {.protection = p->config.uuid, .generation = p->config.generation}, position;
	struct dirty *dirty = export_dirty(p->export, (uint16_t)disk);
	if (!is_new && lost_note_stands(p->place.env, p->place.run_dir, p->config.name, disk_name)) {
		dirty_mark_all(dirty);
		return SYNC_TRACKING_LOST;
	}
	enum sync_reason reason =
		state_file_load(p->place.state, name, disk_name, &expected, identity, is_new, dirty, &position);
	if (reason == SYNC_UNCLEAN_STOP && verdict == REST_UNTOLD && changed_after_us(p, name, identity)) {
		dirty_mark_all(dirty);
		return SYNC_IMAGE_CHANGED;
	}
	bool known = reason == SYNC_NONE || reason == SYNC_UNCLEAN_STOP;
	struct state_note_place place = note_place(p, disk);
	if (known && !state_file_noted(p->place.state, name, &place, &p->tracking[disk].found)) {
		log_warning("the state file is not the one that this host had last: the state directory was brought back from a copy protection=%s disk=%s",
			    p->config.name, disk_name);
		dirty_mark_all(dirty);
		return SYNC_STATE_FOREIGN;
	}
	if (known && position_joins(p, &position)) {
		*ret_position = position;
		return reason;
	}
	dirty_mark_all(dirty);
	return known ? SYNC_STATE_FOREIGN : reason;
}

// A block device is synced for it, and may not answer: who asks is told of which disk that is.
static int look_at(struct protection *p, unsigned disk, bool is_new, enum rest_verdict *ret_verdict, struct image_identity *ret_identity, struct err *err)
{
	_Atomic(unsigned) *opening = p->place.opening;
	if (opening)
		atomic_store(opening, disk + 1u);
	*ret_verdict = is_new ? REST_LEFT_ALONE : export_judge(p->export, (uint16_t)disk); // before: what others left unwritten is counted then
	int rc = export_identity(p->export, (uint16_t)disk, ret_identity, err);
	if (opening)
		atomic_store(opening, 0);
	return rc;
}

// What was cut off a disk is not for the guest to find out, nor can the replica become smaller. The state file stays as it is.
static int check_size(const struct protection *p, unsigned disk, const struct image_identity *identity, struct err *err)
{
	const struct state_position expected = {.protection = p->config.uuid, .generation = p->config.generation};
	const char *disk_name = p->config.disk[disk].name;
	char name[STATE_NAME_SIZE];
	state_name(p, disk, name);
	uint64_t least = state_file_least_size(p->place.state, name, disk_name, &expected);
	if (identity->size >= least)
		return 0;
	return err_set(err, -EINVAL,
		       "the image of disk %s, %.160s, has %llu bytes and had %llu: it became smaller while it was not served; restore its size, or, if the smaller one is meant, "
		       "`kagami unprotect %s` and protect it anew",
		       disk_name, p->config.disk[disk].path, (unsigned long long)identity->size, (unsigned long long)least, p->config.name);
}

// What costs the whole disk names the sync: marked regions alone are never said to be the reason for more (B5).
static void name_sync(struct protection *p, enum sync_reason reason)
{
	if (p->sync == SYNC_NONE || (sync_reason_whole(reason) && !sync_reason_whole(p->sync)))
		p->sync = reason;
}

// Of a disk that was a step behind the others, the point that ends what it owed is committed (T5).
static void name_owed(struct protection *p, const struct state_position *of)
{
	if (uuid_equal(&of->last_cut, &p->position.last_cut))
		name_sync(p, of->owed);
}

// `ret_position`: zeroed where its file is not believed.
static int load_disk(struct protection *p, unsigned disk, bool is_new, struct state_position *ret_position, struct err *err)
{
	struct image_identity identity;
	enum rest_verdict verdict;
	int rc = look_at(p, disk, is_new, &verdict, &identity, err);
	if (rc == 0 && !is_new)
		rc = check_size(p, disk, &identity, err);
	if (rc)
		return rc;
	identity.disturbed = verdict == REST_DISTURBED;
	enum sync_reason reason = read_disk(p, disk, is_new, verdict, &identity, ret_position);
	p->tracking[disk].sync = reason;
	if (reason != SYNC_NONE && reason != SYNC_UNCLEAN_STOP)
		p->doubt.whole |= UINT64_C(1) << disk;
	if (reason != SYNC_NONE || ret_position->owed != SYNC_NONE)
		images_stale(p, (uint16_t)disk);
	name_sync(p, reason);
	if (reason != SYNC_NONE && reason != SYNC_INITIAL)
		log_warning("disk must be synced by digests protection=%s disk=%s reason=%s candidates=%llu", p->config.name,
			    p->config.disk[disk].name, sync_reason_name(reason),
			    (unsigned long long)dirty_bytes(export_dirty(p->export, (uint16_t)disk)));
	return 0;
}

// With the disk's lock held, or before anybody else is there.
static void note_number(struct protection *p, unsigned disk)
{
	struct env_stat st = {.number = 0};
	char name[STATE_NAME_SIZE];
	state_name(p, disk, name);
	p->tracking[disk].number = env_stat(p->place.state, name, &st) == 0 ? st.number : 0;
}

static int open_disk(struct protection *p, unsigned disk, bool is_new, struct err *err)
{
	struct tracking *t = &p->tracking[disk];
	char name[STATE_NAME_SIZE];
	struct image_identity identity;
	struct dirty *dirty = export_dirty(p->export, (uint16_t)disk);
	state_name(p, disk, name);
	int rc = export_identity(p->export, (uint16_t)disk, &identity, err);
	if (rc)
		return rc;
	struct err why = {0};
	struct state_note_place place = note_place(p, disk);
	if (state_note_open(&t->note, &place, &t->found, &why))
		log_warning("a state directory that is brought back from a copy would be believed protection=%s disk=%s: %s", p->config.name,
			    p->config.disk[disk].name, why.text);
	const struct state_run run = {.number = lease_use(p->place.lease), .note = &t->note};
	rc = state_file_open_run(p->place.state, name, p->config.disk[disk].name, &p->position, &identity, dirty, &run, &t->file, &why);
	if (rc == 0) {
		note_number(p, disk);
		export_set_marked(p->export, (uint16_t)disk, dirty);
		lost_note_remove(p->place.env, p->place.run_dir, p->config.name, p->config.disk[disk].name);
		return 0;
	}
	LOCK_SCOPE(&t->lock);
	// An old file that is believed by the next start would hide what the guest writes now.
	if (is_new || !lose(p, disk, why.text))
		return err_set(err, rc, "%s", why.text);
	return 0;
}

// No point was ever known to the starts that came to none, and every piece is dirty since: whatever the receiver is at, it is compared for their reason.
static bool any_position_will_do(const struct protection *p)
{
	const struct state_position *position = &p->position;
	bool whole = sync_reason_whole(p->sync) && uuid_is_zero(&position->last_cut) && uuid_is_zero(&position->pending_cut);
	for (unsigned i = 0; i < p->config.disk_count && whole; i++) {
		const struct dirty *dirty = export_dirty(p->export, (uint16_t)i);
		whole = dirty_bytes(dirty) >= dirty->size;
	}
	return whole;
}

int tracking_load(struct protection *p, bool is_new, struct err *err)
{
	struct state_position of[DISKS_MAX] = {0};
	int rc = 0;
	for (unsigned i = 0; i < p->config.disk_count && rc == 0; i++)
		rc = load_disk(p, i, is_new, &of[i], err);
	for (unsigned i = 0; i < p->config.disk_count && rc == 0; i++)
		name_owed(p, &of[i]);
	p->position.protection = p->config.uuid;
	p->position.generation = p->config.generation;
	p->position_known &= !any_position_will_do(p);
	if (p->sync == SYNC_NONE && p->position.point == 0)
		p->sync = SYNC_INITIAL;
	p->position.owed = p->sync;
	for (unsigned i = 0; i < p->config.disk_count && rc == 0; i++)
		rc = open_disk(p, i, is_new, err);
	return rc;
}

// ---- while it runs, and its end

int tracking_commit(void *context, uint16_t disk, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears,
		    struct err *err)
{
	struct protection *p = context;
	struct tracking *t = &p->tracking[disk];
	STATE_SCOPE(p);
	LOCK_SCOPE(&t->lock);
	if (is_forsaken(t)) // said before this returns: the writes that wait are let go then
		lose_forsaken(p, disk);
	if (t->lost)
		return err_set(err, -EIO, "the state file could not be written before");
	struct err why = {0};
	int rc = state_file_marks(t->file, set, sets, clear, clears, &why);
	if (rc)
		(void)lose(p, disk, why.text); // before the writes that wait are let go
	else if (is_forsaken(t)) // meanwhile: writes may have gone by this batch, and no other comes
		lose_forsaken(p, disk);
	return t->lost ? err_set(err, rc ? rc : -EIO, "%s", rc ? why.text : "the state file was written too late") : 0;
}

void tracking_forsake(void *context, uint16_t disk)
{
	struct protection *p = context;
	atomic_store(&p->tracking[disk].forsaken, true);
	doubt_raise(p, disk, false);
}

void tracking_note(void *context, uint16_t disk, const char *why)
{
	struct protection *p = context;
	tracking_forsake(p, disk); // while the note is written
	(void)note_lost(p, disk, why);
	(void)doubt_wait(p, disk); // doubt.h, D1
}

void tracking_lose(void *context, uint16_t disk, const char *why)
{
	struct protection *p = context;
	LOCK_SCOPE(&p->tracking[disk].lock);
	(void)lose(p, disk, why);
}

bool tracking_uncovered(const struct protection *p)
{
	return p->uncovered || p->unmarked || p->audit.unsaved;
}

bool tracking_stands(struct protection *p, unsigned disk)
{
	LOCK_SCOPE(&p->lock);
	return !is_forsaken(&p->tracking[disk]) && !p->tracking[disk].lost_why[0];
}

void tracking_position(struct protection *p, enum sync_reason owed)
{
	struct state_position position = p->position;
	position.owed = owed;
	if (tracking_uncovered(p)) // T1
		position.last_cut = p->nowhere;
	if (p->audit.unsaved && !uuid_is_zero(&position.pending_cut)) // audit_record.h, A1
		position.pending_cut = p->nowhere;
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct tracking *t = &p->tracking[i];
		struct err err = {0};
		if (is_forsaken(t)) // T4
			continue;
		struct image_identity identity = {0};
		(void)export_identity(p->export, (uint16_t)i, &identity, &err); // without the lock, for which a guest's mark may wait
		STATE_SCOPE(p);
		LOCK_SCOPE(&t->lock);
		if (t->lost)
			continue;
		if (identity.times_tell)
			state_file_saw(t->file, &identity);
		if (state_file_position(t->file, &position, &err))
			(void)lose(p, i, err.text);
	}
}

int tracking_grow(struct protection *p, unsigned disk, uint64_t size, struct err *err)
{
	struct tracking *t = &p->tracking[disk];
	char name[STATE_NAME_SIZE];
	struct image_identity identity;
	state_name(p, disk, name);
	int rc = export_identity(p->export, (uint16_t)disk, &identity, err);
	if (rc)
		return rc;
	if (is_forsaken(t)) // T4
		return err_set(err, -EIO, "the state directory does not answer: mend it, and restart the replicator first");
	LOCK_SCOPE(&t->lock);
	if (t->lost)
		return 0;
	rc = state_file_grow(&t->file, p->place.state, name, size, &identity, err);
	note_number(p, disk);
	if (rc && state_file_broken(t->file)) // said now, and not when the next mark fails
		(void)lose(p, disk, err->text);
	return rc;
}

void tracking_grown(struct protection *p, unsigned disk)
{
	struct tracking *t = &p->tracking[disk];
	struct err err = {0};
	if (is_forsaken(t)) // T4
		return;
	LOCK_SCOPE(&t->lock);
	if (!t->lost && state_file_grown(t->file, &err))
		(void)lose(p, disk, err.text);
}

void tracking_ungrow(struct protection *p, unsigned disk, uint64_t old_size)
{
	struct tracking *t = &p->tracking[disk];
	char name[STATE_NAME_SIZE];
	struct image_identity identity;
	struct err err = {0};
	state_name(p, disk, name);
	int rc = export_identity(p->export, (uint16_t)disk, &identity, &err);
	LOCK_SCOPE(&t->lock);
	if (t->lost)
		return;
	if (rc == 0)
		rc = state_file_ungrow(&t->file, p->place.state, name, old_size, &identity, &err);
	note_number(p, disk);
	if (rc) // a file of another size than its disk cannot take a clean stop
		(void)lose(p, disk, err.text);
}

void tracking_seal(void *context, const struct uuid *cut)
{
	struct protection *p = context;
	p->position.pending_cut = *cut;
	p->sealed_here = true;
	tracking_position(p, p->sync);
}

// With the disk's lock held.
static int save_disk(struct protection *p, unsigned disk, struct err *err)
{
	struct state_position position = p->position;
	struct image_identity identity;
	int rc = export_settle_identity(p->export, (uint16_t)disk, err);
	if (rc == 0)
		rc = export_identity(p->export, (uint16_t)disk, &identity, err);
	if (rc)
		return rc;
	images_stopped(p, (uint16_t)disk); // once its identity is taken: what others did before differs from the note of rest, what they do from here on from that identity
	images_fresh_at_end(p, (uint16_t)disk); // a start after this end in order believes the cache
	position.owed = p->sync; // T5
	STATE_SCOPE(p);
	return state_file_save(p->tracking[disk].file, &position, &identity, export_dirty(p->export, (uint16_t)disk), err);
}

// 0: not to be looked for.
static uint64_t number_of(struct tracking *t)
{
	LOCK_SCOPE(&t->lock);
	return t->lost ? 0 : t->number;
}

// T4: who holds the lock finds the same when the commit ends; where nobody does, the commit had looked before.
static void look_forsaken(struct protection *p, unsigned disk)
{
	struct tracking *t = &p->tracking[disk];
	if (pthread_mutex_trylock(&t->lock))
		return;
	lose_forsaken(p, disk);
	(void)pthread_mutex_unlock(&t->lock);
}

static bool is_elsewhere(struct protection *p, unsigned disk, uint64_t number)
{
	char name[STATE_NAME_SIZE];
	struct env_stat st;
	state_name(p, disk, name);
	STATE_LOOK_SCOPE(p);
	int rc = env_stat(p->place.state, name, &st);
	return rc == 0 ? st.number != number : rc == -ENOENT || rc == -ENOTDIR; // what fails otherwise tells nothing
}

void tracking_look(struct protection *p)
{
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct tracking *t = &p->tracking[i];
		uint64_t number = is_forsaken(t) ? 0 : number_of(t);
		bool elsewhere = number && is_elsewhere(p, i, number);
		if (is_forsaken(t))
			look_forsaken(p, i);
		if (!elsewhere || is_forsaken(t))
			continue;
		LOCK_SCOPE(&t->lock);
		if (t->number == number) // else the disk has grown meanwhile
			(void)lose(p, i, "its state file was removed, or another put in its place, while the replicator ran");
	}
}

void tracking_abandon(struct protection *p)
{
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct tracking *t = &p->tracking[i];
		struct err err = {0};
		LOCK_SCOPE(&t->lock);
		if (is_forsaken(t))
			lose_forsaken(p, i);
		if (t->file && !t->lost && save_disk(p, i, &err))
			(void)lose(p, i, err.text);
	}
}

void tracking_disown(const struct protection_place *place, const struct protection_config *config)
{
	for (unsigned i = 0; i < config->disk_count; i++) {
		char name[STATE_NAME_SIZE];
		struct err err = {0};
		(void)snprintf(name, sizeof(name), "protections/%s/%s.state", config->name, config->disk[i].name);
		int in_file = state_file_lose(NULL, place->state, name, &err);
		int in_note = lost_note_write(place->env, place->run_dir, config->name, config->disk[i].name, "its protection was stopped, and its state could not be saved", &err);
		if (in_file && in_note)
			log_warning("the state file of a disk that is served no more could not be made to say so: remove it before the next start protection=%s disk=%s: %s", config->name,
				    config->disk[i].name, err.text);
	}
}

static bool start_will_know(struct protection *p, unsigned disk)
{
	LOCK_SCOPE(&p->lock);
	return p->tracking[disk].lost_in_file || p->tracking[disk].lost_in_note;
}

// With the disk's lock held. What no place took when it was lost may be taken now.
static int save_lost(struct protection *p, unsigned disk, struct err *err)
{
	const char *name = p->config.disk[disk].name;
	if (start_will_know(p, disk) || note_lost(p, disk, "its tracking was lost before the replicator stopped") == 0 || doubt_told(p, disk))
		return err_set(err, -EIO, "the tracking of disk %s is lost: look at the state directory", name);
	(void)err_set(err, -EIO, "the tracking of disk %s is lost, and nothing could be made to say so: remove protections/%s/%s.state from the state directory before the next start",
		      name, p->config.name, name);
	log_error("of this disk the next start would not know it protection=%s: %s", p->config.name, err->text); // there may be more than one
	return err->code;
}

void tracking_tell_lost(struct protection *p)
{
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct tracking *t = &p->tracking[i];
		struct err err;
		LOCK_SCOPE(&t->lock);
		if (is_forsaken(t))
			lose_forsaken(p, i);
		if (t->lost)
			(void)save_lost(p, i, &err);
	}
}

int tracking_save(struct protection *p, struct err *err)
{
	int worst = 0;
	tracking_look(p);
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		struct tracking *t = &p->tracking[i];
		LOCK_SCOPE(&t->lock);
		if (is_forsaken(t))
			lose_forsaken(p, i);
		if (t->lost) {
			worst = save_lost(p, i, err);
			continue;
		}
		int rc = save_disk(p, i, err);
		roll_move(p->place.roll);
		worst = rc ? rc : worst;
	}
	return worst;
}
