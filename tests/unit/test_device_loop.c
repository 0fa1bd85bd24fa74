// SPDX-License-Identifier: Apache-2.0
// Which loop devices lie beneath a device and over a file, by a sysfs made here.
#include "replicator/device_loop.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

static struct temp temp;
static char mounts[300];

#define sh(...) temp_shell(&temp, __VA_ARGS__)

// A device, its number the minor one of major 8.
static void device(const char *dir, unsigned number)
{
	sh("mkdir -p devices/%s/slaves dev/block block; ln -sfn ../../devices/%s dev/block/8:%u; ln -sfn ../devices/%s block/", dir, dir, number, dir);
}

static void loop(const char *name, unsigned number, const char *file)
{
	device(name, number);
	sh("mkdir devices/%s/loop; echo '%s' >devices/%s/loop/backing_file", name, file, name);
}

static void partition(const char *dir, const char *name, unsigned number)
{
	sh("mkdir -p devices/%s/%s; echo 1 >devices/%s/%s/partition; ln -sfn ../../devices/%s/%s dev/block/8:%u", dir, name, dir, name, dir, name, number);
}

static void over(const char *dir, const char *beneath)
{
	sh("ln -s ../../%s devices/%s/slaves/", beneath, dir);
}

static int set_up(void **state)
{
	(void)state;
	temp_open(&temp);
	(void)snprintf(mounts, sizeof(mounts), "%s/mountinfo", temp.dir);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	temp_close(&temp);
	return 0;
}

struct found {
	char text[200];
	unsigned count;
};

static int note(void *context, const struct device_loop *loop, bool all)
{
	struct found *found = context;
	size_t used = strlen(found->text);
	(void)snprintf(found->text + used, sizeof(found->text) - used, "%s%s%s", used ? " " : "", loop->name, all ? "" : "/");
	return found->count++ == 5 ? -42 : 0;
}

static void beneath(unsigned number, const char *wanted)
{
	struct found found = {.text = ""};
	assert_int_equal(device_loops_beneath(temp.dir, makedev(8, number), note, &found), 0);
	assert_string_equal(found.text, wanted);
}

static void loop_device_is_found_beneath_whatever_stands_on_it(void **state)
{
	(void)state;
	loop("loop0", 0, "/images/a disk.raw");
	loop("loop1", 1, "/images/b.raw");
	partition("loop0", "loop0p1", 2);
	device("sda", 3);
	partition("sda", "sda1", 4);
	device("dm-0", 5); // over a partition
	over("dm-0", "loop0/loop0p1");
	device("dm-1", 6); // over a map, and a disk
	over("dm-1", "dm-0");
	over("dm-1", "sda/sda1");
	device("md0", 7); // over a whole one
	over("md0", "loop1");
	beneath(0, "loop0");
	beneath(2, "loop0/");
	beneath(3, "");
	beneath(4, "");
	beneath(5, "loop0/");
	beneath(6, "loop0/");
	beneath(7, "loop1/");
	beneath(99, ""); // there is none
	device("dm-9", 8); // a partition of it
	over("dm-9", "md0");
	partition("dm-9", "dm-9p1", 9);
	beneath(9, "loop1/");
}

static void layers_without_an_end_are_left(void **state)
{
	(void)state;
	device("dm-0", 0);
	device("dm-1", 1);
	over("dm-0", "dm-1");
	over("dm-1", "dm-0");
	beneath(0, "");
}

static void who_looks_ends_it(void **state)
{
	struct found found = {.text = ""};
	(void)state;
	device("md0", 50);
	for (unsigned i = 0; i < 9; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "loop%u", i);
		loop(name, i, "/images/a.raw");
		over("md0", name);
	}
	assert_int_equal(device_loops_beneath(temp.dir, makedev(8, 50), note, &found), -42);
	assert_int_equal(found.count, 6);
}

static const char *over_file(const struct stat *file, bool writes, const struct device_loop *beside)
{
	static char name[DEVICE_NAME_BYTES];
	return device_loop_over(temp.dir, mounts, file, writes, beside, name) ? name : "";
}

static int keep(void *context, const struct device_loop *loop, bool all)
{
	(void)all;
	*(struct device_loop *)context = *loop;
	return 0;
}

static void loop_device_over_a_file_is_found_by_which_file_it_is(void **state)
{
	(void)state;
	struct stat st;
	char file[300];
	(void)snprintf(file, sizeof(file), "%s/hard", temp.dir);
	sh("touch a.raw; ln a.raw hard; touch other");
	assert_int_equal(stat(file, &st), 0);
	device("dm-0", 1);
	loop("loop1", 2, "/no/such/file");
	assert_string_equal(over_file(&st, false, NULL), "");
	(void)snprintf(file, sizeof(file), "%s/a.raw", temp.dir);
	loop("loop0", 0, file);
	assert_string_equal(over_file(&st, false, NULL), "loop0");
	assert_string_equal(over_file(&st, true, NULL), "loop0");
	sh("echo 1 >devices/loop0/ro");
	assert_string_equal(over_file(&st, true, NULL), "");
	assert_string_equal(over_file(&st, false, NULL), "loop0");
	sh("echo 0 >devices/loop0/ro");
	assert_string_equal(over_file(&st, true, NULL), "loop0");
	st.st_ino++;
	assert_string_equal(over_file(&st, false, NULL), "");
}

static void file_on_another_file_system_is_not_asked_for(void **state)
{
	(void)state;
	struct stat st;
	char file[300];
	sh("mkdir 'a b'; touch 'a b/a.raw'");
	(void)snprintf(file, sizeof(file), "%s/a b/a.raw", temp.dir);
	assert_int_equal(stat(file, &st), 0);
	loop("loop0", 0, file);
	unsigned high = major(st.st_dev), low = minor(st.st_dev);
	sh("echo '20 1 %u:%u / / rw shared:1 - ext4 /dev/x rw' >mountinfo", high, low);
	assert_string_equal(over_file(&st, true, NULL), "loop0");
	sh("printf '%%s\\n' \"21 20 0:99 / $PWD/a rw - fuse x rw\" >>mountinfo"); // the name of another directory
	assert_string_equal(over_file(&st, true, NULL), "loop0");
	sh("printf '%%s\\n' \"22 20 0:99 / $PWD/a\\040b rw - fuse x rw\" >>mountinfo");
	assert_string_equal(over_file(&st, true, NULL), "");
	sh("echo '23 20 %u:%u / / rw - ext4 /dev/x rw' >>mountinfo", high, low); // the longest path counts
	assert_string_equal(over_file(&st, true, NULL), "");
	sh("printf '%%s\\n' \"24 20 0:98 / $PWD/a\\040b rw - btrfs x rw\" >>mountinfo"); // over that; its files have other numbers
	assert_string_equal(over_file(&st, true, NULL), "loop0");
	sh("printf '%%s\\n' \"25 20 0:99 / $PWD/a\\040b/a.raw rw - fuse x rw\" >>mountinfo"); // on the file itself
	assert_string_equal(over_file(&st, true, NULL), "");
}

static void loop_device_beside_another_is_found_where_it_shows_the_same_bytes(void **state)
{
	(void)state;
	static struct device_loop mine;
	struct stat st;
	char file[300];
	sh("touch a.raw");
	(void)snprintf(file, sizeof(file), "%s/a.raw", temp.dir);
	assert_int_equal(stat(file, &st), 0);
	loop("loop0", 0, file);
	sh("echo 4096 >devices/loop0/loop/offset; echo 8192 >devices/loop0/loop/sizelimit");
	assert_int_equal(device_loops_beneath(temp.dir, makedev(8, 0), keep, &mine), 0);
	assert_int_equal(mine.begin, 4096);
	assert_int_equal(mine.end, 12288);
	assert_false(device_loop_shows_all(&mine));
	assert_string_equal(over_file(&st, true, &mine), ""); // it is not beside itself
	static const struct {
		unsigned offset, limit;
		bool same;
	} other[] = {{0, 0, true}, {0, 4096, false}, {0, 4608, true}, {12288, 0, false}, {11776, 0, true}, {8192, 512, true}, {4096, 8192, true}};
	loop("loop1", 1, file);
	for (unsigned i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		sh("echo %u >devices/loop1/loop/offset; echo %u >devices/loop1/loop/sizelimit", other[i].offset, other[i].limit);
		if ((strcmp(over_file(&st, true, &mine), "loop1") == 0) != other[i].same)
			fail_msg("%u %u", other[i].offset, other[i].limit);
	}
}

#define ON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(loop_device_is_found_beneath_whatever_stands_on_it),
		ON(layers_without_an_end_are_left),
		ON(who_looks_ends_it),
		ON(loop_device_over_a_file_is_found_by_which_file_it_is),
		ON(file_on_another_file_system_is_not_asked_for),
		ON(loop_device_beside_another_is_found_where_it_shows_the_same_bytes),
	};
	return cmocka_run_group_tests_name("device_loop", tests, NULL, NULL);
}
