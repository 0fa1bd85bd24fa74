// SPDX-License-Identifier: Apache-2.0
// point.json: what a committed point holds. Format: docs/store.md. Works on memory only.
#ifndef KAGAMI_RECEIVER_POINT_FILE_H
#define KAGAMI_RECEIVER_POINT_FILE_H

#include "base/err.h"
#include "receiver/digest_file.h"
#include "receiver/protection_file.h"
#include "receiver/store.h"

struct point_disk {
	uint64_t size;	       // of the disk at the cut; it only grows from point to point
	uint64_t stored_bytes; // length of the overlay
	uint64_t digests;      // entries of the list
	unsigned char root[DIGEST_ROOT_SIZE];
};

struct point_file {
	struct point_info info; // holds is not stored; stored_bytes is the sum over disks
	uint64_t predecessor; // below `number`: what it stands on, or stood on before that was folded
	uint64_t blocks_sent;
	struct point_disk disk[DISKS_MAX]; // as the protection's disks
};

// The caller frees *ret_text.
int point_encode(const struct point_file *point, const struct protection *protection, char **ret_text, size_t *ret_len);
// -EBADMSG with the member that is wrong, or when the disks are not the protection's by number and name. Their sizes are not
// compared: nothing here is read that changes while the replica lives.
int point_decode(const char *text, size_t len, const struct protection *protection, struct point_file *ret_point,
		 struct err *err);

#endif
