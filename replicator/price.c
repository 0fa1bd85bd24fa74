// SPDX-License-Identifier: Apache-2.0
#include "replicator/price.h"

#include "base/size.h"

void price_add(struct price *price, const struct export_stats *stats, uint64_t size, bool whole, uint64_t damaged_bytes)
{
	price->dirty_bytes += stats->dirty_bytes;
	price->unsynced_bytes += stats->unsynced_bytes;
	price->reread_bytes += whole || stats->untold ? size : min_u64(stats->marked_bytes + damaged_bytes, size);
}

// After a crash whole blocks are looked at, so a dirty piece may cost a block. What is in a cut is in no map: then only
// the marks bound it. What a point has and no sync of the image was for may be older on the image after a power cut than in the point.
uint64_t price_resend_max(const struct price *price, bool settled)
{
	if (!settled)
		return price->reread_bytes;
	return min_u64(price->reread_bytes, price->dirty_bytes * PIECES_PER_BLOCK + price->unsynced_bytes);
}
