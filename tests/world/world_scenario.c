// SPDX-License-Identifier: Apache-2.0
// A scenario: hosts, protections and guests from the seed; faults for a while; then none, and everything must be back within its RPO by
// itself (L1); then both programs end in order, and every point is looked at once more.
#include "tests/world/world.h"

#include "replicator/group.h"
#include "receiver/scrub.h"
#include "replicator/site.h"
#include "tests/world/world_seed.h"
#include "tests/lib/twin.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FAULTY_S = 60,	    // so long faults come, at most twice that
	OPERATOR_S = 60,    // two starts of the receiver, and until he looks
	BACK_S = 100,	    // from the last fault on a point must come: 30 s until a dead peer is found, 30 s of back-off, a transfer, the RPO
	STEADY_S = 20,	    // and then the age is within the RPO
	SLACK_MS = 1500,    // of the age: what the scheduler is told of late
	LONG = 30,	    // times the objectives of other scenarios
};

// ---- setting up

static void must(int rc, const char *what)
{
	if (rc)
		world_wrong("set up: %s: %s", what, strerror(-rc));
}

static void make_directories(struct host *host, const char *const *names)
{
	struct env_root *root = NULL;
	must(env_root_open(sim_env(host->sim), "/", &root), "open /");
	for (; *names; names++)
		must(env_mkdir(root, *names), *names);
	env_root_close(root);
}

static void load_identities(struct world *w)
{
	static struct identity *source, *receiver; // the same for all seeds: making keys takes time
	struct err err = {0};
	if (!source) {
		struct sim *sim = sim_new(1);
		struct env_root *root = NULL;
		must(env_root_open(sim_env(sim), "/", &root), "open /");
		must(identity_load(root, "source", &source, &err), err.text);
		must(identity_load(root, "receiver", &receiver, &err), err.text);
		env_root_close(root);
		sim_free(sim);
	}
	w->source_identity = source;
	w->receiver_identity = receiver;
}

static void pair(struct world *w)
{
	struct env_root *root = NULL;
	struct err err = {0};
	struct site site = {.name = "dr", .address = "receiver:1", .pin = *identity_pin(w->receiver_identity)};
	must(env_root_open(sim_env(w->source.sim), "/state", &root), "open /state");
	must(site_save(root, &site, &err), err.text);
	env_root_close(root);
	char pin[PIN_TEXT_SIZE], text[256];
	pin_format(identity_pin(w->source_identity), pin);
	int len = snprintf(text, sizeof(text), "{\"version\": 1, \"peers\": [{\"name\": \"host1\", \"pin\": \"%s\", \"paired_ns\": 1}]}", pin);
	must(env_root_open(sim_env(w->receiver.sim), "/receiver", &root), "open /receiver");
	must(env_replace(root, ".", "peers.json", text, (size_t)len), "write the peers");
	env_root_close(root);
}

// Sizes around what matters: within a region, its end, some of them; not always whole blocks.
static uint64_t draw_size(void)
{
	uint64_t size = world_one_in(6) ? (1 + world_draw(2)) * REGION_SIZE : (1 + world_draw(24)) * BLOCK_SIZE;
	if (world_one_in(3))
		size += world_draw(2 * BLOCK_SIZE / SECTOR_SIZE) * SECTOR_SIZE;
	return size;
}

// Anything: it is trusted for nothing.
bool world_seed_fill(unsigned char *block)
{
	if (world_one_in(3))
		return false;
	memset(block, (int)world_draw(256), BLOCK_SIZE);
	return true;
}

// Of some of its disks, and not always of the right size.
static void make_seeds(struct world *w, const struct side *side)
{
	for (unsigned d = 0; d < side->config.disk_count; d++)
		if (world_one_in(2))
			must(world_seed_make(sim_env(w->receiver.sim), side->config.name, side->config.disk[d].name,
					     world_one_in(3) ? draw_size() : side->disk[d].size, world_seed_fill),
			     "make a seed");
}

static void make_side(struct world *w, unsigned number, const struct world_plan *plan)
{
	struct side *side = &w->side[number];
	struct protection_config *config = &side->config;
	struct env_root *images = NULL, *state = NULL;
	struct err err = {0};
	side->number = number;
	(void)snprintf(config->name, sizeof(config->name), "vm%u", number + 1);
	(void)snprintf(config->site, sizeof(config->site), "dr");
	config->rpo_ms = (4 + world_draw(10)) * (plan->reboots ? LONG : 1) * 1000;
	config->points_keep = 1 + (uint32_t)world_draw(20);
	config->codec = world_one_in(3) ? CODEC_LZ4 : CODEC_ZSTD;
	config->digest.kind = DIGEST_XXH3;
	for (unsigned i = 0; i < DIGEST_SECRET_SIZE; i++)
		config->digest.secret[i] = (unsigned char)world_draw(256);
	for (unsigned i = 0; i < UUID_SIZE; i++) {
		config->uuid.bytes[i] = (unsigned char)(1 + world_draw(255));
		config->generation.bytes[i] = (unsigned char)(1 + world_draw(255));
	}
	config->disk_count = (uint16_t)(1 + world_draw(plan->disks_max));
	config->seed_since_wall_ns = world_one_in(6) ? env_wall_ns(sim_env(w->source.sim)) : 0;
	must(env_root_open(sim_env(w->source.sim), "/images", &images), "open /images");
	for (unsigned d = 0; d < config->disk_count; d++) {
		struct env_file *file = NULL;
		(void)snprintf(config->disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		(void)snprintf(config->disk[d].path, sizeof(config->disk[d].path), "vm%u-%c.raw", number + 1, 'a' + (int)d);
		side->disk[d].size = draw_size();
		must(env_open(images, config->disk[d].path, ENV_CREATE, &file), "make an image");
		must(env_truncate(file, side->disk[d].size), "make an image");
		env_close(file);
	}
	env_root_close(images);
	must(env_root_open(sim_env(w->source.sim), "/state", &state), "open /state");
	char dir[NAME_SIZE + 16];
	protection_dir(config->name, dir);
	must(env_mkdir(state, dir), dir);
	must(protection_config_save(state, config, &err), err.text);
	env_root_close(state);
	guest_make(side);
	if (world_one_in(4))
		make_seeds(w, side);
}

static void set_up(struct world *w, const struct world_plan *plan)
{
	static const char *const source[] = {"images", "state", "state/protections", "state/sites", "run", NULL}, *const receiver[] = {"store", "receiver", NULL};
	load_identities(w);
	make_directories(&w->source, source);
	make_directories(&w->receiver, receiver);
	pair(w);
	w->sides = 1 + (unsigned)world_draw(plan->sides_max);
	for (unsigned s = 0; s < w->sides; s++)
		make_side(w, s, plan);
	sim_settle(w->source.sim);
	sim_settle(w->receiver.sim);
	world_operator(NULL, 0);
	w->source.life_task = task_start(&w->source, source_life, NULL);
	w->receiver.life_task = task_start(&w->receiver, receiver_life, NULL);
}

// ---- the end

// What a disk did to a program stays until its operator has mended the disk and restarted it (volume.h, V3): that is done here, once.
static void mend(struct world *w)
{
	bool source = w->state_died, receiver = w->receiver_io_error;
	for (unsigned s = 0; s < w->sides; s++)
		source |= w->side[s].failed || w->side[s].fault_image;
	for (unsigned s = 0; s < w->sides; s++)
		receiver |= w->side[s].rotten_files > 1; // found at a start, and not before
	world_space_back(&w->source, 0);
	world_space_back(&w->receiver, 0);
	w->net_down_until_ns = 0;
	host_state_dies(&w->source, false);
	host_disarm(&w->source);
	host_disarm(&w->receiver);
	w->source.down_ns = w->receiver.down_ns = WORLD_S;
	if (source)
		world_restart(&w->source);
	if (receiver)
		world_restart(&w->receiver);
	w->receiver_io_error = false;
	task_wake(w->source.life_task);
	task_wake(w->receiver.life_task);
	link_quiet();
}

// What the start after that finds rotten with its copy is the operator's as well, and that restart is the last thing that happens.
static void operated(struct world *w)
{
	for (unsigned n = 0; n < OPERATOR_S && world_operator_is_due(); n++)
		world_run_until(w->now_ns + WORLD_S);
	if (world_operator_is_due())
		world_wrong("a replica is rotten, and nobody removes it");
}

static const char *why_late(const struct side *side, char text[300])
{
	const struct protection *p = side->protection;
	(void)snprintf(text, 300, "state %s, reason \"%.100s\", last error \"%.100s\"", p ? protection_state_name(p->state) : "not running",
		       p ? p->reason : "", p ? p->last_error : "");
	return text;
}

static bool is_back(struct world *w, uint64_t since_ns)
{
	for (unsigned s = 0; s < w->sides; s++)
		if (oracle_newest_cut_ns(&w->side[s]) < since_ns)
			return false;
	return true;
}

static void all_back(struct world *w, uint64_t since_ns)
{
	char text[300];
	for (unsigned n = 0; n < BACK_S && !is_back(w, since_ns); n++)
		world_run_until(w->now_ns + WORLD_S);
	for (unsigned s = 0; s < w->sides; s++)
		if (oracle_newest_cut_ns(&w->side[s]) < since_ns)
			world_wrong("%s has no new point %d s after the last fault (L1): %s", w->side[s].config.name, BACK_S,
				    why_late(&w->side[s], text));
}

static void all_within(struct world *w)
{
	char text[300];
	for (unsigned s = 0; s < w->sides; s++) {
		struct side *side = &w->side[s];
		uint64_t cut_ns = oracle_newest_cut_ns(side), most_ns = (side->config.rpo_ms + SLACK_MS) * WORLD_MS;
		if (w->now_ns - cut_ns > most_ns)
			world_wrong("%s: the newest point is %llu ms old, the RPO is %llu ms (L1): %s", side->config.name,
				    (unsigned long long)((w->now_ns - cut_ns) / WORLD_MS), (unsigned long long)side->config.rpo_ms,
				    why_late(side, text));
	}
}

// A pass of the scrub over what had a bit turned: then what is damaged is known, and the newest point is whole again.
static void scrubbed(struct world *w)
{
	for (unsigned s = 0; s < w->sides; s++) {
		struct side *side = &w->side[s];
		struct err err = {0};
		if (!side->fault_store)
			continue;
		if (scrub_begin(store_find(w->store, side->config.name), 0, SCRUB_RATE_DEFAULT, &err))
			world_wrong("%s: no scrub: %s", side->config.name, err.text);
		w->scrubs = true;
	}
	for (unsigned n = 0; n < 120 && w->scrubs; n++)
		world_run_until(w->now_ns + WORLD_S);
	if (w->scrubs)
		world_wrong("a pass of the scrub does not end");
	for (unsigned s = 0; s < w->sides; s++)
		w->side[s].rot_known = true;
	uint64_t since_ns = w->now_ns;
	all_back(w, since_ns); // with what was sent again
}

static bool all_proven(const struct world *w)
{
	for (unsigned s = 0; s < w->sides; s++)
		for (uint16_t d = 0; w->side[s].export && d < w->side[s].config.disk_count; d++)
			if (export_group(w->side[s].export)->volume[d].audit.count)
				return false;
	return true;
}

// Every hole that was believed gets read, and what was false is dirty, and then a point.
static void audited(struct world *w)
{
	for (unsigned n = 0; n < 120 && !all_proven(w); n++)
		world_run_until(w->now_ns + WORLD_S);
	if (!all_proven(w))
		world_wrong("holes that were believed are not read");
	all_back(w, w->now_ns);
}

// An operator has everything compared: a point comes of it, for that reason alone.
static void compared(struct world *w)
{
	uint64_t before = w->did.synced[SYNC_ASKED], since_ns = w->now_ns;
	for (unsigned s = 0; s < w->sides; s++) {
		struct side *side = &w->side[s];
		struct err err = {0};
		uint64_t cycle = 0;
		side->asked = true;
		if (!side->protection || protection_cycle(side->protection, true, &cycle, &err))
			world_wrong("%s: a comparison is asked for and refused: %s", side->config.name, err.text);
	}
	all_back(w, since_ns);
	if (w->did.synced[SYNC_ASKED] < before + w->sides)
		world_wrong("a comparison was asked for and not made");
}

static void end_programs(struct world *w)
{
	w->over = true;
	w->source.stop = w->receiver.stop = true;
	for (unsigned n = 0; n < 6000 && !(task_ended(w->source.life_task) && task_ended(w->receiver.life_task)); n++) {
		if (task_ended(w->source.life_task))
			task_wake(w->receiver.life_task);
		task_wake(w->source.life_task);
		world_run_until(w->now_ns + 100 * WORLD_MS);
	}
}

static void tear_down(struct world *w)
{
	for (unsigned s = 0; s < w->sides; s++) {
		oracle_side_end(&w->side[s]);
		guest_free(&w->side[s]);
	}
	world_end();
}

// The source is without power for most of what is left of an objective: its clock begins at 0 then, and the point was cut before.
static void reboot(struct world *w)
{
	world_run_until(60 * WORLD_S);
	if (!is_back(w, 1))
		world_wrong("no point after a minute without faults");
	uint64_t rpo_ms = UINT64_MAX;
	for (unsigned s = 0; s < w->sides; s++)
		rpo_ms = min_u64(rpo_ms, w->side[s].config.rpo_ms);
	w->source.down_ns = (rpo_ms - 60000) / 4 * 3 * WORLD_MS;
	host_end(&w->source, true);
	uint64_t over_ns = w->now_ns + w->source.down_ns;
	while (w->now_ns < over_ns + 40 * LONG * WORLD_S) {
		world_run_until(w->now_ns + WORLD_S);
		all_within(w);
	}
}

static void faults_and_back(struct world *w, const struct world_plan *plan)
{
	if (plan->faults)
		world_fault(w, 0);
	world_run_until(w->now_ns + (FAULTY_S + world_draw(FAULTY_S)) * WORLD_S);
	w->quiet = true;
	mend(w);
	operated(w);
	uint64_t since_ns = w->now_ns;
	all_back(w, since_ns);
	for (unsigned s = 0; s < STEADY_S * 4; s++) {
		world_run_until(w->now_ns + WORLD_S / 4);
		all_within(w);
	}
	audited(w);
	scrubbed(w);
	compared(w);
}

void world_scenario(uint64_t seed, const struct world_plan *plan)
{
	struct world *w = the_world;
	world_begin(seed);
	w->calm = !plan->faults;
	set_up(w, plan);
	world_run_until(world_draw(10) * WORLD_S);
	if (plan->reboots)
		reboot(w);
	else
		faults_and_back(w, plan);
	for (unsigned s = 0; s < w->sides; s++)
		oracle_points(&w->side[s], true);
	end_programs(w);
	tear_down(w);
}
