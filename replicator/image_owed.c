// SPDX-License-Identifier: Apache-2.0
// What the disk owes: which operations are under way, since when none of them ended, and whether the thread that serves others may ask it by itself (W1 of
// image_io.c).
#include "replicator/image_private.h"

#include "base/clock.h"
#include "base/size.h"
#include "replicator/holder.h"

enum {
	STALL_NS = 100 * 1000 * 1000,
	OWES_NS = 10 * 1000 * 1000,
	TRUST_NS = 20 * 1000 * 1000,
};

// What the reader does has its turn when nobody else wants the processors: how long it takes says nothing of the disk.
bool image_for_reader(const struct image *image, const struct aio *aio)
{
	return aio->kind == AIO_READ && aio->background && image->reader;
}

static struct image_owed *owed_for(struct image *image, const struct aio *aio)
{
	return aio->kind == AIO_READ || aio->kind == AIO_ADVISE ? &image->owed_reads : &image->owed_changes;
}

void image_owed_begins(struct image *image, const struct aio *aio)
{
	struct image_owed *owed = owed_for(image, aio);
	if (image_for_reader(image, aio))
		return;
	image->changing += aio_is_change(aio);
	image->emptying += aio_is_emptying(aio);
	uint64_t pending = atomic_load_explicit(&owed->pending, memory_order_relaxed);
	if (pending == 0)
		atomic_store_explicit(&owed->moved_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_store_explicit(&owed->pending, pending + 1, memory_order_release); // the only one who writes it: after the time that goes with it
}

void image_owed_ends(struct image *image, const struct aio *aio)
{
	struct image_owed *owed = owed_for(image, aio);
	if (image_for_reader(image, aio))
		return;
	image->changing -= aio_is_change(aio);
	image->emptying -= aio_is_emptying(aio);
	uint64_t now_ns = clock_mono_ns();
	atomic_store_explicit(&owed->moved_ns, now_ns, memory_order_relaxed);
	atomic_store_explicit(&owed->pending, atomic_load_explicit(&owed->pending, memory_order_relaxed) - 1, memory_order_release);
	if (aio->kind == AIO_WRITE)
		image->wrote_ns = now_ns;
}

void image_owed_moves(struct image *image)
{
	atomic_store_explicit(&image->owed_changes.moved_ns, clock_mono_ns(), memory_order_relaxed);
	atomic_fetch_add_explicit(&image->pieces, 1, memory_order_relaxed);
}

static uint64_t owed_since_ns(const struct image_owed *owed)
{
	return atomic_load_explicit(&owed->pending, memory_order_acquire) ? atomic_load_explicit(&owed->moved_ns, memory_order_relaxed) : 0;
}

uint64_t image_silent_ns(const struct image *image, uint64_t now_ns)
{
	const uint64_t since_ns[] = {owed_since_ns(&image->owed_reads), owed_since_ns(&image->owed_changes), cold_since_ns(&image->cold),
				     asked_since_ns(&image->asked), atomic_load_explicit(&image->inside_ns, memory_order_relaxed)};
	uint64_t most_ns = 0;
	for (size_t i = 0; i < sizeof(since_ns) / sizeof(*since_ns); i++)
		if (since_ns[i] && since_ns[i] < now_ns)
			most_ns = max_u64(most_ns, now_ns - since_ns[i]);
	return most_ns;
}

static bool owes(const struct image_owed *owed, uint64_t now_ns, uint64_t most_ns)
{
	uint64_t since_ns = owed_since_ns(owed);
	return since_ns && now_ns > since_ns + most_ns;
}

bool image_stalled_at(const struct image *image, uint64_t now_ns)
{
	return owes(&image->owed_changes, now_ns, OWES_NS) || owes(&image->owed_reads, now_ns, STALL_NS) ||
	       cold_hangs(&image->cold, now_ns, STALL_NS);
}

bool image_stalled(const struct image *image)
{
	return image_stalled_at(image, clock_mono_ns());
}

bool image_quick(const struct image *image, uint64_t now_ns)
{
	return !image_stalled_at(image, now_ns) && now_ns < image->wrote_ns + TRUST_NS;
}
