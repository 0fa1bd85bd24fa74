// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/page_cache.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

size_t page_cache_bytes(const char *path, off_t off, size_t len)
{
	size_t pages = len >> 12, count = 0;
	unsigned char *page = calloc(pages, 1);
	assert_non_null(page);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	void *at = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, off);
	assert_ptr_not_equal(at, MAP_FAILED);
	assert_int_equal(mincore(at, len, page), 0);
	for (size_t i = 0; i < pages; i++)
		count += page[i] & 1;
	(void)munmap(at, len);
	(void)close(fd);
	free(page);
	return count << 12;
}
