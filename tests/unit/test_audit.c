// SPDX-License-Identifier: Apache-2.0
// The audit of holes: what was told without being read is read, what was false is dirty and told, and what a guest wrote meanwhile is its cycle's. Invariants U1 to
// U3 of audit.h over a group of volumes, and A1 of audit_record.h over a protection whose source is that group.
#include "base/bytes.h"
#include "replicator/group.h"
#include "replicator/protection_private.h"
#include "tests/lib/fake_aio.h"
#include "tests/lib/page_cache.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { REGIONS = 6, TAIL = 3 * PIECE_SIZE, SIZE = (REGIONS - 1) * REGION_SIZE + TAIL, FULL_UNITS = 8 * (REGIONS - 1) };

static struct {
	struct source source;
	struct fake_aio fake;
	struct group group;
	uint64_t hole_from, hole_until; // what the file system says, in bytes
	unsigned hole_asked;
	unsigned hole_silent; // so many questions more are not answered
	unsigned runs;
	uint64_t read_blocks, served;
	int read_code;
	void (*while_reading)(void);
} w;

static struct volume *volume(void)
{
	return &w.group.volume[0];
}

static uint64_t first_of_all(uint64_t below)
{
	return (void)below, 0;
}

static bool hole(struct aio_backend *backend, uint64_t off, uint64_t *ret_until)
{
	(void)backend;
	w.hole_asked++;
	*ret_until = off;
	if (w.hole_silent && w.hole_silent--)
		return false;
	bool is = off >= w.hole_from && off < w.hole_until;
	*ret_until = is ? w.hole_until : off < w.hole_from ? w.hole_from : SIZE;
	return is;
}

static void no_marks(struct intent *intent)
{
	(void)intent;
}

static void group_make(uint64_t size)
{
	memset(&w, 0, sizeof(w));
	fake_aio_init(&w.fake, size);
	w.fake.backend.hole = hole;
	w.hole_until = size;
	struct aio_backend *backend = &w.fake.backend;
	assert_int_equal(group_init(&w.group, 1, &size, &backend, BLOCK_SIZE), 0);
	intent_enable(&w.group.intent, &w.group, no_marks);
	for (uint64_t r = 0; r < size_regions(size); r++) // writes wait for none
		intent_set_marked(&w.group.intent, volume(), r);
}

static void group_end(void)
{
	fake_aio_drain(&w.fake, first_of_all);
	group_done(&w.group);
	fake_aio_done(&w.fake);
}

static void nothing(struct group_cut *cut)
{
	(void)cut;
}

static void on_cut(struct group_cut *cut, int res)
{
	(void)cut;
	assert_int_equal(res, 0);
}

static void cut(void)
{
	static struct group_cut cut;
	cut = (struct group_cut){.mode = CUT_PRECOPY, .hold = nothing, .take = nothing, .done = on_cut};
	group_cut(&w.group, &cut);
}

static void on_kept(struct group_keep *keep, int res)
{
	(void)keep;
	assert_int_equal(res, 0);
}

static void keep(void)
{
	static struct group_keep keep;
	keep = (struct group_keep){.done = on_kept};
	group_keep(&w.group, &keep);
	fake_aio_drain(&w.fake, first_of_all);
}

// A sync of all that believes what it is told. Blocks told.
static uint64_t tell(void)
{
	struct source_run runs[8];
	bool all = false;
	uint64_t blocks = 0;
	group_mark_all(&w.group);
	cut();
	unsigned count = group_holes(&w.group, runs, 8, &all);
	assert_true(all);
	for (unsigned i = 0; i < count; i++)
		blocks += runs[i].count;
	return blocks;
}

static void on_written(struct volume_request *request, int res)
{
	assert_int_equal(res, 0);
	free(request);
}

static void guest_writes(uint64_t off, uint64_t len)
{
	static unsigned char data[BLOCK_SIZE];
	memset(data, 7, sizeof(data));
	struct volume_request *request = calloc(1, sizeof(*request));
	*request = (struct volume_request){.command = VOLUME_WRITE, .off = off, .len = len, .data = data, .done = on_written};
	volume_submit(volume(), request);
}

static bool is_dirty(uint64_t block)
{
	return dirty_mask(&volume()->dirty, block) != 0;
}

// Reads what is next. Blocks read; 0: nothing is unproven.
static uint64_t audit(unsigned most, struct source_audited *ret_audited)
{
	struct source_run run;
	unsigned char unequal[64] = {0};
	if (!group_audit_next(&w.group, most, &run))
		return 0;
	assert_true(run.count <= most);
	for (uint64_t i = 0; i < run.count; i++)
		if (!bytes_zero(w.fake.image + (run.first + i) * BLOCK_SIZE, min_u64(BLOCK_SIZE, w.fake.size - (run.first + i) * BLOCK_SIZE)))
			unequal[i / 8] |= (unsigned char)(1u << i % 8);
	if (w.while_reading)
		w.while_reading();
	group_audited(&w.group, &run, unequal, ret_audited);
	return run.count;
}

// ---- units

static void every_hole_that_was_told_is_read_once_in_runs_of_the_size_that_was_asked_for(void **unused)
{
	(void)unused;
	static const unsigned most[] = {8, 24, 64, 512};
	for (size_t i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
		struct source_audited audited;
		uint64_t blocks = 0, calls = 0, step;
		group_make(SIZE);
		assert_int_equal(tell(), size_blocks(SIZE));
		assert_int_equal(audit_map_bytes(&volume()->audit, SIZE), SIZE);
		keep();
		for (; (step = audit(most[i], &audited)) != 0; blocks += step, calls++)
			assert_true(!audited.false_blocks && !audited.other_blocks);
		assert_int_equal(blocks, size_blocks(SIZE));
		assert_true(calls >= size_blocks(SIZE) / most[i] && calls <= size_blocks(SIZE) / most[i] + 2);
		assert_int_equal(audit_map_bytes(&volume()->audit, SIZE), 0);
		assert_int_equal(audit_map_memory(&volume()->audit), 0);
		assert_int_equal(volume()->dirty.pieces, 0);
		group_end();
	}
}

// U2.
static void false_hole_is_dirty_with_its_region_and_no_hole_is_told_after_it(void **unused)
{
	(void)unused;
	const uint64_t bad = 2 * BLOCKS_PER_REGION + 17;
	struct source_audited audited, found = {.false_blocks = 0};
	group_make(SIZE);
	w.fake.image[bad * BLOCK_SIZE + BLOCK_SIZE - 1] = 1;
	(void)tell();
	keep();
	while (audit(64, &audited))
		if (audited.false_blocks)
			found = audited;
	assert_int_equal(found.false_blocks, 1);
	assert_int_equal(found.first, bad);
	for (uint64_t b = 0; b < size_blocks(SIZE); b++)
		assert_int_equal(is_dirty(b), b / BLOCKS_PER_REGION == 2);
	assert_int_equal(tell(), 0); // not even where it would be right
	group_end();
}

// U1: the pieces that it did not write are its cycle's as well.
static void unit_that_the_guest_writes_to_is_dirty_whole_and_is_not_read(void **unused)
{
	(void)unused;
	struct source_audited audited;
	group_make(SIZE);
	(void)tell();
	keep();
	guest_writes(REGION_SIZE + 9 * BLOCK_SIZE + 512, 512);
	for (uint64_t b = 0; b < size_blocks(SIZE); b++)
		assert_int_equal(dirty_mask(&volume()->dirty, b), b / 8 == BLOCKS_PER_REGION / 8 + 1 ? MASK_FULL : 0);
	assert_int_equal(audit_map_bytes(&volume()->audit, SIZE), SIZE - AUDIT_UNIT_SIZE);
	fake_aio_drain(&w.fake, first_of_all);
	uint64_t blocks = 0;
	for (uint64_t step; (step = audit(64, &audited)) != 0; blocks += step)
		assert_int_equal(audited.false_blocks, 0);
	assert_int_equal(blocks, size_blocks(SIZE) - AUDIT_UNIT_BLOCKS);
	group_end();
}

static void write_to_all(void)
{
	guest_writes(3 * BLOCK_SIZE, 512);
	w.while_reading = NULL;
}

static void what_is_written_while_it_is_read_is_no_false_hole(void **unused)
{
	(void)unused;
	struct source_audited audited;
	group_make(SIZE);
	w.fake.image[0] = 1; // as the write below might have left it
	(void)tell();
	keep();
	w.while_reading = write_to_all;
	assert_int_equal(audit(64, &audited), 64);
	assert_true(!audited.false_blocks && !audited.other_blocks && is_dirty(0) && !is_dirty(8));
	assert_non_null(w.fake.backend.hole);
	group_end();
}

static void cycle_that_comes_to_nothing_takes_its_holes_back(void **unused)
{
	(void)unused;
	struct source_audited audited;
	group_make(SIZE);
	(void)tell();
	group_give_back(&w.group);
	assert_int_equal(audit(64, &audited), 0);
	assert_int_equal(dirty_bytes(&volume()->dirty), SIZE);
	group_end();
}

static void disk_that_grows_is_not_read_past_its_old_end_for_a_hole(void **unused)
{
	(void)unused;
	struct source_audited audited;
	group_make(SIZE);
	(void)tell();
	keep();
	assert_int_equal(volume_grow(volume(), SIZE + REGION_SIZE), 0);
	assert_false(audit_unproven(&volume()->audit, (REGIONS - 1) * BLOCKS_PER_REGION));
	assert_true(dirty_mask(&volume()->dirty, (REGIONS - 1) * BLOCKS_PER_REGION) == MASK_FULL);
	uint64_t blocks = 0;
	w.fake.size = SIZE; // nothing behind it is looked at
	for (uint64_t step; (step = audit(64, &audited)) != 0; blocks += step)
		continue;
	assert_int_equal(blocks, FULL_UNITS * AUDIT_UNIT_BLOCKS);
	group_end();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED // their own memory is not to be had either
#endif
#endif

#ifndef SANITIZED
static uint64_t address_space(void)
{
	unsigned long long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%llu", &pages), 1);
	(void)fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

// Whichever of its tables has no room: no region behind its end is asked to be marked, of which the state file knows nothing.
static void disk_that_cannot_grow_for_want_of_memory_is_as_it_was(void **unused)
{
	(void)unused;
	struct rlimit before;
	uint64_t taken = 0;
	group_make(SIZE);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	for (uint64_t room = 0; room <= 288; room += 16) { // the tables of 64 TiB take 128 MiB, 128, 8 and 128
		struct rlimit little = before;
		little.rlim_cur = address_space() + (room << 20);
		assert_int_equal(setrlimit(RLIMIT_AS, &little), 0);
		int rc = volume_grow(volume(), DISK_SIZE_MAX);
		(void)setrlimit(RLIMIT_AS, &before);
		assert_int_equal(rc, -ENOMEM);
		assert_int_equal(volume()->size, SIZE);
		assert_int_equal(volume()->intent.regions, size_regions(SIZE));
		taken = volume()->dirty.size;
	}
	assert_int_equal(taken, SIZE);
	group_end();
}
#endif

// The disk ended within a unit, where the cursor stands now.
static void disk_that_grew_is_read_in_whole_units(void **unused)
{
	(void)unused;
	struct source_audited audited;
	uint64_t blocks = 0;
	group_make(SIZE);
	(void)tell();
	keep();
	while (audit(64, &audited))
		continue;
	w.fake.image = realloc(w.fake.image, SIZE + REGION_SIZE); // all of it was a hole, and what is behind it is one
	assert_non_null(w.fake.image);
	memset(w.fake.image + SIZE, 0, REGION_SIZE);
	w.fake.size = w.hole_until = SIZE + REGION_SIZE;
	assert_int_equal(volume_grow(volume(), SIZE + REGION_SIZE), 0);
	cut();
	keep();
	(void)tell();
	keep();
	for (uint64_t step; (step = audit(64, &audited)) != 0; blocks += step)
		assert_int_equal(audited.false_blocks, 0);
	assert_true(blocks >= size_blocks(SIZE));
	group_end();
}

static void file_system_that_says_nothing_just_now_is_asked_again(void **unused)
{
	(void)unused;
	struct source_run run;
	bool all = false;
	group_make(SIZE);
	group_mark_all(&w.group);
	cut();
	w.hole_silent = 2;
	for (unsigned i = 0; i < 2; i++) { // it waits in between, while others have their turn
		assert_int_equal(group_holes(&w.group, &run, 1, &all), 0);
		assert_false(all);
		assert_true(w.group.hole_waits > 0);
	}
	assert_int_equal(group_holes(&w.group, &run, 1, &all), 1);
	assert_true(all && w.group.hole_waits == 0);
	assert_int_equal(run.count, size_blocks(SIZE));
	group_end();
}

// A guest that goes on and on changing the disk.
static void region_of_which_nothing_is_said_for_long_is_read(void **unused)
{
	(void)unused;
	struct source_run run;
	bool all = false;
	unsigned calls = 0;
	group_make(SIZE);
	group_mark_all(&w.group);
	cut();
	w.hole_silent = 1000;
	for (; !all; calls++) {
		assert_true(calls < 1000);
		assert_int_equal(group_holes(&w.group, &run, 1, &all), 0);
	}
	assert_true(calls > REGIONS && calls < 10 * REGIONS);
	assert_int_equal(dirty_region_blocks(&volume()->set, 0), UINT64_MAX);
	assert_int_equal(audit_map_bytes(&volume()->audit, SIZE), 0);

	group_end();
	struct source_audited audited; // U3: what is not said is not held against it
	group_make(SIZE);
	w.fake.image[REGION_SIZE] = 1;
	w.hole_silent = 1000;
	assert_true(audit_carry(volume(), 1, 1));
	assert_int_equal(audit(64, &audited), 64);
	assert_int_equal(audited.false_blocks, 0);
	assert_true(is_dirty(BLOCKS_PER_REGION) && w.fake.backend.hole);
	group_end();
}

// U3.
static void what_an_earlier_process_left_unread_is_false_only_while_it_is_called_a_hole(void **unused)
{
	(void)unused;
	static const struct {
		uint64_t at, from, until; // of a block that is not zero, and of the hole
		bool lies;
	} tries[] = {
		{REGION_SIZE, REGION_SIZE + BLOCK_SIZE, SIZE, false},
		{REGION_SIZE, 0, SIZE, true},
		{REGION_SIZE + 2 * PIECE_SIZE, 0, REGION_SIZE + 2 * PIECE_SIZE, false}, // it begins with a hole, behind which the guest wrote
		{REGION_SIZE + 2 * PIECE_SIZE, 0, REGION_SIZE + BLOCK_SIZE - 1, false},
		{REGION_SIZE + 2 * PIECE_SIZE, REGION_SIZE, REGION_SIZE + BLOCK_SIZE, true},
	};
	struct source_audited audited;
	for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		bool lies = tries[i].lies;
		group_make(SIZE);
		w.fake.image[tries[i].at] = 1;
		w.hole_from = tries[i].from;
		w.hole_until = tries[i].until;
		assert_true(audit_carry(volume(), 1, 2));
		assert_int_equal(audit(64, &audited), 64);
		assert_int_equal(audited.false_blocks, lies);
		assert_int_equal(audited.other_blocks, !lies);
		assert_true(is_dirty(BLOCKS_PER_REGION));
		assert_int_equal(w.fake.backend.hole == NULL, lies);
		group_end();
	}
}

static void memory_of_a_tib_of_holes_is_a_quarter_of_a_mib(void **unused)
{
	(void)unused;
	struct volume v;
	struct group group = {.count = 1};
	assert_int_equal(volume_init(&v, &group, NULL, UINT64_C(1) << 40), 0);
	uint64_t before = volume_memory(&v);
	assert_true(audit_carry(&v, 0, UINT64_MAX));
	assert_int_equal(audit_map_bytes(&v.audit, v.size), UINT64_C(1) << 40);
	assert_int_equal(volume_memory(&v) - before, 256 << 10);
	volume_done(&v);
}

// ---- a protection

static struct temp temp;
static char image[512]; // its path
static struct protection *p;
static struct env_ops clocked_ops;
static struct env clocked = {.ops = &clocked_ops};
static uint64_t clock_ns, ms_per_block;

static uint64_t on_mono(struct env *env)
{
	(void)env;
	return clock_ns;
}

static int64_t on_wall(struct env *env)
{
	return env_posix()->ops->wall_ns(env);
}

static bool op_audit_next(struct source *source, unsigned most, struct source_run *ret_run)
{
	(void)source;
	return group_audit_next(&w.group, most, ret_run);
}

static int op_audit_read(struct source *source, uint16_t disk, uint64_t first, unsigned count, void *data)
{
	(void)source;
	assert_int_equal(disk, 0);
	memset(data, 0, (size_t)count * BLOCK_SIZE);
	memcpy(data, w.fake.image + first * BLOCK_SIZE, min_u64(count * BLOCK_SIZE, SIZE - first * BLOCK_SIZE));
	w.read_blocks += count;
	clock_ns += ms_per_block * count * MS_NS;
	return w.read_code;
}

static void op_audited(struct source *source, const struct source_run *run, const unsigned char *unequal, struct source_audited *ret_audited)
{
	(void)source;
	w.runs++;
	group_audited(&w.group, run, unequal, ret_audited);
}

static uint64_t op_unproven(struct source *source, uint16_t disk, uint64_t region, unsigned char *units, uint64_t count)
{
	(void)source;
	(void)disk;
	for (uint64_t i = 0; i < count; i++)
		units[i] = volume()->audit.units ? volume()->audit.units[region + i] : 0;
	return audit_map_bytes(&volume()->audit, SIZE);
}

static uint64_t op_served(struct source *source)
{
	(void)source;
	return w.served;
}

static const struct source_ops ops = {
	.audit_next = op_audit_next, .audit_read = op_audit_read, .audited = op_audited, .unproven = op_unproven, .served = op_served};

static void begin(bool is_new, enum sync_reason expected)
{
	static char socket[512];
	static struct export_config config;
	struct err err = {0};
	p = calloc(1, sizeof(*p));
	p->place = (struct protection_place){.env = &clocked, .state = temp.root, .state_dir = temp.dir, .run_dir = temp.dir};
	(void)snprintf(p->config.name, NAME_SIZE, "vm1");
	(void)snprintf(p->config.disk[0].name, NAME_SIZE, "vda");
	p->config.disk_count = 1;
	p->config.uuid.bytes[0] = 1;
	p->nowhere.bytes[0] = 99;
	(void)pthread_mutex_init(&p->lock, NULL);
	tracking_init(p);
	doubt_init(p);
	(void)snprintf(image, sizeof(image), "%s/image", temp.dir);
	(void)snprintf(socket, sizeof(socket), "%s/s", temp.dir);
	config = (struct export_config){.protection = "vm1", .socket_path = socket, .disk_count = 1};
	(void)snprintf(config.disk[0].name, NAME_SIZE, "vda");
	config.disk[0].path = image;
	assert_int_equal(export_open(&config, &p->export, &err), 0);
	assert_int_equal(tracking_load(p, is_new, &err), 0);
	assert_int_equal(p->sync, expected);
	p->source = &w.source;
	w.source = (struct source){.ops = &ops, .disk_count = 1, .disk_size = {SIZE}};
	struct source *of_export = export_source(p->export);
	p->source = of_export; // what is carried goes to the export
	assert_int_equal(holes_load(p, is_new, &err), 0);
	p->source = &w.source;
}

static void end(void)
{
	tracking_done(p);
	doubt_done(p);
	export_close(p->export);
	(void)pthread_mutex_destroy(&p->lock);
	free(p->audit.kept);
	free(p);
	p = NULL;
}

static void commit(unsigned char n)
{
	p->position.point = n;
	p->position.last_cut = (struct uuid){.bytes = {n, 7}};
	memset(&p->position.pending_cut, 0, sizeof(p->position.pending_cut));
	p->position_known = true;
	p->sync = SYNC_NONE;
	p->uncovered = false;
	tracking_position(p, SYNC_NONE);
	holes_committed(p);
}

static int set_up(void **unused)
{
	(void)unused;
	char path[512];
	temp_open(&temp);
	clocked_ops = *env_posix()->ops;
	clocked_ops.mono_ns = on_mono;
	clocked_ops.wall_ns = on_wall;
	clock_ns = 1000 * MS_NS;
	ms_per_block = 0;
	(void)snprintf(path, sizeof(path), "%s/image", temp.dir);
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	assert_true(fd >= 0 && ftruncate(fd, SIZE) == 0);
	(void)close(fd);
	assert_int_equal(env_mkdir(temp.root, "protections"), 0);
	assert_int_equal(env_mkdir(temp.root, "protections/vm1"), 0);
	group_make(SIZE);
	begin(true, SYNC_INITIAL);
	return 0;
}

static int tear_down(void **unused)
{
	(void)unused;
	end();
	group_end();
	temp_close(&temp);
	return 0;
}

// A point of a sync that told holes.
static void synced(void)
{
	uint64_t blocks = tell();
	holes_sealing(p, blocks);
	keep();
	commit(1);
}

static void restart(enum sync_reason expected)
{
	end();
	begin(false, expected);
}

static uint64_t carried(void)
{
	return source_unproven(export_source(p->export), 0, 0, NULL, 0);
}

static void clear_marks(void)
{
	struct err err = {0};
	uint64_t all[REGIONS];
	for (uint64_t r = 0; r < REGIONS; r++)
		all[r] = r;
	assert_int_equal(tracking_commit(p, 0, NULL, 0, all, REGIONS, &err), 0);
}

static void audit_all(void)
{
	while (holes_turn(p, false) != UINT64_MAX)
		clock_ns += 60000 * MS_NS;
}

// By count: a step is so many blocks at most, and there is none before its time.
static void holes_are_read_at_a_bounded_rate_and_a_slower_one_beside_the_guest(void **unused)
{
	(void)unused;
	static const struct {
		bool busy;
		uint64_t rest_ms;
	} cases[] = {{false, AUDIT_REST_MS}, {true, AUDIT_REST_BUSY_MS}};
	synced();
	assert_int_equal(holes_turn(p, false), clock_ns + AUDIT_REST_MS * MS_NS);
	for (size_t c = 0; c < 2; c++) {
		uint64_t steps = w.runs, blocks = w.read_blocks, begin_ns = clock_ns;
		for (unsigned ms = 0; ms < 2 * cases[c].rest_ms; ms++) {
			clock_ns += MS_NS;
			w.served += cases[c].busy;
			(void)holes_turn(p, false);
			(void)holes_turn(p, false);
		}
		uint64_t due = (clock_ns - begin_ns) / (cases[c].rest_ms * MS_NS);
		assert_true(w.runs - steps <= due + 1 && w.runs > steps);
		assert_true(w.read_blocks - blocks <= (w.runs - steps) * AUDIT_STEP_BLOCKS);
	}
}

static void all_protections_together_read_holes_no_faster_than_one(void **unused)
{
	(void)unused;
	enum { OTHERS = 9, ROUNDS = 4 };
	static _Atomic(uint64_t) turn_ns;
	turn_ns = 0;
	p->place.audit_turn_ns = &turn_ns;
	synced();
	for (unsigned ms = 0; ms < ROUNDS * (OTHERS + 1) * AUDIT_REST_MS; ms++, clock_ns += MS_NS) {
		if (ms % (AUDIT_REST_MS * (OTHERS + 1)) == 0) // the others take a turn each
			turn_ns = max_u64(turn_ns, clock_ns) + OTHERS * AUDIT_REST_MS * MS_NS;
		(void)holes_turn(p, false);
	}
	assert_true(w.runs > 0 && w.runs <= ROUNDS + 1);
	uint64_t runs = w.runs;
	clock_ns = max_u64(clock_ns, p->audit.next_ns);
	turn_ns = clock_ns + 1000 * MS_NS;
	assert_int_equal(holes_turn(p, false), clock_ns + 1000 * MS_NS);
	turn_ns = clock_ns + 10000 * MS_NS; // one that does not use its turn holds up none that has one
	clock_ns = p->audit.next_ns;
	(void)holes_turn(p, false);
	assert_int_equal(w.runs, runs + 1);
}

// The next turn is as near as after a step that went well, and short, while this one waits for longer.
static void one_that_rests_longer_or_has_nothing_to_read_holds_up_no_other(void **unused)
{
	(void)unused;
	static _Atomic(uint64_t) turn_ns;
	turn_ns = 0;
	p->place.audit_turn_ns = &turn_ns;
	synced();
	w.read_code = -EIO;
	assert_true(holes_turn(p, false) > clock_ns + 1000 * MS_NS);
	assert_int_equal(turn_ns, clock_ns + AUDIT_REST_MS * MS_NS);
	w.read_code = 0;
	clock_ns = p->audit.next_ns;
	w.served++;
	assert_int_equal(holes_turn(p, false), clock_ns + AUDIT_REST_BUSY_MS * MS_NS);
	assert_int_equal(turn_ns, clock_ns + AUDIT_REST_MS * MS_NS);
	audit_all();
	uint64_t before_ns = turn_ns;
	clock_ns += 60000 * MS_NS;
	assert_int_equal(holes_turn(p, false), UINT64_MAX);
	assert_int_equal(turn_ns, before_ns);
}

static void a_step_that_keeps_a_cut_waiting_is_one_unit(void **unused)
{
	(void)unused;
	synced();
	(void)holes_turn(p, true);
	assert_int_equal(w.read_blocks, AUDIT_UNIT_BLOCKS);
}

static void a_cut_that_is_due_waits_for_one_short_step_and_no_more(void **unused)
{
	(void)unused;
	synced();
	ms_per_block = 1;
	(void)holes_turn(p, true);
	assert_int_equal(w.read_blocks, AUDIT_UNIT_BLOCKS); // it took more than it may: it ends with the unit
	for (unsigned i = 0; i < 100; i++) {
		clock_ns += 100 * MS_NS;
		assert_int_equal(holes_turn(p, true), UINT64_MAX);
	}
	assert_int_equal(w.read_blocks, AUDIT_UNIT_BLOCKS);
	p->audit.stepped = false; // a cycle was run
	(void)holes_turn(p, true);
	assert_int_equal(w.read_blocks, 2 * AUDIT_UNIT_BLOCKS);
}

static void all_of_it_is_proven_and_then_nothing_is_kept(void **unused)
{
	(void)unused;
	synced();
	assert_int_equal(p->audit.kept->disk[0].unproven.count, 1);
	assert_int_equal(p->audit.kept->disk[0].unproven.run[0].count, REGIONS);
	audit_all();
	assert_int_equal(w.read_blocks, size_blocks(SIZE));
	assert_int_equal(p->sync, SYNC_NONE);
	commit(2);
	clear_marks();
	assert_int_equal(p->audit.kept->disk[0].unproven.count, 0);
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(carried(), 0);
}

static void false_hole_makes_a_sync_at_once_and_its_disk_is_not_believed_by_later_starts(void **unused)
{
	(void)unused;
	w.fake.image[4 * REGION_SIZE + 5] = 1;
	synced();
	clear_marks();
	audit_all();
	assert_int_equal(p->sync, SYNC_FALSE_HOLE);
	assert_true(p->again && p->uncovered && p->audit.found_here == 1);
	assert_non_null(strstr(p->audit.why[0], "at byte 16777216; points up to 1 hold zeros there"));
	assert_true(is_dirty(4 * BLOCKS_PER_REGION) && !is_dirty(3 * BLOCKS_PER_REGION) && w.fake.backend.hole == NULL);
	restart(SYNC_UNCLEAN_STOP);
	assert_true(uuid_equal(&p->position.last_cut, &(struct uuid){.bytes = {99}})); // protection_tracking.h, T1: it is compared as a whole
	assert_non_null(strstr(p->audit.why[0], "at byte 16777216"));
	assert_int_equal(p->audit.found_here, 0);
}

// A1.
static void a_restart_goes_on_with_what_was_not_read(void **unused)
{
	(void)unused;
	synced();
	clear_marks();
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(carried(), SIZE);
}

static void holes_are_in_the_record_before_their_cut_is_sealed(void **unused)
{
	(void)unused;
	holes_sealing(p, tell());
	clear_marks();
	p->position_known = true;
	tracking_seal(p, &(struct uuid){.bytes = {5}});
	restart(SYNC_INITIAL); // of which no point is known to be committed
	assert_true(uuid_equal(&p->position.pending_cut, &(struct uuid){.bytes = {5}}));
	assert_int_equal(carried(), SIZE);
}

// What the audit made dirty has no mark: the record is what a crash finds of it.
static void record_forgets_a_region_with_a_commit_and_not_before(void **unused)
{
	(void)unused;
	synced();
	volume()->audit.carried = true; // it was an earlier process that told them, and what was written since is no news
	w.fake.image[REGION_SIZE] = 1;
	w.hole_from = 2 * REGION_SIZE;
	audit_all();
	assert_true(is_dirty(BLOCKS_PER_REGION) && !is_dirty(BLOCKS_PER_REGION + AUDIT_UNIT_BLOCKS) && p->sync == SYNC_NONE);
	assert_true(p->audit.carried_said && !protection_all_written(p)); // the receiver may have it: it is asked
	holes_sealing(p, 1);
	assert_int_equal(p->audit.kept->disk[0].unproven.run[0].first + p->audit.kept->disk[0].unproven.run[0].count, REGIONS);
	commit(2);
	assert_int_equal(p->audit.kept->disk[0].unproven.count, 0);
	assert_true(protection_all_written(p));
}

static void without_a_record_the_state_files_name_no_cut(void **unused)
{
	(void)unused;
	assert_int_equal(env_mkdir(temp.root, "protections/vm1/audit.json.new"), 0); // in its way
	uint64_t blocks = tell();
	holes_sealing(p, blocks);
	assert_true(p->audit.unsaved);
	p->position_known = true;
	tracking_seal(p, &(struct uuid){.bytes = {5}});
	restart(SYNC_INITIAL); // of which no point is known to be committed
	assert_true(uuid_equal(&p->position.pending_cut, &p->nowhere) && uuid_equal(&p->position.last_cut, &p->nowhere));
	holes_sealing(p, blocks);
	assert_false(holes_stopped(p)); // nor may a clean stop say more
	assert_int_equal(env_rmdir(temp.root, "protections/vm1/audit.json.new"), 0);
	commit(3);
	assert_false(p->audit.unsaved);
	assert_true(holes_stopped(p));
}

static bool image_is_cached(void)
{
	return page_cache_bytes(image, 0, PIECE_SIZE) > 0;
}

// False: its file system keeps no other copy than the cache (tmpfs).
static bool image_to_cache(void)
{
	char byte;
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	bool leaves = !image_is_cached();
	assert_int_equal(pread(fd, &byte, 1, 0), 1);
	(void)close(fd);
	return leaves && image_is_cached();
}

// B5: for a reason, and until a point is committed.
static void record_that_cannot_be_read_is_a_reason_to_compare_everything(void **unused)
{
	(void)unused;
	static const char *const bad[] = {"", "{", "[]", "{\"version\": 2, \"disks\": []}",
					  "{\"version\": 1, \"disks\": [{\"name\": \"vda\", \"disbelieved\": \"\", \"unproven\": [{\"first\": 4, \"count\": 2}, {\"first\": 5, \"count\": 1}]}]}",
					  "{\"version\": 1, \"disks\": [{\"name\": \"vda\", \"disbelieved\": \"\", \"unproven\": [{\"first\": 0, \"count\": 0}]}]}",
					  "{\"version\": 1, \"disks\": [{\"name\": \"vda\", \"disbelieved\": \"\", \"unproven\": []}, {\"name\": \"vda\", \"disbelieved\": \"\", \"unproven\": []}]}"};
	clear_marks();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		commit(1);
		assert_int_equal(env_replace(temp.root, "protections/vm1", "protections/vm1/audit.json", bad[i], strlen(bad[i])), 0);
		restart(SYNC_UNCLEAN_STOP);
		assert_int_equal(p->sync, SYNC_STATE_UNREADABLE);
		assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
		assert_int_equal(carried(), 0);
		assert_non_null(strstr(p->audit.why[0], "audit.json"));
		clear_marks(); // a crash: the files name no cut, and say why
		restart(SYNC_STATE_UNREADABLE);
		assert_true(uuid_equal(&p->position.last_cut, &p->nowhere));
	}
	holes_sealing(p, 0);
	assert_false(p->audit.unsaved);
	commit(2);
	restart(SYNC_UNCLEAN_STOP);
	assert_int_equal(p->sync, SYNC_UNCLEAN_STOP); // the record was replaced
	assert_non_null(strstr(p->audit.why[0], "audit.json"));
	commit(3);
	struct err err = {0};
	assert_int_equal(tracking_save(p, &err), 0);
	restart(SYNC_NONE);
	assert_int_equal(tracking_save(p, &err), 0);
	assert_int_equal(env_replace(temp.root, "protections/vm1", "protections/vm1/audit.json", "{", 1), 0);
	bool leaves = image_to_cache();
	restart(SYNC_NONE);
	assert_int_equal(p->sync, SYNC_STATE_UNREADABLE); // the image was left in order, and is compared
	assert_int_equal(images_fresh(p, &err), 0);
	assert_true(!leaves || !image_is_cached());
}

// B5: a part of a disk that was owed is not the reason for all of it.
static void b5_record_that_cannot_be_read_names_the_sync_before_a_part_that_was_owed(void **unused)
{
	(void)unused;
	static const enum sync_reason part[] = {SYNC_REPLICA_DAMAGED, SYNC_FALSE_HOLE};
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		struct err err = {0};
		commit(1);
		p->sync = part[i];
		assert_int_equal(tracking_save(p, &err), 0);
		assert_int_equal(env_replace(temp.root, "protections/vm1", "protections/vm1/audit.json", "{", 1), 0);
		restart(part[i]);
		assert_int_equal(p->sync, SYNC_STATE_UNREADABLE);
		assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), SIZE);
	}
}

static void hole_that_cannot_be_read_stays_unproven(void **unused)
{
	(void)unused;
	synced();
	w.read_code = -EIO;
	for (unsigned i = 0; i < 20; i++, clock_ns += 60000 * MS_NS)
		(void)holes_turn(p, false);
	assert_int_equal(audit_map_bytes(&volume()->audit, SIZE), SIZE);
	w.read_code = 0;
	audit_all();
	assert_int_equal(audit_map_bytes(&volume()->audit, SIZE), 0);
}

static void nothing_is_read_while_a_sync_stands(void **unused)
{
	(void)unused;
	synced();
	p->sync = SYNC_ASKED;
	assert_int_equal(holes_turn(p, false), UINT64_MAX);
	assert_int_equal(w.read_blocks, 0);
}

// ---- the record

static void runs_are_bounded_and_leave_nothing_out(void **unused)
{
	(void)unused;
	static struct audit_runs runs;
	for (unsigned step = 1; step < 40; step += 3) {
		enum { COUNT = 4000 };
		memset(&runs, 0, sizeof(runs));
		for (uint64_t i = 0; i < COUNT; i++)
			audit_runs_add(&runs, i * step);
		assert_true(runs.count <= AUDIT_RUNS_MAX);
		unsigned at = 0;
		for (uint64_t i = 0; i < COUNT; i++) {
			while (runs.run[at].first + runs.run[at].count <= i * step)
				assert_true(++at < runs.count);
			assert_true(runs.run[at].first <= i * step);
		}
		assert_true(runs.count == 1 || runs.run[1].first > runs.run[0].first + runs.run[0].count);
	}
}

static void record_gives_back_what_was_saved(void **unused)
{
	(void)unused;
	static struct audit_record record, again;
	struct err err = {0};
	record.count = DISKS_MAX;
	for (unsigned d = 0; d < DISKS_MAX; d++) {
		(void)snprintf(record.disk[d].name, NAME_SIZE, "disk%u", d);
		memset(record.disk[d].why, 'w', d % 2 ? AUDIT_WHY_SIZE - 1 : 0);
		for (uint64_t i = 0; i < AUDIT_RUNS_MAX; i++)
			audit_runs_add(&record.disk[d].unproven, (1 << 23) + i * (d + 2));
		assert_int_equal(record.disk[d].unproven.count, AUDIT_RUNS_MAX);
	}
	assert_int_equal(audit_record_save(temp.root, "vm1", &record, &err), 0);
	assert_int_equal(audit_record_load(temp.root, "vm1", &again, &err), 0);
	assert_memory_equal(&record, &again, sizeof(record));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_hole_that_was_told_is_read_once_in_runs_of_the_size_that_was_asked_for),
		cmocka_unit_test(false_hole_is_dirty_with_its_region_and_no_hole_is_told_after_it),
		cmocka_unit_test(unit_that_the_guest_writes_to_is_dirty_whole_and_is_not_read),
		cmocka_unit_test(what_is_written_while_it_is_read_is_no_false_hole),
		cmocka_unit_test(cycle_that_comes_to_nothing_takes_its_holes_back),
		cmocka_unit_test(disk_that_grows_is_not_read_past_its_old_end_for_a_hole),
#ifndef SANITIZED
		cmocka_unit_test(disk_that_cannot_grow_for_want_of_memory_is_as_it_was),
#endif
		cmocka_unit_test(disk_that_grew_is_read_in_whole_units),
		cmocka_unit_test(what_an_earlier_process_left_unread_is_false_only_while_it_is_called_a_hole),
		cmocka_unit_test(file_system_that_says_nothing_just_now_is_asked_again),
		cmocka_unit_test(region_of_which_nothing_is_said_for_long_is_read),
		cmocka_unit_test(memory_of_a_tib_of_holes_is_a_quarter_of_a_mib),
		TEST(holes_are_read_at_a_bounded_rate_and_a_slower_one_beside_the_guest),
		TEST(all_protections_together_read_holes_no_faster_than_one),
		TEST(one_that_rests_longer_or_has_nothing_to_read_holds_up_no_other),
		TEST(a_step_that_keeps_a_cut_waiting_is_one_unit),
		TEST(a_cut_that_is_due_waits_for_one_short_step_and_no_more),
		TEST(all_of_it_is_proven_and_then_nothing_is_kept),
		TEST(false_hole_makes_a_sync_at_once_and_its_disk_is_not_believed_by_later_starts),
		TEST(a_restart_goes_on_with_what_was_not_read),
		TEST(holes_are_in_the_record_before_their_cut_is_sealed),
		TEST(record_forgets_a_region_with_a_commit_and_not_before),
		TEST(without_a_record_the_state_files_name_no_cut),
		TEST(record_that_cannot_be_read_is_a_reason_to_compare_everything),
		TEST(b5_record_that_cannot_be_read_names_the_sync_before_a_part_that_was_owed),
		TEST(hole_that_cannot_be_read_stays_unproven),
		TEST(nothing_is_read_while_a_sync_stands),
		cmocka_unit_test(runs_are_bounded_and_leave_nothing_out),
		TEST(record_gives_back_what_was_saved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
