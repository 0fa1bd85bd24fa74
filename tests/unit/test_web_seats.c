// SPDX-License-Identifier: Apache-2.0
// Whoever asks for nothing keeps nobody out of the page and the metrics: by the rules (W1, W2), and over sockets.
#include "base/size.h"
#include "link/net.h"
#include "link/web.h"
#include "link/web_seats.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)

static struct web_seats seats;
static int ended[256];
static unsigned endings;

static void note_end(int fd)
{
	ended[endings++] = fd;
}

static int setup(void **state)
{
	(void)state;
	endings = 0;
	web_seats_init(&seats, note_end);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	web_seats_done(&seats);
	return 0;
}

static struct web_seat *come(int fd, unsigned char host, uint64_t now_ns)
{
	struct in6_addr address = {.s6_addr = {[15] = host}};
	return web_seats_take(&seats, fd, &address, now_ns);
}

static void who_waits_for_too_long_goes_when_the_next_comes(void **state)
{
	(void)state;
	struct web_seat *first = come(1, 1, SECOND), *second = come(2, 1, 2 * SECOND);
	web_seats_busy(&seats, second);
	assert_non_null(come(3, 2, SECOND + WEB_WAIT_S * SECOND - 1));
	assert_int_equal(endings, 0);
	assert_non_null(come(4, 2, SECOND + WEB_WAIT_S * SECOND));
	assert_int_equal(endings, 1);
	assert_int_equal(ended[0], 1);
	assert_int_equal(web_seats_count(&seats), 3);
	assert_non_null(come(5, 2, 60 * SECOND)); // who is busy is not waiting; who was ended is not ended again
	assert_int_equal(endings, 3);
	web_seats_leave(&seats, first);
	web_seats_waits(&seats, second, 61 * SECOND);
	assert_non_null(come(6, 2, 61 * SECOND + WEB_WAIT_S * SECOND));
	assert_int_equal(ended[3] + ended[4], 2 + 5);
}

static void one_address_has_its_share_and_the_newest_of_it_is_served(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_non_null(come(i, 1, SECOND + (uint64_t)i));
	assert_int_equal(web_seats_count(&seats), WEB_CLIENTS_OF_ONE);
	assert_int_equal(endings, 100 - WEB_CLIENTS_OF_ONE);
	for (int i = 0; i < (int)endings; i++)
		assert_int_equal(ended[i], i); // the oldest first
	assert_non_null(come(200, 2, 2 * SECOND));
	assert_int_equal(web_seats_count(&seats), WEB_CLIENTS_OF_ONE + 1);
}

static void many_addresses_have_all_of_them_and_the_newest_is_served(void **state)
{
	(void)state;
	for (int i = 0; i < 100; i++)
		assert_non_null(come(i, (unsigned char)i, SECOND + (uint64_t)i));
	assert_int_equal(web_seats_count(&seats), WEB_CLIENTS_MAX);
	assert_int_equal(endings, 100 - WEB_CLIENTS_MAX);
}

static void who_is_busy_is_not_ended_for_a_newcomer(void **state)
{
	(void)state;
	struct web_seat *seat[WEB_CLIENTS_OF_ONE];
	for (int i = 0; i < WEB_CLIENTS_OF_ONE; i++)
		web_seats_busy(&seats, seat[i] = come(i, 1, SECOND));
	assert_null(come(100, 1, 100 * SECOND));
	assert_int_equal(endings, 1);
	assert_int_equal(ended[0], 100);
	web_seats_waits(&seats, seat[3], 100 * SECOND);
	assert_non_null(come(101, 1, 100 * SECOND));
	assert_int_equal(ended[1], 3);
	web_seats_busy(&seats, NULL);
	web_seats_leave(&seats, NULL);
}

// Those that were ended and are not closed yet have seats; a flood cannot make more of them than there are.
static void flood_is_bounded(void **state)
{
	(void)state;
	for (int i = 0; i < WEB_SEATS; i++)
		assert_non_null(come(i, 1, SECOND + (uint64_t)i));
	assert_null(come(1000, 1, 2 * SECOND));
	assert_int_equal(ended[endings - 1], 1000);
}

// ---- over sockets

static unsigned measure(void *context, const struct control_request *request, json_t **ret_body)
{
	(void)context, (void)ret_body;
	((struct control_request *)request)->text = strdup("up 1\n");
	((struct control_request *)request)->text_type = "text/plain";
	return 200;
}

static void must_answer(const struct web *web)
{
	static const char whole[] = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	struct err err = {0};
	char answer[1024] = "";
	size_t have = 0;
	int fd = net_connect(web_address(web), 5000, &err);
	assert_true(fd >= 0);
	assert_int_equal(send(fd, whole, strlen(whole), MSG_NOSIGNAL), strlen(whole));
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	for (ssize_t n = 1; n > 0 && have < sizeof(answer) - 1 && poll(&readable, 1, 30000) == 1; have += n > 0 ? (size_t)n : 0)
		n = recv(fd, answer + have, sizeof(answer) - 1 - have, 0);
	assert_non_null(strstr(answer, " 200 "));
	assert_non_null(strstr(answer, "up 1"));
	(void)close(fd);
}

// So many of each kind that each seat could be taken by it.
static void whole_request_is_answered_beside_any_number_of_halves(void **state)
{
	(void)state;
	static const struct control_route routes[] = {{"GET", "/metrics", measure}};
	static const char *const halves[] = {"", "G", "GET /metrics HTTP/1.1\r\nHost: local", "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx"};
	const struct web_config config = {.web = "127.0.0.1:0"};
	int half[3 * WEB_CLIENTS_MAX];
	struct web *web = NULL;
	struct err err = {0};
	if (web_start(&config, routes, COUNT(routes), NULL, &web, &err))
		fail_msg("%s", err.text);
	for (size_t kind = 0; kind < COUNT(halves); kind++) {
		for (size_t i = 0; i < COUNT(half); i++) {
			half[i] = net_connect(web_address(web), 5000, &err);
			assert_true(half[i] >= 0);
			(void)!send(half[i], halves[kind], strlen(halves[kind]), MSG_NOSIGNAL);
		}
		must_answer(web);
		for (size_t i = 0; i < COUNT(half); i++)
			(void)close(half[i]);
	}
	web_stop(web);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(who_waits_for_too_long_goes_when_the_next_comes),
		TEST(one_address_has_its_share_and_the_newest_of_it_is_served),
		TEST(many_addresses_have_all_of_them_and_the_newest_is_served),
		TEST(who_is_busy_is_not_ended_for_a_newcomer),
		TEST(flood_is_bounded),
		cmocka_unit_test(whole_request_is_answered_beside_any_number_of_halves),
	};
	return cmocka_run_group_tests_name("web_seats", tests, NULL, NULL);
}
