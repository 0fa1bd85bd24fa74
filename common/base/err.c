// SPDX-License-Identifier: Apache-2.0
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef err_set
#undef err_sys
#undef err_wrap
#undef err_directory

// Puts ": " and `text` behind the first `used` bytes, as far as there is room.
static void append(struct err *err, int used, const char *text)
{
	size_t at = used < 0 ? 0 : (size_t)used;
	const char *const parts[] = {": ", text};
	for (int i = 0; i < 2 && at < sizeof(err->text) - 1; i++) {
		size_t len = strnlen(parts[i], sizeof(err->text) - 1 - at);
		memcpy(err->text + at, parts[i], len);
		at += len;
		err->text[at] = 0;
	}
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, fmt);
	err->code = code;
	(void)vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	return code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	if (!err)
		return code;
	va_list ap;
	va_start(ap, fmt);
	err->code = code;
	int used = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	char reason[128];
	append(err, used, code == -EISDIR ? "it is no regular file" : strerror_r(-code, reason, sizeof(reason)));
	return code;
}

int err_directory(struct err *err, int code, const char *what, const char *path)
{
	switch (code) {
	case -ENOENT:
		return err_set(err, code, "there is no %s directory %s: make it first (mkdir -m 0700 %s), or mount what it is on", what, path, path);
	case -ENOTDIR:
		return err_set(err, code, "the %s %s is not a directory: name one", what, path);
	case -EROFS:
		return err_set(err, code, "the %s directory %s is on a file system that is read-only: mount it for writing, once the kernel's log says that its disk is well", what, path);
	case -EACCES:
	case -EPERM:
		return err_set(err, code, "this user may not write the %s directory %s: run as the user that it belongs to, or give it to this one (chown -R)", what, path);
	default:
		return err_sys(err, code, "open the %s directory %s", what, path);
	}
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	if (!err)
		return -EIO;
	char inner[ERR_TEXT_MAX];
	memcpy(inner, err->text, sizeof(inner));
	va_list ap;
	va_start(ap, fmt);
	int used = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	append(err, used, inner);
	return err->code ? err->code : -EIO;
}
