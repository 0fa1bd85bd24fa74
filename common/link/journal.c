// SPDX-License-Identifier: Apache-2.0
#include "link/journal.h"

#include "base/auto.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>

enum { DATAGRAM_MAX = 16 << 10 };

static int priority(enum event_severity severity)
{
	return severity == EVENT_CRITICAL ? LOG_CRIT : severity == EVENT_WARNING ? LOG_WARNING : LOG_INFO;
}

size_t journal_format(const struct event *event, const char *identifier, char *to, size_t cap)
{
	// No value has a line break: the text has no control characters, the JSON is on one line.
	int len = snprintf(to, cap,
			   "MESSAGE=%s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nKAGAMI_EVENT_ID=%llu\nKAGAMI_CLASS=%s\nKAGAMI_SEVERITY=%s\nKAGAMI_PROTECTION=%s\n"
			   "KAGAMI_JSON=%s\n",
			   event->text, priority(event->severity), identifier, (unsigned long long)event->id, event->class, event_severity_name(event->severity),
			   event->protection, event->json);
	return len > 0 && (size_t)len < cap ? (size_t)len : 0;
}

void journal_send(const char *socket_path, const char *identifier, const struct event *event)
{
	char datagram[DATAGRAM_MAX];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = journal_format(event, identifier, datagram, sizeof(datagram));
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (len && fd >= 0 && sendto(fd, datagram, len, MSG_NOSIGNAL, (const struct sockaddr *)&address, sizeof(address)) == (ssize_t)len)
		return;
	openlog(identifier, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	syslog(priority(event->severity), "%s (event=%llu class=%s protection=%s)", event->text, (unsigned long long)event->id, event->class, event->protection);
}
