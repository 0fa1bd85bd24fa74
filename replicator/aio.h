// SPDX-License-Identifier: Apache-2.0
// Asynchronous I/O on one image, as the core sees it. Two implementations: image.c over io_uring, and a fake in the tests
// that completes in any order.
#ifndef KAGAMI_REPLICATOR_AIO_H
#define KAGAMI_REPLICATOR_AIO_H

#include <stdbool.h>
#include <stdint.h>

enum aio_kind {
	AIO_READ,
	AIO_WRITE,
	AIO_SYNC,  // what completed before this was submitted is on stable storage (fdatasync)
	AIO_PUNCH, // the range reads as zeros, unless punch_keeps; its space is freed
	AIO_ZERO,  // the range reads as zeros; its space stays
	AIO_ADVISE, // the range will be read soon: into the page cache with it, as far as the system likes
};

struct aio {
	enum aio_kind kind;
	bool background; // may take its time: must not delay the operations of the guest
	uint64_t off, len;
	void *data;
	const int *pipe; // AIO_WRITE: not NULL where the data lies in this pipe; what is not written is left in it, or lost
	// Called once, never from within submit. 0: the whole length was done (operations on disk may be short, these are not);
	// -EOPNOTSUPP from AIO_PUNCH and AIO_ZERO: the image cannot, or not quickly, or not where a page is covered in part; nothing was done.
	void (*done)(struct aio *aio, int res);
	struct aio *next; // of the implementation while it is under way
	int res;	  // likewise
};

struct aio_backend {
	void (*submit)(struct aio_backend *backend, struct aio *aio);
	// Whether `off` lies in a hole that the file system can be believed; *ret_until is where what it said ends; `off` where it was
	// not asked, since it might not answer just now. NULL: it cannot.
	bool (*hole)(struct aio_backend *backend, uint64_t off, uint64_t *ret_until);
	bool punch_keeps; // AIO_PUNCH may leave what was there, and say yes: no zeros are made by it
};

#endif
