// SPDX-License-Identifier: Apache-2.0
// Limits of bandwidth: rules as an operator writes them, the windows of the week in which they hold, and the token bucket that keeps them.
// Pure: time is an argument. docs/rpo.md has the grammar.
#ifndef KAGAMI_RPO_BANDWIDTH_H
#define KAGAMI_RPO_BANDWIDTH_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BANDWIDTH_RULES_MAX = 16,
	BANDWIDTH_TEXT_SIZE = 64, // of a rule or a window, as formatted
	BANDWIDTH_RATE_MIN = 8000, // bytes a second: below it a session would be taken for dead
	DAY_MINUTES = 24 * 60,
};
#define BANDWIDTH_RATE_MAX (UINT64_C(1) << 40)
#define BANDWIDTH_UNLIMITED UINT64_C(0)

struct bandwidth_window {
	uint8_t days;  // bit 0: Monday
	uint16_t from; // minute of the local day; 0 to 1439
	uint16_t to;   // the first one after, 1 to 1440; at or before `from`: of the next day
};
struct bandwidth_rule {
	struct bandwidth_window window;
	uint64_t rate; // bytes a second, or BANDWIDTH_UNLIMITED
};
struct bandwidth { // the first rule that holds counts; none: no limit
	unsigned count;
	struct bandwidth_rule rule[BANDWIDTH_RULES_MAX];
};
struct bandwidth_time {
	unsigned day;	 // 0: Monday
	unsigned minute; // of the local day
};

// In capital or small letters: "20mbit", "mon-fri 08:00-18:00 20mbit", "sat,sun 4mbyte", "22:00-06:00 unlimited". -EINVAL, with what is wrong.
int bandwidth_rule_read(const char *text, struct bandwidth_rule *ret_rule, struct err *err);
// "22:00-06:00", "sat,sun", "mon-fri 20:00-06:00".
int bandwidth_window_read(const char *text, struct bandwidth_window *ret_window, struct err *err);
// What the readers above take for the same.
void bandwidth_rule_format(const struct bandwidth_rule *rule, char text[BANDWIDTH_TEXT_SIZE]);
void bandwidth_window_format(const struct bandwidth_window *window, char text[BANDWIDTH_TEXT_SIZE]);

bool bandwidth_window_holds(const struct bandwidth_window *window, const struct bandwidth_time *time);
// In how many minutes it opens; 0: it holds.
unsigned bandwidth_window_opens(const struct bandwidth_window *window, const struct bandwidth_time *time);
uint64_t bandwidth_at(const struct bandwidth *bandwidth, const struct bandwidth_time *time); // bytes a second, or BANDWIDTH_UNLIMITED
// The local time of the host; the one function here that looks at something: the time zone.
struct bandwidth_time bandwidth_local(int64_t wall_ns);

// A token bucket: over any stretch of time at most rate * time + depth, and a debt is paid before anything else goes.
struct bucket {
	uint64_t rate; // BANDWIDTH_UNLIMITED: all may go
	double credit; // bytes; negative: a debt
	uint64_t at_ns;
};
// 100 ms of the rate, and at least a piece.
uint64_t bucket_depth(uint64_t rate);
// What is sent at once under a rate, so that several share it evenly: 1 to 16 KiB.
size_t bucket_piece(uint64_t rate);
void bucket_set(struct bucket *bucket, uint64_t rate, uint64_t now_ns); // a new bucket is full; one whose rate changes keeps its credit or debt
uint64_t bucket_wait_ns(const struct bucket *bucket, uint64_t now_ns, uint64_t bytes); // until so many may go; more than the depth: until it is full
double bucket_most(const struct bucket *bucket, uint64_t now_ns, double bytes); // of so many, what it lets go now
void bucket_take(struct bucket *bucket, uint64_t now_ns, uint64_t bytes);

#endif
