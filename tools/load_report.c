// SPDX-License-Identifier: Apache-2.0
#include "tools/load_report.h"

#include "base/size.h"

#include <stdio.h>

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

static double per_second(uint64_t count, uint64_t ns)
{
	return ns ? (double)count * 1e9 / (double)ns : 0;
}

static void print_phase(const struct load_report *report, const struct load_phase *p)
{
	char commit[64] = "", cycle[64] = "", usage[64] = "";
	if (p->points) {
		(void)snprintf(commit, sizeof(commit), "%.1f / %.1f / %.1f", ms(p->commit.p50_ns), ms(p->commit.p99_ns),
			       ms(p->commit.max_ns));
		(void)snprintf(cycle, sizeof(cycle), "%.1f / %.1f / %.1f", ms(p->cycle.p50_ns), ms(p->cycle.p99_ns),
			       ms(p->cycle.max_ns));
	}
	if (report->watched)
		(void)snprintf(usage, sizeof(usage), "%.1f / %llu / %llu", mib(p->usage.rss_bytes),
			       (unsigned long long)p->usage.threads, (unsigned long long)p->usage.files);
	(void)printf("| %-8s | %8u | %6llu | %-24s | %-24s | %8.1f | %6.1f | %-21s |\n", p->name, p->sessions,
		     (unsigned long long)p->points, commit, cycle, per_second(p->points, p->took_ns),
		     per_second(p->blocks_sent * BLOCK_SIZE, p->took_ns) / (1 << 20), usage);
}

void load_report_print(const struct load_report *report)
{
	(void)printf("%u protections of %u sources connected, one after another, in %.1f s.\n\n", report->protections,
		     report->sources, ms(report->connect_ns) / 1000);
	(void)printf("| %-8s | %8s | %6s | %-24s | %-24s | %8s | %6s | %-21s |\n|---|---|---|---|---|---|---|---|\n", "phase",
		     "sessions", "points", "SEAL→COMMITTED ms", "cycle ms, p50/p99/max", "points/s", "MiB/s", "MiB / threads / files");
	for (unsigned i = 0; i < report->phases; i++)
		print_phase(report, &report->phase[i]);
	(void)printf("\nOf equal sessions the slowest took %.2f times as long as the mean one.\n"
		     "A small cycle beside the busy ones took, at its 99th percentile, %.2f of a fair turn\n"
		     "(the mean time of a busy session's cycle).\n",
		     report->slowest_share, report->small_share);
}

static json_t *times_json(const struct load_times *t)
{
	return json_pack("{s:I, s:f, s:f, s:f, s:f}", "count", (json_int_t)t->count, "p50_ms", ms(t->p50_ns), "p99_ms",
			 ms(t->p99_ns), "max_ms", ms(t->max_ns), "mean_ms", ms(t->mean_ns));
}

static json_t *phase_json(const struct load_report *report, const struct load_phase *p)
{
	json_t *json = json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:f, s:o, s:o}", "phase", p->name, "sessions", (int)p->sessions,
				 "cycle_blocks", (json_int_t)p->blocks, "points", (json_int_t)p->points, "blocks_sent",
				 (json_int_t)p->blocks_sent, "stored_bytes", (json_int_t)p->stored_bytes, "seconds",
				 ms(p->took_ns) / 1000, "commit", times_json(&p->commit), "cycle", times_json(&p->cycle));
	if (json && report->watched)
		(void)json_object_set_new(json, "receiver",
					  json_pack("{s:I, s:I, s:I}", "rss_bytes", (json_int_t)p->usage.rss_bytes, "threads",
						    (json_int_t)p->usage.threads, "files", (json_int_t)p->usage.files));
	return json;
}

json_t *load_report_json(const struct load_report *report)
{
	json_t *phases = json_array();
	for (unsigned i = 0; i < report->phases; i++)
		(void)json_array_append_new(phases, phase_json(report, &report->phase[i]));
	return json_pack("{s:i, s:i, s:f, s:f, s:f, s:o}", "protections", (int)report->protections, "sources",
			 (int)report->sources, "connect_seconds", ms(report->connect_ns) / 1000, "slowest_share",
			 report->slowest_share, "small_share", report->small_share, "phases", phases);
}
