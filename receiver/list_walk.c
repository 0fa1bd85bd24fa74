// SPDX-License-Identifier: Apache-2.0
#include "receiver/list_walk.h"

#include <errno.h>

static int walk_on(struct list_walk *walk, uint64_t from, struct err *err)
{
	int rc = qcow2_reader_next(walk->overlay, from, &walk->next, err);
	walk->over = rc == -ENOENT;
	return walk->over ? 0 : rc;
}

int list_walk_begin(struct list_walk *walk, struct qcow2_reader *overlay, struct err *err)
{
	walk->overlay = overlay;
	return walk_on(walk, 0, err);
}

static int not_in_list(const struct list_walk *walk, struct err *err)
{
	return err_set(err, -EBADMSG, "block %llu is in the overlay and not in the list", (unsigned long long)walk->next);
}

int list_walk_entry(struct list_walk *walk, uint64_t index, const struct digest *digest, struct err *err)
{
	if (!walk->over && walk->next < index)
		return not_in_list(walk, err);
	if (!walk->over && walk->next == index)
		return walk_on(walk, index + 1, err);
	if (digest_is_unknown(digest))
		return 0;
	return err_set(err, -EBADMSG, "block %llu is in the list and not in the overlay", (unsigned long long)index);
}

int list_walk_end(const struct list_walk *walk, struct err *err)
{
	return walk->over ? 0 : not_in_list(walk, err);
}
