// SPDX-License-Identifier: Apache-2.0
// What of link/channel.h a session of the receiver never calls, for a program that stands in for the rest of it; here so that the real ones are not linked. A call ends
// the program, but channel_close(), which does nothing. To be included once.
#ifndef KAGAMI_TESTS_LIB_UNCALLED_CHANNEL_H
#define KAGAMI_TESTS_LIB_UNCALLED_CHANNEL_H

#include "link/channel.h"

#include <stdlib.h>

void channel_close(struct channel *c)
{
	(void)c;
}

int channel_connect(SSL_CTX *a, const char *b, const struct pin *c, struct channel **d, struct err *err)
{
	(void)a, (void)b, (void)c, (void)d, (void)err;
	abort();
}

int channel_accept(SSL_CTX *a, int b, struct channel **c, struct err *err)
{
	(void)a, (void)b, (void)c, (void)err;
	abort();
}

int channel_expect(struct channel *a, enum wire_type b, int c, struct wire_frame *d, struct wire_failure *e, struct err *err)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)err;
	abort();
}

void channel_abort(struct channel *c)
{
	(void)c;
	abort();
}

int channel_fd(const struct channel *c)
{
	(void)c;
	abort();
}

uint64_t channel_bytes_out(const struct channel *c)
{
	(void)c;
	abort();
}

uint64_t channel_bytes_in(const struct channel *c)
{
	(void)c;
	abort();
}

const struct wire_ack *channel_acked(const struct channel *c)
{
	(void)c;
	abort();
}

void channel_drain(struct channel *c)
{
	(void)c;
	abort();
}

struct channel_mark channel_mark(const struct channel *c)
{
	(void)c;
	abort();
}

void channel_settle(struct channel *c, const struct channel_mark *since)
{
	(void)c, (void)since;
	abort();
}

bool channel_ready(struct channel *c)
{
	(void)c;
	abort();
}

uint64_t channel_id(const struct channel *c)
{
	(void)c;
	abort();
}

#endif
