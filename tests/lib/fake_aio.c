// SPDX-License-Identifier: Apache-2.0
// An image in memory that a test steps through its operations.
#include "tests/lib/fake_aio.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void fake_submit(struct aio_backend *backend, struct aio *aio)
{
	struct fake_aio *fake = (struct fake_aio *)(void *)backend; // its first member
	assert(fake->count < FAKE_AIO_MAX);
	assert(aio->kind == AIO_SYNC || (aio->len && aio->off + aio->len <= fake->size));
	if (fake->issued)
		fake->issued(fake, aio);
	fake->syncs += aio->kind == AIO_SYNC;
	fake->op[fake->count++] = (struct fake_op){.aio = aio, .begun = ++fake->tick};
}

void fake_aio_init(struct fake_aio *fake, uint64_t size)
{
	*fake = (struct fake_aio){.backend = {.submit = fake_submit}, .size = size, .image = calloc(1, size)};
	fake->sector_tick = calloc(size / 512 + 1, sizeof(uint64_t));
	assert(fake->image && fake->sector_tick);
}

void fake_aio_done(struct fake_aio *fake)
{
	assert(fake->count == 0);
	free(fake->image);
	free(fake->sector_tick);
}

static bool changes(const struct aio *aio)
{
	return aio->kind != AIO_READ && aio->kind != AIO_SYNC && aio->kind != AIO_ADVISE;
}

bool fake_aio_changing(const struct fake_aio *fake)
{
	for (unsigned i = 0; i < fake->count; i++)
		if (changes(fake->op[i].aio))
			return true;
	return false;
}

// The first or second half of the effect.
static void take_effect(struct fake_aio *fake, const struct aio *aio, unsigned half)
{
	uint64_t from = half ? aio->len / 2 : 0;
	uint64_t len = half ? aio->len - from : aio->len / 2;
	unsigned char *image = fake->image + aio->off + from;
	switch (aio->kind) {
	case AIO_READ:
		memcpy((unsigned char *)aio->data + from, image, len);
		break;
	case AIO_WRITE:
		memcpy(image, (unsigned char *)aio->data + from, len);
		break;
	case AIO_PUNCH:
	case AIO_ZERO:
		memset(image, 0, len);
		break;
	case AIO_SYNC:
	case AIO_ADVISE:
		break;
	}
}

static void note_written(struct fake_aio *fake, const struct aio *aio)
{
	fake->written_tick = fake->tick;
	for (uint64_t s = aio->off / 512; s * 512 < aio->off + aio->len; s++)
		fake->sector_tick[s] = fake->tick;
}

uint64_t fake_aio_written(const struct fake_aio *fake, uint64_t off, uint64_t len)
{
	uint64_t newest = 0;
	for (uint64_t s = (off + 511) / 512; s < (off + len) / 512; s++) // whole sectors: others share the rest
		newest = fake->sector_tick[s] > newest ? fake->sector_tick[s] : newest;
	return newest;
}

static void complete(struct fake_aio *fake, unsigned at)
{
	struct fake_op op = fake->op[at];
	int res = fake->fail[op.aio->kind];
	fake->op[at] = fake->op[--fake->count];
	fake->tick++;
	if (res == 0 && op.aio->kind == AIO_SYNC && op.begun > fake->durable_tick)
		fake->durable_tick = op.begun;
	else if (res == 0 && changes(op.aio))
		note_written(fake, op.aio);
	op.aio->done(op.aio, res);
}

bool fake_aio_step(struct fake_aio *fake, uint64_t (*dice)(uint64_t))
{
	if (!fake->count)
		return false;
	unsigned at = (unsigned)dice(fake->count);
	struct fake_op *op = &fake->op[at];
	if (op->step < 2 && !fake->fail[op->aio->kind])
		take_effect(fake, op->aio, op->step++);
	else
		complete(fake, at);
	return true;
}

void fake_aio_drain(struct fake_aio *fake, uint64_t (*dice)(uint64_t))
{
	while (fake_aio_step(fake, dice))
		continue;
}
