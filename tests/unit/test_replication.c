// SPDX-License-Identifier: Apache-2.0
// With sanitizers in full runs only: what it goes through others do as well, and it takes long.
// From what is dirty to a committed point, with everything between them real but the disks of the source: every point shows
// what the source held at its cut (R1), and a connection that is lost at any byte costs no more than what it carried (C2, C3).
#include "base/log.h"
#include "receiver/scrub.h"
#include "receiver/seed.h"
#include "replicator/greet.h"
#include "tests/lib/cut_proxy.h"
#include "tests/lib/replication.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The second disk ends in the middle of a piece, the first in the middle of a block.
static const uint64_t sizes[] = {22 * BLOCK_SIZE + 3 * PIECE_SIZE, 9 * BLOCK_SIZE + 5 * PIECE_SIZE + 3 * SECTOR_SIZE};

static int setup(void **state)
{
	struct replication *r = malloc(sizeof(*r));
	replication_begin(r, 2, sizes, 11);
	r->memory.batch_blocks = 4; // so that a small set takes several batches
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	replication_end(*state);
	free(*state);
	return 0;
}

static void connect_now(struct replication *r)
{
	if (replication_connect(r, NULL, NULL))
		fail_msg("%s", r->err.text);
}

static void cycle_now(struct replication *r)
{
	if (replication_cycle(r))
		fail_msg("%s", r->err.text);
}

static void guest_writes(struct replication *r, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		memory_source_random(&r->memory, &r->seed);
}

static void guest_between_batches(struct memory_source *memory, void *context)
{
	memory_source_random(memory, context);
}

static void points_show_what_the_source_held_at_each_cut(void **state)
{
	struct replication *r = *state;
	static const enum codec codecs[] = {CODEC_ZSTD, CODEC_ZLIB, CODEC_LZ4, CODEC_NONE};
	r->memory.guest = guest_between_batches; // a guest does not wait for a cycle
	r->memory.context = &r->seed;
	for (unsigned i = 0; i < 12; i++) {
		r->codec = codecs[i % 4];
		r->open.codec = i % 8 < 4 ? CODEC_ZSTD : CODEC_ZLIB;
		if (i % 4 == 0)
			connect_now(r);
		guest_writes(r, i % 3 ? 5 : 40);
		cycle_now(r);
		assert_int_equal(r->report.committed.number, i + 1);
	}
	assert_int_equal(replication_check(r), 12);
	assert_int_equal(r->memory.give_backs, 3); // one for each connection, of nothing
}

static void cycle_with_nothing_dirty_makes_a_point_and_reads_nothing(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 20);
	cycle_now(r);
	cycle_now(r);
	assert_int_equal(r->report.dirty_bytes, 0);
	assert_int_equal(r->report.ship.read_bytes, 0);
	assert_int_equal(replication_check(r), 2);
}

static void blocks_that_are_equal_do_not_travel(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 40);
	cycle_now(r);
	source_mark_all(&r->memory.source); // as after an unclean stop
	uint64_t before = channel_bytes_out(r->channel);
	cycle_now(r);
	assert_int_equal(r->report.ship.equal_blocks, 23 + 10);
	assert_int_equal(r->report.ship.sent_blocks + r->report.ship.zero_blocks, 0);
	assert_true(channel_bytes_out(r->channel) - before < 4096);
	assert_int_equal(replication_check(r), 2);
}

static void blocks_rewritten_with_equal_content_need_no_question(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	cycle_now(r); // the first sync: what it sent, or was told is equal, is known
	source_mark_all(&r->memory.source);
	uint64_t before = channel_bytes_out(r->channel), heard = channel_bytes_in(r->channel);
	cycle_now(r);
	assert_int_equal(r->report.ship.known_blocks, 23 + 10);
	assert_int_equal(r->report.ship.equal_blocks, 23 + 10);
	assert_true(channel_bytes_out(r->channel) - before < 512); // SEAL
	assert_true(channel_bytes_in(r->channel) - heard < 512);
	connect_now(r); // another connection knows nothing
	source_mark_all(&r->memory.source);
	cycle_now(r);
	assert_int_equal(r->report.ship.known_blocks, 0);
	assert_int_equal(r->report.ship.equal_blocks, 23 + 10);
	assert_int_equal(replication_check(r), 3);
}

static void first_sync_of_much_is_pre_copied_while_the_guest_writes(void **state)
{
	struct replication *r = *state;
	replication_end(r);
	uint64_t large[] = {CYCLE_PRECOPY_BYTES + 40 * BLOCK_SIZE, 3 * BLOCK_SIZE};
	replication_begin(r, 2, large, 5);
	guest_writes(r, 100);
	source_mark_all(&r->memory.source);
	r->memory.guest = guest_between_batches;
	r->memory.context = &r->seed;
	connect_now(r);
	cycle_now(r);
	assert_int_equal(r->memory.precopies, 1);
	assert_int_equal(r->memory.cuts, 2);
	assert_int_equal(replication_check(r), 1);
}

// --- refusals ---

static void source_that_was_failed_over_is_refused_as_fenced(void **state)
{
	struct replication *r = *state;
	struct wire_failure failure;
	connect_now(r);
	for (int i = 0; i < 2; i++) {
		guest_writes(r, 10);
		cycle_now(r);
	}
	assert_int_equal(replica_fence(store_find(r->store, "vm1"), 1, &r->err), 0);
	guest_writes(r, 10);
	uint64_t dirty = source_dirty_bytes(&r->memory.source);
	assert_int_equal(replication_cycle(r), -EREMOTEIO);
	assert_int_equal(r->report.failure.code, WIRE_E_FENCED);
	assert_true(r->report.failure.text[0]);
	assert_true(source_dirty_bytes(&r->memory.source) >= dirty); // nothing of it is forgotten
	assert_int_equal(replication_connect(r, NULL, &failure), -EREMOTEIO);
	assert_int_equal(failure.code, WIRE_E_FENCED);
	assert_int_equal(replication_check(r), 2);
}

// What the source had dirty while it was fenced comes with the first point after the rollback: by the dirty map, not by a sync.
static void source_goes_on_with_a_delta_after_a_rollback(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	for (int i = 0; i < 2; i++) {
		guest_writes(r, 10);
		cycle_now(r);
	}
	struct replica *replica = store_find(r->store, "vm1");
	assert_int_equal(replica_fence(replica, 1, &r->err), 0);
	guest_writes(r, 10);
	assert_int_equal(replication_cycle(r), -EREMOTEIO);
	assert_int_equal(replica_unfence(replica, 1, &r->err), 0);
	connect_now(r);
	guest_writes(r, 10);
	cycle_now(r);
	assert_int_equal(r->report.committed.number, 3);
	assert_int_equal(replication_check(r), 3);
}

static void source_over_its_quota_is_told_so_and_goes_on_when_it_is_raised(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 10);
	cycle_now(r);
	struct replica *replica = store_find(r->store, "vm1");
	assert_int_equal(replica_set_quota(replica, 4096, &r->err), 0);
	guest_writes(r, 10);
	uint64_t dirty = source_dirty_bytes(&r->memory.source);
	assert_int_equal(replication_cycle(r), -EREMOTEIO);
	assert_int_equal(r->report.failure.code, WIRE_E_QUOTA);
	assert_non_null(strstr(r->report.failure.text, "kagami limit"));
	assert_true(source_dirty_bytes(&r->memory.source) >= dirty); // nothing of it is forgotten
	assert_int_equal(replica_set_quota(replica, 0, &r->err), 0);
	connect_now(r);
	cycle_now(r);
	assert_int_equal(replication_check(r), 2);
}

static void seed_put(struct replication *r, const char *disk, bool any)
{
	struct seed seed = {.name = "vm1", .size = sizes[0], .any_source = any};
	struct env_file *raw = NULL;
	(void)snprintf(seed.disk, sizeof(seed.disk), "%s", disk);
	assert_int_equal(seed_begin(r->store_root, &r->err), 0);
	assert_int_equal(env_open(r->store_root, SEEDS_NEW "/raw", ENV_CREATE, &raw), 0);
	assert_int_equal(env_truncate(raw, sizes[0]), 0);
	env_close(raw);
	assert_int_equal(seed_publish(r->store_root, &seed, &r->err), 0);
}

static void refused_for_want_of_a_seed(struct replication *r, const char *disk)
{
	struct wire_failure failure;
	assert_int_equal(replication_connect(r, NULL, &failure), -EREMOTEIO);
	assert_int_equal(failure.code, WIRE_E_SEED);
	assert_non_null(strstr(failure.text, disk));
	assert_non_null(strstr(failure.text, "kagami seed vm1/"));
	assert_null(store_find(r->store, "vm1")); // nothing was begun
}

static void nothing_begins_without_a_seed_of_each_disk_where_that_was_asked(void **state)
{
	struct replication *r = *state;
	struct wire_failure failure;
	const struct wire_hello old = {.features = WIRE_FEATURE_DAMAGED};
	const char *first = r->open.disk[0].name, *second = r->open.disk[1].name;
	r->seeded = true;
	refused_for_want_of_a_seed(r, first);
	seed_put(r, first, true);
	refused_for_want_of_a_seed(r, second);
	seed_put(r, second, false); // of another source
	refused_for_want_of_a_seed(r, second);
	assert_int_equal(seed_remove(r->store_root, "vm1", second, &r->err), 0);
	seed_put(r, second, true);
	assert_int_equal(replication_connect(r, NULL, &failure), -EREMOTEIO);
	assert_int_equal(failure.code, WIRE_E_BUSY); // it is read
	while (replica_adopt(store_find(r->store, "vm1"), &r->err) == 1)
		;
	connect_now(r); // taken: they are seeds no more, and it goes on
	cycle_now(r);
	assert_int_equal(replication_check(r), 1);
	connect_now(r);
	assert_int_equal(greet_seeded(r->channel, &old, &r->err), -EPROTONOSUPPORT); // a receiver that cannot wait is not asked
}

static void source_with_another_key_is_refused_as_unpaired(void **state)
{
	struct replication *r = *state;
	struct wire_failure failure;
	struct identity *stranger = NULL;
	connect_now(r);
	guest_writes(r, 10);
	cycle_now(r);
	replication_disconnect(r);
	assert_int_equal(identity_load(r->temp.root, "stranger.pem", &stranger, &r->err), 0);
	SSL_CTX_free(r->tls);
	r->tls = identity_context(stranger, false, &r->err);
	assert_int_equal(replication_connect(r, NULL, &failure), -EREMOTEIO);
	assert_int_equal(failure.code, WIRE_E_UNPAIRED);
	identity_free(stranger);
}

static void source_that_comes_back_takes_its_session_over(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 10);
	cycle_now(r);
	struct channel *old = r->channel;
	r->channel = NULL; // forgotten by this side only, as when a host lost its power
	connect_now(r);
	guest_writes(r, 10);
	cycle_now(r);
	struct wire_frame frame;
	assert_true(channel_get(old, 10000, &frame, &r->err) < 0); // the receiver ended it
	channel_close(old);
	assert_int_equal(replication_check(r), 2);
}

static void a_smaller_disk_is_refused_as_geometry(void **state)
{
	struct replication *r = *state;
	struct wire_failure failure;
	connect_now(r);
	guest_writes(r, 10);
	cycle_now(r);
	r->open.disk[1].size -= SECTOR_SIZE;
	assert_int_equal(replication_connect(r, NULL, &failure), -EREMOTEIO);
	assert_int_equal(failure.code, WIRE_E_GEOMETRY);
	assert_true(failure.text[0]);
}

// --- the source's own failures ---

// Some of it as it was, so that the head holds it, some of it other.
static void guest_rewrites_everything(struct replication *r)
{
	for (uint16_t d = 0; d < 2; d++)
		for (uint64_t b = 0; b < size_blocks(sizes[d]); b++) {
			unsigned char word = (unsigned char)draw(&r->seed);
			uint64_t off = b * BLOCK_SIZE;
			memory_source_touch(&r->memory, d, off, size_of_block(sizes[d], b));
			if (draw_below(&r->seed, 3) == 0)
				memory_source_write(&r->memory, d, off, &word, 1);
		}
}

// Everything is other than at the cut, and the answers to what was asked before do not hold any more.
static void guest_overruns_the_cut(struct memory_source *memory, void *context)
{
	uint64_t *seed = context;
	if (memory->mode == CUT_POINT)
		for (int i = 0; i < 8; i++) {
			unsigned char word = (unsigned char)draw(seed);
			memory_source_write(memory, 0, draw_below(seed, sizes[0]), &word, 1);
		}
}

static void cut_that_is_given_up_at_any_batch_leads_to_pre_copy_and_a_true_point(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 60);
	cycle_now(r);
	r->memory.guest = guest_overruns_the_cut;
	r->memory.context = &r->seed;
	for (unsigned blocks = 1; blocks <= 16; blocks *= 4)
		for (unsigned at = 0; at < 12 && at * blocks < 32; at++) { // there are 33 blocks
			guest_rewrites_everything(r);
			r->memory.batch_blocks = blocks;
			r->memory.fail_at = at;
			r->memory.fail_code = -ESTALE;
			r->memory.fails = 1 + at % 2;
			r->memory.precopies = 0;
			unsigned fails = r->memory.fails;
			cycle_now(r);
			assert_int_equal(r->memory.fails, 0);
			assert_int_equal(r->memory.precopies, fails);
		}
	assert_true(replication_check(r) > 20);
}

static void cut_that_is_given_up_again_and_again_fails_and_leaves_the_connection_sound(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 40);
	cycle_now(r);
	for (unsigned at = 0; at < 4; at++) {
		guest_rewrites_everything(r);
		r->memory.fail_at = at;
		r->memory.fail_code = -ESTALE;
		r->memory.fails = UINT_MAX;
		assert_int_equal(replication_cycle(r), -ESTALE);
		assert_non_null(strstr(r->err.text, "too slow"));
		assert_false(r->report.sealed);
		r->memory.fail_at = UINT_MAX;
		r->memory.given_up = false;
		assert_non_null(r->channel);
		cycle_now(r);
	}
	assert_int_equal(replication_check(r), 5);
}

static void image_that_cannot_be_read_fails_the_cycle_and_nothing_is_forgotten(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 40);
	cycle_now(r);
	for (unsigned at = 0; at < 9; at++) {
		guest_rewrites_everything(r);
		uint64_t dirty = source_dirty_bytes(&r->memory.source);
		r->memory.fail_at = at;
		r->memory.fail_code = -EIO;
		r->memory.fails = 1;
		assert_int_equal(replication_cycle(r), -EIO);
		r->memory.fail_at = UINT_MAX;
		assert_true(source_dirty_bytes(&r->memory.source) >= dirty);
		connect_now(r);
		cycle_now(r);
	}
	assert_int_equal(replication_check(r), 10);
}

// --- lost connections ---

// A cycle over a connection that is cut after `limit` bytes; then one over a sound one. Whether the first was cut.
static bool cut_once(struct replication *r, struct cut_proxy *proxy, enum proxy_way way, uint64_t limit)
{
	guest_writes(r, 6);
	cut_proxy_limit(proxy, way, limit);
	int rc = replication_connect(r, cut_proxy_address(proxy), NULL);
	if (rc == 0)
		rc = replication_cycle(r);
	cut_proxy_limit(proxy, way, PROXY_NEVER);
	guest_writes(r, 2);
	connect_now(r);
	cycle_now(r);
	return rc != 0;
}

static void cut_everywhere(struct replication *r, enum proxy_way way, unsigned positions)
{
	struct cut_proxy *proxy = cut_proxy_start(server_address(r->server));
	guest_writes(r, 40);
	assert_false(cut_once(r, proxy, way, PROXY_NEVER));
	unsigned cut = 0;
	for (unsigned i = 0; i < positions; i++) {
		// What a cycle takes varies with what the guest wrote: measured anew, and every part of it tried.
		guest_writes(r, 6);
		assert_int_equal(replication_connect(r, cut_proxy_address(proxy), NULL), 0);
		cycle_now(r);
		uint64_t whole = cut_proxy_bytes(proxy, way);
		cut += cut_once(r, proxy, way, whole * i / positions + draw_below(&r->seed, 1 + whole / positions));
		if (i % 16 == 15)
			(void)replication_check(r);
	}
	assert_true(cut > positions / 2);
	(void)replication_check(r);
	cut_proxy_stop(proxy);
}

static void connection_cut_at_any_byte_to_the_receiver_costs_no_point(void **state)
{
	struct replication *r = *state;
	r->open.points_keep = 20; // and folding goes on meanwhile
	cut_everywhere(r, PROXY_UP, 60);
}

static void connection_cut_at_any_byte_to_the_source_costs_no_point(void **state)
{
	struct replication *r = *state;
	r->open.points_keep = 20;
	cut_everywhere(r, PROXY_DOWN, 60);
}

// Between SEAL and the end of COMMITTED the source cannot know: it asks, and neither ships the point again nor loses it.
// A block is sent, the connection dies under it, and the guest writes the same content once more: what was sent is not what arrived.
static void known_block_is_what_the_head_holds(void **state)
{
	struct replication *r = *state;
	struct cut_proxy *proxy = cut_proxy_start(server_address(r->server));
	static unsigned char content[2][BLOCK_SIZE];
	for (size_t i = 0; i < BLOCK_SIZE; i++)
		content[0][i] = (unsigned char)draw(&r->seed), content[1][i] = (unsigned char)draw(&r->seed);
	assert_int_equal(replication_connect(r, cut_proxy_address(proxy), NULL), 0);
	cycle_now(r);
	assert_int_equal(r->position, 1);
	for (unsigned i = 0; i < 12; i++) {
		memory_source_write(&r->memory, 0, BLOCK_SIZE, content[i % 2], BLOCK_SIZE);
		cut_proxy_limit(proxy, PROXY_UP, 2000 + i * 5000); // somewhere in greeting or block
		int rc = replication_connect(r, cut_proxy_address(proxy), NULL);
		if (rc == 0)
			assert_int_not_equal(replication_cycle(r), 0);
		cut_proxy_limit(proxy, PROXY_UP, PROXY_NEVER);
		memory_source_touch(&r->memory, 0, BLOCK_SIZE, BLOCK_SIZE);
		assert_int_equal(replication_connect(r, cut_proxy_address(proxy), NULL), 0);
		cycle_now(r);
		assert_int_equal(r->report.ship.known_blocks, 0);
	}
	assert_int_equal(replication_check(r), 13);
	cut_proxy_stop(proxy);
}

static void point_whose_answer_was_lost_is_found_committed(void **state)
{
	struct replication *r = *state;
	struct cut_proxy *proxy = cut_proxy_start(server_address(r->server));
	connect_now(r);
	guest_writes(r, 40);
	cycle_now(r);
	for (unsigned missing = 1; missing <= 40; missing += 13) {
		// With nothing dirty a session is always as long: the last bytes down are COMMITTED.
		assert_int_equal(replication_connect(r, cut_proxy_address(proxy), NULL), 0);
		cycle_now(r);
		uint64_t whole = cut_proxy_bytes(proxy, PROXY_DOWN), point = r->position;
		cut_proxy_limit(proxy, PROXY_DOWN, whole - missing);
		assert_int_equal(replication_connect(r, cut_proxy_address(proxy), NULL), 0);
		unsigned found = r->found_committed;
		assert_int_equal(replication_cycle(r), -ECONNRESET);
		assert_true(r->report.sealed && r->report.failure.code == 0);
		cut_proxy_limit(proxy, PROXY_DOWN, PROXY_NEVER);
		guest_writes(r, 3); // after the cut: dirty, whatever became of the point
		connect_now(r);
		assert_int_equal(r->found_committed, found + 1);
		assert_int_equal(r->position, point + 1);
		cycle_now(r);
		assert_int_equal(r->position, point + 2);
	}
	(void)replication_check(r);
	cut_proxy_stop(proxy);
}

// --- what a session allows ---

static void send_frame(struct channel *channel, enum wire_type type)
{
	unsigned char *to = channel_room(channel, WIRE_FRAME_MAX);
	assert_non_null(to);
	struct wire_hello hello = {.major = WIRE_MAJOR, .program = "test"};
	struct wire_zeros zeros = {.count = 1};
	struct wire_seal seal = {.consistency = POINT_CRASH};
	struct wire_opened opened = {.last_point = 0};
	struct wire_pair pair = {.name = "x"};
	struct wire_compare compare = {.count = 1, .digests = (const unsigned char *)"0123456789abcdef"};
	size_t len = type == WIRE_HELLO	    ? wire_put_hello(to, WIRE_FRAME_MAX, &hello)
		     : type == WIRE_ZEROS   ? wire_put_zeros(to, WIRE_FRAME_MAX, &zeros)
		     : type == WIRE_SEAL    ? wire_put_seal(to, WIRE_FRAME_MAX, &seal)
		     : type == WIRE_OPENED  ? wire_put_opened(to, WIRE_FRAME_MAX, &opened)
		     : type == WIRE_PAIR    ? wire_put_pair(to, WIRE_FRAME_MAX, WIRE_PAIR, &pair)
		     : type == WIRE_COMPARE ? wire_put_compare(to, WIRE_FRAME_MAX, &compare)
					    : wire_put_empty(to, WIRE_FRAME_MAX, type);
	assert_int_equal(channel_put(channel, len), 0);
	assert_int_equal(channel_flush(channel, NULL), 0);
}

static void expect_refusal(struct channel *channel, enum wire_error code)
{
	struct wire_frame frame;
	struct wire_failure failure;
	struct err err = {0};
	assert_int_equal(channel_expect(channel, WIRE_COMMITTED, 10000, &frame, &failure, &err), -EREMOTEIO);
	assert_int_equal(failure.code, code);
	assert_true(failure.text[0]);
}

static void message_that_the_state_does_not_allow_ends_the_session_with_a_reason(void **state)
{
	struct replication *r = *state;
	struct wire_frame frame;
	struct wire_failure failure;
	static const enum wire_type start[] = {WIRE_ZEROS, WIRE_SEAL, WIRE_COMPARE, WIRE_PAIR, WIRE_PING, WIRE_OPENED};
	static const enum wire_type ready[] = {WIRE_HELLO, WIRE_ZEROS, WIRE_SEAL, WIRE_COMPARE, WIRE_OPENED, WIRE_PONG};
	static const enum wire_type open[] = {WIRE_HELLO,	  WIRE_PAIR,	     WIRE_OPENED,	   WIRE_PONG,
					      (enum wire_type)15, (enum wire_type)0, (enum wire_type)65535};
	for (size_t i = 0; i < sizeof(start) / sizeof(start[0]) + sizeof(ready) / sizeof(ready[0]); i++) {
		bool greeted = i >= sizeof(start) / sizeof(start[0]);
		assert_int_equal(channel_connect(r->tls, server_address(r->server), NULL, &r->channel, &r->err), 0);
		if (greeted) {
			send_frame(r->channel, WIRE_HELLO);
			assert_int_equal(channel_expect(r->channel, WIRE_HELLO, 10000, &frame, &failure, &r->err), 0);
		}
		send_frame(r->channel, greeted ? ready[i - sizeof(start) / sizeof(start[0])] : start[i]);
		expect_refusal(r->channel, WIRE_E_PROTOCOL);
		replication_disconnect(r);
	}
	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
		connect_now(r);
		send_frame(r->channel, open[i]);
		expect_refusal(r->channel, WIRE_E_PROTOCOL);
	}
	connect_now(r); // and the receiver is as well as before
	guest_writes(r, 5);
	cycle_now(r);
	assert_int_equal(replication_check(r), 1);
}

static void receiver_says_why_it_ends_a_session_over_a_frame_that_is_too_long(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	unsigned char *to = channel_room(r->channel, WIRE_FRAME_MAX);
	memset(to, 0xff, WIRE_HEADER_SIZE);
	assert_int_equal(channel_put(r->channel, WIRE_HEADER_SIZE), 0);
	assert_int_equal(channel_flush(r->channel, NULL), 0);
	expect_refusal(r->channel, WIRE_E_PROTOCOL);
}

static void seal_of_another_position_or_head_is_refused(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	guest_writes(r, 5);
	cycle_now(r);
	struct uuid head = r->head;
	r->head.bytes[3] ^= 1;
	assert_int_equal(replication_cycle(r), -EREMOTEIO);
	assert_int_equal(r->report.failure.code, WIRE_E_POSITION);
	connect_now(r);
	assert_true(uuid_equal(&r->head, &head)); // the receiver's has not changed
	r->position = 7;
	assert_int_equal(replication_cycle(r), -EREMOTEIO);
	assert_int_equal(r->report.failure.code, WIRE_E_POSITION);
	r->position = 1;
	connect_now(r);
	cycle_now(r);
	assert_int_equal(replication_check(r), 2);
}

// --- damage at the receiver ---

static void byte_change(struct replication *r, const char *name, uint64_t off)
{
	struct env_file *file = NULL;
	assert_int_equal(env_open(r->store_root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_pwrite(file, "X", 1, off), 0);
	env_close(file);
}

static void scrub_all(struct replica *replica)
{
	struct scrub_step step = {.ended = false};
	assert_int_equal(scrub_begin(replica, 0, SCRUB_RATE_DEFAULT, NULL), 0);
	while (!step.ended)
		assert_int_equal(scrub_slice(replica, &step, NULL), 0);
}

static void blocks_that_a_scrub_found_damaged_come_whole_with_the_next_cycle(void **state)
{
	struct replication *r = *state;
	connect_now(r);
	cycle_now(r); // disks of zeros: all of it is in the base
	struct replica *replica = store_find(r->store, r->open.name);
	char name[320];
	(void)snprintf(name, sizeof(name), "%s/base/%s.raw", r->open.name, r->open.disk[0].name);
	byte_change(r, name, 3 * BLOCK_SIZE + 17);
	cycle_now(r); // nobody knows
	assert_int_equal(replica_sound(replica, 2, NULL), 0);
	scrub_all(replica);
	assert_int_equal(replica_sound(replica, 2, NULL), -EUCLEAN);
	guest_writes(r, 3);
	assert_int_not_equal(replication_cycle(r), 0); // the session is told to open again
	assert_int_equal(r->report.failure.code, WIRE_E_POSITION);
	connect_now(r);
	assert_true(source_dirty_bytes(&r->memory.source) >= BLOCK_SIZE);
	cycle_now(r);
	assert_true(r->report.ship.sent_blocks + r->report.ship.zero_blocks >= 1);
	assert_int_equal(replica_sound(replica, 3, NULL), 0);
	assert_int_equal(replica_sound(replica, 2, NULL), -EUCLEAN);
	scrub_all(replica);
	assert_int_equal(replica_sound(replica, 3, NULL), 0);
	replication_disconnect(r);
	connect_now(r); // and is named no more
	cycle_now(r);
	assert_int_equal(r->report.dirty_bytes, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void receiver_tells_its_clock_in_a_session_when_it_is_asked(void **state)
{
	struct replication *r = *state;
	struct channel_time told;
	struct wire_frame frame;
	replication_connect_now(r);
	for (unsigned n = 0; n < 3; n++) {
		int64_t before = env_wall_ns(env_posix());
		assert_false(channel_take_time(r->channel, &told));
		channel_ask_time(r->channel);
		channel_ask_time(r->channel); // one at a time
		if (n < 2) {
			assert_int_equal(channel_flush(r->channel, &r->err), 0);
			assert_int_equal(channel_get(r->channel, 10000, &frame, &r->err), 1);
			assert_true(channel_notes(r->channel, &frame));
		} else {
			replication_cycle_now(r); // among its answers
		}
		assert_true(channel_take_time(r->channel, &told));
		assert_false(channel_take_time(r->channel, &told));
		assert_true(told.time.wall_ns >= before && told.time.wall_ns <= env_wall_ns(env_posix()));
		assert_int_equal(told.time.steps_ns, 0);
		assert_int_equal(channel_get(r->channel, 0, &frame, &r->err), 0);
	}
}

int main(void)
{
	log_init("test_replication", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		TEST(receiver_tells_its_clock_in_a_session_when_it_is_asked),
		TEST(points_show_what_the_source_held_at_each_cut),
		TEST(cycle_with_nothing_dirty_makes_a_point_and_reads_nothing),
		TEST(blocks_that_are_equal_do_not_travel),
		TEST(blocks_rewritten_with_equal_content_need_no_question),
		TEST(first_sync_of_much_is_pre_copied_while_the_guest_writes),
		TEST(source_that_was_failed_over_is_refused_as_fenced),
		TEST(source_goes_on_with_a_delta_after_a_rollback),
		TEST(source_over_its_quota_is_told_so_and_goes_on_when_it_is_raised),
		TEST(source_with_another_key_is_refused_as_unpaired),
		TEST(source_that_comes_back_takes_its_session_over),
		TEST(nothing_begins_without_a_seed_of_each_disk_where_that_was_asked),
		TEST(a_smaller_disk_is_refused_as_geometry),
		TEST(cut_that_is_given_up_at_any_batch_leads_to_pre_copy_and_a_true_point),
		TEST(cut_that_is_given_up_again_and_again_fails_and_leaves_the_connection_sound),
		TEST(image_that_cannot_be_read_fails_the_cycle_and_nothing_is_forgotten),
		TEST(connection_cut_at_any_byte_to_the_receiver_costs_no_point),
		TEST(connection_cut_at_any_byte_to_the_source_costs_no_point),
		TEST(known_block_is_what_the_head_holds),
		TEST(point_whose_answer_was_lost_is_found_committed),
		TEST(message_that_the_state_does_not_allow_ends_the_session_with_a_reason),
		TEST(receiver_says_why_it_ends_a_session_over_a_frame_that_is_too_long),
		TEST(seal_of_another_position_or_head_is_refused),
		TEST(blocks_that_a_scrub_found_damaged_come_whole_with_the_next_cycle),
	};
	return cmocka_run_group_tests_name("replication", tests, NULL, NULL);
}
