// SPDX-License-Identifier: Apache-2.0
// The listening unix socket of a control server.
//
// A socket file outlives a daemon that was killed. Whether somebody listens is asked by connecting, never guessed from a
// pid. Two daemons that start at the same moment would both find nobody and each remove the other's socket, so the run
// directory is locked (flock) from the question to listen(), and while the name is removed.
#include "link/control_socket.h"

#include "base/auto.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { LISTEN_BACKLOG = 64 };

static int address_fill(struct control_socket *sock, const char *run_dir, const char *name, struct err *err)
{
	char *path = sock->address.sun_path;
	size_t cap = sizeof(sock->address.sun_path);
	sock->address.sun_family = AF_UNIX;
	int used = snprintf(path, cap, "%s/%s", run_dir, name);
	if (used < 0 || (size_t)used >= cap)
		return err_set(err, -ENAMETOOLONG,
			       "the path of the control socket, %s/%s, is longer than the %zu bytes a unix socket's may have: "
			       "choose a shorter run directory with --run-dir",
			       run_dir, name, cap - 1);
	(void)snprintf(sock->run_dir, sizeof(sock->run_dir), "%s", run_dir);
	return 0;
}

// Opens the run directory, created when it is missing, and locks it. Returns the descriptor.
static int run_dir_lock(const char *run_dir, struct err *err)
{
	if (mkdir(run_dir, 0750) && errno != EEXIST)
		return err_sys(err, -errno, "create the run directory %s (or choose another one with --run-dir)", run_dir);
	int fd = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, -errno, "open the run directory %s (or choose another one with --run-dir)", run_dir);
	int rc;
	do
		rc = flock(fd, LOCK_EX);
	while (rc && errno == EINTR);
	if (rc) {
		rc = err_sys(err, -errno, "lock the run directory %s", run_dir);
		(void)close(fd);
		return rc;
	}
	return fd;
}

// Whether a process listens at the address: 1, 0, or a negative errno when that cannot be told.
static int somebody_listens(const struct sockaddr_un *address)
{
	AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return 1; // EAGAIN: its queue is full
	return errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
}

static int stale_remove(const struct control_socket *sock, struct err *err)
{
	const char *path = sock->address.sun_path;
	struct stat st;
	if (lstat(path, &st))
		return errno == ENOENT ? 0 : err_sys(err, -errno, "look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s is in the way and is not a socket: remove it, or choose another --run-dir", path);
	int listens = somebody_listens(&sock->address);
	if (listens < 0)
		return err_sys(err, listens, "ask whether a daemon answers at %s", path);
	if (listens)
		return err_set(err, -EADDRINUSE,
			       "a daemon already answers at %s: stop it first, or give this one another --run-dir", path);
	if (unlink(path) && errno != ENOENT)
		return err_sys(err, -errno, "remove the stale socket %s", path);
	return 0;
}

static int listen_at(struct control_socket *sock, struct err *err)
{
	const char *path = sock->address.sun_path;
	sock->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock->fd < 0)
		return err_sys(err, -errno, "make the control socket");
	// Before bind(), so that the name never exists with a wider mode.
	if (fchmod(sock->fd, 0600) ||
	    bind(sock->fd, (const struct sockaddr *)&sock->address, sizeof(sock->address)) ||
	    listen(sock->fd, LISTEN_BACKLOG)) {
		int rc = err_sys(err, -errno, "listen at %s", path);
		(void)close(sock->fd);
		sock->fd = -1;
		return rc;
	}
	return 0;
}

int control_socket_open(const char *run_dir, const char *name, struct control_socket *ret_socket, struct err *err)
{
	struct control_socket sock = {.fd = -1};
	int rc = address_fill(&sock, run_dir, name, err);
	if (rc)
		return rc;
	AUTO_CLOSE int lock = run_dir_lock(run_dir, err);
	if (lock < 0)
		return lock;
	rc = stale_remove(&sock, err);
	if (!rc)
		rc = listen_at(&sock, err);
	if (!rc)
		*ret_socket = sock;
	return rc;
}

void control_socket_unlink(const struct control_socket *sock)
{
	AUTO_CLOSE int lock = run_dir_lock(sock->run_dir, NULL);
	if (lock >= 0)
		(void)unlink(sock->address.sun_path);
}

bool control_socket_peer_ok(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}
