// SPDX-License-Identifier: Apache-2.0
// protection.json: what the store knows of a protection. Format: docs/store.md. Works on memory only.
#ifndef KAGAMI_RECEIVER_PROTECTION_FILE_H
#define KAGAMI_RECEIVER_PROTECTION_FILE_H

#include "base/err.h"
#include "receiver/retention.h"
#include "receiver/store.h"

enum { STORE_POINTS_MAX = 4096 }; // of one protection; also of points_keep

struct protection {
	char name[NAME_SIZE];
	struct uuid id;
	struct uuid generation;
	unsigned char owner_pin[OWNER_PIN_SIZE];
	bool fenced;
	uint64_t fenced_point;
	struct uuid generation_before; // while the fence may be taken back: what it was before
	uint64_t rollback_in_ms;       // then: the time left until it is taken back by itself; 0: it is not
	uint64_t quota_bytes; // the operator's; 0: none
	uint64_t rpo_ms;
	uint32_t points_keep; // the source's wish
	bool retention_set;   // by the operator, here: then `retention` counts, and the source's wish does not
	struct retention retention;
	struct digest_key digest;
	uint16_t disk_count;
	struct wire_disk disk[DISKS_MAX];
	struct wire_doubted doubt; // what the source does not know; disks 0: nothing
	int64_t unprotected_wall_ns; // when its source said goodbye, by our clock; 0: it did not
};

// The caller frees *ret_text.
int protection_encode(const struct protection *protection, char **ret_text, size_t *ret_len);
// -EBADMSG with the member that is wrong.
int protection_decode(const char *text, size_t len, struct protection *ret_protection, struct err *err);
// The policy that counts.
struct retention protection_retention(const struct protection *protection);
// The number of the disk called `name`, -ENOENT when there is none.
int protection_disk(const struct protection *protection, const char *name);

// It was read, or made: all zeros it is of nobody.
static inline bool protection_known(const struct protection *protection)
{
	return protection->name[0] != 0;
}

// Fenced, and for ever.
static inline bool protection_fence_final(const struct protection *protection)
{
	return protection->fenced && uuid_is_zero(&protection->generation_before);
}

#endif
