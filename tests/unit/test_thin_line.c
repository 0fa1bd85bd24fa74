// SPDX-License-Identifier: Apache-2.0
// Cycles over a thin line behind a large socket, on a clock that moves only where something waits: how old a point is at its commit. The peer takes the
// bytes at the line's pace, says of every block that it differs, and commits at once.
#include "base/bytes.h"
#include "link/channel_transport.h"
#include "replicator/cycle.h"
#include "tests/lib/memory_source.h"
#include "tests/lib/twin.h"
#include "tests/sim/sim_power.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// 2 Mbit/s, of which the socket takes a quarter of a minute; and a host on the way that acknowledges what it holds
enum { RATE = 250000, ROOM = 4 << 20, HELD = 128 << 10, DISK = 16 << 20, STEP_MS = 10, HELD_MS = HELD * 1000 / RATE };

static struct line {
	struct channel_transport transport; // first
	struct sim *sim;
	unsigned char out[64 << 20], in[4 << 20];
	size_t out_len, taken, passed, heard; // sent, of that acknowledged, of that in the peer's hands, of that read by it
	size_t in_len, in_at;
	int64_t from_ms; // of the time for which `passed` stands
} line;

static int64_t line_now(struct channel_transport *transport)
{
	(void)transport;
	return (int64_t)(env_mono_ns(sim_env(line.sim)) / 1000000);
}

static void answer(const struct wire_frame *f)
{
	struct wire_compare compare;
	struct wire_seal seal;
	unsigned char all[WIRE_COMPARE_MAX / 8 + 1];
	unsigned char *to = line.in + line.in_len;
	size_t cap = sizeof(line.in) - line.in_len;
	if (f->type == WIRE_COMPARE) {
		assert_int_equal(wire_get_compare(f, &compare), 0);
		memset(all, 0, sizeof(all));
		for (uint32_t i = 0; i < compare.count; i++)
			all[i / 8] |= (unsigned char)(1u << i % 8);
		struct wire_differs differs = {.disk = compare.disk, .count = compare.count, .first = compare.first, .bitmap = all};
		line.in_len += wire_put_differs(to, cap, &differs);
	} else if (f->type == WIRE_SEAL) {
		assert_int_equal(wire_get_seal(f, &seal), 0);
		struct wire_committed committed = {.number = seal.predecessor + 1, .cut = seal.cut, .head = seal.cut};
		line.in_len += wire_put_committed(to, cap, &committed);
	}
}

// What the line did until now.
static void line_lives(void)
{
	struct wire_frame f;
	int64_t now = line_now(NULL);
	size_t more = (size_t)(now - line.from_ms) * RATE / 1000;
	line.passed = min_u64(line.out_len, line.passed + more);
	line.taken = min_u64(line.out_len, line.passed + HELD);
	line.from_ms = now;
	while (wire_frame_next(line.out + line.heard, line.passed - line.heard, &f) == 1) {
		answer(&f);
		line.heard += WIRE_HEADER_SIZE + f.len;
	}
}

static ssize_t wait_or(size_t n, int64_t deadline_ms)
{
	if (n > 0)
		return (ssize_t)n;
	if (line_now(NULL) >= deadline_ms)
		return -ETIMEDOUT;
	sim_clock_advance(line.sim, STEP_MS * UINT64_C(1000000));
	return 0;
}

static ssize_t line_send(struct channel_transport *transport, const void *data, size_t len, int64_t deadline_ms)
{
	(void)transport;
	for (ssize_t n;;) {
		line_lives();
		size_t room = ROOM - (line.out_len - line.taken), some = len < room ? len : room;
		n = wait_or(some, deadline_ms);
		if (n > 0) {
			assert_true(line.out_len + some <= sizeof(line.out));
			memcpy(line.out + line.out_len, data, some);
			line.out_len += some;
		}
		if (n)
			return n;
	}
}

static ssize_t line_receive(struct channel_transport *transport, void *data, size_t cap, int64_t deadline_ms)
{
	(void)transport;
	for (ssize_t n;;) {
		line_lives();
		size_t more = line.in_len - line.in_at, some = more < cap ? more : cap;
		n = wait_or(some, deadline_ms);
		if (n > 0) {
			memcpy(data, line.in + line.in_at, some);
			line.in_at += some;
		}
		if (n)
			return n;
	}
}

static void line_nothing(struct channel_transport *transport)
{
	(void)transport;
}

static int line_fd(struct channel_transport *transport)
{
	(void)transport;
	return -1;
}

static uint64_t line_out(struct channel_transport *transport)
{
	(void)transport;
	return line.out_len;
}

static uint64_t line_in(struct channel_transport *transport)
{
	(void)transport;
	return line.in_at;
}

static uint64_t line_left(struct channel_transport *transport)
{
	(void)transport;
	line_lives();
	return line.out_len - line.taken;
}

static void line_close(struct channel_transport *transport, bool sound)
{
	(void)transport, (void)sound;
}

static const struct channel_transport_ops line_ops = {
	.send = line_send,
	.receive = line_receive,
	.now_ms = line_now,
	.finish = line_nothing,
	.abort = line_nothing,
	.fd = line_fd,
	.bytes_out = line_out,
	.bytes_in = line_in,
	.bytes_left = line_left,
	.close = line_close,
};

// ---- a source at one end of it

static struct site {
	struct memory_source memory;
	struct channel *channel;
	struct ship *ship;
	struct ship_progress progress;
	struct cycle_lore lore;
	struct digest_key key;
	struct uuid head;
	uint64_t point, seed;
	int64_t cut_ms; // of the newest cut
	struct cycle_report report;
} site;

static int setup(void **state)
{
	(void)state;
	const struct pin peer = {.bytes = {1}};
	const uint64_t size = DISK;
	memset(&line, 0, sizeof(line));
	line.transport.ops = &line_ops;
	line.sim = sim_new(1);
	line.from_ms = line_now(NULL);
	site = (struct site){.seed = 5, .key = {.kind = DIGEST_XXH3}};
	assert_int_equal(channel_over(&line.transport, &peer, &site.channel, NULL), 0);
	memory_source_init(&site.memory, 1, &size);
	assert_int_equal(ship_new(&(struct sender_config){.env = sim_env(line.sim)}, &site.ship), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	channel_close(site.channel);
	ship_free(site.ship);
	memory_source_done(&site.memory);
	sim_free(line.sim);
	return 0;
}

// The guest writes what no codec makes smaller.
static void write_random(uint64_t off, size_t len)
{
	unsigned char *data = malloc(len);
	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (unsigned char)draw(&site.seed);
	memory_source_write(&site.memory, 0, off, data, len);
	free(data);
}

static void on_stage(void *context, enum cycle_stage stage)
{
	(void)context;
	if (stage == CYCLE_CUTTING)
		site.cut_ms = line_now(NULL);
}

static void on_seal(void *context, const struct uuid *cut)
{
	(void)context, (void)cut;
}

// A cycle; returns the age of its point at the commit, in ms.
static int64_t cycle_now(void)
{
	struct err err = {0};
	struct cycle cycle = {
		.env = sim_env(line.sim),
		.source = &site.memory.source,
		.channel = site.channel,
		.ship = site.ship,
		.codec = CODEC_NONE,
		.written = true,
		.key = &site.key,
		.predecessor = site.point,
		.head = site.head,
		.progress = &site.progress,
		.lore = &site.lore,
		.on_stage = on_stage,
		.on_seal = on_seal,
	};
	if (cycle_run(&cycle, &site.report, &err))
		fail_msg("%s", err.text);
	assert_int_equal(source_keep(&site.memory.source, &err), 0);
	site.point = site.report.committed.number;
	site.head = site.report.committed.head;
	return line_now(NULL) - site.cut_ms;
}

// The line's pace, once a cycle has shown it.
static void show_the_line(void)
{
	(void)cycle_now();
	write_random(0, 2 << 20);
	assert_in_range(cycle_now(), 8000, 10000);
}

// ---- the tests

// What a cycle put into the socket in no time says nothing of the line.
static void pace_of_a_line_is_learned_from_what_its_other_end_has(void **state)
{
	(void)state;
	show_the_line();
	assert_in_range(site.lore.rate, RATE * 8 / 10, RATE * 12 / 10);
}

static void point_over_a_thin_line_is_young_at_its_commit(void **state)
{
	(void)state;
	show_the_line();
	write_random(4 << 20, 3 << 20);
	int64_t age_ms = cycle_now();
	assert_true(site.report.precopies == 1);
	assert_true(site.report.why == CYCLE_WHY_LITTLE);
	assert_in_range(age_ms, 0, CHANNEL_SETTLED_MS + HELD_MS + 200);
}

static void guest_writes(struct memory_source *source, void *context)
{
	static unsigned fetches;
	(void)context;
	if (fetches++ % 8 == 0) { // a sixteenth of what is shipped
		unsigned char piece[PIECE_SIZE];
		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = (unsigned char)draw(&site.seed);
		memory_source_write(source, 0, (8 << 20) + draw_below(&site.seed, 512) * PIECE_SIZE, piece, sizeof(piece));
	}
}

// Passes converge by what is really left.
static void point_over_a_thin_line_is_young_beside_a_guest_that_writes(void **state)
{
	(void)state;
	show_the_line();
	write_random(4 << 20, 4 << 20);
	site.memory.guest = guest_writes;
	site.memory.batch_blocks = 4;
	int64_t age_ms = cycle_now();
	assert_true(site.report.precopies >= 1);
	assert_in_range(age_ms, 0, 2 * CHANNEL_SETTLED_MS + HELD_MS + 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pace_of_a_line_is_learned_from_what_its_other_end_has, setup, teardown),
		cmocka_unit_test_setup_teardown(point_over_a_thin_line_is_young_at_its_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(point_over_a_thin_line_is_young_beside_a_guest_that_writes, setup, teardown),
	};
	return cmocka_run_group_tests_name("thin_line", tests, NULL, NULL);
}
