// SPDX-License-Identifier: Apache-2.0
// The note of how an image was when it was left alone (N1, N2 of rest.h): each way to change an image behind an agent that died is seen, and
// what the agent did itself is not taken for one.
#include "replicator/rest.h"
#include "tests/lib/twin.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 1 << 20 };

struct fixture {
	struct temp temp;
	char image[512], note[512];
	int fd;
	struct rest rest;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	temp_open(&f->temp);
	(void)snprintf(f->image, sizeof(f->image), "%s/image", f->temp.dir);
	(void)snprintf(f->note, sizeof(f->note), "%s/rest/vm1:vda", f->temp.dir);
	f->fd = open(f->image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, SIZE), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	rest_end(&f->rest);
	(void)close(f->fd);
	temp_close(&f->temp);
	free(f);
	return 0;
}

static void tick(void) // so long that a change has another time than the one before, on every kernel
{
	(void)nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

static void begin(struct fixture *f)
{
	struct err err = {0};
	rest_end(&f->rest); // as a death ends it
	if (rest_begin(&f->rest, f->temp.dir, "vm1", "vda", f->fd, &err))
		fail_msg("%s", err.text);
}

static bool disturbed(struct fixture *f)
{
	int fd = open(f->image, O_RDWR | O_CLOEXEC); // the image that has the name now
	assert_true(fd >= 0);
	bool is = rest_judge(f->temp.dir, "vm1", "vda", fd) == REST_DISTURBED;
	(void)close(fd);
	return is;
}

static void write_byte(int fd, off_t off)
{
	assert_int_equal(pwrite(fd, "x", 1, off), 1);
}

static void image_at_rest_that_nobody_changed_is_as_it_was(void **state)
{
	struct fixture *f = *state;
	begin(f);
	rest_now(&f->rest, f->fd);
	assert_false(disturbed(f));
	for (int i = 0; i < 3; i++) { // what the agent writes itself
		tick();
		rest_stir(&f->rest);
		write_byte(f->fd, i);
		rest_now(&f->rest, f->fd);
		assert_false(disturbed(f));
	}
	char byte;
	assert_int_equal(pread(f->fd, &byte, 1, 0), 1);
	assert_int_equal(fsync(f->fd), 0);
	assert_false(disturbed(f));
}

static bool broken(struct fixture *f)
{
	struct stat st;
	assert_int_equal(fstat(f->fd, &st), 0);
	return rest_broken(&f->rest, &st);
}

// While it lives, too: once for each change, and nothing that it does itself.
static void change_by_others_breaks_the_rest(void **state)
{
	struct fixture *f = *state;
	begin(f);
	tick();
	write_byte(f->fd, 0);
	assert_false(broken(f)); // it says nothing before it rested
	for (int i = 0; i < 4; i++) {
		rest_now(&f->rest, f->fd);
		assert_false(broken(f));
		tick();
		if (i == 0)
			write_byte(f->fd, 7);
		else if (i == 1)
			assert_int_equal(ftruncate(f->fd, SIZE + 512), 0);
		else if (i == 2)
			assert_int_equal(futimens(f->fd, (struct timespec[2]){{.tv_sec = 1}, {.tv_sec = 1}}), 0); // as a restore sets it
		else
			assert_int_equal(fchmod(f->fd, 0640), 0);
		assert_true(broken(f));
		assert_false(broken(f));
		assert_false(rest_lasts(&f->rest));
	}
}

static void change_of_ours_by_another_thread_breaks_no_rest(void **state)
{
	struct fixture *f = *state;
	begin(f);
	rest_now(&f->rest, f->fd);
	rest_hold(&f->rest);
	rest_now(&f->rest, f->fd); // the thread of the others sleeps in between
	tick();
	write_byte(f->fd, 7);
	assert_false(broken(f) || rest_lasts(&f->rest));
	rest_release(&f->rest);
	assert_false(broken(f));
	rest_now(&f->rest, f->fd);
	assert_true(rest_lasts(&f->rest));
	assert_false(broken(f));
}

// A change of the agent's that it dies over: again where the machine was so busy that it did not come at once.
static void write_at_work(struct fixture *f)
{
	struct timespec from, to;
	do {
		(void)clock_gettime(CLOCK_MONOTONIC, &from);
		rest_stir(&f->rest);
		write_byte(f->fd, 0);
		(void)clock_gettime(CLOCK_MONOTONIC, &to);
	} while ((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000 > 50);
}

static void agent_that_died_over_a_change_says_when_that_began(void **state)
{
	struct fixture *f = *state;
	begin(f);
	assert_false(disturbed(f)); // it says nothing before it rested
	rest_now(&f->rest, f->fd);
	write_at_work(f);
	assert_false(disturbed(f));
	(void)atomic_fetch_sub(&f->rest.page->stirred_ns, INT64_C(200000000)); // as if that write were of a fifth of a second later: then it is none of the agent's
	assert_true(disturbed(f));
	rest_stir(&f->rest);
	assert_false(disturbed(f));
}

static bool end_is_known(struct fixture *f)
{
	return atomic_load(&f->rest.page->stirs) == atomic_load(&f->rest.page->ended_stirs);
}

// The agent dies between a write that it has answered and the note of a rest, and somebody else changes the image at once.
static void change_by_others_right_after_a_write_that_had_ended_is_seen(void **state)
{
	struct fixture *f = *state;
	begin(f);
	rest_now(&f->rest, f->fd);
	for (int i = 0; i < 3; i++) {
		write_at_work(f);
		rest_wrote(&f->rest, rest_stirred(&f->rest), true);
		assert_true(end_is_known(f));
		assert_false(disturbed(f));
		tick();
		write_byte(f->fd, 7);
		assert_true(disturbed(f));
	}
	rest_stir(&f->rest); // another one begins, over which it dies
	assert_false(end_is_known(f));
	write_at_work(f);
	rest_wrote(&f->rest, rest_stirred(&f->rest), false); // one that began before is still under way
	assert_false(end_is_known(f));
	rest_hold(&f->rest);
	rest_wrote(&f->rest, rest_stirred(&f->rest), true); // or one of another thread
	assert_false(end_is_known(f));
	rest_release(&f->rest);
	assert_false(end_is_known(f));
	rest_stir(&f->rest);
	rest_wrote(&f->rest, rest_stirred(&f->rest), true);
	assert_true(end_is_known(f));
	atomic_store(&f->rest.page->ended_ns, 0); // a note of before there was this, or a clock that was set back: not long after it began
	write_at_work(f);
	atomic_store(&f->rest.page->ended_stirs, atomic_load(&f->rest.page->stirs));
	assert_false(disturbed(f));
}

// A snapshot of the file system the image was on, or another file.
static void image_of_before_a_write_that_had_ended_is_another(void **state)
{
	struct fixture *f = *state;
	char command[4096];
	begin(f);
	rest_now(&f->rest, f->fd);
	write_at_work(f);
	rest_wrote(&f->rest, rest_stirred(&f->rest), true);
	assert_false(disturbed(f));
	int64_t written_ns = atomic_fetch_add(&f->rest.page->written_ns, INT64_C(1500000000)); // as if the image showed a time of before it
	assert_true(disturbed(f));
	atomic_store(&f->rest.page->written_ns, written_ns);
	f->rest.page->ctime_ns += INT64_C(10000000000); // or of before the last rest
	assert_true(disturbed(f));
	f->rest.page->ctime_ns -= INT64_C(10000000000);
	assert_false(disturbed(f));
	(void)snprintf(command, sizeof(command), "cp -p %1$s %1$s.other && mv %1$s.other %1$s", f->image);
	assert_int_equal(system(command), 0);
	rest_stir(&f->rest);
	assert_true(disturbed(f));
}

static void run_directory_on_a_disk_has_no_notes(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	char dir[] = "/var/tmp/kagami-rest.XXXXXX", note[100], command[100];
	assert_non_null(mkdtemp(dir));
	(void)snprintf(command, sizeof(command), "stat -f -c %%T %s | grep -q tmpfs", dir);
	bool in_memory = system(command) == 0;
	(void)snprintf(note, sizeof(note), "%s/rest/vm1:vda", dir);
	int rc = rest_begin(&f->rest, dir, "vm1", "vda", f->fd, &err);
	bool is_there = access(note, F_OK) == 0;
	rest_end(&f->rest);
	(void)snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
	if (in_memory)
		skip(); // /var/tmp is in memory here
	assert_true(rc < 0);
	assert_false(is_there);
	assert_non_null(strstr(err.text, "not in memory"));
}

static void each_change_by_others_is_seen(void **state)
{
	struct fixture *f = *state;
	char other[600], command[2000];
	(void)snprintf(other, sizeof(other), "%s.other", f->image);
	static const char *const changes[] = {
		"printf x | dd of=%1$s bs=1 seek=77 conv=notrunc status=none",
		"cp -p %1$s %2$s; printf x | dd of=%1$s bs=1 seek=77 conv=notrunc status=none; touch -r %2$s %1$s", // the time is set back
		"cp -p %1$s %2$s; mv %2$s %1$s",                                                                    // another inode, all else the same
		"cp -p %1$s %2$s; cp -p %2$s %1$s",
		"truncate -s 4096 %1$s; truncate -s 1048576 %1$s",
		"fallocate -p -o 0 -l 65536 %1$s || touch %1$s",
	};
	for (size_t i = 0; i < sizeof(changes) / sizeof(*changes); i++) {
		(void)close(f->fd);
		f->fd = open(f->image, O_RDWR | O_CLOEXEC);
		begin(f);
		rest_now(&f->rest, f->fd);
		assert_false(disturbed(f));
		tick();
		(void)snprintf(command, sizeof(command), changes[i], f->image, other);
		assert_int_equal(system(command), 0);
		if (!disturbed(f))
			fail_msg("not seen: %s", command);
	}
}

static void host_that_was_started_anew_goes_by_the_time_of_that(void **state)
{
	struct fixture *f = *state;
	assert_true(disturbed(f)); // no note; the image was made since this host is up
	begin(f);
	rest_now(&f->rest, f->fd);
	f->rest.page->boot++; // the note of another time
	assert_true(disturbed(f));
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	struct stat st;
	struct timespec up, now;
	assert_int_equal(fstat(fd, &st) | clock_gettime(CLOCK_BOOTTIME, &up) | clock_gettime(CLOCK_REALTIME, &now), 0);
	bool since = st.st_ctim.tv_sec > now.tv_sec - up.tv_sec;
	assert_int_equal(rest_judge(f->temp.dir, "vm1", "exe", fd), since ? REST_DISTURBED : REST_UNTOLD);
	(void)close(fd);
}

static void note_that_is_damaged_counts_as_none(void **state)
{
	struct fixture *f = *state;
	begin(f);
	rest_now(&f->rest, f->fd);
	rest_end(&f->rest);
	assert_int_equal(truncate(f->note, 10), 0);
	assert_true(disturbed(f));
	begin(f);
	rest_now(&f->rest, f->fd);
	f->rest.page->magic[0] ^= 1;
	assert_true(disturbed(f));
}

static void new_note_does_not_follow_the_older_one(void **state)
{
	struct fixture *f = *state;
	begin(f);
	struct rest older = f->rest; // of an agent that is being ended
	f->rest.page = NULL;
	begin(f);
	rest_now(&f->rest, f->fd);
	rest_stir(&older);
	assert_true(atomic_load(&f->rest.page->at_rest));
	rest_end(&older);
}

static void note_that_cannot_be_made_leaves_none(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	begin(f);
	rest_now(&f->rest, f->fd);
	rest_end(&f->rest);
	char nowhere[600];
	(void)snprintf(nowhere, sizeof(nowhere), "%s/nowhere", f->temp.dir);
	assert_true(rest_begin(&f->rest, nowhere, "vm1", "vda", f->fd, &err) < 0);
	assert_non_null(strstr(err.text, "vm1:vda"));
	assert_null(f->rest.page);
	rest_stir(&f->rest);
	rest_now(&f->rest, f->fd);
}

// N4: a write of ours may have given it its size back.
static void image_whose_end_was_met_is_not_as_it_was_until_that_is_told(void **state)
{
	struct fixture *f = *state;
	rest_note_disturbed(&f->rest); // no note: nothing to say it to
	assert_int_equal(rest_disturbances(&f->rest), 0);
	begin(f);
	rest_now(&f->rest, f->fd);
	assert_false(disturbed(f));
	rest_note_disturbed(&f->rest);
	assert_true(disturbed(f));
	rest_stir(&f->rest);
	write_byte(f->fd, 0);
	assert_true(disturbed(f)); // also of one who died at work
	rest_now(&f->rest, f->fd);
	assert_true(disturbed(f));
	uint32_t ends = rest_disturbances(&f->rest);
	rest_note_disturbed(&f->rest); // once more, while the first is told
	rest_disturbances_told(&f->rest, ends);
	assert_true(disturbed(f));
	rest_disturbances_told(&f->rest, rest_disturbances(&f->rest));
	assert_false(disturbed(f));
	rest_note_disturbed(&f->rest);
	begin(f); // the new state file has it
	rest_now(&f->rest, f->fd);
	assert_false(disturbed(f));
}

// ---- a block device

static char *loop_make(const char *file, char path[64])
{
	char command[600];
	(void)snprintf(command, sizeof(command), "losetup --show -f %s 2>/dev/null", file);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	path[0] = 0;
	char *line = fgets(path, 64, out);
	if (pclose(out) != 0 || !line)
		return NULL;
	path[strcspn(path, "\n")] = 0;
	return path;
}

static void write_device(int fd, off_t off, bool sync)
{
	write_byte(fd, off);
	assert_true(!sync || fsync(fd) == 0);
}

static bool device_disturbed(struct fixture *f, int fd)
{
	assert_int_equal(fdatasync(fd), 0); // as image_settle()
	return rest_judge(f->temp.dir, "vm1", "vda", fd) == REST_DISTURBED;
}

static void look_at_device(struct fixture *f, int fd) // over the file f->fd
{
	struct err err = {0};
	assert_true(device_disturbed(f, fd)); // no note
	write_device(fd, 0, true); // it counts
	for (int again = 0; again < 2; again++) {
		rest_end(&f->rest);
		assert_int_equal(rest_begin(&f->rest, f->temp.dir, "vm1", "vda", fd, &err), 0);
		assert_true(device_disturbed(f, fd)); // which says nothing yet
		rest_now(&f->rest, fd);
		assert_false(device_disturbed(f, fd));
		rest_stir(&f->rest); // ours
		write_device(fd, 4096, true);
		assert_true(device_disturbed(f, fd)); // killed before it said so
		rest_now(&f->rest, fd);
		assert_false(device_disturbed(f, fd));
		write_device(fd, 8192, again); // another's, in the page cache or not
		assert_true(device_disturbed(f, fd));
	}
	rest_now(&f->rest, fd);
	rest_stir(&f->rest);
	rest_now(&f->rest, fd);
	assert_false(device_disturbed(f, fd));
	rest_note_disturbed(&f->rest); // N4
	assert_true(device_disturbed(f, fd));
	rest_disturbances_told(&f->rest, rest_disturbances(&f->rest));
	assert_false(device_disturbed(f, fd));
	tick();
	write_byte(f->fd, 100000); // beneath it
	assert_true(device_disturbed(f, fd));
	rest_stir(&f->rest);
	rest_now(&f->rest, fd);
	assert_false(device_disturbed(f, fd));
	f->rest.page->counts.layers++;
	assert_true(device_disturbed(f, fd));
	f->rest.page->counts.layers--;
	f->rest.page->counts.sequence++; // another attachment
	f->rest.page->boot++;
	assert_true(device_disturbed(f, fd));
}

static void device_that_may_have_been_written_to_is_not_as_it_was(void **state)
{
	struct fixture *f = *state;
	char path[64], command[128];
	if (geteuid() != 0 || !loop_make(f->image, path))
		skip();
	int fd = open(path, O_RDWR | O_CLOEXEC);
	(void)snprintf(command, sizeof(command), "losetup -d %s", path);
	assert_int_equal(system(command), 0); // gone with its last user
	assert_true(fd >= 0);
	look_at_device(f, fd);
	(void)close(fd);
}

// rest.h, N5: of times of whole seconds nothing is believed before the second is over.
static void times_of_whole_seconds_prove_nothing_before_the_second_is_over(void **state)
{
	(void)state;
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	struct stat st = {.st_ctim = {.tv_sec = now.tv_sec - 100}};
	assert_int_equal(rest_hidden_ns(&st), 0);
	st.st_ctim.tv_sec = now.tv_sec; // what is asked later is within it, or a second later at the most if this machine stands still
	uint64_t ns = rest_hidden_ns(&st);
	assert_true(ns <= 1020000000);
	st.st_ctim.tv_sec = now.tv_sec + 1000; // the clock was set back: no wait is longer
	assert_int_equal(rest_hidden_ns(&st), 1020000000);
	st.st_ctim.tv_nsec = 1;
	assert_int_equal(rest_hidden_ns(&st), 0);
}

static void note_that_was_taken_too_early_is_believed_when_it_was_looked_at_again(void **state)
{
	struct fixture *f = *state;
	begin(f);
	rest_now(&f->rest, f->fd);
	assert_false(disturbed(f));
	atomic_store(&f->rest.page->early, 1); // as of a second that is not over
	assert_true(disturbed(f));
	rest_now(&f->rest, f->fd); // its times are none of whole seconds
	assert_false(disturbed(f));
	atomic_store(&f->rest.page->early, 1);
	tick();
	write_byte(f->fd, 7); // by somebody else
	rest_now(&f->rest, f->fd);
	assert_true(disturbed(f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(image_at_rest_that_nobody_changed_is_as_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(agent_that_died_over_a_change_says_when_that_began, setup, teardown),
		cmocka_unit_test_setup_teardown(change_by_others_right_after_a_write_that_had_ended_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(change_by_others_breaks_the_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(change_of_ours_by_another_thread_breaks_no_rest, setup, teardown),
		cmocka_unit_test_setup_teardown(each_change_by_others_is_seen, setup, teardown),
		cmocka_unit_test_setup_teardown(host_that_was_started_anew_goes_by_the_time_of_that, setup, teardown),
		cmocka_unit_test_setup_teardown(note_that_is_damaged_counts_as_none, setup, teardown),
		cmocka_unit_test_setup_teardown(new_note_does_not_follow_the_older_one, setup, teardown),
		cmocka_unit_test_setup_teardown(image_of_before_a_write_that_had_ended_is_another, setup, teardown),
		cmocka_unit_test_setup_teardown(run_directory_on_a_disk_has_no_notes, setup, teardown),
		cmocka_unit_test_setup_teardown(note_that_cannot_be_made_leaves_none, setup, teardown),
		cmocka_unit_test_setup_teardown(image_whose_end_was_met_is_not_as_it_was_until_that_is_told, setup, teardown),
		cmocka_unit_test(times_of_whole_seconds_prove_nothing_before_the_second_is_over),
		cmocka_unit_test_setup_teardown(note_that_was_taken_too_early_is_believed_when_it_was_looked_at_again, setup, teardown),
		cmocka_unit_test_setup_teardown(device_that_may_have_been_written_to_is_not_as_it_was, setup, teardown),
	};
	return cmocka_run_group_tests_name("rest", tests, NULL, NULL);
}
