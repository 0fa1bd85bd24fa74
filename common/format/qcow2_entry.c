// SPDX-License-Identifier: Apache-2.0
// Whether an entry of a table may be followed: asked by the reader, for each entry that it uses, and by the check, for all.
#include "format/qcow2_layout.h"

#define L1_RESERVED UINT64_C(0x7f000000000001ff)
#define L2_RESERVED UINT64_C(0x3f000000000001ff) // of a plain entry; bit 0 too, with extended entries

bool qcow2_l1_entry_sound(uint64_t entry, uint64_t file_size)
{
	uint64_t offset = entry & QCOW2_OFFSET_MASK;
	return !(entry & L1_RESERVED) && offset != 0 && offset % QCOW2_CLUSTER_SIZE == 0 &&
	       size_within(offset, QCOW2_CLUSTER_SIZE, file_size);
}

static bool packed_sound(struct qcow2_entry entry, uint64_t file_size)
{
	uint64_t offset = qcow2_packed_offset(entry);
	return !(entry.where & QCOW2_COPIED) && entry.bits == 0 && offset >= QCOW2_CLUSTER_SIZE &&
	       size_within(offset, 1, file_size); // its last sector may reach past the end
}

static bool plain_sound(struct qcow2_entry entry, uint64_t file_size)
{
	uint64_t offset = qcow2_entry_offset(entry);
	if (entry.where & L2_RESERVED || qcow2_entry_allocated(entry) & qcow2_entry_zero(entry))
		return false;
	if (offset == 0)
		return entry.where == 0 && qcow2_entry_allocated(entry) == 0;
	// QEMU's file may end behind the last subcluster that it wrote.
	unsigned subclusters = QCOW2_SUBCLUSTERS;
	while (subclusters && !(qcow2_entry_allocated(entry) >> (subclusters - 1) & 1))
		subclusters--;
	return offset % QCOW2_CLUSTER_SIZE == 0 && size_within(offset, subclusters * QCOW2_SUBCLUSTER_SIZE, file_size);
}

bool qcow2_entry_sound(struct qcow2_entry entry, uint64_t file_size)
{
	return qcow2_entry_packed(entry) ? packed_sound(entry, file_size) : plain_sound(entry, file_size);
}
