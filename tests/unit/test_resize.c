// SPDX-License-Identifier: Apache-2.0
// What is left when a disk cannot grow (protection_resize.c): the state directory is a simulated disk that fails where it is told
// to, the image a real file that may not get longer. Each time the same is asked for again, and then works.
#include "replicator/lost_note.h"
#include "replicator/protection_private.h"
#include "base/log.h"
#include "tests/lib/file_limit.h"
#include "tests/lib/twin.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND_NS UINT64_C(1000000000)

enum { SIZE = 12 << 20, LARGE = 24 << 20 };

static struct temp temp;
static struct sim *sim;
static struct env_root *state_root;
static char image_path[512], socket_path[512];
static struct protection *p;
static bool read_only;

static struct err load_err;

// SYNC_LAST: it is not to be loaded.
// A protection of one disk up to where its export would start, and its thread stand between two cycles.
static void begin(bool is_new, enum sync_reason expected)
{
	static struct export_config config;
	struct err err = {0};
	p = calloc(1, sizeof(*p));
	assert_non_null(p);
	p->place = (struct protection_place){.env = sim_env(sim), .state = state_root, .state_dir = "/", .run_dir = "/run"};
	(void)snprintf(p->config.name, NAME_SIZE, "vm1");
	(void)snprintf(p->config.disk[0].name, NAME_SIZE, "vda");
	p->config.disk_count = 1;
	p->config.uuid.bytes[0] = 1;
	p->config.generation.bytes[0] = 2;
	p->nowhere.bytes[0] = 99;
	p->wake_fd = -1;
	p->settled = true;
	(void)pthread_mutex_init(&p->lock, NULL);
	tracking_init(p);
	doubt_init(p);
	config = (struct export_config){.protection = "vm1", .socket_path = socket_path, .disk_count = 1};
	(void)snprintf(config.disk[0].name, NAME_SIZE, "vda");
	config.disk[0].path = image_path;
	config.disk[0].read_only = read_only;
	assert_int_equal(export_open(&config, &p->export, &err), 0);
	int rc = tracking_load(p, is_new, &load_err);
	if (expected == SYNC_LAST) {
		assert_int_equal(rc, -EINVAL);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(p->tracking[0].sync, expected);
}

static void end(void) // as a kill ends it
{
	tracking_done(p);
	doubt_done(p);
	export_close(p->export);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
	p = NULL;
}

// A point is committed: only what is marked from here on is to be compared.
static void commit(void)
{
	uint64_t region[SIZE / REGION_SIZE];
	for (uint64_t r = 0; r < SIZE / REGION_SIZE; r++)
		region[r] = r;
	p->position = (struct state_position){.protection = p->config.uuid, .generation = p->config.generation,
					      .point = 1, .last_cut = {{7}}};
	p->position_known = true;
	p->sync = SYNC_NONE;
	tracking_position(p, SYNC_NONE);
	assert_int_equal(tracking_commit(p, 0, NULL, 0, region, SIZE / REGION_SIZE, NULL), 0);
	dirty_reset(export_dirty(p->export, 0));
}

static int set_up(void **state)
{
	(void)state;
	temp_open(&temp);
	sim = sim_new(1);
	assert_int_equal(env_root_open(sim_env(sim), "/", &state_root), 0);
	assert_int_equal(env_mkdir(state_root, "run"), 0);
	assert_int_equal(env_mkdir(state_root, "protections"), 0);
	assert_int_equal(env_mkdir(state_root, "protections/vm1"), 0);
	(void)snprintf(image_path, sizeof(image_path), "%s/image", temp.dir);
	(void)snprintf(socket_path, sizeof(socket_path), "%s/s", temp.dir);
	int fd = open(image_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	(void)close(fd);
	begin(true, SYNC_INITIAL);
	commit();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	end();
	env_root_close(state_root);
	assert_int_equal(sim_handles(sim), 0);
	sim_free(sim);
	temp_close(&temp);
	return 0;
}


static int ask(uint64_t size, uint64_t *ret_ticket, struct err *err)
{
	uint64_t old_size;
	return protection_resize(p, "vda", size, false, &old_size, ret_ticket, err);
}

// The whole of it. The test is the cycle thread.
static int resize(uint64_t size, struct err *err)
{
	uint64_t ticket = 0;
	struct err why = {0};
	int rc = ask(size, &ticket, &why);
	if (rc == 0) {
		assert_int_equal(protection_resize_end(p, ticket, &why), -EINPROGRESS);
		bool larger = resize_serve(p);
		rc = protection_resize_end(p, ticket, &why);
		assert_int_equal(larger, rc == 0);
	}
	assert_true(rc == 0 || (why.code == rc && why.text[0]));
	if (err)
		*err = why;
	return rc;
}

static uint64_t image_length(void)
{
	struct stat st;
	assert_int_equal(stat(image_path, &st), 0);
	return (uint64_t)st.st_size;
}

static void has_size(uint64_t size)
{
	assert_true(export_disk_size(p->export, 0) == size);
	assert_true(image_length() == size);
}

// The disk is larger, and what is new of it is dirty, and nothing else.
static void has_grown(void)
{
	has_size(LARGE);
	assert_true(dirty_bytes(export_dirty(p->export, 0)) == LARGE - SIZE);
}

// A start after a kill compares the regions in question and no more.
static void killed_costs(uint64_t bytes)
{
	end();
	begin(false, SYNC_UNCLEAN_STOP);
	assert_true(dirty_bytes(export_dirty(p->export, 0)) == bytes);
}

// --- the tests

static void a_disk_grows_and_a_kill_costs_its_new_range(void **state)
{
	(void)state;
	assert_int_equal(resize(LARGE, NULL), 0);
	has_grown();
	assert_int_equal(resize(LARGE, NULL), -EINVAL);
	killed_costs(LARGE - SIZE);
}

static void a_full_state_directory_refuses_and_changes_nothing(void **state)
{
	(void)state;
	struct err err = {0};
	sim_set_space(sim, 0);
	assert_int_equal(resize(LARGE, &err), -ENOSPC);
	has_size(SIZE);
	assert_false(p->tracking[0].lost);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 0);
	const uint64_t region = 1;
	assert_int_equal(tracking_commit(p, 0, &region, 1, NULL, 0, NULL), 0); // goes on
	sim_set_space(sim, 1 << 20);
	assert_int_equal(resize(LARGE, NULL), 0);
	has_grown();
	killed_costs(LARGE - SIZE + REGION_SIZE);
}

// Any one operation on the state directory fails, and then none does. Either nothing has changed, or tracking is lost and
// that is said;
// the second try works in both cases.
static void any_failing_operation_of_the_state_directory_is_survived(void **state)
{
	unsigned unchanged = 0, lost = 0;
	for (uint64_t nth = 0;; nth++) {
		struct err err = {0};
		sim_fail_at(sim, sim_ops(sim) + nth, -EIO, false);
		int rc = resize(LARGE, &err);
		bool failed = sim_has_failed(sim);
		sim_fail_at(sim, SIM_NEVER, -EIO, false);
		if (!failed) {
			assert_int_equal(rc, 0);
			break;
		}
		if (rc) {
			has_size(SIZE);
			p->tracking[0].lost ? lost++ : unchanged++;
			assert_int_equal(p->tracking[0].lost, p->tracking[0].lost_why[0] != 0);
			assert_int_equal(resize(LARGE, NULL), 0);
		}
		has_grown();
		bool was_lost = p->tracking[0].lost;
		end();
		begin(false, was_lost ? SYNC_TRACKING_LOST : SYNC_UNCLEAN_STOP);
		assert_true(dirty_bytes(export_dirty(p->export, 0)) == (was_lost ? LARGE : LARGE - SIZE));
		(void)tear_down(state);
		(void)set_up(state);
	}
	print_message("# %u failures changed nothing, %u lost the tracking\n", unchanged, lost);
	assert_true(unchanged >= 5 && lost >= 1);
}

static void an_image_that_cannot_be_extended_leaves_disk_and_state_as_they_were(void **state)
{
	(void)state;
	struct err err = {0};
	limit_files(SIZE + REGION_SIZE);
	int rc = resize(LARGE, &err);
	limit_files(RLIM_INFINITY);
	assert_int_equal(rc, -EFBIG);
	assert_non_null(strstr(err.text, "the disk stays as it is: give a smaller size"));
	has_size(SIZE);
	assert_false(p->tracking[0].lost);
	assert_int_equal(p->tracking[0].lost_why[0], 0);
	assert_int_equal(dirty_bytes(export_dirty(p->export, 0)), 0);
	killed_costs(0);
	limit_files(SIZE + REGION_SIZE);
	assert_int_equal(resize(LARGE, &err), -EFBIG);
	limit_files(RLIM_INFINITY);
	assert_int_equal(tracking_save(p, &err), 0); // and a clean stop is one
	end();
	begin(false, SYNC_NONE);
	assert_int_equal(resize(LARGE, NULL), 0);
	has_grown();
	killed_costs(LARGE - SIZE);
}

// The image stops the growth, and then the state directory stops the way back: tracking is lost, the guest goes on.
static void a_way_back_that_fails_too_loses_the_tracking_and_says_so(void **state)
{
	uint64_t forward = sim_ops(sim);
	limit_files(SIZE + REGION_SIZE);
	assert_int_equal(resize(LARGE, NULL), -EFBIG);
	uint64_t whole = sim_ops(sim) - forward;
	unsigned lost = 0;
	for (uint64_t nth = whole / 2 + 1; nth < whole; nth++) { // as many operations one way as the other
		limit_files(RLIM_INFINITY);
		(void)tear_down(state);
		(void)set_up(state);
		limit_files(SIZE + REGION_SIZE);
		sim_fail_at(sim, sim_ops(sim) + nth, -EIO, false);
		assert_int_equal(resize(LARGE, NULL), -EFBIG);
		assert_true(sim_has_failed(sim));
		sim_fail_at(sim, SIM_NEVER, -EIO, false);
		limit_files(RLIM_INFINITY);
		has_size(SIZE);
		if (!p->tracking[0].lost)
			continue; // what failed has no say: the file of an earlier crash, removed
		lost++;
		assert_true(p->tracking[0].lost_why[0]);
		assert_int_equal(resize(LARGE, NULL), 0);
		has_grown();
		end();
		begin(false, SYNC_TRACKING_LOST);
		assert_true(dirty_bytes(export_dirty(p->export, 0)) == LARGE);
	}
	limit_files(RLIM_INFINITY);
	assert_true(lost >= 5);
}

static void a_cut_that_is_not_settled_refuses(void **state)
{
	(void)state;
	struct err err = {0};
	p->settled = false;
	assert_int_equal(resize(LARGE, &err), -EBUSY);
	assert_non_null(strstr(err.text, "last cut"));
	has_size(SIZE);
	p->settled = true;
	assert_int_equal(resize(LARGE, NULL), 0);
	has_grown();
}

static int keep_that_fails(struct source *source, struct err *err)
{
	(void)source;
	return err_set(err, -EIO, "the image could not be synced");
}

static void give_back_nothing(struct source *source)
{
	(void)source;
}

// A point whose keep failed has its blocks dirty again: the maps are the whole truth, and the disk may grow.
static void a_cut_that_was_given_back_after_its_point_is_settled(void **state)
{
	static const struct source_ops ops = {.keep = keep_that_fails, .give_back = give_back_nothing};
	struct source source = {.ops = &ops, .disk_count = 1};
	const struct uuid cut = {{8}};
	(void)state;
	assert_int_equal(ship_new(&(struct sender_config){.env = sim_env(sim), .known_bytes = 1 << 20}, &p->ship), 0);
	p->source = &source;
	p->settled = false;
	protection_committed(p, 2, &cut, true);
	ship_free(p->ship);
	assert_true(p->settled);
	assert_int_equal(resize(LARGE, NULL), 0);
	has_grown();
}

// The cycle thread does not come free: the request is taken back, so that nothing grows later behind the operator's back.
static void a_request_that_is_not_taken_in_time_is_taken_back(void **state)
{
	(void)state;
	uint64_t ticket, second;
	struct err err = {0};
	assert_int_equal(ask(LARGE, &ticket, &err), 0);
	sim_clock_advance(sim, 4 * SECOND_NS);
	assert_int_equal(protection_resize_end(p, ticket, &err), -EINPROGRESS);
	assert_int_equal(ask(LARGE + REGION_SIZE, &second, &err), -EBUSY); // one at a time
	sim_clock_advance(sim, 2 * SECOND_NS);
	assert_int_equal(protection_resize_end(p, ticket, &err), -EBUSY);
	assert_non_null(strstr(err.text, "kagami pause"));
	assert_false(resize_serve(p));
	has_size(SIZE);
	assert_int_equal(resize(LARGE, NULL), 0);
	has_grown();
	assert_int_equal(protection_resize_end(p, ticket, &err), -EBUSY); // not what came of another
	assert_non_null(strstr(err.text, "another size since"));
}

// The cycle thread is in it, and the disk under the image, or the state directory, hangs: whoever asks is told so, and asks again.
static void a_growth_that_hangs_is_told_and_goes_on_by_itself(void **state)
{
	(void)state;
	uint64_t ticket, second;
	struct err err = {0};
	assert_int_equal(ask(LARGE, &ticket, &err), 0);
	p->resize.asked = false; // as resize_serve() does first, which then hangs
	p->resize.taken = true;
	sim_clock_advance(sim, 14 * SECOND_NS);
	assert_int_equal(protection_resize_end(p, ticket, &err), -EINPROGRESS);
	sim_clock_advance(sim, 2 * SECOND_NS);
	assert_int_equal(protection_resize_end(p, ticket, &err), -EBUSY);
	assert_non_null(strstr(err.text, "look at the storage"));
	assert_int_equal(ask(LARGE, &second, &err), -EBUSY);
	assert_non_null(strstr(err.text, "is growing to 25165824 bytes"));
	p->resize.asked = true; // it answers
	p->resize.taken = false;
	assert_true(resize_serve(p));
	has_grown();
	assert_int_equal(protection_resize_end(p, ticket, &err), 0);
	assert_int_equal(ask(2 * LARGE, &second, &err), 0);
	assert_int_equal(protection_resize_end(p, ticket, &err), 0); // also when it is another's turn, for who looks late
	assert_true(resize_serve(p));
	assert_int_equal(protection_resize_end(p, second, &err), 0);
	assert_int_equal(protection_resize_end(p, ticket, &err), 0);
}

static void what_can_be_known_before_is_refused_before(void **state)
{
	(void)state;
	struct err err = {0};
	uint64_t old = 0, ticket = 1;
	assert_int_equal(protection_resize(p, "vdx", LARGE, false, &old, &ticket, &err), -ENOENT);
	assert_int_equal(protection_resize(p, "vda", SIZE, false, &old, &ticket, &err), -EINVAL);
	assert_int_equal(protection_resize(p, "vda", SIZE - SECTOR_SIZE, false, &old, &ticket, &err), -EINVAL);
	assert_int_equal(protection_resize(p, "vda", LARGE + 1, false, &old, &ticket, &err), -EINVAL);
	assert_int_equal(protection_resize(p, "vda", LARGE, true, &old, &ticket, &err), 0);
	assert_true(old == SIZE && ticket == 0);
	p->fenced = true;
	assert_int_equal(protection_resize(p, "vda", LARGE, false, &old, &ticket, &err), -EBUSY);
	p->fenced = false;
	assert_false(p->resize.asked);
	has_size(SIZE);
}

static void image_has(uint64_t size)
{
	assert_int_equal(truncate(image_path, (off_t)size), 0);
}

static void an_image_that_became_smaller_is_not_served_until_it_has_its_size_again(void **state)
{
	(void)state;
	end();
	for (int again = 0; again < 2; again++) { // and the state file is what it was
		image_has(SIZE / 2);
		begin(false, SYNC_LAST);
		assert_non_null(strstr(load_err.text, "became smaller while it was not served; restore its size"));
		assert_non_null(strstr(load_err.text, "kagami unprotect vm1"));
		end();
	}
	image_has(SIZE);
	begin(false, SYNC_UNCLEAN_STOP); // of which the note of rest, which this has none of, tells more
	assert_int_equal(tracking_grow(p, 0, LARGE, &load_err), 0);
	end(); // it is killed before the image grows
	begin(false, SYNC_UNCLEAN_STOP);
	end();
	image_has(SIZE - 4096);
	begin(false, SYNC_LAST);
}

static void an_image_that_has_grown_is_not_cut_to_its_old_size_unseen(void **state)
{
	(void)state;
	assert_int_equal(resize(LARGE, NULL), 0);
	end();
	image_has(SIZE);
	begin(false, SYNC_LAST);
	end();
	image_has(LARGE);
	begin(false, SYNC_UNCLEAN_STOP);
}

static void a_read_only_image_is_extended_by_its_owner_first(void **state)
{
	(void)state;
	uint64_t ticket;
	struct err err = {0};
	end();
	read_only = true;
	begin(false, SYNC_UNCLEAN_STOP);
	assert_int_equal(ask(LARGE, &ticket, &err), -EINVAL);
	assert_non_null(strstr(err.text, "disk vda is read-only here"));
	image_has(LARGE);
	assert_int_equal(resize(LARGE, NULL), 0);
	read_only = false;
}

int main(void)
{
#define RESIZE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_image_that_became_smaller_is_not_served_until_it_has_its_size_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(an_image_that_has_grown_is_not_cut_to_its_old_size_unseen, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_read_only_image_is_extended_by_its_owner_first, set_up, tear_down),
		RESIZE_TEST(a_disk_grows_and_a_kill_costs_its_new_range),
		RESIZE_TEST(a_full_state_directory_refuses_and_changes_nothing),
		RESIZE_TEST(any_failing_operation_of_the_state_directory_is_survived),
		RESIZE_TEST(an_image_that_cannot_be_extended_leaves_disk_and_state_as_they_were),
		RESIZE_TEST(a_way_back_that_fails_too_loses_the_tracking_and_says_so),
		RESIZE_TEST(a_cut_that_is_not_settled_refuses),
		RESIZE_TEST(a_cut_that_was_given_back_after_its_point_is_settled),
		RESIZE_TEST(a_request_that_is_not_taken_in_time_is_taken_back),
		RESIZE_TEST(a_growth_that_hangs_is_told_and_goes_on_by_itself),
		RESIZE_TEST(what_can_be_known_before_is_refused_before),
	};
	log_init("test_resize", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("resize", tests, NULL, NULL);
}
