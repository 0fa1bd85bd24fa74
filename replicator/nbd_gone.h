// SPDX-License-Identifier: Apache-2.0
// Whether the host at the other end of a TCP connection is gone, with something still on its way to it. Keepalive does not ask then, and the
// kernel itself sends again for some 15 minutes.
//
// TCP_USER_TIMEOUT would bound that, but it also ends a connection whose peer answers each question with "no room": a machine that is
// stopped with answers on their way, and goes on tomorrow. So what counts is what the kernel has seen:
//
//	NBD_GONE_ASKED times in a row what was sent again, or asked of a peer without room, has no answer, and no sign of life came for `after_ms`: gone
//	an answer, whatever it says: alive, for as long as it likes
//
// Once a peer has had no room for long, the kernel asks every 2 minutes alone: then it takes up to 6 to notice.
#ifndef KAGAMI_REPLICATOR_NBD_GONE_H
#define KAGAMI_REPLICATOR_NBD_GONE_H

#include <stdbool.h>

enum { NBD_GONE_ASKED = 3 };

// False of what is no TCP socket, too.
bool nbd_gone(int fd, int after_ms);

#endif
