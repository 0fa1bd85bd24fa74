// SPDX-License-Identifier: Apache-2.0
// What must be true, whatever happened: every committed point is what the disks held at its cut (R1, R2), what differs is dirty (B1), and
// nothing is a candidate that need not be, but for a listed reason (B5).
#include "tests/world/world.h"

#include "replicator/group.h"
#include "receiver/scrub.h"
#include "tests/lib/layers.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- snapshots

static void snapshot_free(struct snapshot *snapshot)
{
	for (uint16_t d = 0; snapshot && d < snapshot->disks; d++) {
		for (uint64_t b = 0; b < size_blocks(snapshot->size[d]); b++)
			content_set(&snapshot->block[d][b], NULL);
		free((void *)snapshot->block[d]);
		free(snapshot->unproven[d]);
	}
	free(snapshot);
}

static struct snapshot *snapshot_take(const struct side *side, struct export *export)
{
	struct snapshot *snapshot = calloc(1, sizeof(*snapshot));
	assert(snapshot);
	snapshot->disks = side->config.disk_count;
	snapshot->taken_ns = the_world->now_ns;
	for (uint16_t d = 0; d < snapshot->disks; d++) {
		uint64_t blocks = size_blocks(side->disk[d].size);
		snapshot->size[d] = side->disk[d].size;
		snapshot->block[d] = calloc(blocks + 1, sizeof(struct content *));
		snapshot->unproven[d] = calloc(blocks + 1, sizeof(bool));
		assert(snapshot->block[d] && snapshot->unproven[d]);
		for (uint64_t b = 0; b < blocks; b++) {
			content_set(&snapshot->block[d][b], side->disk[d].image[b]);
			snapshot->unproven[d][b] = audit_unproven(&export_group(export)->volume[d].audit, b);
		}
	}
	return snapshot;
}

static struct snapshot *snapshot_find(const struct side *side, const struct uuid *cut)
{
	struct snapshot *s = side->sealed;
	while (s && !uuid_equal(&s->cut, cut))
		s = s->next;
	return s;
}

// Of a point whose point.json rotted with its copy: it was put together, and has a cut of its own where nobody remembered the old one.
static const struct snapshot *snapshot_of_point(const struct side *side, const struct point_info *point)
{
	struct snapshot *s = snapshot_find(side, &point->cut);
	if (s) {
		s->number = point->number;
		return s;
	}
	s = side->rotten_files > 1 ? side->sealed : NULL;
	while (s && (s->gone || s->number != point->number))
		s = s->next;
	return s;
}

void oracle_side_end(struct side *side)
{
	snapshot_free(side->taken);
	side->taken = NULL;
	while (side->sealed) {
		struct snapshot *next = side->sealed->next;
		snapshot_free(side->sealed);
		side->sealed = next;
	}
}

// ---- tracking

static bool full_reason(enum sync_reason reason)
{
	return reason != SYNC_NONE && reason != SYNC_UNCLEAN_STOP;
}

// B5: each reason has its cause in what was done to this world.
static void reason_listed(const struct side *side, const struct protection *p, enum sync_reason reason)
{
	bool good = true;
	switch (reason) {
	case SYNC_NONE:
		return;
	case SYNC_INITIAL:
		good = side->acked_point == 0 || side->replica_gone;
		break;
	case SYNC_UNCLEAN_STOP:
		good = side->unclean || side->fault_state || side->fault_image;
		break;
	case SYNC_STATE_MISSING:
	case SYNC_STATE_UNREADABLE:
	case SYNC_TRACKING_LOST:
		good = side->fault_state;
		break;
	case SYNC_TRACKING_DOUBT:
		good = side->lost_track;
		break;
	case SYNC_STATE_FOREIGN: // or the files were being written when it ended, and some name no cut: a sync of all is due anyway
		good = side->fault_state || side->nowhere;
		break;
	case SYNC_RESIZED:
		good = side->resized;
		break;
	case SYNC_ASKED:
		good = side->asked;
		break;
	case SYNC_FALSE_HOLE:
		good = side->lied;
		break;
	case SYNC_REPLICA_DAMAGED:
		good = side->fault_store;
		break;
	case SYNC_IMAGE_CHANGED:
		good = side->fault_image;
		break;
	case SYNC_POSITION: // tracking that was lost names no cut until a point is committed, nor does a disk with a false hole; a point put together has one of its own
		good = side->rotten_files > 1 || side->nowhere || side->behind || side->lied || side->fault_state || side->fault_image || side->replica_gone;
		break;
	}
	if (!good && reason != side->standing)
		world_wrong("%s: a sync for the reason %s, which nothing here gave (B5)", p->config.name, sync_reason_name(reason));
}

static bool is_dirty(const struct volume *volume, uint64_t b)
{
	return dirty_mask(&volume->dirty, b) || dirty_mask(&volume->set, b) ||
	       volume->remembered[b / BLOCKS_PER_REGION] >> b % BLOCKS_PER_REGION & 1 || audit_unproven(&volume->audit, b);
}

// B1: of this cut, what differs is dirty, or was told as a hole and will be read (replicator/audit.h). Not of those disks (a bit each).
static void superset(const struct side *side, struct export *export, const struct uuid *cut, uint64_t but, const char *when)
{
	const struct snapshot *s = uuid_is_zero(cut) ? NULL : snapshot_find(side, cut);
	if (!s && !uuid_is_zero(cut))
		return; // names no cut
	for (uint16_t d = 0; d < side->config.disk_count; d++) {
		const struct volume *volume = &export_group(export)->volume[d];
		for (uint64_t b = 0; b < size_blocks(side->disk[d].size) && !(but >> d & 1); b++) {
			const struct content *then = s && b < size_blocks(s->size[d]) ? s->block[d][b] : NULL;
			the_world->did.b1_blocks++;
			if (side->disk[d].image[b] != then && !is_dirty(volume, b) && !content_equal(side->disk[d].image[b], then))
				world_wrong("%s, disk %u, block %llu differs from the cut and is not dirty, %s (B1)", side->config.name, d,
					    (unsigned long long)b, when);
		}
	}
}

static void resize_known(struct side *side, uint16_t d, uint64_t size)
{
	struct side_disk *disk = &side->disk[d];
	for (uint64_t b = size_blocks(size); b < size_blocks(disk->size); b++) {
		if (!disk->unflushed[b] && disk->flushed[b])
			world_wrong("%s, disk %u: what was flushed is cut off (G2)", side->config.name, d);
		content_set(&disk->image[b], NULL);
		content_set(&disk->acked[b], NULL);
		content_set(&disk->flushed[b], NULL);
		disk->unflushed[b] = false;
	}
	disk->size = size;
}

static void loaded_disk(struct side *side, struct export *export, struct protection *p, uint16_t d)
{
	struct side_disk *disk = &side->disk[d];
	const struct dirty *dirty = export_dirty(export, d);
	enum sync_reason reason = p->tracking[d].sync;
	if (p->sync != SYNC_INITIAL)
		reason_listed(side, p, reason);
	if (reason != SYNC_NONE)
		the_world->did.found[reason]++;
	disk->coarsened = dirty->coarsened;
	for (uint64_t b = 0; b < size_blocks(disk->size); b++) {
		uint64_t r = b / BLOCKS_PER_REGION;
		disk->allowed[b] = dirty_mask(dirty, b) != 0;
		disk->touched[b] = false;
		disk->told[b] |= audit_unproven(&export_group(export)->volume[d].audit, b);
		if (disk->allowed[b] && reason == SYNC_UNCLEAN_STOP && !disk->marked[r] && !disk->unsure[r])
			world_wrong("%s, disk %u: region %llu is examined, and was not marked (B5)", side->config.name, d, (unsigned long long)r);
		the_world->did.reexamined_bytes += reason == SYNC_UNCLEAN_STOP && disk->allowed[b] ? BLOCK_SIZE : 0;
	}
	for (uint64_t r = 0; r < size_regions(disk->size); r++) {
		the_world->did.marked_bytes += reason == SYNC_UNCLEAN_STOP && (disk->marked[r] || disk->unsure[r]) ? REGION_SIZE : 0;
		disk->marked[r] = dirty->region[r] != NULL;
		disk->unsure[r] = false;
	}
}

// A sync that no disk is a reason for is one that an earlier process came to no point with, or one that it had just begun: not one that has ended.
static void owed_sync(struct side *side, const struct protection *p)
{
	bool found = false;
	for (uint16_t d = 0; d < side->config.disk_count; d++)
		found |= p->tracking[d].sync == p->sync;
	if (found || side->fault_state || side->owed >> p->sync & 1)
		return;
	side->standing = SYNC_NONE;
	reason_listed(side, p, p->sync);
}

// What happened to the state files and the images before this start is known now, and was said if it had to be: from here on it is no
// reason any more, unless it goes on.
static void old_faults_end(struct side *side, const struct protection *p)
{
	const struct host *host = &the_world->source;
	side->standing = p->sync;
	side->nowhere |= full_reason(p->sync);
	if (host->fail_op != SIM_NEVER || host->full)
		return;
	for (uint16_t d = 0; d < side->config.disk_count; d++)
		if (p->tracking[d].lost)
			return;
	side->fault_state = side->fault_image = side->resized = false;
}

void oracle_loaded(struct side *side, struct export *export, struct protection *p)
{
	for (uint16_t d = 0; d < side->config.disk_count; d++)
		resize_known(side, d, export_disk_size(export, d));
	guest_reread(side);
	side->took = false;
	for (uint16_t d = 0; d < side->config.disk_count; d++)
		loaded_disk(side, export, p, d);
	if (p->position_known) { // of disks in doubt the receiver says so before the first cut
		superset(side, export, &p->position.last_cut, side->doubted, "after the start");
		if (!uuid_is_zero(&p->position.pending_cut))
			superset(side, export, &p->position.pending_cut, side->doubted, "after the start, for the cut whose answer was lost");
	}
	owed_sync(side, p);
	old_faults_end(side, p);
}

void oracle_marks(struct side *side, uint16_t d, const uint64_t *set, size_t sets, const uint64_t *clear, size_t clears, bool ok)
{
	struct side_disk *disk = &side->disk[d];
	for (size_t i = 0; ok && i < clears; i++) {
		disk->marked[clear[i]] = false;
		disk->unsure[clear[i]] = true;
	}
	for (size_t i = 0; i < sets; i++)
		disk->marked[set[i]] = true;
}

static void check_told(struct side *side, uint16_t d, uint64_t b)
{
	struct side_disk *disk = &side->disk[d];
	if (disk->writers[b] || disk->image[b] == disk->acked[b])
		return;
	if (!content_equal(disk->image[b], disk->acked[b]))
		world_wrong("%s, disk %u, block %llu: the cut does not hold what was acknowledged before it (R2)", side->config.name, d,
			    (unsigned long long)b);
	content_set(&disk->acked[b], disk->image[b]); // the next look is quick
}

// A map has bits of its own for one and a half times its regions (replicator/dirty.h): beyond, a region that the guest touched is dirty by pairs
// of blocks, and this cut may have one more such region for each that it counted.
static void coarsened(struct side_disk *disk, const struct volume *volume, uint64_t first, uint64_t *left)
{
	uint64_t end = min_u64(first + BLOCKS_PER_REGION, size_blocks(disk->size));
	bool more = false;
	for (uint64_t b = first; b < end; b++)
		more |= !disk->allowed[b] && dirty_mask(&volume->set, b) && (b ^ 1) < end && disk->allowed[b ^ 1];
	if (!more || !*left)
		return;
	--*left;
	for (uint64_t b = first; b < end; b += 2) {
		bool either = disk->allowed[b] || (b + 1 < end && disk->allowed[b + 1]);
		disk->allowed[b] = either;
		if (b + 1 < end)
			disk->allowed[b + 1] = either;
	}
}

// A block that the receiver asks for whole, whatever the reason was that its source began with.
static bool asked_for(const struct side *side, uint16_t d, uint64_t b)
{
	struct wire_damaged damaged = {.count = 0};
	struct replica *replica = side->fault_store && the_world->store ? store_find(the_world->store, side->config.name) : NULL;
	if (replica)
		replica_damaged(replica, &damaged);
	for (unsigned i = 0; i < damaged.count; i++)
		if (damaged.run[i].disk == d && b >= damaged.run[i].first && b - damaged.run[i].first < damaged.run[i].count)
			return true;
	return false;
}

void oracle_taken(struct side *side, struct export *export, struct protection *p)
{
	reason_listed(side, p, p->sync);
	the_world->did.synced[p->sync]++;
	for (uint16_t d = 0; d < side->config.disk_count; d++) {
		struct side_disk *disk = &side->disk[d];
		const struct volume *volume = &export_group(export)->volume[d];
		uint64_t coarse = volume->dirty.coarsened - disk->coarsened;
		disk->coarsened = volume->dirty.coarsened;
		the_world->did.coarsened += coarse;
		for (uint64_t b = 0; b < size_blocks(disk->size); b++) {
			check_told(side, d, b);
			disk->allowed[b] |= disk->touched[b] || (disk->told[b] && dirty_mask(&volume->set, b)); // audit.h, U1 and U2
			// What an earlier process left unproven may be dirty, too, and is dirty once more when the guest writes to its unit.
			disk->told[b] &= !dirty_mask(&volume->set, b) || audit_unproven(&volume->audit, b);
			disk->touched[b] = disk->writers[b] > 0; // at the gate, or waiting for a mark
		}
		for (uint64_t b = 0; b < size_blocks(disk->size) && coarse && !full_reason(p->sync); b += BLOCKS_PER_REGION)
			coarsened(disk, volume, b, &coarse);
		for (uint64_t b = 0; b < size_blocks(disk->size); b++) {
			if (dirty_mask(&volume->set, b) && !disk->allowed[b] && !full_reason(p->sync) && !asked_for(side, d, b))
				world_wrong("%s, disk %u, block %llu is a candidate, and nothing made it one (B5)", side->config.name, d,
					    (unsigned long long)b);
		}
	}
	superset(side, export, &p->position.last_cut, 0, "at a cut");
	snapshot_free(side->taken);
	side->taken = snapshot_take(side, export);
	side->took = true;
}

// The newest cut is a point: only what came after it may be a candidate.
void oracle_kept(struct side *side)
{
	if (!side->took) // of the process before: what this one found dirty stays so
		return;
	for (uint16_t d = 0; d < side->config.disk_count; d++)
		memset(side->disk[d].allowed, 0, side->disk[d].blocks_max);
}

// ---- points

static const char *point_text(const struct side *side, uint64_t number, uint16_t d, char text[160])
{
	(void)snprintf(text, 160, "%s/points/%llu/%s.qcow2", side->config.name, (unsigned long long)number, side->config.disk[d].name);
	return text;
}

// What a block is compared with, in a line each: the stamp of the sector in which they part.
static void tell_difference(const struct side *side, uint16_t d, uint64_t b, const unsigned char *found, const struct snapshot *s)
{
	static const unsigned char zeros[BLOCK_SIZE];
	const unsigned char *due = s->block[d][b] ? s->block[d][b]->data : zeros;
	const struct content *now = side->disk[d].image[b];
	for (size_t at = 0, told = 0; at < BLOCK_SIZE && told < 6; at += SECTOR_SIZE) {
		uint64_t stamp[3] = {0};
		if (memcmp(found + at, due + at, SECTOR_SIZE) == 0)
			continue;
		memcpy(&stamp[0], due + at, 8);
		memcpy(&stamp[1], found + at, 8);
		memcpy(&stamp[2], (now ? now->data : zeros) + at, 8);
		(void)fprintf(stdout, "# sector %zu: at the cut %llu, in the point %llu, on the image now %llu\n", at / SECTOR_SIZE,
			      (unsigned long long)stamp[0], (unsigned long long)stamp[1], (unsigned long long)stamp[2]);
		told++;
	}
}

// A bit turned under this side's points: what does not read as it did must be known, once a scrub has passed.
static bool damage_known(const struct side *side, uint64_t number)
{
	struct replica *replica = store_find(the_world->store, side->config.name);
	struct err err = {0};
	return side->fault_store && (!side->rot_known || replica_sound(replica, number, &err) != 0);
}

static void check_point(struct side *side, uint64_t number, const struct snapshot *s)
{
	static unsigned char *found;
	static size_t room;
	for (uint16_t d = 0; d < s->disks; d++) {
		char path[160];
		struct err err = {0};
		size_t need = size_blocks(s->size[d]) * BLOCK_SIZE;
		if (room < need) {
			room = need;
			free(found);
			found = malloc(room);
			assert(found);
		}
		assert(found);
		int rc = layers_read(the_world->store_root, point_text(side, number, d, path), s->size[d], found, &err);
		if (rc && damage_known(side, number))
			continue;
		if (rc)
			world_wrong("%s, point %llu, disk %u: %s", side->config.name, (unsigned long long)number, d, err.text);
		for (uint64_t b = 0; b < size_blocks(s->size[d]); b++) {
			uint64_t len = min_u64(BLOCK_SIZE, s->size[d] - b * BLOCK_SIZE);
			static const unsigned char zeros[BLOCK_SIZE];
			if (s->unproven[d][b] && memcmp(found + b * BLOCK_SIZE, zeros, len) == 0)
				continue;
			if (memcmp(found + b * BLOCK_SIZE, s->block[d][b] ? s->block[d][b]->data : zeros, len) != 0 && !damage_known(side, number)) {
				tell_difference(side, d, b, found + b * BLOCK_SIZE, s);
				world_wrong("%s, point %llu, disk %u, block %llu is not what the disk held at the cut (R1)", side->config.name,
					    (unsigned long long)number, d, (unsigned long long)b);
			}
		}
		the_world->did.compared++;
	}
}

void oracle_points(struct side *side, bool all)
{
	struct world *w = the_world;
	struct replica *replica = w->store ? store_find(w->store, side->config.name) : NULL;
	struct point_info *points = NULL;
	size_t count = 0;
	struct replica_info info;
	if (!replica || w->receiver.dead || sim_is_off(w->receiver.sim))
		return;
	replica_info(replica, &info);
	if (info.broken) // an I/O error came while it was looked at: it is opened again in the end
		return;
	if (replica_points(replica, &points, &count))
		world_wrong("%s: the points cannot be listed", side->config.name);
	if (side->acked_point && (!count || points[count - 1].number < side->acked_point))
		world_wrong("%s: point %llu was committed, and is not there (R3)", side->config.name, (unsigned long long)side->acked_point);
	host_oracle_begin(&w->receiver);
	for (size_t i = all || !count ? 0 : count - 1; i < count; i++) {
		const struct snapshot *s = snapshot_of_point(side, &points[i]);
		if (!s)
			world_wrong("%s: point %llu shows a cut that no SEAL named", side->config.name, (unsigned long long)points[i].number);
		check_point(side, points[i].number, s);
	}
	host_oracle_end(&w->receiver);
	free(points);
}

void oracle_recovered(void)
{
	for (unsigned s = 0; s < the_world->sides; s++) {
		struct side *side = &the_world->side[s];
		struct replica *replica = store_find(the_world->store, side->config.name);
		struct replica_info info;
		if (!replica)
			continue;
		replica_info(replica, &info);
		if (info.broken && !the_world->receiver_io_error && side->rotten_files < 2)
			world_wrong("%s is broken after the receiver's start: %s", side->config.name, info.broken_reason);
		oracle_points(side, true);
	}
}

uint64_t oracle_newest_cut_ns(struct side *side)
{
	struct replica *replica = the_world->store ? store_find(the_world->store, side->config.name) : NULL;
	struct replica_info info;
	if (!replica)
		return 0;
	replica_info(replica, &info);
	const struct snapshot *s = uuid_is_zero(&info.last_cut) ? NULL : snapshot_find(side, &info.last_cut);
	return s ? s->taken_ns : 0;
}

// What a SEAL is about to name is a cut from here on; what the source was told is a point for ever.
// What this process knows it can write to them: its host lives, and no track is lost.
static bool files_follow(const struct side *side, const struct protection *p)
{
	bool follow = !the_world->source.dead;
	for (uint16_t d = 0; d < side->config.disk_count; d++)
		follow &= !p->tracking[d].lost;
	return follow;
}

void oracle_poll(void)
{
	for (unsigned n = 0; n < the_world->sides; n++) {
		struct side *side = &the_world->side[n];
		const struct protection *p = side->protection;
		if (!p)
			continue;
		const struct uuid *pending = &p->position.pending_cut;
		if (!uuid_is_zero(pending) && !uuid_equal(pending, &side->seen_cut)) {
			side->seen_cut = *pending;
			if (side->taken && !snapshot_find(side, pending)) {
				side->taken->cut = *pending;
				side->taken->next = side->sealed;
				side->sealed = side->taken;
				side->taken = NULL;
			}
		}
		side->nowhere |= p->uncovered || p->unmarked || p->audit.unsaved;
		if (p->sync)
			side->owed |= UINT32_C(1) << p->sync;
		else if (files_follow(side, p)) // the header that names its point was written before
			side->owed = 0;
		if (p->greeted && p->position.point > 0 && uuid_is_zero(pending) && !p->schedule.has_point)
			world_wrong("%s: its schedule knows of no point, and the receiver has %llu", side->config.name, (unsigned long long)p->position.point);
		struct snapshot *last = snapshot_find(side, &p->position.last_cut);
		if (p->position_known && uuid_is_zero(pending) && p->position.point > side->acked_point && last && !last->gone) {
			side->acked_point = last->number = p->position.point;
			side->replica_gone = false;
			side->nowhere = p->uncovered || p->unmarked || p->audit.unsaved;
			side->behind = false;
			side->doubted = 0;
		}
	}
}
