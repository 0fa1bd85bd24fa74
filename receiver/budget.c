// SPDX-License-Identifier: Apache-2.0
#include "receiver/budget.h"

#include "base/auto.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct budget_source {
	struct budget_source *next;
	unsigned char pin[OWNER_PIN_SIZE];
	uint64_t taken[BUDGET_KINDS];
};

void budget_init(struct budget *b, uint64_t bytes)
{
	*b = (struct budget){.bytes = bytes};
	(void)pthread_mutex_init(&b->lock, NULL);
}

void budget_done(struct budget *b)
{
	for (struct budget_source *s = b->sources, *next; s; s = next) {
		next = s->next;
		free(s);
	}
	(void)pthread_mutex_destroy(&b->lock);
}

struct budget_source *budget_source_of(struct budget *b, const unsigned char pin[OWNER_PIN_SIZE])
{
	LOCK_SCOPE(&b->lock);
	struct budget_source *s = b->sources;
	while (s && memcmp(s->pin, pin, OWNER_PIN_SIZE) != 0)
		s = s->next;
	if (s)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	memcpy(s->pin, pin, OWNER_PIN_SIZE);
	s->next = b->sources;
	b->sources = s;
	return s;
}

static uint64_t sum(const uint64_t taken[BUDGET_KINDS])
{
	return taken[BUDGET_POINTS] + taken[BUDGET_HEADS];
}

// Needs the lock.
static bool is_free(const struct budget *b, uint64_t bytes)
{
	return b->bytes == 0 || (sum(b->taken) <= b->bytes && bytes <= b->bytes - sum(b->taken));
}

// Needs the lock.
static bool fits(const struct budget *b, const struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	if (b->bytes == 0 || kind == BUDGET_POINTS)
		return is_free(b, bytes);
	uint64_t heads = s->taken[BUDGET_HEADS], others = sum(b->taken) - heads, most = b->bytes > others ? (b->bytes - others) / 2 : 0;
	return heads <= most && bytes <= most - heads;
}

// Needs the lock.
static void add(struct budget *b, struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	s->taken[kind] += bytes;
	b->taken[kind] += bytes;
}

// Needs the lock.
static void subtract(struct budget *b, struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	assert(bytes <= s->taken[kind]);
	s->taken[kind] -= bytes;
	b->taken[kind] -= bytes;
}

bool budget_room(struct budget *b, const struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	return fits(b, s, kind, bytes);
}

bool budget_take(struct budget *b, struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	bool may = fits(b, s, kind, bytes);
	if (may)
		add(b, s, kind, bytes);
	return may;
}

bool budget_take_again(struct budget *b, struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	bool may = is_free(b, bytes);
	if (may)
		add(b, s, kind, bytes);
	return may;
}

void budget_give(struct budget *b, struct budget_source *s, enum budget_kind kind, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	subtract(b, s, kind, bytes);
}

void budget_commit(struct budget *b, struct budget_source *s, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	subtract(b, s, BUDGET_HEADS, bytes);
	add(b, s, BUDGET_POINTS, bytes);
}

uint64_t budget_has(struct budget *b, const struct budget_source *s)
{
	LOCK_SCOPE(&b->lock);
	return sum(s ? s->taken : b->taken);
}

uint64_t budget_has_heads(struct budget *b, const struct budget_source *s)
{
	LOCK_SCOPE(&b->lock);
	return s->taken[BUDGET_HEADS];
}
