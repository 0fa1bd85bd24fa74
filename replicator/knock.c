// SPDX-License-Identifier: Apache-2.0
#include "replicator/knock.h"

#include "base/auto.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct knock *all;

bool knock_begin(struct knock *knock, const char *address)
{
	unsigned there = 0;
	LOCK_SCOPE(&lock);
	for (const struct knock *k = all; k; k = k->next)
		there += strcmp(k->address, address) == 0;
	if (there >= KNOCKS_MAX)
		return false;
	*knock = (struct knock){.address = address, .next = all};
	all = knock;
	return true;
}

void knock_end(struct knock *knock)
{
	LOCK_SCOPE(&lock);
	if (!knock->address)
		return;
	for (struct knock **at = &all; *at; at = &(*at)->next)
		if (*at == knock) {
			*at = knock->next;
			break;
		}
	knock->address = NULL;
}
