// SPDX-License-Identifier: Apache-2.0
// A connection that asks for much at once, turn by turn.
#include "base/bytes.h"
#include "replicator/client_private.h"
#include "tests/lib/fake_aio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_of_the_first_few_leave_before_the_rest_is_taken),
	};
	return cmocka_run_group_tests_name("client_turn", tests, NULL, NULL);
}
