// SPDX-License-Identifier: Apache-2.0
#include "replicator/protection_private.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { SOCKET_PATH_SIZE = 4096 };

static int open_export(struct protection *p, struct err *err)
{
	AUTO_FREE struct export_config *config = calloc(1, sizeof(*config));
	if (!config)
		return err_sys(err, -ENOMEM, "open the disks");
	char socket_path[SOCKET_PATH_SIZE], spill_dir[SOCKET_PATH_SIZE];
	(void)snprintf(socket_path, sizeof(socket_path), "%s/nbd/%s.sock", p->place.run_dir, p->config.name);
	(void)snprintf(spill_dir, sizeof(spill_dir), "%s/protections/%s", p->place.state_dir, p->config.name);
	config->protection = p->config.name;
	config->uuid = p->config.uuid;
	config->socket_path = socket_path;
	config->spill_dir = spill_dir;
	config->run_dir = p->place.run_dir;
	config->roll = p->place.roll;
	config->opening = p->place.opening;
	config->marker = (struct export_marker){
		.commit = tracking_commit, .note = tracking_note, .lose = tracking_lose, .forsake = tracking_forsake, .context = p};
	config->disk_count = p->config.disk_count;
	for (unsigned i = 0; i < p->config.disk_count; i++) {
		(void)snprintf(config->disk[i].name, NAME_SIZE, "%s", p->config.disk[i].name);
		config->disk[i].path = p->config.disk[i].path;
		config->disk[i].read_only = p->config.disk[i].read_only;
	}
	int rc = export_open(config, &p->export, err);
	if (rc == 0)
		p->source = export_source(p->export);
	return rc;
}

static void protection_free(struct protection *p)
{
	if (!p)
		return;
	doubt_stop(p);
	tracking_done(p);
	account_end(p); // its last count asks the export what stands in the way
	export_close(p->export);
	ship_free(p->ship);
	SSL_CTX_free(p->tls);
	slot_leave(p);
	settings_leave(p);
	protection_wait_done(p);
	free(p->audit.kept);
	doubt_done(p);
	(void)pthread_cond_destroy(&p->unused);
	(void)pthread_mutex_destroy(&p->saving);
	(void)pthread_mutex_destroy(&p->lock);
	free(p);
}

static void on_turn(void *context, uint64_t now_ns)
{
	pace_turn(context, now_ns);
	report_turn(context, now_ns);
}

static int start(struct protection *p, bool is_new, struct err *err)
{
	int rc = protection_wait_init(p);
	if (rc)
		return err_sys(err, rc, "make an eventfd");
	rc = slot_join(p);
	if (rc)
		return err_sys(err, rc, "take a place among the cycles");
	rc = settings_join(p);
	if (rc)
		return err_sys(err, rc, "take a share of the line");
	p->began_ns = protection_now_ns(p);
	p->tls = identity_context(p->place.identity, false, err);
	if (!p->tls)
		return -EIO;
	p->nowhere = state_no_cut;
	rc = ship_new(&(struct sender_config){.env = p->place.env,
					      .crew = p->place.crew,
					      .known_bytes = p->place.known_bytes,
					      .adapt = p->config.codec_auto,
					      .turn = on_turn,
					      .context = p,
					      .clock = &p->clock},
		      &p->ship);
	if (rc)
		return err_sys(err, rc, "make room for batches");
	struct err record = {0};
	if (sync_log_load(p->place.state, p->config.name, &p->syncs, &record))
		log_warning("the record of syncs is begun anew protection=%s: %s", p->config.name, record.text);
	dirt_load(p);
	account_load(p);
	rc = doubt_start(p);
	if (rc)
		return err_sys(err, rc, "start a thread");
	rc = open_export(p, err);
	if (rc == 0)
		rc = tracking_load(p, is_new, err);
	if (rc == 0)
		rc = holes_load(p, is_new, err);
	if (rc) {
		tracking_abandon(p);
		return rc;
	}
	p->has_point = p->position.point > 0 && p->position.last_cut_wall_ns > 0; // its age counts on, connected or not
	p->point_unknown = !is_new && !p->position_known;
	p->point = p->position.point;
	p->point_cut_mono_ns = protection_mono_of(p, p->position.last_cut_wall_ns);
	rc = export_start(p->export, err);
	if (rc) {
		tracking_abandon(p); // nothing was served: the maps are still the truth
		return rc;
	}
	rc = protection_thread_start(p);
	if (rc) {
		if (export_stop(p->export, NULL) == 0)
			tracking_abandon(p);
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
	p->unborn = is_new;
	p->asked = p->compare = config->compare; // the process before did not come to it
	p->schedule.rpo_ns = config->rpo_ms * UINT64_C(1000000);
	p->wake_fd = -1;
	p->seat = PLANNER_NOBODY;
	p->settled = true;
	(void)pthread_mutex_init(&p->lock, NULL);
	(void)pthread_mutex_init(&p->saving, NULL);
	(void)pthread_cond_init(&p->unused, NULL);
	tracking_init(p);
	doubt_init(p);
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

void protection_stop_begin(struct protection *p)
{
	LOCK_SCOPE(&p->lock);
	p->stop = true;
	if (p->channel && (p->in_cycle || !p->greeted)) // else it says good-bye
		channel_abort(p->channel);
	protection_wake(p);
}

bool protection_end(struct protection *p, bool forgotten)
{
	protection_stop_begin(p);
	protection_thread_join(p);
	struct err err = {0};
	int rc = export_stop(p->export, &err);
	if (rc == 0 && !holes_stopped(p))
		rc = err_set(&err, -EIO, "the record of unproven holes could not be written: look at the state directory");
	if (rc == 0)
		rc = tracking_save(p, &err);
	else
		tracking_tell_lost(p);
	if (rc && forgotten)
		log_warning("a protection that is given up was not saved to the end protection=%s: %s", p->config.name, err.text);
	else if (rc)
		log_error("the state of a protection was not saved, the stop was as a crash: the next start compares %s protection=%s: %s",
			  tracking_uncovered(p) ? "all of its disks" : "what its state files mark, and all of a disk whose tracking was lost",
			  p->config.name, err.text);
	else
		log_info("stopped protection=%s point=%llu", p->config.name, (unsigned long long)p->position.point);
	bool known = !p->known || forgotten || protection_keep_config(p);
	return rc == 0 && known;
}

void protection_close(struct protection *p)
{
	protection_wait_unused(p);
	protection_free(p);
}

bool protection_stop(struct protection *p)
{
	bool saved = protection_end(p, false);
	protection_close(p);
	return saved;
}

const char *protection_name(const struct protection *p)
{
	return p->config.name;
}

uint64_t protection_disk_size(const struct protection *p, uint16_t disk)
{
	return export_disk_size(p->export, disk);
}

const char *protection_disk_of(const struct protection *p, const struct image_file *file)
{
	uint16_t disk;
	return export_has_image(p->export, file, &disk) ? p->config.disk[disk].name : NULL;
}

int protection_fenced(struct protection *p, struct err *err)
{
	p->hurry = true; // an operator who took the failover back need not wait for the minute to be over
	protection_wake(p);
	return err_set(err, -EBUSY, "%s was failed over at the receiver, which takes no more deltas; whether that was taken back is asked now: "
		       "if it was, try again in a moment", p->config.name);
}

static int may_cycle(struct protection *p, struct err *err)
{
	if (p->paused)
		return err_set(err, -EBUSY, "%s is paused: resume it first (`kagami resume %s`)", p->config.name, p->config.name);
	return p->fenced ? protection_fenced(p, err) : 0;
}

static void edit_compare(struct protection_config *config, const void *with)
{
	config->compare = *(const bool *)with;
}

int protection_cycle(struct protection *p, bool compare, uint64_t *ret_cycle, struct err *err)
{
	{
		LOCK_SCOPE(&p->lock);
		int rc = may_cycle(p, err);
		if (rc)
			return rc;
	}
	if (compare)
		(void)pthread_mutex_lock(&p->saving); // until it is asked for: else one that ends now takes it for its own
	int rc = compare && !p->config.compare ? protection_change(p, edit_compare, &compare, err) : 0;
	if (rc == 0) {
		LOCK_SCOPE(&p->lock);
		p->asked = true;
		p->compare |= compare;
		p->waived |= !p->has_point;
		p->hurry = true;
		*ret_cycle = p->cycles_started + 1;
		protection_wake(p);
	}
	if (compare)
		(void)pthread_mutex_unlock(&p->saving);
	return rc;
}

static void edit_paused(struct protection_config *config, const void *with)
{
	config->paused = *(const bool *)with;
}

int protection_pause(struct protection *p, bool paused, struct err *err)
{
	LOCK_SCOPE(&p->saving);
	bool was;
	{
		LOCK_SCOPE(&p->lock);
		p->hurry = true; // a resume of what is not paused means: try again now
		protection_wake(p);
		was = p->config.paused;
	}
	int rc = was == paused ? 0 : protection_change(p, edit_paused, &paused, err);
	if (rc || was == paused)
		return rc;
	event_emit(EVENT_INFO, "settings", p->config.name, NULL, "%s was %s by the operator", p->config.name, paused ? "paused" : "resumed");
	LOCK_SCOPE(&p->lock);
	p->paused = paused;
	p->hurry = true; // once more: the first one may have been taken for one to tell of the pause
	if (paused && p->channel && (p->in_cycle || !p->greeted))
		channel_abort(p->channel); // ends the cycle under way: what it had is dirty again
	protection_wake(p);
	return 0;
}

static void edit_without_seed(struct protection_config *config, const void *with)
{
	(void)with;
	config->seed_since_wall_ns = 0;
}

int protection_without_seed(struct protection *p, struct err *err)
{
	LOCK_SCOPE(&p->saving);
	int rc = p->config.seed_since_wall_ns ? protection_change(p, edit_without_seed, NULL, err) : 0;
	LOCK_SCOPE(&p->lock);
	p->hurry = true;
	protection_wake(p);
	return rc;
}

void protection_site_changed(struct protection *p, const struct site *site)
{
	doubt_set_site(p, site);
	LOCK_SCOPE(&p->lock);
	p->hurry = true;
	p->pause_told = false; // it is another one
	if (p->channel)
		channel_abort(p->channel);
	protection_wake(p);
}
