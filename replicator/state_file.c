// SPDX-License-Identifier: Apache-2.0
// The state file: what the newest valid header says decides which part of the file is the truth.
//
//	header     truth                left by
//	runs       the marks            state_file_save (clean), state_file_lose (lost), a crash (stays)
//	clean      the map pages        state_file_open_run: a new file
//	lost       nothing              state_file_open_run: a new file
//
// S1 A file is begun as a whole and renamed into place: no crash shows a part of one, and nothing of an older file is in it.
// S2 A mark is durable when state_file_marks returns; it goes only by a call that clears it.
// S3 Both slots always say the same phase once the call that set it has returned. So a slot that is damaged later can cost one
//    step of the position, which the one before names as pending (docs/format-state.md, "One step back"), and never a phase.
#include "replicator/state_file.h"

#include "replicator/state_map.h"
#include "replicator/state_marks.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_NAME_SIZE = 512 };
#define TIME_LAG_NS INT64_C(60000000000) // so much later than a change its time is on the disk, at the most: else a power cut shows an older one

struct state_file {
	struct env_file *file;
	struct state_header header; // the newest that is durable
	int newest;		    // its slot
	struct state_marks marks;
	struct state_note *note; // NULL: none
	int64_t seen_ns; // the image's ctime, for the next header
	bool broken; // a write or sync failed: what lies in the file is not known
	bool either; // another was to take its name, and it is not known for certain which of the two has it
};

const struct uuid state_no_cut = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

const char *sync_reason_name(enum sync_reason reason)
{
	static const char *const names[] = {
		NULL,		 "initial",	  "state-missing", "state-unreadable", "state-foreign",
		"unclean-stop",	 "image-changed", "position",	   "tracking-lost",    "resized",
		"replica-damaged", "tracking-doubt", "asked", "false-hole",
	};
	return names[reason];
}

bool sync_reason_whole(enum sync_reason reason)
{
	return reason != SYNC_NONE && reason != SYNC_UNCLEAN_STOP && reason != SYNC_REPLICA_DAMAGED && reason != SYNC_FALSE_HOLE;
}

// --- load ---

static bool times_same(const struct image_identity *a, const struct image_identity *b)
{
	return a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

// While a replicator ran, the image's times went on, and a disk that was being grown has its old size or the new one.
static bool image_same(const struct state_header *h, const struct image_identity *image, uint64_t size)
{
	if (image->inode != h->identity.inode)
		return false;
	if (h->phase == STATE_CLEAN)
		return size == h->size && image->size == h->identity.size && times_same(image, &h->identity);
	if (image->disturbed || (image->born_ns && image->born_ns > h->identity.ctime_ns))
		return false; // changed since by somebody else; or made since, and its inode's number used again
	if (image->times_tell && image->born_ns != h->identity.ctime_ns && image->ctime_ns < h->identity.ctime_ns - TIME_LAG_NS)
		return false; // taken back to how it was before; or the clock went back, and it was changed then. Of one that was ahead when the image was made, see running()
	return (size == h->size && (image->size == h->size || image->size == h->identity.size)) ||
	       (size < h->size && size == h->identity.size && image->size == size);
}

static bool header_is_of(const struct state_header *h, const char *disk, const struct state_position *expected)
{
	return uuid_equal(&h->position.protection, &expected->protection) && uuid_equal(&h->position.generation, &expected->generation) && strcmp(h->disk, disk) == 0;
}

// Everything that the header alone decides. SYNC_NONE and SYNC_UNCLEAN_STOP: the rest of the file has to be looked at.
static enum sync_reason header_judge(const struct state_header *h, const char *disk, const struct state_position *expected,
				     const struct image_identity *identity, uint64_t size)
{
	if (!header_is_of(h, disk, expected))
		return SYNC_STATE_FOREIGN;
	if (h->phase == STATE_LOST)
		return SYNC_TRACKING_LOST;
	if (!image_same(h, identity, size))
		return identity->inode == h->identity.inode && size > h->size ? SYNC_RESIZED : SYNC_IMAGE_CHANGED;
	return h->phase == STATE_CLEAN ? SYNC_NONE : SYNC_UNCLEAN_STOP;
}

// Whether all is there that the header speaks of.
static bool length_ok(struct env_file *file, const struct state_header *h)
{
	uint64_t size = 0;
	return env_size(file, &size) == 0 && size >= state_pages_at(h->size) + h->page_count * STATE_PAGE;
}

static bool map_load(struct env_file *file, const struct state_header *h, struct dirty *dirty)
{
	struct dirty loaded;
	if (dirty_init(&loaded, dirty->size))
		return false;
	bool good = state_map_load(file, h, &loaded);
	if (good)
		dirty_give(dirty, &loaded);
	dirty_done(&loaded);
	return good;
}

static enum sync_reason file_load(struct env_file *file, const char *disk, const struct state_position *expected,
				  const struct image_identity *identity, struct dirty *dirty, struct state_position *ret_position)
{
	struct state_header h;
	if (state_header_read(file, &h) < 0)
		return SYNC_STATE_UNREADABLE;
	enum sync_reason reason = header_judge(&h, disk, expected, identity, dirty->size);
	if (reason != SYNC_NONE && reason != SYNC_UNCLEAN_STOP)
		return reason;
	if (!length_ok(file, &h) || !(reason == SYNC_NONE ? map_load(file, &h, dirty) : state_marks_load(file, &h, dirty)))
		return SYNC_STATE_UNREADABLE;
	*ret_position = h.position;
	return reason;
}

enum sync_reason state_file_load(struct env_root *root, const char *name, const char *disk,
				 const struct state_position *expected, const struct image_identity *identity, bool is_new,
				 struct dirty *dirty, struct state_position *ret_position)
{
	if (is_new)
		return SYNC_INITIAL; // whatever is there, there is no point that it could be relative to
	struct env_file *file = NULL;
	int rc = env_open(root, name, ENV_READ, &file);
	if (rc)
		return rc == -ENOENT ? SYNC_STATE_MISSING : SYNC_STATE_UNREADABLE;
	enum sync_reason reason = file_load(file, disk, expected, identity, dirty, ret_position);
	env_close(file);
	return reason;
}

static bool header_of(struct env_root *root, const char *name, struct state_header *ret_header)
{
	struct env_file *file = NULL;
	if (env_open(root, name, ENV_READ, &file))
		return false;
	int slot = state_header_read(file, ret_header);
	env_close(file);
	return slot >= 0;
}

uint64_t state_file_run(struct env_root *root, const char *name)
{
	struct state_header h;
	return header_of(root, name, &h) ? h.run : 0;
}

bool state_file_told(struct env_root *root, const char *name, struct state_position *ret_position)
{
	struct state_header h;
	bool read = header_of(root, name, &h);
	if (read)
		*ret_position = h.position;
	return read;
}

// A clean stop may have found the image cut already. Else a growth may have been cut off between the file and the image.
uint64_t state_file_least_size(struct env_root *root, const char *name, const char *disk, const struct state_position *expected)
{
	struct state_header h;
	if (!header_of(root, name, &h) || !header_is_of(&h, disk, expected))
		return 0;
	return h.phase == STATE_CLEAN ? h.size : min_u64(h.size, h.identity.size);
}

bool state_file_noted(struct env_root *root, const char *name, const struct state_note_place *place, struct state_print *ret_print)
{
	struct env_file *file = NULL;
	struct state_header h;
	if (env_open(root, name, ENV_READ, &file))
		return false;
	struct state_print print = {0};
	bool noted = state_header_read(file, &h) >= 0 && state_marks_digest_of(file, &h, &print.marks);
	env_close(file);
	print.instance = h.instance;
	noted = noted && !state_note_against(place, &print, h.phase == STATE_CLEAN);
	if (noted)
		*ret_print = print;
	return noted;
}

static struct state_print print_of(const struct state_file *state)
{
	return (struct state_print){.instance = state->header.instance, .marks = state_marks_digest(state->marks.bytes, state->marks.sectors)};
}

// `tell`: state_note_next() before the file is changed, state_note_keep() once it is durable.
static void note_tell(const struct state_file *state, void (*tell)(struct state_note *note, const struct state_print *print))
{
	if (!state->note)
		return;
	const struct state_print print = print_of(state);
	tell(state->note, &print);
}

// --- a file as a whole ---

static int name_dir(const char *name, char dir[FILE_NAME_SIZE])
{
	const char *end = strrchr(name, '/');
	int len = snprintf(dir, FILE_NAME_SIZE, "%.*s", end ? (int)(end - name) : 1, end ? name : ".");
	return len < FILE_NAME_SIZE ? 0 : -ENAMETOOLONG;
}

static int name_new(const char *name, char temp[FILE_NAME_SIZE])
{
	return snprintf(temp, FILE_NAME_SIZE, "%s.new", name) < FILE_NAME_SIZE ? 0 : -ENAMETOOLONG;
}

// Both slots, the marks, and zeros up to where the map pages will lie.
static int content_write(struct state_file *state)
{
	static const unsigned char zero[STATE_PAGE];
	uint64_t marks_end = STATE_MARKS_AT + state_mark_sectors(state->header.size) * STATE_MARK_SECTOR;
	uint64_t end = state_pages_at(state->header.size);
	int rc = env_pwrite(state->file, zero, STATE_PAGE, 0);
	if (rc == 0)
		rc = env_pwrite(state->file, zero, STATE_PAGE, STATE_PAGE);
	for (int slot = 0; slot < 2 && rc == 0; slot++) {
		state->header.sequence++;
		rc = state_header_write(state->file, slot, &state->header);
		state->newest = slot;
	}
	if (rc == 0)
		rc = state_marks_write(&state->marks, state->file);
	if (rc == 0 && end > marks_end)
		rc = env_pwrite(state->file, zero, (size_t)(end - marks_end), marks_end);
	return rc ? rc : env_sync(state->file);
}

// The file lies at `name`.new, durable; its header, marks and handle are in `state`. Nothing else has changed.
static int file_prepare(struct env_root *root, const char *name, struct state_file *state)
{
	char temp[FILE_NAME_SIZE];
	int rc = name_new(name, temp);
	if (rc == 0)
		rc = env_unlink(root, temp); // left by a crash
	if (rc && rc != -ENOENT)
		return rc;
	rc = env_open(root, temp, ENV_CREATE, &state->file);
	return rc ? rc : content_write(state);
}

// It is what `name` stands for, durable. After a failure either file may be.
static int file_publish(struct env_root *root, const char *name, const struct state_file *state)
{
	char temp[FILE_NAME_SIZE], dir[FILE_NAME_SIZE];
	note_tell(state, state_note_next);
	int rc = name_new(name, temp);
	if (rc == 0)
		rc = name_dir(name, dir);
	if (rc == 0)
		rc = env_rename(root, temp, name);
	if (rc == 0)
		rc = env_sync_dir(root, dir);
	if (rc == 0)
		note_tell(state, state_note_keep);
	return rc;
}

// A state of its own for a file that has yet to be prepared: no region is marked.
static int state_new(struct env_root *root, const struct state_header *header, struct state_file **ret_state)
{
	struct state_file *state = calloc(1, sizeof(*state));
	if (!state)
		return -ENOMEM;
	state->header = *header;
	state->seen_ns = header->identity.ctime_ns;
	state->header.sequence = 0;
	state->header.phase = STATE_RUNS;
	int rc = uuid_new(root->env, &state->header.instance);
	if (rc == 0)
		rc = state_marks_init(&state->marks, header->size, &state->header.instance);
	if (rc)
		state_file_close(state);
	else
		*ret_state = state;
	return rc;
}

// Of a file that says `runs` the time of the last change is no earlier than the image's birth, whatever the clock did between: so an image that was
// born later is another one.
static struct image_identity running(const struct image_identity *identity)
{
	struct image_identity at_start = *identity;
	if (at_start.born_ns && at_start.born_ns > at_start.ctime_ns)
		at_start.ctime_ns = at_start.born_ns;
	return at_start;
}

int state_file_open_run(struct env_root *root, const char *name, const char *disk, const struct state_position *position,
			const struct image_identity *identity, const struct dirty *dirty, const struct state_run *run,
			struct state_file **ret_file, struct err *err)
{
	struct state_header h = {.position = *position, .run = run ? run->number : 0, .size = dirty->size, .identity = running(identity)};
	struct state_file *state = NULL;
	(void)snprintf(h.disk, sizeof(h.disk), "%s", disk);
	int rc = state_new(root, &h, &state);
	for (uint64_t r = 0; rc == 0 && r < dirty->regions; r++)
		if (dirty->region[r])
			state_marks_put(&state->marks, r, true);
	if (rc == 0) {
		state->note = run ? run->note : NULL;
		rc = file_prepare(root, name, state);
	}
	if (rc == 0)
		rc = file_publish(root, name, state);
	if (rc) {
		state_file_close(state);
		return err_sys(err, rc, "write the state file %s", name);
	}
	*ret_file = state;
	return 0;
}

// A file of another size in the place of `*file`: with its marks, and with all regions that reach past its end.
static int file_resize(struct state_file **file, struct env_root *root, const char *name, uint64_t size,
		       const struct image_identity *identity, struct err *err)
{
	struct state_file *old = *file, *new = NULL;
	struct state_header h = old->header;
	h.size = size;
	h.identity = running(identity);
	int rc = state_new(root, &h, &new);
	for (uint64_t r = 0; rc == 0 && r < new->marks.regions; r++)
		if (r >= old->header.size / REGION_SIZE || state_marks_has(&old->marks, r))
			state_marks_put(&new->marks, r, true);
	if (rc == 0)
		rc = file_prepare(root, name, new);
	if (rc == 0) {
		new->note = old->note;
		rc = file_publish(root, name, new);
		old->broken = old->either = rc != 0;
	}
	if (rc) {
		state_file_close(new);
		return err_sys(err, rc, "write the state file %s for %llu bytes", name, (unsigned long long)size);
	}
	state_file_close(old);
	*file = new;
	return 0;
}

int state_file_grow(struct state_file **file, struct env_root *root, const char *name, uint64_t new_size,
		    const struct image_identity *identity, struct err *err)
{
	const struct state_header *h = &(*file)->header;
	if ((*file)->broken)
		return err_set(err, -EIO, "the state file %s is broken: stop and start the replicator", name);
	if (!size_disk_ok(new_size) || new_size <= h->size)
		return err_set(err, -EINVAL, "disk %s of %llu bytes cannot grow to %llu", h->disk, (unsigned long long)h->size,
			       (unsigned long long)new_size);
	return file_resize(file, root, name, new_size, identity, err);
}

int state_file_ungrow(struct state_file **file, struct env_root *root, const char *name, uint64_t old_size,
		      const struct image_identity *identity, struct err *err)
{
	assert(size_disk_ok(old_size) && old_size < (*file)->header.size);
	if ((*file)->broken)
		return err_set(err, -EIO, "the state file %s is broken: stop and start the replicator", name);
	return file_resize(file, root, name, old_size, identity, err);
}

bool state_file_broken(const struct state_file *state)
{
	return state->broken;
}

// --- while it runs ---

// The end of a step: its error, after which the file is BROKEN (a failed sync is never tried again).
static int step_end(struct state_file *state, int rc, struct err *err)
{
	if (rc == 0)
		return 0;
	state->broken = true;
	return err_sys(err, rc, "write the state file of disk %s", state->header.disk);
}

static int refuse_broken(const struct state_file *state, struct err *err)
{
	return err_set(err, -EIO, "the state file of disk %s is broken since an earlier error", state->header.disk);
}

int state_file_marks(struct state_file *state, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears,
		     struct err *err)
{
	if (state->broken)
		return refuse_broken(state, err);
	uint64_t before = 0;
	for (size_t i = 0; i < sets; i++)
		before += state_marks_has(&state->marks, set[i]);
	for (size_t i = 0; i < clears; i++)
		state_marks_put(&state->marks, clear[i], false);
	for (size_t i = 0; i < sets; i++)
		state_marks_put(&state->marks, set[i], true);
	if (!state_marks_differ(&state->marks))
		return 0;
	note_tell(state, state_note_next);
	int rc = state_marks_write(&state->marks, state->file);
	if (rc == 0 && before < sets)
		rc = env_sync(state->file);
	if (rc == 0)
		note_tell(state, state_note_keep);
	return step_end(state, rc, err);
}

// Writes `h` with the next sequence into the slot that is not the newest. Only after the sync is it the newest.
static int header_step(struct state_file *state, struct state_header *h)
{
	int target = 1 - state->newest;
	h->sequence = state->header.sequence + 1;
	int rc = state_header_write(state->file, target, h);
	if (rc == 0)
		rc = env_sync(state->file);
	if (rc)
		return rc;
	state->header = *h;
	state->newest = target;
	return 0;
}

int state_file_position(struct state_file *state, const struct state_position *position, struct err *err)
{
	if (state->broken)
		return refuse_broken(state, err);
	struct state_header h = state->header;
	h.position = *position;
	h.identity.ctime_ns = state->seen_ns;
	return step_end(state, header_step(state, &h), err);
}

int state_file_grown(struct state_file *state, struct err *err)
{
	if (state->broken)
		return refuse_broken(state, err);
	struct state_header h = state->header;
	h.identity.size = h.size;
	return step_end(state, header_step(state, &h), err);
}

void state_file_saw(struct state_file *state, const struct image_identity *identity)
{
	state->seen_ns = running(identity).ctime_ns;
}

uint64_t state_file_marked(const struct state_file *state)
{
	return state->marks.marked;
}

// --- its end ---

int state_file_save(struct state_file *state, const struct state_position *position, const struct image_identity *identity,
		    const struct dirty *dirty, struct err *err)
{
	if (state->broken)
		return refuse_broken(state, err);
	struct state_header h = state->header;
	if (dirty->size != h.size)
		return err_set(err, -EINVAL, "the state file of disk %s is for %llu bytes, not for %llu", h.disk,
			       (unsigned long long)h.size, (unsigned long long)dirty->size);
	h.sequence++; // of the header that follows: the pages carry it
	h.position = *position;
	h.identity = *identity;
	h.phase = STATE_CLEAN;
	int rc = state_map_write(state->file, &h, dirty);
	if (rc == 0)
		rc = header_step(state, &h);
	if (rc == 0) // the same once more (S3): the pages are those of this sequence
		rc = state_header_write(state->file, 1 - state->newest, &h);
	if (rc == 0)
		rc = env_sync(state->file);
	return step_end(state, rc, err);
}

// Both slots say that nothing in the file counts, above whatever a failed write may have left there.
static int header_lose(struct env_file *file)
{
	enum { SEQUENCES_OF_A_FAILURE = 2 };
	struct state_header h;
	int rc = state_header_read(file, &h) < 0 ? -EBADMSG : 0;
	h.phase = STATE_LOST;
	h.page_count = 0;
	h.sequence += SEQUENCES_OF_A_FAILURE;
	for (int slot = 0; slot < 2 && rc == 0; slot++)
		rc = state_header_write(file, slot, &h);
	if (rc == 0)
		rc = env_sync(file);
	return rc;
}

static int file_lose(const struct state_file *state, struct env_root *root, const char *name)
{
	struct env_file *file = NULL;
	int rc = env_open(root, name, ENV_WRITE, &file);
	if (rc)
		return rc;
	rc = header_lose(file);
	env_close(file);
	if (rc == 0 && state && state->either)
		rc = header_lose(state->file);
	return rc;
}

int state_file_lose(struct state_file *state, struct env_root *root, const char *name, struct err *err)
{
	char dir[FILE_NAME_SIZE];
	if (state)
		state->broken = true;
	int rc = file_lose(state, root, name);
	if (rc == 0)
		return 0;
	rc = name_dir(name, dir);
	if (rc == 0)
		rc = env_unlink(root, name);
	if (rc == 0 || rc == -ENOENT)
		rc = env_sync_dir(root, dir);
	return rc ? err_sys(err, rc, "neither mark the state file %s as lost nor remove it", name) : 0;
}

void state_file_close(struct state_file *state)
{
	if (!state)
		return;
	env_close(state->file);
	state_marks_done(&state->marks);
	free(state);
}
