// SPDX-License-Identifier: Apache-2.0
// QEMU's command line, quoted for sh and for QEMU's own options.
#include "receiver/boot_command.h"

#include "base/auto.h"

#include <string.h>

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

void boot_command_begin(struct boot_command *command)
{
	*command = (struct boot_command){.text = NULL};
	command->out = open_memstream(&command->text, &command->len);
	command->whole = command->out != NULL;
	boot_command_words(command, "qemu-system-x86_64 -machine q35,accel=kvm:tcg -m 2048");
}

void boot_command_disk(struct boot_command *command, const char *path)
{
	AUTO_FREE char *option = path && command->out ? drive_option(path) : NULL;
	command->whole = command->whole && option;
	if (!option)
		return;
	(void)fputs(" -drive", command->out);
	put_word(command->out, option);
}

void boot_command_words(struct boot_command *command, const char *words)
{
	if (command->out)
		(void)fputs(words, command->out);
}

char *boot_command_end(struct boot_command *command)
{
	if (command->out && fclose(command->out) == 0 && command->whole)
		return command->text;
	free(command->text);
	return NULL;
}
