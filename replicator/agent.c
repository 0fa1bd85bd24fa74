// SPDX-License-Identifier: Apache-2.0
#include "replicator/agent_private.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "link/events.h"
#include "link/private.h"
#include "replicator/desk.h"
#include "replicator/doubt.h"
#include "replicator/failed_note.h"
#include "replicator/lease_keeper.h"
#include "replicator/limiter.h"
#include "replicator/pack.h"
#include "replicator/priority.h"
#include "replicator/protect_check.h"
#include "replicator/protection_tracking.h"
#include "replicator/rest.h"
#include "replicator/settings_change.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct ender {
	pthread_t thread;
	bool runs;
	struct agent *agent;
	struct seat *seat;
	struct protection *protection;
	bool saved;
};

static int make_dir(const char *path, struct err *err)
{
	if (mkdir(path, 0750) == 0 || errno == EEXIST)
		return 0;
	return err_sys(err, -errno, "make the directory %s", path);
}

// The host's name as a name of ours.
static void host_name(char name[NAME_SIZE])
{
	char host[256] = "source";
	(void)gethostname(host, sizeof(host) - 1);
	size_t len = 0;
	for (const char *c = host; *c && len < NAME_SIZE - 1; c++) {
		char low = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
		bool fits = (low >= 'a' && low <= 'z') || (low >= '0' && low <= '9') || (len > 0 && strchr(".-_", low));
		if (fits)
			name[len++] = low;
	}
	name[len] = 0;
	if (len == 0)
		(void)snprintf(name, NAME_SIZE, "source");
}

static int take_state(struct agent *agent, const char *path, struct err *err)
{
	struct env *env = env_posix();
	agent->place.env = env;
	int rc = env_root_open(env, path, &agent->place.state);
	if (rc)
		return err_directory(err, rc, "state", path);
	rc = env_open(agent->place.state, "lock", ENV_CREATE_OPEN, &agent->lock_file);
	if (rc == 0)
		rc = env_lock(agent->lock_file);
	if (rc == -EBUSY)
		return err_set(err, rc, "another kagami-replicator runs on %s: stop it; or one that was stopped or killed waits for a disk, and ends when that answers: try again then", path);
	if (rc)
		return err_directory(err, rc, "state", path);
	rc = identity_load(agent->place.state, AGENT_KEY_FILE, &agent->identity, err);
	if (rc)
		rc = err_wrap(err, "state directory %.250s", path);
	agent->place.identity = agent->identity;
	return rc;
}

struct seat *agent_find(struct agent *agent, const char *name)
{
	for (size_t i = 0; i < agent->seats; i++)
		if (strcmp(agent->seat[i]->config.name, name) == 0)
			return agent->seat[i];
	return NULL;
}

struct seat *agent_add(struct agent *agent, const struct protection_config *config)
{
	struct seat *seat = agent->seats < PROTECTIONS_MAX ? calloc(1, sizeof(*seat)) : NULL;
	if (!seat)
		return NULL;
	seat->config = *config;
	size_t at = agent->seats++;
	for (; at > 0 && strcmp(agent->seat[at - 1]->config.name, config->name) > 0; at--)
		agent->seat[at] = agent->seat[at - 1];
	agent->seat[at] = seat;
	return seat;
}

static void seat_remove(struct agent *agent, struct seat *seat)
{
	size_t at = 0;
	while (agent->seat[at] != seat)
		at++;
	memmove(&agent->seat[at], &agent->seat[at + 1], (agent->seats - at - 1) * sizeof(agent->seat[0]));
	agent->seats--;
	free(seat);
}

static int start_all(struct agent *agent, const struct agent_config *config, struct err *err)
{
	int rc = env_mkdir(agent->place.state, "protections");
	if (rc && rc != -EEXIST)
		return err_sys(err, rc, "make the directory for protections");
	char **names = NULL;
	size_t count = 0;
	rc = env_list(agent->place.state, "protections", &names, &count);
	if (rc)
		return err_sys(err, rc, "list the protections");
	for (size_t i = 0; i < count; i++) {
		char path[NAME_SIZE + 64];
		struct env_stat st;
		(void)snprintf(path, sizeof(path), "protections/%s/protection.json", names[i]);
		rc = env_stat(agent->place.state, path, &st);
		if (rc == -ENOENT || rc == -ENOTDIR) // cut off while it was made or removed: it was never there
			log_info("leftover of an unfinished protect or unprotect protection=%s", names[i]);
		else // one that cannot be looked at cannot be read either, and is listed with why
			agent_start_one(agent, names[i]);
	}
	env_list_free(names, count);
	agent_wait_started(agent, config->start_wait_s);
	return 0;
}

// One crew for all protections: as many threads as there are processors for us, however many protections ship at once.
static int hire_crew(struct agent *agent, const struct agent_config *config, struct err *err)
{
	const struct crew_config crew = {
		.threads = config->threads, .turn = priority_crew, .kit_new = pack_kit_new, .kit_free = pack_kit_free};
	int rc = crew_new(&crew, &agent->crew);
	agent->place.crew = agent->crew;
	agent->place.known_bytes = config->known_bytes;
	return rc ? err_sys(err, rc, "start %u threads that compress", config->threads) : 0;
}

// What was set while it ran comes before what it was started with.
static void settings_use(struct agent *agent)
{
	const struct agent_settings *settings = &agent->settings;
	desk_slots(agent->desk, settings->cycles ? (unsigned)settings->cycles : agent->cycles,
		   settings->syncs ? (unsigned)settings->syncs : agent->syncs);
	limiter_set(agent->limiter, &settings->bandwidth);
}

static int open_desk(struct agent *agent, const struct agent_config *config, struct err *err)
{
	agent->cycles = config->cycles;
	agent->syncs = config->syncs;
	int rc = desk_new(config->cycles, config->syncs, &agent->desk);
	if (rc == 0)
		rc = limiter_new(&agent->limiter);
	if (rc)
		return err_sys(err, rc, "start");
	agent->place.desk = agent->desk;
	agent->place.limiter = agent->limiter;
	rc = agent_settings_load(agent->place.state, &agent->settings, err);
	if (rc)
		return err_wrap(err, "state directory %.250s", agent->state_dir);
	settings_use(agent);
	return 0;
}

static void say_settings(const struct agent_settings *was, const struct agent_settings *is)
{
	char what[SETTINGS_CHANGE_SIZE];
	json_t *data = agent_settings_change(was, is, what);
	if (data)
		event_emit(EVENT_INFO, "settings", NULL, data, "the settings of all protections together were changed: %s", what);
}

int agent_set(struct agent *agent, const struct agent_settings *settings, struct err *err)
{
	int rc = agent_settings_save(agent->place.state, settings, err);
	if (rc)
		return rc;
	say_settings(&agent->settings, settings);
	LOCK_SCOPE(&agent->lock);
	agent->settings = *settings;
	settings_use(agent);
	log_info("the agent's settings changed");
	return 0;
}

static int begin_lease(struct agent *agent, struct err *err)
{
	int rc = lease_keeper_start(agent->place.state, &agent->lease, err);
	if (rc == 0)
		agent->place.lease = lease_keeper_lease(agent->lease);
	return rc;
}

static int begin_events(struct agent *agent, struct err *err)
{
	int rc = events_open(agent->place.env, agent->place.state, &agent->events, err);
	if (rc == 0) {
		events_set_default(agent->events);
		event_emit(EVENT_INFO, "daemon", NULL, NULL, "kagami-replicator " KAGAMI_VERSION " has started");
	}
	return rc;
}

static void end_events(struct agent *agent)
{
	if (!agent->events)
		return;
	events_set_default(NULL);
	events_close(agent->events);
}

static void look_who_may(const struct agent *agent)
{
	char key[PATH_MAX];
	(void)private_directory("state", agent->state_dir);
	(void)snprintf(key, sizeof(key), "%s/" AGENT_KEY_FILE, agent->state_dir);
	(void)private_file("the key", key, false);
}

enum { TICK_S = 5 };

static void set_saving(struct agent *agent, struct protection *protection)
{
	LOCK_SCOPE(&agent->saving_lock);
	agent->saving = protection;
	(void)pthread_cond_broadcast(&agent->saved);
}

// The state directory may not answer: whoever asks for the status does not wait for it. Called with the lock held, which is let go meanwhile.
static void save_unlocked(struct agent *agent, struct protection *protection)
{
	set_saving(agent, protection);
	(void)pthread_mutex_unlock(&agent->lock);
	protection_save(protection);
	set_saving(agent, NULL);
	(void)pthread_mutex_lock(&agent->lock);
}

// Of one that is not `running` in its seat any more: then the ticker does not begin again.
static void wait_saved(struct agent *agent, const struct protection *protection)
{
	LOCK_SCOPE(&agent->saving_lock);
	while (agent->saving == protection)
		(void)pthread_cond_wait(&agent->saved, &agent->saving_lock);
}

// Each protection's record of ages goes on, whatever its own thread waits for; and those that could not start are tried again.
static void *run_ticker(void *context)
{
	struct agent *agent = context;
	LOCK_SCOPE(&agent->lock);
	while (!agent->over) {
		for (size_t i = 0; i < agent->seats; i++)
			if (agent->seat[i]->running && protection_tick(agent->seat[i]->running))
				save_unlocked(agent, agent->seat[i]->running); // the seats may be others then: the next round has them all
		if (agent->over)
			break;
		uint64_t now_ns = clock_mono_ns(), again_ns = agent_restart_due(agent, now_ns);
		const struct timespec until = clock_mono_after(min_u64(TICK_S * UINT64_C(1000000000), again_ns - now_ns));
		(void)pthread_cond_timedwait(&agent->ended, &agent->lock, &until);
	}
	return NULL;
}

static int start_ticker(struct agent *agent, struct err *err)
{
	int rc = -pthread_create(&agent->ticker, NULL, run_ticker, agent);
	agent->ticks = rc == 0;
	return rc ? err_sys(err, rc, "start a thread") : 0;
}

static void join_ticker(struct agent *agent)
{
	if (!agent->ticks)
		return;
	(void)pthread_join(agent->ticker, NULL);
	agent->ticks = false;
}

int agent_open(const struct agent_config *config, struct agent **ret_agent, struct err *err)
{
	const char *state_path = config->state_path, *run_dir = config->run_dir;
	struct agent *agent = calloc(1, sizeof(*agent));
	if (!agent)
		return err_sys(err, -ENOMEM, "start");
	(void)pthread_mutex_init(&agent->lock, NULL);
	goodbyes_init(&agent->goodbyes);
	thread_condition_init(&agent->ended);
	thread_condition_init(&agent->started);
	(void)pthread_mutex_init(&agent->saving_lock, NULL);
	(void)pthread_mutex_init(&agent->settings_lock, NULL);
	(void)pthread_cond_init(&agent->saved, NULL);
	agent->place.accounts = true;
	agent->place.roll = config->roll;
	agent->place.audit_turn_ns = &agent->audit_turn_ns;
	host_name(agent->host);
	char nbd[4096];
	(void)snprintf(nbd, sizeof(nbd), "%s/nbd", run_dir);
	agent->ender = calloc(PROTECTIONS_MAX, sizeof(*agent->ender));
	agent->run_dir = strdup(run_dir);
	agent->state_dir = strdup(state_path);
	agent->place.run_dir = agent->run_dir;
	agent->place.boot = rest_boot();
	agent->place.state_dir = agent->state_dir;
	int rc = agent->run_dir && agent->state_dir && agent->ender ? make_dir(run_dir, err) : err_sys(err, -ENOMEM, "start");
	if (rc == 0)
		rc = make_dir(nbd, err);
	if (rc == 0)
		rc = take_state(agent, state_path, err);
	if (rc == 0)
		rc = begin_events(agent, err);
	if (rc == 0)
		look_who_may(agent);
	if (rc == 0)
		rc = begin_lease(agent, err);
	if (rc == 0)
		rc = hire_crew(agent, config, err);
	if (rc == 0)
		rc = open_desk(agent, config, err);
	if (rc == 0)
		rc = start_all(agent, config, err);
	if (rc == 0)
		rc = start_ticker(agent, err);
	if (rc == 0)
		rc = agent_lookout_start(agent, err);
	*ret_agent = agent;
	return rc;
}

// ---- the end of one, and of all

void agent_end_begin(struct seat *seat, struct protection *running, const char *why)
{
	seat->ends = (struct seat_end){.why = why, .protection = running, .since_ms = clock_mono_ms()};
	if (running)
		seat->point = protection_point(running);
	seat->running = NULL;
	(void)snprintf(seat->reason, sizeof(seat->reason), "%s%s", why, running ? ", and its disks are served to the end of what they were asked for" : "");
}

static void set_step(struct agent *agent, struct seat *seat, bool asks_state, const char *what)
{
	LOCK_SCOPE(&agent->lock);
	seat->ends.state_since_ms = asks_state ? clock_mono_ms() : 0;
	(void)snprintf(seat->reason, sizeof(seat->reason), "%s, and %s", seat->ends.why, what);
}

bool agent_end(struct agent *agent, struct seat *seat, struct protection *running, bool forgotten)
{
	bool saved = protection_end(running, forgotten);
	wait_saved(agent, running);
	{
		LOCK_SCOPE(&agent->lock);
		seat->ends.protection = NULL;
	}
	set_step(agent, seat, false, "what is recorded of it goes to the state directory");
	protection_close(running);
	if (forgotten) // its state is still to be removed
		return saved;
	set_step(agent, seat, false, "it has ended");
	LOCK_SCOPE(&agent->lock);
	seat->ends.done = true;
	return saved;
}

static void *run_ender(void *context)
{
	struct ender *ender = context;
	ender->saved = agent_end(ender->agent, ender->seat, ender->protection, false);
	return NULL;
}

// All that run. From here on they answer no request, and the ticker ends: what waits for something else does not hold this up.
static size_t take_running(struct agent *agent, struct ender *ender)
{
	size_t count = 0;
	LOCK_SCOPE(&agent->lock);
	agent->over = true;
	(void)pthread_cond_signal(&agent->ended);
	for (size_t i = 0; i < agent->seats; i++) {
		struct seat *seat = agent->seat[i];
		if (!seat->running)
			continue;
		ender[count++] = (struct ender){.agent = agent, .seat = seat, .protection = seat->running};
		seat->leaving = true; // also nobody unprotects it meanwhile
		agent_end_begin(seat, seat->running, "the replicator stops");
	}
	return count;
}

bool agent_stop(struct agent *agent)
{
	bool saved = true;
	{
		LOCK_SCOPE(&agent->lock);
		for (size_t i = 0; i < agent->seats; i++)
			if (agent->seat[i]->running)
				protection_stop_begin(agent->seat[i]->running);
	}
	struct agent_sites sites; // of what runs now
	agent_sites_take(agent, &sites);
	size_t count = take_running(agent, agent->ender);
	for (size_t i = 0; i < count; i++) // a disk that hangs denies nobody else's state file its clean stop
		agent->ender[i].runs = pthread_create(&agent->ender[i].thread, NULL, run_ender, &agent->ender[i]) == 0;
	for (size_t i = 0; i < count; i++) {
		if (agent->ender[i].runs)
			(void)pthread_join(agent->ender[i].thread, NULL);
		else
			(void)run_ender(&agent->ender[i]);
		saved &= agent->ender[i].saved;
	}
	join_ticker(agent); // the state directory may hang in it: no disk waits for that
	saved &= agent_keep(agent, &sites); // no disk waits for it
	agent_sites_done(&sites);
	LOCK_SCOPE(&agent->lock); // those that are being started are stopped by who does it, after all that could be stopped
	while (agent->starting)
		(void)pthread_cond_wait(&agent->started, &agent->lock);
	return saved && !agent->unsaved;
}

void agent_close(struct agent *agent)
{
	if (!agent)
		return;
	(void)agent_stop(agent);
	agent_lookout_stop(agent);
	lease_keeper_stop(agent->lease); // after the last write of ours, which it covers if it was renewed of late
	for (size_t i = 0; i < agent->seats; i++)
		free(agent->seat[i]);
	desk_free(agent->desk);
	limiter_free(agent->limiter);
	crew_free(agent->crew);
	end_events(agent);
	identity_free(agent->identity);
	env_close(agent->lock_file);
	env_root_close(agent->place.state);
	(void)pthread_cond_destroy(&agent->saved);
	(void)pthread_cond_destroy(&agent->started);
	(void)pthread_mutex_destroy(&agent->settings_lock);
	(void)pthread_mutex_destroy(&agent->saving_lock);
	(void)pthread_cond_destroy(&agent->ended);
	(void)pthread_mutex_destroy(&agent->lock);
	goodbyes_done(&agent->goodbyes);
	free(agent->run_dir);
	free(agent->state_dir);
	free(agent->ender);
	free(agent);
}

static int config_fill(struct agent *agent, struct protection_config *config, struct err *err)
{
	int rc = uuid_new(agent->place.env, &config->uuid);
	if (rc == 0)
		rc = uuid_new(agent->place.env, &config->generation);
	if (rc == 0)
		rc = env_random(agent->place.env, config->digest.secret, DIGEST_SECRET_SIZE);
	return rc ? err_sys(err, rc, "draw random numbers") : 0;
}

// Started before it is durable: a protection that cannot start, for its image is in use or missing, was never made. Its receiver hears of it when it is (protection_known()). Without the lock.
static int protect(struct agent *agent, struct seat *seat, const struct protection_config *config, const char *dir, struct protection **ret_running,
		   struct err *err)
{
	int rc = env_remove_tree(agent->place.state, dir); // what a crash left: agent_find() knew no such protection
	if (rc == 0)
		rc = env_mkdir(agent->place.state, dir);
	if (rc == 0)
		rc = env_sync_dir(agent->place.state, "protections");
	if (rc)
		return err_sys(err, rc, "make the state directory of %s", config->name);
	struct protection *running = NULL;
	rc = agent_seat_start(agent, seat, config, true, &running, err);
	if (rc == 0)
		rc = protection_config_save(agent->place.state, config, err);
	if (rc == 0) {
		*ret_running = running;
		return 0;
	}
	if (running)
		(void)protection_stop(running);
	(void)env_remove_tree(agent->place.state, dir);
	return rc;
}

static int protect_new(struct agent *agent, struct seat *seat, struct protection_config *config, struct protection **ret_running, struct err *err)
{
	char dir[NAME_SIZE + 16], path[NAME_SIZE + 64];
	struct env_stat st;
	protection_dir(config->name, dir);
	(void)snprintf(path, sizeof(path), "%s/protection.json", dir);
	if (env_stat(agent->place.state, path, &st) != -ENOENT)
		return err_set(err, -EEXIST, "%s holds the state of a protection \"%s\": restart the replicator to see it", dir,
			       config->name);
	return protect(agent, seat, config, dir, ret_running, err);
}

// A hard link, or another node of a device, is no other image.
static int check_not_ours(struct agent *agent, const struct protection_config *config, uint16_t disk, struct err *err)
{
	const char *path = config->disk[disk].path;
	struct stat st;
	if (stat(path, &st) < 0)
		return 0; // who opens it says so
	const struct image_file file = image_file_of(&st);
	LOCK_SCOPE(&agent->lock);
	for (size_t i = 0; i < agent->seats; i++) {
		const struct protection *running = agent->seat[i]->running;
		const char *name = running ? protection_disk_of(running, &file) : NULL;
		if (name)
			return err_set(err, -EBUSY, "image %s is disk %s of %s already: give each disk an image of its own, or `kagami unprotect %s` first", path, name,
				       protection_name(running), protection_name(running));
	}
	return 0;
}

static int check_images(struct agent *agent, struct seat *seat, const struct protection_config *config, bool raw, struct err *err)
{
	int rc = 0;
	for (uint16_t d = 0; d < config->disk_count && rc == 0; d++) {
		atomic_store(&seat->opening, d + 1u); // should it not answer
		rc = protect_check(config, agent->state_dir, d, raw, err);
		if (rc == 0)
			rc = check_not_ours(agent, config, d, err);
	}
	atomic_store(&seat->opening, 0);
	return rc;
}

enum { ASKED_MS = 5000 };

// Whoever asked for it may wait no longer.
static void say_not_protected(const struct seat *seat, const struct err *err)
{
	if (clock_mono_ms() - seat->starting_since_ms < ASKED_MS)
		return;
	log_warning("not protected protection=%s: %s", seat->config.name, err->text);
	event_emit(EVENT_WARNING, "settings", seat->config.name, NULL, "%s is not protected, as was asked for: %s", seat->config.name, err->text);
}

int agent_protect(struct agent *agent, struct protection_config *config, bool raw, struct seat **ret_seat, struct err *err)
{
	struct protection *running = NULL;
	int rc = config_fill(agent, config, err);
	if (rc)
		return rc;
	struct seat *seat = agent_add(agent, config);
	if (!seat)
		return err_set(err, -ENOSPC, "no room for another protection (at most %d)", PROTECTIONS_MAX);
	rc = agent_start_begin(agent, seat, err);
	if (rc == 0) {
		rc = check_images(agent, seat, config, raw, err);
		if (rc == 0)
			rc = protect_new(agent, seat, config, &running, err);
		bool durable = rc == 0;
		rc = agent_start_end(agent, seat, running, rc, NULL, err);
		if (rc && durable)
			rc = err_set(err, rc, "the replicator stops; %s is protected all the same, and its disks are served from the next start on", config->name);
	}
	if (rc) {
		if (seat->starting_since_ms)
			say_not_protected(seat, err);
		seat_remove(agent, seat);
		return rc;
	}
	event_emit(EVENT_INFO, "settings", config->name, json_pack("{s:I}", "rpo_ms", (json_int_t)config->rpo_ms), "%s is protected from now on", config->name);
	*ret_seat = seat;
	return 0;
}

// Its disks may not answer, nor the state directory: whoever asks for anything else does not wait for them. Without the lock; the seat stays, for it leaves.
static int stop_and_remove(struct agent *agent, struct seat *seat, struct protection *running, const char *name, struct err *err)
{
	bool saved = true;
	if (running) {
		set_step(agent, seat, false, "its disks are served to the end of what they were asked for");
		saved = agent_end(agent, seat, running, true); // what it could not save is removed
	}
	set_step(agent, seat, true, "its state is removed");
	int rc = protection_remove(agent->place.state, name, err);
	if (rc && !saved) {
		tracking_disown(&agent->place, &seat->config);
		log_error("the state of a protection was neither saved nor removed: should a start find it, that compares what its state files mark, or all of its disks protection=%s: %s", name, err->text);
	}
	struct err left;
	if (rc == 0 && failed_note_remove_all(agent->run_dir, name, &left)) // another protection of that name is another one in them, too
		log_warning("notes of disks that failed are left protection=%s: %s", name, left.text);
	return rc;
}

// Who is to hear of it: as the protection that runs has it in memory, else as the state directory does.
static int site_of(struct agent *agent, struct seat *seat, struct protection *running, struct site *ret_site, struct err *err)
{
	if (running && doubt_site(running, ret_site))
		return 0;
	if (uuid_is_zero(&seat->config.uuid))
		return err_set(err, -ENODATA, "its configuration could not be read, so that nobody knows which receiver it had");
	return site_load(agent->place.state, seat->config.site, ret_site, err);
}

// Without the lock. What the receiver does not hear is no failure of the unprotect.
static void say_goodbye(struct agent *agent, struct seat *seat, const struct site *site, struct parting *parting)
{
	struct err err = {0};
	struct wire_goodbye what = {.protection = seat->config.uuid, .generation = seat->config.generation};
	memcpy(what.name, seat->config.name, NAME_SIZE);
	set_step(agent, seat, false, "its receiver is told");
	int rc = goodbyes_say(&agent->goodbyes, agent->place.env, agent->identity, site, &what, &err);
	parting->told = rc == 0;
	(void)snprintf(parting->untold, sizeof(parting->untold), "%s", rc ? err.text : "");
}

static void tell_unprotected(const char *name, const struct parting *parting)
{
	log_info("unprotected protection=%s", name);
	event_emit(EVENT_INFO, "settings", name, NULL, "%s is not protected any more", name);
	if (parting->told)
		return;
	log_warning("the receiver was not told of the unprotect protection=%s: %s", name, parting->untold);
	event_emit(EVENT_WARNING, "settings", name, NULL, "the receiver was not told that %s was unprotected, and will call its source down until `kagami forget %s` there: %s",
		   name, name, parting->untold);
}

int agent_unprotect(struct agent *agent, struct seat *seat, struct parting *ret_parting, struct err *err)
{
	char name[NAME_SIZE];
	struct parting parting = {.told = false};
	struct site site;
	struct err why = {0};
	memcpy(name, seat->config.name, NAME_SIZE);
	struct protection *running = seat->running;
	int rc = running ? protection_end_check(running, err) : 0;
	if (rc)
		return rc;
	agent_end_begin(seat, running, "it is being unprotected");
	seat->ends.state_since_ms = seat->ends.since_ms; // who is to hear of it is asked for first
	seat->leaving = true;
	restart_end(&seat->restart);
	(void)pthread_mutex_unlock(&agent->lock);
	bool known = site_of(agent, seat, running, &site, &why) == 0;
	rc = stop_and_remove(agent, seat, running, name, err);
	if (rc == 0 && known) // only now it is over
		say_goodbye(agent, seat, &site, &parting);
	else if (rc == 0)
		(void)snprintf(parting.untold, sizeof(parting.untold), "%s", why.text);
	(void)pthread_mutex_lock(&agent->lock);
	seat->leaving = false;
	seat->ends = (struct seat_end){.since_ms = 0};
	if (rc == 0) {
		seat_remove(agent, seat);
		tell_unprotected(name, &parting);
		*ret_parting = parting;
	} else {
		(void)snprintf(seat->reason, sizeof(seat->reason), "%s", err->text);
	}
	return rc;
}
