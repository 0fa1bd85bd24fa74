// SPDX-License-Identifier: Apache-2.0
// Marks on the loop's side: batches to the marker thread and back, and what happens when one does not come back.
//
//	commit under way ──► back in time ──► the writes that waited go on
//	      └─ for mark_wait_ms_max ──► each disk that has writes waiting is given up: a herald notes it for the next start,
//	                                  outside of the state directory ──► noted, or note_wait_ms_max over: lost, the writes go on
//
// The batch stays the marker's until it answers, and what it answers then changes nothing for a lost disk. A disk on which nobody
// waits keeps its marks; one that begins to wait while the batch is still out is given up at the next turn of the bound.
#include "replicator/export_loop.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/when.h"
#include "replicator/holder.h"

#include <string.h>
#include <time.h>

static void on_mark(struct ring_task *task)
{
	struct export *export = HOLDER(task, struct export, mark);
	if (!intent_take(&export->group.intent, &export->marker.batch))
		return;
	bound_begin(&export->commit, export->mark_wait_ms_max);
	export->commit_since_ns = export->commit.since_ns;
	marker_commit(&export->marker);
}

void export_on_marks_wanted(struct intent *intent)
{
	struct export *export = HOLDER(HOLDER(intent, struct group, intent), struct export, group);
	export->mark.run = on_mark;
	ring_later(&export->ring, &export->mark);
}

static void latch_lost(struct export *export, uint16_t d, const char *why)
{
	struct export_disk *disk = &export->disk[d];
	char when[WHEN_SIZE];
	if (atomic_load_explicit(&disk->lost, memory_order_relaxed))
		return;
	when_format(clock_wall_ns(), when);
	struct err err;
	(void)err_set(&err, 0, "%s: mark regions of disk %s: %s", when, export->nbd[d].name, why);
	memcpy(disk->lost_error, err.text, sizeof(disk->lost_error));
	log_error("writes are not marked any more, the disk needs a sync; the guest goes on protection=%s disk=%s error=\"%s\"",
		  export->protection, export->nbd[d].name, disk->lost_error);
	atomic_store_explicit(&disk->lost, true, memory_order_release);
}

void export_on_marks(struct marker *marker)
{
	struct export *export = HOLDER(marker, struct export, marker);
	bound_end(&export->commit);
	for (unsigned i = 0; i < marker->batch.parts; i++) {
		const char *why = marker->err[i].text;
		if (marker->batch.part[i].res)
			latch_lost(export, marker->batch.part[i].disk, why[0] ? why : "the state file is broken");
	}
	intent_committed(&export->group.intent, &marker->batch);
}

// ---- a commit that does not end

static void let_go(struct export_losing *losing)
{
	struct export *export = losing->export;
	uint16_t d = losing->herald.disk;
	bound_end(&losing->note);
	latch_lost(export, d, losing->herald.why);
	intent_lose(&export->group.intent, d);
}

static void on_noted(struct herald *herald)
{
	let_go(HOLDER(herald, struct export_losing, herald));
}

static void on_note_late(struct bound *note)
{
	struct export_losing *losing = HOLDER(note, struct export_losing, note);
	log_warning("neither the note of lost tracking nor the receiver has answered yet, and the guest waits no longer: should this "
		    "host die now, remove the disk's state file before the next start protection=%s disk=%s",
		    losing->export->protection, losing->export->nbd[losing->herald.disk].name);
	let_go(losing);
}

static void lose(struct export *export, uint16_t d, uint64_t waited_ns)
{
	struct export_losing *losing = &export->losing[d];
	struct err why;
	losing->export = export;
	losing->begun = true;
	(void)err_set(&why, 0, "the state directory has not answered for %llu s", (unsigned long long)(waited_ns / 1000000000u));
	bound_init(&losing->note, &export->ring, on_note_late);
	bound_begin(&losing->note, export->note_wait_ms_max);
	int code = herald_start(&losing->herald, &export->marker_config, &export->ring, d, why.text, on_noted);
	if (code == 0)
		return;
	log_error("there is no thread to note that tracking is lost, the receiver alone is told protection=%s disk=%s: %s", export->protection,
		  export->nbd[d].name, strerror(-code));
	export->marker_config.forsake(export->marker_config.context, d);
}

void export_on_commit_late(struct bound *commit)
{
	struct export *export = HOLDER(commit, struct export, commit);
	for (uint16_t d = 0; d < export->count; d++) {
		const struct intent_map *map = &export->group.volume[d].intent;
		if (map->waiting && !export->losing[d].begun)
			lose(export, d, clock_mono_ns() - export->commit_since_ns);
	}
	bound_begin(commit, export->mark_wait_ms_max); // as long as the batch is out
}

void export_heralds_stop(struct export *export)
{
	for (uint16_t d = 0; d < export->count; d++)
		herald_stop(&export->losing[d].herald);
}
