// SPDX-License-Identifier: Apache-2.0
#include "replicator/apart.h"

#include "base/size.h"

bool apart_asks(const struct apart *apart)
{
	return apart->rest == 0;
}

void apart_asked(struct apart *apart, unsigned pieces_kept)
{
	apart->kept += pieces_kept;
	if (++apart->seen < APART_SAMPLE)
		return;
	bool paid = apart->kept >= APART_SAMPLE * PIECES_PER_BLOCK / 4;
	apart->rest = paid ? 0 : apart->next_rest ? apart->next_rest : APART_REST_MIN;
	apart->next_rest = paid ? APART_REST_MIN : (unsigned)min_u64(2 * (uint64_t)apart->rest, APART_REST_MAX);
	apart->seen = apart->kept = 0;
}

void apart_not_asked(struct apart *apart)
{
	apart->rest -= apart->rest > 0;
}
