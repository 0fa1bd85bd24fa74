// SPDX-License-Identifier: Apache-2.0
// The agent beside an image that hangs: whatever fails, whoever asked for it has an answer, and a way to close within bounds.
#include "replicator/agent_private.h"

#include "base/log.h"
#include "replicator/doubt.h"
#include "replicator/protection_config.h"
#include "replicator/roll.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { HANGS_S = 20, START_WAIT_S = 2, TRIES = 5 };
#define NO_STACK ((size_t)1 << 50) // of a thread: more than there are addresses

static sem_t go_on;
static atomic_bool hangs, is_hung, no_threads;

static bool is_image(int fd)
{
	char of[64], path[512];
	(void)snprintf(of, sizeof(of), "/proc/self/fd/%d", fd);
	ssize_t len = readlink(of, path, sizeof(path));
	return len > 10 && memcmp(path + len - 10, "/image.raw", 10) == 0;
}

static void default_stack(size_t bytes)
{
	pthread_attr_t attributes;
	assert_int_equal(pthread_attr_init(&attributes), 0);
	assert_int_equal(pthread_attr_setstacksize(&attributes, bytes), 0);
	assert_int_equal(pthread_setattr_default_np(&attributes), 0);
	(void)pthread_attr_destroy(&attributes);
}

// In the place of the system's: the first that is asked of an image hangs. Where that was waited for without a bound, it ends all the same.
int flock(int fd, int operation)
{
	if (atomic_load(&hangs) && is_image(fd)) {
		struct timespec until;
		if (atomic_load(&no_threads))
			default_stack(NO_STACK);
		atomic_store(&is_hung, true);
		(void)clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += HANGS_S;
		(void)sem_timedwait(&go_on, &until);
		atomic_store(&is_hung, false);
	}
	return (int)syscall(SYS_flock, fd, operation);
}

struct fixture {
	struct temp temp;
	char state[300], run[300];
	struct roll roll;
	size_t stack;
	struct err err;
};

static void protect(struct fixture *f)
{
	struct env_root *root = NULL;
	struct protection_config *config = calloc(1, sizeof(*config));
	*config = (struct protection_config){.name = "vm1", .uuid = {{1}}, .generation = {{2}}, .site = "dr", .rpo_ms = 3600000, .points_keep = 2,
					     .codec = CODEC_ZSTD, .digest = {.kind = DIGEST_XXH3}, .settings = {.rpo_ms = 3600000, .objective_ppm = OBJECTIVE_PPM_DEFAULT},
					     .disk_count = 1, .disk = {{.name = "vda"}}};
	(void)snprintf(config->disk[0].path, sizeof(config->disk[0].path), "%s/image.raw", f->temp.dir);
	int fd = open(config->disk[0].path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
	(void)close(fd);
	assert_int_equal(env_root_open(env_posix(), f->state, &root), 0);
	assert_int_equal(env_mkdir(root, "protections"), 0);
	assert_int_equal(env_mkdir(root, "protections/vm1"), 0);
	assert_int_equal(protection_config_save(root, config, &f->err), 0);
	env_root_close(root);
	free(config);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	pthread_attr_t attributes;
	temp_open(&f->temp);
	(void)snprintf(f->state, sizeof(f->state), "%s/state", f->temp.dir);
	(void)snprintf(f->run, sizeof(f->run), "%s/run", f->temp.dir);
	f->roll = (struct roll)ROLL_INITIALIZER;
	assert_int_equal(env_mkdir(f->temp.root, "state"), 0);
	assert_int_equal(pthread_getattr_default_np(&attributes), 0);
	assert_int_equal(pthread_attr_getstacksize(&attributes, &f->stack), 0);
	(void)pthread_attr_destroy(&attributes);
	protect(f);
	assert_int_equal(sem_init(&go_on, 0, 0), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	temp_close(&f->temp);
	(void)sem_destroy(&go_on);
	free(f);
	return 0;
}

static int open_agent(struct fixture *f, struct agent **ret_agent)
{
	const struct agent_config config = {
		.state_path = f->state, .run_dir = f->run, .cycles = 1, .syncs = 1, .roll = &f->roll, .start_wait_s = START_WAIT_S};
	return agent_open(&config, ret_agent, &f->err);
}

static void go_on_and_close(struct fixture *f, struct agent *agent)
{
	default_stack(f->stack);
	atomic_store(&hangs, false);
	(void)sem_post(&go_on);
	agent_close(agent);
	while (sem_trywait(&go_on) == 0)
		continue;
}

// The ticker does not start, while a protection opens its disks in a thread of its own: the close would wait for that.
static void a_start_that_fails_late_is_closed_by_who_has_a_bound_for_it(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	int rc = 0;
	for (int i = 0; rc == 0 && i < TRIES; i++) { // one that was too busy to come to its image in time
		atomic_store(&no_threads, true);
		atomic_store(&hangs, true);
		rc = open_agent(f, &agent);
		if (rc == 0)
			go_on_and_close(f, agent);
	}
	assert_int_equal(rc, -EAGAIN);
	assert_true(atomic_load(&is_hung)); // nobody waited for it
	assert_non_null(agent);
	go_on_and_close(f, agent);
	atomic_store(&no_threads, false);
	assert_int_equal(open_agent(f, &agent), 0); // nothing of it was left
	agent_close(agent);
}

// What fails before there is anything to wait for is closed likewise.
static void a_start_that_fails_early_is_closed_likewise(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL, *second = NULL;
	assert_int_equal(open_agent(f, &agent), 0);
	assert_int_equal(open_agent(f, &second), -EBUSY);
	agent_close(second);
	agent_close(agent);
}

// ---- one that cannot start

static void try_again(struct agent *agent)
{
	(void)pthread_mutex_lock(&agent->lock);
	(void)agent_restart_due(agent, UINT64_MAX - 1); // all are due
	(void)pthread_mutex_unlock(&agent->lock);
	agent_wait_started(agent, HANGS_S);
}

static bool runs(struct agent *agent)
{
	(void)pthread_mutex_lock(&agent->lock);
	bool running = agent->seat[0]->running != NULL;
	(void)pthread_mutex_unlock(&agent->lock);
	return running;
}

static unsigned times_told(const struct fixture *f, const char *text)
{
	char *data = NULL;
	size_t len = 0;
	unsigned count = 0;
	assert_int_equal(env_read_file(f->temp.root, "state/events.jsonl", 1 << 20, &data, &len), 0);
	for (const char *at = data; (at = strstr(at, text)); at++)
		count++;
	free(data);
	return count;
}

static void protection_whose_image_is_missing_is_tried_again_and_told_once(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	assert_int_equal(env_rename(f->temp.root, "image.raw", "image.moved"), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	for (int i = 0; i < TRIES; i++) {
		assert_false(runs(agent));
		(void)pthread_mutex_lock(&agent->lock);
		assert_non_null(strstr(agent->seat[0]->reason, "image.raw: No such file or directory: put it back; it is tried again by itself, or at once with `kagami resume vm1`"));
		assert_false(agent->seat[0]->point.known); // it has no state file
		(void)pthread_mutex_unlock(&agent->lock);
		try_again(agent);
	}
	assert_int_equal(env_rename(f->temp.root, "image.moved", "image.raw"), 0);
	for (int i = 0; i < TRIES && !runs(agent); i++)
		try_again(agent);
	assert_true(runs(agent));
	agent_close(agent); // and all events are written
	assert_int_equal(times_told(f, "does not start, and its disks are not served"), 1);
	assert_int_equal(times_told(f, "has started after all"), 1);
}

static void protection_that_is_unprotected_is_not_tried_again(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	assert_int_equal(env_rename(f->temp.root, "image.raw", "image.moved"), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	(void)pthread_mutex_lock(&agent->lock);
	struct seat *seat = agent_find_settled(agent, "vm1");
	assert_true(restart_due_ns(&seat->restart) != UINT64_MAX);
	(void)snprintf(seat->config.name, NAME_SIZE, "vm1/protection.json/x"); // what cannot be removed
	struct parting parting;
	assert_true(agent_unprotect(agent, seat, &parting, &f->err) < 0);
	assert_true(seat->ends.since_ms == 0 && !seat->leaving); // it is shown as failed, with what could not be removed
	assert_string_equal(seat->reason, f->err.text);
	assert_true(restart_due_ns(&seat->restart) == UINT64_MAX);
	assert_true(agent_restart_due(agent, UINT64_MAX - 1) == UINT64_MAX);
	assert_int_equal(agent->starting, 0);
	(void)pthread_mutex_unlock(&agent->lock);
	agent_close(agent);
}

// ---- files that somebody removes while it runs

static void open_root(const struct fixture *f, struct env_root **ret_root)
{
	assert_int_equal(env_root_open(env_posix(), f->state, ret_root), 0);
}

// All but the events, which are read afterwards.
static void empty(struct env_root *state)
{
	char **names = NULL;
	size_t count = 0;
	assert_int_equal(env_list(state, ".", &names, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], "events.jsonl") != 0)
			assert_int_equal(env_remove_tree(state, names[i]), 0);
	env_list_free(names, count);
}

static char *key_of(struct env_root *state)
{
	char *data = NULL;
	size_t len;
	assert_int_equal(env_read_file(state, AGENT_KEY_FILE, 1 << 16, &data, &len), 0);
	return data;
}

static const struct site dr = {.name = "dr", .address = "127.0.0.1:1", .pin = {{7}}};

static void is_as_it_was(const struct fixture *f, struct env_root *state, const char *key)
{
	struct site site;
	struct err err = {0};
	struct stat st;
	char path[340], *now = key_of(state);
	assert_string_equal(now, key);
	free(now);
	(void)snprintf(path, sizeof(path), "%s/" AGENT_KEY_FILE, f->state);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	if (site_load(state, "dr", &site, &err))
		fail_msg("%s", err.text);
	assert_memory_equal(&site, &dr, sizeof(dr));
	assert_int_equal(env_stat(state, "protections/vm1/protection.json", &(struct env_stat){.size = 0}), 0);
}

static void key_and_sites_that_were_removed_are_written_anew(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	struct env_root *root = NULL;
	open_root(f, &root);
	assert_int_equal(site_save(root, &dr, &f->err), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	char *key = key_of(root);
	agent_look(agent);
	empty(root);
	agent_look(agent);
	is_as_it_was(f, root, key);
	agent_look(agent);

	empty(root); // and a stop before anybody looks
	(void)agent_stop(agent);
	is_as_it_was(f, root, key);
	agent_close(agent);
	assert_int_equal(times_told(f, "files were removed from the state directory while the replicator runs, and were written anew: the key identity.pem, the site dr; see who"), 2);

	assert_int_equal(open_agent(f, &agent), 0);
	assert_int_equal(doubt_site(agent->seat[0]->running, &(struct site){.name = ""}), true);
	agent_close(agent);
	is_as_it_was(f, root, key);
	free(key);
	env_root_close(root);
}

static void file_that_is_there_is_not_written_over(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	struct env_root *root = NULL;
	open_root(f, &root);
	assert_int_equal(site_save(root, &dr, &f->err), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	assert_int_equal(env_replace(root, ".", AGENT_KEY_FILE, "another", 7), 0);
	assert_int_equal(env_replace(root, "sites", "sites/dr.json", "another", 7), 0);
	agent_look(agent);
	assert_true(agent_stop(agent));
	agent_close(agent);
	char *key = key_of(root);
	assert_string_equal(key, "another");
	free(key);
	assert_int_equal(site_load(root, "dr", &(struct site){.name = ""}, &f->err), -EBADMSG);
	env_root_close(root);
}

// What is not there to write into is said once, and by the stop.
static void key_that_cannot_be_written_anew_is_told_once(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	open_root(f, &root);
	assert_int_equal(site_save(root, &dr, &f->err), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	assert_int_equal(env_remove_tree(root, "sites"), 0);
	assert_int_equal(env_open(root, "sites", ENV_CREATE, &file), 0); // in the way
	env_close(file);
	agent_look(agent);
	agent_look(agent);
	assert_true(agent->unkept);
	assert_false(agent_stop(agent));
	agent_close(agent);
	assert_int_equal(times_told(f, "while the replicator runs, and cannot be written anew: write the site dr"), 1);
	env_root_close(root);
}

// Nobody knows whether there is one: neither a state file says it, nor was the receiver asked.
static void point_whose_state_files_are_gone_is_not_known(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	json_t *json = protection_json(agent->seat[0]->running);
	assert_true(json_is_false(json_object_get(json, "point_known")));
	assert_true(json_is_null(json_object_get(json, "starting_ms"))); // as docs/control.md shows it
	char *text = json_dumps(json_object_get(json, "why"), 0);
	if (text)
		assert_null(strstr(text, "no point yet"));
	free(text);
	json_decref(json);
	agent_close(agent);
}

// At the stop what ends is shown until it has, and nothing else may be asked of it: who unprotects it then would free what the stop works with.
static void stop_of_all_leaves_each_to_be_shown_alone(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	struct seat *seat = agent->seat[0];
	assert_false(seat->leaving);
	assert_true(agent_stop(agent));
	assert_null(seat->running);
	assert_null(seat->ends.protection);
	assert_true(seat->leaving && seat->ends.since_ms > 0 && seat->ends.done); // so nobody is told that it goes on ending, for as long as another one does
	assert_non_null(strstr(seat->reason, "the replicator stops"));
	agent_close(agent);
}

static void set_saving(struct agent *agent, struct protection *protection)
{
	(void)pthread_mutex_lock(&agent->saving_lock);
	agent->saving = protection;
	(void)pthread_cond_broadcast(&agent->saved);
	(void)pthread_mutex_unlock(&agent->saving_lock);
}

static void *stop_all(void *agent)
{
	(void)agent_stop(agent);
	return NULL;
}

static struct seat_end end_of(struct agent *agent)
{
	(void)pthread_mutex_lock(&agent->lock);
	struct seat_end end = agent->seat[0]->ends;
	(void)pthread_mutex_unlock(&agent->lock);
	return end;
}

// The ticker may hang in the record of ages of one, and comes back to it: its disks end meanwhile, and its memory stays.
static void one_whose_record_is_being_written_ends_and_is_not_freed(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	pthread_t thread;
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	set_saving(agent, agent->seat[0]->running);
	assert_int_equal(pthread_create(&thread, NULL, stop_all, agent), 0);
	while (!end_of(agent).since_ms)
		(void)usleep(1000);
	(void)usleep(200 * 1000); // where it is not waited for, it is gone by then
	assert_non_null(end_of(agent).protection);
	assert_false(end_of(agent).done);
	set_saving(agent, NULL);
	(void)pthread_join(thread, NULL);
	assert_true(end_of(agent).done);
	agent_close(agent);
}

static void image_that_is_protected_already_is_told_with_its_protection(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	struct seat *seat = NULL;
	struct err err = {0};
	struct protection_config *config = calloc(1, sizeof(*config));
	*config = (struct protection_config){.name = "vm2", .site = "dr", .rpo_ms = 3600000, .points_keep = 2, .codec = CODEC_ZSTD, .digest = {.kind = DIGEST_XXH3},
					     .settings = {.rpo_ms = 3600000, .objective_ppm = OBJECTIVE_PPM_DEFAULT}, .disk_count = 1, .disk = {{.name = "sda"}}};
	char image[512];
	(void)snprintf(image, sizeof(image), "%s/image.raw", f->temp.dir);
	(void)snprintf(config->disk[0].path, sizeof(config->disk[0].path), "%s/link.raw", f->temp.dir);
	assert_int_equal(link(image, config->disk[0].path), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	(void)pthread_mutex_lock(&agent->lock);
	assert_int_equal(agent_protect(agent, config, false, &seat, &err), -EBUSY);
	(void)pthread_mutex_unlock(&agent->lock);
	assert_non_null(strstr(err.text, "link.raw is disk vda of vm1 already"));
	agent_close(agent);
	free(config);
}

// The disks of guests are served all the same.
static void state_that_others_may_use_is_told_and_the_agent_starts(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	char key[400];
	(void)snprintf(key, sizeof(key), "%s/" AGENT_KEY_FILE, f->state);
	assert_int_equal(open_agent(f, &agent), 0);
	agent_close(agent);
	assert_int_equal(times_told(f, "others may"), 0);
	assert_int_equal(chmod(f->state, 0777), 0);
	assert_int_equal(chmod(key, 0644), 0);
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	agent_close(agent);
	assert_int_equal(times_told(f, "others may write to the state directory"), 1);
	assert_int_equal(times_told(f, "others may get at the key in"), 1);
}

// "Remove it", it says: so where it lies.
static void damaged_file_is_named_with_its_directory(void **state)
{
	static const char *const names[] = {"settings.json", AGENT_KEY_FILE};
	struct fixture *f = *state;
	struct env_root *root = NULL;
	char text[400];
	open_root(f, &root);
	(void)snprintf(text, sizeof(text), "state directory %s: ", f->state);
	for (size_t i = 0; i < COUNT(names); i++) {
		struct agent *agent = NULL;
		assert_int_equal(env_replace(root, ".", names[i], "x", 1), 0);
		assert_true(open_agent(f, &agent) < 0);
		agent_close(agent);
		assert_int_equal(strncmp(f->err.text, text, strlen(text)), 0);
		assert_int_equal(strncmp(f->err.text + strlen(text), names[i], strlen(names[i])), 0);
	}
	env_root_close(root);
}

// ---- what is set while it runs

static int edit_settings(struct protection_settings *settings, const void *with, struct err *err)
{
	(void)err;
	*settings = *(const struct protection_settings *)with;
	return 0;
}

// The newest event about settings, and how many there are by now.
static size_t told_of_settings(char text[EVENT_TEXT_SIZE], json_t **ret_data)
{
	const struct event_filter filter = {.class = "settings"};
	json_t *json = events_json(events_default(), &filter, 100, 0);
	const json_t *all = json_object_get(json, "events");
	size_t count = json_array_size(all);
	const json_t *newest = json_array_get(all, count - 1);
	(void)snprintf(text, EVENT_TEXT_SIZE, "%s", count ? json_string_value(json_object_get(newest, "text")) : "");
	if (ret_data)
		*ret_data = json_deep_copy(json_object_get(newest, "data"));
	json_decref(json);
	return count;
}

static void change_of_a_protections_settings_is_told_with_what_it_was(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	char text[EVENT_TEXT_SIZE];
	json_t *data = NULL;
	assert_int_equal(open_agent(f, &agent), 0);
	assert_true(runs(agent));
	struct protection *p = agent->seat[0]->running;
	struct protection_settings settings = {.rpo_ms = 7200000, .priority = PRIORITY_HIGH, .objective_ppm = OBJECTIVE_PPM_DEFAULT};
	assert_int_equal(protection_set(p, edit_settings, &settings, &f->err), 0);
	assert_int_equal(told_of_settings(text, &data), 1);
	assert_string_equal(text, "the settings of vm1 were changed: RPO 2 h (was 1 h), priority high (was normal)");
	json_t *as = json_pack("{s:{s:i, s:s}, s:{s:i, s:s}}", "was", "rpo_ms", 3600000, "priority", "normal", "is", "rpo_ms", 7200000, "priority", "high");
	assert_true(json_equal(data, as));
	json_decref(as);
	json_decref(data);
	assert_int_equal(protection_set(p, edit_settings, &settings, &f->err), 0); // changes nothing
	assert_int_equal(told_of_settings(text, NULL), 1);
	settings.bandwidth.count = BANDWIDTH_RULES_MAX;
	settings.has_offpeak = true;
	settings.offpeak = (struct bandwidth_window){.days = 0x7f, .from = 22 * 60, .to = 6 * 60};
	settings.objective_ppm = 999900;
	for (unsigned i = 0; i < BANDWIDTH_RULES_MAX; i++)
		settings.bandwidth.rule[i] = (struct bandwidth_rule){{.days = 0x55, .from = 61 + i, .to = 1201}, 1234567};
	assert_int_equal(protection_set(p, edit_settings, &settings, &f->err), 0);
	assert_int_equal(told_of_settings(text, &data), 2);
	assert_non_null(strstr(text, "changed: objective 99.99% (was 99.5%), off-peak window 22:00-06:00 (was none), bandwidth "));
	assert_non_null(strstr(text, "; ... (was unlimited)")); // cut short, and whole here:
	assert_int_equal(json_array_size(json_object_get(json_object_get(data, "is"), "bandwidth")), BANDWIDTH_RULES_MAX);
	json_decref(data);
	agent_close(agent);
}

static void change_of_the_agents_settings_is_told_with_what_it_was(void **state)
{
	struct fixture *f = *state;
	struct agent *agent = NULL;
	char text[EVENT_TEXT_SIZE];
	json_t *data = NULL;
	struct agent_settings settings = {.cycles = 7, .bandwidth = {.count = 1, .rule = {{{.days = 0x7f, .to = DAY_MINUTES}, 112500000}}}};
	assert_int_equal(open_agent(f, &agent), 0);
	assert_int_equal(agent_set(agent, &settings, &f->err), 0);
	assert_int_equal(agent_set(agent, &settings, &f->err), 0);
	assert_int_equal(told_of_settings(text, &data), 1);
	assert_string_equal(text, "the settings of all protections together were changed: bandwidth 900mbit (was unlimited), cycles at once 7 (was default)");
	json_t *as = json_pack("{s:{s:[], s:i}, s:{s:[s], s:i}}", "was", "bandwidth", "cycles", 0, "is", "bandwidth", "900mbit", "cycles", 7);
	assert_true(json_equal(data, as));
	json_decref(as);
	json_decref(data);
	agent_close(agent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(stop_of_all_leaves_each_to_be_shown_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(one_whose_record_is_being_written_ends_and_is_not_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(image_that_is_protected_already_is_told_with_its_protection, setup, teardown),
		cmocka_unit_test_setup_teardown(a_start_that_fails_late_is_closed_by_who_has_a_bound_for_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_start_that_fails_early_is_closed_likewise, setup, teardown),
		cmocka_unit_test_setup_teardown(protection_whose_image_is_missing_is_tried_again_and_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(protection_that_is_unprotected_is_not_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(key_and_sites_that_were_removed_are_written_anew, setup, teardown),
		cmocka_unit_test_setup_teardown(file_that_is_there_is_not_written_over, setup, teardown),
		cmocka_unit_test_setup_teardown(key_that_cannot_be_written_anew_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(point_whose_state_files_are_gone_is_not_known, setup, teardown),
		cmocka_unit_test_setup_teardown(state_that_others_may_use_is_told_and_the_agent_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(damaged_file_is_named_with_its_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(change_of_a_protections_settings_is_told_with_what_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(change_of_the_agents_settings_is_told_with_what_it_was, setup, teardown),
	};
	return cmocka_run_group_tests_name("agent", tests, NULL, NULL);
}
