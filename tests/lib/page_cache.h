// SPDX-License-Identifier: Apache-2.0
// What the page cache has of a file.
#ifndef KAGAMI_TESTS_LIB_PAGE_CACHE_H
#define KAGAMI_TESTS_LIB_PAGE_CACHE_H

#include <stddef.h>
#include <sys/types.h>

// Of the `len` bytes at `off`, both multiples of 4096, how many. A test's, which fails where the file cannot be looked at.
size_t page_cache_bytes(const char *path, off_t off, size_t len);

#endif
