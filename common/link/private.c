// SPDX-License-Identifier: Apache-2.0
#include "link/private.h"

#include "base/err.h"
#include "base/log.h"
#include "link/events.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool anothers(const struct stat *st)
{
	return st->st_uid != 0 && st->st_uid != geteuid();
}

static bool too_open(const char *text)
{
	log_warning("%s", text);
	event_emit(EVENT_WARNING, "daemon", NULL, NULL, "%s", text);
	return false;
}

bool private_directory(const char *what, const char *path)
{
	struct stat st;
	char text[ERR_TEXT_MAX];
	if (stat(path, &st) || (!anothers(&st) && !(st.st_mode & (S_IWGRP | S_IWOTH))))
		return true;
	(void)snprintf(text, sizeof(text), "others may write to the %s directory %.250s, and so make this daemon do what they want: chown it to %s, and chmod go-w", what, path,
		       geteuid() ? "the daemon's user" : "root");
	return too_open(text);
}

bool private_file(const char *what, const char *path, bool group)
{
	struct stat st;
	char text[ERR_TEXT_MAX];
	const mode_t others = group ? S_IWGRP | S_IRWXO : S_IRWXG | S_IRWXO;
	if (stat(path, &st) || (!anothers(&st) && !(st.st_mode & others)))
		return true;
	(void)snprintf(text, sizeof(text), "others may get at %s in %.250s: chown it to %s, and chmod %s; and make a new one if somebody may have read it", what, path,
		       geteuid() ? "the daemon's user" : "root", group ? "g-w,o=" : "go=");
	return too_open(text);
}
