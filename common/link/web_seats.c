// SPDX-License-Identifier: Apache-2.0
#include "link/web_seats.h"

#include "base/auto.h"

#include <string.h>

void web_seats_init(struct web_seats *seats, void (*end)(int fd))
{
	memset(seats, 0, sizeof(*seats));
	seats->end = end;
	(void)pthread_mutex_init(&seats->lock, NULL);
}

void web_seats_done(struct web_seats *seats)
{
	(void)pthread_mutex_destroy(&seats->lock);
}

static bool same(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static void let_go(struct web_seats *seats, struct web_seat *seat)
{
	seat->going = true;
	seats->end(seat->fd);
}

// W1.
static void end_the_slow(struct web_seats *seats, uint64_t now_ns)
{
	for (size_t i = 0; i < WEB_SEATS; i++) {
		struct web_seat *s = &seats->seat[i];
		if (s->taken && !s->going && !s->busy && now_ns - s->since_ns >= WEB_WAIT_S * UINT64_C(1000000000))
			let_go(seats, s);
	}
}

// How many there are, of `address` unless that is NULL; *ret_oldest: the one that has waited longest.
static size_t look(struct web_seats *seats, const struct in6_addr *address, struct web_seat **ret_oldest)
{
	size_t count = 0;
	*ret_oldest = NULL;
	for (size_t i = 0; i < WEB_SEATS; i++) {
		struct web_seat *s = &seats->seat[i];
		if (!s->taken || s->going || (address && !same(&s->address, address)))
			continue;
		count++;
		if (!s->busy && (!*ret_oldest || s->since_ns < (*ret_oldest)->since_ns))
			*ret_oldest = s;
	}
	return count;
}

// W2. False: all are busy.
static bool make_room(struct web_seats *seats, const struct in6_addr *address, size_t most)
{
	struct web_seat *oldest;
	if (look(seats, address, &oldest) < most)
		return true;
	if (oldest)
		let_go(seats, oldest);
	return oldest != NULL;
}

struct web_seat *web_seats_take(struct web_seats *seats, int fd, const struct in6_addr *address, uint64_t now_ns)
{
	LOCK_SCOPE(&seats->lock);
	struct web_seat *seat = NULL;
	end_the_slow(seats, now_ns);
	for (size_t i = 0; i < WEB_SEATS && !seat; i++)
		if (!seats->seat[i].taken)
			seat = &seats->seat[i];
	if (!seat || !make_room(seats, address, WEB_CLIENTS_OF_ONE) || !make_room(seats, NULL, WEB_CLIENTS_MAX)) {
		seats->end(fd);
		return NULL;
	}
	*seat = (struct web_seat){.taken = true, .fd = fd, .address = *address, .since_ns = now_ns};
	return seat;
}

void web_seats_busy(struct web_seats *seats, struct web_seat *seat)
{
	LOCK_SCOPE(&seats->lock);
	if (seat)
		seat->busy = true;
}

void web_seats_waits(struct web_seats *seats, struct web_seat *seat, uint64_t now_ns)
{
	LOCK_SCOPE(&seats->lock);
	if (!seat)
		return;
	seat->busy = false;
	seat->since_ns = now_ns;
}

void web_seats_leave(struct web_seats *seats, struct web_seat *seat)
{
	LOCK_SCOPE(&seats->lock);
	if (seat)
		seat->taken = false;
}

size_t web_seats_count(struct web_seats *seats)
{
	LOCK_SCOPE(&seats->lock);
	struct web_seat *oldest;
	return look(seats, NULL, &oldest);
}
