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

enum { READ_LEN = 4 << 20, READ_ANSWER = 16 + READ_LEN };

static void ask_for_reads(const struct connected *c, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		unsigned char head[28] = {0};
		put_be32(head, 0x25609513);
		put_be32(head + 4, NBD_READ);
		put_be32(head + 24, READ_LEN);
		assert_int_equal(send(c->fd[1], head, sizeof(head), 0), sizeof(head));
	}
}

static void take_read(struct connected *c)
{
	static unsigned char room[READ_ANSWER];
	size_t have = 0;
	for (unsigned i = 0; have < READ_ANSWER && i < 10000; i++) {
		ssize_t got = recv(c->fd[1], room, READ_ANSWER - have, MSG_DONTWAIT);
		have += got > 0 ? (size_t)got : 0;
		turns(&c->ring, 1);
	}
	assert_int_equal(have, READ_ANSWER);
}

// Clients that take nothing hold what is theirs, and no more; whoever takes his answers goes on beside them, one by one.
static void connection_has_one_payload_under_way_whatever_others_hold(void **state)
{
	struct connected *c = *state;
	c->host.bytes = CLIENTS_BYTES_MAX; // of others
	ask_for_reads(c, 3);
	for (unsigned i = 0; i < 3; i++) {
		turns(&c->ring, 40);
		assert_int_equal(c->fake.count, 1);
		assert_int_equal(c->host.bytes, CLIENTS_BYTES_MAX + READ_LEN);
		fake_aio_drain(&c->fake, first);
		turns(&c->ring, 40);
		assert_int_equal(c->fake.count, 0); // its answer is not taken
		take_read(c);
	}
	turns(&c->ring, 40);
	assert_int_equal(c->host.bytes, CLIENTS_BYTES_MAX);
	c->host.bytes -= READ_LEN * 2; // somebody has taken some of his
	ask_for_reads(c, 3);
	turns(&c->ring, 40);
	assert_int_equal(c->fake.count, 2);
	for (unsigned i = 0; i < 3; i++) {
		fake_aio_drain(&c->fake, first);
		take_read(c);
		turns(&c->ring, 40);
	}
	turns(&c->ring, 40);
	assert_int_equal(c->host.bytes, CLIENTS_BYTES_MAX - READ_LEN * 2);
	assert_int_equal(c->fake.count, 0);
}

// A guest's small requests are as many at a time as ever.
static void small_payloads_are_under_way_together_whatever_others_hold(void **state)
{
	struct connected *c = *state;
	c->host.bytes = CLIENTS_BYTES_MAX;
	ask_for_all(c->fd[1]);
	turns(&c->ring, 100);
	assert_int_equal(c->fake.count, REQUESTS);
	while (c->fake.count)
		(void)fake_aio_step(&c->fake, first);
	turns(&c->ring, 100);
	unsigned char answers[16 * REQUESTS];
	assert_int_equal(recv(c->fd[1], answers, sizeof(answers), MSG_DONTWAIT), sizeof(answers));
	assert_int_equal(c->host.bytes, CLIENTS_BYTES_MAX);
}

enum { PART = 1 << 20, LARGE_LEN = 2 * PART + 8192 };
static unsigned char large[DISK_SIZE], received[LARGE_LEN + 1024];

// An image in memory, of which nothing is read but by the thread itself; the copying path, which has zeros, is the fake's.
static FILE *in_memory(struct connected *c)
{
	FILE *file = tmpfile();
	assert_non_null(file);
	for (size_t i = 0; i < sizeof(large); i++)
		large[i] = (unsigned char)(1 + i / 4096 % 251);
	c->image.fd = fileno(file);
	assert_int_equal(pwrite(c->image.fd, large, sizeof(large), 0), sizeof(large));
	return file;
}

static void ask_to_read(const struct connected *c, uint64_t off, uint32_t len, uint16_t flags)
{
	unsigned char message[28] = {0};
	put_be32(message, 0x25609513);
	put_be16(message + 4, flags);
	put_be64(message + 16, off);
	put_be32(message + 24, len);
	assert_int_equal(send(c->fd[1], message, sizeof(message), 0), sizeof(message));
}

// Until it stands in the outbox, and the pipe is not filled.
static void wait_for_image(struct connected *c)
{
	for (unsigned i = 0; i < 100 && !c->client->outbox.images; i++)
		turns(&c->ring, 1);
	assert_int_equal(c->client->outbox.images, 1);
	assert_int_equal(c->client->outbox.pipe.held, 0);
}

// Appends to what came so far, for as long as something comes.
static size_t take_answer(struct connected *c, size_t have, size_t most)
{
	for (unsigned idle = 0; have < most && idle < 40; idle++) {
		ssize_t got = recv(c->fd[1], received + have, most - have, MSG_DONTWAIT);
		if (got > 0) {
			have += (size_t)got;
			idle = 0;
		}
		turns(&c->ring, 1);
		while (c->fake.count)
			(void)fake_aio_step(&c->fake, first);
	}
	return have;
}

// Nothing was promised yet: so it is read as what is not in memory is, and the connection goes on.
static void what_cannot_be_taken_from_memory_is_read_and_answered(void **state)
{
	struct connected *c = *state;
	FILE *file = in_memory(c);
	for (int failing = 0; failing < 2; failing++) {
		c->image.send_detour = 0;
		c->image.unreadable = (struct unreadable){0};
		c->fake.fail[AIO_READ] = failing ? -EIO : 0;
		ask_to_read(c, 4096, PART / 2, 0);
		wait_for_image(c);
		assert_int_equal(ftruncate(c->image.fd, 0), 0);
		size_t got = take_answer(c, 0, 16 + PART / 2);
		assert_int_equal(got, failing ? 16 : 16 + PART / 2);
		assert_int_equal(get_be32(received + 4), failing ? 5 : 0);
		assert_int_equal(c->group.volume[0].stats.reads, 1 + failing);
		assert_true(unreadable_within(&c->image.unreadable, 4096, 4096));
		assert_int_equal(c->ended, 0);
		assert_int_equal(pwrite(c->image.fd, large, sizeof(large), 0), sizeof(large));
	}
	(void)fclose(file);
}

static size_t chunk_is(const unsigned char *at, bool last, uint64_t off, uint32_t len, bool zeros)
{
	static const unsigned char zero[LARGE_LEN];
	assert_int_equal(get_be32(at), 0x668e33ef);
	assert_int_equal(get_be16(at + 4), last);
	assert_int_equal(get_be16(at + 6), 1);
	assert_int_equal(get_be32(at + 16), 8 + len);
	assert_int_equal(get_be64(at + 20), off);
	assert_memory_equal(at + 28, zeros ? zero : large + off, len);
	return 28 + len;
}

// A pipe takes no more. What follows a part is in no promise.
static void what_is_more_than_a_pipe_takes_leaves_in_parts(void **state)
{
	struct connected *c = *state;
	FILE *file = in_memory(c);
	c->client->handshake.structured = true;
	if (outbox_takes(&c->client->outbox, 0) != PART)
		skip(); // this kernel grants no such pipe
	ask_to_read(c, 512, LARGE_LEN, 0);
	assert_int_equal(take_answer(c, 0, LARGE_LEN + 3 * 28), LARGE_LEN + 3 * 28);
	size_t at = chunk_is(received, false, 512, PART - 512, false);
	at += chunk_is(received + at, false, PART, PART, false);
	(void)chunk_is(received + at, true, 2 * PART, 8192 + 512, false);
	assert_int_equal(c->fake.tick, 0);

	ask_to_read(c, 0, LARGE_LEN, 0);
	wait_for_image(c);
	assert_int_equal(ftruncate(c->image.fd, PART), 0); // the first part is there, the second is not
	assert_int_equal(take_answer(c, 0, LARGE_LEN + 2 * 28), LARGE_LEN + 2 * 28);
	at = chunk_is(received, false, 0, PART, false);
	(void)chunk_is(received + at, true, PART, LARGE_LEN - PART, true);
	assert_int_equal(pwrite(c->image.fd, large, sizeof(large), 0), sizeof(large));

	c->image.send_detour = 0;
	c->image.unreadable = (struct unreadable){0};
	ask_to_read(c, 0, LARGE_LEN, NBD_FLAG_DF); // in one, or not at all
	assert_int_equal(take_answer(c, 0, LARGE_LEN + 28), LARGE_LEN + 28);
	(void)chunk_is(received, true, 0, LARGE_LEN, true);
	assert_int_equal(c->ended, 0);
	(void)fclose(file);
}

// What is read into a buffer comes from a disk of zeros here. Which way proves the better one is the machine's to say; a trial has both.
static void s1_both_ways_are_tried_of_large_reads(void **state)
{
	enum { TRIED = SEND_FIRST_REST + SEND_TRIAL_WINDOWS * (SEND_SETTLE_BYTES + SEND_WINDOW_BYTES + 3 * PART) };
	struct connected *c = *state;
	FILE *file = in_memory(c);
	uint64_t sent[SEND_WAYS] = {0};
	for (uint64_t done = 0; done < TRIED; done += PART) {
		ask_to_read(c, 0, PART, 0);
		assert_int_equal(take_answer(c, 0, 16 + PART), 16 + PART);
		assert_int_equal(get_be32(received + 4), 0);
		bool copied = memcmp(received + 16, large, PART) != 0;
		for (unsigned i = 0; copied && i < PART; i++)
			assert_int_equal(received[16 + i], 0);
		sent[copied ? SEND_COPIED : SEND_IN_PLACE] += PART;
		assert_true(!copied || done >= SEND_FIRST_REST);
	}
	assert_true(sent[SEND_IN_PLACE] >= SEND_FIRST_REST + SEND_TRIAL_WINDOWS / 2 * SEND_WINDOW_BYTES);
	assert_true(sent[SEND_COPIED] >= SEND_TRIAL_WINDOWS / 2 * SEND_WINDOW_BYTES);
	assert_int_equal(c->ended, 0);
	(void)fclose(file);
}

// What is in the pipe goes with the connection.
static void client_that_goes_in_the_middle_of_a_large_read_ends(void **state)
{
	struct connected *c = *state;
	FILE *file = in_memory(c);
	c->client->handshake.structured = true;
	ask_to_read(c, 0, LARGE_LEN, 0);
	ask_to_read(c, 0, LARGE_LEN, 0);
	turns(&c->ring, 40);
	assert_true(c->client->outbox.blocked);
	assert_int_equal(c->client->outbox.images, 2); // the rest is in connected_close()
	(void)fclose(file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_of_the_first_few_leave_before_the_rest_is_taken),
		cmocka_unit_test_setup_teardown(refused_write_is_answered_when_all_of_it_has_come, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(connection_that_ends_within_a_refused_write_ends, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(what_is_a_hole_is_asked_once_in_a_turn, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(what_cannot_be_taken_from_memory_is_read_and_answered, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(what_is_more_than_a_pipe_takes_leaves_in_parts, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(s1_both_ways_are_tried_of_large_reads, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(client_that_goes_in_the_middle_of_a_large_read_ends, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(small_payloads_are_under_way_together_whatever_others_hold, connected_open, connected_close),
		cmocka_unit_test_setup_teardown(connection_has_one_payload_under_way_whatever_others_hold, connected_open, connected_close),
	};
	return cmocka_run_group_tests_name("client_turn", tests, NULL, NULL);
}
