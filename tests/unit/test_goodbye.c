// SPDX-License-Identifier: Apache-2.0
// Goodbye, from the source whose protection was ended on purpose to the session that takes it back: what the receiver keeps, and what the source is told, over a
// real connection and a real store.
#include "base/auto.h"
#include "base/size.h"
#include "link/net.h"
#include "receiver/protection_file.h"
#include "replicator/goodbye.h"
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
#include <sys/socket.h>
#include <netinet/in.h>
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

static struct wire_goodbye goodbye_of(const struct replication *r)
{
	struct wire_goodbye goodbye = {.protection = r->open.protection, .generation = r->open.generation};
	memcpy(goodbye.name, r->open.name, NAME_SIZE);
	return goodbye;
}

// As the source says it. What it failed with has the reason in r->err.
static int say(struct replication *r, const struct wire_goodbye *what)
{
	struct goodbyes goodbyes;
	struct site site = {.name = "dr", .pin = *identity_pin(r->receiver_identity)};
	(void)snprintf(site.address, sizeof(site.address), "%s", server_address(r->server));
	goodbyes_init(&goodbyes);
	int rc = goodbyes_say(&goodbyes, env_posix(), r->source_identity, &site, what, &r->err);
	goodbyes_done(&goodbyes);
	return rc;
}

static struct replica_info info_of(struct replication *r)
{
	struct replica_info info;
	replica_info(store_find(r->store, "vm1"), &info);
	return info;
}

// As a receiver that starts reads it.
static int64_t on_disk(struct replication *r)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	struct protection read;
	assert_int_equal(env_read_file(r->store_root, "vm1/protection.json", 1 << 16, &text, &len), 0);
	assert_int_equal(protection_decode(text, len, &read, &r->err), 0);
	return read.unprotected_wall_ns;
}

static void goodbye_is_kept_until_a_session_begins(void **state)
{
	struct replication *r = *state;
	struct wire_goodbye goodbye = goodbye_of(r);
	assert_int_equal(say(r, &goodbye), 0); // of what it has no replica of there is nothing to know
	assert_null(store_find(r->store, "vm1"));
	replication_connect_now(r);
	replication_cycle_now(r);
	assert_int_equal(on_disk(r), 0);
	replication_disconnect(r);
	assert_int_equal(say(r, &goodbye), 0);
	int64_t when = info_of(r).unprotected_wall_ns;
	assert_true(when > 0 && when <= env_wall_ns(env_posix()));
	assert_int_equal(on_disk(r), when);
	assert_int_equal(say(r, &goodbye), 0);
	assert_int_equal(info_of(r).unprotected_wall_ns, when); // since the first
	assert_int_equal(info_of(r).point_count, 1);
	replication_connect_now(r);
	assert_int_equal(info_of(r).unprotected_wall_ns, 0);
	assert_int_equal(on_disk(r), 0);
	replication_cycle_now(r);
	assert_int_equal(replication_check(r), 2);
}

static void goodbye_leaves_a_failover_as_it_is(void **state)
{
	struct replication *r = *state;
	struct wire_goodbye goodbye = goodbye_of(r);
	replication_connect_now(r);
	replication_cycle_now(r);
	replication_disconnect(r);
	struct replica *replica = store_find(r->store, "vm1");
	assert_int_equal(replica_fence(replica, 1, &r->err), 0);
	struct replica_info before = info_of(r);
	assert_int_equal(say(r, &goodbye), 0); // while it may be taken back
	struct replica_info after = info_of(r);
	int64_t when = after.unprotected_wall_ns;
	assert_true(after.fenced && after.fenced_point == 1 && !after.fence_final && uuid_equal(&after.generation, &before.generation) && when > 0);
	assert_int_equal(replica_unfence(replica, 1, &r->err), 0);
	assert_int_equal(info_of(r).unprotected_wall_ns, when);
	assert_int_equal(replica_fence(replica, 1, &r->err), 0); // and after it
	assert_int_equal(info_of(r).unprotected_wall_ns, when);
	assert_int_equal(replica_fence_commit(replica, 1, &r->err), 0);
	before = info_of(r);
	assert_int_equal(say(r, &goodbye), 0); // nobody waits for it there
	after = info_of(r);
	assert_true(after.fenced && after.fence_final && uuid_equal(&after.generation, &before.generation));
}

static void goodbye_of_others_is_refused(void **state)
{
	struct replication *r = *state;
	bool news;
	replication_connect_now(r);
	replication_cycle_now(r);
	replication_disconnect(r);
	struct wire_goodbye goodbye = goodbye_of(r);
	goodbye.protection.bytes[0] ^= 1; // protected anew under that name, and unprotected again
	assert_int_equal(say(r, &goodbye), -EREMOTEIO);
	assert_non_null(strstr(r->err.text, "vm1"));
	unsigned char stranger[OWNER_PIN_SIZE] = {1};
	goodbye = goodbye_of(r);
	assert_int_equal(replica_goodbye(store_find(r->store, "vm1"), &goodbye, stranger, &news, &r->err), -EPERM);
	assert_int_equal(on_disk(r), 0);
}

// ---- receivers that do not hear it

struct other {
	struct replication *r;
	int listener;
	struct site site;
};

static void other_begin(struct other *other, struct replication *r)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	other->r = r;
	other->site = (struct site){.name = "dr", .pin = *identity_pin(r->receiver_identity)};
	other->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(other->listener >= 0);
	assert_int_equal(bind(other->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(other->listener, 4), 0);
	assert_int_equal(getsockname(other->listener, (struct sockaddr *)&at, &len), 0);
	(void)snprintf(other->site.address, sizeof(other->site.address), "127.0.0.1:%u", ntohs(at.sin_port));
}

// One of before there was such a message.
static void *old_receiver(void *context)
{
	struct other *other = context;
	struct channel *channel = NULL;
	struct wire_frame frame;
	struct wire_failure failure;
	struct err err = {0};
	struct wire_hello own = {.major = WIRE_MAJOR, .features = WIRE_FEATURE_ACK | WIRE_FEATURE_DOUBT, .program = "old"};
	SSL_CTX *tls = identity_context(other->r->receiver_identity, true, &err);
	int fd = accept(other->listener, NULL, NULL);
	assert_non_null(tls);
	assert_int_equal(channel_accept(tls, fd, &channel, &err), 0);
	assert_int_equal(channel_expect(channel, WIRE_HELLO, 10000, &frame, &failure, &err), 0);
	assert_int_equal(channel_put(channel, wire_put_hello(channel_room(channel, WIRE_FRAME_MAX), WIRE_FRAME_MAX, &own)), 0);
	assert_int_equal(channel_flush(channel, &err), 0);
	assert_int_equal(channel_get(channel, 10000, &frame, &err), -ECONNRESET); // it is told nothing that it does not know
	channel_close(channel);
	SSL_CTX_free(tls);
	return NULL;
}

static void older_receiver_is_not_told_and_the_source_says_so(void **state)
{
	struct replication *r = *state;
	struct other other;
	struct goodbyes goodbyes;
	struct wire_goodbye what = goodbye_of(r);
	pthread_t thread;
	other_begin(&other, r);
	assert_int_equal(pthread_create(&thread, NULL, old_receiver, &other), 0);
	goodbyes_init(&goodbyes);
	assert_int_equal(goodbyes_say(&goodbyes, env_posix(), r->source_identity, &other.site, &what, &r->err), -EPROTONOSUPPORT);
	assert_non_null(strstr(r->err.text, "upgrade"));
	goodbyes_done(&goodbyes);
	assert_int_equal(pthread_join(thread, NULL), 0);
	(void)close(other.listener);
}

// It takes the connection, and says nothing.
static void receiver_that_hangs_is_waited_for_no_longer_than_that(void **state)
{
	struct replication *r = *state;
	struct other other;
	struct goodbyes goodbyes;
	struct wire_goodbye what = goodbye_of(r);
	other_begin(&other, r);
	goodbyes_init(&goodbyes);
	assert_int_equal(goodbyes_say(&goodbyes, env_posix(), r->source_identity, &other.site, &what, &r->err), -ETIMEDOUT);
	assert_non_null(strstr(r->err.text, other.site.address));
	(void)close(other.listener); // and so the try ends, too
	assert_true(goodbyes_say(&goodbyes, env_posix(), r->source_identity, &other.site, &what, &r->err) < 0);
	assert_non_null(strstr(r->err.text, "connect"));
	goodbyes_done(&goodbyes);
}

static void record_of_a_goodbye_is_checked(void **state)
{
	struct replication *r = *state;
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	struct protection prot, read;
	replication_connect_now(r);
	assert_int_equal(env_read_file(r->store_root, "vm1/protection.json", 1 << 16, &text, &len), 0);
	assert_int_equal(protection_decode(text, len, &prot, &r->err), 0);
	static const int64_t times[] = {1, INT64_MAX, -1, INT64_MIN};
	for (unsigned i = 0; i < COUNT(times); i++) {
		AUTO_FREE char *made = NULL;
		prot.unprotected_wall_ns = times[i];
		assert_int_equal(protection_encode(&prot, &made, &len), 0);
		assert_int_equal(protection_decode(made, len, &read, &r->err), times[i] > 0 ? 0 : -EBADMSG);
		if (times[i] > 0)
			assert_true(read.unprotected_wall_ns == times[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		TEST(goodbye_is_kept_until_a_session_begins),
		TEST(goodbye_leaves_a_failover_as_it_is),
		TEST(goodbye_of_others_is_refused),
		TEST(older_receiver_is_not_told_and_the_source_says_so),
		TEST(receiver_that_hangs_is_waited_for_no_longer_than_that),
		TEST(record_of_a_goodbye_is_checked),
	};
	return cmocka_run_group_tests_name("goodbye", tests, NULL, NULL);
}
