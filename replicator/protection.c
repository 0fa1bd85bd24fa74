// SPDX-License-Identifier: Apache-2.0
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

enum { STATE_NAME_SIZE = 2 * NAME_SIZE + 32, SOCKET_PATH_SIZE = 4096 };

static void state_name(const struct protection *p, unsigned disk, char name[STATE_NAME_SIZE])
{
	(void)snprintf(name, STATE_NAME_SIZE, "protections/%s/%s.state", p->config.name, p->config.disk[disk].name);
}

static int open_export(struct protection *p, struct err *err)
{
	AUTO_FREE struct export_config *config = calloc(1, sizeof(*config));
	if (!config)
		return err_sys(err, -ENOMEM, "open the disks");
	char socket_path[SOCKET_PATH_SIZE];
	(void)snprintf(socket_path, sizeof(socket_path), "%s/nbd/%s.sock", p->place.run_dir, p->config.name);
	config->protection = p->config.name;
	config->socket_path = socket_path;
	config->disk_count = p->config.disk_count;
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		(void)snprintf(config->disk[i].name, NAME_SIZE, "%s", p->config.disk[i].name);
		config->disk[i].path = p->config.disk[i].path;
	}
	int rc = export_open(config, &p->export, err);
	if (rc == 0)
		p->source = export_source(p->export);
	return rc;
}

// The position that the disks' maps agree on. A disk that says another than the first one is synced.
static bool position_joins(struct protection *p, const struct state_position *position)
{
	if (!p->position_known) {
		p->position = *position;
		p->position_known = true;
		return true;
	}
	return uuid_equal(&p->position.last_cut, &position->last_cut) &&
	       uuid_equal(&p->position.pending_cut, &position->pending_cut);
}

static int load_disk(struct protection *p, unsigned disk, bool is_new, struct err *err)
{
	char name[STATE_NAME_SIZE];
	state_name(p, disk, name);
	struct image_identity identity;
	int rc = export_identity(p->export, (uint16_t)disk, &identity, err);
	if (rc)
		return rc;
	struct state_position expected = {.protection = p->config.uuid, .generation = p->config.generation}, position;
	struct dirty *dirty = export_dirty(p->export, (uint16_t)disk);
	enum sync_reason reason = state_file_load(p->place.state, name, p->config.disk[disk].name, &expected, &identity,
						  is_new, dirty, &position);
	if (reason == SYNC_NONE && !position_joins(p, &position))
		reason = SYNC_STATE_FOREIGN;
	if (reason != SYNC_NONE) {
		dirty_mark_all(dirty);
		if (p->sync == SYNC_NONE)
			p->sync = reason;
		if (reason != SYNC_INITIAL)
			log_warning("disk must be synced by digests protection=%s disk=%s reason=%s", p->config.name,
				    p->config.disk[disk].name, sync_reason_name(reason));
	}
	return 0;
}

// After every map is loaded: from here on the files say that a replicator runs.
static int open_state_files(struct protection *p, struct err *err)
{
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		char name[STATE_NAME_SIZE];
		state_name(p, i, name);
		int rc = state_file_open_run(p->place.state, name, p->config.disk[i].name, &p->position,
					     export_disk_size(p->export, (uint16_t)i), &p->state_file[i], err);
		if (rc)
			return rc;
	}
	return 0;
}

static int load_state(struct protection *p, bool is_new, struct err *err)
{
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		int rc = load_disk(p, i, is_new, err);
		if (rc)
			return rc;
	}
	p->position.protection = p->config.uuid;
	p->position.generation = p->config.generation;
	if (p->sync == SYNC_NONE && p->position.point == 0)
		p->sync = SYNC_INITIAL;
	return open_state_files(p, err);
}

static void protection_free(struct protection *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < DISKS_MAX; i++)
		state_file_close(p->state_file[i]);
	export_close(p->export);
	ship_free(p->ship);
	SSL_CTX_free(p->tls);
	if (p->wake_fd >= 0)
		(void)close(p->wake_fd);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static int save_disk(struct protection *p, unsigned disk, struct err *err)
{
	struct image_identity identity;
	int rc = export_identity(p->export, (uint16_t)disk, &identity, err);
	return rc ? rc
		  : state_file_save(p->state_file[disk], &p->position, &identity, export_dirty(p->export, (uint16_t)disk), err);
}

// The state of a clean stop, for all disks.
static int save_disks(struct protection *p, struct err *err)
{
	int rc = 0;
	for (unsigned i = 0; i < p->config.disk_count && rc == 0; i++)
		rc = save_disk(p, i, err);
	return rc;
}

static int start(struct protection *p, bool is_new, struct err *err)
{
	if (p->wake_fd < 0)
		return err_sys(err, -EMFILE, "make an eventfd");
	p->tls = identity_context(p->place.identity, false, err);
	if (!p->tls)
		return -EIO;
	int rc = ship_new(&p->ship);
	if (rc)
		return err_sys(err, rc, "make room for batches");
	rc = open_export(p, err);
	if (rc == 0)
		rc = load_state(p, is_new, err);
	if (rc)
		return rc;
	rc = export_start(p->export, err);
	if (rc) {
		save_disks(p, NULL); // nothing was served: the maps are still the truth
		return rc;
	}
	rc = -pthread_create(&p->thread, NULL, protection_thread, p);
	if (rc) {
		if (export_stop(p->export, NULL) == 0)
			save_disks(p, NULL);
		return err_sys(err, rc, "start a thread");
	}
	return 0;
}

int protection_start(const struct protection_place *place, const struct protection_config *config, bool is_new,
		     struct protection **ret_protection, struct err *err)
{
	struct protection *p = calloc(1, sizeof(*p));
	if (!p)
		return err_sys(err, -ENOMEM, "protection %s", config->name);
	p->place = *place;
	p->config = *config;
	p->paused = config->paused;
	p->schedule.rpo_ns = config->rpo_ms * UINT64_C(1000000);
	p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	(void)pthread_mutex_init(&p->lock, NULL);
	int rc = start(p, is_new, err);
	if (rc) {
		protection_free(p);
		return err_wrap(err, "protection %s", config->name);
	}
	log_info("protected protection=%s disks=%u site=%s rpo_ms=%llu sync=%s", config->name, config->disk_count,
		 config->site, (unsigned long long)config->rpo_ms, p->sync ? sync_reason_name(p->sync) : "none");
	*ret_protection = p;
	return 0;
}

void protection_wake(struct protection *p)
{
	uint64_t one = 1;
	(void)!write(p->wake_fd, &one, sizeof(one));
}

void protection_stop_begin(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	p->stop = true;
	if (p->channel)
		channel_abort(p->channel);
	protection_wake(p);
}

void protection_stop(struct protection *p)
{
	protection_stop_begin(p);
	(void)pthread_join(p->thread, NULL);
	struct err err = {0};
	int rc = export_stop(p->export, &err);
	if (rc == 0)
		rc = save_disks(p, &err);
	if (rc)
		log_warning("the state could not be saved, the next start syncs by digests protection=%s: %s", p->config.name,
			    err.text);
	else
		log_info("stopped protection=%s point=%llu", p->config.name, (unsigned long long)p->position.point);
	protection_free(p);
}

const char *protection_name(const struct protection *p)
{
	return p->config.name;
}

const char *protection_site(const struct protection *p)
{
	return p->config.site;
}

int protection_cycle(struct protection *p, uint64_t *ret_cycle, struct err *err)
{
	LOCK_SCOPE(&p->lock);
	if (p->paused)
		return err_set(err, -EBUSY, "%s is paused: resume it first (`kagami resume %s`)", p->config.name, p->config.name);
	if (p->fenced)
		return err_set(err, -EBUSY, "%s was failed over at the receiver: it takes no more deltas", p->config.name);
	p->asked = true;
	p->hurry = true;
	*ret_cycle = p->cycles_started + 1;
	protection_wake(p);
	return 0;
}

int protection_pause(struct protection *p, bool paused, struct err *err)
{
	LOCK_SCOPE(&p->lock);
	p->hurry = true; // a resume of what is not paused means: try again now
	protection_wake(p);
	if (p->config.paused == paused)
		return 0;
	p->config.paused = paused;
	int rc = protection_config_save(p->place.state, &p->config, err);
	if (rc) {
		p->config.paused = !paused;
		return rc;
	}
	p->paused = paused;
	if (paused && p->channel)
		channel_abort(p->channel); // ends the cycle under way: what it had is dirty again
	protection_wake(p);
	return 0;
}

void protection_site_changed(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	p->hurry = true;
	if (p->channel)
		channel_abort(p->channel);
	protection_wake(p);
}
