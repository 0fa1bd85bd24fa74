// SPDX-License-Identifier: Apache-2.0
// The disks of one protection, served over NBD: the source that sits in the guest's write path.
//
// One thread and one io_uring per protection own the images, the dirty maps, the cut and the clients; everything below is
// a message to it. So a cut over all disks is a local act of one thread, and no guest request takes a lock.
// Protocol: docs of the NBD project (proto.md): fixed newstyle, one export per disk, named as the disk.
#ifndef KAGAMI_REPLICATOR_EXPORT_H
#define KAGAMI_REPLICATOR_EXPORT_H

#include "base/err.h"
#include "base/names.h"
#include "replicator/dirty.h"
#include "replicator/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct export_disk_config {
	char name[NAME_SIZE];
	const char *path; // of the image: a regular file or a block device, raw
	bool read_only;
};

struct export_config {
	const char *protection;	 // for logs
	const char *socket_path; // unix socket; a stale one is replaced
	uint16_t disk_count;
	struct export_disk_config disk[DISKS_MAX];
	uint64_t preserve_bytes_max; // bound of copy-before-write memory; 0 for the default of 64 MiB
};

struct image_identity { // of an image as it lies on disk, to see changes behind the agent's back
	uint64_t device, inode, size;
	int64_t mtime_ns, ctime_ns;
};

struct export;

// Opens and locks the images (another agent's lock, a wrong size, a missing or read-only file: an error that names the
// path). Nothing is served yet; the dirty maps are clean.
int export_open(const struct export_config *config, struct export **ret_export, struct err *err);
// Between open and start, and after stop: the map of a disk, to load and to save.
struct dirty *export_dirty(struct export *export, uint16_t disk);
int export_identity(struct export *export, uint16_t disk, struct image_identity *ret_identity, struct err *err);
// Binds the socket and starts the thread.
int export_start(struct export *export, struct err *err);
// Ends every client after its requests in flight, gives back an open cut (so that the dirty maps are the whole truth), syncs
// the images, ends the thread, unlinks the socket. -EIO when an image could not be synced: then the maps must not be trusted.
int export_stop(struct export *export, struct err *err);
void export_close(struct export *export); // takes NULL; after stop, or when never started

struct source *export_source(struct export *export);
uint64_t export_disk_size(struct export *export, uint16_t disk);
// nbd+unix:///NAME?socket=PATH, percent-encoded.
void export_uri(struct export *export, uint16_t disk, char *uri, size_t cap);

struct export_stats { // per disk
	uint64_t reads, writes, flushes, trims, zeroes;
	uint64_t read_bytes, written_bytes;
	uint64_t errors;
	char error[ERR_TEXT_MAX]; // the first backing error, latched; "" without one
	unsigned clients;
	uint64_t dirty_bytes;
	uint64_t preserved_bytes; // held for the cut now
};
void export_stats(struct export *export, uint16_t disk, struct export_stats *ret_stats);

#endif
