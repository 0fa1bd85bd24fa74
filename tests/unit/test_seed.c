// SPDX-License-Identifier: Apache-2.0
// Seeds: E1 to E3 of receiver/seed.h, after a crash anywhere, with damage, and with what operators do.
//
// KAGAMI_CRASH_STATES=n looks at up to n states a scenario.
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "receiver/seed.h"
#include "receiver/seed_file.h"
#include "receiver/store.h"
#include "tests/lib/bad_disk.h"
#include "tests/lib/feed.h"
#include "tests/sim/crash_test.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DISKS = 2, BLOCKS = 3, IMAGE_SIZE = BLOCKS * BLOCK_SIZE };

// The second disk ends in the middle of a piece.
static const uint64_t disk_size[DISKS] = {3 * BLOCK_SIZE, 2 * BLOCK_SIZE + 5 * PIECE_SIZE + 3 * SECTOR_SIZE};
static const char *const disk_name[DISKS] = {"vda", "vdb"};
static const unsigned char other_pin[OWNER_PIN_SIZE] = {1, 2, 4};

struct promise {
	unsigned seeds;	      // that were answered to be there
	bool created, adopted; // the same of the protection, and of its table
};

struct world {
	unsigned char seed[DISKS][IMAGE_SIZE];
	uint64_t seed_size[DISKS];
	struct wire_open open;
	bool make; // the run makes the seeds, too
	bool reads_fail; // a block that could not be read is one that the source sends
	struct promise promise;
};

static void fill(unsigned char *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		to[i] = (unsigned char)(seed >> 24);
	}
}

static struct world *world_new(bool make)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	w->make = make;
	w->open = feed_open(DISKS, disk_size, 4);
	for (unsigned d = 0; d < DISKS; d++) {
		w->seed_size[d] = disk_size[d];
		fill(w->seed[d], BLOCK_SIZE, d);
		fill(w->seed[d] + 2 * BLOCK_SIZE, BLOCK_SIZE, d + 5); // a block of zeros between
		memset(w->seed[d] + disk_size[d], 0, IMAGE_SIZE - disk_size[d]);
	}
	return w;
}

static int seed_make(struct env_root *root, const struct world *w, unsigned d, bool any, struct err *err)
{
	struct seed seed = {.name = "vm1", .size = w->seed_size[d], .any_source = any};
	struct env_file *raw = NULL;
	strcpy(seed.disk, disk_name[d]);
	memcpy(seed.source, feed_pin, OWNER_PIN_SIZE);
	int rc = seed_begin(root, err);
	if (rc == 0)
		rc = env_open(root, SEEDS_NEW "/raw", ENV_CREATE, &raw);
	if (rc == 0)
		rc = env_truncate(raw, w->seed_size[d]);
	if (rc == 0)
		rc = env_pwrite(raw, w->seed[d], (size_t)min_u64(w->seed_size[d], IMAGE_SIZE), 0);
	env_close(raw);
	return rc ? rc : seed_publish(root, &seed, err);
}

static int open_store(struct env *env, struct store **ret_store, struct env_root **ret_root, struct err *err)
{
	int rc = env_root_open(env, "/store", ret_root);
	rc = rc ? rc : store_open(env, "/store", ret_store, err);
	if (rc && *ret_root)
		env_root_close(*ret_root);
	return rc;
}

static int setup(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct env_root *root = NULL;
	struct store *store = NULL;
	int rc = feed_make_dir(env, "store", err);
	if (rc == 0)
		rc = open_store(env, &store, &root, err);
	if (rc)
		return rc;
	for (unsigned d = 0; rc == 0 && !w->make && d < DISKS; d++)
		rc = seed_make(root, w, d, false, err);
	env_root_close(root);
	store_close(store);
	return rc;
}

static int adopt_all(struct replica *r, struct err *err)
{
	int rc;
	do {
		rc = replica_adopt(r, err);
	} while (rc == 1);
	return rc;
}

static int run_store(struct world *w, struct store *store, struct env_root *root, struct err *err)
{
	struct replica *r = NULL;
	for (unsigned d = 0; w->make && d < DISKS; d++) {
		int rc = seed_make(root, w, d, false, err);
		if (rc)
			return rc;
		w->promise.seeds = d + 1;
	}
	int rc = store_create(store, &w->open, feed_pin, &r, err);
	if (rc)
		return rc;
	w->promise.created = true;
	rc = adopt_all(r, err);
	w->promise.adopted = rc == 0;
	return rc;
}

static int run(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct env_root *root = NULL;
	w->promise = (struct promise){.seeds = w->make ? 0 : DISKS};
	int rc = open_store(env, &store, &root, err);
	if (rc)
		return rc;
	rc = run_store(w, store, root, err);
	env_root_close(root);
	store_close(store);
	return rc;
}

// --- the check ---

// What the base of a disk holds, against the digests that a session compares with.
static int table_check(struct world *w, struct replica *r, unsigned d, unsigned char *image, struct err *err)
{
	struct env_file *raw = NULL;
	memset(image, 0, IMAGE_SIZE);
	int rc = replica_open_file(r, ENV_READ, &raw, err, "base/%s.raw", disk_name[d]);
	if (rc == 0)
		rc = env_pread_full(raw, image, (size_t)disk_size[d], 0);
	env_close(raw);
	for (uint64_t b = 0; rc == 0 && b < size_blocks(disk_size[d]); b++) {
		struct digest digest = digest_of(&w->open.digest, (uint16_t)d, b, image + b * BLOCK_SIZE), found = head_digest(r, d, b);
		if (!digest_equal(&digest, &found) && !(w->reads_fail && digest_equal(&found, &digest_unknown)))
			rc = err_set(err, -EBADMSG, "block %llu of %s is not what the table says", (unsigned long long)b, disk_name[d]);
	}
	return rc;
}

static int base_check(struct world *w, struct replica *r, struct err *err)
{
	unsigned char image[IMAGE_SIZE];
	for (unsigned d = 0; d < DISKS; d++) {
		int rc = table_check(w, r, d, image, err);
		if (rc)
			return rc;
		bool whole = memcmp(image, w->seed[d], IMAGE_SIZE) == 0;
		if (!whole && w->promise.adopted)
			return err_set(err, -EBADMSG, "the base of %s is not the seed", disk_name[d]);
		if (!whole && !bytes_zero(image, IMAGE_SIZE))
			return err_set(err, -EBADMSG, "the base of %s is half a seed", disk_name[d]);
	}
	return 0;
}

static int replica_check(struct world *w, struct replica *r, struct err *err)
{
	struct wire_opened opened;
	int rc = adopt_all(r, err);
	if (rc == 0)
		rc = replica_session_begin(r, &w->open, feed_pin, &opened, err);
	if (rc)
		return rc;
	rc = base_check(w, r, err);
	replica_session_end(r);
	return rc;
}

// Seeds that are there are whole.
static int seeds_check(struct world *w, struct env_root *root, struct err *err)
{
	for (unsigned d = 0; d < DISKS; d++) {
		unsigned char image[IMAGE_SIZE] = {0};
		char path[REPLICA_PATH_SIZE];
		struct seed seed;
		struct env_file *raw = NULL;
		int rc = seed_load(root, "vm1", disk_name[d], &seed, err);
		if (rc == -ENOENT && d >= w->promise.seeds)
			continue;
		if (rc)
			return rc;
		(void)snprintf(path, sizeof(path), SEEDS "/vm1/%s/raw", disk_name[d]);
		rc = env_open(root, path, ENV_READ, &raw);
		rc = rc ? rc : env_pread_full(raw, image, (size_t)w->seed_size[d], 0);
		env_close(raw);
		if (rc || memcmp(image, w->seed[d], IMAGE_SIZE) != 0)
			return err_set(err, -EBADMSG, "the seed of %s is not whole", disk_name[d]);
	}
	return 0;
}

static int check(struct env *env, void *context, struct err *err)
{
	struct world *w = context;
	struct store *store = NULL;
	struct env_root *root = NULL;
	int rc = open_store(env, &store, &root, err);
	if (rc)
		return rc;
	struct replica *r = store_find(store, "vm1");
	if (r)
		rc = replica_check(w, r, err);
	else if (w->promise.created)
		rc = err_set(err, -ENOENT, "vm1 is gone");
	else
		rc = seeds_check(w, root, err);
	env_root_close(root);
	store_close(store);
	return rc;
}

// Of scenarios with many points a look at each end or failure, twice; `make test-crash` looks at all that each can leave.
enum { FEW = 400 };

static struct crash_scenario scenario_of(const char *name, struct world *w)
{
	return (struct crash_scenario){.name = name, .context = w, .promise = &w->promise, .promise_size = sizeof(w->promise),
				       .setup = setup, .run = run, .check = check, .at_syncs = true, .states_max = 2000};
}

static void e1_a_seed_is_made_and_adopted_wholly_or_not_at_all(void **state)
{
	(void)state;
	struct world *w = world_new(true);
	struct crash_scenario s = scenario_of("seed", w);
	assert_true(crash_test_quiet(&s));
	free(w);
}

static int recover(struct env *env, void *context, struct err *err)
{
	struct store *store = NULL;
	(void)context;
	int rc = store_open(env, "/store", &store, err);
	struct replica *r = rc ? NULL : store_find(store, "vm1");
	if (r)
		rc = adopt_all(r, err);
	store_close(store);
	return rc;
}

static void e1_an_adoption_is_done_again_when_it_was_cut(void **state)
{
	(void)state;
	struct world *w = world_new(false);
	struct crash_scenario s = scenario_of("seed_twice", w);
	s.states_max = FEW;
	s.recover = recover;
	s.crashes = 2;
	assert_true(crash_test_quiet(&s));
	free(w);
}

static void e1_a_seed_stays_whole_when_operations_fail(void **state)
{
	(void)state;
	struct world *w = world_new(true);
	struct crash_scenario s = scenario_of("seed_faults", w);
	s.states_max = FEW;
	w->reads_fail = true;
	assert_true(anomaly_test_quiet(&s));
	free(w);
}

// --- what a seed is taken for ---

struct place {
	struct sim *sim;
	struct store *store;
	struct env_root *root;
	struct world *w;
};

static struct place place_new(void)
{
	struct place p = {.sim = sim_new(1), .w = world_new(true)};
	struct err err = {0};
	assert_int_equal(setup(sim_env(p.sim), p.w, &err), 0);
	assert_int_equal(open_store(sim_env(p.sim), &p.store, &p.root, &err), 0);
	return p;
}

static void place_free(struct place *p)
{
	env_root_close(p->root);
	store_close(p->store);
	sim_free(p->sim);
	free(p->w);
}

static void e3_a_seed_is_for_its_source_only(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct wire_opened opened;
	struct seed seed;
	assert_int_equal(seed_make(p.root, p.w, 0, false, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, other_pin, &r, &err), 0);
	assert_int_equal(replica_adopt(r, &err), 0); // nothing: it has a base of zeros
	assert_int_equal(replica_session_begin(r, &p.w->open, other_pin, &opened, &err), 0);
	struct digest digest = head_digest(r, 0, 0);
	assert_true(digest_is_zero(&digest));
	replica_session_end(r);
	assert_int_equal(seed_load(p.root, "vm1", "vda", &seed, &err), 0); // and the seed waits for its own
	place_free(&p);
}

// E1: what a base was digested as is not replaced. The seed of the second disk is made while the first is read already.
static void e1_a_seed_that_comes_after_its_protection_is_none(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct env_stat st;
	assert_int_equal(seed_make(p.root, p.w, 0, false, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, feed_pin, &r, &err), 0);
	assert_int_equal(replica_adopt(r, &err), 1); // the files
	assert_int_equal(replica_adopt(r, &err), 1); // the first disk
	assert_int_equal(seed_make(p.root, p.w, 1, false, &err), -EEXIST);
	assert_int_equal(env_rename(p.root, "vm1/protection.json", "away"), 0); // as if it came in the same instant
	assert_int_equal(seed_make(p.root, p.w, 1, false, &err), 0);
	assert_int_equal(env_rename(p.root, "away", "vm1/protection.json"), 0);
	store_close(p.store);
	assert_int_equal(store_open(sim_env(p.sim), "/store", &p.store, &err), 0);
	r = store_find(p.store, "vm1");
	assert_non_null(r);
	assert_int_equal(adopt_all(r, &err), 0);
	assert_int_equal(env_stat(p.root, ".seeds/vm1/vdb/raw", &st), 0); // it lies where it was
	place_free(&p);
}

static void a_seed_for_any_source_is_taken_by_the_first(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct seed seed;
	assert_int_equal(seed_make(p.root, p.w, 0, true, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, other_pin, &r, &err), 0);
	assert_int_equal(replica_adopt(r, &err), 1);
	assert_int_equal(adopt_all(r, &err), 0);
	assert_int_equal(seed_load(p.root, "vm1", "vda", &seed, &err), -ENOENT);
	place_free(&p);
}

static void no_session_begins_before_a_seed_is_read(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct replica_info info;
	struct wire_opened opened;
	for (unsigned d = 0; d < DISKS; d++)
		assert_int_equal(seed_make(p.root, p.w, d, false, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, feed_pin, &r, &err), 0);
	unsigned steps = 0;
	for (;; steps++) {
		replica_info(r, &info);
		if (!info.adopting)
			break;
		assert_int_equal(replica_session_begin(r, &p.w->open, feed_pin, &opened, &err), -EAGAIN);
		assert_true(info.adopted_bytes <= info.adopting_bytes);
		assert_int_equal(replica_adopt(r, &err), 1);
	}
	assert_int_equal(steps, 2 + DISKS); // the files, each disk, the end
	assert_int_equal(replica_session_begin(r, &p.w->open, feed_pin, &opened, &err), 0);
	p.w->promise.adopted = true;
	assert_int_equal(base_check(p.w, r, &err), 0);
	replica_session_end(r);
	place_free(&p);
}

// E2: larger and smaller than the disk.
static void a_seed_of_another_size_is_cut_or_filled_with_zeros(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct wire_opened opened;
	p.w->seed_size[0] = BLOCK_SIZE + 100 * SECTOR_SIZE;	  // less than the disk, and it ends within a block
	p.w->seed_size[1] = disk_size[1] + 7 * BLOCK_SIZE + 1;	  // more, and not even a number of sectors
	fill(p.w->seed[0] + BLOCK_SIZE, BLOCK_SIZE, 77);
	memset(p.w->seed[0] + p.w->seed_size[0], 0, IMAGE_SIZE - p.w->seed_size[0]);
	fill(p.w->seed[1], IMAGE_SIZE, 78); // also past the end of the disk
	for (unsigned d = 0; d < DISKS; d++)
		assert_int_equal(seed_make(p.root, p.w, d, false, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, feed_pin, &r, &err), 0);
	assert_int_equal(adopt_all(r, &err), 0);
	assert_int_equal(replica_session_begin(r, &p.w->open, feed_pin, &opened, &err), 0);
	memset(p.w->seed[1] + disk_size[1], 0, IMAGE_SIZE - disk_size[1]);
	p.w->promise.adopted = true;
	assert_int_equal(base_check(p.w, r, &err), 0);
	replica_session_end(r);
	place_free(&p);
}

static void a_note_that_is_damaged_has_the_seed_read_from_its_start(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct wire_opened opened;
	struct env_file *note = NULL;
	for (unsigned d = 0; d < DISKS; d++)
		assert_int_equal(seed_make(p.root, p.w, d, false, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, feed_pin, &r, &err), 0);
	assert_int_equal(replica_adopt(r, &err), 1);
	assert_int_equal(replica_adopt(r, &err), 1);
	assert_int_equal(env_open(p.root, "vm1/adopting.json", ENV_WRITE, &note), 0);
	assert_int_equal(env_pwrite(note, "X", 1, 3), 0);
	env_close(note);
	store_close(p.store);
	p.store = NULL;
	assert_int_equal(store_open(sim_env(p.sim), "/store", &p.store, &err), 0);
	r = store_find(p.store, "vm1");
	assert_int_equal(r->adopt_disk, 0);
	assert_int_equal(adopt_all(r, &err), 0);
	assert_int_equal(replica_session_begin(r, &p.w->open, feed_pin, &opened, &err), 0);
	p.w->promise.adopted = true;
	assert_int_equal(base_check(p.w, r, &err), 0);
	replica_session_end(r);
	place_free(&p);
}

// E2: a bad place of the disk costs what travels, and not the protection.
static void a_block_of_a_seed_that_cannot_be_read_is_only_sent_again(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct replica *r = NULL;
	struct replica_info info;
	struct wire_opened opened;
	assert_int_equal(seed_make(p.root, p.w, 0, false, &err), 0);
	bad_disk_begin(sim_env(p.sim));
	bad_disk_set("vm1/base/vda.raw", 2 * BLOCK_SIZE, BLOCK_SIZE, -EIO);
	assert_int_equal(store_create(p.store, &p.w->open, feed_pin, &r, &err), 0);
	if (adopt_all(r, &err))
		fail_msg("%s", err.text);
	replica_info(r, &info);
	assert_false(info.broken || info.adopting);
	assert_int_equal(replica_session_begin(r, &p.w->open, feed_pin, &opened, &err), 0);
	for (uint64_t b = 0; b < BLOCKS; b++) { // the one differs from whatever the source has, also from zeros
		struct digest digest = digest_of(&p.w->open.digest, 0, b, p.w->seed[0] + b * BLOCK_SIZE), found = head_digest(r, 0, b);
		assert_int_equal(digest_equal(&digest, &found), b != 2);
		assert_false(b == 2 && digest_is_zero(&found));
	}
	replica_session_end(r);
	bad_disk_end();
	place_free(&p);
}

// A file that is moved is at its own place or the seed's, whatever happens.
static void a_place_without_its_file_is_no_seed(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct seed seed = {.name = "vm1", .disk = "vda", .size = disk_size[0], .any_source = true}, found;
	struct replica *r = NULL;
	struct env_stat st;
	assert_int_equal(seed_begin(p.root, &err), 0);
	assert_int_equal(seed_place(p.root, &seed, &err), 0);
	assert_int_equal(seed_load(p.root, "vm1", "vda", &found, &err), -ENOENT);
	assert_int_equal(seed_make(p.root, p.w, 0, true, &err), 0); // which is not kept from its name
	assert_int_equal(seed_load(p.root, "vm1", "vda", &found, &err), 0);
	assert_int_equal(seed_remove(p.root, "vm1", "vda", &err), 0);
	assert_int_equal(seed_begin(p.root, &err), 0);
	assert_int_equal(seed_place(p.root, &seed, &err), 0);
	struct env_file *raw = NULL; // as if it were moved there
	assert_int_equal(env_open(p.root, SEEDS "/vm1/vda/raw", ENV_CREATE, &raw), 0);
	assert_int_equal(env_pwrite(raw, p.w->seed[0], (size_t)disk_size[0], 0), 0);
	env_close(raw);
	assert_int_equal(seed_moved(p.root, &seed, &err), 0);
	assert_int_equal(store_create(p.store, &p.w->open, feed_pin, &r, &err), 0);
	assert_int_equal(adopt_all(r, &err), 0);
	assert_int_equal(env_stat(p.root, SEEDS "/vm1/vda", &st), -ENOENT);
	place_free(&p);
}

static void seeds_are_listed_and_dropped(void **state)
{
	(void)state;
	struct place p = place_new();
	struct err err = {0};
	struct seed *seeds = NULL;
	size_t count = 0;
	assert_int_equal(seed_list(p.root, &seeds, &count, &err), 0);
	assert_int_equal(count, 0);
	free(seeds);
	for (unsigned d = 0; d < DISKS; d++)
		assert_int_equal(seed_make(p.root, p.w, d, false, &err), 0);
	assert_int_equal(seed_make(p.root, p.w, 0, false, &err), -EEXIST);
	assert_int_equal(seed_list(p.root, &seeds, &count, &err), 0);
	assert_int_equal(count, DISKS);
	assert_string_equal(seeds[1].disk, "vdb");
	free(seeds);
	(void)env_rmdir(p.root, ".trash"); // somebody takes empty directories away, say
	assert_int_equal(seed_remove(p.root, "vm1", "vda", &err), 0);
	assert_int_equal(seed_remove(p.root, "vm1", "vda", &err), -ENOENT);
	assert_int_equal(seed_remove(p.root, "vm1", "vdb", &err), 0);
	place_free(&p);
}

// A qcow2 image is one file, or it could show another file of this host.
static void a_qcow2_that_is_more_than_its_file_is_refused(void **state)
{
	(void)state;
	static const struct {
		unsigned at;
		unsigned char value;
		int code;
	} cases[] = {
		{0, 'X', -EBADMSG},  // magic
		{7, 4, -EBADMSG},    // version
		{15, 8, -EINVAL},    // a backing file
		{35, 1, -EINVAL},    // encrypted
		{79, 1, -EINVAL},    // dirty
		{79, 4, -EINVAL},    // data in another file
		{79, 8, 0},	     // another compression
		{79, 16, 0},	     // extended entries
		{72, 0x80, -EINVAL}, // what nobody knows yet
		{24, 1, -EINVAL},    // 64 PiB
	};
	unsigned char header[104] = {'Q', 'F', 'I', 0xfb, [7] = 3, [29] = 16};
	uint64_t size = 0;
	assert_int_equal(seed_qcow2_check(header, sizeof(header), &size, NULL), 0);
	assert_int_equal(size, 1 << 20);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char other[104];
		memcpy(other, header, sizeof(other));
		other[cases[i].at] = cases[i].value;
		assert_int_equal(seed_qcow2_check(other, sizeof(other), &size, NULL), cases[i].code);
	}
	for (size_t len = 0; len < sizeof(header); len++)
		assert_int_not_equal(seed_qcow2_check(header, len, &size, NULL), 0);
	header[7] = 2; // which ends before the features
	assert_int_equal(seed_qcow2_check(header, 72, &size, NULL), 0);
}

int main(void)
{
	log_init("test_seed", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(e1_a_seed_is_made_and_adopted_wholly_or_not_at_all),
		cmocka_unit_test(e1_an_adoption_is_done_again_when_it_was_cut),
		cmocka_unit_test(e1_a_seed_stays_whole_when_operations_fail),
		cmocka_unit_test(e1_a_seed_that_comes_after_its_protection_is_none),
		cmocka_unit_test(e3_a_seed_is_for_its_source_only),
		cmocka_unit_test(a_seed_for_any_source_is_taken_by_the_first),
		cmocka_unit_test(no_session_begins_before_a_seed_is_read),
		cmocka_unit_test(a_seed_of_another_size_is_cut_or_filled_with_zeros),
		cmocka_unit_test(a_note_that_is_damaged_has_the_seed_read_from_its_start),
		cmocka_unit_test(a_block_of_a_seed_that_cannot_be_read_is_only_sent_again),
		cmocka_unit_test(a_place_without_its_file_is_no_seed),
		cmocka_unit_test(seeds_are_listed_and_dropped),
		cmocka_unit_test(a_qcow2_that_is_more_than_its_file_is_refused),
	};
	return cmocka_run_group_tests_name("seed", tests, NULL, NULL);
}
