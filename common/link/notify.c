// SPDX-License-Identifier: Apache-2.0
#include "link/notify.h"

#include "base/auto.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

enum { SEND_S = 5, MESSAGE_SIZE = 512 }; // so long a manager whose queue is full is waited for

static struct sockaddr_un manager;
static socklen_t manager_len; // 0: there is none

void notify_open(void)
{
	const char *name = getenv("NOTIFY_SOCKET");
	size_t len = name ? strlen(name) : 0;
	manager_len = 0;
	if (len < 2 || len >= sizeof(manager.sun_path) || (name[0] != '/' && name[0] != '@')) // others, as vsock:, are for virtual machines
		len = 0;
	if (len) {
		manager = (struct sockaddr_un){.sun_family = AF_UNIX};
		memcpy(manager.sun_path, name, len);
		if (name[0] == '@')
			manager.sun_path[0] = 0;
		manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (name[0] == '/'));
	}
	(void)unsetenv("NOTIFY_SOCKET");
}

static void tell(const char *message, int flags)
{
	const struct timeval most = {.tv_sec = SEND_S};
	if (!manager_len)
		return;
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof(most));
	(void)sendto(fd, message, strlen(message), MSG_NOSIGNAL | flags, (const struct sockaddr *)&manager, manager_len);
}

void notify_ready(void)
{
	tell("READY=1\nSTATUS=", 0);
}

void notify_stopping(void)
{
	tell("STOPPING=1", 0);
}

void notify_stop_goes_on(unsigned seconds, const char *what)
{
	char message[MESSAGE_SIZE];
	(void)snprintf(message, sizeof(message), "EXTEND_TIMEOUT_USEC=%llu\nSTATUS=%.400s", seconds * 1000000ULL, what);
	tell(message, MSG_DONTWAIT);
}
