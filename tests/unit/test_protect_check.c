// SPDX-License-Identifier: Apache-2.0
// What is asked of images before they are protected: none of another format passes for raw, and its owner's word is enough.
#include "replicator/protect_check.h"

#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { IMAGE_BYTES = 1 << 20 };

struct fixture {
	struct temp temp;
	struct protection_config config;
	int fd;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	temp_open(&f->temp);
	f->config.disk_count = 1;
	(void)snprintf(f->config.disk[0].name, sizeof(f->config.disk[0].name), "vda");
	(void)snprintf(f->config.disk[0].path, sizeof(f->config.disk[0].path), "%s/image", f->temp.dir);
	f->fd = open(f->config.disk[0].path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	(void)close(f->fd);
	temp_close(&f->temp);
	free(f);
	return 0;
}

static void image_of(struct fixture *f, uint64_t at, const void *bytes, size_t len)
{
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(ftruncate(f->fd, IMAGE_BYTES), 0);
	assert_int_equal(pwrite(f->fd, bytes, len, (off_t)at), len);
}

static int checked(struct fixture *f, bool raw)
{
	char state_dir[PATH_MAX];
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", f->temp.dir); // there is none, unless the test made it
	return protect_check(&f->config, state_dir, 0, raw, &f->err);
}

static void refused_as(struct fixture *f, const char *format)
{
	char how[64];
	(void)snprintf(how, sizeof(how), "`qemu-img convert -f %s -O raw ", format);
	assert_int_equal(checked(f, false), -EINVAL);
	assert_non_null(strstr(f->err.text, f->config.disk[0].path));
	assert_non_null(strstr(f->err.text, how));
	assert_non_null(strstr(f->err.text, "--force"));
	assert_int_equal(checked(f, true), 0);
}

static const struct {
	const char *format;
	uint64_t at;
	const char *bytes;
	size_t len;
} cases[] = { // as they stand in files, from the formats' own descriptions
	{"qcow", 0, "QFI\xfb\0\0\0\1", 8},
	{"qcow2", 0, "QFI\xfb\0\0\0\2", 8},
	{"qcow2", 0, "QFI\xfb\0\0\0\3", 8},
	{"qed", 0, "QED\0", 4},
	{"vmdk", 0, "KDMV\1\0\0\0", 8},
	{"vmdk", 0, "COWD\1\0\0\0", 8},
	{"vmdk", 0, "# Disk DescriptorFile\nversion=1\n", 32},
	{"vhdx", 0, "vhdxfile", 8},
	{"vdi", 64, "\x7f\x10\xda\xbe\1\0\1\0", 8},
	{"vpc", 0, "conectix", 8},
	{"vpc", IMAGE_BYTES - 512, "conectix", 8},
	{"parallels", 0, "WithoutFreeSpace\2\0\0\0", 20},
	{"parallels", 0, "WithouFreSpacExt\2\0\0\0", 20},
	{"bochs", 0, "Bochs Virtual HD Image\0\0\0\0\0\0\0\0\0\0Redolog", 39},
	{"cloop", 0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n", 83},
};

static void an_image_of_another_format_is_refused_by_its_name_unless_it_is_said_to_be_raw(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		image_of(f, cases[i].at, cases[i].bytes, cases[i].len);
		refused_as(f, cases[i].format);
	}
}

// A magic number elsewhere, or not all of it, is what any disk may hold.
static void what_is_raw_passes(void **state)
{
	struct fixture *f = *state;
	image_of(f, 0, "", 1);
	assert_int_equal(checked(f, false), 0);
	image_of(f, 0, "LUKS\xba\xbe\0\2", 8);
	assert_int_equal(checked(f, false), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		image_of(f, cases[i].at ? cases[i].at - 1 : 1, cases[i].bytes, cases[i].len);
		assert_int_equal(checked(f, false), 0);
		image_of(f, cases[i].at, cases[i].bytes, 2);
		assert_int_equal(checked(f, false), 0);
	}
}

// Which is no image either, but that is for others to say.
static void a_file_that_is_shorter_than_a_header_is_not_read_past_its_end(void **state)
{
	struct fixture *f = *state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (size_t len = 0; len < 4; len++) {
			image_of(f, 0, cases[i].bytes, len);
			assert_int_equal(ftruncate(f->fd, (off_t)len), 0);
			assert_int_equal(checked(f, false), 0);
		}
}

// By its own name, or by a link; what lies beside it, or in a directory whose name begins alike, is none of its own.
static void an_image_in_the_state_directory_is_refused(void **state)
{
	struct fixture *f = *state;
	char old[PATH_MAX], dir[PATH_MAX - 16], in[PATH_MAX], link[PATH_MAX];
	image_of(f, 0, "", 1);
	(void)snprintf(old, sizeof(old), "%s", f->config.disk[0].path);
	(void)snprintf(dir, sizeof(dir), "%s/state", f->temp.dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(checked(f, false), 0);
	(void)snprintf(in, sizeof(in), "%s/image", dir);
	(void)snprintf(link, sizeof(link), "%s-of-old", dir);
	assert_int_equal(rename(old, in), 0);
	assert_int_equal(symlink(in, old), 0);
	for (int raw = 0; raw < 2; raw++)
		assert_int_equal(checked(f, raw), -EINVAL);
	assert_non_null(strstr(f->err.text, "state directory"));
	(void)snprintf(f->config.disk[0].path, sizeof(f->config.disk[0].path), "%s", in);
	assert_int_equal(checked(f, false), -EINVAL);
	assert_int_equal(rename(in, link), 0);
	(void)snprintf(f->config.disk[0].path, sizeof(f->config.disk[0].path), "%s", link);
	assert_int_equal(checked(f, false), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_image_of_another_format_is_refused_by_its_name_unless_it_is_said_to_be_raw, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_raw_passes, setup, teardown),
		cmocka_unit_test_setup_teardown(an_image_in_the_state_directory_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_file_that_is_shorter_than_a_header_is_not_read_past_its_end, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
