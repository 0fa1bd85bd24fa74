// SPDX-License-Identifier: Apache-2.0
#include "replicator/protection_look.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/events.h"
#include "replicator/protection_private.h"

#include <stdio.h>
#include <string.h>

enum { URI_SIZE = 8192, URI_SHOWN_MAX = 170 };

// What to do is that nothing is lost while the disk is served.
static void say_displaced(struct protection *p, uint16_t disk, enum image_path at, bool named, char text[ERR_TEXT_MAX])
{
	char uri[URI_SIZE];
	export_uri(p->export, disk, uri, sizeof(uri));
	if (strlen(uri) > URI_SHOWN_MAX) // half of one is of no use
		(void)snprintf(uri, sizeof(uri), "its NBD URI");
	const char *what = at == IMAGE_PATH_GONE ? "was removed, or moved away," : "was replaced by another file";
	if (named)
		(void)snprintf(text, ERR_TEXT_MAX, "its image %.120s %s while it is served, and guests write to the one that has another name now: move that back", p->config.disk[disk].path, what);
	else
		(void)snprintf(text, ERR_TEXT_MAX,
			       "its image %.120s %s while it is served: guests write to a file that has no name any more, and is gone when the replicator stops. Copy it out before, its "
			       "guest shut down (nbdcopy '%s' NEW.raw), and put that in its place",
			       p->config.disk[disk].path, what, uri);
}

static void look_at_image(struct protection *p, uint16_t disk)
{
	char text[ERR_TEXT_MAX] = "";
	bool named = false, news;
	enum image_path at = export_image_path(p->export, disk, &named);
	if (at == IMAGE_PATH_UNKNOWN)
		return;
	if (at != IMAGE_PATH_SAME)
		say_displaced(p, disk, at, named, text);
	{
		LOCK_SCOPE(&p->lock);
		news = strcmp(p->displaced[disk], text) != 0;
		memcpy(p->displaced[disk], text, sizeof(text));
	}
	const char *name = p->config.name, *disk_name = p->config.disk[disk].name;
	if (news && *text)
		log_error("an image is not where it was protection=%s disk=%s: %s", name, disk_name, text);
	else if (news)
		log_info("an image is where it was protection=%s disk=%s", name, disk_name);
	if (news)
		event_emit(*text ? EVENT_CRITICAL : EVENT_INFO, "state", name, json_pack("{s:s}", "disk", disk_name), "disk %s of %s: %s", disk_name, name,
			   *text ? text : "its image is where it was again");
}

void protection_look(struct protection *p)
{
	tracking_look(p);
	(void)protection_keep_config(p);
	for (uint16_t d = 0; d < p->config.disk_count; d++)
		look_at_image(p, d);
}
