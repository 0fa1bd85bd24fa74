// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/export_place.h"

#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

void make_image(const char *path, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	(void)close(fd);
}

struct place *place_new(void)
{
	struct place *p = calloc(1, sizeof(*p));
	const char *tmp = getenv("TMPDIR");
	(void)snprintf(p->dir, sizeof(p->dir), "%.80s/kagami-export-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(p->dir));
	(void)snprintf(p->socket, sizeof(p->socket), "%s/s", p->dir);
	p->config = (struct export_config){.protection = "vm1", .socket_path = p->socket, .disk_count = 2};
	for (unsigned d = 0; d < 2; d++) {
		(void)snprintf(p->image[d], sizeof(p->image[d]), "%s/%u.raw", p->dir, d);
		make_image(p->image[d], IMAGE_SIZE);
		(void)snprintf(p->config.disk[d].name, NAME_SIZE, "vd%c", 'a' + (int)d);
		p->config.disk[d].path = p->image[d];
	}
	return p;
}

void place_start(struct place *p)
{
	struct err err = {0};
	if (export_open(&p->config, &p->export, &err) || export_start(p->export, &err))
		fail_msg("%s", err.text);
}

void place_stop(struct place *p)
{
	struct err err = {0};
	if (export_stop(p->export, &err))
		fail_msg("%s", err.text);
	assert_int_equal(access(p->socket, F_OK), -1);
}

void place_free(struct place *p)
{
	export_close(p->export);
	for (unsigned d = 0; d < 2; d++)
		(void)unlink(p->image[d]);
	(void)unlink(p->socket);
	assert_int_equal(rmdir(p->dir), 0);
	free(p);
}

// ---- a client that sends what it likes

void put_all(int fd, const void *data, size_t len)
{
	const char *at = data;
	while (len) {
		ssize_t sent = send(fd, at, len, MSG_NOSIGNAL);
		assert_true(sent > 0);
		at += sent;
		len -= (size_t)sent;
	}
}

void get_all(int fd, void *data, size_t len)
{
	assert_int_equal(recv(fd, data, len, MSG_WAITALL), len);
}

bool closed_by_peer(int fd)
{
	char byte;
	ssize_t got;
	do
		got = recv(fd, &byte, 1, 0);
	while (got > 0);
	return got == 0 || errno == ECONNRESET;
}

int dial(const struct place *p)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", p->socket);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	const struct timeval patience = {.tv_sec = 60};
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
	unsigned char greeting[18];
	get_all(fd, greeting, sizeof(greeting));
	assert_memory_equal(greeting, "NBDMAGICIHAVEOPT\0\3", 18);
	put_all(fd, "\0\0\0\3", 4);
	return fd;
}

int dial_disk(const struct place *p, const char *name)
{
	unsigned char option[64] = "IHAVEOPT\0\0\0\1", answer[10];
	int fd = dial(p);
	put_be32(option + 12, (uint32_t)strlen(name));
	memcpy(option + 16, name, strlen(name));
	put_all(fd, option, 16 + strlen(name));
	get_all(fd, answer, sizeof(answer));
	assert_true(get_be64(answer) == IMAGE_SIZE);
	return fd;
}

void put_request(int fd, unsigned command, uint64_t cookie, uint64_t off, uint32_t len)
{
	unsigned char head[28];
	put_be32(head, 0x25609513);
	put_be32(head + 4, command);
	put_be64(head + 8, cookie);
	put_be64(head + 16, off);
	put_be32(head + 24, len);
	put_all(fd, head, sizeof(head));
}

uint32_t get_reply(int fd, uint64_t *ret_cookie)
{
	unsigned char head[16];
	get_all(fd, head, sizeof(head));
	assert_int_equal(get_be32(head), 0x67446698);
	*ret_cookie = get_be64(head + 8);
	return get_be32(head + 4);
}

uint32_t ask(int fd, unsigned command, uint64_t off, uint32_t len, void *data)
{
	uint64_t cookie;
	put_request(fd, command, 77, off, len);
	if ((command & 0xffff) == CMD_WRITE)
		put_all(fd, data, len);
	uint32_t error = get_reply(fd, &cookie);
	assert_true(cookie == 77);
	if (!error && command == CMD_READ)
		get_all(fd, data, len);
	return error;
}
