// SPDX-License-Identifier: Apache-2.0
// The header of a state file and where everything behind it lies: docs/format-state.md, "Layout" and "Header slot".
#ifndef KAGAMI_REPLICATOR_STATE_HEADER_H
#define KAGAMI_REPLICATOR_STATE_HEADER_H

#include "base/env.h"
#include "base/names.h"
#include "replicator/state_file.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	STATE_PAGE = 4096,	 // a slot's share of the file, and a map page
	STATE_HEADER = 512,	 // what is written of a slot: one sector, which survives whole or not at all
	STATE_MARKS_AT = 2 * STATE_PAGE,
	STATE_MARK_SECTOR = 512,
	STATE_MARK_REGIONS = 3840, // of one mark sector
};

// What a header says of the time since its position.
enum state_phase {
	STATE_RUNS,  // a replicator runs, or died: the marks are the truth
	STATE_CLEAN, // it stopped: the map pages are
	STATE_LOST,  // nothing in the file is: writes went by that it does not know
};

struct state_header {
	struct uuid instance;
	uint64_t sequence;
	struct state_position position;
	uint64_t run;  // of the replicator that made the file (lease.h); only `runs` has it
	uint64_t size; // of the disk; decides how many mark sectors there are
	enum state_phase phase;
	uint64_t page_count;
	struct image_identity identity;
	char disk[NAME_SIZE];
};

uint64_t state_mark_sectors(uint64_t size);
uint64_t state_pages_at(uint64_t size);

void state_header_encode(const struct state_header *header, unsigned char sector[STATE_HEADER]);
// False for anything that docs/format-state.md does not call valid. The checksum's place in `sector` is zeroed.
bool state_header_decode(unsigned char sector[STATE_HEADER], struct state_header *ret_header);
// The valid slot with the greater sequence: its number, or -1 when there is none.
int state_header_read(struct env_file *file, struct state_header *ret_header);
// Not synced.
int state_header_write(struct env_file *file, int slot, const struct state_header *header);

#endif
