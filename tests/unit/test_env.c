// SPDX-License-Identifier: Apache-2.0
// The contract of base/env.h, kept by both implementations: each test runs over env_posix in a temporary directory and
// over the simulated disk. What only the simulated disk does is in test_sim.c.
#include "base/auto.h"
#include "base/env.h"
#include "base/size.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <pthread.h>
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
	struct env *env;
	struct sim *sim; // NULL: the real one
	struct env_root *root;
	char path[256];
};

static int begin_posix(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const char *tmp = getenv("TMPDIR");
	assert_non_null(w);
	snprintf(w->path, sizeof(w->path), "%s/kagami-env-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(w->path));
	w->env = env_posix();
	assert_int_equal(env_root_open(w->env, w->path, &w->root), 0);
	*state = w;
	return 0;
}

static int begin_sim(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct env_root *top;
	assert_non_null(w);
	w->sim = sim_new(7);
	w->env = sim_env(w->sim);
	assert_int_equal(env_root_open(w->env, "/", &top), 0);
	assert_int_equal(env_mkdir(top, "disk"), 0);
	env_root_close(top);
	strcpy(w->path, "/disk");
	assert_int_equal(env_root_open(w->env, w->path, &w->root), 0);
	*state = w;
	return 0;
}

static int end_world(void **state)
{
	struct world *w = *state;
	char **names;
	size_t count;
	assert_int_equal(env_list(w->root, ".", &names, &count), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(env_remove_tree(w->root, names[i]), 0);
	env_list_free(names, count);
	env_root_close(w->root);
	if (w->sim)
		assert_int_equal(sim_handles(w->sim), 0);
	else
		assert_int_equal(rmdir(w->path), 0);
	sim_free(w->sim);
	free(w);
	return 0;
}

static struct env_root *root_of(void **state)
{
	return ((struct world *)*state)->root;
}

static struct env_file *opened(struct env_root *root, const char *name, enum env_open how)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(root, name, how, &file), 0);
	return file;
}

static void make(struct env_root *root, const char *name, const char *text)
{
	struct env_file *file = opened(root, name, ENV_CREATE);
	assert_int_equal(env_pwrite(file, text, strlen(text), 0), 0);
	env_close(file);
}

static void expect_text(struct env_root *root, const char *name, const char *text)
{
	AUTO_FREE char *data = NULL;
	size_t len;
	assert_int_equal(env_read_file(root, name, 4096, &data, &len), 0);
	assert_string_equal(data, text);
	assert_int_equal(len, strlen(text));
}

static void expect_names(struct env_root *root, const char *dir, const char *expected)
{
	char **names, text[256] = "";
	size_t count;
	assert_int_equal(env_list(root, dir, &names, &count), 0);
	for (size_t i = 0; i < count; i++) {
		strcat(text, i ? " " : "");
		strcat(text, names[i]);
	}
	env_list_free(names, count);
	assert_string_equal(text, expected);
}

static void a_root_is_a_directory(void **state)
{
	struct world *w = *state;
	struct env_root *root;
	char path[300];
	make(w->root, "file", "x");
	snprintf(path, sizeof(path), "%s/file", w->path);
	assert_int_equal(env_root_open(w->env, path, &root), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/none", w->path);
	assert_int_equal(env_root_open(w->env, path, &root), -ENOENT);
	assert_int_equal(env_mkdir(w->root, "d"), 0);
	make(w->root, "d/inner", "y");
	snprintf(path, sizeof(path), "%s/d", w->path);
	assert_int_equal(env_root_open(w->env, path, &root), 0);
	expect_text(root, "inner", "y");
	env_root_close(root);
}

static void path_leads_to_a_directory_until_another_is_there(void **state)
{
	struct world *w = *state;
	char a[300], b[300];
	struct env_root *root;
	snprintf(a, sizeof(a), "%s/a", w->path);
	snprintf(b, sizeof(b), "%s/b", w->path);
	assert_int_equal(env_mkdir(w->root, "a"), 0);
	assert_int_equal(env_root_open(w->env, a, &root), 0);
	assert_int_equal(env_mkdir(root, "in"), 0);
	assert_int_equal(env_leads(root, ".", a), 0);
	assert_int_equal(env_leads(w->root, "a", a), 0);
	assert_int_equal(env_rename(w->root, "a", "b"), 0);
	assert_int_equal(env_leads(root, ".", a), -ENOENT);
	assert_int_equal(env_leads(root, ".", b), 0);
	assert_int_equal(env_mkdir(w->root, "a"), 0);
	assert_int_equal(env_leads(root, ".", a), -ESTALE);
	assert_int_equal(env_leads(root, "in", a), -ESTALE);
	assert_int_equal(env_leads(root, "none", a), -ENOENT);
	make(w->root, "c", "x");
	snprintf(a, sizeof(a), "%s/c", w->path);
	assert_int_equal(env_leads(root, ".", a), -ENOTDIR);
	env_root_close(root);
}

static void open_modes_demand_or_forbid_the_file(void **state)
{
	struct env_root *root = root_of(state);
	struct env_file *file;
	assert_int_equal(env_open(root, "f", ENV_READ, &file), -ENOENT);
	assert_int_equal(env_open(root, "f", ENV_WRITE, &file), -ENOENT);
	env_close(opened(root, "f", ENV_CREATE));
	assert_int_equal(env_open(root, "f", ENV_CREATE, &file), -EEXIST);
	env_close(opened(root, "f", ENV_CREATE_OPEN));
	env_close(opened(root, "g", ENV_CREATE_OPEN));
	env_close(opened(root, "f", ENV_READ));
	assert_int_equal(env_open(root, "d/f", ENV_CREATE, &file), -ENOENT);
	assert_int_equal(env_open(root, "f/g", ENV_CREATE, &file), -ENOTDIR);
	assert_int_equal(env_mkdir(root, "d"), 0);
	assert_int_equal(env_open(root, "d", ENV_WRITE, &file), -EISDIR);
	expect_names(root, ".", "d f g");
}

static void a_file_opened_for_reading_cannot_be_changed(void **state)
{
	struct env_root *root = root_of(state);
	make(root, "f", "abc");
	struct env_file *file = opened(root, "f", ENV_READ);
	assert_int_equal(env_pwrite(file, "x", 1, 0), -EBADF);
	assert_int_equal(env_truncate(file, 0), -EINVAL);
	assert_int_equal(env_punch(file, 0, 1), -EBADF);
	env_close(file);
	expect_text(root, "f", "abc");
}

static void reads_end_at_the_end_of_the_file(void **state)
{
	struct env_root *root = root_of(state);
	char buf[8];
	size_t got;
	make(root, "f", "hello");
	struct env_file *file = opened(root, "f", ENV_READ);
	assert_int_equal(env_pread(file, buf, 8, 0, &got), 0);
	assert_int_equal(got, 5);
	assert_int_equal(env_pread(file, buf, 8, 3, &got), 0);
	assert_int_equal(got, 2);
	assert_memory_equal(buf, "lo", 2);
	assert_int_equal(env_pread(file, buf, 8, 99, &got), 0);
	assert_int_equal(got, 0);
	assert_int_equal(env_pread_full(file, buf, 5, 0), 0);
	assert_int_equal(env_pread_full(file, buf, 6, 0), -ENODATA);
	assert_int_equal(env_pread_full(file, buf, 0, 99), 0);
	env_close(file);
}

// Writes, punches and truncations at odd places against a plain buffer.
static void contents_are_those_of_a_plain_buffer(void **state)
{
	enum { SIZE = 300000 };
	struct env_root *root = root_of(state);
	AUTO_FREE unsigned char *model = calloc(1, SIZE);
	AUTO_FREE unsigned char *bytes = malloc(SIZE);
	assert_non_null(model);
	assert_non_null(bytes);
	struct env_file *file = opened(root, "f", ENV_CREATE);
	uint64_t size = 0;
	unsigned random = 12345;
	for (unsigned round = 0; round < 400; round++) {
		random = random * 1103515245u + 12345u;
		uint64_t off = (random >> 8) % SIZE, len = (random >> 4) % min_u64(SIZE - off, round % 7 ? 3000 : SIZE) + 1;
		len = min_u64(len, SIZE - off);
		switch (round % 5) {
		case 0:
			assert_int_equal(env_punch(file, off, len), 0);
			if (off < size)
				memset(model + off, 0, (size_t)min_u64(len, size - off));
			break;
		case 1:
			if (round % 3)
				break;
			assert_int_equal(env_truncate(file, off), 0);
			if (off < size)
				memset(model + off, 0, (size_t)(size - off));
			size = off;
			break;
		default:
			memset(bytes, (int)(round | 1), (size_t)len);
			assert_int_equal(env_pwrite(file, bytes, (size_t)len, off), 0);
			memcpy(model + off, bytes, (size_t)len);
			size = max_u64(size, off + len);
		}
		uint64_t now;
		assert_int_equal(env_size(file, &now), 0);
		assert_int_equal(now, size);
		assert_int_equal(env_pread_full(file, bytes, (size_t)size, 0), 0);
		assert_memory_equal(bytes, model, (size_t)size);
		if (round % 16 == 0)
			assert_int_equal(env_sync(file), 0);
	}
	env_close(file);
}

static void a_punch_keeps_the_size_and_frees_space(void **state)
{
	struct env_root *root = root_of(state);
	static char bytes[4 * BLOCK_SIZE];
	struct env_stat before, after;
	memset(bytes, 'x', sizeof(bytes));
	struct env_file *file = opened(root, "f", ENV_CREATE);
	assert_int_equal(env_pwrite(file, bytes, sizeof(bytes), 0), 0);
	assert_int_equal(env_sync(file), 0);
	assert_int_equal(env_stat(root, "f", &before), 0);
	assert_true(before.allocated >= sizeof(bytes));
	assert_int_equal(env_punch(file, 0, 2 * BLOCK_SIZE), 0);
	assert_int_equal(env_punch(file, 8 * BLOCK_SIZE, BLOCK_SIZE), 0);
	assert_int_equal(env_sync(file), 0);
	assert_int_equal(env_stat(root, "f", &after), 0);
	assert_int_equal(after.size, sizeof(bytes));
	assert_true(after.allocated <= before.allocated);
	env_close(file);
}

static void a_sparse_file_may_be_huge(void **state)
{
	struct env_root *root = root_of(state);
	struct env_file *file = opened(root, "f", ENV_CREATE);
	uint64_t size = UINT64_C(1) << 40;
	assert_int_equal(env_truncate(file, size), 0);
	assert_int_equal(env_pwrite(file, "x", 1, size - 7), 0);
	char buf[16];
	size_t got;
	assert_int_equal(env_pread(file, buf, sizeof(buf), size - 8, &got), 0);
	assert_int_equal(got, 8);
	assert_memory_equal(buf, "\0x\0\0\0\0\0\0", 8);
	struct env_stat st;
	assert_int_equal(env_stat(root, "f", &st), 0);
	assert_int_equal(st.size, size);
	assert_true(st.allocated < 1 << 20);
	env_close(file);
}

static void a_lock_excludes_another_and_ends_with_the_file(void **state)
{
	struct env_root *root = root_of(state);
	struct env_file *a = opened(root, "f", ENV_CREATE), *b = opened(root, "f", ENV_WRITE);
	assert_int_equal(env_lock(a), 0);
	assert_int_equal(env_lock(a), 0);
	assert_int_equal(env_lock(b), -EBUSY);
	env_close(a);
	assert_int_equal(env_lock(b), 0);
	env_close(b);
}

static void *close_later(void *file)
{
	(void)usleep(100 * 1000); // as the kernel does for a process that was killed
	env_close(file);
	return NULL;
}

static void a_lock_of_who_is_about_to_be_gone_is_waited_for(void **state)
{
	struct env_root *root = root_of(state);
	struct env_file *a = opened(root, "f", ENV_CREATE), *b = opened(root, "f", ENV_WRITE);
	pthread_t thread;
	assert_int_equal(env_lock(a), 0);
	assert_int_equal(pthread_create(&thread, NULL, close_later, a), 0);
	assert_int_equal(env_lock(b), 0);
	(void)pthread_join(thread, NULL);
	env_close(b);
}

static void directories_are_made_listed_and_removed(void **state)
{
	struct env_root *root = root_of(state);
	assert_int_equal(env_mkdir(root, "d"), 0);
	assert_int_equal(env_mkdir(root, "d"), -EEXIST);
	assert_int_equal(env_mkdir(root, "x/y"), -ENOENT);
	assert_int_equal(env_mkdir(root, "d/b"), 0);
	make(root, "d/a", "1");
	make(root, "d/c", "2");
	expect_names(root, "d", "a b c");
	expect_names(root, "d/b", "");
	expect_names(root, ".", "d");
	assert_int_equal(env_rmdir(root, "d"), -ENOTEMPTY);
	assert_int_equal(env_unlink(root, "d"), -EISDIR);
	assert_int_equal(env_rmdir(root, "d/a"), -ENOTDIR);
	assert_int_equal(env_unlink(root, "d/none"), -ENOENT);
	char **names;
	size_t count;
	assert_int_equal(env_list(root, "d/a", &names, &count), -ENOTDIR);
	assert_int_equal(env_list(root, "none", &names, &count), -ENOENT);
	assert_int_equal(env_sync_dir(root, "d"), 0);
	assert_int_equal(env_sync_dir(root, "."), 0);
	assert_int_equal(env_sync_dir(root, "none"), -ENOENT);
	assert_int_equal(env_sync_dir(root, "d/a"), -ENOTDIR);
	assert_int_equal(env_remove_tree(root, "d"), 0);
	assert_int_equal(env_remove_tree(root, "d"), 0);
	expect_names(root, ".", "");
}

static void a_rename_moves_files_and_directories_with_all_in_them(void **state)
{
	struct env_root *root = root_of(state);
	assert_int_equal(env_mkdir(root, "points"), 0);
	assert_int_equal(env_mkdir(root, "head"), 0);
	make(root, "head/f", "1");
	struct env_file *file = opened(root, "head/f", ENV_READ);
	assert_int_equal(env_rename(root, "head", "points/1"), 0);
	expect_names(root, ".", "points");
	expect_text(root, "points/1/f", "1");
	char byte;
	assert_int_equal(env_pread_full(file, &byte, 1, 0), 0); // the handle follows the file
	env_close(file);
	make(root, "points/1/g", "2");
	assert_int_equal(env_rename(root, "points/1/g", "points/1/f"), 0);
	expect_names(root, "points/1", "f");
	expect_text(root, "points/1/f", "2");
	assert_int_equal(env_rename(root, "points/1/f", "points/1/f"), 0);
	expect_text(root, "points/1/f", "2");
}

static void a_rename_that_makes_no_sense_is_refused(void **state)
{
	struct env_root *root = root_of(state);
	assert_int_equal(env_mkdir(root, "a"), 0);
	assert_int_equal(env_mkdir(root, "a/b"), 0);
	assert_int_equal(env_mkdir(root, "empty"), 0);
	make(root, "f", "1");
	assert_int_equal(env_rename(root, "none", "x"), -ENOENT);
	assert_int_equal(env_rename(root, "f", "none/x"), -ENOENT);
	assert_int_equal(env_rename(root, "a", "a/b/c"), -EINVAL);
	assert_int_equal(env_rename(root, "f", "a"), -EISDIR);
	assert_int_equal(env_rename(root, "a", "f"), -ENOTDIR);
	assert_int_equal(env_rename(root, "empty", "a"), -ENOTEMPTY);
	assert_int_equal(env_rename(root, "a", "empty"), 0); // an empty directory is replaced
	expect_names(root, ".", "empty f");
	expect_names(root, "empty", "b");
}

static void an_exchange_swaps_two_names_with_all_behind_them(void **state)
{
	struct env_root *root = root_of(state);
	assert_int_equal(env_mkdir(root, "points"), 0);
	assert_int_equal(env_mkdir(root, "points/1"), 0);
	assert_int_equal(env_mkdir(root, "merge"), 0);
	assert_int_equal(env_mkdir(root, "merge/1"), 0);
	make(root, "points/1/f", "old");
	make(root, "merge/1/f", "new");
	struct env_file *file = opened(root, "points/1/f", ENV_READ);
	assert_int_equal(env_exchange(root, "merge/1", "points/1"), 0);
	expect_text(root, "points/1/f", "new");
	expect_text(root, "merge/1/f", "old");
	char byte;
	assert_int_equal(env_pread_full(file, &byte, 1, 0), 0);
	assert_int_equal(byte, 'o'); // the handle follows the file
	env_close(file);
	make(root, "f", "file");
	assert_int_equal(env_exchange(root, "f", "points/1"), 0); // whatever they are
	expect_text(root, "points/1", "file");
	expect_text(root, "f/f", "new");
}

static void an_exchange_that_makes_no_sense_is_refused(void **state)
{
	struct env_root *root = root_of(state);
	assert_int_equal(env_mkdir(root, "a"), 0);
	assert_int_equal(env_mkdir(root, "a/b"), 0);
	assert_int_equal(env_exchange(root, "a", "none"), -ENOENT);
	assert_int_equal(env_exchange(root, "none", "a"), -ENOENT);
	assert_int_equal(env_exchange(root, "a", "a/b"), -EOPNOTSUPP);
	assert_int_equal(env_exchange(root, "a/b", "a"), -EOPNOTSUPP);
	assert_int_equal(env_exchange(root, "a", "a"), 0);
	expect_names(root, "a", "b");
}

static void an_unlinked_file_lives_as_long_as_its_handle(void **state)
{
	struct env_root *root = root_of(state);
	make(root, "f", "abc");
	struct env_file *file = opened(root, "f", ENV_WRITE);
	assert_int_equal(env_unlink(root, "f"), 0);
	make(root, "f", "new");
	char buf[3];
	assert_int_equal(env_pwrite(file, "x", 1, 0), 0);
	assert_int_equal(env_pread_full(file, buf, 3, 0), 0);
	assert_memory_equal(buf, "xbc", 3);
	env_close(file);
	expect_text(root, "f", "new");
}

static void names_never_leave_the_root(void **state)
{
	struct env_root *root = root_of(state);
	struct env_file *file;
	struct env_stat st;
	assert_int_equal(env_mkdir(root, "d"), 0);
	make(root, "f", "1");
	assert_int_equal(env_open(root, "../x", ENV_CREATE, &file), -EXDEV);
	assert_int_equal(env_open(root, "d/../../x", ENV_CREATE, &file), -EXDEV);
	assert_int_equal(env_open(root, "/etc/passwd", ENV_READ, &file), -EXDEV);
	assert_int_equal(env_mkdir(root, "../x"), -EXDEV);
	assert_int_equal(env_rename(root, "f", "../x"), -EXDEV);
	assert_int_equal(env_unlink(root, "../x"), -EXDEV);
	assert_int_equal(env_stat(root, "d/../f", &st), 0);
	assert_int_equal(env_stat(root, "", &st), -ENOENT);
	expect_names(root, ".", "d f");
}

static void stat_never_leaves_the_root(void **state)
{
	struct env_stat st;
	assert_int_equal(env_stat(root_of(state), "..", &st), -EXDEV);
}

static void stat_tells_files_from_directories(void **state)
{
	struct env_root *root = root_of(state);
	struct env_stat st;
	assert_int_equal(env_mkdir(root, "d"), 0);
	make(root, "d/f", "12345");
	assert_int_equal(env_stat(root, "d", &st), 0);
	assert_true(st.is_dir);
	assert_int_equal(env_stat(root, ".", &st), 0);
	assert_true(st.is_dir);
	assert_int_equal(env_stat(root, "d/f", &st), 0);
	assert_false(st.is_dir);
	assert_int_equal(st.size, 5);
	assert_int_equal(env_stat(root, "d/g", &st), -ENOENT);
	assert_int_equal(env_stat(root, "d/f/g", &st), -ENOTDIR);
	uint64_t space;
	assert_int_equal(env_space(root, &space), 0);
	assert_true(space > 0);
}

static void replace_puts_new_bytes_in_place_of_old(void **state)
{
	struct env_root *root = root_of(state);
	assert_int_equal(env_mkdir(root, "d"), 0);
	make(root, "d/f.new", "left by a crash");
	assert_int_equal(env_replace(root, "d", "d/f", "one", 3), 0);
	expect_text(root, "d/f", "one");
	assert_int_equal(env_replace(root, "d", "d/f", "", 0), 0);
	expect_text(root, "d/f", "");
	expect_names(root, "d", "f");
}

static void read_file_refuses_what_is_too_long(void **state)
{
	struct env_root *root = root_of(state);
	char *data = NULL;
	size_t len;
	make(root, "f", "12345");
	assert_int_equal(env_read_file(root, "f", 4, &data, &len), -EFBIG);
	assert_int_equal(env_read_file(root, "g", 4, &data, &len), -ENOENT);
	assert_null(data);
	assert_int_equal(env_read_file(root, "f", 5, &data, &len), 0);
	assert_memory_equal(data, "12345", 6);
	free(data);
}

static void clocks_run_and_random_bytes_differ(void **state)
{
	struct world *w = *state;
	unsigned char a[32] = {0}, b[32] = {0};
	uint64_t mono = env_mono_ns(w->env);
	assert_int_equal(env_random(w->env, a, sizeof(a)), 0);
	assert_int_equal(env_random(w->env, b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	assert_true(env_mono_ns(w->env) >= mono);
	assert_true(env_wall_ns(w->env) > INT64_C(1700000000000000000));
}

static void directory_is_not_opened_as_a_file(void **state)
{
	struct world *w = *state;
	struct env_file *file = NULL;
	assert_int_equal(env_mkdir(w->root, "dir"), 0);
	for (enum env_open how = ENV_READ; how <= ENV_CREATE_OPEN; how++)
		assert_int_equal(env_open(w->root, "dir", how, &file), how == ENV_CREATE ? -EEXIST : -EISDIR);
}

static void what_is_no_regular_file_is_not_opened_and_nobody_waited_for(void **state)
{
	struct world *w = *state;
	struct env_file *file = NULL;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[300];
	(void)snprintf(path, sizeof(path), "%s/fifo", w->path);
	assert_int_equal(mkfifo(path, 0600), 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/socket", w->path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(env_mkdir(w->root, "dir"), 0);
	static const char *const names[] = {"fifo", "socket", "dir"};
	for (unsigned i = 0; i < 3; i++)
		for (enum env_open how = ENV_READ; how <= ENV_CREATE_OPEN; how++)
			assert_int_equal(env_open(w->root, names[i], how, &file), how == ENV_CREATE ? -EEXIST : -EISDIR);
	(void)close(fd);
}

#define BOTH(test)                                                                                              \
	{#test " (posix)", test, begin_posix, end_world, NULL}, {#test " (sim)", test, begin_sim, end_world, NULL}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(a_root_is_a_directory),
		BOTH(path_leads_to_a_directory_until_another_is_there),
		BOTH(open_modes_demand_or_forbid_the_file),
		BOTH(a_file_opened_for_reading_cannot_be_changed),
		BOTH(reads_end_at_the_end_of_the_file),
		BOTH(contents_are_those_of_a_plain_buffer),
		BOTH(a_punch_keeps_the_size_and_frees_space),
		BOTH(a_sparse_file_may_be_huge),
		BOTH(a_lock_excludes_another_and_ends_with_the_file),
		BOTH(directories_are_made_listed_and_removed),
		BOTH(a_rename_moves_files_and_directories_with_all_in_them),
		BOTH(a_rename_that_makes_no_sense_is_refused),
		BOTH(an_exchange_swaps_two_names_with_all_behind_them),
		BOTH(an_exchange_that_makes_no_sense_is_refused),
		BOTH(an_unlinked_file_lives_as_long_as_its_handle),
		BOTH(names_never_leave_the_root),
		BOTH(stat_never_leaves_the_root),
		BOTH(stat_tells_files_from_directories),
		BOTH(replace_puts_new_bytes_in_place_of_old),
		BOTH(read_file_refuses_what_is_too_long),
		BOTH(directory_is_not_opened_as_a_file),
		BOTH(clocks_run_and_random_bytes_differ),
		cmocka_unit_test_setup_teardown(a_lock_of_who_is_about_to_be_gone_is_waited_for, begin_posix, end_world),
		cmocka_unit_test_setup_teardown(what_is_no_regular_file_is_not_opened_and_nobody_waited_for, begin_posix, end_world),
	};
	return cmocka_run_group_tests_name("env", tests, NULL, NULL);
}
