// SPDX-License-Identifier: Apache-2.0
// An image in memory behind the core's I/O interface. Operations take effect in two steps and end in any order, as the
// test's dice say; nothing happens until the test steps.
#ifndef KAGAMI_TESTS_FAKE_AIO_H
#define KAGAMI_TESTS_FAKE_AIO_H

#include "replicator/aio.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_AIO_MAX = 1024 };

struct fake_aio {
	struct aio_backend backend;
	unsigned char *image;
	uint64_t size;
	struct fake_op {
		struct aio *aio;
		unsigned step; // 0: nothing done, 1: the first half, 2: all
		uint64_t begun; // tick
	} op[FAKE_AIO_MAX];
	unsigned count;
	uint64_t tick;	       // rises with every event
	uint64_t written_tick; // when the last write took its full effect and was reported
	uint64_t durable_tick; // what was reported before this is on stable storage
	uint64_t *sector_tick; // when each 512-byte sector was last written
	unsigned syncs;	       // begun
	void (*issued)(struct fake_aio *fake, const struct aio *aio); // of every operation; may be NULL
	void *context;
	int fail[AIO_ADVISE + 1]; // what operations of a kind end with, without effect
};

void fake_aio_init(struct fake_aio *fake, uint64_t size);
void fake_aio_done(struct fake_aio *fake);
// Moves a random operation on by a step; false when there is none. `dice(n)` is below n.
bool fake_aio_step(struct fake_aio *fake, uint64_t (*dice)(uint64_t));
void fake_aio_drain(struct fake_aio *fake, uint64_t (*dice)(uint64_t));
// Whether a write, punch or zero is under way.
bool fake_aio_changing(const struct fake_aio *fake);

// When the newest write to [off, off + len) ended.
uint64_t fake_aio_written(const struct fake_aio *fake, uint64_t off, uint64_t len);

#endif
