// SPDX-License-Identifier: Apache-2.0
// A connection that asks for much at once, turn by turn.
#include "base/bytes.h"
#include "replicator/client_private.h"
#include "replicator/holder.h"
#include "tests/lib/fake_aio.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { DISK_SIZE = 4 << 20, REQUESTS = 3 * CLIENT_TURN_MAX + 1, REQUEST_SIZE = 28 + 512 };

static uint64_t first(uint64_t count)
{
	(void)count;
	return 0;
}

static void on_ended(struct client_host *host, struct client *client)
{
	(void)host;
	(void)client;
}

static void do_nothing(struct ring_task *task)
{
	(void)task;
}

static void turns(struct ring *ring, unsigned count)
{
	static struct ring_task nothing = {.run = do_nothing};
	for (unsigned i = 0; i < count; i++) { // none of them sleeps, and of eight one looks at the sockets
		ring_later(ring, &nothing);
		assert_int_equal(ring_turn(ring), 0);
	}
}

static void greet(struct ring *ring, int fd)
{
	static const unsigned char hello[4 + 16 + 3] = {0, 0, 0, 3, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 1, 0, 0, 0, 3, 'v', 'd', 'a'};
	unsigned char answer[256];
	turns(ring, 20);
	assert_int_equal(recv(fd, answer, sizeof(answer), MSG_DONTWAIT), NBD_GREETING_SIZE);
	assert_int_equal(send(fd, hello, sizeof(hello), 0), sizeof(hello));
	turns(ring, 20);
	assert_int_equal(recv(fd, answer, sizeof(answer), MSG_DONTWAIT), 10); // size and flags
}

static void ask_for_all(int fd)
{
	static unsigned char message[REQUESTS * REQUEST_SIZE];
	for (unsigned i = 0; i < REQUESTS; i++) {
		unsigned char *head = message + i * REQUEST_SIZE;
		put_be32(head, 0x25609513);
		put_be32(head + 4, NBD_WRITE);
		put_be64(head + 8, i);
		put_be64(head + 16, i * 512);
		put_be32(head + 24, 512);
	}
	assert_int_equal(send(fd, message, sizeof(message), 0), sizeof(message));
}

// While the next few are done, the client has the answers of those before and asks anew.
static void answers_of_the_first_few_leave_before_the_rest_is_taken(void **state)
{
	const struct nbd_export export = {.name = "vda", .size = DISK_SIZE};
	const uint64_t size = DISK_SIZE;
	struct ring ring;
	struct pool pool;
	struct group group;
	struct fake_aio fake;
	struct err err;
	_Atomic unsigned attached = 0;
	struct image image = {.fd = -1};
	struct client_host host = {.ring = &ring, .pool = &pool, .group = &group, .image = &image, .exports = &export, .count = 1, .attached = &attached, .ended = on_ended};
	int fd[2];
	(void)state;
	fake_aio_init(&fake, size);
	assert_int_equal(group_init(&group, 1, &size, (struct aio_backend *[]){&fake.backend}, 0), 0);
	pool_init(&pool);
	assert_int_equal(ring_open(&ring, &err), 0);
	assert_int_equal(ring_init(&ring, &err), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	struct client *client = client_new(&host, fd[0]);
	assert_non_null(client);
	greet(&ring, fd[1]);

	unsigned char answer[16 * REQUESTS];
	unsigned taken = 0, answered = 0;
	ask_for_all(fd[1]);
	while (answered < REQUESTS) {
		unsigned before = fake.count;
		turns(&ring, 1);
		assert_true(fake.count <= before + CLIENT_TURN_MAX);
		taken += fake.count - before;
		while (fake.count) // done at once, as what is in memory is
			(void)fake_aio_step(&fake, first);
		ssize_t got = recv(fd[1], answer, sizeof(answer), MSG_DONTWAIT);
		answered += got > 0 ? (unsigned)got / 16 : 0;
		assert_true(taken <= answered + 2 * CLIENT_TURN_MAX); // those that are being done, and those being answered
	}
	assert_int_equal(taken, REQUESTS);
	client_kill(client);
	turns(&ring, 20);
	(void)close(fd[1]);
	ring_refuse(&ring);
	ring_done(&ring);
	ring_close(&ring);
	pool_done(&pool);
	group_done(&group);
	fake_aio_done(&fake);
}

struct connected { // to a disk that is not there
	struct ring ring;
	struct pool pool;
	struct group group;
	struct fake_aio fake;
	struct image image;
	_Atomic unsigned attached;
	struct nbd_export export;
	struct client_host host;
	int fd[2];
	struct client *client;
	unsigned ended;
};

static void on_counted_end(struct client_host *host, struct client *client)
{
	struct connected *c = HOLDER(host, struct connected, host);
	(void)client;
	c->ended++;
}

static int connected_open(void **state)
{
	struct connected *c = calloc(1, sizeof(*c));
	const uint64_t size = DISK_SIZE;
	struct err err;
	fake_aio_init(&c->fake, size);
	assert_int_equal(group_init(&c->group, 1, &size, (struct aio_backend *[]){&c->fake.backend}, 0), 0);
	pool_init(&c->pool);
	assert_int_equal(ring_open(&c->ring, &err), 0);
	assert_int_equal(ring_init(&c->ring, &err), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, c->fd), 0);
	c->image.fd = -1;
	c->export = (struct nbd_export){.name = "vda", .size = DISK_SIZE};
	c->host = (struct client_host){.ring = &c->ring, .pool = &c->pool, .group = &c->group, .image = &c->image, .exports = &c->export, .count = 1, .attached = &c->attached, .ended = on_counted_end};
	c->client = client_new(&c->host, c->fd[0]);
	assert_non_null(c->client);
	greet(&c->ring, c->fd[1]);
	*state = c;
	return 0;
}

static int connected_close(void **state)
{
	struct connected *c = *state;
	(void)close(c->fd[1]);
	turns(&c->ring, 20);
	assert_int_equal(c->ended, 1);
	ring_refuse(&c->ring);
	ring_done(&c->ring);
	ring_close(&c->ring);
	pool_done(&c->pool);
	group_done(&c->group);
	fake_aio_done(&c->fake);
	free(c);
	return 0;
}

enum { REFUSED_LEN = 100000 };

static void send_refused(const struct connected *c, size_t payload) // a write past the end, and so much of what it writes
{
	static unsigned char message[28 + REFUSED_LEN];
	put_be32(message, 0x25609513);
	put_be32(message + 4, NBD_WRITE);
	put_be64(message + 8, 7);
	put_be64(message + 16, DISK_SIZE - 512);
	put_be32(message + 24, REFUSED_LEN);
	assert_int_equal(send(c->fd[1], message, 28 + payload, 0), 28 + payload);
}

// A client that is still sending looks for no reply to what it sends: libnbd takes one for a fault of the server, and ends the connection.
static void refused_write_is_answered_when_all_of_it_has_come(void **state)
{
	struct connected *c = *state;
	static const unsigned char rest[REFUSED_LEN];
	unsigned char answer[64];
	send_refused(c, 10000);
	turns(&c->ring, 20);
	assert_int_equal(recv(c->fd[1], answer, sizeof(answer), MSG_DONTWAIT), -1);
	assert_int_equal(send(c->fd[1], rest, REFUSED_LEN - 10000, 0), REFUSED_LEN - 10000);
	turns(&c->ring, 40);
	assert_int_equal(recv(c->fd[1], answer, sizeof(answer), MSG_DONTWAIT), 16);
	assert_int_equal(get_be32(answer + 4), 28); // ENOSPC, in the protocol's numbers
	ask_for_all(c->fd[1]); // the connection lives
	for (unsigned i = 0; i < 40; i++) {
		turns(&c->ring, 1);
		while (c->fake.count)
			(void)fake_aio_step(&c->fake, first);
	}
	unsigned char answers[16 * REQUESTS];
	assert_int_equal(recv(c->fd[1], answers, sizeof(answers), MSG_DONTWAIT), sizeof(answers));
}

static void connection_that_ends_within_a_refused_write_ends(void **state)
{
	struct connected *c = *state;
	send_refused(c, 10000);
	turns(&c->ring, 20);
	assert_int_equal(c->ended, 0); // the rest is in connected_close()
}

// Each asks the file system many times, on the thread of all disks.
static void what_is_a_hole_is_asked_once_in_a_turn(void **state)
{
	enum { ASKED = 8, ANSWER_SIZE = 20 + 4 + 8 };
	struct connected *c = *state;
	unsigned char message[ASKED * 28] = {0}, answer[ASKED * ANSWER_SIZE];
	c->client->handshake.structured = c->client->handshake.context = true;
	for (unsigned i = 0; i < ASKED; i++) {
		put_be32(message + i * 28, 0x25609513);
		put_be32(message + i * 28 + 4, NBD_BLOCK_STATUS);
		put_be32(message + i * 28 + 24, 4096);
	}
	assert_int_equal(send(c->fd[1], message, sizeof(message), 0), sizeof(message));
	size_t answered = 0;
	for (unsigned i = 0; answered < sizeof(answer) && i < 100; i++) {
		turns(&c->ring, 1);
		ssize_t got = recv(c->fd[1], answer, sizeof(answer), MSG_DONTWAIT);
		assert_true(got <= ANSWER_SIZE);
		answered += got > 0 ? (size_t)got : 0;
	}
	assert_int_equal(answered, sizeof(answer));
}

static uint64_t unread_at;
static enum disk_fault unread_fault;
static void on_error(struct group *group, struct volume *volume, enum disk_fault fault, uint64_t off, int res)
{
	(void)group;
	(void)volume;
	assert_int_equal(res, -EIO);
	unread_fault = fault;
	unread_at = off;
}

// Its head has gone; what is left is to say which disk it was.
static void what_cannot_be_sent_is_told_as_an_error_of_the_disk(void **state)
{
	struct connected *c = *state;
	FILE *file = tmpfile(); // it holds nothing
	assert_non_null(file);
	c->image.fd = fileno(file);
	c->group.on_error = on_error;
	unread_at = 0;
	unread_fault = FAULT_KINDS;
	struct client_request *request = client_request_new(c->client, 0);
	request->reply.head_len = 16;
	request->reply.image = &c->image;
	request->reply.off = 8192;
	request->reply.len = 4096;
	outbox_push(&c->client->outbox, &request->reply);
	turns(&c->ring, 20);
	assert_int_equal(unread_at, 8192);
	assert_int_equal(unread_fault, FAULT_READ);
	assert_true(c->image.unreadable);
	(void)fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_of_the_first_few_leave_before_the_rest_is_taken),
		cmocka_unit_test_setup_teardown(refused_write_is_answered_when_all_of_it_has_come, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(connection_that_ends_within_a_refused_write_ends, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(what_is_a_hole_is_asked_once_in_a_turn, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(what_cannot_be_sent_is_told_as_an_error_of_the_disk, connected_open, connected_close),
	};
	return cmocka_run_group_tests_name("client_turn", tests, NULL, NULL);
}
