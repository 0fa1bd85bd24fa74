// SPDX-License-Identifier: Apache-2.0
// Before a stop: what guests have written is brought to the disks while they are served, so that the last sync, for which they wait, has little to do.
//
//	asked ──► each disk is synced ──took long: guests wrote on meanwhile──► once more, at most WRITE_OUT_PASSES in all
//	             └─ did not, failed, or the export ends ──► done
//
// These syncs are as those of guests: an error of one is the disk's, and the guest is told (volume.h, V3).
#include "replicator/export_loop.h"

#include "base/clock.h"
#include "replicator/holder.h"

enum { WRITE_OUT_PASSES = 3, WRITE_OUT_LONG_MS = 1000 };

static void begin_pass(struct export_writing *writing)
{
	struct export *export = writing->export;
	writing->began_ms = clock_mono_ms();
	writing->passes++;
	volume_sync(&export->group.volume[writing - export->writing], &writing->sync);
}

static void on_pass_done(struct volume_sync *sync, int res)
{
	struct export_writing *writing = HOLDER(sync, struct export_writing, sync);
	bool again = res == 0 && writing->export->state == EXPORT_SERVING && writing->passes < WRITE_OUT_PASSES &&
		     clock_mono_ms() - writing->began_ms >= WRITE_OUT_LONG_MS;
	if (again)
		begin_pass(writing);
	else
		atomic_store(&writing->under_way, false);
}

static void on_write_out(struct ring_message *message)
{
	struct export *export = HOLDER(message, struct export, write_out);
	for (uint16_t d = 0; d < export->count; d++) {
		struct export_writing *writing = &export->writing[d];
		writing->export = export;
		writing->passes = 0;
		writing->sync.done = on_pass_done;
		begin_pass(writing);
	}
}

void export_write_out(struct export *export)
{
	if (atomic_exchange(&export->told_to_write, true))
		return;
	for (uint16_t d = 0; d < export->count; d++)
		atomic_store(&export->writing[d].under_way, true);
	export->write_out.run = on_write_out;
	bool posted = ring_post(&export->ring, &export->write_out);
	for (uint16_t d = 0; !posted && d < export->count; d++) // it has ended, and so synced all
		atomic_store(&export->writing[d].under_way, false);
}

bool export_writes_out(struct export *export, uint64_t *pieces)
{
	bool any = false;
	for (uint16_t d = 0; d < export->count; d++)
		if (atomic_load(&export->writing[d].under_way)) {
			any = true;
			*pieces += atomic_load_explicit(&export->image[d].pieces, memory_order_relaxed);
		}
	return any;
}
