// SPDX-License-Identifier: Apache-2.0
// Events in the journal, with a field for each of their parts, by its native socket; else by syslog(3).
#ifndef KAGAMI_LINK_JOURNAL_H
#define KAGAMI_LINK_JOURNAL_H

#include "link/events.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"

// The datagram of the event: KEY=value lines. Returns its length, or 0 when it does not fit in `cap`.
size_t journal_format(const struct event *event, const char *identifier, char *to, size_t cap);
// Sends it to the journal at `socket_path`, or to syslog when there is none.
void journal_send(const char *socket_path, const char *identifier, const struct event *event);

#endif
