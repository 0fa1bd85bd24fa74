// SPDX-License-Identifier: Apache-2.0
// Directories of the simulated world: names, and the events that a power cut may undo.
//
// An entry is a name, what it stood for when everything about it was certain, and the changes since, in order. Each
// change belongs to an event; a rename or an exchange is one event with two changes. The value of a name is that of its last change
// whose event has not been found NOT to have happened.
//
//	           sync of event.dir                     looked at
//	PENDING ───────────────────► HAPPENED ◄──────┐
//	   │ failed sync                             │
//	   ├────────► LOST ──┐ power off             │
//	   └─────────────────┴──────────► UNDECIDED ─┴─► NOT
//
// Order: an event comes after the earlier events on its names. HAPPENED spreads to what it comes after, NOT to what comes
// after it. Events have rising numbers, so both are one pass.
#include "tests/sim/sim_disk.h"

#include <errno.h>
#include <string.h>

static struct event *events_own(struct sim *sim)
{
	struct world *w = &sim->world;
	if (w->event_layer == sim->layer)
		return w->event;
	struct event *event = sim_alloc(sim, w->event_room * sizeof(*event));
	if (w->events)
		memcpy(event, w->event, w->events * sizeof(*event));
	w->event = event;
	w->event_layer = sim->layer;
	return event;
}

static void set_happened(struct sim *sim, uint32_t id)
{
	struct event *event = events_own(sim);
	event[id].state = EVENT_HAPPENED;
	for (unsigned i = 0; i < 2; i++) {
		uint32_t before = event[id].after[i];
		if (before != NO_EVENT && event[before].state != EVENT_HAPPENED)
			set_happened(sim, before);
	}
}

static void set_not(struct sim *sim, uint32_t id)
{
	struct event *event = events_own(sim);
	event[id].state = EVENT_NOT;
	for (uint32_t later = id + 1; later < sim->world.events; later++)
		for (unsigned i = 0; i < 2; i++)
			if (event[later].after[i] != NO_EVENT && event[event[later].after[i]].state == EVENT_NOT)
				event[later].state = EVENT_NOT;
}

static uint32_t entry_at(const struct inode *dir, const char *name, bool *ret_found)
{
	uint32_t low = 0, high = dir->entries;
	*ret_found = false;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		int order = strcmp(dir->entry[mid].name, name);
		if (order == 0) {
			*ret_found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static uint32_t entry_value(struct sim *sim, const struct entry *entry)
{
	for (uint32_t i = entry->changes; i > 0; i--) {
		uint32_t id = entry->change[i - 1].event;
		if (sim->world.event[id].state == EVENT_UNDECIDED) {
			if (sim_choose(sim, 2))
				set_happened(sim, id);
			else
				set_not(sim, id);
		}
		if (sim->world.event[id].state != EVENT_NOT)
			return entry->change[i - 1].ino;
	}
	return entry->ino;
}

uint32_t names_get(struct sim *sim, uint32_t dir, const char *name)
{
	bool found;
	const struct inode *inode = inode_get(sim, dir);
	uint32_t i = entry_at(inode, name, &found);
	return found ? entry_value(sim, &inode->entry[i]) : 0;
}

uint32_t names_next(struct sim *sim, uint32_t dir, uint32_t from, const char **ret_name)
{
	const struct inode *inode = inode_get(sim, dir);
	for (uint32_t i = from; i < inode->entries; i++)
		if (entry_value(sim, &inode->entry[i])) {
			*ret_name = inode->entry[i].name;
			return i;
		}
	return UINT32_MAX;
}

bool names_empty(struct sim *sim, uint32_t dir)
{
	const char *name;
	return names_next(sim, dir, 0, &name) == UINT32_MAX;
}

static struct entry *entry_own(struct sim *sim, uint32_t dir, const char *name)
{
	struct inode *inode = inode_own(sim, dir);
	bool found;
	uint32_t i = entry_at(inode, name, &found);
	if (found)
		return &inode->entry[i];
	if (inode->entries == inode->entry_room) {
		uint32_t room = inode->entry_room ? inode->entry_room * 2 : 8;
		struct entry *entry = sim_alloc(sim, room * sizeof(*entry));
		if (inode->entries)
			memcpy(entry, inode->entry, inode->entries * sizeof(*entry));
		inode->entry = entry;
		inode->entry_room = room;
	}
	memmove(inode->entry + i + 1, inode->entry + i, (inode->entries - i) * sizeof(*inode->entry));
	char *copy = sim_alloc(sim, strlen(name) + 1);
	strcpy(copy, name);
	inode->entry[i] = (struct entry){.name = copy};
	inode->entries++;
	return &inode->entry[i];
}

// The last event that a new one on this entry comes after.
static uint32_t last_event(const struct sim *sim, const struct entry *entry)
{
	for (uint32_t i = entry->changes; i > 0; i--)
		if (sim->world.event[entry->change[i - 1].event].state != EVENT_NOT)
			return entry->change[i - 1].event;
	return NO_EVENT;
}

static uint32_t change_entry(struct sim *sim, uint32_t dir, const char *name, uint32_t ino, uint32_t event)
{
	struct entry *entry = entry_own(sim, dir, name);
	uint32_t before = last_event(sim, entry);
	struct change *change = sim_alloc(sim, (entry->changes + 1) * sizeof(*change));
	if (entry->changes)
		memcpy(change, entry->change, entry->changes * sizeof(*change));
	change[entry->changes++] = (struct change){.event = event, .ino = ino};
	entry->change = change;
	sim->world.changes++;
	return before;
}

static uint32_t event_new(struct sim *sim, uint32_t dir)
{
	struct world *w = &sim->world;
	if (w->changes == 0)
		w->events = 0; // nothing refers to the old ones
	if (w->events == w->event_room) {
		w->event_room = w->event_room ? w->event_room * 2 : 32;
		w->event_layer = 0;
	}
	struct event *event = events_own(sim);
	event[w->events] = (struct event){.state = EVENT_PENDING, .dir = dir, .after = {NO_EVENT, NO_EVENT}};
	return w->events++;
}

void names_set(struct sim *sim, uint32_t dir, const char *name, uint32_t ino, uint32_t from_dir, const char *from)
{
	uint32_t id = event_new(sim, dir), after[2] = {NO_EVENT, NO_EVENT};
	after[0] = change_entry(sim, dir, name, ino, id);
	if (from_dir)
		after[1] = change_entry(sim, from_dir, from, 0, id);
	memcpy(sim->world.event[id].after, after, sizeof(after));
}

void names_exchange(struct sim *sim, const struct place *a, const struct place *b)
{
	uint32_t id = event_new(sim, b->dir), after[2];
	after[0] = change_entry(sim, b->dir, b->name, a->ino, id);
	after[1] = change_entry(sim, a->dir, a->name, b->ino, id);
	memcpy(sim->world.event[id].after, after, sizeof(after));
}

// Drops what is certain from an entry of an owned directory: the changes up to the last that happened, and those that
// did not happen.
static void tidy_entry(struct sim *sim, struct entry *entry)
{
	struct change *kept = entry->changes ? sim_alloc(sim, entry->changes * sizeof(*kept)) : NULL;
	uint32_t count = 0;
	for (uint32_t i = 0; i < entry->changes; i++) {
		enum event_state state = sim->world.event[entry->change[i].event].state;
		if (state == EVENT_HAPPENED) {
			entry->ino = entry->change[i].ino;
			count = 0;
		} else if (state != EVENT_NOT) {
			kept[count++] = entry->change[i];
		}
	}
	sim->world.changes -= entry->changes - count;
	entry->change = kept;
	entry->changes = count;
}

static void tidy_dir(struct sim *sim, uint32_t dir)
{
	struct inode *inode = inode_own(sim, dir);
	uint32_t kept = 0;
	for (uint32_t i = 0; i < inode->entries; i++) {
		tidy_entry(sim, &inode->entry[i]);
		if (inode->entry[i].ino || inode->entry[i].changes)
			inode->entry[kept++] = inode->entry[i];
	}
	inode->entries = kept;
}

bool names_sync(struct sim *sim, uint32_t dir)
{
	bool any = false;
	for (uint32_t id = 0; id < sim->world.events; id++)
		if (sim->world.event[id].dir == dir && sim->world.event[id].state == EVENT_PENDING) {
			set_happened(sim, id);
			any = true;
		}
	if (any)
		tidy_dir(sim, dir);
	return any;
}

static void change_events(struct sim *sim, uint32_t dir, enum event_state from, enum event_state to)
{
	for (uint32_t id = 0; id < sim->world.events; id++)
		if ((!dir || sim->world.event[id].dir == dir) && sim->world.event[id].state == from)
			events_own(sim)[id].state = to;
}

void names_sync_failed(struct sim *sim, uint32_t dir)
{
	change_events(sim, dir, EVENT_PENDING, EVENT_LOST);
}

void names_doubt(struct sim *sim)
{
	change_events(sim, 0, EVENT_PENDING, EVENT_UNDECIDED);
	change_events(sim, 0, EVENT_LOST, EVENT_UNDECIDED);
}

void names_settle(struct sim *sim)
{
	for (uint32_t id = 0; id < sim->world.events; id++)
		if (sim->world.event[id].state != EVENT_NOT)
			events_own(sim)[id].state = EVENT_HAPPENED;
	for (uint32_t ino = 1; ino < sim->world.inodes; ino++)
		if (inode_get(sim, ino) && inode_get(sim, ino)->is_dir)
			tidy_dir(sim, ino);
}

// Copies the component at *path and steps over it and the slashes behind. 0 at the end.
static int next_component(const char **path, char *name)
{
	size_t len = strcspn(*path, "/");
	if (len > NAME_LEN_MAX)
		return -ENAMETOOLONG;
	memcpy(name, *path, len);
	name[len] = 0;
	*path += len;
	*path += strspn(*path, "/");
	return len > 0;
}

int names_walk(struct sim *sim, uint32_t from, const char *path, struct place *ret_place)
{
	uint32_t above[PATH_DEPTH_MAX];
	unsigned depth = 0;
	struct place at = {.dir = from, .name = ".", .ino = from};
	if (*path == '/')
		return -EXDEV;
	if (!*path)
		return -ENOENT;
	char name[NAME_LEN_MAX + 1];
	int rc;
	while ((rc = next_component(&path, name)) == 1) {
		if (!at.ino)
			return -ENOENT;
		if (!inode_get(sim, at.ino)->is_dir)
			return -ENOTDIR;
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			if (depth == 0)
				return -EXDEV;
			at = (struct place){.dir = above[depth - 1], .name = ".", .ino = above[depth - 1]};
			depth--;
			continue;
		}
		if (depth == PATH_DEPTH_MAX)
			return -ENAMETOOLONG;
		above[depth++] = at.ino;
		at.dir = at.ino;
		strcpy(at.name, name);
		at.ino = names_get(sim, at.dir, name);
	}
	if (rc == 0)
		*ret_place = at;
	return rc;
}
