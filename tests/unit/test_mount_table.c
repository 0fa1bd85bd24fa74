// SPDX-License-Identifier: Apache-2.0
#include "receiver/mount_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void a_line_yields_directory_and_source_with_any_number_of_optional_fields(void **state)
{
	(void)state;
	char *directory, *source;
	char none[] = "43 27 7:0 / /mnt ro,nosuid - ext4 /dev/loop0 ro\n";
	char two[] = "43 27 7:0 /sub /mnt ro shared:1 master:2 - fuse.ext4 /store/x/disk rw\n";
	assert_true(mount_table_line(none, &directory, &source));
	assert_string_equal(directory, "/mnt");
	assert_string_equal(source, "/dev/loop0");
	assert_true(mount_table_line(two, &directory, &source));
	assert_string_equal(directory, "/mnt");
	assert_string_equal(source, "/store/x/disk");
}

static void escapes_of_a_line_are_undone(void **state)
{
	(void)state;
	char *directory, *source;
	char line[] = "43 27 7:0 / /a\\040b\\134c\\011 ro - ext4 /it\\040is\\0 ro";
	assert_true(mount_table_line(line, &directory, &source));
	assert_string_equal(directory, "/a b\\c\t");
	assert_string_equal(source, "/it is\\0");
}

static void what_is_not_a_line_is_refused(void **state)
{
	(void)state;
	char *directory, *source;
	char lines[][48] = {"", "\n", " - ", "43 27 7:0 / - ext4 /dev/loop0 ro", "43 27 7:0 / /mnt ro", "43 27 7:0 / /mnt ro - ext4"};
	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(mount_table_line(lines[i], &directory, &source));
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_yields_directory_and_source_with_any_number_of_optional_fields),
		cmocka_unit_test(escapes_of_a_line_are_undone),
		cmocka_unit_test(what_is_not_a_line_is_refused),
		cmocka_unit_test(a_mount_is_ours_by_its_file_and_not_by_a_device_name),
		cmocka_unit_test(unmounting_what_is_not_mounted_is_done),
	};
	return cmocka_run_group_tests_name("mount_table", tests, NULL, NULL);
}
