// SPDX-License-Identifier: Apache-2.0
#include "receiver/reserve.h"

#include "base/size.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int size_read(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "KMGT";
	uint64_t bytes = 0;
	const char *c = text;
	for (; *c >= '0' && *c <= '9'; c++)
		if (__builtin_mul_overflow(bytes, 10, &bytes) ||
		    __builtin_add_overflow(bytes, (uint64_t)(*c - '0'), &bytes))
			return -EINVAL;
	if (c == text)
		return -EINVAL;
	const char *unit = *c ? strchr(units, *c) : NULL;
	if (*c && (!unit || c[1]))
		return -EINVAL;
	if (unit && __builtin_mul_overflow(bytes, UINT64_C(1024) << 10 * (unit - units), &bytes))
		return -EINVAL;
	*ret_bytes = bytes;
	return 0;
}

static int option_read(const char *option, const char *text, uint64_t *ret_bytes, struct err *err)
{
	if (text && size_read(text, ret_bytes))
		return err_set(err, -EINVAL, "--%s %s: give bytes, or a number with K, M, G or T behind it, such as 10G", option, text);
	return 0;
}

int reserve_check(const char *text, struct err *err)
{
	uint64_t bytes;
	return option_read("reserve", text, &bytes, err);
}

int reserve_get(const char *text, const char *path, uint64_t *ret_bytes, struct err *err)
{
	struct statvfs st;
	if (statvfs(path, &st))
		return err_directory(err, -errno, "store", path);
	uint64_t all = (uint64_t)st.f_blocks * st.f_frsize, bytes = min_u64(all / 20, UINT64_C(1) << 30);
	int rc = option_read("reserve", text, &bytes, err);
	if (rc)
		return rc;
	if (bytes && bytes >= all)
		return err_set(err, -EINVAL, "--reserve %s: the file system of %s has no more than that", text, path);
	*ret_bytes = bytes;
	return 0;
}

int memory_get(const char *text, uint64_t *ret_bytes, struct err *err)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
	*ret_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : 0;
	return option_read("memory", text, ret_bytes, err);
}
