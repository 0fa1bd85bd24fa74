// SPDX-License-Identifier: Apache-2.0
// An error on its way up: a negative errno for the program and one line for the operator.
//
// Filled once at the leaf (err_set), given context as it rises (err_wrap), logged where it is decided what
// happens next. Every function accepts a NULL err, and returns the code, so that `return err_set(...)` works.
#ifndef KAGAMI_BASE_ERR_H
#define KAGAMI_BASE_ERR_H

enum { ERR_TEXT_MAX = 512 };

struct err {
	int code; // negative errno; 0 while unset
	char text[ERR_TEXT_MAX];
};

// Stores `code` (a negative errno) and the formatted text. Returns `code`.
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// As err_set, with ": " and the text of errno `code` appended. Returns `code`.
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

// The directory `path` that a program needs, its `what` ("store"), cannot be had: by `code`, what to do. Returns `code`.
int err_directory(struct err *err, int code, const char *what, const char *path);

// Puts the formatted text and ": " in front of what is there. Returns the stored code, or -EIO when none was set.
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__ // does not see across files that what these return is a failure
static inline int err_failure(int rc)
{
	if (rc >= 0)
		__builtin_unreachable();
	return rc;
}
#define err_set(...) err_failure(err_set(__VA_ARGS__))
#define err_sys(...) err_failure(err_sys(__VA_ARGS__))
#define err_wrap(...) err_failure(err_wrap(__VA_ARGS__))
#define err_directory(...) err_failure(err_directory(__VA_ARGS__))
#endif

#endif
