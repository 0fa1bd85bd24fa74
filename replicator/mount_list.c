// SPDX-License-Identifier: Apache-2.0
#include "replicator/mount_list.h"

#include "base/auto.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static bool is_octal(const char *at)
{
	return at[0] >= '0' && at[0] <= '3' && at[1] >= '0' && at[1] <= '7' && at[2] >= '0' && at[2] <= '7';
}

// Blanks and the like stand there as \040.
static void unescape(char *text)
{
	char *to = text;
	for (const char *at = text; *at; to++)
		if (at[0] == '\\' && is_octal(at + 1)) {
			*to = (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0'));
			at += 4;
		} else
			*to = *at++;
	*to = 0;
}

// ID PARENT MAJOR:MINOR ROOT WHERE OPTIONS [FIELD...] - TYPE SOURCE OPTIONS
static bool parse(const char *text, struct mount_line *line)
{
	unsigned high, low;
	char options[4] = "";
	const char *rest = strstr(text, " - ");
	if (!rest || sscanf(text, "%*u %*u %u:%u %*s %4095s", &high, &low, line->where) != 3 ||
	    sscanf(rest, " - %63s %4095s %3s", line->type, line->source, options) != 3)
		return false;
	unescape(line->where);
	unescape(line->source);
	line->device = makedev(high, low);
	line->writes = strcmp(options, "ro") != 0 && strcmp(options, "ro,") != 0;
	return true;
}

int mount_list_each(const char *list, int (*visit)(void *context, const struct mount_line *line), void *context)
{
	int rc = 0;
	size_t size = 0;
	AUTO_FREE char *text = NULL;
	AUTO_FREE struct mount_line *line = malloc(sizeof(*line));
	FILE *file = line ? fopen(list, "re") : NULL;
	if (!file)
		return 0;
	while (rc == 0 && getline(&text, &size, file) > 0)
		if (parse(text, line))
			rc = visit(context, line);
	(void)fclose(file);
	return rc;
}

struct search {
	const char *path;
	dev_t device;
	size_t length; // of the longest that leads to it, so far
	bool may;
};

static bool leads_to(const char *where, size_t length, const char *path)
{
	return strncmp(where, path, length) == 0 && (path[length] == '/' || path[length] == 0 || length == 1);
}

// Files have another number than their file system where it has parts: those are asked.
static bool has_parts(const char *type)
{
	return strcmp(type, "btrfs") == 0 || strcmp(type, "bcachefs") == 0 || strcmp(type, "overlay") == 0;
}

// Of two at one place the later one is on top.
static int look_at(void *context, const struct mount_line *line)
{
	struct search *search = context;
	size_t length = strlen(line->where);
	if (length < search->length || !leads_to(line->where, length, search->path))
		return 0;
	search->length = length;
	search->may = line->device == search->device || has_parts(line->type);
	return 0;
}

bool mount_list_may_be_on(const char *list, const char *path, dev_t device)
{
	struct search search = {.path = path, .device = device, .may = true};
	(void)mount_list_each(list, look_at, &search);
	return search.may;
}
