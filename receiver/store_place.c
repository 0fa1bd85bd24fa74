// SPDX-License-Identifier: Apache-2.0
// Whether the path of the store still leads to the directory that is open. What the receiver reads and writes itself goes by that directory; what it tells to people and to
// QEMU goes by the path, where a rename or a mount may have put another one: it is told after it was asked here.
#include "receiver/store_lists.h"

#include "base/log.h"
#include "link/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PLACE_PATH_SIZE = 4096 + REPLICA_PATH_SIZE };

struct env_root *store_root(const struct store *store)
{
	return store->root;
}

// -ESTALE, and what to do, when it is known to lead elsewhere; another error when it could not be looked at.
static int look(const struct store *s, struct err *err)
{
	int rc = env_leads(s->root, ".", s->path);
	if (rc == -ENOENT || rc == -ENOTDIR)
		return err_set(err, -ESTALE, "the store that this receiver has open is not at %.160s any more, it was moved away or removed: move it back there, or start the receiver "
					     "again with the --store where it is now", s->path);
	if (rc == -ESTALE)
		return err_set(err, rc, "at %.160s is another directory than the store that this receiver has open, and no point comes there: move away or unmount what is there and put "
					"the open one back, or start the receiver again with the --store where that is now", s->path);
	return rc ? err_sys(err, rc, "see what is at the path of the store, %.160s", s->path) : 0;
}

static void say(struct store *s, const char *text)
{
	{
		LOCK_SCOPE(&s->lock);
		if (strcmp(s->displaced, text) == 0)
			return;
		(void)snprintf(s->displaced, sizeof(s->displaced), "%s", text);
	}
	if (*text)
		log_error("the store is not where it was store=%s: %s", s->path, text);
	else
		log_info("the store is where it was store=%s", s->path);
	event_emit(*text ? EVENT_CRITICAL : EVENT_INFO, "state", NULL, NULL, "%s", *text ? text : "the store is where it was again");
}

int store_look(struct store *s, struct err *err)
{
	struct err why = {.code = 0};
	int rc = look(s, &why);
	if (rc == 0 || rc == -ESTALE)
		say(s, why.text);
	return rc ? err_set(err, rc, "%s", why.text) : 0;
}

int store_leads(struct store *s, const char *name, struct err *err)
{
	char path[PLACE_PATH_SIZE];
	int rc = store_look(s, err);
	if (rc)
		return rc;
	int n = snprintf(path, sizeof(path), "%s/%s", s->path[1] ? s->path : "", name);
	rc = n < (int)sizeof(path) ? env_leads(s->root, name, path) : -ENAMETOOLONG;
	if (rc == -ESTALE)
		return err_set(err, rc, "at %.300s is another directory than in the store that this receiver has open: unmount or move away what is there, and ask again", path);
	return rc ? err_sys(err, rc, "see what is at %.300s", path) : 0;
}

bool store_displaced(struct store *s, char ret_text[ERR_TEXT_MAX])
{
	LOCK_SCOPE(&s->lock);
	memcpy(ret_text, s->displaced, sizeof(s->displaced));
	return *ret_text;
}
