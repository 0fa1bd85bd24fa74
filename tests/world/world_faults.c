// SPDX-License-Identifier: Apache-2.0
// What happens to a world: from the seed, one thing after the other, each counted by its name.
//
// Some of it can happen only while a program is away: it waits for the next time that it is.
#include "tests/world/world.h"

#include "tests/world/world_seed.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *world_fault_name(enum world_fault fault)
{
	static const char *const names[WORLD_FAULTS] = {
		"power-cut-source", "power-cut-receiver", "kill-source", "kill-receiver", "restart-source", "restart-receiver", "io-error-source",
		"io-error-receiver", "full-disk-source", "full-disk-receiver", "clock-step-source", "clock-step-receiver", "resize",
		"resize-while-away", "network-down", "connection-cut", "connection-cut-at-a-byte", "connection-stalled", "connection-silent",
		"bit-of-a-state-file", "bit-of-a-base", "bit-of-a-table", "bit-of-a-point", "bit-of-a-head",
		"state-file-gone", "false-hole", "state-files-exchanged", "image-changed-while-away", "replica-gone", "bit-of-a-file-kept-twice", "bits-of-a-file-and-its-copy", "broken-replica-removed", "state-directory-dead",
	};
	return names[fault];
}

void world_happened(enum world_fault fault)
{
	the_world->did.fault[fault]++;
}

// ---- while programs run

// What a start would have to know is in no file and, if that is so, not with the receiver: who loses the power then is told of nothing, by design (docs/format-state.md, "What is left").
static uint64_t untold(const struct world *w, bool *ret_told)
{
	uint64_t disks = 0;
	*ret_told = false;
	for (unsigned s = 0; s < w->sides; s++) {
		const struct protection *p = w->side[s].protection;
		disks |= p ? p->doubt.lost & ~p->doubt.told : 0;
		*ret_told |= p && p->doubt.told;
	}
	return disks;
}

static void crash(struct host *host)
{
	bool power = world_one_in(2), told;
	if (host == &the_world->source && (host->state_dead || untold(the_world, &told)))
		power = false;
	host->down_ns = world_draw(world_one_in(3) ? 40 : 3) * WORLD_S;
	if (world_one_in(3))
		host_end(host, power);
	else
		host_arm(host, world_draw(world_one_in(2) ? 12 : 400), power);
}

void world_restart(struct host *host)
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
	if (host->dead)
		return;
	if (host == &w->source)
		for (unsigned s = 0; s < w->sides; s++)
			w->side[s].fault_state = w->side[s].fault_image = true; // any of them may meet it
	else
		w->receiver_io_error = true;
	host_fail(host, world_draw(200), -EIO);
	world_note("an I/O error waits at %s", host->name);
}

void world_space_back(void *context, uint64_t value)
{
	(void)value;
	struct host *host = context;
	host->full = false;
	sim_set_space(host->sim, UINT64_C(1) << 40);
}

enum { DEAD_LOOKS = 100, DEAD_LOOK_MS = 200 };

// The power goes off once the receiver knows of all that is lost, and nothing else does; where that does not come about, the directory is well again.
static void state_dead_look(void *context, uint64_t looks)
{
	struct world *w = context;
	bool told;
	if (!w->source.state_dead || w->source.dead)
		return;
	uint64_t disks = untold(w, &told);
	if (w->quiet || looks == 0 || w->source.stop) {
		host_state_dies(&w->source, false);
	} else if (told && !disks) {
		world_happened(FAULT_STATE_DEAD);
		oracle_poll(); // what was committed until now ends nothing of what follows
		for (unsigned s = 0; s < w->sides; s++) {
			const struct protection *p = w->side[s].protection;
			w->side[s].behind |= p && p->doubt.lost;
			w->side[s].doubted |= p ? p->doubt.told : 0;
		}
		w->source.down_ns = world_draw(5) * WORLD_S;
		host_end(&w->source, true);
	} else {
		world_at(w->now_ns + DEAD_LOOK_MS * WORLD_MS, state_dead_look, w, looks - 1);
	}
}

// It takes no write any more, and no name: guests go on, unmarked.
static void state_dies(struct world *w)
{
	bool told;
	if (w->source.dead || !w->source.up || w->source.stop || w->source.state_dead || w->source.halt_op != SIM_NEVER || untold(w, &told))
		return;
	for (unsigned s = 0; s < w->sides; s++)
		w->side[s].fault_state = true;
	w->state_died = true;
	world_note("the state directory of %s takes nothing any more", w->source.name);
	host_state_dies(&w->source, true);
	state_dead_look(w, DEAD_LOOKS);
}

static void full_disk(struct world *w)
{
	struct host *host = world_one_in(3) ? &w->source : &w->receiver;
	if (host->dead)
		return;
	if (host == &w->source)
		for (unsigned s = 0; s < w->sides; s++)
			w->side[s].fault_state = w->side[s].fault_image = true;
	world_happened(host == &w->source ? FAULT_FULL_SOURCE : FAULT_FULL_RECEIVER);
	host->full = true;
	world_note("the disk of %s is full", host->name);
	sim_set_space(host->sim, world_draw(300000));
	world_at(w->now_ns + world_draw(20) * WORLD_S, world_space_back, host, 0);
}

static void clock_step(struct world *w)
{
	static const int64_t steps_s[] = {-3600, -86400, 3600, 86400, -30 * 86400, 400 * 86400, 5, -5};
	struct host *host = world_one_in(2) ? &w->source : &w->receiver;
	if (host->dead)
		return;
	world_happened(host == &w->source ? FAULT_CLOCK_SOURCE : FAULT_CLOCK_RECEIVER);
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
	world_happened(FAULT_RESIZE);
	side->resized = true;
	for (uint64_t r = disk->size / REGION_SIZE; r < size_regions(size); r++)
		disk->marked[r] = true; // in the larger file
	p->resize = (struct resize){.disk = d, .size = size, .asked = true};
	world_note("%s: disk %u from %llu to %llu bytes", side->config.name, d, (unsigned long long)disk->size, (unsigned long long)size);
	protection_wake(p);
}

// Of what lies behind the first `after` bytes.
static bool turn_bit(struct host *host, const char *root_name, const char *name, uint64_t after)
{
	struct env_root *root = NULL;
	struct env_file *file = NULL;
	uint64_t size = 0;
	bool turned = false;
	host_oracle_begin(host);
	if (env_root_open(sim_env(host->sim), root_name, &root) == 0 && env_open(root, name, ENV_WRITE, &file) == 0 &&
	    env_size(file, &size) == 0 && size > after) {
		static const unsigned char hole[SECTOR_SIZE];
		unsigned char byte = 0, sector[SECTOR_SIZE] = {0};
		uint64_t at = after + world_draw(size - after);
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
	if (turned)
		world_note("a bit of %s turns", name);
	return turned;
}

// A name under a directory of the store, as it may come; false: there is none.
static bool some_name(struct host *host, const char *dir, char name[NAME_SIZE + 16])
{
	struct env_root *root = NULL;
	char **names = NULL;
	size_t count = 0;
	host_oracle_begin(host);
	if (env_root_open(sim_env(host->sim), "/store", &root) == 0 && env_list(root, dir, &names, &count) == 0 && count)
		(void)snprintf(name, NAME_SIZE + 16, "%s", names[world_draw(count)]);
	bool some = count > 0;
	env_list_free(names, count);
	env_root_close(root);
	host_oracle_end(host);
	return some;
}

static bool rotted(struct side *side, const char *name, uint64_t after, enum world_fault kind)
{
	if (!turn_bit(&the_world->receiver, "/store", name, after))
		return false;
	side->fault_store = true;
	side->rot_known = false;
	world_happened(kind);
	return true;
}

enum { HEADER = 512, HEAD_LOOKS = 400, HEAD_TRIES = 8 }; // of an overlay: small; for a head, in each of which most is a hole yet

// What is below the head is not read before it is a point. A head is there for moments: waits for one.
static void rot_head(void *context, uint64_t looks)
{
	struct world *w = the_world;
	struct side *side = context;
	char dir[NAME_SIZE + 32], in[NAME_SIZE + 16], name[4 * NAME_SIZE];
	if (w->quiet || w->receiver.dead || !looks)
		return;
	(void)snprintf(dir, sizeof(dir), "%s/head", side->config.name);
	for (unsigned n = 0; n < HEAD_TRIES && some_name(&w->receiver, dir, in); n++) {
		(void)snprintf(name, sizeof(name), "%s/%s", dir, in);
		if (rotted(side, name, world_one_in(8) ? 0 : HEADER, FAULT_ROT_HEAD))
			return;
	}
	world_at(w->now_ns + (1 + world_draw(60)) * WORLD_MS, rot_head, side, looks - 1);
}

// An error while it was written may have left the one alone, until the next start.
static bool is_there(struct host *host, const char *name)
{
	struct env_root *root = NULL;
	struct env_stat st = {.size = 0};
	host_oracle_begin(host);
	bool there = env_root_open(sim_env(host->sim), "/store", &root) == 0 && env_stat(root, name, &st) == 0 && st.size > 0;
	env_root_close(root);
	host_oracle_end(host);
	return there;
}

// Of a small file on which all depends. One of the two that it is kept as costs nothing; both make the replica broken at the next start, and that is the operator's.
static void rot_kept_twice(struct side *side)
{
	static const char *const copy[] = {"", ".copy"};
	char dir[NAME_SIZE + 32], in[NAME_SIZE + 16], name[4 * NAME_SIZE], one[4 * NAME_SIZE + 8], other[4 * NAME_SIZE + 8];
	bool both = world_one_in(8), of_point = !world_one_in(3);
	unsigned first = (unsigned)world_draw(2);
	(void)snprintf(dir, sizeof(dir), "%s/points", side->config.name);
	if (of_point && !some_name(&the_world->receiver, dir, in))
		return; // no point yet
	if (of_point)
		(void)snprintf(name, sizeof(name), "%s/%s/point.json", dir, in);
	else
		(void)snprintf(name, sizeof(name), "%s/protection.json", side->config.name);
	(void)snprintf(one, sizeof(one), "%s%s", name, copy[first]);
	side->rotten_files++; // also where a write fails it may be there
	(void)snprintf(other, sizeof(other), "%s%s", name, copy[!first]);
	side->rotten_files += !is_there(&the_world->receiver, other); // as if both had been
	if (!rotted(side, one, 0, FAULT_ROT_FILE) || !both)
		return;
	side->rotten_files += rotted(side, other, 0, FAULT_ROT_TWICE);
}

// Of what the store holds of a protection. In what blocks hold, in tables and lists, sessions and the scrub find it, and the source sends it again; the header of
// an overlay is written anew, and what is kept twice is read from its copy.
static void rot_store(struct world *w)
{
	static const enum world_fault kinds[] = {FAULT_ROT_BASE, FAULT_ROT_BASE, FAULT_ROT_TABLE, FAULT_ROT_POINT, FAULT_ROT_POINT, FAULT_ROT_HEAD, FAULT_ROT_FILE};
	enum world_fault kind = kinds[world_draw(sizeof(kinds) / sizeof(kinds[0]))];
	struct side *side = &w->side[world_draw(w->sides)];
	const char *disk = side->config.disk[world_draw(side->config.disk_count)].name;
	bool list = kind == FAULT_ROT_POINT && world_one_in(3);
	char dir[NAME_SIZE + 32], in[NAME_SIZE + 16], name[4 * NAME_SIZE];
	if (w->receiver.dead)
		return;
	if (kind == FAULT_ROT_HEAD) {
		rot_head(side, HEAD_LOOKS);
		return;
	}
	if (kind == FAULT_ROT_FILE) {
		rot_kept_twice(side);
		return;
	}
	(void)snprintf(dir, sizeof(dir), "%s/points", side->config.name);
	if (kind == FAULT_ROT_BASE || kind == FAULT_ROT_TABLE)
		(void)snprintf(name, sizeof(name), "%s/base/%s.%s", side->config.name, disk, kind == FAULT_ROT_BASE ? "raw" : "digests");
	else if (!some_name(&w->receiver, dir, in))
		return; // no point yet
	else
		(void)snprintf(name, sizeof(name), "%s/%s/%s.%s", dir, in, disk, list ? "digests" : "qcow2");
	(void)rotted(side, name, list || kind == FAULT_ROT_TABLE || world_one_in(8) ? 0 : HEADER, kind);
}

// ---- while the source is away

static void state_name(const struct side *side, uint16_t d, char name[2 * NAME_SIZE + 32])
{
	(void)snprintf(name, 2 * NAME_SIZE + 32, "protections/%s/%s.state", side->config.name, side->config.disk[d].name);
}

// A bit of a state file: found, and said.
static void rot_state(struct side *side, uint16_t d)
{
	char name[2 * NAME_SIZE + 32];
	state_name(side, d, name);
	if (!turn_bit(&the_world->source, "/state", name, 0))
		return;
	side->fault_state = true;
	world_happened(FAULT_ROT_STATE);
}

static void lose_state(struct env_root *state, struct side *side, uint16_t d)
{
	char name[2 * NAME_SIZE + 32];
	state_name(side, d, name);
	if (env_unlink(state, name))
		return;
	side->fault_state = true;
	world_happened(FAULT_STATE_GONE);
	world_note("%s: the state file of disk %u is gone", side->config.name, d);
}

// As an operator's backup may put them back.
static void exchange_states(struct env_root *state, struct side *side, uint16_t d, struct side *other, uint16_t e)
{
	char one[2 * NAME_SIZE + 32], two[2 * NAME_SIZE + 32];
	state_name(side, d, one);
	state_name(other, e, two);
	if ((side == other && d == e) || env_rename(state, one, "between"))
		return;
	other->fault_state = side->fault_state = true;
	if (env_rename(state, two, one) || env_rename(state, "between", two))
		return;
	world_happened(FAULT_STATES_EXCHANGED);
	world_note("the state files of %s, disk %u, and %s, disk %u, are exchanged", side->config.name, d, other->config.name, e);
}

// Behind the back of a replicator that stopped in order: after a crash nobody could tell it from the guest's own writes.
static void change_image(struct side *side, uint16_t d, bool longer)
{
	struct side_disk *disk = &side->disk[d];
	struct env_file *file = NULL;
	uint64_t size = disk->size + (1 + world_draw(BLOCKS_PER_REGION)) * SECTOR_SIZE * (world_one_in(2) ? 128 : 1);
	uint64_t at = world_draw(disk->size / SECTOR_SIZE) * SECTOR_SIZE;
	unsigned char sector[SECTOR_SIZE];
	if ((!longer && side->unclean) || (longer && size_blocks(size) > disk->blocks_max) ||
	    env_open(the_world->images, side->config.disk[d].path, ENV_WRITE, &file))
		return;
	memset(sector, (int)world_draw(256), sizeof(sector));
	int rc = longer ? env_truncate(file, size) : env_pwrite(file, sector, sizeof(sector), at);
	if (rc == 0)
		rc = env_sync(file);
	env_close(file);
	if (rc == -ENOSPC)
		return;
	if (rc && rc != -ESHUTDOWN) // its host lost its power meanwhile: what is there is old, new or torn, and the file's time tells of it
		world_wrong("an image cannot be changed by the test (%d)", rc);
	disk->mtime_ns = ++the_world->now_ns;
	disk->unflushed[at / BLOCK_SIZE] = true; // no guest wrote what is there
	side->resized |= longer;
	side->fault_image |= !longer;
	for (uint64_t r = disk->size / REGION_SIZE; longer && r < size_regions(size); r++)
		disk->unsure[r] = true; // marked by the first start that sees it, which may come to no more than that
	world_happened(longer ? FAULT_RESIZE_AWAY : FAULT_IMAGE_CHANGED);
	world_note("%s: the image of disk %u is %s while nobody serves it", side->config.name, d, longer ? "made longer" : "changed");
}

static void away_source(struct env_root *state)
{
	struct world *w = the_world;
	struct side *side = &w->side[world_draw(w->sides)], *other = &w->side[world_draw(w->sides)];
	uint16_t d = (uint16_t)world_draw(side->config.disk_count), e = (uint16_t)world_draw(other->config.disk_count);
	uint64_t what = world_draw(5);
	if (!side->made || !other->made)
		return;
	if (what == 0)
		rot_state(side, d);
	else if (what == 1)
		lose_state(state, side, d);
	else if (what == 2)
		exchange_states(state, side, d, other, e);
	else
		change_image(side, d, what == 3);
}

void world_away_source(struct env_root *state)
{
	struct world *w = the_world;
	host_oracle_begin(&w->source);
	for (; w->away_source; w->away_source--)
		away_source(state);
	host_oracle_end(&w->source);
}

// ---- while the receiver is away

// All that the store has of a protection: its volume is another one now, and empty.
static void remove_replica(struct side *side, enum world_fault why)
{
	struct world *w = the_world;
	if (env_remove_tree(w->store_root, side->config.name))
		return;
	(void)env_sync_dir(w->store_root, ".");
	for (struct snapshot *s = side->sealed; s; s = s->next)
		s->gone = true;
	side->replica_gone = true;
	side->acked_point = side->checked_point = 0;
	side->fault_store = side->rotten = false;
	side->rotten_files = 0;
	world_happened(why);
	world_note("%s is gone from the store", side->config.name);
}

void world_away_receiver(void)
{
	struct world *w = the_world;
	host_oracle_begin(&w->receiver);
	for (unsigned s = 0; s < w->sides; s++)
		if (w->side[s].rotten)
			remove_replica(&w->side[s], FAULT_REPLICA_REMOVED);
	for (; w->away_receiver; w->away_receiver--)
		remove_replica(&w->side[world_draw(w->sides)], FAULT_REPLICA_GONE);
	host_oracle_end(&w->receiver);
}

// ---- the operator

// Puts seeds there that are missing.
static void bring_seeds(struct side *side)
{
	struct world *w = the_world;
	const struct protection *p = side->protection;
	if (!p || !p->config.seed_since_wall_ns || (p->state != STATE_SEED && p->state != STATE_FAILED)) // failed: a clock went a year on
		return;
	w->did.seeds_awaited++;
	host_oracle_begin(&w->receiver);
	for (unsigned d = 0; d < side->config.disk_count; d++)
		(void)world_seed_make(sim_env(w->receiver.sim), side->config.name, side->config.disk[d].name, side->disk[d].size, world_seed_fill);
	host_oracle_end(&w->receiver);
}

// Its replica says that it is broken, not for an I/O error but since a bit turned where nothing goes on without it.
static bool is_rotten(const struct side *side)
{
	struct replica *replica = the_world->store ? store_find(the_world->store, side->config.name) : NULL;
	struct replica_info info = {.broken = false};
	if (replica)
		replica_info(replica, &info);
	if (!info.broken || !side->fault_store || strstr(info.broken_reason, strerror(EIO)) || strstr(info.broken_reason, strerror(ESHUTDOWN)) ||
	    strstr(info.broken_reason, "sync failed"))
		return false;
	if (side->rotten_files < 2)
		world_wrong("%s is broken, and no bit turned where nothing goes on without it: %s", side->config.name, info.broken_reason);
	return true;
}

// Away with it.
static void look_for_rot(struct side *side)
{
	if (the_world->receiver.stop || !is_rotten(side))
		return;
	side->rotten = true;
	world_restart(&the_world->receiver);
}

// Whether he will still restart the receiver, for a file that rotted with its copy.
bool world_operator_is_due(void)
{
	struct world *w = the_world;
	bool due = false, doubt = false;
	for (unsigned s = 0; s < w->sides; s++)
		doubt |= w->side[s].rotten_files > 1;
	for (unsigned s = 0; s < w->sides && doubt; s++)
		due |= !w->receiver.up || w->receiver.stop || w->side[s].rotten || is_rotten(&w->side[s]);
	return due;
}

// Does what the state of a protection asks for: looks now and then.
void world_operator(void *context, uint64_t value)
{
	struct world *w = the_world;
	(void)value;
	for (unsigned s = 0; s < w->sides && !w->receiver.dead && !sim_is_off(w->receiver.sim); s++) {
		bring_seeds(&w->side[s]);
		look_for_rot(&w->side[s]);
	}
	world_at(w->now_ns + (2 + world_draw(20)) * WORLD_S, world_operator, context, 0);
}

// ---- what happens next

void world_fault(void *context, uint64_t value)
{
	struct world *w = context;
	(void)value;
	if (w->quiet)
		return;
	switch (world_draw(23)) {
	case 0:
	case 1:
		crash(&w->source);
		break;
	case 2:
	case 3:
		crash(&w->receiver);
		break;
	case 4:
		world_restart(&w->source);
		break;
	case 5:
		world_restart(&w->receiver);
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
		world_happened(FAULT_NET_DOWN);
		break;
	case 11:
	case 12:
	case 13:
		w->away_source++;
		break;
	case 14:
		w->away_receiver += world_one_in(2);
		break;
	case 15:
	case 16:
	case 17:
		rot_store(w);
		break;
	case 18:
		state_dies(w);
		break;
	default:
		link_fault();
	}
	world_at(w->now_ns + world_draw(world_one_in(3) ? 12 : 4) * WORLD_S + world_draw(WORLD_S), world_fault, w, 0);
}

