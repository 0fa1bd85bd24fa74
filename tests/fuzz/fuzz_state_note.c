// SPDX-License-Identifier: Apache-2.0
// Any bytes as RUN_DIR/state/NAME:DISK, also with the check that they should have: what is taken is what it becomes by being written.
#include "base/bytes.h"
#include "base/crc32c.h"
#include "replicator/state_note.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static bool taken(const unsigned char *data, size_t size)
{
	unsigned char again[STATE_NOTE_BYTES];
	struct state_noted noted;
	if (!state_noted_decode(data, size, &noted))
		return false;
	must(size == STATE_NOTE_BYTES);
	state_noted_encode(&noted, again);
	must(memcmp(data, again, STATE_NOTE_BYTES) == 0);
	return true;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	(void)taken(data, size);
	if (size < 8)
		return 0;
	unsigned char *copy = malloc(size); // of its own length: a sanitizer sees what is read past it
	must(copy != NULL);
	memcpy(copy, data, size);
	put_le32(copy, crc32c(copy + 4, size - 4));
	must(taken(copy, size) == (size == STATE_NOTE_BYTES && get_le32(copy + 4) == 0));
	free(copy);
	return 0;
}
