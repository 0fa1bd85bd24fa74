// SPDX-License-Identifier: Apache-2.0
#include "tools/arguments.h"

#include "base/size.h"
#include "tools/plain.h"

#include <errno.h>
#include <string.h>

enum { BITS = 64 };
#define ARG(i) (UINT64_C(1) << (i))

// What is not as everywhere. Paths stay here, or are made absolute and looked at before they go into a request.
static const struct special {
	const char *command;
	uint64_t any_bytes, empty; // a bit for each argument
} specials[] = {
	{"protect", ~ARG(0), 0}, {"mount", ARG(1), 0}, {"umount", ARG(0), 0}, {"export", ARG(1), 0}, {"files", ARG(2) | ARG(3), 0}, {"seed", ARG(1), 0},
	{"store", ARG(1), 0},	 {"bundle", ARG(0), 0},
	{"pair", ARG(1), 0}, // its token is not shown
	{"pin", 0, ARG(1)},  // a pin may be without a text
};

static const struct special *special_of(const struct cli_command *command)
{
	static const struct special none;
	for (size_t i = 0; i < COUNT(specials); i++)
		if (strcmp(specials[i].command, command->name) == 0)
			return &specials[i];
	return &none;
}

void arguments_name(const struct cli_command *command, int i, char *name, size_t cap)
{
	const char *word = command->usage;
	name[0] = 0;
	if (strchr(word, '\n')) // a choice: its first part is no more right than the others
		return;
	while (i-- > 0) {
		word += strcspn(word, " ");
		word += strspn(word, " ");
	}
	const char *ends = *word == '[' ? "]" : " ";
	word += *word == '[';
	if (*word >= 'A' && *word <= 'Z')
		(void)snprintf(name, cap, "%.*s", (int)strcspn(word, ends), word);
}

int arguments_check_option(const char *name, const char *value, bool any_bytes, struct err *err)
{
	if (!value[0])
		return err_set(err, -EINVAL, "--%s is empty", name);
	if (!any_bytes && !plain_is_utf8(value))
		return err_set(err, -EINVAL, "--%s: \"%.80s\" is not UTF-8", name, value);
	return 0;
}

int arguments_check(const struct cli *cli, struct err *err)
{
	const struct cli_command *command = cli->command;
	const struct special *special = special_of(command);
	for (int i = 0; i < cli->argc; i++) {
		char name[64];
		uint64_t bit = ARG(i < BITS ? i : BITS - 1);
		const char *text = cli->argv[i];
		arguments_name(command, i, name, sizeof(name));
		if (!text[0] && !(special->empty & bit))
			return name[0] ? err_set(err, -EINVAL, "%s is empty", name)
			       : i     ? err_set(err, -EINVAL, "what is behind \"%s\" is empty", cli->argv[i - 1])
				       : err_set(err, -EINVAL, "its first argument is empty");
		if (!(special->any_bytes & bit) && !plain_is_utf8(text))
			return err_set(err, -EINVAL, "%s%s\"%.80s\" is not UTF-8", name, name[0] ? ": " : "", text);
	}
	return 0;
}
