// SPDX-License-Identifier: Apache-2.0
// What the replicator's control socket answers: docs/control.md.
#include "replicator/agent_private.h"

#include "base/auto.h"
#include "base/clock.h"
#include "link/events.h"
#include "link/daemon.h"
#include "link/health.h"
#include "link/json.h"
#include "link/token.h"
#include "replicator/desk.h"
#include "replicator/limiter.h"
#include "replicator/metrics.h"
#include "replicator/site.h"
#include "replicator/sync_log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPENS_MS = 5000 }; // an image that hangs is told from one that is slow

// What keeps it, as far as is known: an image, or the state directory.
static json_t *starting_reason(const struct seat *seat, int64_t starting_ms)
{
	unsigned opening = atomic_load(&seat->opening);
	if (opening == 0 || opening > seat->config.disk_count)
		return json_string("it is being started: its disks are opened, and its state is read");
	const char *path = seat->config.disk[opening - 1].path, *name = seat->config.disk[opening - 1].name;
	char text[ERR_TEXT_MAX];
	if (starting_ms < OPENS_MS)
		(void)snprintf(text, sizeof(text), "it is being started: the image %.350s of disk %s is opened and looked at", path, name);
	else
		(void)snprintf(text, sizeof(text), "the image %.350s of disk %s does not answer: see to the storage under it", path, name);
	return json_text(text);
}

// The newest point of one that does not run, as far as the state files told.
static void set_point(const struct seat *seat, json_t *json)
{
	int64_t age_ns = clock_wall_ns() - seat->point.cut_wall_ns;
	uint64_t age_ms = age_ns > 0 ? (uint64_t)age_ns / 1000000 : 0;
	bool aged = seat->point.point && seat->point.cut_wall_ns;
	(void)json_object_set_new(json, "point", seat->point.point ? json_count(seat->point.point) : json_null());
	(void)json_object_set_new(json, "point_known", json_boolean(seat->point.known));
	(void)json_object_set_new(json, "age_ms", aged ? json_count(age_ms) : json_null());
	(void)json_object_set_new(json, "rpo_violated", json_boolean(!aged || age_ms > seat->config.rpo_ms));
}

// Null where none is made by itself, or one is under way.
static json_t *retry_json(const struct seat *seat)
{
	uint64_t due_ns = restart_due_ns(&seat->restart), now_ns = clock_mono_ns();
	return seat->starting || due_ns == UINT64_MAX ? json_null() : json_count((due_ns - min_u64(now_ns, due_ns)) / 1000000);
}

// Of one that nothing runs of.
static json_t *resting_json(const struct seat *seat)
{
	int64_t starting_ms = seat->starting ? clock_mono_ms() - seat->starting_since_ms : 0;
	bool starting = seat->starting && !(seat->trying && starting_ms < OPENS_MS); // a try that fails at once is no other state
	const struct protection_config *config = &seat->config; // zeros where it could not be read
	char uuid[UUID_TEXT_SIZE];
	uuid_format(&config->uuid, uuid);
	json_t *disks = json_array();
	for (unsigned i = 0; i < config->disk_count; i++)
		(void)json_array_append_new(disks, json_pack("{s:s, s:o}", "name", config->disk[i].name, "path",
							     json_text(config->disk[i].path)));
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:s, s:o, s:b, s:n, s:n, s:n, s:n, s:i, s:{s:i, s:i}, s:s, s:o}",
			 "name", config->name, "uuid", uuid, "site", config->site, "codec", protection_codec_name(config), "digest",
			 digest_kind_name(config->digest.kind), "rpo_ms",
			 json_count(config->rpo_ms), "points_keep", (int)config->points_keep, "state", starting ? "starting" : "failed", "reason",
			 starting ? starting_reason(seat, starting_ms) : json_text(seat->reason), "connected", 0, "sync_reason", "progress",
			 "next_cut_in_ms", "last_cycle", "dirty_bytes", 0, "cycles", "started", 0, "committed", 0, "last_error", "",
			 "disks", disks);
	(void)json_object_set_new(json, "starting_ms", starting ? json_integer(starting_ms) : json_null());
	(void)json_object_set_new(json, "ending_ms", json_null());
	(void)json_object_set_new(json, "retry_in_ms", retry_json(seat));
	(void)json_object_set_new(json, "connect_failures", json_integer(0));
	(void)json_object_set_new(json, "stuck", json_false());
	set_point(seat, json);
	health_tell(json, false);
	return json;
}

// The state directory, where nothing of the protection asks it any more, or not yet.
static int state_hangs(const struct agent *agent, const struct seat *seat, char text[ERR_TEXT_MAX])
{
	int64_t ms = seat->ends.state_since_ms ? clock_mono_ms() - seat->ends.state_since_ms : 0;
	protection_state_silent_text(agent->state_dir, (uint64_t)ms * 1000000, text);
	return *text ? PROTECTION_HANGS_STATE : PROTECTION_HANGS_NOT;
}

// What keeps it where something does not answer, else what is being done. No objective binds it.
static void set_ending(const struct agent *agent, const struct seat *seat, json_t *json)
{
	char hung[ERR_TEXT_MAX] = "", disk[NAME_SIZE + 8] = "", reason[2 * ERR_TEXT_MAX];
	int which = seat->ends.protection ? protection_hangs(seat->ends.protection, hung) : PROTECTION_HANGS_NOT;
	if (which == PROTECTION_HANGS_NOT)
		which = state_hangs(agent, seat, hung);
	if (which >= 0) {
		(void)snprintf(disk, sizeof(disk), "disk %s: ", seat->config.disk[which].name);
		(void)json_object_set_new(json_array_get(json_object_get(json, "disks"), (size_t)which), "silent", json_text(hung));
	}
	(void)snprintf(reason, sizeof(reason), "%s: %s%s", seat->ends.why, disk, hung);
	(void)json_object_set_new(json, "state_silent", json_text(which == PROTECTION_HANGS_STATE ? hung : ""));
	(void)json_object_set_new(json, "state", json_string("ending"));
	(void)json_object_set_new(json, "ending_ms", json_integer(seat->ends.done ? 0 : clock_mono_ms() - seat->ends.since_ms));
	(void)json_object_set_new(json, "reason", json_text(*hung ? reason : seat->reason));
	(void)json_object_set_new(json, "retry_in_ms", json_null());
	(void)json_object_set_new(json, "rpo_violated", json_false());
	health_tell(json, false);
}

static json_t *seat_json(const struct agent *agent, const struct seat *seat)
{
	if (seat->running)
		return protection_json(seat->running);
	json_t *json = resting_json(seat);
	if (json && seat->ends.since_ms)
		set_ending(agent, seat, json);
	return json;
}

static json_t *site_json(const struct site *site)
{
	char pin[PIN_TEXT_SIZE];
	pin_format(&site->pin, pin);
	return json_pack("{s:s, s:s, s:s}", "name", site->name, "address", site->address, "fingerprint", pin);
}

// What is asked of one seat, with the agent's lock held: 0 with the answer's body, or a negative errno with its reason.
static int no_seat(const char *name, struct err *err)
{
	return err_set(err, -ENOENT, "there is no protection \"%s\" here: `kagami status` lists them", name);
}

static int seat_runs(const struct seat *seat, struct err *err)
{
	return seat->running ? 0 : err_set(err, -EBUSY, "%s does not run: %s", seat->config.name, seat->reason);
}

static int seat_show(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	(void)body, (void)err;
	*ret_body = seat_json(agent, seat);
	return 0;
}

// Its state directory may not answer: whoever asks for anything else does not wait for it. With the lock held, which is let go until the second, after which
// the seat is the one that has this name, or NULL.
static struct protection *seat_unlock(struct agent *agent, struct seat *seat)
{
	struct protection *running = seat->running;
	protection_use(running);
	(void)pthread_mutex_unlock(&agent->lock);
	return running;
}

static struct seat *seat_lock(struct agent *agent, const char *name, struct protection *running)
{
	(void)pthread_mutex_lock(&agent->lock);
	struct seat *seat = agent_find(agent, name);
	if (seat && seat->running != running)
		seat = NULL;
	protection_unuse(running);
	return seat;
}

static int seat_left(struct err *err)
{
	return err_set(err, -ESHUTDOWN, "the protection ended meanwhile");
}

static unsigned of_seat(struct agent *agent, const struct control_request *request, json_t **ret_body,
			int (*handle)(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err))
{
	struct err err = {0};
	LOCK_SCOPE(&agent->lock);
	struct seat *seat = handle == seat_show ? agent_find(agent, request->arg[0]) : agent_find_settled(agent, request->arg[0]);
	if (!seat)
		(void)no_seat(request->arg[0], &err);
	bool leaves = seat && seat->leaving && handle != seat_show;
	if (leaves)
		(void)seat_runs(seat, &err);
	if (!seat || leaves || handle(agent, seat, request->body, ret_body, &err))
		return control_fail(ret_body, err.code, err.text);
	return 200;
}

static unsigned get_sites(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)request;
	struct agent *agent = context;
	char **names = NULL;
	size_t count = 0;
	int rc = site_list(agent->place.state, &names, &count);
	if (rc)
		return control_fail(ret_body, rc, "the sites cannot be listed");
	json_t *sites = json_array();
	for (size_t i = 0; i < count; i++) {
		struct site site;
		if (site_load(agent->place.state, names[i], &site, NULL) == 0)
			(void)json_array_append_new(sites, site_json(&site));
	}
	env_list_free(names, count);
	*ret_body = json_pack("{s:o}", "sites", sites);
	return 200;
}

struct site_request {
	const char *name, *token, *address; // address: NULL when it is the token's
	bool replace;
};

enum { SITE_USERS_SIZE = 96, SITE_USERS_MORE = 32 };

// "vm1, vm2 and 3 more"; "" when no protection uses the site.
static void site_users(struct agent *agent, const char *site, char *text, size_t cap)
{
	LOCK_SCOPE(&agent->lock);
	size_t used = 0, more = 0;
	text[0] = 0;
	for (size_t i = 0; i < agent->seats; i++) {
		const struct protection_config *config = &agent->seat[i]->config;
		if (strcmp(config->site, site) != 0)
			continue;
		if (used + strlen(config->name) + 3 < cap)
			used += (size_t)snprintf(text + used, cap - used, "%s%s", used ? ", " : "", config->name);
		else
			more++;
	}
	if (more)
		(void)snprintf(text + used, SITE_USERS_MORE, " and %zu more", more);
}

// A name that is another receiver's is not given away unasked: what goes there would go to the new one from then on, all of it, and the old replicas stay behind.
static int site_may_be(struct agent *agent, const char *name, const struct pin *receiver, bool replace, struct err *err)
{
	struct site there;
	char users[SITE_USERS_SIZE + SITE_USERS_MORE];
	int rc = site_free_for(agent->place.state, name, receiver, &there, err);
	if (rc != -EEXIST)
		return rc;
	if (replace)
		return 0;
	site_users(agent, name, users, SITE_USERS_SIZE);
	return err_set(err, rc, "the site %s is another receiver, at %s, %s%s: choose another name for this one; or, if that one is lost or has new keys, add --replace%s", name, there.address,
		       users[0] ? "which is used by " : "which no protection uses", users, users[0] ? ": all is copied to the new one then, and what the old one has stays there" : "");
}

static int site_make(struct agent *agent, const struct site_request *request, struct site *ret_site, struct err *err)
{
	struct token token;
	int rc = token_read(request->token, &token, err);
	if (rc == 0) // before the token is used up
		rc = site_may_be(agent, request->name, &token.receiver, request->replace, err);
	if (rc == 0)
		rc = site_pair(agent->identity, agent->host, request->name, request->token, request->address, ret_site, err);
	if (rc)
		return rc;
	LOCK_SCOPE(&agent->settings_lock); // one at a time: the file that is made has one name
	rc = site_may_be(agent, request->name, &ret_site->pin, request->replace, err);
	return rc ? rc : site_save(agent->place.state, ret_site, err);
}

static unsigned post_sites(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	struct err err = {0};
	struct site site;
	struct site_request wanted = {.name = NULL};
	const struct control_member members[] = {
		{"name", true, .text = &wanted.name, .is_name = true},
		{"token", true, .text = &wanted.token, .least = 1},
		{"address", .text = &wanted.address, .least = 1},
		{"replace", .flag = &wanted.replace},
	};
	int rc = control_read(request->body, members, COUNT(members), &err);
	if (rc == 0)
		rc = site_make(agent, &wanted, &site, &err);
	if (rc)
		return control_fail(ret_body, err.code, err.text);
	LOCK_SCOPE(&agent->lock);
	for (size_t i = 0; i < agent->seats; i++)
		if (agent->seat[i]->running && strcmp(agent->seat[i]->config.site, site.name) == 0)
			protection_site_changed(agent->seat[i]->running, &site);
	*ret_body = site_json(&site);
	return 201;
}

static json_t *seats_json(struct agent *agent)
{
	LOCK_SCOPE(&agent->lock);
	json_t *list = json_array();
	for (size_t i = 0; i < agent->seats; i++)
		(void)json_array_append_new(list, seat_json(agent, agent->seat[i]));
	return list;
}

static json_t *settings_json(struct agent *agent);

static unsigned get_metrics(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	json_t *list = seats_json(agent), *settings;
	{
		LOCK_SCOPE(&agent->lock);
		settings = settings_json(agent);
	}
	unsigned status = replicator_metrics(list, settings, request, ret_body);
	json_decref(list);
	json_decref(settings);
	return status;
}

static unsigned get_protections(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)request;
	json_t *list = seats_json(context);
	*ret_body = json_pack("{s:o}", "protections", list);
	return 200;
}

static int read_disks(json_t *disks, struct protection_config *config, struct err *err)
{
	for (size_t i = 0; i < json_array_size(disks); i++) {
		const char *name = NULL, *path = NULL;
		const struct control_member members[] = {
			{"name", true, .text = &name, .is_name = true},
			{"path", true, .text = &path, .least = 1, .most = PATH_MAX - 1},
			{"read_only", .flag = &config->disk[i].read_only},
		};
		int rc = control_read(json_array_get(disks, i), members, COUNT(members), err);
		if (rc)
			return err_wrap(err, "disk %zu", i + 1);
		if (path[0] != '/')
			return err_set(err, -EINVAL, "disk %s: \"%s\" is not an absolute path", name, path);
		for (size_t j = 0; j < i; j++)
			if (strcmp(config->disk[j].name, name) == 0)
				return err_set(err, -EINVAL, "two disks are named \"%s\"", name);
		(void)snprintf(config->disk[i].name, NAME_SIZE, "%s", name);
		(void)snprintf(config->disk[i].path, PATH_MAX, "%s", path);
	}
	config->disk_count = (uint16_t)json_array_size(disks);
	return 0;
}

static int read_protect(const json_t *body, struct protection_config *config, bool *ret_raw, struct err *err)
{
	const char *name = NULL, *site = NULL, *codec = "zstd", *digest = "xxh3";
	uint64_t points = POINTS_KEEP_DEFAULT;
	bool seed = false;
	json_t *disks = NULL;
	struct settings_text text = {.priority = NULL};
	config->settings.objective_ppm = OBJECTIVE_PPM_DEFAULT;
	const struct control_member members[] = {
		{"name", true, .text = &name, .is_name = true},
		{"site", true, .text = &site, .is_name = true},
		{"rpo_ms", true, .number = &config->rpo_ms, .least = RPO_MS_MIN, .most = RPO_MS_MAX},
		{"disks", true, .array = &disks, .least = 1, .most = DISKS_MAX},
		{"points", .number = &points, .least = 1, .most = POINTS_KEEP_MAX},
		{"codec", .text = &codec},
		{"digest", .text = &digest},
		{"seed", .flag = &seed},
		{"force", .flag = ret_raw},
		{"priority", .text = &text.priority},
		{"objective_ppm", .number = &config->settings.objective_ppm, .least = OBJECTIVE_PPM_MIN, .most = OBJECTIVE_PPM_MAX},
		{"offpeak", .text = &text.offpeak, .least = 1},
		{"bandwidth", .array = &text.bandwidth, .most = BANDWIDTH_RULES_MAX},
	};
	int rc = control_read(body, members, COUNT(members), err);
	if (rc)
		return rc;
	if (name_reserved(name))
		return err_set(err, -EINVAL, "%s " NAME_RESERVED_RULE, name);
	if (!protection_codec_read(codec, config))
		return err_set(err, -EINVAL, "\"%s\" is not a codec: choose zstd, auto, zlib, lz4 or none", codec);
	if (!digest_kind_read(digest, &config->digest.kind))
		return err_set(err, -EINVAL, "\"%s\" is not a kind of digest: choose xxh3 or blake2b", digest);
	(void)snprintf(config->name, NAME_SIZE, "%s", name);
	(void)snprintf(config->site, NAME_SIZE, "%s", site);
	config->points_keep = (uint32_t)points;
	config->seed_since_wall_ns = seed ? env_wall_ns(env_posix()) : 0;
	config->settings.rpo_ms = config->rpo_ms;
	rc = settings_read(&text, &config->settings, err);
	if (rc)
		return rc;
	return read_disks(disks, config, err);
}

static unsigned post_protections(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	struct err err = {0};
	AUTO_FREE struct protection_config *config = calloc(1, sizeof(*config));
	if (!config)
		return control_fail(ret_body, -ENOMEM, "out of memory");
	struct site site;
	bool raw = false;
	int rc = read_protect(request->body, config, &raw, &err);
	if (rc == 0)
		rc = site_load(agent->place.state, config->site, &site, &err); // the state directory may not answer: nothing is locked
	LOCK_SCOPE(&agent->lock);
	if (rc == 0 && agent_find(agent, config->name))
		rc = err_set(&err, -EEXIST, "\"%s\" is protected already: choose another name, or `kagami unprotect %s` first",
			     config->name, config->name);
	struct seat *seat = NULL;
	if (rc == 0)
		rc = agent_protect(agent, config, raw, &seat, &err);
	if (rc)
		return control_fail(ret_body, rc, err.text);
	*ret_body = seat_json(agent, seat);
	return 201;
}

// Of one that does not run they are read from the state directory, which may not answer: nobody else waits for that.
static int seat_syncs(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	(void)body;
	if (seat->running) {
		*ret_body = protection_syncs_json(seat->running);
		return 0;
	}
	char name[NAME_SIZE];
	memcpy(name, seat->config.name, NAME_SIZE);
	AUTO_FREE struct sync_log *log = malloc(sizeof(*log));
	(void)pthread_mutex_unlock(&agent->lock);
	int rc = log ? sync_log_load(agent->place.state, name, log, err) : err_sys(err, -ENOMEM, "read the syncs");
	(void)pthread_mutex_lock(&agent->lock);
	if (rc == 0)
		*ret_body = sync_log_json(log);
	return rc;
}

static int seat_unprotect(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	(void)body;
	struct parting parting;
	int rc = agent_unprotect(agent, seat, &parting, err);
	if (rc == 0)
		*ret_body = json_pack("{s:b, s:o}", "told", (int)parting.told, "untold", json_text(parting.untold));
	return rc;
}

static int seat_cycle(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	uint64_t cycle = 0;
	bool compare = false;
	const struct control_member members[] = {{"compare", .flag = &compare}};
	int rc = control_read(body, members, COUNT(members), err);
	if (rc == 0)
		rc = seat_runs(seat, err);
	if (rc == 0) {
		char name[NAME_SIZE];
		memcpy(name, seat->config.name, NAME_SIZE);
		struct protection *running = seat_unlock(agent, seat);
		rc = protection_cycle(running, compare, &cycle, err);
		(void)seat_lock(agent, name, running);
	}
	if (rc == 0)
		*ret_body = json_pack("{s:o}", "cycle", json_count(cycle));
	return rc;
}

struct resize_request {
	const char *name, *disk;
	uint64_t size, old_size, ticket;
	bool dry_run;
};

static int resize_read(const json_t *body, struct resize_request *r, struct err *err)
{
	const struct control_member members[] = {
		{"disk", true, .text = &r->disk, .is_name = true},
		{"size_bytes", true, .number = &r->size, .least = SECTOR_SIZE, .most = DISK_SIZE_MAX},
		{"dry_run", .flag = &r->dry_run},
	};
	return control_read(body, members, COUNT(members), err);
}

static int resize_ask(struct agent *agent, struct resize_request *r, struct err *err)
{
	LOCK_SCOPE(&agent->lock);
	struct seat *seat = agent_find(agent, r->name);
	int rc = seat ? seat_runs(seat, err) : no_seat(r->name, err);
	return rc ? rc : protection_resize(seat->running, r->disk, r->size, r->dry_run, &r->old_size, &r->ticket, err);
}

static int resize_look(struct agent *agent, const struct resize_request *r, struct err *err)
{
	LOCK_SCOPE(&agent->lock);
	struct seat *seat = agent_find(agent, r->name);
	int rc = seat ? seat_runs(seat, err) : no_seat(r->name, err); // it may be gone by now
	return rc ? rc : protection_resize_end(seat->running, r->ticket, err);
}

enum { RESIZE_LOOK_US = 20000 };

// Its disks, or the state directory, may take their time, and others ask meanwhile: nothing is locked between two looks.
static int resize_wait(struct agent *agent, const struct resize_request *r, struct err *err)
{
	int rc = r->ticket ? -EINPROGRESS : 0;
	while (rc == -EINPROGRESS) {
		(void)usleep(RESIZE_LOOK_US);
		rc = resize_look(agent, r, err);
	}
	return rc;
}

static int seat_clear_error(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	const char *disk = NULL;
	bool dry_run = false;
	char name[NAME_SIZE], error[ERR_TEXT_MAX];
	const struct control_member members[] = {{"disk", true, .text = &disk, .is_name = true}, {"dry_run", .flag = &dry_run}};
	int rc = control_read(body, members, COUNT(members), err);
	if (rc == 0)
		rc = seat_runs(seat, err);
	if (rc)
		return rc;
	memcpy(name, seat->config.name, NAME_SIZE);
	struct protection *running = seat_unlock(agent, seat); // the disk may take its time
	rc = protection_clear_error(running, disk, dry_run, error, err);
	(void)seat_lock(agent, name, running);
	if (rc == 0)
		*ret_body = json_pack("{s:s, s:o, s:b}", "disk", disk, "error", json_text(error), "dry_run", dry_run);
	return rc;
}

static int settings_edit(struct protection_settings *settings, const void *with, struct err *err)
{
	const json_t *body = with;
	struct settings_text text = {.priority = NULL};
	const struct control_member members[] = {
		{"rpo_ms", .number = &settings->rpo_ms, .least = RPO_MS_MIN, .most = RPO_MS_MAX},
		{"priority", .text = &text.priority},
		{"objective_ppm", .number = &settings->objective_ppm, .least = OBJECTIVE_PPM_MIN, .most = OBJECTIVE_PPM_MAX},
		{"offpeak", .text = &text.offpeak, .least = 1},
		{"bandwidth", .array = &text.bandwidth, .most = BANDWIDTH_RULES_MAX},
	};
	int rc = control_read(body, members, COUNT(members), err);
	return rc ? rc : settings_read(&text, settings, err);
}

static int seat_set(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	struct protection_settings tried = seat->config.settings; // a request that is wrong is refused as such, whatever the protection does
	int rc = settings_edit(&tried, body, err);
	if (rc == 0)
		rc = seat_runs(seat, err);
	if (rc)
		return rc;
	char name[NAME_SIZE];
	memcpy(name, seat->config.name, NAME_SIZE);
	struct protection *running = seat_unlock(agent, seat);
	rc = protection_set(running, settings_edit, body, err);
	seat = seat_lock(agent, name, running);
	if (rc || !seat)
		return rc ? rc : seat_left(err);
	protection_was_set(seat->running, &seat->config); // by another request since, perhaps
	*ret_body = seat_json(agent, seat);
	return 0;
}

static json_t *settings_json(struct agent *agent)
{
	struct planner_view view;
	desk_look(agent->desk, &view);
	uint64_t rate = limiter_rate(agent->limiter);
	return json_pack("{s:o, s:o, s:o, s:i, s:i, s:{s:i, s:i, s:i, s:i, s:o}}", "bandwidth_used", json_count(limiter_used(agent->limiter)), "bandwidth", bandwidth_json(&agent->settings.bandwidth), "bandwidth_limit",
			 rate == BANDWIDTH_UNLIMITED ? json_null() : json_count(rate), "cycles", (int)view.slots[PLANNER_CYCLE], "syncs",
			 (int)view.slots[PLANNER_SYNC], "slots", "cycles_running", (int)view.running[PLANNER_CYCLE], "cycles_waiting",
			 (int)view.waiting[PLANNER_CYCLE], "syncs_running", (int)view.running[PLANNER_SYNC], "syncs_waiting",
			 (int)view.waiting[PLANNER_SYNC], "lent", json_count(view.lent));
}

static unsigned get_settings(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	(void)request;
	LOCK_SCOPE(&agent->lock);
	*ret_body = settings_json(agent);
	return 200;
}

static unsigned post_settings(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	struct err err = {0};
	json_t *bandwidth = NULL;
	LOCK_SCOPE(&agent->settings_lock);
	struct agent_settings settings = agent->settings; // whoever changes them has that lock
	const struct control_member members[] = {
		{"bandwidth", .array = &bandwidth, .most = BANDWIDTH_RULES_MAX},
		{"cycles", .number = &settings.cycles, .most = PLANNER_SLOTS_MAX},
		{"syncs", .number = &settings.syncs, .most = PLANNER_SLOTS_MAX},
	};
	int rc = control_read(request->body, members, COUNT(members), &err);
	if (rc == 0 && bandwidth)
		rc = bandwidth_from_json(bandwidth, &settings.bandwidth, &err);
	if (rc == 0)
		rc = agent_set(agent, &settings, &err);
	if (rc)
		return control_fail(ret_body, err.code, err.text);
	LOCK_SCOPE(&agent->lock);
	*ret_body = settings_json(agent);
	return 200;
}

static int set_paused(struct agent *agent, struct seat *seat, const json_t *body, bool paused, json_t **ret_body, struct err *err)
{
	bool without_seed = false;
	const struct control_member members[] = {{"without_seed", .flag = &without_seed}};
	int rc = control_read(body, members, paused ? 0 : COUNT(members), err);
	if (rc == 0 && !seat->running)
		rc = agent_restart_seat(agent, seat, err); // what kept it from starting may be mended
	if (rc)
		return rc;
	char name[NAME_SIZE];
	memcpy(name, seat->config.name, NAME_SIZE);
	struct protection *running = seat_unlock(agent, seat);
	rc = without_seed ? protection_without_seed(running, err) : 0;
	if (rc == 0)
		rc = protection_pause(running, paused, err);
	seat = seat_lock(agent, name, running);
	if (seat)
		protection_was_set(seat->running, &seat->config);
	if (rc || !seat)
		return rc ? rc : seat_left(err);
	*ret_body = seat_json(agent, seat);
	return 0;
}

static int seat_pause(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	return set_paused(agent, seat, body, true, ret_body, err);
}

static int seat_resume(struct agent *agent, struct seat *seat, const json_t *body, json_t **ret_body, struct err *err)
{
	return set_paused(agent, seat, body, false, ret_body, err);
}

static unsigned get_protection(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_show);
}

enum { PLANS_MAX = 16 };

// "15000,60000"
static int read_rpos(const char *text, uint64_t rpo_ms[PLANS_MAX], unsigned *ret_count, struct err *err)
{
	unsigned count = 0;
	for (const char *at = text; at && count < PLANS_MAX; count++) {
		char *end = NULL;
		rpo_ms[count] = *at >= '0' && *at <= '9' ? strtoull(at, &end, 10) : 0;
		if (!end || (*end && *end != ',') || rpo_ms[count] < RPO_MS_MIN || rpo_ms[count] > RPO_MS_MAX)
			break;
		at = *end ? end + 1 : NULL;
		*ret_count = count + 1;
		if (!at)
			return 0;
	}
	return err_set(err, -EINVAL, "rpo_ms: give 1 to %d numbers from %d to %d, apart by commas", PLANS_MAX, RPO_MS_MIN, RPO_MS_MAX);
}

static unsigned get_plan(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	struct err err = {0};
	uint64_t rpo_ms[PLANS_MAX];
	unsigned count = 0;
	int rc = read_rpos(request->query(request, "rpo_ms"), rpo_ms, &count, &err);
	LOCK_SCOPE(&agent->lock);
	struct seat *seat = rc == 0 ? agent_find(agent, request->arg[0]) : NULL;
	if (rc == 0 && !seat)
		rc = err_set(&err, -ENOENT, "there is no protection \"%s\" here: `kagami status` lists them", request->arg[0]);
	else if (rc == 0)
		rc = seat_runs(seat, &err);
	if (rc)
		return control_fail(ret_body, rc, err.text);
	assert(seat);
	*ret_body = protection_plan_json(seat->running, rpo_ms, count);
	return 200;
}

static unsigned get_history(void *context, const struct control_request *request, json_t **ret_body)
{
	struct agent *agent = context;
	struct err err = {0};
	LOCK_SCOPE(&agent->lock);
	struct seat *seat = agent_find(agent, request->arg[0]);
	if (!seat)
		(void)err_set(&err, -ENOENT, "there is no protection \"%s\" here: `kagami status` lists them", request->arg[0]);
	if (!seat || seat_runs(seat, &err))
		return control_fail(ret_body, err.code, err.text);
	json_t *json = protection_history_json(seat->running, request->query(request, "window"), &err);
	if (!json)
		return control_fail(ret_body, err.code, err.text);
	*ret_body = json;
	return 200;
}

static unsigned get_syncs(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_syncs);
}

static unsigned delete_protection(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_unprotect);
}

static unsigned post_protection_settings(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_set);
}

static unsigned post_cycle(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_cycle);
}

static unsigned post_pause(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_pause);
}

static unsigned post_resume(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_resume);
}

static unsigned post_clear_error(void *context, const struct control_request *request, json_t **ret_body)
{
	return of_seat(context, request, ret_body, seat_clear_error);
}

static unsigned post_resize(void *context, const struct control_request *request, json_t **ret_body)
{
	struct resize_request r = {.name = request->arg[0]};
	struct err err = {0};
	int rc = resize_read(request->body, &r, &err);
	if (rc == 0)
		rc = resize_ask(context, &r, &err);
	if (rc == 0)
		rc = resize_wait(context, &r, &err);
	if (rc)
		return control_fail(ret_body, rc, err.text);
	*ret_body = json_pack("{s:s, s:o, s:o, s:b}", "disk", r.disk, "old_size_bytes", json_count(r.old_size), "size_bytes", json_count(r.size), "dry_run",
			      r.dry_run);
	return 200;
}

const struct control_route agent_routes[] = {
	{"GET", "/v1/version", daemon_version},
	{"GET", "/v1/configuration", daemon_configuration},
	{"GET", "/v1/log", daemon_log},
	{"GET", "/v1/events", events_get},
	{"GET", "/metrics", get_metrics},
	{"GET", "/v1/sites", get_sites},
	{"POST", "/v1/sites", post_sites},
	{"GET", "/v1/protections", get_protections},
	{"POST", "/v1/protections", post_protections},
	{"GET", "/v1/protections/*", get_protection},
	{"GET", "/v1/protections/*/syncs", get_syncs},
	{"GET", "/v1/protections/*/plan", get_plan},
	{"GET", "/v1/protections/*/history", get_history},
	{"DELETE", "/v1/protections/*", delete_protection},
	{"POST", "/v1/protections/*/cycle", post_cycle},
	{"POST", "/v1/protections/*/pause", post_pause},
	{"POST", "/v1/protections/*/resume", post_resume},
	{"POST", "/v1/protections/*/resize", post_resize},
	{"POST", "/v1/protections/*/clear-error", post_clear_error},
	{"POST", "/v1/protections/*/settings", post_protection_settings},
	{"GET", "/v1/settings", get_settings},
	{"POST", "/v1/settings", post_settings},
};
const size_t agent_route_count = COUNT(agent_routes);
