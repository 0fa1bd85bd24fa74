// SPDX-License-Identifier: Apache-2.0
// A session of the receiver (receiver/session.h) over a channel of the test's own, at a clock of the test's own.
#include "link/token.h"
#include "receiver/session.h"

#include "base/log.h"
#include "base/size.h"
#include "tests/lib/uncalled_channel.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NS_PER_S UINT64_C(1000000000)
#define DISK_SIZE (UINT64_C(16) << 40)

static const struct pin source = {{9, 9}}, own = {{7}};

// --- the channel: what the test says, one frame after the other without a pause; and what is answered ---

enum { FRAMES_MAX = 8, FRAME_SIZE = 4096 };

struct channel {
	unsigned char in[FRAMES_MAX][FRAME_SIZE], out[WIRE_FRAME_MAX];
	size_t in_len[FRAMES_MAX];
	unsigned count, at;
	unsigned put[WIRE_TYPES], left[WIRE_TYPES]; // how many of each type were put, and had left when they were flushed
	unsigned left_before_end; // PONGs that had left when the last frame was asked for
	enum wire_error refused;
	void (*elsewhere)(void *context); // happens before frame `elsewhere_at`; NULL: nothing does
	void *context;
	unsigned elsewhere_at;
	unsigned pauses, pauses_at; // so often nothing comes in time, before that frame
	bool moves;		    // something does then
	uint64_t left_ns, silent_ns; // when something left last, and the longest that nothing did
};

static struct {
	struct env_ops ops;
	const struct env_ops *sim;
	uint64_t now_ns, step_ns; // each look at the clock is so much later
	uint64_t read_ns;	  // and so is each read
} clock_of;

int channel_get(struct channel *c, int timeout_ms, struct wire_frame *ret_frame, struct err *err)
{
	(void)timeout_ms;
	if (c->at == c->pauses_at && c->pauses) {
		c->pauses--;
		return 0;
	}
	if (c->at == c->count)
		return err_set(err, -ECONNRESET, "the input ends");
	c->left_before_end = c->left[WIRE_PONG];
	if (c->elsewhere && c->at == c->elsewhere_at)
		c->elsewhere(c->context);
	assert_int_equal(wire_frame_next(c->in[c->at], c->in_len[c->at], ret_frame), 1);
	c->at++;
	return 1;
}

void *channel_room(struct channel *c, size_t cap)
{
	(void)cap;
	return c->out;
}

int channel_put(struct channel *c, size_t len)
{
	struct wire_frame f;
	assert_int_equal(wire_frame_next(c->out, len, &f), 1);
	c->put[f.type]++;
	return 0;
}

int channel_flush(struct channel *c, struct err *err)
{
	(void)err;
	if (memcmp(c->left, c->put, sizeof(c->left)) == 0)
		return 0;
	memcpy(c->left, c->put, sizeof(c->left));
	if (c->left_ns && clock_of.now_ns - c->left_ns > c->silent_ns)
		c->silent_ns = clock_of.now_ns - c->left_ns;
	c->left_ns = clock_of.now_ns;
	return 0;
}

const struct pin *channel_peer(const struct channel *c)
{
	(void)c;
	return &source;
}

void channel_refuse(struct channel *c, enum wire_error code, const char *text)
{
	(void)text;
	c->refused = code;
}

bool channel_moves(struct channel *c)
{
	return c->moves;
}

// --- the watch ---

static struct {
	bool connected, begun_meanwhile;
} told;

void watch_connected(struct watch *watch, struct replica *replica, int64_t their_wall_ns, const char *peer)
{
	(void)watch, (void)replica, (void)their_wall_ns, (void)peer;
	told.connected = true;
}

static const struct wire_open open_vm1 = {.protection = {{1}}, .generation = {{2}}, .name = "vm1", .digest = {.kind = DIGEST_XXH3, .secret = {0x11}},
					  .codec = CODEC_ZSTD, .points_keep = 2, .rpo_ms = 15000, .disk_count = 1,
					  .disk = {{.name = "vda", .size = DISK_SIZE}}};

// As if the source came back at this instant, on another connection.
void watch_disconnected(struct watch *watch, struct replica *replica, const char *reason)
{
	struct wire_opened opening;
	(void)reason;
	if (replica_session_begin(replica, &open_vm1, source.bytes, &opening, NULL) == 0) {
		told.begun_meanwhile = true;
		watch_connected(watch, replica, 1, "");
		replica_session_end(replica);
	}
	told.connected = false;
}

void watch_report(struct watch *watch, struct replica *replica, const struct wire_report *report)
{
	(void)watch, (void)replica, (void)report;
}

bool watch_time(struct watch *watch, struct replica *replica, struct wire_time *ret_time)
{
	(void)watch, (void)replica, (void)ret_time;
	return false;
}

void watch_goodbye(struct watch *watch, struct replica *replica)
{
	(void)watch, (void)replica;
}

void watch_committed(struct watch *watch, struct replica *replica, const struct wire_seal *seal, const struct wire_committed *done)
{
	(void)watch, (void)replica, (void)seal, (void)done;
}

// --- the receiver ---

static uint64_t slow_mono_ns(struct env *env)
{
	(void)env;
	return clock_of.now_ns += clock_of.step_ns;
}

static int slow_pread(struct env_file *file, void *buf, size_t len, uint64_t off, size_t *ret_len)
{
	clock_of.now_ns += clock_of.read_ns;
	return clock_of.sim->pread(file, buf, len, off, ret_len);
}

static bool take_over(void *context, struct replica *replica)
{
	(void)context, (void)replica;
	return false;
}

static void opened(void *context, struct replica *replica)
{
	(void)context, (void)replica;
}

static void committed(void *context)
{
	(void)context;
}

static void pair(struct pairing *pairing)
{
	char text[TOKEN_TEXT_SIZE];
	struct token token;
	struct wire_pair proof = {.name = "host1"}, answer;
	int64_t expires;
	assert_true(pairing_token(pairing, "127.0.0.1:1", text, &expires, NULL) == 0 && token_read(text, &token, NULL) == 0);
	token_id(token.secret, proof.token_id);
	token_proof(token.secret, false, &source, &own, proof.mac);
	assert_true(pairing_accept(pairing, &proof, &source, &answer, NULL) == 0);
}

struct bench {
	struct sim *sim;
	struct env_root *state;
	struct store *store;
	struct pairing *pairing;
	struct channel *channel;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct env_root *top;
	assert_non_null(b);
	b->sim = sim_new(1);
	struct env *env = sim_env(b->sim);
	clock_of.sim = env->ops;
	clock_of.ops = *env->ops;
	clock_of.ops.mono_ns = slow_mono_ns;
	clock_of.ops.pread = slow_pread;
	clock_of.read_ns = 0;
	clock_of.now_ns = NS_PER_S;
	clock_of.step_ns = 0;
	env->ops = &clock_of.ops;
	assert_true(env_root_open(env, "/", &top) == 0 && env_mkdir(top, "store") == 0 && env_mkdir(top, "state") == 0);
	env_root_close(top);
	assert_int_equal(store_open(env, "/store", &b->store, NULL), 0);
	assert_int_equal(env_root_open(env, "/state", &b->state), 0);
	assert_int_equal(pairing_open(b->state, &own, &b->pairing, NULL), 0);
	pair(b->pairing);
	b->channel = calloc(1, sizeof(*b->channel));
	assert_non_null(b->channel);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	free(b->channel);
	pairing_close(b->pairing);
	store_close(b->store);
	env_root_close(b->state);
	sim_free(b->sim);
	free(b);
	return 0;
}

static void point_of_one_block(const struct bench *b)
{
	unsigned char content[BLOCK_SIZE];
	struct replica *replica;
	struct wire_opened opening;
	struct wire_committed done;
	memset(content, 'a', sizeof(content));
	const struct wire_block block = {.mask = MASK_FULL, .codec = CODEC_NONE, .index = 5, .digest = digest_of(&open_vm1.digest, 0, 5, content),
					 .len = BLOCK_SIZE, .payload = content};
	assert_int_equal(store_create(b->store, &open_vm1, source.bytes, &replica, NULL), 0);
	assert_int_equal(replica_session_begin(replica, &open_vm1, source.bytes, &opening, NULL), 0);
	assert_int_equal(replica_write_block(replica, &block, NULL), 0);
	const struct wire_seal seal = {.cut = {{5}}, .head = opening.head, .cut_wall_ns = 1, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(replica, &seal, &done, NULL), 0);
	replica_session_end(replica);
}

static void hello(struct channel *c)
{
	const struct wire_hello hello = {.major = WIRE_MAJOR, .minor = WIRE_MINOR, .program = "test"};
	c->in_len[c->count] = wire_put_hello(c->in[c->count], FRAME_SIZE, &hello);
	c->count++;
	c->in_len[c->count] = wire_put_open(c->in[c->count], FRAME_SIZE, &open_vm1);
	c->count++;
}

static void zeros(struct channel *c, uint64_t first, uint64_t count)
{
	const struct wire_zeros zeros = {.first = first, .count = count};
	c->in_len[c->count] = wire_put_zeros(c->in[c->count], FRAME_SIZE, &zeros);
	c->count++;
}

static void run(struct bench *b)
{
	const struct session_host host = {.env = b->state->env, .store = b->store, .pairing = b->pairing, .take_over = take_over, .opened = opened,
					  .committed = committed};
	session_run(&host, b->channel, "test");
}

// --- the tests ---

static void source_hears_of_a_receiver_that_makes_a_large_disk_zeros(void **state)
{
	struct bench *b = *state;
	clock_of.step_ns = NS_PER_S; // by the clock it takes minutes
	hello(b->channel);
	zeros(b->channel, 0, size_blocks(DISK_SIZE));
	run(b);
	assert_int_equal(b->channel->refused, 0);
	assert_true(b->channel->left[WIRE_PONG] >= DISK_SIZE / (UINT64_C(16) << 30) / (CHANNEL_STALL_MS / 1000));
}

static void source_that_leaves_no_pause_hears_of_its_receiver(void **state)
{
	struct bench *b = *state;
	hello(b->channel);
	for (unsigned i = 0; i < 5; i++)
		zeros(b->channel, i, 1);
	clock_of.step_ns = 2 * NS_PER_S;
	run(b);
	assert_true(b->channel->left_before_end > 0);
}

static void pings(struct bench *b, unsigned count, void (*elsewhere)(void *))
{
	for (unsigned i = 0; i < count; i++) {
		b->channel->in_len[b->channel->count] = wire_put_empty(b->channel->in[b->channel->count], FRAME_SIZE, WIRE_PING);
		b->channel->count++;
	}
	b->channel->elsewhere = elsewhere;
	b->channel->context = b;
	b->channel->elsewhere_at = 3; // after HELLO, OPEN and a PING
	clock_of.step_ns = NS_PER_S / 2;
}

static void fail_over(void *context)
{
	struct bench *b = context;
	assert_int_equal(replica_fence(store_find(b->store, "vm1"), 0, NULL), 0);
}

static void unpair(void *context)
{
	struct bench *b = context;
	char name[NAME_SIZE];
	assert_int_equal(pairing_remove(b->pairing, &source, name, NULL), 0);
	assert_string_equal(name, "host1");
}

static void source_that_leaves_no_pause_is_fenced(void **state)
{
	struct bench *b = *state;
	point_of_one_block(b);
	hello(b->channel);
	pings(b, 5, fail_over);
	run(b);
	assert_int_equal(b->channel->refused, WIRE_E_FENCED);
	assert_true(b->channel->at < b->channel->count); // it was not let talk to its end
}

static void source_that_leaves_no_pause_is_shut_out_when_it_is_unpaired(void **state)
{
	struct bench *b = *state;
	struct replica_info info;
	hello(b->channel);
	pings(b, 5, unpair);
	run(b);
	assert_int_equal(b->channel->refused, WIRE_E_UNPAIRED);
	assert_true(b->channel->at < b->channel->count);
	replica_info(store_find(b->store, "vm1"), &info);
	assert_false(info.session_open);
	*b->channel = (struct channel){.count = 0};
	hello(b->channel); // and not let in again
	run(b);
	assert_int_equal(b->channel->refused, WIRE_E_UNPAIRED);
	assert_int_equal(b->channel->put[WIRE_OPENED], 0);
}

static void report(struct channel *c, uint64_t rpo_ms)
{
	const struct wire_report report = {.state = WIRE_REPORT_RUNNING, .rpo_ms = rpo_ms, .wall_ns = 1};
	c->in_len[c->count] = wire_put_report(c->in[c->count], FRAME_SIZE, &report);
	c->count++;
}

static void objective_of_a_report_is_saved_once_a_minute(void **state)
{
	struct bench *b = *state;
	struct replica_info info;
	hello(b->channel);
	for (unsigned i = 0; i < 6; i++)
		report(b->channel, 20000 + i % 2);
	run(b);
	assert_int_equal(b->channel->refused, 0);
	replica_info(store_find(b->store, "vm1"), &info);
	assert_int_equal(info.rpo_ms, 20000); // the first
	clock_of.now_ns += RPO_SAVE_SECONDS * NS_PER_S;
	*b->channel = (struct channel){.count = 0};
	hello(b->channel);
	report(b->channel, 20001);
	run(b);
	replica_info(store_find(b->store, "vm1"), &info);
	assert_int_equal(info.rpo_ms, 20001); // said again later
}

static void zeros_past_the_end_of_the_disk_change_nothing(void **state)
{
	struct bench *b = *state;
	struct replica_info info;
	point_of_one_block(b);
	hello(b->channel);
	zeros(b->channel, 0, size_blocks(DISK_SIZE) + 1);
	run(b);
	assert_int_equal(b->channel->refused, WIRE_E_PROTOCOL);
	replica_info(store_find(b->store, "vm1"), &info);
	assert_int_equal(info.head_blocks, 0);
}

// Two minutes of a frame that is not whole yet, or of nothing at all.
static void pause_two_minutes(struct bench *b, bool moves)
{
	hello(b->channel);
	b->channel->pauses_at = b->channel->count;
	b->channel->pauses = 240; // each look around asks twice
	b->channel->moves = moves;
	pings(b, 1, NULL);
	run(b);
}

static void source_whose_frame_trickles_in_is_not_dead(void **state)
{
	struct bench *b = *state;
	pause_two_minutes(b, true);
	assert_int_equal(b->channel->at, b->channel->count);
	assert_int_equal(b->channel->left[WIRE_PONG], 1);
	assert_int_equal(b->channel->refused, 0);
}

static void source_of_which_nothing_comes_is_dead_after_30_s(void **state)
{
	struct bench *b = *state;
	uint64_t begin_ns = clock_of.now_ns;
	pause_two_minutes(b, false);
	assert_true(b->channel->at < b->channel->count);
	assert_in_range(clock_of.now_ns - begin_ns, CHANNEL_STALL_MS * NS_PER_S / 1000, (CHANNEL_STALL_MS / 1000 + 15) * NS_PER_S); // looks cost time here
}

// Else the end of the old one would be taken for that of the new one, for as long as this lasts.
static void session_s_end_is_told_before_another_one_can_begin(void **state)
{
	struct bench *b = *state;
	struct replica_info info;
	told.begun_meanwhile = false;
	hello(b->channel);
	run(b);
	assert_int_equal(b->channel->put[WIRE_OPENED], 1);
	assert_false(told.connected);
	assert_false(told.begun_meanwhile);
	replica_info(store_find(b->store, "vm1"), &info);
	assert_false(info.session_open);
}

// Pieces of so many blocks, with digests that nobody can check without the rest of them.
static void point_of_many_blocks(const struct bench *b, uint64_t count)
{
	unsigned char piece[PIECE_SIZE];
	struct replica *replica;
	struct wire_opened opening;
	struct wire_committed done;
	memset(piece, 'a', sizeof(piece));
	assert_int_equal(store_create(b->store, &open_vm1, source.bytes, &replica, NULL), 0);
	assert_int_equal(replica_session_begin(replica, &open_vm1, source.bytes, &opening, NULL), 0);
	for (uint64_t i = 0; i < count; i++) {
		const struct wire_block block = {.mask = 1, .codec = CODEC_NONE, .index = i, .digest = {{1, 2, 3}}, .len = PIECE_SIZE, .payload = piece};
		assert_int_equal(replica_write_block(replica, &block, NULL), 0);
	}
	const struct wire_seal seal = {.cut = {{5}}, .head = opening.head, .cut_wall_ns = 1, .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(replica, &seal, &done, NULL), 0);
	replica_session_end(replica);
}

static void session_that_takes_long_to_load_opens_at_the_first_try(void **state)
{
	struct bench *b = *state;
	uint64_t begin_ns;
	point_of_many_blocks(b, 20000);
	hello(b->channel);
	b->channel->pauses_at = b->channel->count;
	b->channel->pauses = 4; // and what the source says next takes a moment
	pings(b, 1, NULL);
	clock_of.step_ns = 0;
	clock_of.read_ns = 7 * NS_PER_S;
	begin_ns = clock_of.now_ns;
	run(b);
	assert_true(clock_of.now_ns - begin_ns > CHANNEL_STALL_MS * NS_PER_S / 1000);
	assert_int_equal(b->channel->refused, 0);
	assert_int_equal(b->channel->left[WIRE_OPENED], 1);
	assert_in_range(b->channel->silent_ns, 1, CHANNEL_STALL_MS * NS_PER_S / 1000 - 1);
	assert_int_equal(b->channel->at, b->channel->count); // nor is the source taken for dead, which had to wait
}

static void source_that_finds_no_memory_hears_of_a_quota_and_of_no_full_store(void **state)
{
	struct bench *b = *state;
	point_of_one_block(b);
	store_close(b->store);
	assert_int_equal(store_open_within(b->state->env, "/store", 1, &b->store, NULL), 0);
	hello(b->channel);
	run(b);
	assert_int_equal(b->channel->refused, WIRE_E_QUOTA);
}

static void source_with_all_protections_that_it_may_have_hears_of_no_space(void **state)
{
	struct bench *b = *state;
	store_set_owner_most(b->store, 0);
	hello(b->channel);
	run(b);
	assert_int_equal(b->channel->refused, WIRE_E_NO_SPACE);
}

int main(void)
{
	log_init("test_session", LOG_LEVEL_ERROR);
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(source_hears_of_a_receiver_that_makes_a_large_disk_zeros),
		TEST(source_that_leaves_no_pause_hears_of_its_receiver),
		TEST(source_that_leaves_no_pause_is_fenced),
		TEST(source_that_leaves_no_pause_is_shut_out_when_it_is_unpaired),
		TEST(objective_of_a_report_is_saved_once_a_minute),
		TEST(zeros_past_the_end_of_the_disk_change_nothing),
		TEST(source_whose_frame_trickles_in_is_not_dead),
		TEST(source_of_which_nothing_comes_is_dead_after_30_s),
		TEST(session_s_end_is_told_before_another_one_can_begin),
		TEST(session_that_takes_long_to_load_opens_at_the_first_try),
		TEST(source_that_finds_no_memory_hears_of_a_quota_and_of_no_full_store),
		TEST(source_with_all_protections_that_it_may_have_hears_of_no_space),
	};
	return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
