// SPDX-License-Identifier: Apache-2.0
// Paths in a file system that a guest wrote (receiver/guest_path.h): none leads out of it, and nothing but files is opened.
#include "receiver/guest_path.h"

#include "base/auto.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

struct world {
	struct temp temp;
	char guest[300]; // the mounted file system
};

static void make(const struct world *w, const char *name, const char *text)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s", w->temp.dir, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void link_to(const struct world *w, const char *name, const char *target)
{
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/%s", w->guest, name);
	assert_int_equal(symlink(target, path), 0);
}

// Outside of the guest there are "secret" and "etc/passwd", inside "etc/passwd", "hello" and links that try.
static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char path[512];
	assert_non_null(w);
	temp_open(&w->temp);
	(void)snprintf(w->guest, sizeof(w->guest), "%s/guest", w->temp.dir);
	for (const char *const *dir = (const char *const[]){"guest", "guest/etc", "guest/dir", "guest/dir/sub", NULL}; *dir; dir++) {
		(void)snprintf(path, sizeof(path), "%s/%s", w->temp.dir, *dir);
		assert_int_equal(mkdir(path, 0755), 0);
	}
	make(w, "secret", "host");
	make(w, "guest/etc/passwd", "guest");
	make(w, "guest/hello", "hello");
	make(w, "guest/dir/b", "b");
	make(w, "guest/dir/a", "a");
	link_to(w, "absolute", "/etc/passwd");
	link_to(w, "up", "../../../../../../../etc/passwd");
	link_to(w, "out", "../secret");
	link_to(w, "magic", "/proc/self/root/etc/passwd");
	link_to(w, "loop", "loop");
	link_to(w, "dirlink", "/dir");
	(void)snprintf(path, sizeof(path), "%s/fifo", w->guest);
	assert_int_equal(mkfifo(path, 0644), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	temp_close(&w->temp);
	free(w);
	return 0;
}

static int open_guest(const struct world *w, const char *path, char text[64], struct err *err)
{
	AUTO_CLOSE int fd = -1;
	struct stat st;
	int rc = guest_open_file(w->guest, path, &fd, &st, err);
	ssize_t len = rc ? 0 : read(fd, text, 63);
	assert_true(len >= 0);
	text[len] = 0;
	return rc;
}

static void paths_and_links_are_resolved_within_the_guest(void **state)
{
	static const struct {
		const char *path, *text;
	} good[] = {{"/hello", "hello"},	     {"hello", "hello"},	{"//hello", "hello"},
		    {"/etc/passwd", "guest"},	     {"../../../etc/passwd", "guest"}, {"/absolute", "guest"},
		    {"/up", "guest"},		     {"dir/../hello", "hello"},	{"/dirlink/a", "a"},
		    {"/dir/../../../../etc/passwd", "guest"}};
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct err err = {.code = 0};
		char text[64];
		if (open_guest(*state, good[i].path, text, &err))
			fail_msg("%s: %s", good[i].path, err.text);
		assert_string_equal(text, good[i].text);
	}
}

static void what_is_not_in_the_guest_is_not_there(void **state)
{
	static const char *const gone[] = {"/secret", "/out", "/magic", "/nowhere", "/hello/x", "/../secret", "/proc/self/environ"};
	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
		struct err err = {.code = 0};
		char text[64];
		assert_int_equal(open_guest(*state, gone[i], text, &err), -ENOENT);
		assert_non_null(strstr(err.text, gone[i]));
	}
	char text[64];
	assert_int_equal(open_guest(*state, "/loop", text, NULL), -ELOOP);
}

static void link_that_leads_to_nothing_is_told_as_one(void **state)
{
	struct err err = {.code = 0};
	char text[64];
	link_to(*state, "elsewhere", "/var/l\xf6g\x1b[1m");
	assert_int_equal(open_guest(*state, "/elsewhere", text, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/elsewhere is a link to /var/l?g?[1m, which is not in this file system")); // a person's terminal is left alone
	assert_int_equal(open_guest(*state, "/elsewhere/x", text, &err), -ENOENT);
	assert_non_null(strstr(err.text, "there is no /elsewhere/x"));
}

static void only_regular_files_are_opened(void **state)
{
	const struct world *w = *state;
	struct err err = {.code = 0};
	char text[64], path[512];
	assert_int_equal(open_guest(w, "/dir", text, &err), -EISDIR);
	assert_non_null(strstr(err.text, "ls"));
	assert_int_equal(open_guest(w, "/", text, &err), -EISDIR);
	assert_int_equal(open_guest(w, "", text, &err), -EISDIR);
	assert_int_equal(open_guest(w, "/fifo", text, &err), -EINVAL); // at once: nobody writes there
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	assert_true(snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/sock", w->guest) > 0);
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(open_guest(w, "/sock", text, &err), -EINVAL);
	(void)snprintf(path, sizeof(path), "%s/null", w->guest);
	if (mknod(path, S_IFCHR | 0666, 0x103) == 0) // as root
		assert_int_equal(open_guest(w, "/null", text, &err), -EINVAL);
}

static void a_listing_is_sorted_and_tells_what_each_is(void **state)
{
	const struct world *w = *state;
	json_t *entries = NULL;
	bool truncated = true;
	assert_int_equal(guest_list(w->guest, "/dirlink/.", &entries, &truncated, NULL), 0);
	assert_false(truncated);
	assert_int_equal(json_array_size(entries), 3);
	const char *name, *type;
	int size;
	assert_int_equal(json_unpack(json_array_get(entries, 1), "{s:s, s:s, s:i}", "name", &name, "type", &type, "size_bytes", &size), 0);
	assert_string_equal(name, "b");
	assert_string_equal(type, "file");
	assert_int_equal(size, 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 2), "type")), "directory");
	json_decref(entries);
	assert_int_equal(guest_list(w->guest, "/", &entries, &truncated, NULL), 0);
	const json_t *entry = json_array_get(entries, 0);
	assert_string_equal(json_string_value(json_object_get(entry, "name")), "absolute");
	assert_string_equal(json_string_value(json_object_get(entry, "type")), "link");
	assert_string_equal(json_string_value(json_object_get(entry, "target")), "/etc/passwd");
	json_decref(entries);
}

static void a_listing_of_a_file_is_that_file(void **state)
{
	const struct world *w = *state;
	json_t *entries = NULL;
	bool truncated = true;
	assert_int_equal(guest_list(w->guest, "/etc/passwd", &entries, &truncated, NULL), 0);
	assert_int_equal(json_array_size(entries), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 0), "name")), "passwd");
	assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 0), "type")), "file");
	json_decref(entries);
	assert_int_equal(guest_list(w->guest, "/secret", &entries, &truncated, NULL), -ENOENT);
}

static void a_name_that_is_not_utf8_is_told_in_hex(void **state)
{
	const struct world *w = *state;
	json_t *entries = NULL;
	bool truncated;
	make(w, "guest/dir/sub/x\xff\"y", "");
	assert_int_equal(guest_list(w->guest, "/dir/sub", &entries, &truncated, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 0), "name")), "x?\"y");
	assert_string_equal(json_string_value(json_object_get(json_array_get(entries, 0), "hex")), "78ff2279");
	json_decref(entries);
	char text[64];
	assert_int_equal(open_guest(w, "/dir/sub/x\xff\"y", text, NULL), 0);
}

#define GUEST_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GUEST_TEST(paths_and_links_are_resolved_within_the_guest),
		GUEST_TEST(what_is_not_in_the_guest_is_not_there),
		GUEST_TEST(link_that_leads_to_nothing_is_told_as_one),
		GUEST_TEST(only_regular_files_are_opened),
		GUEST_TEST(a_listing_is_sorted_and_tells_what_each_is),
		GUEST_TEST(a_listing_of_a_file_is_that_file),
		GUEST_TEST(a_name_that_is_not_utf8_is_told_in_hex),
	};
	return cmocka_run_group_tests_name("guest_path", tests, NULL, NULL);
}
