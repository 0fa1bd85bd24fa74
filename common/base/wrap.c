// SPDX-License-Identifier: Apache-2.0
#include "base/wrap.h"

#include <string.h>

// Up to the next blank; with `whole`, one that is in no brackets.
static size_t word_length(const char *text, int whole)
{
	int depth = 0;
	size_t len = 0;
	for (; text[len]; len++) {
		depth += (text[len] == '[') - (text[len] == ']');
		if ((text[len] == ' ' || text[len] == '\n') && (!whole || depth <= 0))
			break;
	}
	return len;
}

void wrap_print(FILE *to, unsigned at, unsigned indent, const char *text)
{
	for (int begun = 0; *(text += strspn(text, " \n")); begun = 1) {
		size_t len = word_length(text, 1);
		if (len > WRAP_COLUMNS - indent)
			len = word_length(text, 0);
		if (begun && at + 1 + len > WRAP_COLUMNS) {
			(void)fprintf(to, "\n%*s", (int)indent, "");
			at = indent;
		} else if (begun) {
			(void)fputc(' ', to);
			at++;
		}
		(void)fprintf(to, "%.*s", (int)len, text);
		at += (unsigned)len;
		text += len;
	}
	(void)fputc('\n', to);
}

void wrap_usage(FILE *to, const char *command, const char *forms)
{
	static const char before[] = "usage: ", again[] = "       ";
	unsigned at = (unsigned)(strlen(before) + strlen(command));
	const char *begin = forms;
	do {
		char form[1024];
		size_t len = strcspn(forms, "\n");
		(void)snprintf(form, sizeof(form), "%.*s", (int)len, forms);
		(void)fprintf(to, "%s%s%s", forms > begin ? again : before, command, len ? " " : "");
		wrap_print(to, at + (len > 0), at + 1, form);
		forms += len;
	} while (*forms && *++forms);
}
