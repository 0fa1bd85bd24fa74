// SPDX-License-Identifier: Apache-2.0
// The odometer, the draws, and the line that replays a run.
#include "tests/sim/chooser.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHOICES_MAX = 1 << 22 };

enum { LEAN_FIRST, LEAN_LAST, LEAN_MOSTLY_FIRST, LEAN_MOSTLY_LAST, LEAN_EVEN, LEANS };

static uint64_t draw(uint64_t *state) // splitmix64
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void give_up(const char *why)
{
	fprintf(stderr, "chooser: %s\n", why);
	abort();
}

void chooser_init(struct chooser *c)
{
	*c = (struct chooser){0};
}

void chooser_done(struct chooser *c)
{
	free(c->at);
	free(c->of);
	*c = (struct chooser){0};
}

static void grow(struct chooser *c, size_t need)
{
	if (need <= c->room)
		return;
	if (need > CHOICES_MAX)
		give_up("a run made too many choices: does it end?");
	size_t room = c->room ? c->room * 2 : 64;
	while (room < need)
		room *= 2;
	unsigned *at = realloc(c->at, room * sizeof(*at));
	if (at)
		c->at = at;
	unsigned *of = realloc(c->of, room * sizeof(*of));
	if (of)
		c->of = of;
	if (!at || !of)
		give_up("out of memory");
	c->room = room;
}

static unsigned lean(struct chooser *c, unsigned n)
{
	uint64_t z = draw(&c->state);
	unsigned even = (unsigned)((z >> 8) % n);
	bool stray = (z & 7) == 0;
	switch (c->bias) {
	case LEAN_FIRST:
		return 0;
	case LEAN_LAST:
		return n - 1;
	case LEAN_MOSTLY_FIRST:
		return stray ? even : 0;
	case LEAN_MOSTLY_LAST:
		return stray ? even : n - 1;
	default:
		return even;
	}
}

unsigned choose(struct chooser *c, unsigned n)
{
	if (n <= 1)
		return 0;
	size_t i = c->count++;
	if (i < c->given) {
		if (c->of[i] && c->of[i] != n)
			give_up("the run is not a function of its choices: it asked another question than last time");
		if (c->at[i] >= n)
			give_up("the line that was to be replayed does not fit this test");
		c->of[i] = n;
		return c->at[i];
	}
	grow(c, i + 1);
	c->at[i] = c->drawn ? lean(c, n) : 0;
	c->of[i] = n;
	return c->at[i];
}

static void restart(struct chooser *c, size_t given)
{
	c->given = given;
	c->count = 0;
	c->drawn = false;
}

bool chooser_skip(struct chooser *c, size_t keep)
{
	size_t i = c->count < keep ? c->count : keep;
	while (i > 0 && c->at[i - 1] + 1 >= c->of[i - 1])
		i--;
	if (i > 0)
		c->at[i - 1]++;
	restart(c, i);
	return i > 0;
}

bool chooser_next(struct chooser *c)
{
	return chooser_skip(c, c->count);
}

void chooser_draw(struct chooser *c, size_t keep, uint64_t seed)
{
	restart(c, c->count < keep ? c->count : keep);
	c->drawn = true;
	c->seed = c->state = seed;
	// All the first and all the last are one run each: one seed each draws them.
	c->bias = LEAN_MOSTLY_FIRST + (unsigned)(draw(&c->state) % (LEANS - LEAN_MOSTLY_FIRST));
	if (seed == 1 || seed == 2)
		c->bias = seed == 1 ? LEAN_FIRST : LEAN_LAST;
}

void chooser_again(struct chooser *c)
{
	if (c->drawn)
		chooser_draw(c, c->given, c->seed);
	else
		restart(c, c->given);
}

uint64_t chooser_hash(const struct chooser *c)
{
	uint64_t hash = c->count;
	for (size_t i = 0; i < c->count; i++) {
		hash ^= (uint64_t)c->at[i] + 1;
		hash = draw(&hash);
	}
	return hash ? hash : 1;
}

static size_t run_length(const struct chooser *c, size_t i, size_t end)
{
	size_t n = 1;
	while (i + n < end && c->at[i + n] == c->at[i])
		n++;
	return n;
}

char *chooser_line(const struct chooser *c)
{
	char *line = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&line, &size);
	if (!out)
		give_up("out of memory");
	size_t end = c->drawn ? c->given : c->count;
	while (!c->drawn && end > 1 && c->at[end - 1] == 0)
		end--;
	fputs("CHOICES=", out);
	for (size_t i = 0, n; i < end; i += n) {
		n = run_length(c, i, end);
		fprintf(out, "%s%u", i ? "," : "", c->at[i]);
		if (n > 1)
			fprintf(out, "*%zu", n);
	}
	if (c->drawn)
		fprintf(out, " SEED=%llu", (unsigned long long)c->seed);
	if (fclose(out))
		give_up("out of memory");
	return line;
}

static bool read_number(const char **text, unsigned long long most, unsigned long long *ret_value)
{
	char *end;
	if (**text < '0' || **text > '9')
		return false;
	errno = 0;
	*ret_value = strtoull(*text, &end, 10);
	*text = end;
	return errno == 0 && *ret_value <= most;
}

bool chooser_read(struct chooser *c, const char *choices, const char *seed)
{
	size_t count = 0;
	while (*choices) {
		unsigned long long value, times = 1;
		if (!read_number(&choices, UINT32_MAX, &value))
			return false;
		if (*choices == '*' && (choices++, !read_number(&choices, CHOICES_MAX, &times)))
			return false;
		if (*choices == ',' ? *++choices == 0 : *choices != 0)
			return false;
		if (times > CHOICES_MAX - count)
			return false;
		grow(c, count + (size_t)times);
		for (; times; times--, count++) {
			c->at[count] = (unsigned)value;
			c->of[count] = 0;
		}
	}
	unsigned long long number = 0;
	if (seed && (!read_number(&seed, UINT64_MAX, &number) || *seed))
		return false;
	restart(c, count);
	if (seed) {
		c->count = count;
		chooser_draw(c, count, number);
	}
	return true;
}
