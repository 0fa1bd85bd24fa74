// SPDX-License-Identifier: Apache-2.0
// The two programs' lives, and a scenario: disks and guests, faults for a while, then none; and what must be true in the end (L1).
#include "tests/world/world.h"

#include "link/channel_transport.h"
#include "receiver/scrub.h"
#include "receiver/session.h"
#include "replicator/desk.h"
#include "replicator/site.h"
#include "tests/world/world_seed.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_S = 1 };

static unsigned sessions;
static struct task *keeper;

// ---- the source's program

static int start_side(struct side *side, const struct protection_place *place)
{
	struct err err = {0};
	int rc = protection_start(place, &side->config, !side->made, &side->protection, &err);
	if (rc) {
		side->protection = NULL;
		side->nowhere |= side->fault_state || side->fault_image; // a state file that it made anew names no cut
		world_note("%s does not start: %s", side->config.name, err.text);
		return rc;
	}
	assert(side->protection);
	protection_known(side->protection);
	side->made = true;
	side->protection->lore.rate = world_one_in(2) ? 1 : 0; // a slow link: long passes of what is little here
	side->protection->stretch_blocks = 1 + world_draw(64);
	world_note("%s started, sync %s", side->config.name, side->protection->sync ? sync_reason_name(side->protection->sync) : "none");
	return 0;
}

static bool ending(const struct host *host)
{
	return host->dead || host->stop;
}

static void start_sides(const struct protection_place *place)
{
	struct world *w = the_world;
	bool missing = false;
	for (unsigned s = 0; s < w->sides && !w->source.dead; s++)
		if (!w->side[s].protection) {
			missing |= start_side(&w->side[s], place) != 0;
			if (missing && !w->source.dead) { // it gave its disk an error, or the state directory one
				w->side[s].fault_state = w->side[s].fault_image = true;
			}
		}
	if (missing)
		task_sleep(w->now_ns + RETRY_S * WORLD_S);
}

static bool all_run(void)
{
	for (unsigned s = 0; s < the_world->sides; s++)
		if (!the_world->side[s].protection)
			return false;
	return true;
}

static void stop_sides(void)
{
	struct world *w = the_world;
	for (unsigned s = 0; s < w->sides; s++)
		if (w->side[s].protection)
			protection_stop_begin(w->side[s].protection);
	for (unsigned s = 0; s < w->sides; s++) {
		struct side *side = &w->side[s];
		if (!side->protection)
			continue;
		struct protection *p = side->protection;
		protection_thread_join(p); // the position is the truth until the end
		oracle_poll();
		side->protection = NULL;
		(void)protection_stop(p);
	}
}

static void source_boot(void)
{
	struct world *w = the_world;
	if (!w->source.dead)
		return;
	bool power = !w->source.killed;
	host_boot(&w->source);
	link_host_booted(&w->source);
	for (unsigned s = 0; s < w->sides; s++) {
		w->side[s].unclean = true;
		w->side[s].cut_power |= power;
		w->side[s].failed = false;
	}
	if (!power)
		return;
	struct env_root *run = NULL; // lies in memory
	host_oracle_begin(&w->source);
	if (env_root_open(sim_env(w->source.sim), "/run", &run) == 0)
		(void)(env_remove_tree(run, "lost") | env_remove_tree(run, "state"));
	env_root_close(run);
	host_oracle_end(&w->source);
}

static void source_once(void)
{
	struct world *w = the_world;
	struct env *env = sim_env(w->source.sim);
	struct env_root *state = NULL;
	if (env_root_open(env, "/state", &state) || env_root_open(env, "/images", &w->images)) {
		env_root_close(state);
		w->images = NULL;
		return;
	}
	world_away_source(state);
	struct desk *desk = NULL;
	if (desk_new(1 + (unsigned)(w->seed % 2), 1, &desk)) // few slots: all that happens to one protection happens beside others that wait
		world_wrong("no memory");
	struct protection_place place = {
		.desk = desk, .env = env, .state = state, .state_dir = "/state", .run_dir = "/run", .identity = w->source_identity};
	for (unsigned s = 0; s < w->sides; s++)
		w->side[s].failed = false;
	w->source.up = true;
	while (!ending(&w->source)) {
		if (!all_run())
			start_sides(&place);
		else
			task_sleep(w->now_ns + 30 * WORLD_S);
	}
	w->source.up = false;
	stop_sides();
	desk_free(desk);
	for (unsigned s = 0; s < w->sides && !w->source.dead; s++)
		w->side[s].unclean = false; // in order
	env_root_close(w->images);
	env_root_close(state);
	w->images = NULL;
}

void source_life(void *context)
{
	struct world *w = the_world;
	(void)context;
	while (!w->over) {
		source_boot();
		if (w->source.stop)
			world_happened(FAULT_RESTART_SOURCE);
		w->source.stop = false;
		source_once();
		if (!w->over)
			task_sleep(w->now_ns + w->source.down_ns);
	}
}

// ---- the receiver's program

static bool receiver_take_over(void *context, struct replica *replica)
{
	struct replica_info info;
	(void)context;
	replica_info(replica, &info);
	link_take_over(info.name);
	for (unsigned n = 0; n < 200 && !ending(&the_world->receiver); n++) {
		replica_info(replica, &info);
		if (!info.session_open)
			return true;
		task_sleep(the_world->now_ns + 100 * WORLD_MS);
	}
	return false;
}

static void opened(void *context, struct replica *replica)
{
	struct replica_info info;
	(void)context;
	replica_info(replica, &info);
	link_session_of(info.name);
	if (!info.retention_set) { // the operator's: few points, so that they go
		struct retention policy = {.points = 1 + (unsigned)world_draw(8)};
		struct err err = {0};
		(void)replica_set_retention(replica, &policy, &err);
	}
}

static struct side *side_named(const char *name)
{
	for (unsigned s = 0; s < the_world->sides; s++)
		if (strcmp(the_world->side[s].config.name, name) == 0)
			return &the_world->side[s];
	return NULL;
}

static void committed(void *context)
{
	struct world *w = the_world;
	(void)context;
	w->did.points++;
	for (unsigned s = 0; s < w->sides; s++) {
		struct replica *replica = store_find(w->store, w->side[s].config.name);
		struct replica_info info;
		if (!replica)
			continue;
		replica_info(replica, &info);
		if (info.last_point > w->side[s].checked_point) {
			w->side[s].checked_point = info.last_point;
			oracle_points(side_named(info.name), false);
		}
	}
}

void receiver_session(struct channel *channel)
{
	struct world *w = the_world;
	if (w->receiver.up && !w->receiver.dead) {
		struct session_host host = {
			.env = sim_env(w->receiver.sim),
			.store = w->store,
			.pairing = w->pairing,
			.take_over = receiver_take_over,
			.opened = opened,
			.committed = committed,
		};
		sessions++;
		session_run(&host, channel, "source:1");
		sessions--;
	}
	channel_close(channel);
	task_wake(w->receiver.life_task);
}

// As the scrubber does, without its pauses.
static void scrub_some(void)
{
	struct world *w = the_world;
	struct replica *replica;
	bool open = false;
	for (size_t n = 0; !w->receiver.dead && (replica = store_at(w->store, n)); n++) {
		struct scrub_step done = {.ended = false};
		struct err err = {0};
		int rc = scrub_slice(replica, &done, &err);
		w->did.scrubbed += done.bytes;
		w->did.damaged += done.mismatches;
		open |= rc == -EAGAIN || (rc == 0 && !done.ended);
	}
	w->scrubs &= open;
}

// As the seeder does.
static void adopt_some(void)
{
	struct world *w = the_world;
	struct replica *replica;
	for (size_t n = 0; !w->receiver.dead && (replica = store_at(w->store, n)); n++)
		w->did.adopted += world_adopt(replica, 4);

}

static void run_keeper(void *context)
{
	struct world *w = the_world;
	(void)context;
	while (!ending(&w->receiver)) {
		struct replica *replica;
		for (size_t n = 0; !w->receiver.dead && (replica = store_at(w->store, n)); n++) {
			struct err err = {0};
			(void)replica_mend(replica);
			if (replica_retain(replica, &err) == 1)
				w->did.folds++;
		}
		adopt_some();
		scrub_some();
		if (!ending(&w->receiver))
			task_sleep(w->now_ns + (200 + world_draw(4000)) * WORLD_MS);
	}
}

static int open_receiver(struct env_root **ret_state)
{
	struct world *w = the_world;
	struct env *env = sim_env(w->receiver.sim);
	struct err err = {0};
	int rc = env_root_open(env, "/receiver", ret_state);
	if (rc == 0)
		rc = env_root_open(env, "/store", &w->store_root);
	if (rc == 0)
		world_away_receiver();
	if (rc == 0)
		rc = pairing_open(*ret_state, identity_pin(w->receiver_identity), &w->pairing, &err);
	if (rc == 0)
		rc = store_open(env, "/store", &w->store, &err);
	if (rc)
		world_note("the receiver does not start: %s", err.text);
	return rc;
}

static void receiver_once(void)
{
	struct world *w = the_world;
	struct env_root *state = NULL;
	if (open_receiver(&state) == 0) {
		if (!w->receiver.dead && !sim_is_off(w->receiver.sim))
			oracle_recovered();
		w->receiver.up = true;
		keeper = task_start(&w->receiver, run_keeper, NULL);
		while (!ending(&w->receiver))
			task_sleep(w->now_ns + 30 * WORLD_S);
		w->receiver.up = false;
		link_host_stops(&w->receiver);
		while (sessions || !task_ended(keeper)) {
			task_wake(keeper);
			task_sleep(w->now_ns + 10 * WORLD_MS);
		}
	}
	store_close(w->store);
	pairing_close(w->pairing);
	env_root_close(w->store_root);
	env_root_close(state);
	w->store = NULL;
	w->pairing = NULL;
	w->store_root = NULL;
}

void receiver_life(void *context)
{
	struct world *w = the_world;
	(void)context;
	while (!w->over) {
		if (w->receiver.dead) {
			host_boot(&w->receiver);
			link_host_booted(&w->receiver);
		}
		if (w->receiver.stop)
			world_happened(FAULT_RESTART_RECEIVER);
		w->receiver.stop = false;
		receiver_once();
		if (!w->over)
			task_sleep(w->now_ns + w->receiver.down_ns);
	}
}
