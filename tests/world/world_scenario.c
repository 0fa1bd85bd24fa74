// SPDX-License-Identifier: Apache-2.0
// A scenario: hosts, protections and guests from the seed; faults for a while; then none, and everything must be back within its RPO by
// itself (L1); then both programs end in order, and every point is looked at once more.
#include "tests/world/world.h"

#include "replicator/group.h"
#include "receiver/scrub.h"
#include "replicator/site.h"
#include "tests/lib/twin.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	FAULTY_S = 60,	    // so long faults come, at most twice that
	BACK_S = 100,	    // from the last fault on a point must come: 30 s until a dead peer is found, 30 s of back-off, a transfer, the RPO
	STEADY_S = 20,	    // and then the age is within the RPO
	SLACK_MS = 1500,    // of the age: what the scheduler is told of late
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

static void make_side(struct world *w, unsigned number, unsigned disks_max)
{
	struct side *side = &w->side[number];
	struct protection_config *config = &side->config;
	struct env_root *images = NULL, *state = NULL;
	struct err err = {0};
	side->number = number;
	(void)snprintf(config->name, sizeof(config->name), "vm%u", number + 1);
	(void)snprintf(config->site, sizeof(config->site), "dr");
	config->rpo_ms = (4 + world_draw(10)) * 1000;
	config->points_keep = 1 + (uint32_t)world_draw(20);
	config->codec = world_one_in(3) ? CODEC_LZ4 : CODEC_ZSTD;
	config->digest.kind = DIGEST_XXH3;
	for (unsigned i = 0; i < DIGEST_SECRET_SIZE; i++)
		config->digest.secret[i] = (unsigned char)world_draw(256);
	for (unsigned i = 0; i < UUID_SIZE; i++) {
		config->uuid.bytes[i] = (unsigned char)(1 + world_draw(255));
		config->generation.bytes[i] = (unsigned char)(1 + world_draw(255));
	}
	config->disk_count = (uint16_t)(1 + world_draw(disks_max));
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
		make_side(w, s, plan->disks_max);
	sim_settle(w->source.sim);
	sim_settle(w->receiver.sim);
	w->source.life_task = task_start(&w->source, source_life, NULL);
	w->receiver.life_task = task_start(&w->receiver, receiver_life, NULL);
}

// ---- faults

static void crash(struct host *host)
{
	bool power = world_one_in(2);
	host->down_ns = world_draw(world_one_in(3) ? 40 : 3) * WORLD_S;
	if (world_one_in(3))
		host_end(host, power);
	else
		host_arm(host, world_draw(world_one_in(2) ? 12 : 400), power);
}

static void restart(struct host *host)
{
	if (host->dead)
		return;
	world_note("%s restarts", host->name);
	host->stop = true;
	host->down_ns = world_draw(10) * WORLD_S;
	task_wake(host->life_task);
}

static void io_error(struct world *w)
{
	struct host *host = world_one_in(2) ? &w->source : &w->receiver;
	w->did.io_errors++;
	if (host == &w->source)
		for (unsigned s = 0; s < w->sides; s++)
			w->side[s].fault_state = w->side[s].fault_image = true; // any of them may meet it
	else
		w->receiver_io_error = true;
	host_fail(host, world_draw(200), -EIO);
	world_note("an I/O error waits at %s", host->name);
}

static void space_back(void *context, uint64_t value)
{
	(void)value;
	sim_set_space(((struct host *)context)->sim, UINT64_C(1) << 40);
}

static void full_disk(struct world *w)
{
	struct host *host = world_one_in(3) ? &w->source : &w->receiver;
	if (host->dead)
		return;
	if (host == &w->source)
		for (unsigned s = 0; s < w->sides; s++)
			w->side[s].fault_state = w->side[s].fault_image = true;
	w->did.full++;
	world_note("the disk of %s is full", host->name);
	sim_set_space(host->sim, world_draw(300000));
	world_at(w->now_ns + world_draw(20) * WORLD_S, space_back, host, 0);
}

static void clock_step(struct world *w)
{
	static const int64_t steps_s[] = {-3600, -86400, 3600, 86400, -30 * 86400, 400 * 86400, 5, -5};
	struct host *host = world_one_in(2) ? &w->source : &w->receiver;
	if (host->dead)
		return;
	w->did.steps++;
	sim_clock_step(host->sim, steps_s[world_draw(8)] * INT64_C(1000000000));
}

// As protection_resize() asks, without waiting for the answer.
static void resize(struct world *w)
{
	struct side *side = &w->side[world_draw(w->sides)];
	struct protection *p = side->protection;
	if (!p || w->source.dead || p->resize.asked)
		return;
	uint16_t d = (uint16_t)world_draw(side->config.disk_count);
	struct side_disk *disk = &side->disk[d];
	uint64_t size = disk->size + (1 + world_draw(3 * BLOCKS_PER_REGION / 2)) * BLOCK_SIZE / (world_one_in(4) ? 128 : 1);
	if (size_blocks(size) > disk->blocks_max)
		return;
	w->did.resizes++;
	side->resized = true;
	for (uint64_t r = disk->size / REGION_SIZE; r < size_regions(size); r++)
		disk->marked[r] = true; // in the larger file
	p->resize = (struct resize){.disk = d, .size = size, .asked = true};
	world_note("%s: disk %u from %llu to %llu bytes", side->config.name, d, (unsigned long long)disk->size, (unsigned long long)size);
	protection_wake(p);
}

static bool turn_bit(struct host *host, const char *root_name, const char *name)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	uint64_t size = 0;
	bool turned = false;
	host_oracle_begin(host);
	if (env_root_open(sim_env(host->sim), root_name, &root) == 0 && env_open(root, name, ENV_WRITE, &file) == 0 &&
	    env_size(file, &size) == 0 && size) {
		static const unsigned char hole[SECTOR_SIZE];
		unsigned char byte = 0, sector[SECTOR_SIZE] = {0};
		uint64_t at = world_draw(size);
		size_t got = 0;
		(void)env_pread(file, sector, sizeof(sector), at - at % SECTOR_SIZE, &got);
		// A hole has no bits on any disk.
		if (memcmp(sector, hole, sizeof(sector)) != 0 && env_pread_full(file, &byte, 1, at) == 0) {
			byte ^= (unsigned char)(1u << world_draw(8));
			(void)env_pwrite(file, &byte, 1, at); // also where it fails it may be there
			(void)env_sync(file);
			turned = true;
		}
	}
	env_close(file);
	env_root_close(root);
	host_oracle_end(host);
	the_world->did.rot += turned;
	if (turned)
		world_note("a bit of %s turns", name);
	return turned;
}

// Of a state file, while nobody runs: found, and said.
void world_rot_states(void)
{
	struct world *w = the_world;
	for (; w->rot_states; w->rot_states--) {
		struct side *side = &w->side[world_draw(w->sides)];
		char name[2 * NAME_SIZE + 32];
		(void)snprintf(name, sizeof(name), "protections/%s/%s.state", side->config.name,
			       side->config.disk[world_draw(side->config.disk_count)].name);
		side->fault_state |= turn_bit(&w->source, "/state", name);
	}
}

// Of what lies under a protection's points: the scrub finds it, and the source sends it again.
static void rot_base(struct world *w)
{
	struct side *side = &w->side[world_draw(w->sides)];
	char name[2 * NAME_SIZE + 32];
	if (w->receiver.dead)
		return;
	(void)snprintf(name, sizeof(name), "%s/base/%s.raw", side->config.name, side->config.disk[world_draw(side->config.disk_count)].name);
	side->fault_store |= turn_bit(&w->receiver, "/store", name);
}

static void fault(void *context, uint64_t value)
{
	struct world *w = context;
	(void)value;
	if (w->quiet)
		return;
	switch (world_draw(17)) {
	case 0:
	case 1:
		crash(&w->source);
		break;
	case 2:
	case 3:
		crash(&w->receiver);
		break;
	case 4:
		restart(&w->source);
		break;
	case 5:
		restart(&w->receiver);
		break;
	case 6:
		io_error(w);
		break;
	case 7:
		full_disk(w);
		break;
	case 8:
		clock_step(w);
		break;
	case 9:
		resize(w);
		break;
	case 10:
		w->net_down_until_ns = w->now_ns + world_draw(15) * WORLD_S;
		break;
	case 11:
		w->rot_states++;
		break;
	case 12:
		rot_base(w);
		break;
	default:
		link_fault();
	}
	world_at(w->now_ns + world_draw(world_one_in(3) ? 12 : 4) * WORLD_S + world_draw(WORLD_S), fault, w, 0);
}

// ---- the end

// What a disk did to a program stays until its operator has mended the disk and restarted it (V3, BROKEN): that is done here, once.
static void mend(struct world *w)
{
	bool source = false, receiver = w->receiver_io_error;
	for (unsigned s = 0; s < w->sides; s++)
		source |= w->side[s].failed || w->side[s].fault_image;
	space_back(&w->source, 0);
	space_back(&w->receiver, 0);
	w->net_down_until_ns = 0;
	host_disarm(&w->source);
	host_disarm(&w->receiver);
	w->source.down_ns = w->receiver.down_ns = WORLD_S;
	if (source)
		restart(&w->source);
	if (receiver)
		restart(&w->receiver);
	w->receiver_io_error = false;
	task_wake(w->source.life_task);
	task_wake(w->receiver.life_task);
	link_quiet();
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

void world_scenario(uint64_t seed, const struct world_plan *plan)
{
	struct world *w = the_world;
	world_begin(seed);
	set_up(w, plan);
	world_run_until(world_draw(10) * WORLD_S);
	if (plan->faults)
		fault(w, 0);
	world_run_until(w->now_ns + (FAULTY_S + world_draw(FAULTY_S)) * WORLD_S);
	w->quiet = true;
	mend(w);
	uint64_t since_ns = w->now_ns;
	all_back(w, since_ns);
	for (unsigned s = 0; s < STEADY_S * 4; s++) {
		world_run_until(w->now_ns + WORLD_S / 4);
		all_within(w);
	}
	scrubbed(w);
	for (unsigned s = 0; s < w->sides; s++)
		oracle_points(&w->side[s], true);
	end_programs(w);
	tear_down(w);
}
