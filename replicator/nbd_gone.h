// SPDX-License-Identifier: Apache-2.0
// Whether the host at the other end of a TCP connection is gone, with something still on its way to it. Keepalive does not ask then, and the
// kernel itself sends again for some 15 minutes.
//
// TCP_USER_TIMEOUT would bound that, but it also ends a connection whose peer answers each question with "no room": a machine that is
// stopped with answers on their way, and goes on tomorrow. So what counts is what the kernel has seen:
//
//	NBD_GONE_ASKED times in a row what was sent is not acknowledged, or a question for room not answered, and so it stays for `after_ms`: gone
//	a question for room is answered, whatever the answer is: alive, for as long as it likes
//
// What else comes from the peer is no sign: where only one way is cut, it sends the same again and again.
// Once a peer has had no room for long, the kernel asks every 2 minutes alone: then it takes up to 7 to notice.
#ifndef KAGAMI_REPLICATOR_NBD_GONE_H
#define KAGAMI_REPLICATOR_NBD_GONE_H

#include <stdbool.h>
#include <stdint.h>

enum { NBD_GONE_ASKED = 3 };

struct nbd_gone { // of a connection; all zeros: it was not looked at yet
	uint64_t acked; // bytes, when it was alive last
	int64_t since_ms;
};

// A look at it, which is to be taken several times within `after_ms`. False of what is no TCP socket, too.
bool nbd_gone(struct nbd_gone *gone, int fd, int64_t now_ms, int after_ms);

#endif
