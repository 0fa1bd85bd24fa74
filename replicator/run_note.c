// SPDX-License-Identifier: Apache-2.0
#include "replicator/run_note.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

int run_note_path(char path[RUN_NOTE_PATH_SIZE], const char *run_dir, const char *kind, const char *protection, const char *disk)
{
	int need = snprintf(path, RUN_NOTE_PATH_SIZE, "%s/%s/%s:%s", run_dir, kind, protection, disk);
	return need < RUN_NOTE_PATH_SIZE ? 0 : -ENAMETOOLONG;
}

int run_note_place(char path[RUN_NOTE_PATH_SIZE], const char *run_dir, const char *kind, const char *protection, const char *disk)
{
	char dir[RUN_NOTE_PATH_SIZE];
	int rc = run_note_path(path, run_dir, kind, protection, disk);
	if (rc)
		return rc;
	(void)snprintf(dir, sizeof(dir), "%s/%s", run_dir, kind);
	return mkdir(dir, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}
