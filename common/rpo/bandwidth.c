// SPDX-License-Identifier: Apache-2.0
#include "rpo/bandwidth.h"

#include "base/size.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { ALL_DAYS = 0x7f, WORDS_MAX = 3, WORD_SIZE = 40, PIECE_MIN = 1 << 10, PIECE_MAX = 16 << 10 };
#define SECOND_NS UINT64_C(1000000000)

static const char *const day_names[7] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
static const struct unit {
	const char *name;
	uint64_t bits;
} units[] = {{"bit", 1},	      {"kbit", 1000},	 {"mbit", 1000000},	  {"gbit", 1000000000}, {"byte", 8},
	     {"kbyte", 8000},	      {"mbyte", 8000000}, {"kib", 8192}, {"mib", 8 << 20}, {"gib", UINT64_C(8) << 30}};

// --- reading ---

static const char *number(const char *at, uint64_t most, uint64_t *ret_number)
{
	uint64_t value = 0;
	const char *begin = at;
	for (; *at >= '0' && *at <= '9'; at++) {
		value = value * 10 + (uint64_t)(*at - '0');
		if (value > most)
			return NULL;
	}
	*ret_number = value;
	return at == begin ? NULL : at;
}

static bool read_rate(const char *word, uint64_t *ret_rate)
{
	uint64_t count;
	if (strcasecmp(word, "unlimited") == 0) {
		*ret_rate = BANDWIDTH_UNLIMITED;
		return true;
	}
	const char *unit = number(word, UINT64_C(1) << 44, &count);
	for (size_t i = 0; unit && i < sizeof(units) / sizeof(units[0]); i++)
		if (strcasecmp(unit, units[i].name) == 0) {
			if (count > 8 * BANDWIDTH_RATE_MAX / units[i].bits)
				return false;
			*ret_rate = count * units[i].bits / 8;
			return *ret_rate >= BANDWIDTH_RATE_MIN;
		}
	return false;
}

// A rate of nothing at all, with a unit or without.
static bool is_nothing(const char *word)
{
	const char *unit = word + strspn(word, "0");
	bool known = !*unit;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		known |= strcasecmp(unit, units[i].name) == 0;
	return known && unit > word;
}

static const char *read_day(const char *at, unsigned *ret_day)
{
	for (unsigned i = 0; i < 7; i++)
		if (strncasecmp(at, day_names[i], 3) == 0) {
			*ret_day = i;
			return at + 3;
		}
	return NULL;
}

// "mon-fri", "sat,sun", "fri-mon", "daily"
static bool read_days(const char *at, uint8_t *ret_days)
{
	unsigned days = 0;
	if (strcasecmp(at, "daily") == 0) {
		*ret_days = ALL_DAYS;
		return true;
	}
	for (;; at++) {
		unsigned from, to;
		at = read_day(at, &from);
		to = from;
		if (at && *at == '-')
			at = read_day(at + 1, &to);
		if (!at || (*at && *at != ','))
			return false;
		for (unsigned day = from;; day = (day + 1) % 7) {
			days |= 1u << day;
			if (day == to)
				break;
		}
		if (!*at)
			break;
	}
	*ret_days = (uint8_t)days;
	return true;
}

static const char *read_minute(const char *at, uint16_t *ret_minute)
{
	uint64_t hours, minutes;
	const char *colon = number(at, 24, &hours), *end = colon && *colon == ':' ? number(colon + 1, 59, &minutes) : NULL;
	if (!end || colon - at > 2 || end - colon != 3 || hours * 60 + minutes > DAY_MINUTES)
		return NULL;
	*ret_minute = (uint16_t)(hours * 60 + minutes);
	return end;
}

static bool read_times(const char *at, struct bandwidth_window *window)
{
	uint16_t from, to;
	at = read_minute(at, &from);
	at = at && *at == '-' ? read_minute(at + 1, &to) : NULL;
	if (!at || *at || from == DAY_MINUTES || from == to)
		return false;
	window->from = from;
	window->to = to ? to : DAY_MINUTES; // 23:00-00:00 ends with its day
	return true;
}

// Words of a text, apart by blanks; 0 when there are none, too many, or one that is too long.
static unsigned split(const char *text, char words[WORDS_MAX][WORD_SIZE])
{
	unsigned count = 0;
	while (*text) {
		size_t len = strcspn(text, " ");
		if (len && (count == WORDS_MAX || len >= WORD_SIZE))
			return 0;
		if (len) {
			memcpy(words[count], text, len);
			words[count++][len] = 0;
		}
		text += len + (text[len] == ' ');
	}
	return count;
}

// Of words [0, count), which may be none: all of the week.
static bool read_window(char words[WORDS_MAX][WORD_SIZE], unsigned count, struct bandwidth_window *ret_window)
{
	struct bandwidth_window window;
	memset(&window, 0, sizeof(window)); // what lies between its members, too: rules are compared
	window.days = ALL_DAYS;
	window.to = DAY_MINUTES;
	unsigned at = count && read_days(words[0], &window.days);
	at += at < count && read_times(words[at], &window);
	*ret_window = window;
	return at == count;
}

#define WINDOW_RULE "a window is days (mon-fri, sat,sun, daily), times (22:00-06:00), or both"

int bandwidth_rule_read(const char *text, struct bandwidth_rule *ret_rule, struct err *err)
{
	char words[WORDS_MAX][WORD_SIZE];
	struct bandwidth_rule rule = {.rate = 0};
	unsigned count = split(text, words);
	if (count == 0 || !read_window(words, count - 1, &rule.window))
		return err_set(err, -EINVAL, "\"%.60s\" is no limit of bandwidth: give [WINDOW] RATE, as in \"20mbit\" or \"mon-fri 08:00-18:00 20mbit\"; " WINDOW_RULE, text);
	if (is_nothing(words[count - 1]))
		return err_set(err, -EINVAL, "\"%s\" would let nothing go: give at least 64kbit, or unlimited for no limit; `kagami pause` stops a protection", words[count - 1]);
	if (!read_rate(words[count - 1], &rule.rate))
		return err_set(err, -EINVAL,
			       "\"%s\" is no rate: give a number and bit, kbit, mbit, gbit, byte, kbyte, mbyte, kib, mib or gib (a second), from 64kbit to "
			       "1024gib, or unlimited",
			       words[count - 1]);
	*ret_rule = rule;
	return 0;
}

int bandwidth_window_read(const char *text, struct bandwidth_window *ret_window, struct err *err)
{
	char words[WORDS_MAX][WORD_SIZE];
	struct bandwidth_window window;
	unsigned count = split(text, words);
	if (count == 0 || !read_window(words, count, &window))
		return err_set(err, -EINVAL, "\"%.60s\" is no window: " WINDOW_RULE, text);
	*ret_window = window;
	return 0;
}

// --- formatting ---

void bandwidth_window_format(const struct bandwidth_window *window, char text[BANDWIDTH_TEXT_SIZE])
{
	size_t len = 0;
	bool all_day = window->from == 0 && window->to == DAY_MINUTES;
	text[0] = 0;
	if (window->days == ALL_DAYS && all_day)
		len += (size_t)snprintf(text, BANDWIDTH_TEXT_SIZE, "daily");
	for (unsigned day = 0, last; day < 7 && window->days != ALL_DAYS; day = last + 1) {
		for (last = day; last < 7 && window->days >> last & 1; last++)
			;
		if (last > day + 2) // three and more in a row
			len += (size_t)snprintf(text + len, BANDWIDTH_TEXT_SIZE - len, "%s%s-%s", len ? "," : "", day_names[day], day_names[last - 1]);
		for (; last <= day + 2 && day < last; day++)
			len += (size_t)snprintf(text + len, BANDWIDTH_TEXT_SIZE - len, "%s%s", len ? "," : "", day_names[day]);
	}
	if (!all_day)
		(void)snprintf(text + len, BANDWIDTH_TEXT_SIZE - len, "%s%02u:%02u-%02u:%02u", len ? " " : "", window->from / 60u, window->from % 60u,
			       window->to / 60u, window->to % 60u);
}

static void rate_format(uint64_t rate, char *text, size_t cap)
{
	static const char *const order[] = {"gbit", "mbit", "kbit", "gib", "mib", "kib"};
	if (rate == BANDWIDTH_UNLIMITED) {
		(void)snprintf(text, cap, "unlimited");
		return;
	}
	for (size_t o = 0; o < sizeof(order) / sizeof(order[0]); o++)
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
			if (strcmp(units[i].name, order[o]) == 0 && rate * 8 % units[i].bits == 0) {
				(void)snprintf(text, cap, "%llu%s", (unsigned long long)(rate * 8 / units[i].bits), order[o]);
				return;
			}
	(void)snprintf(text, cap, "%llubyte", (unsigned long long)rate);
}

void bandwidth_rule_format(const struct bandwidth_rule *rule, char text[BANDWIDTH_TEXT_SIZE])
{
	char window[BANDWIDTH_TEXT_SIZE], rate[32];
	bandwidth_window_format(&rule->window, window);
	rate_format(rule->rate, rate, sizeof(rate));
	bool always = strcmp(window, "daily") == 0;
	(void)snprintf(text, BANDWIDTH_TEXT_SIZE, "%.40s%s%.22s", always ? "" : window, always ? "" : " ", rate);
}

// --- windows ---

bool bandwidth_window_holds(const struct bandwidth_window *window, const struct bandwidth_time *time)
{
	bool today = window->days >> time->day % 7 & 1, yesterday = window->days >> (time->day + 6) % 7 & 1;
	if (window->from < window->to)
		return today && time->minute >= window->from && time->minute < window->to;
	return (today && time->minute >= window->from) || (yesterday && time->minute < window->to); // it belongs to the day on which it began
}

unsigned bandwidth_window_opens(const struct bandwidth_window *window, const struct bandwidth_time *time)
{
	unsigned day = 0;
	if (bandwidth_window_holds(window, time))
		return 0;
	if (time->minute >= window->from) // today's has been
		day = 1;
	while (day < 7 && !(window->days >> (time->day + day) % 7 & 1))
		day++;
	return day * DAY_MINUTES + window->from - time->minute;
}

uint64_t bandwidth_at(const struct bandwidth *bandwidth, const struct bandwidth_time *time)
{
	for (unsigned i = 0; i < bandwidth->count; i++)
		if (bandwidth_window_holds(&bandwidth->rule[i].window, time))
			return bandwidth->rule[i].rate;
	return BANDWIDTH_UNLIMITED;
}

struct bandwidth_time bandwidth_local(int64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / (int64_t)SECOND_NS);
	struct tm tm;
	if (!localtime_r(&seconds, &tm))
		return (struct bandwidth_time){.day = 0};
	return (struct bandwidth_time){.day = (unsigned)(tm.tm_wday + 6) % 7, .minute = (unsigned)(tm.tm_hour * 60 + tm.tm_min)};
}

// --- the bucket ---

size_t bucket_piece(uint64_t rate)
{
	if (rate == BANDWIDTH_UNLIMITED)
		return PIECE_MAX;
	return (size_t)max_u64(min_u64(rate / 20, PIECE_MAX), PIECE_MIN);
}

uint64_t bucket_depth(uint64_t rate)
{
	return max_u64(rate / 10, bucket_piece(rate));
}

static double credit_at(const struct bucket *bucket, uint64_t now_ns)
{
	double ns = (double)(now_ns - min_u64(bucket->at_ns, now_ns));
	double credit = bucket->credit + ns * (double)bucket->rate / (double)SECOND_NS, depth = (double)bucket_depth(bucket->rate);
	return credit < depth ? credit : depth;
}

void bucket_set(struct bucket *bucket, uint64_t rate, uint64_t now_ns)
{
	if (bucket->rate == rate && bucket->at_ns)
		return;
	double credit = bucket->at_ns && bucket->rate ? credit_at(bucket, now_ns) : (double)bucket_depth(rate);
	*bucket = (struct bucket){.rate = rate, .credit = credit, .at_ns = max_u64(now_ns, 1)};
}

uint64_t bucket_wait_ns(const struct bucket *bucket, uint64_t now_ns, uint64_t bytes)
{
	if (bucket->rate == BANDWIDTH_UNLIMITED)
		return 0;
	double missing = (double)min_u64(bytes, bucket_depth(bucket->rate)) - credit_at(bucket, now_ns);
	return missing <= 0 ? 0 : (uint64_t)(missing * (double)SECOND_NS / (double)bucket->rate) + 1;
}

double bucket_most(const struct bucket *bucket, uint64_t now_ns, double bytes)
{
	if (bucket->rate == BANDWIDTH_UNLIMITED)
		return bytes;
	double credit = credit_at(bucket, now_ns);
	return credit < bytes ? (credit > 0 ? credit : 0) : bytes;
}

void bucket_take(struct bucket *bucket, uint64_t now_ns, uint64_t bytes)
{
	bucket->credit = credit_at(bucket, now_ns) - (double)bytes;
	bucket->at_ns = max_u64(bucket->at_ns, now_ns); // a clock that goes back gives nothing twice
}
