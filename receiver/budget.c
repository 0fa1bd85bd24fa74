// SPDX-License-Identifier: Apache-2.0
#include "receiver/budget.h"

#include "base/auto.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct budget_source {
	struct budget_source *next;
	unsigned char pin[OWNER_PIN_SIZE];
	uint64_t taken;
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

// Needs the lock.
static bool fits(const struct budget *b, const struct budget_source *s, uint64_t bytes)
{
	uint64_t others = b->taken - s->taken, most = b->bytes > others ? (b->bytes - others) / 2 : 0;
	return b->bytes == 0 || (s->taken <= most && bytes <= most - s->taken);
}

bool budget_room(struct budget *b, const struct budget_source *s, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	return fits(b, s, bytes);
}

bool budget_take(struct budget *b, struct budget_source *s, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	if (!fits(b, s, bytes))
		return false;
	s->taken += bytes;
	b->taken += bytes;
	return true;
}

void budget_give(struct budget *b, struct budget_source *s, uint64_t bytes)
{
	LOCK_SCOPE(&b->lock);
	assert(bytes <= s->taken);
	s->taken -= bytes;
	b->taken -= bytes;
}

uint64_t budget_has(struct budget *b, const struct budget_source *s)
{
	LOCK_SCOPE(&b->lock);
	return s ? s->taken : b->taken;
}
