// SPDX-License-Identifier: Apache-2.0
#include "replicator/lost_note.h"

#include "base/names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NOTE_NAME_SIZE = 2 * NAME_SIZE + 16 };

// No name of ours has a colon: two disks never share a note.
static void note_name(const char *protection, const char *disk, char name[NOTE_NAME_SIZE])
{
	(void)snprintf(name, NOTE_NAME_SIZE, "lost/%s:%s", protection, disk);
}

// That it is there is the message: where there is no room for a text, there is for a name.
static int write_note(struct env_root *root, const char *name, const char *why)
{
	int rc = env_replace(root, "lost", name, why, strlen(why));
	return rc ? env_replace(root, "lost", name, "", 0) : 0;
}

int lost_note_write(struct env *env, const char *run_dir, const char *protection, const char *disk, const char *why,
		    struct err *err)
{
	char name[NOTE_NAME_SIZE];
	struct env_root *root = NULL;
	note_name(protection, disk, name);
	int rc = env_root_open(env, run_dir, &root);
	if (rc == 0) {
		rc = env_mkdir(root, "lost");
		rc = rc == -EEXIST ? 0 : rc;
	}
	if (rc == 0)
		rc = write_note(root, name, why);
	env_root_close(root);
	return rc ? err_sys(err, rc, "write the note %s/%s", run_dir, name) : 0;
}

bool lost_note_stands(struct env *env, const char *run_dir, const char *protection, const char *disk)
{
	char name[NOTE_NAME_SIZE];
	struct env_root *root = NULL;
	struct env_stat st;
	note_name(protection, disk, name);
	int rc = env_root_open(env, run_dir, &root);
	if (rc == 0)
		rc = env_stat(root, name, &st);
	env_root_close(root);
	return rc != -ENOENT;
}

void lost_note_remove(struct env *env, const char *run_dir, const char *protection, const char *disk)
{
	char name[NOTE_NAME_SIZE];
	struct env_root *root = NULL;
	note_name(protection, disk, name);
	if (env_root_open(env, run_dir, &root) == 0)
		(void)env_unlink(root, name);
	env_root_close(root);
}
