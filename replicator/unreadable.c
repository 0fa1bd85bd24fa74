// SPDX-License-Identifier: Apache-2.0
#include "replicator/unreadable.h"

#include "base/size.h"

#define QUIET_NS (UNREADABLE_S * UINT64_C(1000000000))

void unreadable_add(struct unreadable *u, uint64_t off, uint64_t len, uint64_t now_ns)
{
	bool any = unreadable_any(u);
	atomic_store(&u->failed_ns, now_ns);
	atomic_store(&u->from, any ? min_u64(atomic_load(&u->from), off) : off);
	atomic_store(&u->to, any ? max_u64(atomic_load(&u->to), off + len) : off + len);
}

void unreadable_well(struct unreadable *u, uint64_t off, uint64_t len, uint64_t now_ns)
{
	uint64_t from = atomic_load(&u->from), to = atomic_load(&u->to), end = off + len;
	if (now_ns < atomic_load(&u->failed_ns) + QUIET_NS)
		return;
	if (off <= from && end >= to)
		atomic_store(&u->to, 0);
	else if (off <= from && end > from)
		atomic_store(&u->from, end);
	else if (off < to && end >= to)
		atomic_store(&u->to, off);
}

bool unreadable_within(const struct unreadable *u, uint64_t off, uint64_t len)
{
	return unreadable_any(u) && off < atomic_load(&u->to) && off + len > atomic_load(&u->from);
}
