// SPDX-License-Identifier: Apache-2.0
// An export from open to close, and its socket. The thread is in export_loop.c, the cycle's side in export_source.c.
#include "replicator/export.h"

#include "base/auto.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "replicator/export_loop.h"
#include "replicator/holder.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { DEAD_MS = 5000, DEAD_PAUSE_US = 50000 };

#define PRESERVE_BYTES_DEFAULT (UINT64_C(64) << 20)
#define SPILL_BYTES_DEFAULT (UINT64_C(1) << 30)

static int check_names(const struct export_config *config, struct err *err)
{
	if (config->disk_count == 0 || config->disk_count > DISKS_MAX)
		return err_set(err, -EINVAL, "a protection has 1 to %d disks", DISKS_MAX);
	for (unsigned i = 0; i < config->disk_count; i++) {
		const char *name = config->disk[i].name;
		if (!name_ok(name))
			return err_set(err, -EINVAL, "disk name \"%s\" is not allowed: " NAME_RULE, name);
		for (unsigned j = 0; j < i; j++)
			if (strcmp(name, config->disk[j].name) == 0)
				return err_set(err, -EINVAL, "two disks have the name %s: give each its own", name);
	}
	return 0;
}

static int open_images(struct export *export, const struct export_config *config, struct err *err)
{
	for (; export->count < config->disk_count; export->count++) {
		const struct export_disk_config *from = &config->disk[export->count];
		struct image *image = &export->image[export->count];
		struct nbd_export *nbd = &export->nbd[export->count];
		if (config->opening)
			atomic_store(config->opening, export->count + 1u);
		int code = image_open(image, from->path, from->read_only, err);
		if (config->opening)
			atomic_store(config->opening, 0);
		if (code)
			return code;
		image_attach(image, &export->ring);
		image->reader = &export->reader;
		disk_errors_init(&export->disk[export->count].errors);
		memcpy(nbd->name, from->name, sizeof(from->name));
		nbd->size = image->size;
		nbd->read_only = from->read_only;
	}
	return 0;
}

static int allocate(struct export *export, const struct export_config *config)
{
	export->protection = strdup(config->protection);
	export->socket_path = strdup(config->socket_path);
	export->run_dir = config->run_dir ? strdup(config->run_dir) : NULL;
	export->uuid = config->uuid;
	export->image = calloc(config->disk_count, sizeof(*export->image));
	export->nbd = calloc(config->disk_count, sizeof(*export->nbd));
	export->disk = calloc(config->disk_count, sizeof(*export->disk));
	export->attached = calloc(config->disk_count, sizeof(*export->attached));
	export->losing = calloc(config->disk_count, sizeof(*export->losing));
	export->writing = calloc(config->disk_count, sizeof(*export->writing));
	return export->protection && export->socket_path && (export->run_dir || !config->run_dir) && export->image && export->nbd && export->disk &&
			       export->attached && export->losing && export->writing
		       ? 0
		       : -ENOMEM;
}

static int make_group(struct export *export, const struct export_config *config)
{
	uint64_t most = config->preserve_bytes_max ? config->preserve_bytes_max : PRESERVE_BYTES_DEFAULT;
	uint64_t size[DISKS_MAX];
	struct aio_backend *backend[DISKS_MAX];
	for (uint16_t d = 0; d < export->count; d++) {
		size[d] = export->image[d].size;
		backend[d] = &export->image[d].backend;
		export->source.disk_size[d] = size[d];
		export->disk[d].size = size[d];
	}
	export->marker_config = config->marker;
	export->roll = config->roll;
	export->cut_hold_ms_max = config->cut_hold_ms_max ? config->cut_hold_ms_max : EXPORT_CUT_HOLD_MS_MAX;
	export->sweep_rest_ms = config->sweep_rest_ms ? config->sweep_rest_ms : EXPORT_SWEEP_REST_MS;
	export->mark_wait_ms_max = config->mark_wait_ms_max ? config->mark_wait_ms_max : EXPORT_MARK_WAIT_MS_MAX;
	export->note_wait_ms_max = config->note_wait_ms_max ? config->note_wait_ms_max : EXPORT_NOTE_WAIT_MS_MAX;
	export->spill_wait_ms_max = config->spill_wait_ms_max ? config->spill_wait_ms_max : EXPORT_SPILL_WAIT_MS_MAX;
	export->source.ops = &export_source_ops;
	export->source.disk_count = export->count;
	int code = group_init(&export->group, export->count, size, backend, most);
	export->group.on_error = export_on_error;
	if (code == 0 && config->marker.commit)
		intent_enable(&export->group.intent, &export->group, export_on_marks_wanted);
	return code;
}

static void open_spill(struct export *export, const struct export_config *config)
{
	struct err err;
	if (!config->spill_dir)
		return;
	if (image_open_scratch(&export->spill, config->spill_dir, &err)) {
		log_warning("cuts are bounded by memory alone protection=%s error=\"%s\"", export->protection, err.text);
		return;
	}
	image_attach(&export->spill, &export->ring);
	export->spill.reader = &export->reader;
	export->spill_most = config->spill_bytes_max ? config->spill_bytes_max : SPILL_BYTES_DEFAULT;
	group_set_spill(&export->group, &export->spill.backend, export->spill_most);
}

int export_open(const struct export_config *config, struct export **ret_export, struct err *err)
{
	int code = check_names(config, err);
	if (code)
		return code;
	struct export *export = calloc(1, sizeof(*export));
	if (!export)
		return err_sys(err, -ENOMEM, "open the disks of %s", config->protection);
	export->listen_fd = -1;
	code = ring_open(&export->ring, err);
	if (code) {
		free(export);
		return code;
	}
	code = allocate(export, config);
	if (code)
		(void)err_sys(err, code, "open the disks of %s", config->protection);
	else
		code = open_images(export, config, err);
	if (code == 0) {
		code = make_group(export, config);
		if (code)
			(void)err_sys(err, code, "make the dirty maps of %s", config->protection);
	}
	if (code == 0) {
		open_spill(export, config);
		code = export_load_failed(export, err);
	}
	if (code) {
		export_close(export);
		return code;
	}
	*ret_export = export;
	return 0;
}

void export_close(struct export *export)
{
	if (!export)
		return;
	assert(!export->running);
	roll_leave(&export->entry);
	group_done(&export->group);
	for (uint16_t d = 0; d < export->count; d++) {
		image_close(&export->image[d]);
		disk_errors_done(&export->disk[d].errors);
	}
	if (export->spill.path)
		image_close(&export->spill);
	ring_close(&export->ring);
	free(export->image);
	free(export->nbd);
	free(export->disk);
	free(export->losing);
	free(export->writing);
	free((void *)export->attached);
	free(export->protection);
	free(export->socket_path);
	free(export->run_dir);
	free(export);
}

struct dirty *export_dirty(struct export *export, uint16_t disk)
{
	assert(!export->running && disk < export->count);
	return &export->group.volume[disk].dirty;
}

void export_set_marked(struct export *export, uint16_t disk, const struct dirty *dirty)
{
	assert(!export->running && disk < export->count);
	for (uint64_t r = 0; r < dirty->regions; r++)
		if (dirty->region[r])
			intent_set_marked(&export->group.intent, &export->group.volume[disk], r);
}

void export_drop_cache(struct export *export, uint16_t disk, uint64_t off, uint64_t len)
{
	assert(disk < export->count);
	image_drop_cache(&export->image[disk], off, len);
}

bool export_drops_at_once(struct export *export, uint16_t disk)
{
	struct image_pages pages;
	return image_pages(&export->image[disk], 0, 0, &pages) == 0 && pages.dirty + pages.writeback == 0;
}

bool export_cached(struct export *export, uint16_t disk, uint64_t off, uint64_t len)
{
	struct image_pages pages;
	return image_pages(&export->image[disk], off, len, &pages) != 0 || pages.cached + pages.writeback > 0;
}

void export_set_stale(struct export *export, uint16_t disk, bool is)
{
	atomic_store_explicit(&export->image[disk].stale, is, memory_order_relaxed);
}

int export_identity(struct export *export, uint16_t disk, struct image_identity *ret_identity, struct err *err)
{
	assert(disk < export->count);
	return image_identify(&export->image[disk], ret_identity, err);
}

int export_settle_identity(struct export *export, uint16_t disk, struct err *err)
{
	assert(disk < export->count);
	int failed = 0, code = image_settle_times(&export->image[disk], &failed, err);
	export_unsynced(export, disk, failed);
	return code;
}

bool export_was_disturbed(struct export *export, uint16_t disk)
{
	assert(disk < export->count);
	return image_was_disturbed(&export->image[disk]);
}

void export_disturbance_told(struct export *export, uint16_t disk)
{
	assert(disk < export->count);
	image_disturbance_told(&export->image[disk]);
}

bool export_has_image(const struct export *export, const struct image_file *file, uint16_t *ret_disk)
{
	for (uint16_t d = 0; d < export->count; d++)
		if (image_file_same(&export->image[d].file, file)) {
			*ret_disk = d;
			return true;
		}
	return false;
}

enum image_path export_image_path(struct export *export, uint16_t disk, bool *ret_named)
{
	assert(disk < export->count);
	return image_look(&export->image[disk], ret_named);
}

enum rest_verdict export_judge(struct export *export, uint16_t disk)
{
	assert(!export->running && disk < export->count);
	struct image *image = &export->image[disk];
	int failed = 0;
	image_judged(image);
	bool settled = !image->block_device || image_settle(image, &failed);
	export_unsynced(export, disk, failed);
	if (!settled || (!image->block_device && !image->times_tell))
		return REST_DISTURBED;
	if (!export->run_dir)
		return image->block_device ? REST_DISTURBED : REST_LEFT_ALONE;
	return rest_judge(export->run_dir, export->protection, export->nbd[disk].name, image->fd);
}

// Without a note the next start after this process's death goes by the time of the host's, and compares more than it has to.
static void begin_notes(struct export *export)
{
	struct err err;
	for (uint16_t d = 0; export->run_dir && d < export->count; d++) {
		struct image *image = &export->image[d];
		image->synced = true; // nothing of ours is unwritten (rest.h, N3)
		bool unnoted = (image->block_device || image->times_tell) &&
			       rest_begin(&image->rest, export->run_dir, export->protection, export->nbd[d].name, image->fd, &err);
		atomic_store(&export->disk[d].unnoted, unnoted);
		image_look_at_judged(image); // the state directory may have been waited for
		if (unnoted)
			log_warning("after a crash all of the disk would be compared protection=%s disk=%s: %s", export->protection,
				    export->nbd[d].name, err.text);
	}
}

// ---- the socket

static int somebody_listens(const struct sockaddr_un *address)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	// EAGAIN: somebody does, with many waiting.
	return connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN;
}

// The kernel ends an io_uring after its process: for a moment, the accept of an agent that was killed still listens. A restart comes
// in that moment, and must not fail for it.
static int wait_for_the_dead(const struct sockaddr_un *address)
{
	int64_t until_ms = clock_mono_ms() + DEAD_MS;
	int rc;
	while ((rc = somebody_listens(address)) > 0 && clock_mono_ms() < until_ms)
		(void)usleep(DEAD_PAUSE_US);
	return rc;
}

static int remove_stale(const char *path, const struct sockaddr_un *address, struct err *err)
{
	struct stat st;
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, -errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s exists and is not a socket: move it away", path);
	int listens = wait_for_the_dead(address);
	if (listens < 0)
		return err_sys(err, listens, "create a socket");
	if (listens)
		return err_set(err, -EADDRINUSE, "another agent serves %s: stop it first", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_sys(err, -errno, "remove the stale socket %s", path);
	return 0;
}

// At export->socket_path; a stale socket is replaced, -EADDRINUSE when somebody answers there.
static int export_listen(struct export *export, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *path = export->socket_path;
	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(err, -ENAMETOOLONG, "socket path %s is longer than %zu bytes: choose a shorter run directory", path,
			       sizeof(address.sun_path) - 1);
	memcpy(address.sun_path, path, strlen(path));
	int code = remove_stale(path, &address, err);
	if (code)
		return code;
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, -errno, "create a socket");
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return err_sys(err, -errno, "create the socket %s", path);
	if (chmod(path, 0660) < 0 || listen(fd, EXPORT_CLIENTS_MAX) < 0) {
		code = err_sys(err, -errno, "listen at %s", path);
		(void)unlink(path);
		return code;
	}
	export->listen_fd = fd;
	fd = -1;
	return 0;
}

static void stop_listening(struct export *export)
{
	(void)close(export->listen_fd);
	export->listen_fd = -1;
	(void)unlink(export->socket_path);
}

// ---- start and stop

void export_end(struct export *export)
{
	if (atomic_exchange(&export->told_to_end, true))
		return;
	export->stop.run = export_on_stop;
	bool posted = ring_post(&export->ring, &export->stop);
	assert(posted); // nothing else closes the ring
}

static void on_roll_end(struct roll_entry *entry)
{
	export_end(HOLDER(entry, struct export, entry));
}

// A client that would come is refused, not left waiting. An image whose last write has ended is free for others at once; of one that hangs a
// write may still come, over what others would write.
static void on_roll_abandon(struct roll_entry *entry)
{
	struct export *export = HOLDER(entry, struct export, entry);
	(void)unlink(export->socket_path);
	if (export->listen_fd >= 0)
		(void)shutdown(export->listen_fd, SHUT_RDWR);
	for (uint16_t d = 0; entry->ended && d < export->count; d++)
		image_unlock(&export->image[d]);
}

static void on_roll_write_out(struct roll_entry *entry)
{
	export_write_out(HOLDER(entry, struct export, entry));
}

static bool on_roll_writes_out(struct roll_entry *entry, uint64_t *pieces)
{
	return export_writes_out(HOLDER(entry, struct export, entry), pieces);
}

static uint64_t on_roll_pieces(struct roll_entry *entry)
{
	const struct export *export = HOLDER(entry, struct export, entry);
	uint64_t pieces = 0;
	for (uint16_t d = 0; d < export->count; d++)
		pieces += atomic_load_explicit(&export->image[d].pieces, memory_order_relaxed);
	return pieces;
}

static uint64_t on_roll_owes(struct roll_entry *entry)
{
	const struct export *export = HOLDER(entry, struct export, entry);
	uint64_t pages = 0;
	for (uint16_t d = 0; d < export->count; d++)
		pages += image_unwritten(&export->image[d]);
	return pages;
}

static int start_thread(struct export *export, struct err *err)
{
	int code = thread_start(&export->thread, "kagami-export", export_run, export);
	if (code)
		return err_sys(err, code, "start a thread");
	while (sem_wait(&export->ready) < 0)
		continue; // EINTR is all it fails with
	if (export->start_err.code == 0)
		return 0;
	(void)pthread_join(export->thread, NULL);
	return err_set(err, export->start_err.code, "%s", export->start_err.text);
}

int export_start(struct export *export, struct err *err)
{
	assert(!export->running);
	int code = export_listen(export, err);
	if (code)
		return code;
	if (export->marker_config.commit)
		code = marker_start(&export->marker, &export->marker_config, &export->ring, export_on_marks, err);
	if (code == 0)
		code = reader_start(&export->reader, &export->ring, err);
	if (code) {
		marker_stop(&export->marker);
		stop_listening(export);
		return code;
	}
	begin_notes(export);
	(void)sem_init(&export->ready, 0, 0);
	export->entry = (struct roll_entry){.protection = export->protection,
					    .write_out = on_roll_write_out,
					    .writes_out = on_roll_writes_out,
					    .end = on_roll_end,
					    .abandon = on_roll_abandon,
					    .pieces = on_roll_pieces,
					    .owes = on_roll_owes};
	export_write_out_init(export);
	atomic_store(&export->told_to_end, false);
	atomic_store(&export->looping, true);
	export_publish(export);
	code = start_thread(export, err);
	(void)sem_destroy(&export->ready);
	if (code) {
		atomic_store(&export->looping, false);
		reader_stop(&export->reader);
		marker_stop(&export->marker);
		stop_listening(export);
	}
	export->running = code == 0;
	if (code == 0)
		export_tell_failed(export);
	if (export->roll && code == 0)
		roll_enter(export->roll, &export->entry);
	return code;
}

int export_stop(struct export *export, struct err *err)
{
	assert(export->running);
	export_end(export);
	(void)pthread_join(export->thread, NULL);
	export->running = false;
	reader_stop(&export->reader);
	marker_stop(&export->marker);
	export_heralds_stop(export);
	stop_listening(export);
	if (export->final_res < 0)
		return err_set(err, -EIO,
			       "the images of %s could not be synced (see above): repair the storage under them",
			       export->protection);
	return 0;
}

// ---- what others see

struct source *export_source(struct export *export)
{
	return &export->source;
}

void export_hurry(struct export *export, bool hurry)
{
	reader_hurry(&export->reader, hurry);
}

bool export_crowded(struct export *export)
{
	return atomic_load_explicit(&export->crowded, memory_order_relaxed);
}

uint64_t export_disk_size(struct export *export, uint16_t disk)
{
	assert(disk < export->count);
	return atomic_load_explicit(&export->disk[disk].size, memory_order_relaxed);
}

void export_uri(struct export *export, uint16_t disk, char *uri, size_t cap)
{
	assert(disk < export->count && cap > 0);
	int used = snprintf(uri, cap, "nbd+unix:///%s?socket=", export->nbd[disk].name);
	size_t at = (size_t)used;
	for (const char *c = export->socket_path; *c && at + 4 <= cap; c++) {
		bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr("/-._~", *c);
		at += (size_t)snprintf(uri + at, cap - at, plain ? "%c" : "%%%02X", (unsigned char)*c);
	}
}

uint64_t export_spill_silent_ns(const struct export *export)
{
	return export->spill.path ? image_silent_ns(&export->spill, clock_mono_ns()) : 0;
}

void export_stats(struct export *export, uint16_t disk, struct export_stats *ret_stats)
{
	assert(disk < export->count);
	struct volume_stats *from = &export->group.volume[disk].stats;
	struct export_disk *seen = &export->disk[disk];
	*ret_stats = (struct export_stats){
		.silent_ns = image_silent_ns(&export->image[disk], clock_mono_ns()),
		.reads = atomic_load_explicit(&from->reads, memory_order_relaxed),
		.writes = atomic_load_explicit(&from->writes, memory_order_relaxed),
		.flushes = atomic_load_explicit(&from->flushes, memory_order_relaxed),
		.trims = atomic_load_explicit(&from->trims, memory_order_relaxed),
		.zeroes = atomic_load_explicit(&from->zeroes, memory_order_relaxed),
		.read_bytes = atomic_load_explicit(&from->read_bytes, memory_order_relaxed),
		.written_bytes = atomic_load_explicit(&from->written_bytes, memory_order_relaxed),
		.errors = atomic_load_explicit(&seen->errors.count, memory_order_acquire),
		.failed = atomic_load_explicit(&seen->errors.failed, memory_order_relaxed),
		.clients = atomic_load_explicit(&export->attached[disk], memory_order_relaxed),
		.dirty_bytes = atomic_load_explicit(&seen->dirty_bytes, memory_order_relaxed),
		.spilled_bytes = atomic_load_explicit(&seen->spilled_bytes, memory_order_relaxed),
		.marked_regions = atomic_load_explicit(&seen->marked_regions, memory_order_relaxed),
		.marked_bytes = atomic_load_explicit(&seen->marked_bytes, memory_order_relaxed),
		.unsynced_bytes = atomic_load_explicit(&seen->unsynced_bytes, memory_order_relaxed),
		.untold = !export->image[disk].times_tell || atomic_load_explicit(&seen->unnoted, memory_order_relaxed),
		.unproven_bytes = atomic_load_explicit(&seen->unproven_bytes, memory_order_relaxed),
		.tracking_memory = atomic_load_explicit(&seen->tracking_memory, memory_order_relaxed),
		.tracking_lost = atomic_load_explicit(&seen->lost, memory_order_acquire),
		.preserved_bytes = atomic_load_explicit(&seen->preserved_bytes, memory_order_relaxed),
	};
	uint64_t last_ns = atomic_load_explicit(&seen->errors.last_ns, memory_order_relaxed), now_ns = clock_mono_ns();
	ret_stats->error_ago_ns = now_ns > last_ns ? now_ns - last_ns : 0; // there may have been another since
	disk_errors_text(&seen->errors, ret_stats->error);
	if (ret_stats->tracking_lost)
		memcpy(ret_stats->tracking_error, seen->lost_error, sizeof(ret_stats->tracking_error));
}
