// SPDX-License-Identifier: Apache-2.0
// Who may write to a device that somebody has claimed: the claims are real ones, of loop devices made here; what is over them is told by a sysfs and a list of mounts made here.
#include "replicator/device_claim.h"
#include "tests/lib/twin.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

static struct temp temp;
static struct real {
	char path[64];
	const char *name;
	dev_t device;
	int claim;
} real[2];
static char mounts[300];
static struct device_writer writer;

#define sh(...) temp_shell(&temp, __VA_ARGS__)

static bool attach(struct real *loop)
{
	char command[400];
	struct stat st;
	(void)snprintf(command, sizeof(command), "cd %s && f=$(mktemp ./f.XXXXXX) && truncate -s 1M $f && losetup --show -f $f 2>/dev/null", temp.dir);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	bool told = fgets(loop->path, sizeof(loop->path), out);
	if (pclose(out) != 0 || !told)
		return false;
	loop->path[strcspn(loop->path, "\n")] = 0;
	loop->name = strrchr(loop->path, '/') + 1;
	assert_int_equal(stat(loop->path, &st), 0);
	loop->device = st.st_rdev;
	sh("mkdir -p devices/%s/holders dev/block; ln -s ../../devices/%s dev/block/%u:%u; echo %u:%u >devices/%s/dev", loop->name, loop->name, major(st.st_rdev),
	   minor(st.st_rdev), major(st.st_rdev), minor(st.st_rdev), loop->name);
	return true;
}

static void claim(struct real *loop)
{
	loop->claim = open(loop->path, O_RDWR | O_EXCL | O_CLOEXEC);
	assert_true(loop->claim >= 0);
}

static void leave(struct real *loop)
{
	assert_int_equal(close(loop->claim), 0);
	loop->claim = -1;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		char command[128];
		if (real[i].claim >= 0)
			leave(&real[i]);
		(void)snprintf(command, sizeof(command), "losetup -d %.63s", real[i].path);
		if (real[i].path[0])
			(void)!system(command);
	}
	temp_close(&temp);
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	temp_open(&temp);
	(void)snprintf(mounts, sizeof(mounts), "%s/mountinfo", temp.dir);
	real[0] = real[1] = (struct real){.claim = -1};
	return 0;
}

#define NEEDS_LOOPS()                                                          \
	do {                                                                   \
		if (geteuid() != 0 || !attach(&real[0]) || !attach(&real[1])) \
			skip();                                                \
	} while (0)

static bool writes(void)
{
	return device_claim_writes(temp.dir, mounts, real[0].device, &writer);
}

static void what_nobody_claims_nobody_writes(void **state)
{
	(void)state;
	NEEDS_LOOPS();
	assert_false(writes());
	claim(&real[0]);
	assert_true(writes()); // whoever that is
	assert_string_equal(writer.name, real[0].name);
	assert_string_equal(writer.mount, "");
	sh("echo 1 >devices/%s/ro", real[0].name);
	assert_false(writes());
	sh("rm devices/%s/ro", real[0].name);
	leave(&real[0]);
	assert_false(writes());
}

static void what_is_mounted_is_written_unless_its_file_system_is_read_only(void **state)
{
	(void)state;
	NEEDS_LOOPS();
	claim(&real[0]);
	unsigned high = major(real[0].device), low = minor(real[0].device);
	sh("echo '29 1 0:26 / /proc rw shared:5 - proc proc rw' >mountinfo");
	assert_true(writes());
	assert_string_equal(writer.mount, "");
	sh("echo '30 1 %u:%u / /mnt ro,nosuid shared:5 master:1 - ext4 /dev/x rw,errors=continue' >>mountinfo", high, low); // this mount is, its file system is not
	assert_true(writes());
	assert_string_equal(writer.mount, "/mnt");
	sh("sed -i 's/ rw,errors/ ro,errors/' mountinfo");
	assert_false(writes());
	sh("echo '31 1 0:77 /sub /b rw - btrfs /dev/%s rw,subvol=/sub' >mountinfo", real[0].name);
	assert_true(writes());
	assert_string_equal(writer.mount, "/b");
	sh("sed -i 's/ rw,subvol/ ro,subvol/' mountinfo");
	assert_false(writes());
	sh("echo '31 1 0:77 /sub /b ro - btrfs /dev/%s ro,subvol=/sub' >mountinfo", real[1].name);
	assert_true(writes());
}

static void map_over_it_is_asked_and_an_array_writes_by_itself(void **state)
{
	(void)state;
	NEEDS_LOOPS();
	claim(&real[0]);
	sh("mkdir -p devices/%s/dm; ln -s ../../%s devices/%s/holders/", real[1].name, real[1].name, real[0].name);
	assert_false(writes()); // nobody has the map
	claim(&real[1]);
	assert_true(writes());
	assert_string_equal(writer.name, real[1].name);
	sh("echo '30 1 %u:%u / /mnt rw - ext4 /dev/x rw' >mountinfo", major(real[1].device), minor(real[1].device));
	assert_true(writes());
	assert_string_equal(writer.mount, "/mnt");
	sh("echo '30 1 %u:%u / /mnt ro - ext4 /dev/x ro' >mountinfo", major(real[1].device), minor(real[1].device));
	assert_false(writes());
	sh("mkdir devices/md0; ln -s ../../md0 devices/%s/holders/", real[0].name);
	assert_true(writes());
	assert_string_equal(writer.name, "md0");
	sh("echo 1 >devices/md0/ro");
	assert_false(writes());
}

#define ON(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON(what_nobody_claims_nobody_writes),
		ON(what_is_mounted_is_written_unless_its_file_system_is_read_only),
		ON(map_over_it_is_asked_and_an_array_writes_by_itself),
	};
	return cmocka_run_group_tests_name("device_claim", tests, NULL, NULL);
}
