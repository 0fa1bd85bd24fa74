// SPDX-License-Identifier: Apache-2.0
// Who is connected to one of the addresses of web.h, so that nobody keeps others out by asking for nothing. Pure: time is an argument.
//
// A seat waits until a request is there whole, and again once that is answered; meanwhile it is busy.
//
// W1 A seat that has waited for WEB_WAIT_S goes when the next one comes.
// W2 Where there is no place (WEB_CLIENTS_MAX; of one address WEB_CLIENTS_OF_ONE) the one goes that has waited longest, of that address where it is that which has too
//    many. Only where all are busy it is the newcomer.
//
// So a whole request is answered however many connections say nothing, or half of something.
#ifndef KAGAMI_LINK_WEB_SEATS_H
#define KAGAMI_LINK_WEB_SEATS_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WEB_CLIENTS_MAX = 32, WEB_CLIENTS_OF_ONE = 16, WEB_WAIT_S = 5, WEB_SEATS = 4 * WEB_CLIENTS_MAX };

struct web_seat {
	bool taken, busy;
	bool going; // it was ended, and is not closed yet
	int fd;
	struct in6_addr address; // of IPv4 the mapped one
	uint64_t since_ns;	 // it waits
};

struct web_seats {
	pthread_mutex_t lock;
	void (*end)(int fd); // of a connection that goes: it is closed later, by who has it
	struct web_seat seat[WEB_SEATS];
};

void web_seats_init(struct web_seats *seats, void (*end)(int fd));
void web_seats_done(struct web_seats *seats);
// NULL: it has no seat, and was ended. The calls with a seat take NULL.
struct web_seat *web_seats_take(struct web_seats *seats, int fd, const struct in6_addr *address, uint64_t now_ns);
void web_seats_busy(struct web_seats *seats, struct web_seat *seat);
void web_seats_waits(struct web_seats *seats, struct web_seat *seat, uint64_t now_ns);
void web_seats_leave(struct web_seats *seats, struct web_seat *seat); // before `fd` is closed
size_t web_seats_count(struct web_seats *seats); // for tests: that were not ended

#endif
