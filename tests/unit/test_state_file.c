// SPDX-License-Identifier: Apache-2.0
// The state file against docs/format-state.md: each row of its table, each field, each kind of damage.
// One oracle for all of it: whoever gets SYNC_NONE gets every piece that was dirty, and the position it is relative to.
// tests/unit/test_state_crash.c does the same for power cuts and failing disks.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "replicator/state_file.h"
#include "tests/golden/state_1.h"
#include "tests/lib/twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PAGE = 4096, HEADER_LEN = 264, MARKS_AT = 2 * PAGE, PAGES_AT = 3 * PAGE, ENTRY_AT = 40, ENTRY = 136, CRC_AT = 28, SECTOR = 512, BITS_AT = 32 };
enum { REGIONS = 40 };
#define DISK_SIZE ((uint64_t)REGIONS * REGION_SIZE - 3 * PIECE_SIZE - SECTOR_SIZE)
#define NAME "protections/vm1/vda.state"

#define SECOND INT64_C(1000000000)
#define RUN UINT64_C(7000000001) // the number of the run that makes the files

struct fixture {
	struct sim *sim; // NULL: the real environment
	struct temp temp;
	struct env_root *root;
	struct state_position position;
	struct image_identity identity;
	struct dirty truth; // of the last clean stop
};

static void begin(struct fixture *f)
{
	f->position = (struct state_position){.protection = {{1}}, .generation = {{2}}, .point = 7, .last_cut = {{3}},
					      .pending_cut = {{4}}};
	f->identity = (struct image_identity){.device = 5, .inode = 6, .size = DISK_SIZE, .mtime_ns = 7000000001, .ctime_ns = -8, .times_tell = true};
	assert_int_equal(dirty_init(&f->truth, DISK_SIZE), 0);
	assert_int_equal(env_mkdir(f->root, "protections"), 0);
	assert_int_equal(env_mkdir(f->root, "protections/vm1"), 0);
}

static int setup_sim(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
	begin(f);
	*state = f;
	return 0;
}

static int setup_posix(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	temp_open(&f->temp);
	f->root = f->temp.root;
	begin(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	dirty_done(&f->truth);
	if (f->sim) {
		env_root_close(f->root);
		sim_free(f->sim);
	} else {
		temp_close(&f->temp);
	}
	free(f);
	return 0;
}

// --- what an agent does ---

static struct state_file *run_begin(struct fixture *f)
{
	static const struct state_run run = {.number = RUN};
	struct state_file *file = NULL;
	struct err err = {0};
	if (state_file_open_run(f->root, NAME, "vda", &f->position, &f->identity, &f->truth, &run, &file, &err))
		fail_msg("%s", err.text);
	return file;
}

static void stop_clean(struct fixture *f, struct state_file *file)
{
	struct err err = {0};
	if (state_file_save(file, &f->position, &f->identity, &f->truth, &err))
		fail_msg("%s", err.text);
	state_file_close(file);
}

// A life of an agent that leaves the truth as it is now.
static void live(struct fixture *f)
{
	stop_clean(f, run_begin(f));
}

static bool holds_all_of(const struct dirty *map, const struct dirty *truth)
{
	for (uint64_t r = 0; r < truth->regions; r++) {
		unsigned char has[DIRTY_REGION_BYTES] = {0}, must[DIRTY_REGION_BYTES] = {0};
		(void)dirty_save_region(map, r, has);
		(void)dirty_save_region(truth, r, must);
		for (unsigned i = 0; i < DIRTY_REGION_BYTES; i++)
			if (must[i] & ~has[i])
				return false;
	}
	return true;
}

static enum sync_reason load(struct fixture *f, struct dirty *map, struct state_position *position)
{
	return state_file_load(f->root, NAME, "vda", &f->position, &f->identity, false, map, position);
}

// Loads, and holds the answer against the oracle. `served`: writes that the file does not know may have happened.
static enum sync_reason judge(struct fixture *f, bool served)
{
	struct dirty map;
	struct state_position position = {.point = 99};
	assert_int_equal(dirty_init(&map, DISK_SIZE), 0);
	enum sync_reason reason = load(f, &map, &position);
	if (reason == SYNC_NONE) {
		assert_false(served);
		assert_true(holds_all_of(&map, &f->truth));
		assert_true(holds_all_of(&f->truth, &map));
		assert_memory_equal(&position, &f->position, sizeof(position));
	} else if (reason == SYNC_UNCLEAN_STOP) { // by whole regions
		assert_true(served);
		assert_true(holds_all_of(&map, &f->truth));
		for (uint64_t r = 0; r < map.regions; r++)
			assert_true(!map.region[r] == !f->truth.region[r]);
		assert_memory_equal(&position, &f->position, sizeof(position));
	} else {
		assert_true(map.pieces == 0); // untouched
		assert_int_equal(position.point, 99);
	}
	dirty_done(&map);
	return reason;
}

// --- the file's bytes ---

static void bytes_put(struct fixture *f, uint64_t off, const void *data, size_t len)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(f->root, NAME, ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, data, len, off), 0);
	env_close(file);
}

static unsigned char *bytes_all(struct fixture *f, size_t *ret_len)
{
	char *data = NULL;
	assert_int_equal(env_read_file(f->root, NAME, 1 << 20, &data, ret_len), 0);
	return (unsigned char *)data;
}

static void bytes_replace(struct fixture *f, const unsigned char *data, size_t len)
{
	assert_int_equal(env_replace(f->root, "protections/vm1", NAME, data, len), 0);
}

// The slot that counts, and its bytes.
static uint64_t newest_slot(struct fixture *f, unsigned char slot[PAGE])
{
	size_t len;
	unsigned char *all = bytes_all(f, &len);
	assert_true(len >= PAGES_AT);
	unsigned n = get_le64(all + PAGE + 48) > get_le64(all + 48) ? 1 : 0;
	memcpy(slot, all + (size_t)n * PAGE, PAGE);
	free(all);
	return (uint64_t)n * PAGE;
}

static void slot_seal(unsigned char slot[PAGE])
{
	put_le32(slot + CRC_AT, 0);
	put_le32(slot + CRC_AT, crc32c(slot, HEADER_LEN));
}

static void page_seal(unsigned char page[PAGE])
{
	put_le32(page, crc32c(page + 4, PAGE - 4));
}

// --- the table "Decision at start" ---

static void file_that_is_missing_means_initial_or_missing(void **state)
{
	struct fixture *f = *state;
	struct dirty map;
	struct state_position position;
	assert_int_equal(dirty_init(&map, DISK_SIZE), 0);
	assert_int_equal(state_file_load(f->root, NAME, "vda", &f->position, &f->identity, true, &map, &position), SYNC_INITIAL);
	assert_int_equal(load(f, &map, &position), SYNC_STATE_MISSING);
	dirty_mark(&f->truth, 0, DISK_SIZE);
	live(f); // and a new protection believes no file, however clean
	assert_int_equal(state_file_load(f->root, NAME, "vda", &f->position, &f->identity, true, &map, &position), SYNC_INITIAL);
	assert_true(map.pieces == 0);
	dirty_done(&map);
}

static void clean_stop_means_a_delta_from_the_map(void **state)
{
	struct fixture *f = *state;
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE); // an empty map is a map
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	dirty_mark(&f->truth, 3 * REGION_SIZE, 2 * REGION_SIZE); // whole regions
	dirty_mark(&f->truth, DISK_SIZE - 1, 1);
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
	dirty_mark_all(&f->truth); // more than a page
	f->position.point++;
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
	dirty_reset(&f->truth);
	f->position.pending_cut = (struct uuid){{0}};
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
}

// From a start to its end, and through a growth: until a position says that it is settled.
static void sync_that_is_owed_stays_in_the_file_until_a_position_settles_it(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	dirty_mark_all(&f->truth);
	for (enum sync_reason owed = SYNC_NONE; owed <= SYNC_LAST; owed++) {
		f->position.owed = owed;
		state_file_close(run_begin(f));
		assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP); // which compares the position, with what is owed
		live(f);
		assert_int_equal(judge(f, false), SYNC_NONE);
	}
	struct state_file *file = run_begin(f);
	assert_int_equal(state_file_grow(&file, f->root, NAME, DISK_SIZE + REGION_SIZE, &f->identity, &err), 0);
	assert_int_equal(state_file_ungrow(&file, f->root, NAME, DISK_SIZE, &f->identity, &err), 0);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->position.owed = SYNC_NONE;
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	state_file_close(file);
}

static void map_is_loaded_on_top_of_what_is_dirty_already(void **state)
{
	struct fixture *f = *state;
	struct dirty map;
	struct state_position position;
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	live(f);
	assert_int_equal(dirty_init(&map, DISK_SIZE), 0);
	dirty_mark(&map, 9 * PIECE_SIZE, 1);
	assert_int_equal(load(f, &map, &position), SYNC_NONE);
	assert_true(holds_all_of(&map, &f->truth));
	assert_int_equal(map.pieces, 2);
	dirty_done(&map);
}

static void replicator_that_ran_and_did_not_stop_means_unclean_stop(void **state)
{
	struct fixture *f = *state;
	state_file_close(run_begin(f)); // the first file
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
	for (int crash = 0; crash < 3; crash++) { // one behind the other, so that both slots had their turn
		state_file_close(run_begin(f));
		assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	}
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
}

static void file_of_another_protection_generation_or_disk_means_foreign(void **state)
{
	struct fixture *f = *state;
	struct dirty map;
	struct state_position position, other = f->position;
	live(f);
	assert_int_equal(dirty_init(&map, DISK_SIZE), 0);
	other.protection.bytes[15] ^= 1;
	assert_int_equal(state_file_load(f->root, NAME, "vda", &other, &f->identity, false, &map, &position), SYNC_STATE_FOREIGN);
	other = f->position;
	other.generation.bytes[0] ^= 0x80;
	assert_int_equal(state_file_load(f->root, NAME, "vda", &other, &f->identity, false, &map, &position), SYNC_STATE_FOREIGN);
	static const char *const names[] = {"vdb", "vd", "vdaa", ""};
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(state_file_load(f->root, NAME, names[i], &f->position, &f->identity, false, &map, &position),
				 SYNC_STATE_FOREIGN);
	other = f->position; // what the receiver has is not the file's to judge
	other.point = 1000;
	other.last_cut.bytes[0] ^= 1;
	assert_int_equal(state_file_load(f->root, NAME, "vda", &other, &f->identity, false, &map, &position), SYNC_NONE);
	assert_memory_equal(&position, &f->position, sizeof(position));
	dirty_done(&map);
}

static void image_with_another_identity_means_image_changed(void **state)
{
	struct fixture *f = *state;
	live(f);
	struct image_identity kept = f->identity;
	f->identity.inode++;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = kept;
	f->identity.size += SECTOR_SIZE;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = kept;
	f->identity.mtime_ns++;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = kept;
	f->identity.ctime_ns--;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = kept;
	f->identity.device++; // device numbers change at a reboot
	assert_int_equal(judge(f, false), SYNC_NONE);
	struct dirty grown;
	struct state_position position;
	assert_int_equal(dirty_init(&grown, DISK_SIZE + REGION_SIZE), 0);
	assert_int_equal(load(f, &grown, &position), SYNC_RESIZED);
	f->identity.inode++;
	assert_int_equal(load(f, &grown, &position), SYNC_IMAGE_CHANGED);
	assert_true(grown.pieces == 0);
	dirty_done(&grown);
}

static void image_that_others_changed_after_a_crash_means_image_changed(void **state)
{
	struct fixture *f = *state;
	struct image_identity kept = f->identity;
	state_file_close(run_begin(f));
	f->identity.mtime_ns++; // the agent wrote to it
	f->identity.ctime_ns++;
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.disturbed = true;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = kept; // made after the agent began, with the number of an inode that is gone
	f->identity.born_ns = kept.ctime_ns + 1;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity.born_ns = kept.ctime_ns;
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.born_ns = 1000; // made while the clock was ahead: it is still the same image
	state_file_close(run_begin(f));
	f->identity.ctime_ns++;
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.born_ns++;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = kept;
	f->identity.born_ns = kept.ctime_ns - 5;
	state_file_close(run_begin(f));
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.ctime_ns -= 60 * SECOND; // its newest time was not on the disk yet when the power went
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.ctime_ns--; // taken back to how it was; or the clock went back, and then it was changed
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity.ctime_ns = kept.ctime_ns;
	live(f); // after a stop in order the times say it all
	f->identity.disturbed = true;
	assert_int_equal(judge(f, false), SYNC_NONE);
}

// The clean stop needs the image's times in that place, and no run.
static void file_that_runs_has_the_number_of_its_run(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	assert_true(state_file_run(f->root, NAME) == 0); // there is none
	f->identity.mtime_ns = 77;
	struct state_file *file = run_begin(f);
	assert_true(state_file_run(f->root, NAME) == RUN);
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	assert_true(state_file_run(f->root, NAME) == RUN);
	assert_int_equal(state_file_grow(&file, f->root, NAME, (REGIONS + 2) * (uint64_t)REGION_SIZE, &f->identity, &err), 0);
	assert_true(state_file_run(f->root, NAME) == RUN);
	assert_int_equal(state_file_ungrow(&file, f->root, NAME, DISK_SIZE, &f->identity, &err), 0);
	assert_true(state_file_run(f->root, NAME) == RUN);
	stop_clean(f, file);
	assert_true(state_file_run(f->root, NAME) == 0);
	assert_int_equal(judge(f, false), SYNC_NONE);
	f->identity.mtime_ns++;
	assert_int_equal(judge(f, false), SYNC_IMAGE_CHANGED);
}

// A snapshot of its file system is brought back, of before the newest point.
static void image_that_was_taken_back_behind_the_newest_position_is_seen(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	f->identity.born_ns = -9;
	struct image_identity early = f->identity;
	struct state_file *file = run_begin(f);
	f->identity.ctime_ns += 100 * SECOND; // a guest wrote
	state_file_saw(file, &f->identity);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	struct image_identity late = f->identity;
	f->identity = early;
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP); // no position yet: all that came since the start is marked
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity = late;
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.ctime_ns -= 3600 * SECOND; // the clock was set back, and our own changes have such times from now on
	state_file_saw(file, &f->identity);
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	state_file_close(file);
	f->identity.born_ns = 0; // as on a file system that keeps no birth
	file = run_begin(f);
	state_file_saw(file, &f->identity);
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	f->identity.ctime_ns -= 61 * SECOND;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity.times_tell = false; // a block device has numbers there
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	state_file_close(file);
}

static void reasons_have_the_names_of_the_document(void **state)
{
	(void)state;
	assert_null(sync_reason_name(SYNC_NONE));
	assert_string_equal(sync_reason_name(SYNC_INITIAL), "initial");
	assert_string_equal(sync_reason_name(SYNC_STATE_MISSING), "state-missing");
	assert_string_equal(sync_reason_name(SYNC_STATE_UNREADABLE), "state-unreadable");
	assert_string_equal(sync_reason_name(SYNC_STATE_FOREIGN), "state-foreign");
	assert_string_equal(sync_reason_name(SYNC_UNCLEAN_STOP), "unclean-stop");
	assert_string_equal(sync_reason_name(SYNC_IMAGE_CHANGED), "image-changed");
	assert_string_equal(sync_reason_name(SYNC_POSITION), "position");
	assert_string_equal(sync_reason_name(SYNC_TRACKING_LOST), "tracking-lost");
	assert_string_equal(sync_reason_name(SYNC_TRACKING_DOUBT), "tracking-doubt");
	assert_string_equal(sync_reason_name(SYNC_RESIZED), "resized");
	assert_string_equal(sync_reason_name(SYNC_REPLICA_DAMAGED), "replica-damaged");
	assert_string_equal(sync_reason_name(SYNC_ASKED), "asked");
	assert_string_equal(sync_reason_name(SYNC_FALSE_HOLE), "false-hole");
}

// --- the layout ---

static void header_lies_where_the_document_says(void **state)
{
	struct fixture *f = *state;
	unsigned char h[PAGE];
	dirty_mark(&f->truth, 0, DISK_SIZE);
	f->position.owed = SYNC_RESIZED;
	live(f);
	(void)newest_slot(f, h);
	assert_memory_equal(h, "KAGAMIPS", 8);
	assert_int_equal(get_le16(h + 8), 1);
	assert_int_equal(get_le16(h + 10), 0);
	assert_int_equal(get_le32(h + 12), HEADER_LEN);
	assert_true(bytes_zero(h + 16, 12)); // features
	uint32_t crc = get_le32(h + CRC_AT);
	put_le32(h + CRC_AT, 0);
	assert_int_equal(crc, crc32c(h, HEADER_LEN));
	assert_false(bytes_zero(h + 32, 16)); // instance
	assert_memory_equal(h + 56, &f->position.protection, 16);
	assert_memory_equal(h + 72, &f->position.generation, 16);
	assert_true(get_le64(h + 88) == DISK_SIZE);
	assert_int_equal(get_le64(h + 96), 7);
	assert_memory_equal(h + 104, &f->position.pending_cut, 16);
	assert_int_equal(h[120], 1);
	assert_int_equal(h[121], 9);
	assert_true(bytes_zero(h + 122, 6));
	assert_int_equal(get_le64(h + 128), 2); // 40 regions, 29 to a page
	assert_int_equal(get_le64(h + 136), 5);
	assert_int_equal(get_le64(h + 144), 6);
	assert_true(get_le64(h + 152) == DISK_SIZE);
	assert_true(get_le64(h + 160) == 7000000001);
	assert_true((int64_t)get_le64(h + 168) == -8);
	assert_string_equal((char *)h + 176, "vda");
	assert_true(bytes_zero(h + 179, 61));
	assert_memory_equal(h + 240, &f->position.last_cut, 16);
	assert_true(bytes_zero(h + HEADER_LEN, PAGE - HEADER_LEN));
}

static void map_pages_lie_where_the_document_says(void **state)
{
	struct fixture *f = *state;
	unsigned char h[PAGE];
	size_t len;
	dirty_mark(&f->truth, 2 * (uint64_t)REGION_SIZE + 9 * PIECE_SIZE, 2 * PIECE_SIZE); // pieces 9 and 10 of region 2
	dirty_mark(&f->truth, 30 * (uint64_t)REGION_SIZE, REGION_SIZE);
	live(f);
	(void)newest_slot(f, h);
	unsigned char *all = bytes_all(f, &len), *page = all + PAGES_AT;
	assert_int_equal(len, PAGES_AT + PAGE);
	assert_int_equal(get_le32(page), crc32c(page + 4, PAGE - 4));
	assert_int_equal(get_le32(page + 4), 0);
	assert_memory_equal(page + 8, h + 32, 16);
	assert_memory_equal(page + 24, h + 48, 8);
	assert_int_equal(get_le32(page + 32), 2);
	assert_int_equal(get_le32(page + 36), 0);
	assert_int_equal(get_le64(page + ENTRY_AT), 2);
	assert_true(page[ENTRY_AT + 8] == 0 && page[ENTRY_AT + 9] == 0x06);
	assert_true(bytes_zero(page + ENTRY_AT + 10, 126));
	assert_int_equal(get_le64(page + ENTRY_AT + ENTRY), 30);
	for (int i = 0; i < 128; i++)
		assert_int_equal(page[ENTRY_AT + ENTRY + 8 + i], 0xff);
	assert_true(bytes_zero(page + ENTRY_AT + 2 * ENTRY, PAGE - ENTRY_AT - 2 * ENTRY));
	free(all);
}

static void file_that_runs_says_so_in_both_slots(void **state)
{
	struct fixture *f = *state;
	size_t len;
	live(f);
	state_file_close(run_begin(f));
	unsigned char *all = bytes_all(f, &len);
	assert_int_equal(all[120], 0);
	assert_int_equal(all[PAGE + 120], 0);
	free(all);
}

// --- damage ---

static bool every_bit_counts(size_t at)
{
	size_t in_page = at % PAGE;
	return in_page < (at < MARKS_AT ? HEADER_LEN + 4 : at < PAGES_AT ? SECTOR + 4 : ENTRY_AT + 2 * ENTRY + 4);
}

static void flip_everything(struct fixture *f, bool served)
{
	size_t len;
	unsigned char *all = bytes_all(f, &len);
	for (size_t at = 0; at < len; at++)
		for (unsigned bit = 0; bit < (every_bit_counts(at) ? 8 : 1); bit++) {
			unsigned char byte = all[at] ^ (unsigned char)(1 << (bit + at % 8) % 8);
			bytes_put(f, at, &byte, 1);
			(void)judge(f, served);
			bytes_put(f, at, &all[at], 1);
		}
	assert_int_equal(judge(f, served), served ? SYNC_UNCLEAN_STOP : SYNC_NONE);
	free(all);
}

static void truncate_everywhere(struct fixture *f, bool served)
{
	size_t len;
	unsigned char *all = bytes_all(f, &len);
	for (size_t cut = len; cut-- > 0;) {
		struct env_file *file = NULL;
		assert_int_equal(env_open(f->root, NAME, ENV_WRITE, &file), 0);
		assert_int_equal(env_truncate(file, cut), 0);
		env_close(file);
		assert_int_not_equal(judge(f, served), SYNC_NONE);
		if (cut % PAGE > 300 && cut % PAGE < PAGE - 2)
			cut -= min_u64(61, cut % PAGE - 300);
	}
	free(all);
}

static void clean_file_with_any_flipped_bit_gives_the_truth_or_a_reason(void **state)
{
	struct fixture *f = *state;
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	dirty_mark(&f->truth, 7 * (uint64_t)REGION_SIZE, REGION_SIZE);
	live(f);
	flip_everything(f, false);
}

// The map of the stop before is still there, and so is the image's identity where a power cut took its times back.
static void file_of_a_running_agent_with_any_flipped_bit_never_passes_for_a_clean_one(void **state)
{
	struct fixture *f = *state;
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	live(f);
	state_file_close(run_begin(f));
	flip_everything(f, true);
	live(f);
	state_file_close(run_begin(f)); // crashed
	state_file_close(run_begin(f)); // and once more
	flip_everything(f, true);
}

static void truncated_file_is_never_believed(void **state)
{
	struct fixture *f = *state;
	dirty_mark_all(&f->truth);
	live(f);
	truncate_everywhere(f, false);
	live(f);
	state_file_close(run_begin(f));
	truncate_everywhere(f, true);
}

static void one_damaged_slot_of_a_clean_stop_takes_nothing_away(void **state)
{
	struct fixture *f = *state;
	unsigned char slot[PAGE];
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	live(f);
	uint64_t at = newest_slot(f, slot);
	slot[60] ^= 1;
	bytes_put(f, at, slot, PAGE);
	assert_int_equal(judge(f, false), SYNC_NONE);
	f->identity.mtime_ns++; // the image's times are in both
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity.mtime_ns--;
	bytes_put(f, PAGE - at, slot, PAGE); // and with none that is valid
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
	live(f); // such a file is made anew
	assert_int_equal(judge(f, false), SYNC_NONE);
}

// A header whose checksum is right and whose field is not: none of ours, or of a later version.
static void header_fields_out_of_their_limits_are_refused(void **state)
{
	struct fixture *f = *state;
	static const struct {
		size_t at;
		unsigned len;
		uint64_t value;
	} bad[] = {
		{0, 1, 'k'},	     {8, 2, 0},		  {8, 2, 2},	    {10, 2, 1},
		{12, 4, 255},	     {12, 4, 257},	  {16, 4, 1},	    {16, 4, 0x80000000},
		{48, 8, UINT64_MAX}, {88, 8, 0},	  {88, 8, 513},	    {88, 8, DISK_SIZE_MAX + SECTOR_SIZE},
		{120, 1, 3},	     {121, 1, SYNC_LAST + 1}, {121, 1, 0xff}, {122, 1, 1}, {127, 1, 0x80},   {128, 8, 3},
		{128, 8, UINT64_MAX}, {128, 8, UINT64_C(1) << 52}, {239, 1, 'x'},
	};
	dirty_mark_all(&f->truth);
	live(f);
	unsigned char good[PAGE], slot[PAGE];
	uint64_t at = newest_slot(f, good);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		unsigned char value[8];
		put_le64(value, bad[i].value);
		memcpy(slot, good, PAGE);
		memcpy(slot + bad[i].at, value, bad[i].len);
		slot_seal(slot);
		bytes_put(f, at, slot, PAGE);
		bytes_put(f, PAGE - at, slot, PAGE);
		assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
	}
	bytes_put(f, at, good, PAGE);
	assert_int_equal(judge(f, false), SYNC_NONE);
}

static void features_that_may_be_ignored_are_and_those_to_clear_are_cleared(void **state)
{
	struct fixture *f = *state;
	unsigned char slot[PAGE];
	dirty_mark(&f->truth, 0, 1);
	live(f);
	uint64_t at = newest_slot(f, slot);
	put_le32(slot + 20, UINT32_MAX);
	put_le32(slot + 24, UINT32_MAX);
	slot_seal(slot);
	bytes_put(f, at, slot, PAGE);
	bytes_put(f, PAGE - at, slot, PAGE);
	assert_int_equal(judge(f, false), SYNC_NONE);
	live(f);
	(void)newest_slot(f, slot);
	assert_int_equal(get_le32(slot + 24), 0);
}

static void sequence_at_its_end_does_not_bring_back_a_clean_stop(void **state)
{
	struct fixture *f = *state;
	for (uint64_t left = 1; left < 12; left++) {
		unsigned char slot[PAGE];
		live(f);
		uint64_t at = newest_slot(f, slot);
		put_le64(slot + 48, UINT64_MAX - left); // no map pages that would have to carry it
		slot_seal(slot);
		bytes_put(f, at, slot, PAGE);
		assert_int_equal(judge(f, false), SYNC_NONE);
		state_file_close(run_begin(f));
		assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
		live(f);
		assert_int_equal(judge(f, false), SYNC_NONE);
	}
}

static void page_with(struct fixture *f, const unsigned char good[PAGE], size_t at, unsigned len, uint64_t value)
{
	unsigned char page[PAGE], bytes[8];
	put_le64(bytes, value);
	memcpy(page, good, PAGE);
	memcpy(page + at, bytes, len);
	page_seal(page);
	bytes_put(f, PAGES_AT, page, PAGE);
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
	bytes_put(f, PAGES_AT, good, PAGE);
	assert_int_equal(judge(f, false), SYNC_NONE);
}

static void page_fields_out_of_their_limits_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t len;
	dirty_mark_all(&f->truth);
	live(f);
	unsigned char *all = bytes_all(f, &len), *good = all + PAGES_AT;
	page_with(f, good, 4, 4, 1);			       // page number
	page_with(f, good, 8, 1, (uint64_t)good[8] ^ 1);       // instance
	page_with(f, good, 24, 8, get_le64(good + 24) - 1);    // sequence
	page_with(f, good, 24, 8, get_le64(good + 24) + 1);
	page_with(f, good, 32, 4, 0);			       // entries
	page_with(f, good, 32, 4, 30);
	page_with(f, good, 32, 4, UINT32_MAX);
	page_with(f, good, 36, 4, 1);			       // reserved
	page_with(f, good, ENTRY_AT, 8, 1);		       // regions 1, 1
	page_with(f, good, ENTRY_AT, 8, 2);		       // 2, 1
	page_with(f, good, ENTRY_AT + 28 * ENTRY, 8, 29);      // the next page begins with it
	page_with(f, good, ENTRY_AT + 28 * ENTRY, 8, REGIONS); // past the end
	page_with(f, good, ENTRY_AT + 28 * ENTRY, 8, UINT64_MAX);
	free(all);
}

static void pages_in_another_order_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t len;
	dirty_mark_all(&f->truth);
	live(f);
	unsigned char *all = bytes_all(f, &len);
	assert_int_equal(len, PAGES_AT + 2 * PAGE);
	bytes_put(f, PAGES_AT, all + PAGES_AT + PAGE, PAGE);
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE); // the second twice
	bytes_put(f, PAGES_AT + PAGE, all + PAGES_AT, PAGE);
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE); // swapped
	bytes_put(f, PAGES_AT, all + PAGES_AT, PAGE);
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE); // the first twice
	bytes_put(f, PAGES_AT + PAGE, all + PAGES_AT + PAGE, PAGE);
	assert_int_equal(judge(f, false), SYNC_NONE);
	free(all);
}

static void pages_of_an_older_stop_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t len;
	dirty_mark(&f->truth, 0, 1);
	live(f);
	unsigned char *old = bytes_all(f, &len);
	dirty_mark(&f->truth, PIECE_SIZE, 1);
	live(f);
	bytes_put(f, PAGES_AT, old + PAGES_AT, PAGE);
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
	free(old);
}

static void pages_of_another_file_are_refused(void **state)
{
	struct fixture *f = *state;
	size_t len;
	dirty_mark(&f->truth, 0, 1);
	live(f);
	unsigned char *other = bytes_all(f, &len);
	assert_int_equal(env_unlink(f->root, NAME), 0);
	dirty_mark(&f->truth, PIECE_SIZE, 1);
	live(f);
	bytes_put(f, PAGES_AT, other + PAGES_AT, PAGE); // the same sequence
	assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
	free(other);
}

static void bits_past_the_end_of_the_disk_are_nothing(void **state)
{
	struct fixture *f = *state;
	size_t len;
	dirty_mark(&f->truth, DISK_SIZE - 1, 1);
	live(f);
	unsigned char *all = bytes_all(f, &len), *page = all + PAGES_AT;
	memset(page + ENTRY_AT + 8 + 127, 0xff, 1); // the last three pieces of the last region are not there
	page_seal(page);
	bytes_put(f, PAGES_AT, page, PAGE);
	struct dirty map;
	struct state_position position;
	assert_int_equal(dirty_init(&map, DISK_SIZE), 0);
	assert_int_equal(load(f, &map, &position), SYNC_NONE);
	assert_int_equal(map.pieces, 5); // of eight in that byte
	dirty_done(&map);
	free(all);
}

static void what_is_no_file_of_ours_is_replaced_whole(void **state)
{
	struct fixture *f = *state;
	unsigned char junk[3 * PAGE];
	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = (unsigned char)(i * 31 + (i >> 8));
	static const size_t lengths[] = {0, 1, PAGE, PAGES_AT, sizeof(junk)};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		bytes_replace(f, junk, lengths[i]);
		assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
		state_file_close(run_begin(f));
		assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
		live(f);
		assert_int_equal(judge(f, false), SYNC_NONE);
	}
	assert_int_equal(env_unlink(f->root, NAME), 0);
	struct env_file *left = NULL; // what a crash in the midst of that leaves
	assert_int_equal(env_open(f->root, NAME ".new", ENV_CREATE, &left), 0);
	env_close(left);
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
}

static void state_that_cannot_be_written_names_the_file(void **state)
{
	struct fixture *f = *state;
	struct state_file *file = NULL;
	struct err err = {0};
	assert_int_equal(env_rmdir(f->root, "protections/vm1"), 0);
	assert_int_equal(state_file_open_run(f->root, NAME, "vda", &f->position, &f->identity, &f->truth, NULL, &file, &err), -ENOENT);
	assert_non_null(strstr(err.text, NAME));
	assert_null(file);
}

// --- marks, while it runs ---

static void put_marks(struct state_file *file, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears)
{
	struct err err = {0};
	if (state_file_marks(file, set, sets, clear, clears, &err))
		fail_msg("%s", err.text);
}

static void mark_sectors_lie_where_the_document_says(void **state)
{
	struct fixture *f = *state;
	static const uint64_t set[] = {39, 0, 9};
	size_t len;
	struct state_file *file = run_begin(f);
	put_marks(file, set, 3, NULL, 0);
	assert_int_equal(state_file_marked(file), 3);
	state_file_close(file);
	unsigned char *all = bytes_all(f, &len), *sector = all + MARKS_AT;
	assert_int_equal(len, PAGES_AT);
	assert_int_equal(get_le32(sector), crc32c(sector + 4, SECTOR - 4));
	assert_int_equal(get_le32(sector + 4), 0);
	assert_memory_equal(sector + 8, all + 32, 16);
	assert_true(bytes_zero(sector + 24, 8));
	assert_true(sector[BITS_AT] == 1 && sector[BITS_AT + 1] == 2 && sector[BITS_AT + 4] == 0x80);
	assert_true(bytes_zero(sector + BITS_AT + 5, PAGE - BITS_AT - 5));
	free(all);
}

static void unclean_stop_gives_the_regions_that_were_marked_and_no_other(void **state)
{
	struct fixture *f = *state;
	static const uint64_t some[] = {3, 17}, other[] = {17, 30};
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	struct state_file *file = run_begin(f);
	assert_int_equal(state_file_marked(file), 1);
	put_marks(file, some, 2, NULL, 0);
	put_marks(file, other, 2, some, 2); // 17 is in both: it stays marked
	put_marks(file, NULL, 0, other + 1, 1);
	assert_int_equal(state_file_marked(file), 2);
	state_file_close(file);
	dirty_mark(&f->truth, 17 * (uint64_t)REGION_SIZE, REGION_SIZE);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.mtime_ns++; // a guest wrote
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	f->identity.inode++;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
	f->identity.inode--;
	f->identity.size -= SECTOR_SIZE;
	assert_int_equal(judge(f, true), SYNC_IMAGE_CHANGED);
}

static void any_damaged_bit_of_the_marks_is_seen(void **state)
{
	struct fixture *f = *state;
	size_t len;
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	state_file_close(run_begin(f));
	unsigned char *all = bytes_all(f, &len);
	for (size_t at = MARKS_AT; at < MARKS_AT + SECTOR; at++)
		for (unsigned bit = 0; bit < 8; bit++) {
			unsigned char byte = all[at] ^ (unsigned char)(1 << bit);
			bytes_put(f, at, &byte, 1);
			assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
			bytes_put(f, at, &all[at], 1);
		}
	static const struct {
		size_t at;
		unsigned char value;
	} bad[] = {{4, 1}, {8, 0xee}, {24, 1}, {BITS_AT + 5, 1}, {SECTOR - 1, 0x80}}; // number, instance, reserved, past the end
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		unsigned char sector[SECTOR];
		memcpy(sector, all + MARKS_AT, SECTOR);
		sector[bad[i].at] ^= bad[i].value;
		put_le32(sector, crc32c(sector + 4, SECTOR - 4));
		bytes_put(f, MARKS_AT, sector, SECTOR);
		assert_int_equal(judge(f, true), SYNC_STATE_UNREADABLE);
	}
	free(all);
}

static void position_is_durable_and_one_step_back_names_the_point_as_pending(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	unsigned char slot[PAGE];
	struct state_file *file = run_begin(f);
	f->position.pending_cut = (struct uuid){{5}};
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	struct state_position pending = f->position;
	f->position = (struct state_position){.protection = pending.protection, .generation = pending.generation, .point = 8,
					      .last_cut = pending.pending_cut};
	assert_int_equal(state_file_position(file, &f->position, &err), 0);
	state_file_close(file);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	uint64_t at = newest_slot(f, slot);
	slot[100] ^= 1;
	bytes_put(f, at, slot, PAGE);
	f->position = pending;
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
}

static void mark_of_a_region_that_is_marked_costs_no_operation(void **state)
{
	struct fixture *f = *state;
	static const uint64_t set[] = {3};
	struct state_file *file = run_begin(f);
	uint64_t before = sim_ops(f->sim);
	put_marks(file, set, 1, NULL, 0);
	assert_int_equal(sim_ops(f->sim) - before, 2); // a write and a sync
	put_marks(file, set, 1, NULL, 0);
	assert_int_equal(sim_ops(f->sim) - before, 2);
	put_marks(file, NULL, 0, set, 1);
	assert_int_equal(sim_ops(f->sim) - before, 3); // a write
	state_file_close(file);
}

static void failed_mark_breaks_the_file_and_losing_it_is_seen_by_the_next_start(void **state)
{
	struct fixture *f = *state;
	static const uint64_t set[] = {3};
	struct err err = {0};
	sim_settle(f->sim); // the directories
	for (unsigned op = 0; op < 2; op++) { // the write, the sync
		struct state_file *file = run_begin(f);
		sim_fail_at(f->sim, sim_ops(f->sim) + op, -EIO, false);
		assert_int_equal(state_file_marks(file, set, 1, NULL, 0, &err), -EIO);
		sim_fail_at(f->sim, SIM_NEVER, 0, false);
		assert_int_equal(state_file_marks(file, set, 1, NULL, 0, &err), -EIO); // never tried again
		assert_int_equal(state_file_position(file, &f->position, &err), -EIO);
		assert_int_equal(state_file_save(file, &f->position, &f->identity, &f->truth, &err), -EIO);
		assert_int_equal(state_file_grow(&file, f->root, NAME, 2 * DISK_SIZE, &f->identity, &err), -EIO);
		assert_int_equal(state_file_lose(file, f->root, NAME, &err), 0);
		state_file_close(file);
		sim_power_off(f->sim);
		sim_power_on(f->sim);
		env_root_close(f->root);
		assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
		assert_int_equal(judge(f, true), SYNC_TRACKING_LOST);
	}
	live(f);
	assert_int_equal(judge(f, false), SYNC_NONE);
}

static void file_that_was_never_opened_to_run_can_be_lost_too(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	live(f);
	assert_int_equal(state_file_lose(NULL, f->root, NAME, &err), 0);
	assert_int_equal(judge(f, true), SYNC_TRACKING_LOST);
	bytes_replace(f, (const unsigned char *)"junk", 4);
	assert_int_equal(state_file_lose(NULL, f->root, NAME, &err), 0);
	assert_int_equal(judge(f, true), SYNC_STATE_MISSING);
	assert_int_equal(state_file_lose(NULL, f->root, NAME, &err), 0);
}

static void disk_that_grew_has_its_marks_and_the_new_range(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	struct dirty map;
	struct state_position position;
	uint64_t size = (REGIONS + 2) * (uint64_t)REGION_SIZE;
	dirty_mark(&f->truth, 5 * PIECE_SIZE, 1);
	struct state_file *file = run_begin(f);
	assert_int_equal(state_file_grow(&file, f->root, NAME, DISK_SIZE, &f->identity, &err), -EINVAL);
	assert_int_equal(state_file_grow(&file, f->root, NAME, DISK_SIZE - SECTOR_SIZE, &f->identity, &err), -EINVAL);
	assert_int_equal(state_file_grow(&file, f->root, NAME, size + 1, &f->identity, &err), -EINVAL);
	assert_int_equal(state_file_grow(&file, f->root, NAME, size, &f->identity, &err), 0);
	assert_int_equal(state_file_marked(file), 4); // 0, the last one, which was not whole, and two new ones
	assert_int_equal(state_file_save(file, &f->position, &f->identity, &f->truth, &err), -EINVAL); // of the old size
	state_file_close(file);
	assert_int_equal(dirty_init(&map, DISK_SIZE), 0);
	assert_int_equal(load(f, &map, &position), SYNC_UNCLEAN_STOP); // the image did not grow yet
	dirty_done(&map);
	f->identity.size = size;
	assert_int_equal(dirty_init(&map, size), 0);
	assert_int_equal(load(f, &map, &position), SYNC_UNCLEAN_STOP);
	assert_true(map.pieces == 4 * PIECES_PER_REGION);
	assert_true(dirty_mask(&map, size_blocks(size) - 1) == MASK_FULL && dirty_mask(&map, 0) == MASK_FULL);
	dirty_done(&map);
}

static void grow_that_fails_before_its_rename_leaves_a_good_file(void **state)
{
	struct fixture *f = *state;
	static const uint64_t set[] = {0};
	struct err err = {0};
	struct state_file *file = run_begin(f);
	sim_set_space(f->sim, 0);
	assert_int_equal(state_file_grow(&file, f->root, NAME, 2 * (uint64_t)REGIONS * REGION_SIZE, &f->identity, &err), -ENOSPC);
	put_marks(file, set, 1, NULL, 0); // and marking needs no space
	dirty_mark(&f->truth, 0, 1);
	state_file_close(file);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
}

// --- files that were written once ---

static unsigned char nibble(char c)
{
	return (unsigned char)(c >= 'a' ? c - 'a' + 10 : c - '0');
}

static unsigned char *golden_bytes(const struct golden_part *part, size_t parts, size_t len)
{
	unsigned char *bytes = calloc(len, 1);
	for (size_t i = 0; i < parts; i++)
		for (size_t n = 0; part[i].hex[2 * n]; n++)
			bytes[part[i].at + n] = (unsigned char)(nibble(part[i].hex[2 * n]) << 4 | nibble(part[i].hex[2 * n + 1]));
	return bytes;
}

// A file of ours with the instance of another one, checksums and all.
static void give_instance(unsigned char *file, size_t len, const unsigned char *instance)
{
	for (size_t slot = 0; slot < MARKS_AT; slot += PAGE) {
		memcpy(file + slot + 32, instance, 16);
		slot_seal(file + slot);
	}
	memcpy(file + MARKS_AT + 8, instance, 16);
	put_le32(file + MARKS_AT, crc32c(file + MARKS_AT + 4, SECTOR - 4));
	for (size_t page = PAGES_AT; page < len; page += PAGE) {
		memcpy(file + page + 8, instance, 16);
		page_seal(file + page);
	}
}

static void golden_is(struct fixture *f, const unsigned char *golden, size_t golden_len)
{
	size_t len;
	unsigned char *ours = bytes_all(f, &len);
	assert_int_equal(len, golden_len);
	give_instance(ours, len, golden + 32);
	assert_memory_equal(ours, golden, len);
	free(ours);
}

#define GOLDEN(which) golden_bytes(golden_##which, sizeof(golden_##which) / sizeof(golden_##which[0]), golden_##which##_length)

static void files_of_version_1_are_read_and_written_as_they_were(void **state)
{
	struct fixture *f = *state;
	unsigned char *running = GOLDEN(running), *clean = GOLDEN(clean), *lost = GOLDEN(lost);
	dirty_mark(&f->truth, 2 * (uint64_t)REGION_SIZE + 9 * PIECE_SIZE, 2 * PIECE_SIZE);
	dirty_mark(&f->truth, 30 * (uint64_t)REGION_SIZE, REGION_SIZE);
	bytes_replace(f, running, golden_running_length);
	assert_int_equal(judge(f, true), SYNC_UNCLEAN_STOP);
	bytes_replace(f, clean, golden_clean_length);
	assert_int_equal(judge(f, false), SYNC_NONE);
	bytes_replace(f, lost, golden_lost_length);
	assert_int_equal(judge(f, true), SYNC_TRACKING_LOST);
	struct state_file *file = run_begin(f);
	golden_is(f, running, golden_running_length);
	stop_clean(f, file);
	golden_is(f, clean, golden_clean_length);
	struct err err = {0};
	assert_int_equal(state_file_lose(NULL, f->root, NAME, &err), 0);
	golden_is(f, lost, golden_lost_length);
	free(running);
	free(clean);
	free(lost);
}

#define ON_BOTH(test)                                                                                                              \
	{#test " (simulated)", test, setup_sim, teardown, NULL},                                                                   \
	{                                                                                                                          \
		#test " (real files)", test, setup_posix, teardown, NULL                                                           \
	}
#define ON_SIM(test) cmocka_unit_test_setup_teardown(test, setup_sim, teardown)

static uint64_t least_size(struct env_root *root, const char *disk, const struct state_position *position)
{
	return state_file_least_size(root, "vda.state", disk, position);
}

static void image_may_be_no_smaller_but_for_a_growth_that_was_cut_off(void **state)
{
	(void)state;
	enum { OLD = 16 << 20, NEW = 32 << 20 };
	char dir[] = "/tmp/kagami-size-XXXXXX", command[64];
	struct env_root *root = NULL;
	struct state_file *file = NULL;
	struct err err = {0};
	struct dirty dirty, grown;
	struct state_position position = {.point = 1}, other;
	struct image_identity identity = {.inode = 1, .size = OLD};
	memset(&position.protection, 7, sizeof(position.protection));
	other = position;
	memset(&other.protection, 8, sizeof(other.protection));
	assert_non_null(mkdtemp(dir));
	assert_int_equal(env_root_open(env_posix(), dir, &root), 0);
	assert_true(dirty_init(&dirty, OLD) == 0 && dirty_init(&grown, NEW) == 0);
	assert_int_equal(least_size(root, "vda", &position), 0);
	assert_int_equal(state_file_open_run(root, "vda.state", "vda", &position, &identity, &dirty, NULL, &file, &err), 0);
	assert_int_equal(least_size(root, "vda", &position), OLD);
	assert_int_equal(least_size(root, "vdb", &position), 0);
	assert_int_equal(least_size(root, "vda", &other), 0);
	assert_int_equal(state_file_grow(&file, root, "vda.state", NEW, &identity, &err), 0);
	assert_int_equal(least_size(root, "vda", &position), OLD); // the image comes after it
	assert_int_equal(state_file_ungrow(&file, root, "vda.state", OLD, &identity, &err), 0);
	assert_int_equal(least_size(root, "vda", &position), OLD);
	assert_int_equal(state_file_grow(&file, root, "vda.state", NEW, &identity, &err), 0);
	assert_int_equal(state_file_grown(file, &err), 0);
	assert_int_equal(least_size(root, "vda", &position), NEW); // and the image has followed
	assert_int_equal(state_file_position(file, &position, &err), 0);
	assert_int_equal(least_size(root, "vda", &position), NEW);
	identity.size = OLD / 2; // cut while it was served
	assert_int_equal(state_file_save(file, &position, &identity, &grown, &err), 0);
	assert_int_equal(least_size(root, "vda", &position), NEW);
	state_file_close(file);
	dirty_done(&dirty);
	dirty_done(&grown);
	env_root_close(root);
	(void)snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(file_that_is_missing_means_initial_or_missing),
		ON_BOTH(clean_stop_means_a_delta_from_the_map),
		ON_SIM(sync_that_is_owed_stays_in_the_file_until_a_position_settles_it),
		ON_SIM(map_is_loaded_on_top_of_what_is_dirty_already),
		ON_BOTH(replicator_that_ran_and_did_not_stop_means_unclean_stop),
		ON_SIM(file_of_another_protection_generation_or_disk_means_foreign),
		ON_SIM(image_with_another_identity_means_image_changed),
		ON_SIM(image_that_others_changed_after_a_crash_means_image_changed),
		ON_BOTH(image_that_was_taken_back_behind_the_newest_position_is_seen),
		ON_BOTH(file_that_runs_has_the_number_of_its_run),
		cmocka_unit_test(image_may_be_no_smaller_but_for_a_growth_that_was_cut_off),
		cmocka_unit_test(reasons_have_the_names_of_the_document),
		ON_SIM(header_lies_where_the_document_says),
		ON_SIM(map_pages_lie_where_the_document_says),
		ON_SIM(file_that_runs_says_so_in_both_slots),
		ON_SIM(clean_file_with_any_flipped_bit_gives_the_truth_or_a_reason),
		ON_SIM(file_of_a_running_agent_with_any_flipped_bit_never_passes_for_a_clean_one),
		ON_SIM(truncated_file_is_never_believed),
		ON_SIM(one_damaged_slot_of_a_clean_stop_takes_nothing_away),
		ON_SIM(header_fields_out_of_their_limits_are_refused),
		ON_SIM(features_that_may_be_ignored_are_and_those_to_clear_are_cleared),
		ON_SIM(sequence_at_its_end_does_not_bring_back_a_clean_stop),
		ON_SIM(page_fields_out_of_their_limits_are_refused),
		ON_SIM(pages_in_another_order_are_refused),
		ON_SIM(pages_of_an_older_stop_are_refused),
		ON_SIM(pages_of_another_file_are_refused),
		ON_SIM(bits_past_the_end_of_the_disk_are_nothing),
		ON_BOTH(what_is_no_file_of_ours_is_replaced_whole),
		ON_SIM(state_that_cannot_be_written_names_the_file),
		ON_SIM(files_of_version_1_are_read_and_written_as_they_were),
		ON_BOTH(mark_sectors_lie_where_the_document_says),
		ON_BOTH(unclean_stop_gives_the_regions_that_were_marked_and_no_other),
		ON_SIM(any_damaged_bit_of_the_marks_is_seen),
		ON_BOTH(position_is_durable_and_one_step_back_names_the_point_as_pending),
		ON_SIM(mark_of_a_region_that_is_marked_costs_no_operation),
		ON_SIM(failed_mark_breaks_the_file_and_losing_it_is_seen_by_the_next_start),
		ON_BOTH(file_that_was_never_opened_to_run_can_be_lost_too),
		ON_BOTH(disk_that_grew_has_its_marks_and_the_new_range),
		ON_SIM(grow_that_fails_before_its_rename_leaves_a_good_file),
	};
	return cmocka_run_group_tests_name("state_file", tests, NULL, NULL);
}
