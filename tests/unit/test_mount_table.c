// SPDX-License-Identifier: Apache-2.0
#include "receiver/mount_table.h"

#include "link/daemon.h"
#include "receiver/mount_session.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void a_line_yields_directory_and_source_with_any_number_of_optional_fields(void **state)
{
	(void)state;
	struct mount_line at;
	char none[] = "43 27 7:0 / /mnt ro,nosuid - ext4 /dev/loop0 ro\n";
	char two[] = "43 27 7:0 /sub /mnt ro shared:1 master:2 - fuse.ext4 /store/x/disk rw\n";
	assert_true(mount_table_line(none, &at));
	assert_string_equal(at.directory, "/mnt");
	assert_string_equal(at.source, "/dev/loop0");
	assert_string_equal(at.device, "7:0");
	assert_int_equal(at.id, 43);
	assert_true(mount_table_line(two, &at));
	assert_string_equal(at.directory, "/mnt");
	assert_string_equal(at.source, "/store/x/disk");
}

static void escapes_of_a_line_are_undone(void **state)
{
	(void)state;
	struct mount_line at;
	char line[] = "43 27 7:0 / /a\\040b\\134c\\011 ro - ext4 /it\\040is\\0 ro";
	assert_true(mount_table_line(line, &at));
	assert_string_equal(at.directory, "/a b\\c\t");
	assert_string_equal(at.source, "/it is\\0");
}

static void what_is_not_a_line_is_refused(void **state)
{
	(void)state;
	struct mount_line at;
	char lines[][48] = {"", "\n", " - ", "43 27 7:0 / - ext4 /dev/loop0 ro", "43 27 7:0 / /mnt ro", "43 27 7:0 / /mnt ro - ext4"};
	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(mount_table_line(lines[i], &at));
}

static void a_mount_is_ours_by_its_file_and_not_by_a_device_name(void **state)
{
	(void)state;
	assert_true(mount_table_shows("/store/vm1/tests/mount-1/disk", "/store/vm1/tests/mount-1/disk"));
	assert_false(mount_table_shows("/store/vm1/tests/mount-2/disk", "/store/vm1/tests/mount-1/disk"));
	assert_false(mount_table_shows("/dev/loop99999", "/store/vm1/tests/mount-1/disk"));
	assert_false(mount_table_shows("/dev/loop/../../../etc", "/store/vm1/tests/mount-1/disk"));
	assert_false(mount_table_shows("proc", "/store/vm1/tests/mount-1/disk"));
}

static void unmounting_what_is_not_mounted_is_done(void **state)
{
	(void)state;
	assert_int_equal(mount_table_unmount("/nonexistent/store/vm1/tests/mount-1/disk", true, NULL), 0);
}

static void a_mount_has_a_mark_as_long_as_it_is_there(void **state)
{
	(void)state;
	struct mount_mark mark = {.id = 0}, none;
	assert_int_equal(mount_table_mark("/proc", &mark), 0);
	assert_true(mark.id > 0);
	assert_int_equal(mount_table_there("/proc", &mark), 0);
	assert_int_equal(mount_table_there("/proc/self", &mark), -ENOENT);
	assert_int_equal(mount_table_mark("/proc/self", &none), -ENOENT);
	mark.id++;
	assert_int_equal(mount_table_there("/proc", &mark), -ENOENT);
}

// What ends a mount of ours would leave it, and take away what it reads from.
static void a_mount_that_stays_and_is_not_found_by_its_file_is_no_end(void **state)
{
	(void)state;
	struct mount_session session = {.name = "vm1/tests/mount-1", .path = "/nonexistent/store/vm1/tests/mount-1", .info.directory = "/proc"};
	struct err err = {.code = 0};
	assert_int_equal(mount_table_mark("/proc", &session.mark), 0);
	assert_int_equal(mount_session_undo(&session, NULL, true, &err), -EBUSY);
	assert_non_null(strstr(err.text, "/proc is mounted still"));
}

// Ours was unmounted by hand, and the kernel gave its number to the next one there.
static void another_mount_of_the_same_number_is_not_ours(void **state)
{
	(void)state;
	struct temp temp;
	struct err err = {.code = 0};
	temp_open(&temp);
	for (unsigned i = 0; i < 2; i++) {
		struct mount_session session = {.name = "vm1/tests/mount-1", .path = "/nonexistent/store/vm1/tests/mount-1", .info.directory = "/proc"};
		assert_int_equal(mount_table_mark("/proc", &session.mark), 0);
		(void)strcpy(i ? session.mark.device : session.mark.source, i ? "7:0" : "/dev/loop0");
		assert_int_equal(mount_session_undo(&session, temp.root, false, &err), 0);
	}
	temp_close(&temp);
}

static void a_file_is_found_through_a_link(void **state)
{
	(void)state;
	char dir[] = "/tmp/mount_table.XXXXXX", path[64], link[64], resolved[MOUNT_TABLE_PATH_SIZE], expected[PATH_MAX];
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/store", dir);
	(void)snprintf(link, sizeof(link), "%s/link", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(symlink("store", link), 0);
	assert_non_null(realpath(path, expected));
	(void)strcat(expected, "/disk");
	(void)strcat(link, "/disk");
	mount_table_resolve(link, resolved);
	assert_string_equal(resolved, expected);
	*strrchr(link, '/') = 0;
	*strrchr(expected, '/') = 0;
	assert_string_equal(daemon_resolved(link), expected);
	assert_int_equal(unlink(link), 0);
	assert_string_equal(daemon_resolved(link), link); // who opens it says so
	(void)strcat(link, "/disk");
	mount_table_resolve(link, resolved);
	assert_string_equal(resolved, link);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_yields_directory_and_source_with_any_number_of_optional_fields),
		cmocka_unit_test(escapes_of_a_line_are_undone),
		cmocka_unit_test(what_is_not_a_line_is_refused),
		cmocka_unit_test(a_mount_is_ours_by_its_file_and_not_by_a_device_name),
		cmocka_unit_test(unmounting_what_is_not_mounted_is_done),
		cmocka_unit_test(a_mount_has_a_mark_as_long_as_it_is_there),
		cmocka_unit_test(a_mount_that_stays_and_is_not_found_by_its_file_is_no_end),
		cmocka_unit_test(another_mount_of_the_same_number_is_not_ours),
		cmocka_unit_test(a_file_is_found_through_a_link),
	};
	return cmocka_run_group_tests_name("mount_table", tests, NULL, NULL);
}
