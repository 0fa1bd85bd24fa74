// SPDX-License-Identifier: Apache-2.0
// The file that a seed is made of: looked at, and brought to where the store wants it.
#ifndef KAGAMI_RECEIVER_SEED_FILE_H
#define KAGAMI_RECEIVER_SEED_FILE_H

#include "base/err.h"
#include "receiver/seeder.h"

#include <stdatomic.h>
#include <sys/types.h>

struct seed_file {
	int fd; // open for reading
	bool qcow2, block_device;
	uint64_t size;	// that the seed will have
	uint64_t bytes; // that a copy takes, about
	dev_t device;
	nlink_t links;
};

struct seed_progress {
	_Atomic uint64_t done, total; // bytes
	atomic_bool stop;
};

// -EINVAL when `path` lies in the store: nothing may be moved out of it.
int seed_file_outside(const char *path, const char *store, struct err *err);
// -EINVAL, -EBADMSG and others with what is wrong with it and what to do. A qcow2 image is one of a single file: without a backing file, an external data
// file, encryption or features that are not known here.
int seed_file_open(const struct seed_request *request, struct seed_file *ret_file, struct err *err);
void seed_file_close(struct seed_file *file);
// Makes `to` (absolute; not there yet, in a directory of the store) of it. `room` says before each part whether there is space. -ECANCELED when it was stopped.
int seed_file_bring(const struct seed_file *file, const struct seed_request *request, const char *to, struct seed_progress *progress,
		    int (*room)(void *context, uint64_t bytes, struct err *err), void *context, struct err *err);
// The raw image header of a qcow2 file, `len` bytes of it, as seed_file_open() judges it. For tests, too.
int seed_qcow2_check(const unsigned char *header, size_t len, uint64_t *ret_size, struct err *err);

#endif
