// SPDX-License-Identifier: Apache-2.0
#include "tools/hopeless.h"

#include "tools/show.h"

#include <stdio.h>
#include <string.h>

static const char *of_state(const json_t *protection)
{
	const char *state = show_text_of(protection, "state"), *reason = show_text_of(protection, "reason");
	if (strcmp(state, "paused") == 0)
		return "the protection is paused: \"kagami resume\" lets it go on";
	if (strcmp(state, "fenced") == 0 || strcmp(state, "failed") == 0 || strcmp(state, "ending") == 0)
		return reason[0] ? reason : "see the log of kagami-replicator";
	return NULL;
}

// What failed stays so until `kagami clear-error`, also over a restart. That an image is short was found by the newest try, which is before this cycle until that was begun: it may have its size again.
static bool of_disk(const json_t *disk, bool tried, char text[HOPELESS_TEXT])
{
	const char *name = show_text_of(disk, "name"), *cut_short = show_text_of(disk, "cut_short");
	if (show_flag_of(disk, "failed"))
		(void)snprintf(text, HOPELESS_TEXT, "disk %s failed, and no point is made of it until its guest is shut down, its storage repaired, and `kagami clear-error` given: %.400s", name,
			       show_text_of(disk, "error"));
	else if (tried && cut_short[0])
		(void)snprintf(text, HOPELESS_TEXT, "%s", cut_short);
	else
		return false;
	return true;
}

const char *hopeless_refused(const json_t *protection, uint64_t failures)
{
	const char *reason = show_text_of(protection, "reason");
	return show_flag_of(protection, "stuck") && show_number_of(protection, "connect_failures") > failures && reason[0] ? reason : NULL;
}

const char *hopeless(const json_t *protection, uint64_t cycle, char text[HOPELESS_TEXT])
{
	const json_t *disk;
	size_t i;
	const char *why = of_state(protection);
	bool tried = show_number_of(json_object_get(protection, "cycles"), "started") >= cycle;
	if (why)
		(void)snprintf(text, HOPELESS_TEXT, "%s", why);
	if (why || json_is_object(json_object_get(protection, "progress"))) // what was cut before it failed may be committed
		return why ? text : NULL;
	json_array_foreach(json_object_get(protection, "disks"), i, disk)
		if (of_disk(disk, tried, text))
			return text;
	return NULL;
}
