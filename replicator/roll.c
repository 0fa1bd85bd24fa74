// SPDX-License-Identifier: Apache-2.0
// A list under a lock that is held for no longer than it takes to go through it: none of an entry's calls waits.
#include "replicator/roll.h"

#include "base/auto.h"

#include <stddef.h>

void roll_enter(struct roll *roll, struct roll_entry *entry)
{
	LOCK_SCOPE(&roll->lock);
	entry->roll = roll;
	entry->ended = false;
	entry->next = roll->first;
	roll->first = entry;
}

void roll_leave(struct roll_entry *entry)
{
	struct roll *roll = entry->roll;
	if (!roll)
		return;
	LOCK_SCOPE(&roll->lock);
	struct roll_entry **at = &roll->first;
	while (*at != entry)
		at = &(*at)->next;
	*at = entry->next;
	entry->roll = NULL;
	roll->moves++;
}

void roll_ended(struct roll_entry *entry)
{
	struct roll *roll = entry->roll;
	if (!roll)
		return;
	LOCK_SCOPE(&roll->lock);
	entry->ended = true;
	roll->moves++;
}

unsigned roll_count(struct roll *roll)
{
	unsigned count = 0;
	if (!roll)
		return 1;
	LOCK_SCOPE(&roll->lock);
	for (const struct roll_entry *entry = roll->first; entry; entry = entry->next)
		count++;
	return count;
}

void roll_move(struct roll *roll)
{
	if (!roll)
		return;
	LOCK_SCOPE(&roll->lock);
	roll->moves++;
}

uint64_t roll_moves(struct roll *roll)
{
	LOCK_SCOPE(&roll->lock);
	uint64_t moves = roll->moves;
	for (struct roll_entry *entry = roll->first; entry; entry = entry->next)
		if (entry->pieces && !entry->ended)
			moves += entry->pieces(entry);
	return moves;
}

uint64_t roll_owes(struct roll *roll)
{
	uint64_t pages = 0;
	LOCK_SCOPE(&roll->lock);
	for (struct roll_entry *entry = roll->first; entry; entry = entry->next)
		if (entry->owes && !entry->ended)
			pages += entry->owes(entry);
	return pages;
}

void roll_write_out(struct roll *roll)
{
	LOCK_SCOPE(&roll->lock);
	for (struct roll_entry *entry = roll->first; entry; entry = entry->next)
		if (entry->write_out && !entry->ended)
			entry->write_out(entry);
}

bool roll_writes_out(struct roll *roll, uint64_t *ret_pieces)
{
	bool any = false;
	*ret_pieces = 0;
	LOCK_SCOPE(&roll->lock);
	for (struct roll_entry *entry = roll->first; entry; entry = entry->next)
		if (entry->write_out && !entry->ended)
			any |= entry->writes_out(entry, ret_pieces);
	return any;
}

void roll_end(struct roll *roll)
{
	roll_each(roll, NULL);
}

void roll_each(struct roll *roll, void (*left)(struct roll_entry *entry))
{
	LOCK_SCOPE(&roll->lock);
	for (struct roll_entry *entry = roll->first; entry; entry = entry->next)
		(left ? left : entry->end)(entry);
}
