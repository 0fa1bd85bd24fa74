// SPDX-License-Identifier: Apache-2.0
// A command line that boots disks, to be pasted into a shell: written word by word.
//
//	struct boot_command command;
//	boot_command_begin(&command);
//	boot_command_disk(&command, path);		// each
//	char *text = boot_command_end(&command);	// the caller frees; NULL when out of memory
#ifndef KAGAMI_RECEIVER_BOOT_COMMAND_H
#define KAGAMI_RECEIVER_BOOT_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct boot_command {
	FILE *out;
	char *text;
	size_t len;
	bool whole;
};

void boot_command_begin(struct boot_command *command);
void boot_command_disk(struct boot_command *command, const char *path); // a qcow2; NULL: out of memory
void boot_command_words(struct boot_command *command, const char *words); // as they are
char *boot_command_end(struct boot_command *command);

#endif
