// SPDX-License-Identifier: Apache-2.0
// The thread of an export: accepts connections, turns the ring, and ends in an orderly way.
//
//	SERVING ──stop──► ENDING ──no client, no batch──► CLOSED ──still none──► SYNCING ──images synced──► ENDED
//	                    │                               └─ messages are refused: after the cut was given back, another
//	                    │                                  would take what is dirty out of the maps again
//	                    └─ after EXPORT_STOP_GRACE_S, clients that do not take their answers are cut off
#include "replicator/export_loop.h"

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/log.h"
#include "link/events.h"
#include "base/when.h"
#include "replicator/holder.h"
#include "replicator/priority.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void accept_arm(struct export *export);

static void on_again(struct ring_op *op, int res)
{
	(void)res; // its time has come: that is reported as an error
	accept_arm(HOLDER(op, struct export, again));
}

// Out of descriptors or memory: at once it would only fail again.
static void accept_later(struct export *export)
{
	export->again.done = on_again;
	export->again_time = (struct __kernel_timespec){.tv_nsec = EXPORT_ACCEPT_PAUSE_MS * 1000 * 1000};
	io_uring_prep_timeout(ring_sqe(&export->ring, &export->again), &export->again_time, 0, 0);
}

// NULL where all have chosen.
static struct client *slowest_greeted(const struct export *export)
{
	struct client *slowest = NULL;
	for (struct client *client = export->clients; client; client = client_next(client))
		if (client_greeted_ns(client) < (slowest ? client_greeted_ns(slowest) : UINT64_MAX))
			slowest = client;
	return slowest;
}

// Those that went are killed, and may be counted for a moment longer.
static void on_greeting_late(struct bound *greeting)
{
	struct export *export = HOLDER(greeting, struct export, greeting);
	uint64_t now_ns = clock_mono_ns(), most_ns = EXPORT_GREETING_MS * UINT64_C(1000000);
	unsigned count = 0, left_out;
	struct client *slowest;
	while ((slowest = slowest_greeted(export)) && client_greeted_ns(slowest) + most_ns <= now_ns) {
		client_kill(slowest);
		count++;
	}
	if (count && nbd_word_may(&export->late, now_ns, &left_out))
		log_warning("connections were closed that chose no disk for %d s protection=%s connections=%u such_times_before=%u", EXPORT_GREETING_MS / 1000, export->protection, count, left_out);
	if (slowest)
		bound_begin(greeting, (unsigned)((client_greeted_ns(slowest) + most_ns - now_ns) / 1000000) + 1);
}

static bool make_place(struct export *export)
{
	struct client *slowest = slowest_greeted(export);
	if (slowest)
		client_kill(slowest);
	return slowest != NULL;
}

static void take_client(struct export *export, int fd)
{
	if (export->client_count >= export_clients_max(export->count) && !make_place(export)) {
		unsigned left_out;
		if (nbd_word_may(&export->refused, clock_mono_ns(), &left_out))
			log_warning("a connection was refused: %u are open, and %u are served at a time; end those that are not used protection=%s refused_before=%u",
				    export->client_count, export_clients_max(export->count), export->protection, left_out);
		(void)close(fd);
		return;
	}
	struct client *client = client_new(&export->host, fd);
	if (!client)
		return;
	client_link(&export->clients, client);
	export->client_count++;
	if (!export->greeting.due_ns)
		bound_begin(&export->greeting, EXPORT_GREETING_MS);
}

static void on_accept(struct ring_op *op, int res)
{
	struct export *export = HOLDER(op, struct export, accept);
	if (export->state != EXPORT_SERVING) {
		if (res >= 0)
			(void)close(res);
		return;
	}
	if (res >= 0 && descriptor_spare(res)) {
		(void)close(res);
		res = -EMFILE;
	}
	if (res >= 0)
		take_client(export, res);
	if (res >= 0 || res == -EINTR || res == -EAGAIN || res == -ECONNABORTED) {
		accept_arm(export);
		return;
	}
	export_accept_failed(export, res);
	accept_later(export);
}

static void accept_arm(struct export *export)
{
	if (export->state != EXPORT_SERVING)
		return;
	export->accept.done = on_accept;
	io_uring_prep_accept(ring_sqe(&export->ring, &export->accept), export->listen_fd, NULL, NULL, SOCK_CLOEXEC);
}

static void on_client_ended(struct client_host *host, struct client *client)
{
	struct export *export = HOLDER(host, struct export, host);
	client_unlink(&export->clients, client);
	export->client_count--;
}

// What the guest was told, what will be refused to it from now on, and what is the cycle's.
static void tell_error(const struct export *export, uint16_t d, enum disk_fault fault, bool fails, const char *text)
{
	const char *name = export->nbd[d].name;
	bool guests = fault == FAULT_READ || fault == FAULT_WRITE;
	log_error("an image failed%s protection=%s disk=%s error=\"%s\"", guests ? ", the guest was told" : "", export->protection, name, text);
	if (fails)
		event_emit(EVENT_CRITICAL, "state", export->protection, NULL,
			   "disk %s of %s failed, and no flush of it is promised any more until its guest is shut down, its storage repaired (if it must be mounted anew, with the "
			   "replicator stopped), and `kagami clear-error` given: %s",
			   name, export->protection, text);
	else
		event_emit(EVENT_CRITICAL, "state", export->protection, NULL, "an operation on disk %s of %s failed%s: %s", name, export->protection,
			   guests ? ", and its guest was told" : "", text);
}

void export_on_error(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res)
{
	struct export *export = HOLDER(group, struct export, group);
	uint16_t d = (uint16_t)(volume - group->volume);
	struct disk_errors *errors = &export->disk[d].errors;
	enum disk_news news = disk_errors_add(errors, fault, res, volume->failed, clock_mono_ns());
	if (news == DISK_NEWS_NONE)
		return;
	char when[WHEN_SIZE];
	struct err err;
	when_format(clock_wall_ns(), when);
	disk_errors_show(errors, when, fault, export->image[d].path, off, res, news == DISK_NEWS_FAILED, &err);
	if (news == DISK_NEWS_FAILED)
		export_note_failed(export, d, err.text); // before the guest is told (G5)
	tell_error(export, d, fault, news == DISK_NEWS_FAILED, err.text);
}

static bool crowded(const struct group *group)
{
	const struct spill *spill = &group->spill;
	if (group->set == SET_STALE)
		return true;
	if (spill->backend)
		return spill->used > spill->bytes_max / 2 || spill->runs > SPILL_RUNS_MAX / 2;
	return group->preserve.bytes > group->preserve.bytes_max / 2;
}

static uint64_t marked_bytes(const struct volume *volume)
{
	uint64_t last = (volume->size - 1) / REGION_SIZE, lacks = (last + 1) * REGION_SIZE - volume->size;
	return volume->intent.count * (uint64_t)REGION_SIZE - (volume->intent.count && intent_bit(volume->intent.marked, last) ? lacks : 0);
}

void export_publish(struct export *export)
{
	atomic_store_explicit(&export->crowded, crowded(&export->group), memory_order_relaxed);
	for (uint16_t d = 0; d < export->count; d++) {
		const struct volume *volume = &export->group.volume[d];
		atomic_store_explicit(&export->disk[d].dirty_bytes, dirty_bytes(&volume->dirty), memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].tracking_memory, volume_memory(volume) + unwritten_memory(&export->image[d].unwritten), memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].unproven_bytes, audit_map_bytes(&volume->audit, volume->size), memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].spilled_bytes, volume->spilled, memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].marked_regions, volume->intent.count, memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].marked_bytes, marked_bytes(volume), memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].unsynced_bytes, volume->unsynced * BLOCK_SIZE, memory_order_relaxed);
		atomic_store_explicit(&export->disk[d].preserved_bytes, volume->preserved, memory_order_relaxed);
	}
}

static void on_spill_late(struct bound *spilling)
{
	struct export *export = HOLDER(spilling, struct export, spilling);
	log_warning("the spill file has not answered for %u ms, the cut is given up and the guest goes on: look at the state directory "
		    "protection=%s",
		    export->spill_wait_ms_max, export->protection);
	group_give_up(&export->group, LOSS_SPILL_LATE, 0);
}

// Writes of the guest wait for old content on its way to the spill file (spill.h, S1).
static void watch_spill(struct export *export)
{
	const struct spill *spill = &export->group.spill;
	if (!spill->transit || export->group.set != SET_POINT) {
		bound_end(&export->spilling);
		return;
	}
	if (export->spilling.due_ns && spill->ended == export->spill_ended)
		return;
	export->spill_ended = spill->ended;
	bound_begin(&export->spilling, export->spill_wait_ms_max);
}

static void watch_losses(struct export *export)
{
	const struct group *group = &export->group;
	if (group->losses != atomic_load_explicit(&export->overtaken.count, memory_order_relaxed))
		overtaken_note(&export->overtaken, export->protection, group->loss, group->loss_res, clock_mono_ns());
}

// The cycle thread may be in a cycle, or have none to begin: the host must not go down meanwhile with marks that know nothing of it.
static void watch_disturbances(struct export *export)
{
	for (uint16_t d = 0; d < export->count; d++) {
		struct volume *volume = &export->group.volume[d];
		bool untold = image_disturbance_untold(&export->image[d]);
		if (untold != volume->intent.held)
			intent_hold(&export->group.intent, volume, untold);
	}
}

static void on_trim(struct ring_task *task)
{
	struct export *export = HOLDER(task, struct export, trim);
	if (export->group.set == SET_NONE && preserve_trim(&export->group.preserve, EXPORT_TRIM_BYTES))
		ring_later(&export->ring, &export->trim);
}

static void on_spare_unused(struct bound *sparing)
{
	ring_later(&HOLDER(sparing, struct export, sparing)->ring, &HOLDER(sparing, struct export, sparing)->trim);
}

// Memory that no cut wanted for a while goes back, a little at a time: all of it at once would hold the guest up for milliseconds, and new
// memory costs more than to preserve a block.
static void watch_spare(struct export *export)
{
	bool unused = export->group.set == SET_NONE && preserve_has_spare(&export->group.preserve);
	if (!unused)
		bound_end(&export->sparing);
	else if (!export->sparing.due_ns && !export->trim.queued)
		bound_begin(&export->sparing, EXPORT_SPARE_MS);
}

static void on_grace(struct ring_op *op, int res)
{
	struct export *export = HOLDER(op, struct export, grace);
	(void)res;
	for (struct client *c = export->clients; c; c = client_next(c))
		client_kill(c);
}

void export_on_stop(struct ring_message *message)
{
	struct export *export = HOLDER(message, struct export, stop);
	export->state = EXPORT_ENDING;
	intent_end(&export->group.intent);
	for (struct client *c = export->clients; c; c = client_next(c))
		client_finish(c);
	export->grace.done = on_grace;
	export->grace_time = (struct __kernel_timespec){.tv_sec = EXPORT_STOP_GRACE_S};
	io_uring_prep_timeout(ring_sqe(&export->ring, &export->grace), &export->grace_time, 0, 0);
}

static void on_final_synced(struct volume_sync *sync, int res)
{
	struct keep_sync *member = HOLDER(sync, struct keep_sync, sync);
	struct export *export = HOLDER(member->keep, struct export, final);
	if (res < 0)
		export->final_res = res;
	export->final_pending--;
}

static void final_sync(struct export *export)
{
	export->final_pending = export->count;
	for (uint16_t d = 0; d < export->count; d++) {
		struct keep_sync *member = &export->final.member[d];
		*member = (struct keep_sync){.sync = {.done = on_final_synced}, .keep = &export->final};
		volume_sync(&export->group.volume[d], &member->sync);
	}
}

// A batch of marks that the marker has had for too long is not waited for: whoever waited for a mark was let go (export_marks.c), the batch is
// the marker's own, and what it answers finds no loop any more.
static bool marks_quiet(const struct export *export)
{
	const struct intent *intent = &export->group.intent;
	uint64_t late_ns = export->commit_since_ns + export->mark_wait_ms_max * UINT64_C(1000000);
	return !intent->wanting && (!intent->committing || clock_mono_ns() >= late_ns);
}

// What is under way in the group refers to memory of others: clients, batches, preserved blocks.
static bool group_quiet(const struct group *group)
{
	return !group->cut && !group->fetches && !group->keeps && !group->writes && !group->held;
}

static bool quiet(const struct export *export)
{
	return group_quiet(&export->group) && marks_quiet(export);
}

// N1 of rest.h: this thread alone begins changes.
static void images_rest(struct export *export)
{
	for (uint16_t d = 0; d < export->count; d++)
		image_rests(&export->image[d]);
}

static void ending_step(struct export *export)
{
	if (export->clients || !quiet(export))
		return;
	if (export->state == EXPORT_ENDING) {
		export->state = EXPORT_CLOSED;
		ring_refuse(&export->ring); // runs what was posted before
	}
	if (export->state == EXPORT_CLOSED && quiet(export)) {
		group_give_back(&export->group);
		export->state = EXPORT_SYNCING;
		final_sync(export);
	}
	if (export->state == EXPORT_SYNCING && !export->final_pending && !export->group.preserve.bytes &&
	    !export->group.spill.transit && !export->group.spill.punching) {
		images_rest(export);
		export->state = EXPORT_ENDED;
	}
}

static void on_sleep(struct ring *ring)
{
	images_rest(HOLDER(ring, struct export, ring));
}

static void on_cancelled(struct ring *ring)
{
	workers_cancelled(&HOLDER(ring, struct export, ring)->workers);
}

static int loop_init(struct export *export)
{
	int code = ring_init(&export->ring, &export->start_err);
	if (code)
		return code;
	export->ring.sleeps = on_sleep;
	export->ring.cancelled = on_cancelled;
	workers_allow(&export->ring, (export->count + 1u) * IMAGE_WORKERS + 1); // the spill file is an image as well
	workers_begin(&export->workers, &export->ring, export_on_workers);
	pool_init(&export->pool);
	export->state = EXPORT_SERVING;
	export->group.intent.ending = false;
	export->final_res = 0;
	bound_init(&export->greeting, &export->ring, on_greeting_late);
	bound_init(&export->hold, &export->ring, export_on_hold_expired);
	bound_init(&export->spilling, &export->ring, on_spill_late);
	bound_init(&export->commit, &export->ring, export_on_commit_late);
	bound_init(&export->sparing, &export->ring, on_spare_unused);
	bound_init(&export->accept_short, &export->ring, export_on_accept_well);
	export->trim.run = on_trim;
	export->host = (struct client_host){
		.ring = &export->ring,
		.pool = &export->pool,
		.group = &export->group,
		.image = export->image,
		.exports = export->nbd,
		.count = export->count,
		.attached = export->attached,
		.protection = export->protection,
		.ended = on_client_ended,
	};
	accept_arm(export);
	return 0;
}

void *export_run(void *context)
{
	struct export *export = context;
	priority_guest();
	int code = loop_init(export);
	export->start_err.code = code;
	(void)sem_post(&export->ready);
	if (code)
		return NULL;
	while (export->state != EXPORT_ENDED) {
		code = ring_turn(&export->ring);
		if (code) {
			// The kernel refuses the ring itself: nothing that is under way can be known any more.
			log_error("io_uring failed, the agent cannot go on protection=%s error=%s", export->protection, strerror(-code));
			log_end();
			abort();
		}
		if (export->state != EXPORT_SERVING)
			ending_step(export);
		watch_spill(export);
		watch_losses(export);
		watch_disturbances(export);
		watch_spare(export);
		export_publish(export);
	}
	ring_done(&export->ring);
	pool_done(&export->pool);
	atomic_store(&export->looping, false);
	roll_ended(&export->entry);
	return NULL;
}
