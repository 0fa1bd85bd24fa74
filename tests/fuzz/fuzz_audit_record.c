// SPDX-License-Identifier: Apache-2.0
// Any bytes as audit.json: what is taken has runs that ascend and do not overlap, and is what it becomes by being written and read again.
#include "base/auto.h"
#include "replicator/audit_record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct audit_record record, again;
	struct err err = {0};
	if (audit_record_decode((const char *)data, size, &record, &err))
		return 0;
	must(record.count <= DISKS_MAX);
	for (unsigned d = 0; d < record.count; d++) {
		const struct audit_runs *runs = &record.disk[d].unproven;
		must(runs->count <= AUDIT_RUNS_MAX && name_ok(record.disk[d].name));
		for (unsigned i = 0; i < runs->count; i++)
			must(runs->run[i].count && (i == 0 || runs->run[i].first >= runs->run[i - 1].first + runs->run[i - 1].count));
	}
	AUTO_FREE char *text = audit_record_encode(&record);
	must(text && audit_record_decode(text, strlen(text), &again, &err) == 0);
	must(memcmp(&record, &again, sizeof(record)) == 0); // NOLINT(bugprone-suspicious-memory-comparison): both were zeros before
	return 0;
}
