// SPDX-License-Identifier: Apache-2.0
// The lease of a state directory: what is taken for valid is within its limits, and is written as it was read.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "replicator/lease.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned char sector[LEASE_BYTES] = {0}, again[LEASE_BYTES];
	struct lease_book book = {0};
	memcpy(sector, data, len < LEASE_BYTES ? len : LEASE_BYTES);
	if (len % 8 != 7) { // mostly: nobody guesses a checksum
		put_le32(sector + 12, 0);
		put_le32(sector + 12, crc32c(sector, LEASE_BYTES));
	}
	memcpy(again, sector, LEASE_BYTES);
	if (!lease_decode(again, &book))
		return 0;
	if (book.count == 0 || book.count > LEASE_RUNS_MAX)
		abort();
	lease_encode(&book, again);
	if (memcmp(sector, again, LEASE_BYTES) != 0)
		abort();
	return 0;
}
