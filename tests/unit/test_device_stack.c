// SPDX-License-Identifier: Apache-2.0
// Which block devices are believed by their counts, over a sysfs made here: the layers beneath a device, each kind that is believed and each that is not.
#include "replicator/device_stack.h"
#include "tests/lib/twin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

#define LVM_VOLUME "LVM-0123456789abcdefghijklmnopqrstuv0123456789abcdefghijklmnopqrstuv"

static struct temp temp;

#define sh(...) temp_shell(&temp, __VA_ARGS__)

// A device, its number the minor one of major 8, its sequence 100 more.
static void device(const char *dir, unsigned number)
{
	sh("mkdir -p devices/%s/slaves dev/block; echo %u >devices/%s/diskseq; ln -sfn ../../devices/%s dev/block/8:%u", dir, 100 + number, dir, dir, number);
}

static void map(const char *dir, unsigned number, const char *uuid)
{
	device(dir, number);
	sh("mkdir devices/%s/dm; echo '%s' >devices/%s/dm/uuid", dir, uuid, dir);
}

static void over(const char *dir, const char *beneath)
{
	sh("ln -s ../../%s devices/%s/slaves/", beneath, dir);
}

static int set_up(void **state)
{
	(void)state;
	temp_open(&temp);
	device("sda", 0);
	sh("mkdir devices/sda/sda1 devices/sda/sda2; echo 1 >devices/sda/sda1/partition; echo 2 >devices/sda/sda2/partition; echo 2048 >devices/sda/sda1/start; "
	   "echo 8192 >devices/sda/sda2/start; ln -s ../../devices/sda/sda1 dev/block/8:1; ln -s ../../devices/sda/sda2 dev/block/8:2");
	device("nvme0n1", 3);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	temp_close(&temp);
	return 0;
}

static bool told(unsigned number, uint64_t *ret_layers)
{
	static struct device_stack stack;
	bool tells = device_stack_read(temp.dir, makedev(8, number), &stack);
	assert_int_equal(stack.file[0], 0);
	*ret_layers = stack.layers;
	return tells;
}

static uint64_t layers(unsigned number)
{
	uint64_t is;
	if (!told(number, &is))
		fail_msg("8:%u is not believed", number);
	return is;
}

static bool believed(unsigned number)
{
	uint64_t is;
	return told(number, &is);
}

static void disks_and_their_partitions_are_believed(void **state)
{
	(void)state;
	assert_true(layers(0) != layers(3));
	assert_true(layers(1) != layers(2) && layers(1) != layers(0));
	uint64_t was = layers(1);
	assert_true(layers(1) == was);
	sh("echo 4096 >devices/sda/sda1/start"); // another table
	assert_true(layers(1) != was);
	was = layers(2);
	sh("echo 777 >devices/sda/diskseq"); // another attachment
	assert_true(layers(2) != was);
	sh("rm devices/sda/diskseq");
	assert_false(believed(2));
	assert_false(believed(99)); // there is none
}

static void other_kinds_are_not(void **state)
{
	(void)state;
	static const char *const kinds[] = {"zd0", "rbd0", "drbd0", "nbd0", "bcache0", "ublkb0", "dm-7", "md7", "zram0", "ram0", "something"};
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		device(kinds[i], 20 + i);
		if (believed(20 + i))
			fail_msg("%s", kinds[i]);
	}
}

static void volume_is_believed_while_its_layers_are_the_same(void **state)
{
	(void)state;
	map("dm-0", 10, LVM_VOLUME);
	assert_false(believed(10)); // over nothing
	over("dm-0", "sda/sda1");
	uint64_t one = layers(10);
	over("dm-0", "nvme0n1");
	uint64_t two = layers(10);
	assert_true(one != two);
	sh("rm devices/dm-0/slaves/sda1"); // moved
	assert_true(layers(10) != two && layers(10) != one);
	sh("echo 5 >devices/nvme0n1/diskseq");
	uint64_t moved = layers(10);
	sh("echo 103 >devices/nvme0n1/diskseq");
	assert_true(layers(10) != moved);
	over("dm-0", "zd0"); // which is not there
	assert_false(believed(10));
}

static void volume_whose_data_others_may_exchange_is_not(void **state)
{
	(void)state;
	static const char *const inner[] = {LVM_VOLUME "-real", LVM_VOLUME "-tpool", LVM_VOLUME "-cow", "", "TABLE-OF-MINE", "LVM-short"};
	for (unsigned i = 0; i < sizeof(inner) / sizeof(inner[0]); i++) {
		char dir[2][16];
		(void)snprintf(dir[0], sizeof(dir[0]), "dm-%u", 2 * i);
		(void)snprintf(dir[1], sizeof(dir[1]), "dm-%u", 2 * i + 1);
		map(dir[0], 30 + 2 * i, inner[i]);
		over(dir[0], "sda/sda1");
		assert_false(believed(30 + 2 * i));
		map(dir[1], 31 + 2 * i, LVM_VOLUME);
		over(dir[1], dir[0]);
		if (believed(31 + 2 * i))
			fail_msg("over %s", inner[i]);
	}
}

static void encrypted_multipath_and_mirror_are_believed(void **state)
{
	(void)state;
	device("md0", 40);
	sh("mkdir devices/md0/md && echo raid1 >devices/md0/md/level");
	over("md0", "sda/sda1");
	over("md0", "nvme0n1");
	map("dm-0", 41, "CRYPT-LUKS2-0011-name");
	over("dm-0", "md0");
	map("dm-1", 42, LVM_VOLUME);
	over("dm-1", "dm-0");
	map("dm-2", 43, "mpath-3600");
	over("dm-2", "sda");
	uint64_t all = layers(42);
	assert_true(believed(40) && believed(41) && believed(43));
	sh("echo 9 >devices/sda/diskseq"); // at the very bottom
	assert_true(layers(42) != all);
	static const char *const levels[] = {"raid0", "raid10", "raid5", "raid1x", "linear", ""};
	for (unsigned i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		char line[80];
		(void)snprintf(line, sizeof(line), "echo %s >devices/md0/md/level", levels[i]);
		sh("%s", line);
		if (believed(40) || believed(42)) // what is discarded is not counted
			fail_msg("%s", levels[i]);
	}
}

static void order_in_which_the_layers_are_listed_says_nothing(void **state)
{
	(void)state;
	uint64_t is[2];
	for (unsigned i = 0; i < 2; i++) {
		device("md0", 40);
		sh("mkdir -p devices/md0/md && echo raid1 >devices/md0/md/level");
		over("md0", i ? "sda" : "nvme0n1");
		over("md0", i ? "nvme0n1" : "sda");
		is[i] = layers(40);
		sh("rm -r devices/md0");
	}
	assert_true(is[0] == is[1]);
}

static void layers_without_an_end_are_not_believed(void **state)
{
	(void)state;
	map("dm-0", 50, LVM_VOLUME);
	map("dm-1", 51, LVM_VOLUME);
	over("dm-0", "dm-1");
	over("dm-1", "dm-0");
	assert_false(believed(50));
}

static void loop_device_has_a_file(void **state)
{
	(void)state;
	struct device_stack stack;
	device("loop0", 60);
	sh("mkdir devices/loop0/loop; echo '/images/a disk.raw' >devices/loop0/loop/backing_file");
	assert_true(device_stack_read(temp.dir, makedev(8, 60), &stack));
	assert_string_equal(stack.file, "/images/a disk.raw");
	map("dm-0", 61, LVM_VOLUME);
	over("dm-0", "loop0");
	assert_false(believed(61)); // nobody looks at the file then
	sh("mkdir devices/loop0/loop0p1; echo 1 >devices/loop0/loop0p1/partition; echo 8 >devices/loop0/loop0p1/start; ln -s ../../devices/loop0/loop0p1 dev/block/8:62");
	assert_false(believed(62));
	sh("rm -r devices/loop0/loop");
	assert_false(believed(60));
}

#define ON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(disks_and_their_partitions_are_believed),
		ON(other_kinds_are_not),
		ON(volume_is_believed_while_its_layers_are_the_same),
		ON(volume_whose_data_others_may_exchange_is_not),
		ON(encrypted_multipath_and_mirror_are_believed),
		ON(order_in_which_the_layers_are_listed_says_nothing),
		ON(layers_without_an_end_are_not_believed),
		ON(loop_device_has_a_file),
	};
	return cmocka_run_group_tests_name("device_stack", tests, NULL, NULL);
}
