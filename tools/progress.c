// SPDX-License-Identifier: Apache-2.0
#include "tools/progress.h"

#include "tools/show.h"

#include "base/clock.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { EVERY_MS = 500, RATE_AFTER_MS = 1000 };

void progress_text(uint64_t done, uint64_t total, uint64_t elapsed_ms, char *text, size_t cap)
{
	unsigned percent = total ? (unsigned)((double)done / (double)total * 100) : 100;
	int used = snprintf(text, cap, "%s of %s, %u %%", show_size(done).text, show_size(total).text, percent);
	if (elapsed_ms < RATE_AFTER_MS || done == 0 || used < 0 || (size_t)used >= cap)
		return;
	double rate = (double)done / (double)elapsed_ms; // bytes a millisecond
	uint64_t left_ms = total > done ? (uint64_t)((double)(total - done) / rate) : 0;
	(void)snprintf(text + used, cap - (size_t)used, ", %s/s, %s left", show_size((uint64_t)(rate * 1000)).text,
		       show_duration(left_ms / 1000 * 1000).text);
}

void progress_begin(struct progress *progress, uint64_t total_bytes)
{
	*progress = (struct progress){.shown = isatty(STDERR_FILENO), .total = total_bytes, .began_ms = (uint64_t)clock_mono_ms()};
}

void progress_at(struct progress *progress, uint64_t done_bytes)
{
	char text[160];
	uint64_t now = progress->shown ? (uint64_t)clock_mono_ms() : 0;
	if (!progress->shown || now < progress->next_ms)
		return;
	progress->next_ms = now + EVERY_MS;
	progress_text(done_bytes, progress->total, now - progress->began_ms, text, sizeof(text));
	(void)fprintf(stderr, "\r%s\033[K", text);
	(void)fflush(stderr);
}

void progress_end(struct progress *progress)
{
	if (progress->shown && progress->next_ms)
		(void)fputs("\r\033[K", stderr);
}

uint64_t progress_ms(const struct progress *progress)
{
	return (uint64_t)clock_mono_ms() - progress->began_ms;
}
