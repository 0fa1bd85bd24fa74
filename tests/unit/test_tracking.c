// SPDX-License-Identifier: Apache-2.0
// What a protection's state files say at each moment that a kill may come: invariants T1 to T5 of protection_tracking.h.
#include "replicator/lease.h"
#include "replicator/lost_note.h"
#include "replicator/protection_look.h"
#include "replicator/protection_private.h"
#include "tests/lib/file_limit.h"
#include "tests/lib/page_cache.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 64 << 20 };

static struct temp temp;
static char image_path[512], socket_path[512];
static struct protection *p;
static unsigned disks = 1;
static struct lease *lease; // NULL: none is kept, nor a note of rest

static void image_make(void)
{
	char path[sizeof(image_path) + 8];
	(void)snprintf(image_path, sizeof(image_path), "%s/image", temp.dir);
	for (unsigned i = 0; i < disks; i++) {
		(void)snprintf(path, sizeof(path), "%s%s", image_path, i ? ".vdb" : "");
		int fd = open(path, O_CREAT | O_RDWR, 0600);
		assert_true(fd >= 0);
		assert_int_equal(ftruncate(fd, SIZE), 0);
		(void)close(fd);
	}
}

// A protection of one disk, or two, up to where its export would start.
static int begin(bool is_new, struct err *err)
{
	p = calloc(1, sizeof(*p));
	p->place = (struct protection_place){.env = env_posix(), .state = temp.root, .state_dir = temp.dir, .run_dir = temp.dir, .lease = lease};
	(void)snprintf(p->config.name, NAME_SIZE, "vm1");
	(void)snprintf(p->config.disk[0].name, NAME_SIZE, "vda");
	(void)snprintf(p->config.disk[1].name, NAME_SIZE, "vdb");
	p->config.disk_count = (uint16_t)disks;
	p->config.uuid.bytes[0] = 1;
	p->config.generation.bytes[0] = 2;
	p->nowhere.bytes[0] = 99;
	(void)pthread_mutex_init(&p->lock, NULL);
	tracking_init(p);
	doubt_init(p);
	(void)snprintf(socket_path, sizeof(socket_path), "%s/s", temp.dir);
	static struct export_config config;
	config = (struct export_config){.protection = "vm1", .socket_path = socket_path, .run_dir = lease ? temp.dir : NULL, .disk_count = (uint16_t)disks};
	static char second[sizeof(image_path) + 8];
	(void)snprintf(second, sizeof(second), "%s.vdb", image_path);
	(void)snprintf(config.disk[0].name, NAME_SIZE, "vda");
	(void)snprintf(config.disk[1].name, NAME_SIZE, "vdb");
	config.disk[0].path = image_path;
	config.disk[1].path = second;
	assert_int_equal(export_open(&config, &p->export, err), 0);
	return tracking_load(p, is_new, err);
}

static void end(void) // as a kill ends it
{
	if (!p)
		return;
	tracking_done(p);
	doubt_done(p);
	export_close(p->export);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
	p = NULL;
}

static struct uuid cut_of(unsigned char n)
{
	return (struct uuid){.bytes = {n, 7}};
}

// A committed point `n`, as the cycle thread goes about it.
static void commit(unsigned char n)
{
	p->position.point = n;
	p->position.last_cut = cut_of(n);
	memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	p->position_known = true;
	p->sync = SYNC_NONE;
	tracking_position(p, SYNC_NONE);
}

static int set_up(void **state)
{
	(void)state;
	temp_open(&temp);
	image_make();
	assert_int_equal(env_mkdir(temp.root, "protections"), 0);
	assert_int_equal(env_mkdir(temp.root, "protections/vm1"), 0);
	struct err err = {0};
	assert_int_equal(begin(true, &err), 0);
	assert_int_equal(p->sync, SYNC_INITIAL);
	return 0;
}

static int set_up_two(void **state)
{
	disks = 2;
	return set_up(state);
}

static int tear_down(void **state)
{
	(void)state;
	disks = 1;
	end();
	temp_close(&temp);
	return 0;
}

static void restart(enum sync_reason expected)
{
	struct err err = {0};
	end();
	assert_int_equal(begin(false, &err), 0);
	assert_int_equal(p->sync, expected);
	assert_int_equal(p->tracking[0].sync, expected);
}

static void restart_owing(enum sync_reason found, enum sync_reason owed)
{
	struct err err = {0};
	end();
	assert_int_equal(begin(false, &err), 0);
	assert_int_equal(p->tracking[0].sync, found);
	assert_int_equal(p->sync, owed);
}

static void clear_all_but(uint64_t keep)
{
	uint64_t region[SIZE / REGION_SIZE];
	size_t count = 0;
	for (uint64_t r = 0; r < SIZE / REGION_SIZE; r++)
		if (r != keep)
			region[count++] = r;
	assert_int_equal(tracking_commit(p, 0, NULL, 0, region, count, NULL), 0);
}

static void kill_costs_the_marked_regions_and_no_more(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	uint64_t region = 9;
	assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, NULL), 0);
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 2 * REGION_SIZE);
	assert_int_equal(dirty_region_blocks(export_dirty(p->export, 0), 3), UINT64_MAX);
	assert_int_equal(dirty_region_blocks(export_dirty(p->export, 0), 9), UINT64_MAX);
	struct uuid cut = cut_of(5);
	assert_true(uuid_equal(&p->position.last_cut, &cut));
	assert_int_equal(p->position.point, 5);
}

// T2: otherwise a kill between SEAL and its answer makes the receiver's point an unknown one, and costs the whole disk.
static void cut_that_is_sealed_is_known_after_a_kill(void **state)
{
	(void)state;
	commit(5);
	struct uuid cut = cut_of(6), last = cut_of(5);
	tracking_seal(p, &cut);
	restart(SYNC_UNCLEAN_STOP);
	assert_true(uuid_equal(&p->position.pending_cut, &cut));
	assert_true(uuid_equal(&p->position.last_cut, &last));
	assert_false(p->sealed_here); // not by this process: what this start found stands
}

// T1: the maps hold everything, the marks do not. A file that named the receiver's point would hide the rest from the next start.
static void file_names_no_cut_while_the_maps_hold_more_than_the_marks(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	p->uncovered = true;
	p->position.last_cut = cut_of(8); // what the receiver was found at
	struct uuid sealed = cut_of(9), found = cut_of(8);
	tracking_seal(p, &sealed);
	restart(SYNC_UNCLEAN_STOP);
	assert_false(uuid_equal(&p->position.last_cut, &found));
	assert_false(uuid_is_zero(&p->position.last_cut)); // an empty receiver is at this one
	assert_true(uuid_equal(&p->position.pending_cut, &sealed));
}

static void mark_that_cannot_be_made_loses_tracking_and_the_next_start_compares_all(void **state)
{
	(void)state;
	struct err err = {0};
	uint64_t region = 9;
	commit(5);
	clear_all_but(3);
	limit_files(0);
	int rc = tracking_commit(p, 0, &region, 1, NULL, 0, &err);
	limit_files(RLIM_INFINITY);
	assert_true(rc < 0);
	assert_true(p->tracking[0].lost);
	assert_non_null(strstr(p->tracking[0].lost_why, "since 20"));
	assert_int_equal(p->doubt.lost, 1);
	assert_int_equal(p->doubt.in_file, p->tracking[0].lost_in_file);
	assert_true(tracking_commit(p, 0, &region, 1, NULL, 0, &err) < 0); // and stays so
	commit(6);
	assert_true(tracking_save(p, &err) < 0); // nor does a clean stop mend it
	struct err fresh = {0};
	end();
	assert_int_equal(begin(false, &fresh), 0);
	assert_true(p->sync == SYNC_TRACKING_LOST || p->sync == SYNC_STATE_MISSING);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
	commit(7);
	restart(SYNC_UNCLEAN_STOP); // it is sound again
}

static void position_that_cannot_be_written_loses_tracking(void **state)
{
	(void)state;
	commit(5);
	limit_files(0);
	commit(6);
	limit_files(RLIM_INFINITY);
	assert_true(p->tracking[0].lost);
	struct err err = {0};
	end();
	assert_int_equal(begin(false, &err), 0);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
}

static void note_alone_makes_the_next_start_compare_all_and_goes_with_it(void **state)
{
	(void)state;
	struct err err = {0};
	commit(5);
	clear_all_but(3);
	assert_false(lost_note_stands(env_posix(), temp.dir, "vm1", "vda"));
	assert_int_equal(lost_note_write(env_posix(), temp.dir, "vm1", "vda", "the disk died", &err), 0);
	assert_true(lost_note_stands(env_posix(), temp.dir, "vm1", "vda"));
	restart(SYNC_TRACKING_LOST);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
	assert_false(lost_note_stands(env_posix(), temp.dir, "vm1", "vda"));
	assert_true(lost_note_stands(env_posix(), image_path, "vm1", "vda")); // no directory: what cannot be asked stands
}

// As on a run directory that is full: a name takes no room.
static void note_that_has_no_room_for_its_text_stands(void **state)
{
	(void)state;
	struct err err = {0};
	struct stat st;
	char path[600];
	commit(5);
	clear_all_but(3);
	limit_files(0);
	int rc = lost_note_write(env_posix(), temp.dir, "vm1", "vda", "the disk died", &err);
	limit_files(RLIM_INFINITY);
	assert_int_equal(rc, 0);
	(void)snprintf(path, sizeof(path), "%s/lost/vm1:vda", temp.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 0);
	restart(SYNC_TRACKING_LOST);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
}

static void stop_tries_once_more_to_note_what_nothing_says_and_tells_what_to_do(void **state)
{
	(void)state;
	struct err err = {0};
	commit(5);
	p->place.run_dir = image_path; // no directory
	tracking_lose(p, 0, "the disk died");
	assert_true(p->tracking[0].lost && !p->tracking[0].lost_in_note);
	p->tracking[0].lost_in_file = false; // as on a state directory that takes nothing
	assert_int_equal(tracking_save(p, &err), -EIO);
	assert_non_null(strstr(err.text, "remove protections/vm1/vda.state from the state directory before the next start"));
	p->place.run_dir = temp.dir;
	assert_int_equal(tracking_save(p, &err), -EIO);
	assert_string_equal(err.text, "the tracking of disk vda is lost: look at the state directory");
	assert_true(p->tracking[0].lost_in_note && lost_note_stands(env_posix(), temp.dir, "vm1", "vda"));
	lost_note_remove(env_posix(), temp.dir, "vm1", "vda");
	p->tracking[0].lost_in_note = false;
	tracking_tell_lost(p); // as a stop that is not clean for another reason
	assert_true(lost_note_stands(env_posix(), temp.dir, "vm1", "vda"));
}

// T4: as when the marker's thread is inside of a write that does not end, with the disk's lock.
static void disk_whose_state_directory_hangs_is_noted_without_its_lock(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	struct uuid cut = cut_of(5);
	assert_int_equal(pthread_mutex_lock(&p->tracking[0].lock), 0);
	tracking_note(p, 0, "the state directory has not answered for 5 s");
	assert_true(lost_note_stands(env_posix(), temp.dir, "vm1", "vda"));
	commit(6); // the cycle thread goes on
	struct err err = {0};
	assert_int_equal(tracking_grow(p, 0, 2 * SIZE, &err), -EIO);
	(void)pthread_mutex_unlock(&p->tracking[0].lock);
	restart(SYNC_TRACKING_LOST); // a kill before the file could say so
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
	assert_false(uuid_equal(&p->position.last_cut, &cut));
}

static void disk_whose_state_directory_answers_again_is_lost_in_its_file_too(void **state)
{
	(void)state;
	for (unsigned way = 0; way < 2; way++) {
		struct err err = {0};
		uint64_t region = 9;
		commit(5);
		tracking_note(p, 0, "the state directory has not answered for 5 s");
		if (way == 0) // the herald's turn comes, or before it another commit's
			tracking_lose(p, 0, "the state directory has not answered for 5 s");
		else
			assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, &err), -EIO);
		assert_true(p->tracking[0].lost);
		assert_non_null(strstr(p->tracking[0].lost_why, "the state directory has not answered for "));
		lost_note_remove(env_posix(), temp.dir, "vm1", "vda"); // as a reboot does
		restart(SYNC_TRACKING_LOST);
	}
}

// ---- forsaken: nobody is there to write the note

static const struct env_ops *real_ops;

static int sync_that_takes_too_long(struct env_file *file)
{
	tracking_forsake(p, 0);
	return real_ops->sync(file);
}

// B1: writes went by while the commit was out, and no batch comes after it that could find the disk forsaken.
static void disk_forsaken_while_a_commit_is_out_that_ends_well_is_lost(void **state)
{
	(void)state;
	struct err err = {0};
	uint64_t region = 9;
	commit(5);
	clear_all_but(3);
	real_ops = env_posix()->ops;
	struct env_ops late = *real_ops;
	late.sync = sync_that_takes_too_long;
	env_posix()->ops = &late;
	int rc = tracking_commit(p, 0, &region, 1, NULL, 0, &err);
	env_posix()->ops = real_ops;
	assert_int_equal(rc, -EIO);
	assert_true(p->tracking[0].lost && p->tracking[0].lost_in_file);
	restart(SYNC_TRACKING_LOST);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
}

// The commit had looked already when the disk was forsaken.
static void disk_forsaken_as_a_commit_ended_is_lost_by_whoever_comes_next(void **state)
{
	(void)state;
	for (unsigned who = 0; who < 3; who++) {
		struct err err = {0};
		commit(5);
		clear_all_but(3);
		tracking_forsake(p, 0);
		assert_false(p->tracking[0].lost);
		if (who == 0)
			tracking_look(p);
		else if (who == 1)
			assert_int_equal(tracking_save(p, &err), -EIO);
		else
			tracking_abandon(p);
		assert_true(p->tracking[0].lost);
		restart(SYNC_TRACKING_LOST);
		assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
	}
}

// ---- notes of state

#define STATE_FILE "protections/vm1/vda.state"

static void copy(const char *from, const char *to)
{
	char *data = NULL;
	size_t len = 0;
	assert_int_equal(env_read_file(temp.root, from, 1 << 20, &data, &len), 0);
	assert_int_equal(env_replace(temp.root, "protections/vm1", to, data, len), 0);
	free(data);
}

static void stop_in_order(void)
{
	struct err err = {0};
	if (tracking_save(p, &err))
		fail_msg("%s", err.text);
}

static struct stat synced_file; // whose syncs, with its times, are looked at
static unsigned synced_times;
static int sync_code;

// In the place of the C library's.
int fsync(int fd)
{
	struct stat st;
	bool ours = synced_file.st_ino && fstat(fd, &st) == 0 && st.st_dev == synced_file.st_dev && st.st_ino == synced_file.st_ino;
	synced_times += ours;
	errno = sync_code;
	return ours && sync_code ? -1 : (int)syscall(SYS_fsync, fd);
}

// The header has the times of the image, and a sync of data leaves those in memory: a power cut would take the image back to others, and all of it be compared.
static void b5_clean_stop_has_the_times_of_the_image_on_the_disk(void **state)
{
	struct err err = {0};
	(void)state;
	commit(5);
	clear_all_but(3);
	assert_int_equal(stat(image_path, &synced_file), 0);
	synced_times = 0;
	sync_code = EIO; // then nobody knows what is there: it was no clean stop
	int rc = tracking_save(p, &err);
	sync_code = 0;
	assert_int_equal(rc, -EIO);
	assert_int_equal(synced_times, 1);
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), REGION_SIZE);
	commit(6);
	stop_in_order();
	assert_int_equal(synced_times, 2);
	synced_file = (struct stat){0};
	restart(SYNC_NONE);
}

// The copy is sound, and lacks a region that was marked since.
static void state_that_was_brought_back_from_a_copy_of_the_same_run_is_seen(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		uint64_t region = 9;
		commit(5);
		clear_all_but(3);
		copy(STATE_FILE, "protections/vm1/copy");
		assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, NULL), 0);
		if (way == 1)
			stop_in_order();
		if (way == 2) // a later run, too: of which nothing was marked
			restart(SYNC_UNCLEAN_STOP);
		copy("protections/vm1/copy", STATE_FILE);
		restart(SYNC_STATE_FOREIGN);
		assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
		commit(6);
		clear_all_but(3);
		restart(SYNC_UNCLEAN_STOP); // it is the file that the note has again
	}
}

// What the copy says is what the file said.
static void state_that_was_brought_back_as_it_was_counts(void **state)
{
	(void)state;
	uint64_t region = 9;
	commit(5);
	clear_all_but(3);
	assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, NULL), 0);
	copy(STATE_FILE, "protections/vm1/copy");
	commit(6); // a position is the receiver's matter
	copy("protections/vm1/copy", STATE_FILE);
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 2 * REGION_SIZE);
	commit(7);
	stop_in_order();
	restart(SYNC_NONE);
}

static void note_of_state_that_is_damaged_is_against_every_file_and_one_of_another_boot_against_none(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	assert_int_equal(env_replace(temp.root, "state", "state/vm1:vda", "KAGAMI", 6), 0);
	restart(SYNC_STATE_FOREIGN);
	commit(6);
	clear_all_but(3);
	copy(STATE_FILE, "protections/vm1/copy");
	uint64_t region = 9;
	assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, NULL), 0);
	copy("protections/vm1/copy", STATE_FILE);
	assert_int_equal(env_unlink(temp.root, "state/vm1:vda"), 0); // as a reboot does: it cannot be seen
	restart(SYNC_UNCLEAN_STOP);
	const struct state_note_place place = {.env = env_posix(), .run_dir = temp.dir, .boot = 0, .protection = "vm1", .disk = "vda"};
	struct state_note_place later = place;
	const struct state_print other = {.marks = 1};
	later.boot = 1;
	assert_true(state_note_against(&place, &other, false));
	assert_false(state_note_against(&later, &other, false));
}

static void kill_between_the_note_and_the_file_leaves_both_good(void **state)
{
	(void)state;
	const struct state_note_place place = {.env = env_posix(), .run_dir = temp.dir, .protection = "vm7", .disk = "vda"};
	const struct state_print a = {.instance = {{1}}, .marks = 10}, b = {.instance = {{1}}, .marks = 11}, c = {.instance = {{2}}, .marks = 11};
	struct state_note note;
	struct err err = {0};
	assert_int_equal(state_note_open(&note, &place, &(struct state_print){.marks = 0}, &err), 0);
	state_note_next(&note, &a);
	assert_false(state_note_against(&place, &c, false)); // nothing was kept yet: there is none
	state_note_keep(&note, &a);
	assert_false(state_note_against(&place, &a, false));
	assert_true(state_note_against(&place, &b, false));
	assert_false(state_note_against(&place, &b, true)); // its map counts
	assert_true(state_note_against(&place, &c, true));
	state_note_next(&note, &b);
	state_note_close(&note);
	assert_false(state_note_against(&place, &a, false));
	assert_false(state_note_against(&place, &b, false));
	assert_int_equal(state_note_open(&note, &place, &a, &err), 0); // by the next start, which took the file as `a`
	state_note_next(&note, &c);
	assert_false(state_note_against(&place, &a, false));
	assert_false(state_note_against(&place, &c, false));
	assert_true(state_note_against(&place, &b, false));
	state_note_keep(&note, &c);
	state_note_close(&note);
	assert_true(state_note_against(&place, &a, false));
}

// What a kill just before the state file gets its name leaves of its note.
static unsigned char note_then[STATE_NOTE_BYTES];

static void note_read_now(unsigned char bytes[STATE_NOTE_BYTES])
{
	char *data = NULL;
	size_t len = 0;
	assert_int_equal(env_read_file(temp.root, "state/vm1:vda", 100, &data, &len), 0);
	assert_int_equal(len, STATE_NOTE_BYTES);
	memcpy(bytes, data, len);
	free(data);
}

static int on_rename(struct env_root *root, const char *from, const char *to)
{
	if (strcmp(to, STATE_FILE) == 0)
		note_read_now(note_then);
	return env_posix()->ops->rename(root, from, to);
}

// Killed after the marks were written and before the note said so; and the next start before its file has the name.
static void two_kills_each_before_the_note_is_kept_cost_the_marked_regions_alone(void **state)
{
	(void)state;
	struct env_ops watched_ops = *env_posix()->ops;
	struct env watched = {.ops = &watched_ops}, *own = temp.root->env;
	unsigned char before[STATE_NOTE_BYTES], after[STATE_NOTE_BYTES];
	struct state_noted noted, kept;
	uint64_t region = 9;
	commit(5);
	clear_all_but(3);
	note_read_now(before);
	assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, NULL), 0);
	note_read_now(after);
	assert_true(state_noted_decode(before, sizeof(before), &noted) && state_noted_decode(after, sizeof(after), &kept));
	noted.print[1] = kept.print[0];
	state_noted_encode(&noted, before);
	assert_int_equal(env_replace(temp.root, "state", "state/vm1:vda", before, sizeof(before)), 0);
	copy(STATE_FILE, "protections/vm1/copy");

	watched_ops.rename = on_rename;
	temp.root->env = &watched;
	restart(SYNC_UNCLEAN_STOP);
	temp.root->env = own;
	copy("protections/vm1/copy", STATE_FILE);
	assert_int_equal(env_replace(temp.root, "state", "state/vm1:vda", note_then, sizeof(note_then)), 0);
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 2 * REGION_SIZE);
}

enum { FAR = 60 << 20 };

static size_t cached_at(off_t off)
{
	return page_cache_bytes(image_path, off, 1 << 20);
}

// Bytes of the image's first MiB, and of the one at `FAR`, that are in the page cache.
static size_t cached_bytes(void)
{
	return cached_at(0) + cached_at(FAR);
}

// The two are on the disk and in the cache. False: its file system keeps no other copy than the cache (tmpfs).
static bool image_fill_cache(void)
{
	static char content[1 << 20];
	memset(content, 7, sizeof(content));
	int fd = open(image_path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, content, sizeof(content), 0), sizeof(content));
	assert_int_equal(pwrite(fd, content, sizeof(content), FAR), sizeof(content));
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	bool leaves = cached_bytes() == 0;
	assert_int_equal(pread(fd, content, sizeof(content), 0), sizeof(content));
	assert_int_equal(pread(fd, content, sizeof(content), FAR), sizeof(content));
	(void)close(fd);
	return leaves;
}

// Between the two. Nobody syncs it.
static void write_much(void)
{
	int fd = open(image_path, O_RDWR);
	assert_true(fd >= 0);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(pwrite(fd, "m", 1, (1 << 20) + i * INT64_C(28672)), 1);
	(void)close(fd);
}

// A kill, and a start that leaves the cache as it is, since something waits to be written.
static void restart_over_much(void)
{
	commit(5);
	if (!image_fill_cache())
		skip();
	write_much();
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(cached_bytes(), 2 << 20);
}

// After a failed sync of the process before, the cache may hold what no disk has: comparing that would find no difference (B1, G2).
static void start_after_a_kill_compares_what_is_on_the_disk_and_not_the_cache(void **state)
{
	(void)state;
	struct err err = {0};
	commit(5);
	if (!image_fill_cache())
		skip();
	assert_int_equal(cached_bytes(), 2 << 20);
	restart(SYNC_UNCLEAN_STOP);
	assert_true(p->stale == 1 || cached_bytes() == 0); // before it is served, where the kernel tells that nothing is to be written
	assert_int_equal(images_fresh(p, &err), 0);
	assert_int_equal(cached_bytes(), 0);
	assert_int_equal(p->stale, 0);
}

// What waits to be written is on its way to the disk before: that takes as long as the disk needs, and the guest does not wait for it.
static void cache_of_which_something_is_to_be_written_is_dropped_when_it_is_served(void **state)
{
	(void)state;
	struct err err = {0};
	restart_over_much();
	assert_int_equal(p->stale, 1);
	p->stop = true;
	assert_int_equal(images_fresh(p, &err), -ECANCELED);
	p->stop = false;
	p->paused = true;
	assert_int_equal(images_fresh(p, &err), -ECANCELED);
	p->paused = false;
	p->held = true;
	assert_int_equal(images_fresh(p, &err), -ECANCELED);
	p->held = false;
	assert_int_equal(p->stale, 1);
	assert_int_equal(images_fresh(p, &err), 0);
	assert_int_equal(cached_bytes(), 0);
	assert_int_equal(p->stale, 0);
}

static void all_of_a_large_disk_is_dropped(void **state)
{
	(void)state;
	struct err err = {0};
	const off_t end_at = INT64_C(5) << 29, far = end_at - (100 << 20);
	end();
	assert_int_equal(truncate(image_path, end_at), 0);
	assert_int_equal(begin(true, &err), 0);
	commit(5);
	if (!image_fill_cache())
		skip();
	write_much();
	int fd = open(image_path, O_RDONLY);
	char byte;
	assert_int_equal(pread(fd, &byte, 1, far), 1);
	(void)close(fd);
	assert_true(cached_at(far) > 0);
	restart(SYNC_UNCLEAN_STOP);
	assert_true(cached_at(far) > 0);
	assert_int_equal(images_fresh(p, &err), 0);
	assert_int_equal(cached_at(far) + cached_bytes(), 0);
}

// Nothing was compared yet: the start behind a stop in order believes the cache.
static void stop_in_order_before_that_leaves_no_cache(void **state)
{
	(void)state;
	restart_over_much();
	stop_in_order();
	assert_int_equal(cached_bytes(), 0);
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		(void)close(fd);
	return done;
}

// In a process for which the host came up a moment ago: what a start finds there, or -1 where there are no such processes.
static int sync_after_a_reboot(void)
{
	pid_t outer = fork();
	if (outer == 0) {
		struct timespec up;
		char offset[64];
		(void)clock_gettime(CLOCK_BOOTTIME, &up);
		(void)snprintf(offset, sizeof(offset), "boottime -%lld 0\n", (long long)up.tv_sec);
		if (unshare(CLONE_NEWTIME) < 0 || !write_text("/proc/self/timens_offsets", offset))
			_exit(99);
		pid_t inner = fork(); // the first that is in it
		if (inner == 0) {
			struct err err = {0};
			_exit(begin(false, &err) == 0 ? (int)p->tracking[0].sync : 98);
		}
		int status;
		_exit(waitpid(inner, &status, 0) == inner && WIFEXITED(status) ? WEXITSTATUS(status) : 97);
	}
	int status;
	assert_true(waitpid(outer, &status, 0) == outer && WIFEXITED(status));
	return WEXITSTATUS(status) == 99 ? -1 : WEXITSTATUS(status);
}

static void run_lives_and_dies(struct lease *own)
{
	struct err err = {0};
	lease = own;
	assert_int_equal(lease_begin(lease, temp.root, &err), 0);
	assert_int_equal(lease_renew(lease, &err), 0);
	assert_int_equal(begin(false, &err), 0);
	commit(5);
	clear_all_but(3);
	end();
	lease_end(lease);
}

// Else it would say `runs` for a run that lives on and serves it not: what others write from then on would pass for the agent's own.
static void start_that_came_to_nothing_leaves_a_file_that_says_so(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	restart(SYNC_UNCLEAN_STOP);
	tracking_abandon(p);
	restart_owing(SYNC_NONE, SYNC_UNCLEAN_STOP); // region 3 is in the map
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), REGION_SIZE);
	limit_files(0);
	tracking_abandon(p);
	limit_files(RLIM_INFINITY);
	struct err err = {0};
	end();
	assert_int_equal(begin(false, &err), 0);
	assert_true(p->sync == SYNC_TRACKING_LOST || p->sync == SYNC_STATE_MISSING);
	commit(6);
	end();
	struct protection_place place = {.env = env_posix(), .state = temp.root, .run_dir = temp.dir};
	static struct protection_config config = {.name = "vm1", .disk_count = 1, .disk = {{.name = "vda"}}};
	tracking_disown(&place, &config);
	assert_int_equal(begin(false, &err), 0);
	assert_int_equal(p->sync, SYNC_TRACKING_LOST);
}

// The image is not the one that was left: it has another time.
static void image_change(void)
{
	int fd = open(image_path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, (const struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 1}}), 0);
	(void)close(fd);
}

// B5: whoever comes to no point hands the reason on with its map.
static void b5_sync_that_a_start_did_not_come_to_is_the_next_ones_by_its_reason(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		commit(5);
		clear_all_but(3);
		dirty_reset(export_dirty(p->export, 0));
		stop_in_order();
		end();
		image_change();
		struct err err = {0};
		assert_int_equal(begin(false, &err), 0);
		assert_int_equal(p->sync, SYNC_IMAGE_CHANGED);
		if (way == 0)
			stop_in_order();
		if (way == 1)
			tracking_abandon(p);
		restart_owing(way < 2 ? SYNC_NONE : SYNC_UNCLEAN_STOP, SYNC_IMAGE_CHANGED);
		assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
		assert_false(p->position_known); // whatever the receiver is at, it is compared for this reason
		stop_in_order();
		restart_owing(SYNC_NONE, SYNC_IMAGE_CHANGED); // and the one after it
	}
	commit(6);
	stop_in_order();
	restart(SYNC_NONE);
}

static void b5_unclean_stop_that_a_start_did_not_come_to_is_no_clean_one(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	restart(SYNC_UNCLEAN_STOP);
	tracking_abandon(p);
	restart_owing(SYNC_NONE, SYNC_UNCLEAN_STOP);
	assert_true(p->position_known);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), REGION_SIZE);
	tracking_seal(p, &(struct uuid){{6, 7}}); // before its point is committed
	stop_in_order();
	restart_owing(SYNC_NONE, SYNC_UNCLEAN_STOP);
	commit(6);
	restart(SYNC_UNCLEAN_STOP); // one of its own
	commit(7);
	stop_in_order();
	restart(SYNC_NONE);
}

// A false hole has no mark, and what the receiver damaged it says again: a kill costs what is marked, and that names it.
static void b5_what_is_owed_for_a_part_does_not_name_the_sync_after_a_kill(void **state)
{
	(void)state;
	commit(5);
	clear_all_but(3);
	p->sync = SYNC_REPLICA_DAMAGED;
	stop_in_order();
	restart_owing(SYNC_NONE, SYNC_REPLICA_DAMAGED);
	restart_owing(SYNC_UNCLEAN_STOP, SYNC_UNCLEAN_STOP);
}

// One header names the point that ended the sync, the other was not written any more.
static void b5_sync_that_ended_with_a_point_is_not_owed_by_the_disk_a_step_behind(void **state)
{
	(void)state;
	for (unsigned behind = 0; behind < 2; behind++) {
		struct err err = {0};
		struct uuid cut = cut_of((unsigned char)(6 + behind));
		p->sync = SYNC_STATE_FOREIGN;
		tracking_seal(p, &cut);
		atomic_store(&p->tracking[behind].forsaken, true); // is left out
		commit((unsigned char)(6 + behind));
		atomic_store(&p->tracking[behind].forsaken, false);
		end();
		assert_int_equal(begin(false, &err), 0);
		assert_true(uuid_equal(&p->position.last_cut, &cut));
		assert_int_equal(p->sync, SYNC_UNCLEAN_STOP);

		p->sync = SYNC_STATE_FOREIGN; // and before it, it is
		tracking_position(p, p->sync);
		end();
		assert_int_equal(begin(false, &err), 0);
		assert_int_equal(p->sync, SYNC_STATE_FOREIGN);
	}
}

// A whole map relative to no cut is a reason only where it is owed: a file of an older version does not say why.
static void position_that_names_no_cut_is_held_against_the_receiver_unless_all_is_dirty_and_owed(void **state)
{
	(void)state;
	stop_in_order(); // before its first point
	restart_owing(SYNC_NONE, SYNC_INITIAL);
	assert_false(p->position_known);
	dirty_reset(export_dirty(p->export, 0));
	dirty_mark(export_dirty(p->export, 0), PIECE_SIZE, SIZE - PIECE_SIZE);
	stop_in_order();
	restart_owing(SYNC_NONE, SYNC_INITIAL);
	assert_true(p->position_known);
	dirty_mark_all(export_dirty(p->export, 0));
	p->sync = SYNC_NONE;
	stop_in_order();
	restart_owing(SYNC_NONE, SYNC_INITIAL);
	assert_true(p->position_known);
}

// B1: after a reboot there is no note of rest. The agent's own last change is of before the end of its lease.
static void change_after_the_lease_of_a_run_that_died_is_anothers(void **state)
{
	(void)state;
	enum { COVERED, TOO_LATE, OTHER_RUN, NO_LEASE, CASES };
	static const enum sync_reason expected[CASES] = {SYNC_UNCLEAN_STOP, SYNC_IMAGE_CHANGED, SYNC_IMAGE_CHANGED, SYNC_IMAGE_CHANGED};
	struct lease own[2] = {0}, none = {.book = {.count = 1}};
	commit(5);
	end();
	(void)usleep(1100 * 1000); // boot times are whole seconds here
	int found = 0;
	for (int i = 0; i < CASES && found >= 0; i++) {
		struct err err = {0};
		struct stat st;
		run_lives_and_dies(&own[0]);
		lease = &own[1];
		assert_int_equal(lease_begin(lease, temp.root, &err), 0);
		assert_int_equal(stat(image_path, &st), 0);
		assert_int_equal(lease->book.of[1].run, own[0].book.of[0].run);
		lease->book.of[1].until_ns = st.st_ctim.tv_sec * INT64_C(1000000000) + st.st_ctim.tv_nsec - (i == TOO_LATE);
		lease->book.of[1].run ^= i == OTHER_RUN;
		if (i == NO_LEASE)
			lease = &none;
		found = sync_after_a_reboot();
		if (found >= 0 && found != (int)expected[i])
			fail_msg("case %d: %d", i, found);
	}
	lease = NULL;
	struct err err = {0};
	assert_int_equal(begin(false, &err), 0); // for the end of the test
	if (found < 0)
		skip(); // no time namespaces, or no right to them
}

static void files_that_are_a_step_apart_join_and_others_do_not(void **state)
{
	(void)state;
	static const struct {
		unsigned char last, pending, other_last, other_pending; // 0: none
		bool joins;
		unsigned char joint_last, joint_pending;
	} table[] = {
		{5, 0, 5, 0, true, 5, 0},
		{5, 6, 5, 0, true, 5, 6}, // killed while pending_cut was written
		{5, 0, 5, 6, true, 5, 6},
		{5, 6, 5, 7, true, 5, 6}, // both were never answered and neither is known to the receiver
		{6, 0, 5, 6, true, 6, 0}, // killed while last_cut was written
		{5, 6, 6, 0, true, 6, 0},
		{5, 6, 6, 7, true, 6, 7},
		{5, 0, 6, 0, false, 5, 0},
		{5, 7, 6, 0, false, 5, 7},
		{0, 0, 5, 0, false, 0, 0}, // "none pending" is not "pending is none"
		{5, 0, 0, 0, false, 5, 0},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		static const struct uuid none;
		struct state_position a = {.last_cut = table[i].last ? cut_of(table[i].last) : none,
					   .pending_cut = table[i].pending ? cut_of(table[i].pending) : none};
		struct state_position b = {.last_cut = table[i].other_last ? cut_of(table[i].other_last) : none,
					   .pending_cut = table[i].other_pending ? cut_of(table[i].other_pending) : none};
		bool joins = tracking_join(&a, &b);
		if (joins != table[i].joins || a.last_cut.bytes[0] != table[i].joint_last ||
		    a.pending_cut.bytes[0] != table[i].joint_pending)
			fail_msg("row %zu", i);
	}
}

// ---- removed under a running replicator

static void state_path(char path[600])
{
	(void)snprintf(path, 600, "%s/protections/vm1/vda.state", temp.dir);
}

static void all_is_compared_by_the_next_start(void)
{
	struct err err = {0};
	assert_true(p->tracking[0].lost);
	assert_non_null(strstr(p->tracking[0].lost_why, "its state file was removed"));
	assert_true(tracking_save(p, &err) < 0);
	end();
	(void)env_mkdir(temp.root, "protections");
	(void)env_mkdir(temp.root, "protections/vm1");
	assert_int_equal(begin(false, &err), 0);
	assert_true(p->sync == SYNC_TRACKING_LOST || p->sync == SYNC_STATE_MISSING);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
}

static void state_file_that_is_where_it_was_is_sound(void **state)
{
	struct err err = {0};
	(void)state;
	commit(5);
	tracking_look(p);
	assert_int_equal(tracking_grow(p, 0, 2 * SIZE, &err), 0); // another file of ours
	tracking_look(p);
	assert_false(p->tracking[0].lost);
	tracking_ungrow(p, 0, SIZE);
	assert_int_equal(tracking_save(p, &err), 0);
	assert_false(p->tracking[0].lost);
}

// It is answered from memory, while a mark of a guest waits for the disk under it.
static void look_at_a_state_file_is_no_sign_of_life_of_its_directory(void **state)
{
	enum { WAITED_S = 10 };
	const uint64_t waited_ns = WAITED_S * UINT64_C(1000000000);
	(void)state;
	commit(5);
	assert_true(protection_state_silent_ns(p) == 0);
	(void)asked_begin(&p->state_asked, protection_now_ns(p) - waited_ns);
	tracking_look(p);
	assert_true(protection_state_silent_ns(p) >= waited_ns - ASKED_COUNT);
	commit(6); // which was written and synced: it is slow
	assert_true(protection_state_silent_ns(p) < waited_ns / 2);
	asked_end(&p->state_asked);
	assert_true(protection_state_silent_ns(p) == 0);
}

static void state_file_that_was_removed_is_seen(void **state)
{
	char path[600];
	(void)state;
	state_path(path);
	commit(5);
	clear_all_but(3);
	assert_int_equal(unlink(path), 0);
	tracking_look(p);
	all_is_compared_by_the_next_start();
}

static void state_directory_that_was_removed_is_seen_at_the_stop_at_the_latest(void **state)
{
	struct err err = {0};
	(void)state;
	commit(5);
	clear_all_but(3);
	assert_int_equal(env_remove_tree(temp.root, "protections"), 0);
	assert_true(tracking_save(p, &err) < 0);
	all_is_compared_by_the_next_start();
}

static void state_file_in_whose_place_another_was_put_is_seen(void **state)
{
	char path[600], kept[610];
	(void)state;
	state_path(path);
	(void)snprintf(kept, sizeof(kept), "%s.kept", path);
	commit(5);
	clear_all_but(3);
	assert_int_equal(rename(path, kept), 0);
	struct env_file *file = NULL;
	assert_int_equal(env_open(temp.root, "protections/vm1/vda.state", ENV_CREATE, &file), 0);
	env_close(file);
	tracking_look(p);
	all_is_compared_by_the_next_start();
}

// What does not answer says nothing.
static void state_file_that_cannot_be_looked_for_stays_as_it_is(void **state)
{
	(void)state;
	commit(5);
	p->tracking[0].number = 0;
	tracking_look(p);
	assert_false(p->tracking[0].lost);
	atomic_store(&p->tracking[0].forsaken, true);
	p->tracking[0].number = 1;
	assert_int_equal(pthread_mutex_lock(&p->tracking[0].lock), 0);
	tracking_look(p); // T4: it does not wait
	(void)pthread_mutex_unlock(&p->tracking[0].lock);
	assert_false(p->tracking[0].lost);
	atomic_store(&p->tracking[0].forsaken, false);
}

static void configuration_that_was_removed_is_written_anew(void **state)
{
	struct err err = {0};
	struct env_stat st;
	struct protection_config *back = malloc(sizeof(*back));
	(void)state;
	assert_non_null(back);
	(void)pthread_mutex_init(&p->saving, NULL);
	(void)snprintf(p->config.site, NAME_SIZE, "dr");
	(void)snprintf(p->config.disk[0].path, sizeof(p->config.disk[0].path), "%s", image_path);
	p->config.rpo_ms = p->config.settings.rpo_ms = 15000;
	p->config.settings.objective_ppm = OBJECTIVE_PPM_DEFAULT;
	p->config.points_keep = 7;
	p->config.codec = CODEC_ZSTD;
	p->config.digest.kind = DIGEST_XXH3;
	p->config.compare = true;
	assert_int_equal(env_remove_tree(temp.root, "protections"), 0);
	assert_true(protection_keep_config(p));
	assert_int_equal(protection_config_load(temp.root, "vm1", back, &err), 0);
	assert_true(back->points_keep == 7 && back->compare && uuid_equal(&back->uuid, &p->config.uuid));

	assert_int_equal(env_remove_tree(temp.root, "protections"), 0);
	struct env_file *file = NULL;
	assert_int_equal(env_open(temp.root, "protections", ENV_CREATE, &file), 0); // in the way
	env_close(file);
	assert_false(protection_keep_config(p));
	assert_true(p->unknown_why[0] != 0);
	assert_int_equal(env_unlink(temp.root, "protections"), 0);
	assert_true(protection_keep_config(p));
	assert_string_equal(p->unknown_why, "");
	assert_int_equal(env_stat(temp.root, "protections/vm1/protection.json", &st), 0);
	(void)pthread_mutex_destroy(&p->saving);
	free(back);
}

static void image_that_is_not_where_it_was_is_told(void **state)
{
	char other[600];
	(void)state;
	(void)pthread_mutex_init(&p->saving, NULL);
	(void)snprintf(p->config.disk[0].path, sizeof(p->config.disk[0].path), "%s", image_path);
	protection_look(p);
	assert_string_equal(p->displaced[0], "");
	(void)snprintf(other, sizeof(other), "%s.moved", image_path);
	assert_int_equal(rename(image_path, other), 0);
	protection_look(p);
	assert_non_null(strstr(p->displaced[0], "was removed, or moved away, while it is served, and guests write to the one that has another name now: move that back"));
	image_make();
	protection_look(p);
	assert_non_null(strstr(p->displaced[0], "was replaced by another file while it is served, and"));
	assert_int_equal(rename(other, image_path), 0);
	protection_look(p);
	assert_string_equal(p->displaced[0], "");
	assert_int_equal(unlink(image_path), 0);
	protection_look(p);
	assert_non_null(strstr(p->displaced[0], "guests write to a file that has no name any more, and is gone when the replicator stops. Copy it out before, its guest shut down (nbdcopy 'nbd+unix:///vda?socket="));
	(void)pthread_mutex_destroy(&p->saving);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(kill_costs_the_marked_regions_and_no_more, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cut_that_is_sealed_is_known_after_a_kill, set_up, tear_down),
		cmocka_unit_test_setup_teardown(file_names_no_cut_while_the_maps_hold_more_than_the_marks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(mark_that_cannot_be_made_loses_tracking_and_the_next_start_compares_all, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(position_that_cannot_be_written_loses_tracking, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_whose_state_directory_hangs_is_noted_without_its_lock, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_whose_state_directory_answers_again_is_lost_in_its_file_too, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_forsaken_while_a_commit_is_out_that_ends_well_is_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(disk_forsaken_as_a_commit_ended_is_lost_by_whoever_comes_next, set_up, tear_down),
		cmocka_unit_test_setup_teardown(note_alone_makes_the_next_start_compare_all_and_goes_with_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(note_that_has_no_room_for_its_text_stands, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stop_tries_once_more_to_note_what_nothing_says_and_tells_what_to_do, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_that_was_brought_back_from_a_copy_of_the_same_run_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_that_was_brought_back_as_it_was_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(note_of_state_that_is_damaged_is_against_every_file_and_one_of_another_boot_against_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(kill_between_the_note_and_the_file_leaves_both_good, set_up, tear_down),
		cmocka_unit_test_setup_teardown(two_kills_each_before_the_note_is_kept_cost_the_marked_regions_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(start_after_a_kill_compares_what_is_on_the_disk_and_not_the_cache, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cache_of_which_something_is_to_be_written_is_dropped_when_it_is_served, set_up, tear_down),
		cmocka_unit_test_setup_teardown(all_of_a_large_disk_is_dropped, set_up, tear_down),
		cmocka_unit_test_setup_teardown(stop_in_order_before_that_leaves_no_cache, set_up, tear_down),
		cmocka_unit_test_setup_teardown(start_that_came_to_nothing_leaves_a_file_that_says_so, set_up, tear_down),
		cmocka_unit_test_setup_teardown(b5_sync_that_a_start_did_not_come_to_is_the_next_ones_by_its_reason, set_up, tear_down),
		cmocka_unit_test_setup_teardown(b5_unclean_stop_that_a_start_did_not_come_to_is_no_clean_one, set_up, tear_down),
		cmocka_unit_test_setup_teardown(b5_what_is_owed_for_a_part_does_not_name_the_sync_after_a_kill, set_up, tear_down),
		cmocka_unit_test_setup_teardown(b5_sync_that_ended_with_a_point_is_not_owed_by_the_disk_a_step_behind, set_up_two, tear_down),
		cmocka_unit_test_setup_teardown(position_that_names_no_cut_is_held_against_the_receiver_unless_all_is_dirty_and_owed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(change_after_the_lease_of_a_run_that_died_is_anothers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(b5_clean_stop_has_the_times_of_the_image_on_the_disk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_file_that_is_where_it_was_is_sound, set_up, tear_down),
		cmocka_unit_test_setup_teardown(look_at_a_state_file_is_no_sign_of_life_of_its_directory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_file_that_was_removed_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_directory_that_was_removed_is_seen_at_the_stop_at_the_latest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_file_in_whose_place_another_was_put_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(state_file_that_cannot_be_looked_for_stays_as_it_is, set_up, tear_down),
		cmocka_unit_test_setup_teardown(configuration_that_was_removed_is_written_anew, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_is_not_where_it_was_is_told, set_up, tear_down),
		cmocka_unit_test(files_that_are_a_step_apart_join_and_others_do_not),
	};
	return cmocka_run_group_tests_name("tracking", tests, NULL, NULL);
}
