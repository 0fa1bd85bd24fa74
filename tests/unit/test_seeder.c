// SPDX-License-Identifier: Apache-2.0
// The seeder (receiver/seeder.h) and the files that it takes (receiver/seed_file.h): a file system that hangs, an image that is changed while it is
// copied, a file with a bad place.
#include "receiver/seed_file.h"
#include "receiver/seeder.h"

#include "base/auto.h"

#include "base/log.h"
#include "base/size.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

// --- a file system that hangs, and one with a bad place: the seeder's own calls ---

static struct {
	const char *hangs; // the path whose opening waits
	sem_t begun, go;
	atomic_int bad_fd; // whose bytes [bad_at, + 1) cannot be read; -1: none
	off_t bad_at;
} world = {.bad_fd = -1};

int open(const char *path, int flags, ...)
{
	va_list args;
	va_start(args, flags);
	unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, unsigned) : 0;
	va_end(args);
	if (world.hangs && strcmp(path, world.hangs) == 0) {
		(void)sem_post(&world.begun);
		(void)sem_wait(&world.go);
	}
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t pread(int fd, void *buf, size_t len, off_t off)
{
	if (fd == atomic_load(&world.bad_fd) && world.bad_at >= off && world.bad_at - off < (off_t)len) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, buf, len, off);
}

struct place {
	struct temp temp;
	struct store *store;
	struct pairing *pairing;
	struct seeder *seeder;
	char path[320];
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct pin own = {{1}};
	char dir[320];
	struct err err = {0};
	assert_non_null(p);
	temp_open(&p->temp);
	(void)snprintf(dir, sizeof(dir), "%s/store", p->temp.dir);
	(void)snprintf(p->path, sizeof(p->path), "%s/disk", p->temp.dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	if (pairing_open(p->temp.root, &own, &p->pairing, &err) || store_open(env_posix(), dir, &p->store, &err) ||
	    seeder_start(env_posix(), p->store, p->pairing, &p->seeder, &err))
		fail_msg("%s", err.text);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	seeder_stop(p->seeder);
	store_close(p->store);
	pairing_close(p->pairing);
	temp_close(&p->temp);
	free(p);
	return 0;
}

static struct seed_request request_of(const struct place *p)
{
	return (struct seed_request){.protection = "vm1", .disk = "vda", .path = p->path, .how = SEED_COPY, .peer = "any"};
}

static void file_make(const char *path, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static int any_room(void *context, uint64_t bytes, struct err *err)
{
	(void)context, (void)bytes, (void)err;
	return 0;
}

static int bring(const struct place *p, const struct seed_file *file, const struct seed_request *request, char to[320], struct err *err)
{
	struct seed_progress progress = {.stop = false};
	(void)snprintf(to, 320, "%s/brought", p->temp.dir);
	return seed_file_bring(file, request, to, &progress, any_room, NULL, err);
}

// --- the tests ---

static void *begin_thread(void *context)
{
	struct place *p = context;
	struct seed_request request = request_of(p);
	struct err err = {0};
	json_t *json = NULL;
	int rc = seeder_begin(p->seeder, &request, true, &json, &err);
	json_decref(json);
	return (void *)(intptr_t)rc;
}

static void a_file_system_that_hangs_keeps_nobody_else_waiting(void **state)
{
	struct place *p = *state;
	unsigned char byte[SECTOR_SIZE] = {1};
	struct seed_request other = request_of(p);
	struct err err = {0};
	json_t *json = NULL;
	pthread_t thread;
	void *result;
	file_make(p->path, byte, sizeof(byte));
	(void)sem_init(&world.begun, 0, 0);
	(void)sem_init(&world.go, 0, 0);
	world.hangs = p->path;
	assert_int_equal(pthread_create(&thread, NULL, begin_thread, p), 0);
	(void)sem_wait(&world.begun);
	world.hangs = NULL;
	json = seeder_json(p->seeder);
	assert_true(json_is_null(json_object_get(json, "making")));
	json_decref(json);
	assert_int_equal(seeder_drop(p->seeder, "vm1", "vda", &err), -ENOENT);
	assert_int_equal(seeder_begin(p->seeder, &other, true, &json, &err), -EBUSY);
	(void)sem_post(&world.go);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_int_equal((int)(intptr_t)result, 0);
	assert_int_equal(seeder_begin(p->seeder, &other, true, &json, &err), 0);
	json_decref(json);
}

// 1 MiB, of which a writer makes the overlay of another file between the look at it and the copy.
static void an_image_that_gains_a_backing_file_shows_nothing_of_it(void **state)
{
	struct place *p = *state;
	struct seed_request request = request_of(p);
	struct seed_file file = {.fd = -1};
	struct err err = {0};
	char command[1200], to[320], secret[320];
	unsigned char bytes[4096];
	memset(bytes, 'S', sizeof(bytes));
	if (system("qemu-img --version >/dev/null 2>&1"))
		skip();
	request.qcow2 = true;
	(void)snprintf(secret, sizeof(secret), "%s/secret", p->temp.dir);
	file_make(secret, bytes, sizeof(bytes));
	(void)snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 1M", p->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(seed_file_open(&request, &file, &err), 0);
	(void)snprintf(command, sizeof(command), "qemu-img rebase -q -u -f qcow2 -b %s -F raw %s", secret, p->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(bring(p, &file, &request, to, &err), -EBUSY);
	assert_non_null(strstr(err.text, "was changed while it was copied"));
	seed_file_close(&file);
	(void)snprintf(command, sizeof(command), "grep -q SSSS %s", to);
	assert_int_not_equal(system(command), 0); // not even for a while
	assert_int_equal(unlink(to), 0);

	(void)snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 1M && qemu-io -f qcow2 -c 'write -q -P 7 64k 64k' %s", p->path, p->path);
	assert_int_equal(system(command), 0);
	assert_int_equal(seed_file_open(&request, &file, &err), 0);
	if (bring(p, &file, &request, to, &err))
		fail_msg("%s", err.text);
	seed_file_close(&file);
	(void)snprintf(command, sizeof(command), "qemu-img compare -q -f qcow2 -F raw %s %s", p->path, to);
	assert_int_equal(system(command), 0);
}

static void a_block_that_cannot_be_read_is_left_out_of_a_copy(void **state)
{
	struct place *p = *state;
	enum { BLOCKS = 20 };
	struct seed_request request = request_of(p);
	struct seed_file file = {.fd = -1};
	struct err err = {0};
	char to[320];
	AUTO_FREE unsigned char *bytes = malloc((size_t)BLOCKS * BLOCK_SIZE), *found = malloc((size_t)BLOCKS * BLOCK_SIZE);
	memset(bytes, 0x5a, (size_t)BLOCKS * BLOCK_SIZE);
	file_make(p->path, bytes, (size_t)BLOCKS * BLOCK_SIZE);
	assert_int_equal(seed_file_open(&request, &file, &err), 0);
	world.bad_at = 3 * BLOCK_SIZE + 17;
	atomic_store(&world.bad_fd, file.fd);
	if (bring(p, &file, &request, to, &err))
		fail_msg("%s", err.text);
	atomic_store(&world.bad_fd, -1);
	seed_file_close(&file);
	FILE *f = fopen(to, "re");
	assert_non_null(f);
	assert_int_equal(fread(found, 1, (size_t)BLOCKS * BLOCK_SIZE, f), (size_t)BLOCKS * BLOCK_SIZE);
	(void)fclose(f);
	memset(bytes + (size_t)3 * BLOCK_SIZE, 0, BLOCK_SIZE);
	assert_memory_equal(found, bytes, (size_t)BLOCKS * BLOCK_SIZE);
}

int main(void)
{
	log_init("test_seeder", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_file_system_that_hangs_keeps_nobody_else_waiting),
		TEST(an_image_that_gains_a_backing_file_shows_nothing_of_it),
		TEST(a_block_that_cannot_be_read_is_left_out_of_a_copy),
	};
	return cmocka_run_group_tests_name("seeder", tests, NULL, NULL);
}
