// SPDX-License-Identifier: Apache-2.0
// Before a stop: what guests have written is brought to the disks while they are served, so that the last sync, for which they wait, has little to do.
//
//	asked ──► synced ──took long: guests wrote on meanwhile──► once more (passes.h)
//	             ├─ did not ──► settled ──asked again, while others are not──► synced once more
//	             └─ given up: a guest that writes as fast as its disk ──► left to the last sync
//
// So a disk that is quick stays clean for as long as the slowest of the host takes. These syncs are as those of guests: an error of one is the disk's, and the guest is told (volume.h, V3).
// Of an export's disks no more than WRITE_OUT_AT_ONCE are synced at a time: each takes a worker of the kernel's, which its guests need.
#include "replicator/export_loop.h"

#include "base/clock.h"
#include "replicator/holder.h"

enum { WRITE_OUT_AT_ONCE = 3, WRITE_OUT_REST_MS = 500 };

static void begin_some(struct export *export)
{
	for (uint16_t n = 0; export->state == EXPORT_SERVING && n < export->count && export->writing_now < WRITE_OUT_AT_ONCE; n++) {
		uint16_t d = export->writing_next; // behind the last one: those that are slow do not come first again and again
		struct export_writing *writing = &export->writing[d];
		export->writing_next = (uint16_t)((d + 1) % export->count);
		if (!writing->wanted || atomic_load(&writing->since_ms))
			continue;
		writing->wanted = false;
		atomic_store(&writing->since_ms, clock_mono_ms());
		export->writing_now++;
		volume_sync(&export->group.volume[d], &writing->sync);
	}
}

static void on_pass_done(struct volume_sync *sync, int res)
{
	struct export_writing *writing = HOLDER(sync, struct export_writing, sync);
	struct export *export = writing->export;
	writing->ended_ms = clock_mono_ms();
	writing->wanted = passes_again(&writing->passes, writing->ended_ms - atomic_load(&writing->since_ms)) && res == 0 && export->state == EXPORT_SERVING;
	atomic_store(&writing->settled, !writing->wanted);
	atomic_store(&writing->since_ms, 0);
	export->writing_now--;
	if (export->state == EXPORT_SERVING)
		ring_later(&export->ring, &export->write_more); // not from within a sync that ends
}

static void on_write_more(struct ring_task *task)
{
	begin_some(HOLDER(task, struct export, write_more));
}

static void on_write_out(struct ring_message *message)
{
	struct export *export = HOLDER(message, struct export, write_out);
	atomic_store(&export->told_to_write, false);
	int64_t now_ms = clock_mono_ms();
	for (uint16_t d = 0; d < export->count; d++) {
		struct export_writing *writing = &export->writing[d];
		bool rested = !writing->ended_ms || now_ms - writing->ended_ms >= WRITE_OUT_REST_MS;
		if (export->state != EXPORT_SERVING)
			atomic_store(&writing->settled, true); // by its last sync
		else
			writing->wanted |= rested && !writing->passes.given_up && !atomic_load(&writing->since_ms);
	}
	begin_some(export);
}

void export_write_out_init(struct export *export)
{
	export->write_out.run = on_write_out;
	export->write_more.run = on_write_more;
	export->writing_now = 0;
	export->writing_next = 0;
	atomic_store(&export->told_to_write, false);
	for (uint16_t d = 0; d < export->count; d++) {
		export->writing[d] = (struct export_writing){.export = export};
		export->writing[d].sync.done = on_pass_done;
	}
}

void export_write_out(struct export *export)
{
	if (atomic_exchange(&export->told_to_write, true))
		return;
	bool posted = ring_post(&export->ring, &export->write_out);
	for (uint16_t d = 0; !posted && d < export->count; d++) // it has ended, and so synced all
		atomic_store(&export->writing[d].settled, true);
}

// Changes whenever a piece of it has ended, or less of it is left to write than at any look before.
static uint64_t progress(struct export_writing *writing, const struct image *image, int64_t since_ms)
{
	uint64_t owes = image_unwritten(image);
	if (since_ms != writing->seen_ms || owes < writing->least) {
		writing->seen_ms = since_ms;
		writing->least = owes;
		writing->moved++;
	}
	return writing->moved + atomic_load_explicit(&image->pieces, memory_order_relaxed);
}

bool export_writes_out(struct export *export, uint64_t *pieces)
{
	bool any = false;
	int64_t now_ms = clock_mono_ms();
	for (uint16_t d = 0; d < export->count; d++) {
		struct export_writing *writing = &export->writing[d];
		int64_t since_ms = atomic_load(&writing->since_ms);
		if (atomic_load(&writing->settled) && (since_ms == 0 || now_ms - since_ms < PASS_LONG_MS))
			continue;
		any = true;
		*pieces += progress(writing, &export->image[d], since_ms);
	}
	return any;
}
