// SPDX-License-Identifier: Apache-2.0
// How a failover's disks are booted: paths, and a command line for QEMU that can be pasted into a shell.
#include "receiver/failover.h"

#include "base/auto.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FAILOVER_PATH_SIZE = 4096 };

int failover_path(const struct store *store, const struct failover_info *failover, unsigned disk, char *path, size_t cap)
{
	int n = snprintf(path, cap, "%s/%s/failover/%s.qcow2", store_path(store), failover->name, failover->disk[disk]);
	return n > 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

static bool shell_plain(const char *word)
{
	return word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-")] == 0;
}

// A word for sh: as it is, or in single quotes, with each single quote of its own as '\''.
static void put_word(FILE *out, const char *word)
{
	if (shell_plain(word)) {
		(void)fprintf(out, " %s", word);
		return;
	}
	(void)fputs(" '", out);
	for (; *word; word++)
		if (*word == '\'')
			(void)fputs("'\\''", out);
		else
			(void)fputc(*word, out);
	(void)fputc('\'', out);
}

// A -drive option; QEMU reads a comma as the end of the value unless it is doubled.
static char *drive_option(const char *path)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return NULL;
	(void)fputs("file=", out);
	for (; *path; path++)
		(void)fputs(*path == ',' ? ",," : (const char[]){*path, 0}, out);
	(void)fputs(",format=qcow2,if=virtio", out);
	return fclose(out) == 0 ? text : (free(text), NULL);
}

char *failover_command(const struct store *store, const struct failover_info *failover)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	if (!out)
		return NULL;
	bool whole = true;
	(void)fputs("qemu-system-x86_64 -machine q35,accel=kvm:tcg -m 2048", out);
	for (unsigned i = 0; i < failover->disk_count; i++) {
		char path[FAILOVER_PATH_SIZE];
		AUTO_FREE char *option = failover_path(store, failover, i, path, sizeof(path)) ? NULL : drive_option(path);
		whole = whole && option;
		(void)fputs(" -drive", out);
		if (option)
			put_word(out, option);
	}
	if (fclose(out) == 0 && whole)
		return text;
	free(text);
	return NULL;
}
