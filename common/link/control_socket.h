// SPDX-License-Identifier: Apache-2.0
// The listening unix socket of a control server: private to control.c.
#ifndef KAGAMI_LINK_CONTROL_SOCKET_H
#define KAGAMI_LINK_CONTROL_SOCKET_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/un.h>

struct control_socket {
	int fd; // listening; -1 when closed or handed over
	struct sockaddr_un address;
	char run_dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

// Listens at RUN_DIR/name, which nobody but root and this user may connect to. Creates RUN_DIR (0750) when it is missing,
// replaces a socket that no process listens on. -EADDRINUSE when one does, -EEXIST when the path is something else.
int control_socket_open(const char *run_dir, const char *name, struct control_socket *ret_socket, struct err *err);

// Takes the name away. Called while `fd` is still open, so that the name can only be ours or a successor's.
void control_socket_unlink(const struct control_socket *socket);

// Whether the process at the other end of `fd` is root's or this user's.
bool control_socket_peer_ok(int fd);

#endif
