// SPDX-License-Identifier: Apache-2.0
// A table of sets of four entries; a full set gives up one of its four in turn.
#include "replicator/known.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WAYS = 4, INDEX_BITS = 48 };

struct entry {
	uint64_t key; // 0: free
	struct digest digest;
};
_Static_assert(sizeof(struct entry) == KNOWN_ENTRY_BYTES, "known.h says what an entry takes");

struct known {
	struct entry *entry; // sets * WAYS
	size_t sets;
	size_t count;
	unsigned hand; // which of a full set goes next
	bool bound, follows;
	bool fresh; // follows, and nothing was told since: the head is as empty as it was made
	struct uuid head;
	uint64_t connection;
};

int known_new(size_t bytes_max, struct known **ret_known)
{
	struct known *known = calloc(1, sizeof(*known));
	if (!known)
		return -ENOMEM;
	known->sets = bytes_max / (WAYS * sizeof(struct entry));
	if (known->sets)
		known->entry = calloc(known->sets * WAYS, sizeof(struct entry)); // no page of it is there before it is used
	if (known->sets && !known->entry) {
		free(known);
		return -ENOMEM;
	}
	*ret_known = known;
	return 0;
}

void known_free(struct known *known)
{
	if (!known)
		return;
	free(known->entry);
	free(known);
}

void known_forget(struct known *known)
{
	if (known->count)
		memset(known->entry, 0, known->sets * WAYS * sizeof(struct entry));
	known->count = 0;
	known->bound = known->follows = known->fresh = false;
}

void known_bind(struct known *known, const struct uuid *head, uint64_t connection)
{
	if (known->bound && uuid_equal(&known->head, head) && known->connection == connection)
		return;
	bool fresh = known->fresh && uuid_equal(&known->head, head);
	known_forget(known);
	known->bound = true;
	known->follows = known->fresh = fresh;
	known->head = *head;
	known->connection = connection;
}

void known_follow(struct known *known, const struct uuid *next_head)
{
	known->head = *next_head;
	known->follows = known->fresh = known->bound;
}

bool known_follows(const struct known *known)
{
	return known->follows;
}

static uint64_t key_of(uint16_t disk, uint64_t index)
{
	return ((uint64_t)disk << INDEX_BITS | index) + 1;
}

static struct entry *set_of(const struct known *known, uint64_t key)
{
	uint64_t mixed = key * UINT64_C(0x9e3779b97f4a7c15);
	return &known->entry[(mixed >> 20) % known->sets * WAYS];
}

const struct digest *known_find(const struct known *known, uint16_t disk, uint64_t index)
{
	if (!known->count)
		return NULL;
	uint64_t key = key_of(disk, index);
	const struct entry *set = set_of(known, key);
	for (unsigned i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return &set[i].digest;
	return NULL;
}

void known_set(struct known *known, uint16_t disk, uint64_t index, const struct digest *digest)
{
	known->fresh = false;
	if (!known->sets || !known->bound)
		return;
	uint64_t key = key_of(disk, index);
	struct entry *set = set_of(known, key), *place = NULL;
	for (unsigned i = 0; i < WAYS && !place; i++)
		if (set[i].key == key)
			place = &set[i];
	for (unsigned i = 0; i < WAYS && !place; i++)
		if (!set[i].key)
			place = &set[i];
	if (!place)
		place = &set[known->hand++ % WAYS];
	known->count += place->key == 0;
	*place = (struct entry){.key = key, .digest = *digest};
}

size_t known_count(const struct known *known)
{
	return known->count;
}
