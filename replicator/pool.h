// SPDX-License-Identifier: Apache-2.0
// Page-aligned buffers for payloads, counted by reference and kept for the next request instead of freed.
//
// Loop thread only. What is in use is bounded by who takes it (client.c); what is kept idle by POOL_IDLE_MAX.
#ifndef KAGAMI_REPLICATOR_POOL_H
#define KAGAMI_REPLICATOR_POOL_H

#include <stddef.h>
#include <stdint.h>

enum {
	POOL_SIZE_MIN = 4 << 10,
	POOL_ORDERS = 15, // 4 KiB, 8 KiB ... 64 MiB
	POOL_IDLE_MAX = 32 << 20,
};

struct buffer {
	struct pool *pool;
	struct buffer *next;
	unsigned char *data;
	size_t size;
	unsigned refs;
	unsigned order;
};

struct pool {
	struct buffer *idle[POOL_ORDERS];
	size_t idle_bytes;
};

void pool_init(struct pool *pool);
void pool_done(struct pool *pool); // all buffers are back
// At least `len` bytes, with one reference; NULL when there is no memory. Content is undefined.
struct buffer *pool_get(struct pool *pool, size_t len);
struct buffer *buffer_ref(struct buffer *buffer);
void buffer_put(struct buffer *buffer); // takes NULL

#endif
