// SPDX-License-Identifier: Apache-2.0
#include "replicator/state_note.h"

#include "base/crc32c.h"
#include "base/cursor.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

// crc32c over all that follows, u32 0, u64 boot, two of: 16 bytes of instance, u64 marks. Written by one call: a death leaves all of it or nothing.
static_assert(STATE_NOTE_BYTES == 16 + 2 * (UUID_SIZE + 8), "the note's layout");

void state_noted_encode(const struct state_noted *noted, unsigned char bytes[STATE_NOTE_BYTES])
{
	struct cursor c = cursor_over(bytes, STATE_NOTE_BYTES);
	cursor_put_u32(&c, 0);
	cursor_put_u32(&c, 0);
	cursor_put_u64(&c, noted->boot);
	for (int i = 0; i < 2; i++) {
		cursor_put_bytes(&c, noted->print[i].instance.bytes, UUID_SIZE);
		cursor_put_u64(&c, noted->print[i].marks);
	}
	c = cursor_over(bytes, STATE_NOTE_BYTES);
	cursor_put_u32(&c, crc32c(bytes + 4, STATE_NOTE_BYTES - 4));
}

bool state_noted_decode(const unsigned char *bytes, size_t len, struct state_noted *ret_noted)
{
	if (len != STATE_NOTE_BYTES)
		return false;
	struct cursor c = cursor_reading(bytes, STATE_NOTE_BYTES);
	uint32_t crc = cursor_get_u32(&c), zero = cursor_get_u32(&c);
	ret_noted->boot = cursor_get_u64(&c);
	for (int i = 0; i < 2; i++) {
		cursor_get_bytes(&c, ret_noted->print[i].instance.bytes, UUID_SIZE);
		ret_noted->print[i].marks = cursor_get_u64(&c);
	}
	return crc == crc32c(bytes + 4, STATE_NOTE_BYTES - 4) && zero == 0;
}

static void name_of(const struct state_note_place *place, char name[2 * NAME_SIZE + 16])
{
	(void)snprintf(name, 2 * NAME_SIZE + 16, "state/%s:%s", place->protection, place->disk); // no name of ours has a colon
}

// 0, -ENOENT where there is none, -EBADMSG where it cannot be known what it says.
static int note_read(struct env_root *root, const char *name, struct state_noted *ret_noted)
{
	unsigned char bytes[STATE_NOTE_BYTES];
	struct env_file *file = NULL;
	uint64_t size = 0;
	int rc = env_open(root, name, ENV_READ, &file);
	if (rc)
		return rc == -ENOENT ? rc : -EBADMSG;
	bool good = env_size(file, &size) == 0 && size == STATE_NOTE_BYTES && env_pread_full(file, bytes, sizeof(bytes), 0) == 0 &&
		    state_noted_decode(bytes, sizeof(bytes), ret_noted);
	env_close(file);
	return good ? 0 : -EBADMSG;
}

static bool names(const struct state_print *noted, const struct state_print *print, bool clean)
{
	return uuid_equal(&noted->instance, &print->instance) && (clean || noted->marks == print->marks);
}

bool state_note_against(const struct state_note_place *place, const struct state_print *print, bool clean)
{
	char name[2 * NAME_SIZE + 16];
	struct env_root *root = NULL;
	struct state_noted noted;
	name_of(place, name);
	int rc = env_root_open(place->env, place->run_dir, &root);
	if (rc == 0)
		rc = note_read(root, name, &noted);
	env_root_close(root);
	if (rc)
		return rc != -ENOENT;
	return noted.boot == place->boot && !names(&noted.print[0], print, clean) && !names(&noted.print[1], print, clean);
}

static int note_write(struct state_note *note, const struct state_print *next)
{
	unsigned char bytes[STATE_NOTE_BYTES];
	state_noted_encode(&(struct state_noted){.boot = note->boot, .print = {note->now, *next}}, bytes);
	return env_pwrite(note->file, bytes, sizeof(bytes), 0);
}

// K2
static int give_up(struct state_note *note)
{
	int rc = env_unlink(note->root, note->name);
	state_note_close(note);
	return rc == -ENOENT ? 0 : rc;
}

// Once: there is no note from here on.
static void give_up_said(struct state_note *note, int why)
{
	if (give_up(note) == 0)
		log_warning("the note of a state file cannot be written, and was removed: until the next start of the replicator, a state directory that is brought back "
			    "from a copy would be believed; see whether the run directory is full note=%s: %s",
			    note->name, strerror(-why));
	else
		log_warning("the note of a state file can be neither written nor removed, and is wrong now: the next start compares the whole disk unless it is gone; see "
			    "to the run directory, and remove it note=%s: %s",
			    note->name, strerror(-why));
}

// The older note is read before its file is written to: what it names the state file still is.
static int file_open(struct state_note *note, const struct state_print *found)
{
	struct state_noted noted;
	int rc = env_mkdir(note->root, "state");
	if (rc && rc != -EEXIST)
		return rc;
	rc = note_read(note->root, note->name, &noted);
	if (rc == 0 && noted.boot == note->boot) {
		note->now = uuid_is_zero(&found->instance) ? noted.print[0] : *found;
		return env_open(note->root, note->name, ENV_WRITE, &note->file);
	}
	if (rc != -ENOENT)
		(void)env_unlink(note->root, note->name);
	return 0; // made with the first keep
}

int state_note_open(struct state_note *note, const struct state_note_place *place, const struct state_print *found, struct err *err)
{
	*note = (struct state_note){.boot = place->boot};
	name_of(place, note->name);
	int rc = env_root_open(place->env, place->run_dir, &note->root);
	if (rc == 0)
		rc = file_open(note, found);
	if (rc == 0)
		return 0;
	(void)err_sys(err, rc, "make the note %s/%s", place->run_dir, note->name);
	if (note->root)
		(void)give_up(note);
	return rc;
}

void state_note_next(struct state_note *note, const struct state_print *print)
{
	int rc = note->file ? note_write(note, print) : 0;
	if (rc)
		give_up_said(note, rc);
}

void state_note_keep(struct state_note *note, const struct state_print *print)
{
	if (!note->root)
		return;
	note->now = *print;
	int rc = note->file ? 0 : env_open(note->root, note->name, ENV_CREATE, &note->file);
	if (rc == 0)
		rc = note_write(note, print);
	if (rc)
		give_up_said(note, rc);
}

void state_note_close(struct state_note *note)
{
	env_close(note->file);
	env_root_close(note->root);
	note->file = NULL;
	note->root = NULL;
}
