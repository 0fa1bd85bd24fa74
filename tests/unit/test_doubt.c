// SPDX-License-Identifier: Apache-2.0
// Doubt, from the source that lost track of a disk to the point that ends it: what the receiver keeps, tells and forgets (D1 to D3 of
// replicator/doubt.h), over a real connection and a real store.
#include "base/auto.h"
#include "base/log.h"
#include "replicator/greet.h"
#include "replicator/protection_private.h"
#include "tests/lib/replication.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const uint64_t sizes[] = {22 * BLOCK_SIZE, 9 * BLOCK_SIZE};

static int setup(void **state)
{
	struct replication *r = malloc(sizeof(*r));
	replication_begin(r, 2, sizes, 4);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	replication_end(*state);
	free(*state);
	return 0;
}

static struct wire_doubt doubt_of(const struct replication *r, uint64_t disks)
{
	struct wire_doubt doubt = {.protection = r->open.protection, .generation = r->open.generation, .disks = disks};
	memcpy(doubt.name, r->open.name, NAME_SIZE);
	return doubt;
}

// A connection of its own, as the source makes one. 0, or the code that the receiver refused with.
static int say_doubt(struct replication *r, const struct wire_doubt *doubt, struct wire_doubted *ret_doubted)
{
	struct channel *channel = NULL;
	struct wire_hello theirs;
	struct wire_frame frame;
	struct wire_failure failure = {.code = 0};
	struct err err = {0};
	assert_int_equal(channel_connect(r->tls, server_address(r->server), NULL, &channel, &err), 0);
	assert_int_equal(greet(channel, &theirs, &err), 0);
	assert_true(theirs.features & WIRE_FEATURE_DOUBT);
	assert_int_equal(channel_put(channel, wire_put_doubt(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, doubt)), 0);
	assert_int_equal(channel_flush(channel, &err), 0);
	int rc = channel_expect(channel, WIRE_DOUBTED, 10000, &frame, &failure, &err);
	if (rc == 0)
		assert_int_equal(wire_get_doubted(&frame, ret_doubted), 0);
	else
		assert_true(failure.text[0]);
	channel_close(channel);
	return rc ? (int)failure.code : 0;
}

static uint64_t doubted_at(struct replication *r)
{
	struct wire_doubted doubted;
	replica_doubted(store_find(r->store, "vm1"), &doubted);
	return doubted.disks;
}

static void doubt_is_told_at_every_connection_until_a_point_ends_it(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	struct wire_doubt doubt = doubt_of(r, 2);
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0);
	assert_int_equal(doubted.disks, 0); // nothing is known of that protection: nothing is believed
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_int_equal(r->doubted.disks, 0);
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0); // beside the open session, which goes on
	assert_int_equal(doubted.disks, 2);
	replication_cycle_now(r);
	for (int i = 0; i < 2; i++) {
		replication_connect_now(r);
		assert_int_equal(r->doubted.disks, 2);
		assert_true(uuid_equal(&r->doubted.doubt, &doubted.doubt));
		replication_cycle_now(r); // a point of which nothing was said ends nothing
	}
	r->certain = true;
	replication_cycle_now(r);
	assert_int_equal(doubted_at(r), 0);
	replication_connect_now(r);
	assert_int_equal(r->doubted.disks, 0);
	assert_int_equal(replication_check(r), 5);
}

// D3: whichever connection was quicker.
static void doubt_that_came_after_is_not_ended_by_what_was_certain_before(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	struct wire_doubt doubt = doubt_of(r, 1);
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0);
	replication_connect_now(r);
	assert_int_equal(r->doubted.disks, 1);
	struct uuid before = doubted.doubt;
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0); // the same disk, once more
	assert_int_equal(doubted.disks, 1);
	assert_false(uuid_equal(&before, &doubted.doubt));
	r->certain = true;
	replication_cycle_now(r);
	assert_int_equal(doubted_at(r), 1);
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_int_equal(doubted_at(r), 0);
}

static void certain_ends_the_doubt_of_its_disks_and_of_its_cut_alone(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	struct wire_doubt doubt = doubt_of(r, 3);
	struct replica *replica;
	replication_connect_now(r);
	replication_cycle_now(r);
	replica = store_find(r->store, "vm1");
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0);
	struct wire_certain certain = {.doubt = doubted.doubt, .cut = {{0xee}}, .disks = 3};
	replica_certain(replica, &certain); // of a cut that is never sealed
	replication_cycle_now(r);
	assert_int_equal(doubted_at(r), 3);
	replication_connect_now(r);
	r->doubted.disks = 2;
	r->certain = true;
	replication_cycle_now(r);
	assert_int_equal(doubted_at(r), 1);
	r->doubted.disks = 3;
	r->memory.fail_at = 0;
	r->memory.fail_code = -EIO;
	r->memory.fails = 1;
	source_mark_all(&r->memory.source);
	assert_int_equal(replication_cycle(r), -EIO); // no point, no end
	r->memory.fail_at = UINT_MAX;
	assert_int_equal(doubted_at(r), 1);
	r->certain = false;
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_int_equal(doubted_at(r), 1);
}

static void doubt_of_others_or_of_what_is_not_there_is_refused(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	replication_connect_now(r);
	replication_cycle_now(r);
	struct wire_doubt doubt = doubt_of(r, 4);
	assert_int_equal(say_doubt(r, &doubt, &doubted), WIRE_E_PROTOCOL); // it has two disks
	doubt = doubt_of(r, 1);
	doubt.generation.bytes[0] ^= 1;
	assert_int_equal(say_doubt(r, &doubt, &doubted), WIRE_E_FENCED);
	doubt = doubt_of(r, 1);
	doubt.protection.bytes[0] ^= 1;
	assert_int_equal(say_doubt(r, &doubt, &doubted), WIRE_E_EXISTS);
	unsigned char stranger[OWNER_PIN_SIZE] = {1};
	struct err err = {0};
	doubt = doubt_of(r, 1);
	assert_int_equal(replica_doubt(store_find(r->store, "vm1"), &doubt, stranger, &doubted, &err), -EPERM);
	assert_int_equal(doubted_at(r), 0);
	replication_cycle_now(r);
}

static void doubt_of_a_source_that_was_failed_over_counts_when_that_is_taken_back(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	struct wire_doubt doubt = doubt_of(r, 1);
	replication_connect_now(r);
	replication_cycle_now(r);
	struct replica *replica = store_find(r->store, "vm1");
	assert_int_equal(replica_fence(replica, 1, &r->err), 0);
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0);
	assert_int_equal(replica_unfence(replica, 1, &r->err), 0);
	replication_connect_now(r);
	assert_int_equal(r->doubted.disks, 1);
	assert_int_equal(replica_fence(replica, 1, &r->err), 0);
	assert_int_equal(replica_fence_commit(replica, 1, &r->err), 0);
	assert_int_equal(say_doubt(r, &doubt, &doubted), WIRE_E_FENCED); // for ever: its state is believed by nobody any more
}

// A source that would not hear of it must not believe its state file.
static void source_of_an_older_version_is_refused_while_there_is_doubt(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	struct wire_doubt doubt = doubt_of(r, 1);
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_int_equal(say_doubt(r, &doubt, &doubted), 0);
	replication_disconnect(r);
	for (unsigned knows = 0; knows < 2; knows++) {
		struct wire_hello own = {.major = WIRE_MAJOR, .features = WIRE_FEATURE_ACK | (knows ? WIRE_FEATURE_DOUBT : 0), .program = "old"};
		struct channel *channel = NULL;
		struct wire_frame frame;
		struct wire_failure failure = {.code = 0};
		struct err err = {0};
		assert_int_equal(channel_connect(r->tls, server_address(r->server), NULL, &channel, &err), 0);
		assert_int_equal(channel_put(channel, wire_put_hello(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &own)), 0);
		assert_int_equal(channel_put(channel, wire_put_open(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &r->open)), 0);
		assert_int_equal(channel_flush(channel, &err), 0);
		assert_int_equal(channel_expect(channel, WIRE_HELLO, 10000, &frame, &failure, &err), 0);
		assert_int_equal(channel_expect(channel, WIRE_OPENED, 10000, &frame, &failure, &err), 0);
		int rc = channel_expect(channel, WIRE_DOUBTED, 10000, &frame, &failure, &err);
		assert_int_equal(rc, knows ? 0 : -EREMOTEIO);
		assert_int_equal(failure.code, knows ? 0 : WIRE_E_VERSION);
		channel_close(channel);
	}
}

// ---- the source's side

static struct protection *source_begin(struct replication *r)
{
	struct protection *p = calloc(1, sizeof(*p));
	struct site site = {.name = "dr", .pin = *identity_pin(r->receiver_identity)};
	(void)snprintf(site.address, sizeof(site.address), "%s", server_address(r->server));
	p->place = (struct protection_place){.env = env_posix(), .state = r->temp.root, .state_dir = r->temp.dir, .run_dir = r->temp.dir};
	(void)snprintf(p->config.name, NAME_SIZE, "vm1");
	(void)snprintf(p->config.site, NAME_SIZE, "dr");
	p->config.uuid = r->open.protection;
	p->config.generation = r->open.generation;
	p->config.disk_count = 2;
	p->tls = r->tls;
	doubt_init(p);
	assert_int_equal(doubt_start(p), 0);
	doubt_set_site(p, &site);
	return p;
}

static void source_end(struct protection *p)
{
	doubt_stop(p);
	doubt_done(p);
	free(p);
}

static void d1_what_waits_goes_on_when_the_receiver_knows_or_cannot_be_told(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	struct protection *p = source_begin(r);
	char why[ERR_TEXT_MAX];
	doubt_raise(p, 1, false);
	assert_true(doubt_wait(p, 1));
	assert_int_equal(doubted_at(r), 2); // and by then it is durable there
	assert_true(doubt_told(p, 1) && !doubt_told(p, 0));
	doubt_why(p, why);
	assert_string_equal(why, "");

	struct site nowhere = {.name = "dr", .address = "127.0.0.1:1", .pin = *identity_pin(r->receiver_identity)}, back = p->doubt.site;
	doubt_set_site(p, &nowhere);
	uint64_t begin_ns = env_mono_ns(env_posix());
	doubt_raise(p, 0, false);
	assert_false(doubt_wait(p, 0)); // refused: known at once
	assert_true(env_mono_ns(env_posix()) - begin_ns < DOUBT_WAIT_MS * MS_NS);
	assert_int_equal(doubted_at(r), 2);
	doubt_why(p, why);
	assert_string_not_equal(why, "");
	doubt_set_site(p, &back);
	while (!doubt_told(p, 0)) // it is tried on
		(void)usleep(10000);
	assert_int_equal(doubted_at(r), 3);
	doubt_why(p, why);
	assert_string_equal(why, "");
	source_end(p);
}

// A protection that is paused opens no connection in which it would learn of it.
static void d1_site_that_was_paired_anew_is_told_at_once(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	struct protection *p = source_begin(r);
	struct site back = p->doubt.site, nowhere = back, known;
	(void)snprintf(nowhere.address, sizeof(nowhere.address), "127.0.0.1:1");
	protection_site_changed(p, &nowhere);
	assert_true(doubt_site(p, &known));
	assert_string_equal(known.address, nowhere.address); // it is what agent_keep() would write anew
	doubt_raise(p, 1, false);
	assert_false(doubt_wait(p, 1));
	{
		LOCK_SCOPE(&p->doubt.lock);
		p->doubt.backoff.not_before_ns = UINT64_MAX - 1;
	}
	protection_site_changed(p, &nowhere); // no news
	{
		LOCK_SCOPE(&p->doubt.lock);
		assert_true(p->doubt.backoff.not_before_ns == UINT64_MAX - 1);
	}
	protection_site_changed(p, &back);
	for (unsigned i = 0; i < 1000 && !doubt_told(p, 1); i++)
		(void)usleep(10000);
	assert_int_equal(doubted_at(r), 2);
	source_end(p);
}

static void d2_what_processes_before_lost_is_compared_once(void **state)
{
	struct protection *p = calloc(1, sizeof(*p));
	(void)state;
	struct wire_doubted none = {.disks = 0}, both = {.doubt = {{1}}, .disks = 3};
	doubt_init(p);
	p->doubt.whole = 1; // its state file was lost, too: all of it is dirty already
	assert_int_equal(doubt_certain(p).disks, 0); // nothing was heard yet
	assert_int_equal(doubt_hear(p, &both), 2);
	assert_int_equal(doubt_hear(p, &both), 0); // another connection: its own maps know all since
	assert_int_equal(doubt_stands(p), 3); // for a start after a crash, too
	assert_int_equal(doubt_certain(p).disks, 3);
	doubt_raise(p, 1, false); // now it is its own, and its successor's to compare
	struct wire_doubted certain = doubt_certain(p);
	assert_int_equal(certain.disks, 1);
	doubt_committed(p);
	assert_int_equal(doubt_stands(p), 2);
	assert_true(uuid_equal(&certain.doubt, &both.doubt));
	assert_int_equal(doubt_hear(p, &both), 0);
	doubt_done(p);
	memset(p, 0, sizeof(*p));
	doubt_init(p);
	assert_int_equal(doubt_hear(p, &none), 0);
	assert_int_equal(doubt_hear(p, &both), 0); // its own, told by a connection that was lost before the answer
	doubt_done(p);
	free(p);
}

// D4: all that this process lost before its first session is in its maps; of what others lost only the receiver knows, and says it as one with ours.
static void d4_what_the_file_says_is_told_after_the_first_session_heard_of_others(void **state)
{
	struct replication *r = *state;
	struct wire_doubted doubted;
	struct wire_doubt doubt = doubt_of(r, 1);
	replication_connect_now(r);
	replication_cycle_now(r);
	for (unsigned before = 0; before < 2; before++) {
		if (before)
			assert_int_equal(say_doubt(r, &doubt, &doubted), 0);
		struct protection *p = source_begin(r);
		doubt_raise(p, 0, true);
		(void)usleep(300 * 1000);
		assert_false(doubt_told(p, 0));
		assert_int_equal(doubted_at(r), before);
		replication_connect_now(r);
		assert_int_equal(doubt_hear(p, &r->doubted), before); // of the same disk: one before us lost it, too
		while (!doubt_told(p, 0))
			(void)usleep(10000);
		assert_int_equal(doubted_at(r), 1);
		replication_connect_now(r);
		assert_int_equal(doubt_hear(p, &r->doubted), 0);
		assert_int_equal(doubt_certain(p).disks, 0);
		source_end(p);
		r->certain = true; // and ends
		replication_cycle_now(r);
		r->certain = false;
		assert_int_equal(doubted_at(r), 0);
	}
}

// What the file could not say is told at once (D1), and all is compared: it may be that one before us lost it, too.
static void d4_what_no_file_says_is_told_before_the_first_session_and_compared(void **state)
{
	struct replication *r = *state;
	replication_connect_now(r);
	replication_cycle_now(r);
	struct protection *p = source_begin(r);
	doubt_raise(p, 0, false);
	assert_true(doubt_wait(p, 0));
	replication_connect_now(r);
	assert_int_equal(doubt_hear(p, &r->doubted), 1);
	source_end(p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	log_init("test_doubt", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		TEST(doubt_is_told_at_every_connection_until_a_point_ends_it),
		TEST(doubt_that_came_after_is_not_ended_by_what_was_certain_before),
		TEST(certain_ends_the_doubt_of_its_disks_and_of_its_cut_alone),
		TEST(doubt_of_others_or_of_what_is_not_there_is_refused),
		TEST(doubt_of_a_source_that_was_failed_over_counts_when_that_is_taken_back),
		TEST(source_of_an_older_version_is_refused_while_there_is_doubt),
		TEST(d1_what_waits_goes_on_when_the_receiver_knows_or_cannot_be_told),
		TEST(d1_site_that_was_paired_anew_is_told_at_once),
		TEST(d4_what_the_file_says_is_told_after_the_first_session_heard_of_others),
		TEST(d4_what_no_file_says_is_told_before_the_first_session_and_compared),
		cmocka_unit_test(d2_what_processes_before_lost_is_compared_once),
	};
	return cmocka_run_group_tests_name("doubt", tests, NULL, NULL);
}
