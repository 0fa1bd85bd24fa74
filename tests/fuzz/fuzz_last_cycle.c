// SPDX-License-Identifier: Apache-2.0
// Any bytes as the last_cycle of history.json: what is taken has names that exist, and is what it becomes by being written and read again.
#include "base/auto.h"
#include "replicator/last_cycle.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct last_cycle last, again;
	struct err err = {0};
	memset(&last, 0, sizeof(last));
	memset(&again, 0, sizeof(again));
	json_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(json) && last_cycle_decode(json, &last, &err) == 0) {
		must(last.point > 0 && last.number == 0 && last.why <= CYCLE_WHY_RESTING && last.sync <= SYNC_FALSE_HOLE);
		json_t *written = last_cycle_encode(&last), *shown = last_cycle_json(&last);
		must(json_is_object(shown) && last_cycle_decode(written, &again, &err) == 0);
		must(memcmp(&last, &again, sizeof(last)) == 0); // NOLINT(bugprone-suspicious-memory-comparison): both were zeros before
		json_decref(written);
		json_decref(shown);
	}
	json_decref(json);
	return 0;
}
