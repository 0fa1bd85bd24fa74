// SPDX-License-Identifier: Apache-2.0
// Payload buffers in classes of powers of two, each with a list of idle ones.
#include "replicator/pool.h"

#include "base/size.h"

#include <assert.h>
#include <stdlib.h>

void pool_init(struct pool *pool)
{
	*pool = (struct pool){0};
}

static void buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	free(buffer);
}

void pool_done(struct pool *pool)
{
	for (unsigned c = 0; c < POOL_ORDERS; c++) {
		while (pool->idle[c]) {
			struct buffer *buffer = pool->idle[c];
			pool->idle[c] = buffer->next;
			buffer_free(buffer);
		}
	}
	pool->idle_bytes = 0;
}

static struct buffer *buffer_new(struct pool *pool, unsigned order)
{
	struct buffer *buffer = malloc(sizeof(*buffer));
	if (!buffer)
		return NULL;
	*buffer = (struct buffer){.pool = pool, .size = (size_t)POOL_SIZE_MIN << order, .order = order};
	buffer->data = aligned_alloc(PIECE_SIZE, buffer->size);
	if (buffer->data)
		return buffer;
	free(buffer);
	return NULL;
}

struct buffer *pool_get(struct pool *pool, size_t len)
{
	unsigned order = 0;
	while (((size_t)POOL_SIZE_MIN << order) < len)
		order++;
	assert(order < POOL_ORDERS);
	struct buffer *buffer = pool->idle[order];
	if (buffer) {
		pool->idle[order] = buffer->next;
		pool->idle_bytes -= buffer->size;
	} else {
		buffer = buffer_new(pool, order);
	}
	if (buffer)
		buffer->refs = 1;
	return buffer;
}

struct buffer *buffer_ref(struct buffer *buffer)
{
	buffer->refs++;
	return buffer;
}

void buffer_put(struct buffer *buffer)
{
	if (!buffer)
		return;
	assert(buffer->refs > 0);
	if (--buffer->refs)
		return;
	struct pool *pool = buffer->pool;
	if (pool->idle_bytes + buffer->size > POOL_IDLE_MAX) {
		buffer_free(buffer);
		return;
	}
	pool->idle_bytes += buffer->size;
	buffer->next = pool->idle[buffer->order];
	pool->idle[buffer->order] = buffer;
}
