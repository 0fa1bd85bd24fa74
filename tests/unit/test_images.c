// SPDX-License-Identifier: Apache-2.0
// What a look at the images before a cycle comes to (protection_images.c): with real files, an export that runs, and the state files that the next start would read.
#include "replicator/export_loop.h"
#include "replicator/protection_private.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 64 << 20, DISKS = 2, SMALLER = 60 << 20 };

static struct temp temp;
static char image_path[DISKS][512], socket_path[512];
static struct protection *p;
static atomic_bool held; // a commit of marks does not return
static bool noted;	 // there are notes of rest

static int commit_marks(void *context, uint16_t disk, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears, struct err *err)
{
	while (atomic_load(&held))
		(void)usleep(1000);
	return tracking_commit(context, disk, set, sets, clear, clears, err);
}

static void load(bool is_new)
{
	static struct export_config config;
	struct err err = {0};
	p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->place = (struct protection_place){.env = env_posix(), .state = temp.root, .state_dir = temp.dir, .run_dir = temp.dir};
	(void)snprintf(p->config.name, NAME_SIZE, "vm1");
	p->config.disk_count = DISKS;
	p->config.uuid.bytes[0] = 1;
	p->config.generation.bytes[0] = 2;
	p->nowhere = state_no_cut;
	(void)pthread_mutex_init(&p->lock, NULL);
	tracking_init(p);
	doubt_init(p);
	config = (struct export_config){.protection = "vm1", .socket_path = socket_path, .disk_count = DISKS, .mark_wait_ms_max = 100000};
	config.run_dir = noted ? temp.dir : NULL;
	config.marker = (struct export_marker){.commit = commit_marks, .note = tracking_note, .lose = tracking_lose, .forsake = tracking_forsake, .context = p};
	for (unsigned d = 0; d < DISKS; d++) {
		(void)snprintf(p->config.disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		memcpy(config.disk[d].name, p->config.disk[d].name, NAME_SIZE);
		config.disk[d].path = image_path[d];
	}
	assert_int_equal(export_open(&config, &p->export, &err), 0);
	assert_int_equal(tracking_load(p, is_new, &err), 0);
}

static void forget_marks(uint16_t disk)
{
	struct intent_map *map = &p->export->group.volume[disk].intent;
	memset(map->marked, 0, (map->regions / 64 + 1) * sizeof(uint64_t));
	p->export->group.intent.count -= map->count;
	map->count = 0;
}

// Point 5 is committed, and region 3 of each disk is marked since.
static void commit_and_serve(void)
{
	struct err err = {0};
	uint64_t region[SIZE / REGION_SIZE], marked = 3;
	for (uint64_t r = 0; r < SIZE / REGION_SIZE; r++)
		region[r] = r;
	p->position.point = 5;
	p->position.last_cut = (struct uuid){{5, 7}};
	p->position_known = true;
	p->sync = SYNC_NONE;
	tracking_position(p, SYNC_NONE);
	for (uint16_t d = 0; d < DISKS; d++) {
		assert_int_equal(tracking_commit(p, d, &marked, 1, region, SIZE / REGION_SIZE, NULL), 0);
		struct dirty *dirty = export_dirty(p->export, d);
		dirty_reset(dirty);
		forget_marks(d);
		dirty_mark(dirty, 3 * REGION_SIZE, PIECE_SIZE);
		export_set_marked(p->export, d, dirty);
	}
	assert_int_equal(export_start(p->export, &err), 0);
}

static void ended(bool in_order)
{
	struct err err = {0};
	assert_int_equal(p->export->running ? export_stop(p->export, &err) : 0, 0);
	assert_true(!in_order || tracking_save(p, &err) == 0);
	tracking_done(p);
	doubt_done(p);
	export_close(p->export);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
	p = NULL;
}

static void killed(void)
{
	ended(false);
}

static void image_size(unsigned disk, off_t size)
{
	assert_int_equal(truncate(image_path[disk], size), 0);
}

static int set_up(void **state)
{
	(void)state;
	temp_open(&temp);
	atomic_store(&held, false);
	noted = false;
	assert_int_equal(env_mkdir(temp.root, "protections"), 0);
	assert_int_equal(env_mkdir(temp.root, "protections/vm1"), 0);
	(void)snprintf(socket_path, sizeof(socket_path), "%s/s", temp.dir);
	for (unsigned d = 0; d < DISKS; d++) {
		(void)snprintf(image_path[d], sizeof(image_path[d]), "%s/image.%u", temp.dir, d);
		int fd = open(image_path[d], O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		(void)close(fd);
		image_size(d, SIZE);
	}
	load(true);
	commit_and_serve();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	atomic_store(&held, false);
	if (p)
		killed();
	temp_close(&temp);
	return 0;
}

static uint64_t dirty_of(uint16_t disk)
{
	return dirty_bytes(&p->export->group.volume[disk].dirty); // its thread sleeps
}

static bool names_cut(unsigned disk)
{
	char name[64];
	struct state_position position;
	(void)snprintf(name, sizeof(name), "protections/vm1/vd%c.state", 'a' + (int)disk);
	assert_true(state_file_told(temp.root, name, &position));
	bool cut = uuid_equal(&position.last_cut, &p->position.last_cut);
	assert_true(cut || uuid_equal(&position.last_cut, &state_no_cut));
	return cut;
}

static int look(struct err *err)
{
	*err = (struct err){0};
	return images_look(p, err);
}

static void await_marked(uint16_t disk)
{
	for (unsigned i = 0; !export_marked_whole(p->export, disk) && i < 30000; i++)
		(void)usleep(1000);
	assert_true(export_marked_whole(p->export, disk));
}

// B5: an error of the storage is no change of the image.
static void image_that_cannot_be_asked_is_an_error_of_its_disk_and_costs_no_comparison(void **unused)
{
	(void)unused;
	struct err err;
	struct export_stats stats;
	int fd = p->export->image[0].fd, aside = dup(fd);
	assert_true(aside >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(look(&err), -EIO);
	assert_int_equal(look(&err), -EIO);
	assert_non_null(strstr(err.text, "disk vda"));
	assert_non_null(strstr(err.text, "repair the storage under it"));
	assert_int_equal(dup2(aside, fd), fd);
	(void)close(aside);
	export_stats(p->export, 0, &stats);
	assert_int_equal(stats.errors, 2);
	assert_false(stats.failed); // it may answer again, as that of a server that was away
	assert_non_null(strstr(stats.error, "stat of image"));
	export_stats(p->export, 1, &stats);
	assert_int_equal(stats.errors, 0);
	assert_string_equal(p->cut_short[0], "");
	assert_int_equal(p->sync, SYNC_NONE);
	assert_true(names_cut(0) && names_cut(1));
	assert_int_equal(dirty_of(0) + dirty_of(1), 2 * PIECE_SIZE);
	assert_int_equal(look(&err), 0);
	killed();
	load(false);
	assert_int_equal(p->sync, SYNC_UNCLEAN_STOP);
	assert_int_equal(dirty_of(0) + dirty_of(1), 2 * REGION_SIZE);
	assert_int_equal(export_start(p->export, &err), 0);
}

// B1, B5: what it held is gone, and no dirty bit tells; of the others nothing is.
static void image_cut_short_has_its_own_disk_compared_and_no_other(void **unused)
{
	(void)unused;
	struct err err;
	image_size(0, SMALLER);
	assert_int_equal(look(&err), -EIO);
	assert_non_null(strstr(err.text, "give it its size back"));
	assert_string_equal(p->cut_short[0], err.text);
	assert_string_equal(p->cut_short[1], "");
	assert_int_equal(p->sync, SYNC_IMAGE_CHANGED);
	await_marked(0);
	assert_int_equal(dirty_of(0), SIZE);
	assert_int_equal(dirty_of(1), PIECE_SIZE);
	image_size(0, SIZE);
	assert_int_equal(look(&err), 0);
	assert_string_equal(p->cut_short[0], "");
	assert_int_equal(p->sync, SYNC_IMAGE_CHANGED); // stands until a point is committed
	assert_int_equal(dirty_of(0), SIZE);
}

// protection_tracking.h, T1, by the file that a kill at each step leaves.
static void image_cut_short_is_in_the_marks_before_its_file_names_a_cut(void **unused)
{
	(void)unused;
	struct err err;
	for (unsigned killed_at = 0; killed_at < 3; killed_at++) {
		atomic_store(&held, true);
		image_size(0, SMALLER);
		assert_int_equal(look(&err), -EIO);
		assert_int_equal(look(&err), -EIO);
		assert_false(names_cut(0) || names_cut(1)); // the marks are on their way
		assert_true(p->unmarked == 1 && p->lost_images == 1);
		image_size(0, SIZE);
		if (killed_at == 1) { // its size is back before its marks are all there
			assert_int_equal(look(&err), 0);
			assert_false(names_cut(0) || names_cut(1));
		}
		struct uuid cut = p->position.last_cut;
		atomic_store(&held, false);
		if (killed_at == 2) {
			await_marked(0);
			assert_int_equal(look(&err), 0);
			assert_true(names_cut(0) && names_cut(1));
			assert_int_equal(p->unmarked, 0);
		}
		killed();
		load(false);
		assert_int_equal(uuid_equal(&p->position.last_cut, &cut), killed_at == 2);
		assert_int_equal(p->sync, SYNC_IMAGE_CHANGED);
		if (killed_at == 2) {
			assert_int_equal(dirty_of(0), SIZE);
			assert_int_equal(dirty_of(1), REGION_SIZE);
		}
		commit_and_serve();
	}
}

static void image_cut_short_is_over_with_a_point_and_not_before(void **unused)
{
	(void)unused;
	struct err err;
	image_size(0, SMALLER);
	assert_int_equal(look(&err), -EIO);
	await_marked(0);
	image_size(0, SIZE);
	assert_int_equal(look(&err), 0);
	images_committed(p);
	assert_true(!p->unmarked && !p->lost_images);
	p->sync = SYNC_NONE;
	struct source *source = export_source(p->export);
	struct source_cut cut;
	assert_int_equal(source_cut(source, CUT_PRECOPY, &cut, &err), 0); // its set is not read: but what is dirty then is what comes
	source_give_back(source);
	image_size(1, SMALLER); // another one, later
	assert_int_equal(look(&err), -EIO);
	assert_true(p->lost_images == 2 && p->sync == SYNC_IMAGE_CHANGED);
	image_size(1, SIZE);
}

// Whoever met its end knows, though the next look finds it as long as its disk.
static void image_that_was_short_in_between_has_its_disk_compared(void **unused)
{
	(void)unused;
	struct err err;
	unsigned char piece[PIECE_SIZE];
	image_size(0, SMALLER);
	assert_int_equal(image_read_now(&p->export->image[0], SIZE - PIECE_SIZE, PIECE_SIZE, piece), -EIO);
	image_size(0, SIZE);
	assert_int_equal(look(&err), 0);
	assert_true(p->sync == SYNC_IMAGE_CHANGED && p->lost_images == 1);
	await_marked(0);
	assert_int_equal(dirty_of(0), SIZE);
	assert_int_equal(dirty_of(1), PIECE_SIZE);
	assert_string_equal(p->cut_short[0], "");
	images_committed(p);
	assert_int_equal(look(&err), 0);
	assert_int_equal(p->lost_images, 0); // once
}

static void image_that_is_short_before_a_change_is_seen_to_be(void **unused)
{
	(void)unused;
	struct image *image = &p->export->image[1];
	image_look_at_rest(image);
	assert_false(image_was_disturbed(image));
	image_size(1, SMALLER);
	image_look_at_rest(image);
	image_size(1, SIZE);
	assert_true(image_was_disturbed(image));
	assert_false(image_was_disturbed(image));
}

// The state directory may be waited for in between, and a tool that heeds no locks come just then.
static void change_between_a_judgment_and_the_first_note_is_seen(void **unused)
{
	(void)unused;
	struct image *image = &p->export->image[1];
	image_look_at_judged(image); // of one that was not judged nothing is known
	assert_false(image_was_disturbed(image));
	image_judged(image);
	image_look_at_judged(image);
	assert_false(image_was_disturbed(image));
	for (int i = 0; i < 3; i++) {
		image_judged(image);
		(void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL); // a step of the clock of files
		if (i == 0)
			assert_int_equal(pwrite(image->fd, "x", 1, 0), 1);
		else if (i == 1)
			image_size(1, SMALLER);
		else
			assert_int_equal(futimens(image->fd, (struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 1}}), 0); // as a restore sets it
		image_look_at_judged(image);
		assert_true(image_was_disturbed(image));
	}
	image_size(1, SIZE);
}

// As before a write of the guest that gives it its size back; and with its identity of then it is at rest.
static void short_for_a_moment(uint16_t disk, bool seen)
{
	struct image *image = &p->export->image[disk];
	while (image->rest.page && !rest_lasts(&image->rest)) // its thread sleeps
		(void)usleep(1000);
	image_size(disk, SMALLER);
	if (seen)
		image_look_at_rest(image);
	image_size(disk, SIZE);
	rest_stir(&image->rest);
}

// B1: no cycle came between, and none will in this process.
static void image_that_was_short_is_compared_after_a_stop_in_order(void **unused)
{
	(void)unused;
	struct err err;
	for (unsigned owed = 0; owed < 2; owed++) {
		p->sync = owed ? SYNC_POSITION : SYNC_NONE;
		short_for_a_moment(0, true);
		ended(true);
		load(false);
		assert_int_equal(p->sync, owed ? SYNC_POSITION : SYNC_IMAGE_CHANGED);
		assert_int_equal(dirty_of(0), SIZE);
		assert_int_equal(dirty_of(1), PIECE_SIZE);
		commit_and_serve();
	}
	ended(true);
	load(false);
	assert_int_equal(p->sync, SYNC_NONE);
	assert_int_equal(dirty_of(0) + dirty_of(1), 2 * PIECE_SIZE);
	assert_int_equal(export_start(p->export, &err), 0);
}

// rest.h, N4: at each moment at which a kill may find it.
static void image_that_was_short_is_compared_after_a_kill(void **unused)
{
	(void)unused;
	enum { NOT_SEEN, SEEN, FOLLOWED, FOLLOWED_AND_SEEN, LOST, MOMENTS };
	struct err err;
	killed();
	noted = true;
	load(false);
	commit_and_serve();
	if (!p->export->image[0].rest.page)
		skip(); // the directory of the tests is not in memory
	for (unsigned moment = NOT_SEEN; moment < MOMENTS; moment++) {
		short_for_a_moment(0, moment != NOT_SEEN);
		if (moment == LOST)
			tracking_lose(p, 0, "of a test");
		if (moment >= FOLLOWED) {
			assert_int_equal(look(&err), 0);
			assert_int_equal(image_disturbance_untold(&p->export->image[0]), moment == LOST);
		}
		if (moment == FOLLOWED || moment == FOLLOWED_AND_SEEN) {
			await_marked(0);
			assert_int_equal(look(&err), 0);
			assert_true(names_cut(0));
		}
		if (moment == FOLLOWED_AND_SEEN)
			short_for_a_moment(0, true);
		killed();
		load(false);
		assert_int_equal(p->tracking[0].sync, moment == LOST				  ? SYNC_TRACKING_LOST
						      : moment == SEEN || moment == FOLLOWED_AND_SEEN ? SYNC_IMAGE_CHANGED
												      : SYNC_UNCLEAN_STOP);
		assert_int_equal(dirty_of(0), moment == NOT_SEEN ? REGION_SIZE : SIZE);
		assert_int_equal(dirty_of(1), REGION_SIZE);
		commit_and_serve();
	}
}

static void written_now_by_others(uint16_t disk)
{
	(void)usleep(20000); // the clock of files goes in steps
	int fd = open(image_path[disk], O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 5 * REGION_SIZE), 1);
	(void)close(fd);
}

static void written_by_others(uint16_t disk)
{
	while (!rest_lasts(&p->export->image[disk].rest)) // its thread sleeps
		(void)usleep(1000);
	written_now_by_others(disk);
}

// In the place of the C library's: somebody writes while a stop brings the times of disk 0 to the disk.
static bool written_in_a_stop;
int fsync(int fd)
{
	if (written_in_a_stop)
		written_now_by_others(0);
	written_in_a_stop = false;
	return (int)syscall(SYS_fsync, fd);
}

// B1: as a backup that is copied over it; of a size that stays.
static void image_that_others_wrote_to_while_it_was_left_alone_is_compared(void **unused)
{
	(void)unused;
	enum { BEFORE_A_CYCLE, BEFORE_A_CHANGE, BEFORE_A_STOP, IN_A_STOP, BEFORE_A_KILL, MOMENTS };
	struct err err;
	killed();
	noted = true;
	load(false);
	commit_and_serve();
	if (!p->export->image[0].rest.page)
		skip(); // the directory of the tests is not in memory
	for (unsigned moment = 0; moment < MOMENTS; moment++) {
		if (moment != IN_A_STOP)
			written_by_others(0);
		if (moment == BEFORE_A_CHANGE) {
			image_look_at_rest(&p->export->image[0]); // as its thread does
			rest_stir(&p->export->image[0].rest);
		}
		if (moment <= BEFORE_A_CHANGE) {
			assert_int_equal(look(&err), 0);
			assert_true(p->sync == SYNC_IMAGE_CHANGED && p->lost_images == 1);
			await_marked(0);
			assert_int_equal(look(&err), 0);
			images_committed(p);
			p->sync = SYNC_NONE;
			assert_int_equal(look(&err), 0);
			assert_int_equal(p->lost_images, 0); // once
		}
		written_in_a_stop = moment == IN_A_STOP;
		ended(moment == BEFORE_A_STOP || moment == IN_A_STOP);
		assert_false(written_in_a_stop);
		load(false);
		if (moment >= BEFORE_A_STOP)
			assert_int_equal(moment != BEFORE_A_KILL ? p->sync : p->tracking[0].sync, SYNC_IMAGE_CHANGED);
		assert_int_equal(dirty_of(0), SIZE);
		assert_in_range(dirty_of(1), PIECE_SIZE, 2 * REGION_SIZE);
		commit_and_serve();
	}
}

// After a crash of the host there is no note: the marks have it, whatever the cycle thread does meanwhile.
static void image_that_was_short_is_marked_before_anybody_looks(void **unused)
{
	(void)unused;
	struct err err;
	short_for_a_moment(0, true);
	await_marked(0);
	assert_false(export_marked_whole(p->export, 1));
	assert_int_equal(dirty_of(0), PIECE_SIZE); // nor does it pass for what a guest wrote
	assert_int_equal(p->sync, SYNC_NONE);
	assert_true(names_cut(0));
	assert_true(p->export->group.volume[0].intent.held);
	assert_int_equal(look(&err), 0);
	assert_true(export_marked_whole(p->export, 0)); // a turn of its thread
	assert_int_equal(dirty_of(0), SIZE);
	assert_int_equal(p->sync, SYNC_IMAGE_CHANGED);
	(void)export_marked_whole(p->export, 0);
	assert_false(p->export->group.volume[0].intent.held);
	killed();
	load(false);
	assert_int_equal(dirty_of(0), SIZE);
	assert_int_equal(dirty_of(1), REGION_SIZE);
	assert_int_equal(export_start(p->export, &err), 0);
}

// It would be as large as nobody expects, and zeros in the middle.
static void image_that_was_cut_short_is_not_made_larger(void **unused)
{
	(void)unused;
	struct stat st;
	image_size(0, SMALLER);
	p->settled = true;
	p->resize.disk = 0;
	p->resize.size = 2 * SIZE;
	p->resize.asked = true;
	assert_false(resize_serve(p));
	assert_int_equal(p->resized[0].err.code, -EIO);
	assert_non_null(strstr(p->resized[0].err.text, "was cut from"));
	assert_int_equal(stat(image_path[0], &st), 0);
	assert_int_equal(st.st_size, SMALLER);
	await_marked(0);
	assert_int_equal(dirty_of(0), SIZE);
	image_size(0, SIZE);
}

// A reason that costs all of a disk is not taken back by another.
static void sync_that_stands_keeps_its_name(void **unused)
{
	(void)unused;
	struct err err;
	p->sync = SYNC_POSITION;
	image_size(0, SMALLER);
	assert_int_equal(look(&err), -EIO);
	assert_int_equal(p->sync, SYNC_POSITION);
	image_size(0, SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(image_that_cannot_be_asked_is_an_error_of_its_disk_and_costs_no_comparison, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_cut_short_has_its_own_disk_compared_and_no_other, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_cut_short_is_in_the_marks_before_its_file_names_a_cut, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_cut_short_is_over_with_a_point_and_not_before, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_was_short_in_between_has_its_disk_compared, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_is_short_before_a_change_is_seen_to_be, set_up, tear_down),
		cmocka_unit_test_setup_teardown(change_between_a_judgment_and_the_first_note_is_seen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_was_short_is_compared_after_a_stop_in_order, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_was_short_is_compared_after_a_kill, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_was_short_is_marked_before_anybody_looks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_others_wrote_to_while_it_was_left_alone_is_compared, set_up, tear_down),
		cmocka_unit_test_setup_teardown(image_that_was_cut_short_is_not_made_larger, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sync_that_stands_keeps_its_name, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
