// SPDX-License-Identifier: Apache-2.0
// Sources side by side at one receiver: one that is paired and has a key of its own can do nothing to another's protection, by no message in
// no state, even when it knows everything but the other's key; one that holds its session up disturbs no other; and a connection
// takes no more memory than docs/protocol.md says. Over TLS, against a real receiver.
#include "base/auto.h"
#include "base/bytes.h"
#include "base/log.h"
#include "replicator/greet.h"
#include "replicator/site.h"
#include "tests/lib/replication.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const uint64_t sizes[] = {22 * BLOCK_SIZE + 3 * PIECE_SIZE, 9 * BLOCK_SIZE};

struct tenants {
	struct replication a; // "vm1", with a session that stays open
	struct identity *b_identity;
	SSL_CTX *b_tls;
	struct wire_open b_open; // "vm2"
	char before[8192];
	struct replica_info info;
};

static void must(int rc, const struct err *err)
{
	if (rc)
		fail_msg("%s", err->text);
}

static void a_cycle(struct tenants *t)
{
	for (int i = 0; i < 20; i++)
		memory_source_random(&t->a.memory, &t->a.seed);
	must(replication_cycle(&t->a), &t->a.err);
}

static int setup(void **state)
{
	struct tenants *t = calloc(1, sizeof(*t));
	struct err err = {0};
	char token[TOKEN_TEXT_SIZE];
	int64_t expires;
	struct site site;
	assert_non_null(t);
	replication_begin(&t->a, 2, sizes, 17);
	must(replication_connect(&t->a, NULL, NULL), &t->a.err);
	for (int i = 0; i < 3; i++)
		a_cycle(t);
	must(identity_load(t->a.temp.root, "b.pem", &t->b_identity, &err), &err);
	must(pairing_token(t->a.pairing, server_address(t->a.server), token, &expires, &err), &err);
	must(site_pair(t->b_identity, "host2", "dr", token, NULL, &site, &err), &err);
	t->b_tls = identity_context(t->b_identity, false, &err);
	assert_non_null(t->b_tls);
	t->b_open = t->a.open; // all of A's secrets but its key
	strcpy(t->b_open.name, "vm2");
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct tenants *t = *state;
	replication_end(&t->a);
	SSL_CTX_free(t->b_tls);
	identity_free(t->b_identity);
	free(t);
	return 0;
}

// Every file of vm1 and what is in it.
static void look(struct tenants *t, char text[8192])
{
	char command[700];
	(void)snprintf(command, sizeof(command),
		       "cd %s/vm1 && find . -printf '%%p %%s\\n' | sort && find . -type f -exec sha256sum {} + | sort",
		       t->a.store_dir);
	FILE *out = popen(command, "r");
	assert_non_null(out);
	size_t len = fread(text, 1, 8191, out);
	text[len] = 0;
	assert_int_equal(pclose(out), 0);
}

static struct channel *b_connect(struct tenants *t)
{
	struct err err = {0};
	struct channel *channel = NULL;
	must(channel_connect(t->b_tls, server_address(t->a.server), identity_pin(t->a.receiver_identity), &channel,
			     &err),
	     &err);
	return channel;
}

static struct channel *b_greet(struct tenants *t)
{
	struct err err = {0};
	struct wire_hello theirs;
	struct channel *channel = b_connect(t);
	must(greet(channel, &theirs, &err), &err);
	return channel;
}

static int b_open(struct channel *channel, const struct wire_open *open, struct wire_failure *failure)
{
	struct err err = {0};
	const struct wire_hello theirs = {.features = WIRE_FEATURE_DAMAGED | WIRE_FEATURE_DOUBT}; // as our own receiver says
	struct wire_opened opened;
	struct wire_damaged damaged;
	struct wire_doubted doubted;
	memset(failure, 0, sizeof(*failure));
	return greet_open(channel, &theirs, open, &opened, &damaged, &doubted, failure, &err);
}

// --- each message ---

// A message of `type` about vm1, as far as one can name it.
static size_t message(struct tenants *t, unsigned type, unsigned char *to, size_t cap)
{
	static const unsigned char digests[4 * DIGEST_SIZE];
	static unsigned char plain[BLOCK_SIZE];
	const struct wire_hello hello = {.major = WIRE_MAJOR, .program = "b"};
	const struct wire_pair pair = {.name = "host1"};
	const struct wire_opened opened = {.last_point = 9, .last_cut = {{1}}, .head = t->info.head};
	const struct wire_compare compare = {.disk = 0, .count = 4, .digests = digests};
	const struct wire_differs differs = {.disk = 0, .count = 4, .bitmap = digests};
	const struct wire_block block = {.disk = 0,
					 .mask = MASK_FULL,
					 .codec = CODEC_NONE,
					 .len = BLOCK_SIZE,
					 .payload = plain,
					 .digest = digest_of(&t->a.open.digest, 0, 0, plain)};
	const struct wire_zeros zeros = {.disk = 0, .first = 0, .count = 22};
	const struct wire_seal seal = {.predecessor = t->info.last_point,
				       .cut = {{66}},
				       .head = t->info.head,
				       .consistency = POINT_CRASH};
	const struct wire_committed committed = {.number = 4, .cut = {{66}}, .head = t->info.head};
	switch (type) {
	case WIRE_HELLO:
		return wire_put_hello(to, cap, &hello);
	case WIRE_PAIR:
	case WIRE_PAIRED:
		return wire_put_pair(to, cap, (enum wire_type)type, &pair);
	case WIRE_OPEN:
		return wire_put_open(to, cap, &t->a.open);
	case WIRE_OPENED:
		return wire_put_opened(to, cap, &opened);
	case WIRE_COMPARE:
		return wire_put_compare(to, cap, &compare);
	case WIRE_DIFFERS:
		return wire_put_differs(to, cap, &differs);
	case WIRE_BLOCK:
		return wire_put_block(to, cap, &block);
	case WIRE_ZEROS:
		return wire_put_zeros(to, cap, &zeros);
	case WIRE_SEAL:
		return wire_put_seal(to, cap, &seal);
	case WIRE_COMMITTED:
		return wire_put_committed(to, cap, &committed);
	case WIRE_ERROR:
		return wire_put_error(to, cap, WIRE_E_FENCED, "vm1 was failed over");
	default: // PING, PONG, and types that there are none of
		return wire_put_empty(to, cap, (enum wire_type)type);
	}
}

// What the receiver makes of it: the code of its ERROR, 0 when it goes on or hangs up without a word.
static unsigned answer_of(struct channel *channel)
{
	struct wire_frame frame;
	struct wire_failure failure = {.code = 0};
	struct err err = {0};
	while (channel_get(channel, 10000, &frame, &err) == 1) {
		if (frame.type == WIRE_ERROR && wire_get_error(&frame, &failure) == 0)
			return failure.code;
		if (frame.type == WIRE_PONG)
			return 0;
	}
	return 0;
}

static unsigned send_one(struct tenants *t, struct channel *channel, unsigned type)
{
	struct err err = {0};
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	assert_non_null(to);
	assert_int_equal(channel_put(channel, message(t, type, to, WIRE_FRAME_MAX)), 0);
	to = channel_room(channel, WIRE_HEADER_SIZE);
	assert_non_null(to);
	assert_int_equal(channel_put(channel, wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_PING)),
			 0); // something to wait for
	(void)channel_flush(channel, &err);
	return answer_of(channel);
}

static void no_message_in_no_state_touches_anothers_protection(void **state)
{
	enum { START, READY, OPEN, STATES, TYPES = WIRE_ERROR + 3 };
	struct tenants *t = *state;
	struct wire_failure failure;
	char after[8192];
	struct uuid head;
	replica_info(store_find(t->a.store, "vm1"), &t->info);
	head = t->info.head;
	look(t, t->before);
	for (unsigned where = START; where < STATES; where++)
		for (unsigned type = 0; type < TYPES; type++) {
			struct channel *channel = where == START ? b_connect(t) : b_greet(t);
			if (where == OPEN)
				assert_int_equal(b_open(channel, &t->b_open, &failure), 0);
			unsigned code = send_one(t, channel, type == TYPES - 1 ? 0xffff : type);
			if (where == READY && type == WIRE_OPEN)
				assert_int_equal(code, WIRE_E_EXISTS);
			else if (where == OPEN && type == WIRE_SEAL)
				assert_int_equal(code, WIRE_E_POSITION);
			else if (where == OPEN && (type == WIRE_COMPARE || type == WIRE_BLOCK || type == WIRE_ZEROS ||
						   type == WIRE_PING))
				assert_int_equal(code, 0); // to vm2
			else if (where == READY && type == WIRE_PAIR)
				assert_int_equal(code, WIRE_E_TOKEN);
			else if (type != WIRE_ERROR && !(where == START && type == WIRE_HELLO))
				assert_int_equal(code, WIRE_E_PROTOCOL);
			channel_close(channel);
		}
	look(t, after);
	assert_string_equal(after, t->before);
	replica_info(store_find(t->a.store, "vm1"), &t->info);
	assert_true(uuid_equal(&t->info.head, &head) && t->info.session_open && t->info.last_point == 3);
	unsigned give_backs = t->a.memory.give_backs;
	a_cycle(t); // over the same connection
	assert_int_equal(t->a.memory.give_backs, give_backs);
	assert_int_equal(replication_check(&t->a), 4);
}

// --- each way to name it ---

static void expect_refused(struct tenants *t, const struct wire_open *open, enum wire_error code)
{
	struct wire_failure failure;
	struct channel *channel = b_greet(t);
	assert_int_equal(b_open(channel, open, &failure), -EREMOTEIO);
	assert_int_equal(failure.code, code);
	channel_close(channel);
}

// Both keys are named, as `kagami peers` does: whose state directory was emptied finds out what happened, and nobody learns a secret.
static void refusal_says_whose_it_is_and_what_to_do(void **state)
{
	struct tenants *t = *state;
	struct wire_failure failure;
	char owner[PIN_TEXT_SIZE], asks[PIN_TEXT_SIZE], expected[160];
	pin_format(identity_pin(t->a.source_identity), owner);
	pin_format(identity_pin(t->b_identity), asks);
	struct channel *channel = b_greet(t);
	assert_int_equal(b_open(channel, &t->a.open, &failure), -EREMOTEIO);
	(void)snprintf(expected, sizeof(expected), "vm1 belongs to another source, with the key %.32s; this one has the key %.32s: ", owner, asks);
	assert_non_null(strstr(failure.text, expected));
	assert_non_null(strstr(failure.text, "bring its state directory back from a backup, else protect under another name"));
	channel_close(channel);
}

// Names that the encoder refuses: put in place of one of the same length.
static void expect_malformed(struct tenants *t, const char *name)
{
	struct wire_open open = t->b_open;
	struct channel *channel = b_greet(t);
	struct err err = {0};
	memset(open.name, 'q', strlen(name));
	open.name[strlen(name)] = 0;
	unsigned char *to = channel_room(channel, WIRE_FRAME_MAX);
	assert_non_null(to);
	size_t len = wire_put_open(to, WIRE_FRAME_MAX, &open);
	unsigned char *at = to + WIRE_HEADER_SIZE + 2 * sizeof(struct uuid) + 2; // past two UUIDs and its length
	assert_memory_equal(at, open.name, strlen(name));
	memcpy(at, name, strlen(name));
	assert_int_equal(channel_put(channel, len), 0);
	(void)channel_flush(channel, &err);
	assert_int_equal(answer_of(channel), WIRE_E_PROTOCOL);
	channel_close(channel);
}

static void no_name_opens_anothers_protection(void **state)
{
	static const char *const names[] = {"../vm1", "vm2/../vm1", "/vm1",    "vm1/",	 ".",		"..",
					    "VM1",    "vm1\n",	    ".kagami", ".trash", "vm1/points/1"};
	struct tenants *t = *state;
	struct wire_open open = t->a.open;
	char after[8192];
	look(t, t->before);
	expect_refused(t, &open, WIRE_E_EXISTS);
	open.generation.bytes[0] ^= 1;
	expect_refused(t, &open, WIRE_E_EXISTS); // not FENCED: it is told nothing of the generation
	open = t->a.open;
	open.points_keep = 1;
	open.disk[0].size += BLOCK_SIZE;
	expect_refused(t, &open, WIRE_E_EXISTS);
	open = t->b_open;
	strcpy(open.name, "lock");
	expect_refused(t, &open, WIRE_E_EXISTS);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		expect_malformed(t, names[i]);
	look(t, after);
	assert_string_equal(after, t->before);
	a_cycle(t);
	assert_int_equal(replication_check(&t->a), 4);
}

// --- held up ---

// Sessions that stop in the middle: within a frame, and with answers that nobody reads.
static void sessions_that_are_held_up_keep_no_other_waiting(void **state)
{
	enum { HELD = 8 };
	struct tenants *t = *state;
	struct channel *held[HELD];
	struct wire_failure failure;
	for (unsigned i = 0; i < HELD; i++) {
		struct err err = {0};
		(void)snprintf(t->b_open.name, NAME_SIZE, "held%u", i);
		held[i] = b_greet(t);
		assert_int_equal(b_open(held[i], &t->b_open, &failure), 0);
		if (i % 2) {
			for (unsigned n = 0; n < 64; n++) {
				void *to = channel_room(held[i], WIRE_FRAME_MAX);
				assert_non_null(to);
				assert_int_equal(channel_put(held[i], message(t, WIRE_COMPARE, to, WIRE_FRAME_MAX)), 0);
			}
		} else {
			unsigned char *to = channel_room(held[i], WIRE_HEADER_SIZE); // a header without its body
			assert_non_null(to);
			(void)wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_BLOCK);
			put_le32(to, 1000);
			assert_int_equal(channel_put(held[i], WIRE_HEADER_SIZE), 0);
		}
		assert_int_equal(channel_flush(held[i], &err), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		a_cycle(t);
	assert_int_equal(replication_check(&t->a), 7);
	for (unsigned i = 0; i < HELD; i++)
		channel_close(held[i]);
}

// One that is paired and opens connections without end takes its share, and every other goes on.
static void source_has_a_share_of_the_connections(void **state)
{
	enum { SHARE = SERVER_PEER_SPARE }; // it has no protection
	struct tenants *t = *state;
	struct channel *open[SHARE];
	struct wire_hello theirs;
	struct err err = {0};
	for (unsigned i = 0; i < SHARE; i++)
		open[i] = b_greet(t);
	struct channel *one_more = b_connect(t);
	assert_int_not_equal(greet(one_more, &theirs, &err), 0);
	channel_close(one_more);
	a_cycle(t);
	assert_int_equal(replication_check(&t->a), 4);
	for (unsigned i = 0; i < SHARE; i++)
		channel_close(open[i]);
	assert_int_equal(server_peer_most(0), SERVER_PEER_SPARE);
	assert_int_equal(server_peer_most(200), 400 + SERVER_PEER_SPARE);
	assert_int_equal(server_peer_most(STORE_OWNER_MOST_DEFAULT), SERVER_PEER_MAX);
}

// What it had open is shut, and what it opens then is told that it is not paired.
static void source_that_is_unpaired_is_cut_off(void **state)
{
	struct tenants *t = *state;
	struct wire_failure failure;
	struct wire_frame frame;
	struct err err = {0};
	char name[NAME_SIZE];
	const struct pin *b = identity_pin(t->b_identity);
	struct channel *channel = b_greet(t);
	assert_int_equal(b_open(channel, &t->b_open, &failure), 0);
	assert_int_equal(pairing_remove(t->a.pairing, b, name, &err), 0);
	assert_string_equal(name, "host2");
	assert_int_equal(server_cut(t->a.server, b), 0);
	assert_true(channel_get(channel, 10000, &frame, &err) < 0);
	channel_close(channel);
	expect_refused(t, &t->b_open, WIRE_E_UNPAIRED);
	if (store_forget(t->a.store, "vm2", &err)) // no session holds it
		fail_msg("%s", err.text);
	a_cycle(t);
}

// --- memory ---

static uint64_t resident_bytes(void)
{
	unsigned long long all = 0, resident = 0;
	FILE *statm = fopen("/proc/self/statm", "r");
	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%llu %llu", &all, &resident), 2);
	(void)fclose(statm);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 }; // what was freed stays in quarantine, and each allocation has room around it
#else
enum { SANITIZED = 0 };
#endif

// Each peer sends all but the last byte of the largest frame. Both ends are in this process, so the bound is of two.
static void memory_of_a_connection_is_bounded(void **state)
{
	enum { CONNECTIONS = 32, BOUND = SANITIZED ? 32 << 20 : 8 << 20 };
	struct tenants *t = *state;
	struct channel *open[CONNECTIONS];
	uint64_t before = resident_bytes();
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		struct err err = {0};
		open[i] = b_greet(t);
		unsigned char *to = channel_room(open[i], WIRE_FRAME_MAX);
		assert_non_null(to);
		memset(to, 1, WIRE_FRAME_MAX);
		(void)wire_put_empty(to, WIRE_HEADER_SIZE, WIRE_OPEN);
		put_le32(to, WIRE_FRAME_MAX - WIRE_HEADER_SIZE);
		assert_int_equal(channel_put(open[i], WIRE_FRAME_MAX - 1), 0);
		assert_int_equal(channel_flush(open[i], &err), 0);
	}
	a_cycle(t);
	uint64_t after = resident_bytes();
	assert_true(after < before + (uint64_t)CONNECTIONS * BOUND);
	for (unsigned i = 0; i < CONNECTIONS; i++)
		channel_close(open[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(no_message_in_no_state_touches_anothers_protection),
		TEST(no_name_opens_anothers_protection),
		TEST(refusal_says_whose_it_is_and_what_to_do),
		TEST(sessions_that_are_held_up_keep_no_other_waiting),
		TEST(source_has_a_share_of_the_connections),
		TEST(source_that_is_unpaired_is_cut_off),
		TEST(memory_of_a_connection_is_bounded),
	};
	(void)signal(SIGPIPE, SIG_IGN);
	log_init("test_tenancy", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("tenancy", tests, NULL, NULL);
}
