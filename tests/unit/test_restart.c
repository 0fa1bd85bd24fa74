// SPDX-License-Identifier: Apache-2.0
// When a protection that could not start is tried again (restart.c), and what is known of it until then (point_known.c, image_path.c).
#include "replicator/restart.h"

#include "replicator/image_path.h"
#include "replicator/point_known.h"
#include "replicator/state_file.h"
#include "tests/lib/twin.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

enum { SEEN = 7, OTHER = 8 };

static void it_is_tried_after_a_second_doubling_to_a_minute(void **state)
{
	static const uint64_t waits_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};
	struct restart restart = {.waits = false};
	uint64_t now_ns = 100 * SECOND;
	(void)state;
	for (size_t i = 0; i < sizeof(waits_s) / sizeof(*waits_s); i++) {
		restart_failed(&restart, now_ns, SEEN);
		assert_int_equal(restart_due_ns(&restart), now_ns + waits_s[i] * SECOND);
		now_ns = restart_due_ns(&restart);
		assert_true(restart_settled(&restart, now_ns, SEEN, false));
	}
	for (int i = 0; i < 1000; i++)
		restart_failed(&restart, now_ns, SEEN);
	assert_int_equal(restart_due_ns(&restart), now_ns + 60 * SECOND);
}

static void it_is_not_tried_before_it_failed_nor_after_its_end(void **state)
{
	struct restart restart = {.waits = false};
	(void)state;
	assert_true(restart_due_ns(&restart) == UINT64_MAX);
	restart_failed(&restart, SECOND, SEEN);
	restart_end(&restart);
	assert_true(restart_due_ns(&restart) == UINT64_MAX);
	restart_failed(&restart, SECOND, SEEN);
	assert_int_equal(restart_due_ns(&restart), 2 * SECOND); // from the beginning
}

// R1
static void an_image_that_changes_is_not_opened_before_two_looks_found_it_alike(void **state)
{
	struct restart restart = {.waits = false};
	uint64_t now_ns = SECOND;
	(void)state;
	restart_failed(&restart, now_ns, SEEN);
	for (uint64_t seen = OTHER; seen < OTHER + 100; seen++) {
		now_ns = restart_due_ns(&restart);
		assert_false(restart_settled(&restart, now_ns, seen, false));
		assert_int_equal(restart_due_ns(&restart), now_ns + RESTART_QUIET_S * SECOND);
	}
	assert_true(restart_settled(&restart, restart_due_ns(&restart), OTHER + 99, false));
}

// R1: of a copy that stalls each look finds the same.
static void an_image_that_is_open_for_writing_is_not_opened(void **state)
{
	struct restart restart = {.waits = false};
	(void)state;
	restart_failed(&restart, SECOND, SEEN);
	for (int i = 0; i < 100; i++) {
		uint64_t now_ns = restart_due_ns(&restart);
		assert_false(restart_settled(&restart, now_ns, SEEN, true));
		assert_int_equal(restart_due_ns(&restart), now_ns + RESTART_QUIET_S * SECOND);
	}
	assert_true(restart_settled(&restart, restart_due_ns(&restart), SEEN, false));
}

static void who_writes_to_an_image_is_seen(void **state)
{
	struct temp temp;
	char path[300], fifo[300];
	(void)state;
	temp_open(&temp);
	(void)snprintf(path, sizeof(path), "%s/image", temp.dir);
	(void)snprintf(fifo, sizeof(fifo), "%s/fifo", temp.dir);
	assert_false(image_path_written(path)); // it is not there
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && image_path_written(path) && !image_path_apart(path));
	(void)close(fd);
	assert_true(!image_path_written(path) && image_path_apart(path));
	int reader = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(reader >= 0);
	assert_false(image_path_written(path));
	(void)close(reader);
	fd = open(path, O_RDWR | O_CLOEXEC); // nobody waits for a lease of ours
	assert_true(fd >= 0 && image_path_written(path));
	(void)close(fd);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_true(!image_path_written(fifo) && !image_path_apart(fifo)); // of which it cannot be known
	temp_close(&temp);
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	(void)close(fd);
}

static void what_stands_at_a_path_is_told_from_what_stood_there(void **state)
{
	struct temp temp;
	char path[300], other[300];
	struct stat st;
	bool gone;
	(void)state;
	temp_open(&temp);
	(void)snprintf(path, sizeof(path), "%s/image.raw", temp.dir);
	(void)snprintf(other, sizeof(other), "%s/other.raw", temp.dir);
	uint64_t nothing = image_path_digest(path, &gone);
	assert_true(gone);
	write_to(path, "a");
	uint64_t one = image_path_digest(path, &gone);
	assert_false(gone);
	assert_true(one != nothing);
	assert_int_equal(image_path_digest(path, &gone), one);
	write_to(path, "b");
	assert_true(image_path_digest(path, &gone) != one);
	assert_int_equal(stat(path, &st), 0);
	const struct image_file file = image_file_of(&st);
	assert_int_equal(image_path_look(path, &file), IMAGE_PATH_SAME);
	write_to(other, "ab");
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(image_path_look(path, &file), IMAGE_PATH_OTHER);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(image_path_look(path, &file), IMAGE_PATH_GONE);
	temp_close(&temp);
}

// --- the newest point

static struct protection_config *two_disks(void)
{
	struct protection_config *config = calloc(1, sizeof(*config));
	assert_non_null(config);
	*config = (struct protection_config){.name = "vm1", .uuid = {{1}}, .generation = {{2}}, .disk_count = 2, .disk = {{.name = "vda"}, {.name = "vdb"}}};
	return config;
}

static void put(struct temp *temp, const struct protection_config *config, unsigned disk, uint64_t point, bool pending)
{
	char name[200];
	struct state_position position = {.protection = config->uuid, .generation = config->generation, .point = point, .last_cut = {{(unsigned char)point}},
					  .last_cut_wall_ns = (int64_t)point * 1000, .pending_cut = {{pending}}};
	struct image_identity identity = {.inode = 1, .size = BLOCK_SIZE};
	struct dirty dirty;
	struct state_file *file = NULL;
	struct err err = {0};
	(void)snprintf(name, sizeof(name), "protections/vm1/%s.state", config->disk[disk].name);
	assert_int_equal(dirty_init(&dirty, BLOCK_SIZE), 0);
	assert_int_equal(state_file_open_run(temp->root, name, config->disk[disk].name, &position, &identity, &dirty, NULL, &file, &err), 0);
	state_file_close(file);
	dirty_done(&dirty);
}

static void newest_point_of_one_that_does_not_run_is_the_newest_that_a_state_file_names(void **state)
{
	struct temp temp;
	struct protection_config *config = two_disks();
	(void)state;
	temp_open(&temp);
	assert_false(point_known_read(temp.root, config).known); // nothing says that there is none
	assert_int_equal(env_mkdir(temp.root, "protections"), 0);
	assert_int_equal(env_mkdir(temp.root, "protections/vm1"), 0);
	put(&temp, config, 0, 0, false);
	assert_false(point_known_read(temp.root, config).known);
	put(&temp, config, 1, 0, true);
	assert_false(point_known_read(temp.root, config).known);
	put(&temp, config, 1, 0, false);
	struct point_known known = point_known_read(temp.root, config);
	assert_true(known.known && known.point == 0);
	put(&temp, config, 0, 4, false);
	put(&temp, config, 1, 3, false);
	known = point_known_read(temp.root, config);
	assert_true(known.known && known.point == 4 && known.cut_wall_ns == 4000);
	assert_int_equal(env_unlink(temp.root, "protections/vm1/vdb.state"), 0);
	assert_int_equal(point_known_read(temp.root, config).point, 4);
	config->generation.bytes[0]++; // of another line of history
	assert_false(point_known_read(temp.root, config).known);
	free(config);
	temp_close(&temp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_tried_after_a_second_doubling_to_a_minute),
		cmocka_unit_test(it_is_not_tried_before_it_failed_nor_after_its_end),
		cmocka_unit_test(an_image_that_changes_is_not_opened_before_two_looks_found_it_alike),
		cmocka_unit_test(an_image_that_is_open_for_writing_is_not_opened),
		cmocka_unit_test(who_writes_to_an_image_is_seen),
		cmocka_unit_test(what_stands_at_a_path_is_told_from_what_stood_there),
		cmocka_unit_test(newest_point_of_one_that_does_not_run_is_the_newest_that_a_state_file_names),
	};
	return cmocka_run_group_tests_name("restart", tests, NULL, NULL);
}
