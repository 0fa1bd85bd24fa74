// SPDX-License-Identifier: Apache-2.0
#include "tools/load_figures.h"

#include "base/size.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static uint64_t percentile(const uint64_t *sorted, size_t count, unsigned p)
{
	size_t rank = (count * p + 99) / 100;
	return sorted[rank ? rank - 1 : 0];
}

struct load_times load_times_of(uint64_t *ns, size_t count)
{
	struct load_times times = {.count = count};
	uint64_t sum = 0;
	if (count == 0)
		return times;
	qsort(ns, count, sizeof(*ns), by_value);
	for (size_t i = 0; i < count; i++)
		sum += ns[i];
	times.p50_ns = percentile(ns, count, 50);
	times.p99_ns = percentile(ns, count, 99);
	times.max_ns = ns[count - 1];
	times.mean_ns = sum / count;
	return times;
}

static int read_status(pid_t pid, struct load_usage *usage, struct err *err)
{
	char path[64], line[256];
	unsigned long long value;
	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *file = fopen(path, "re");
	if (!file)
		return err_sys(err, -errno, "look at process %d", (int)pid);
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "VmRSS: %llu kB", &value) == 1)
			usage->rss_bytes = value * 1024;
		else if (sscanf(line, "Threads: %llu", &value) == 1)
			usage->threads = value;
	}
	(void)fclose(file);
	return usage->threads ? 0 : err_set(err, -EBADMSG, "%s says nothing of threads", path);
}

int load_usage_of(pid_t pid, struct load_usage *ret_usage, struct err *err)
{
	struct load_usage usage = {0};
	char path[64];
	int rc = read_status(pid, &usage, err);
	if (rc)
		return rc;
	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	if (!dir)
		return err_sys(err, -errno, "look at the files of process %d", (int)pid);
	for (const struct dirent *entry; (entry = readdir(dir));)
		usage.files += entry->d_name[0] != '.';
	(void)closedir(dir);
	*ret_usage = usage;
	return 0;
}

void load_usage_most(struct load_usage *most, const struct load_usage *seen)
{
	most->rss_bytes = max_u64(most->rss_bytes, seen->rss_bytes);
	most->threads = max_u64(most->threads, seen->threads);
	most->files = max_u64(most->files, seen->files);
}
