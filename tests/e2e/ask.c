// SPDX-License-Identifier: Apache-2.0
// ask SOCKET PATH FILTER [SECONDS]: the value at a place of what the control API answers, as `curl --fail-with-body … | jq -r FILTER` prints it, in a fifth of its time: the
// scripts ask until something is so, and most of their processor time was the start of those two.
//
// FILTER: `.name`, `.name[0].other`, with `[]` for each of an array. What else jq can is left to it: exit status 3, and nothing printed; likewise where the value is an
// array or an object. 7: nobody answers. 22: the answer is an error. 5: there is no such place, as jq says. Built without sanitizers: it is none of the tested.
#include <jansson.h>

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { NOT_OURS = 3, NO_PLACE = 5, NO_ANSWER = 7, REFUSED = 22, ANSWER_MAX = 64 << 20 };

static int dial(const char *path, long seconds)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = seconds};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || strlen(path) >= sizeof(to.sun_path))
		exit(NO_ANSWER);
	memcpy(to.sun_path, path, strlen(path));
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)))
		exit(NO_ANSWER);
	return fd;
}

// All of the answer, with its head; HTTP/1.0, so that it ends with the connection and is not in chunks.
static char *ask(const char *socket_path, const char *path, long seconds)
{
	char *all = malloc(ANSWER_MAX + 1);
	size_t len = 0;
	ssize_t n;
	int fd = dial(socket_path, seconds);
	if (!all || dprintf(fd, "GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n", path) < 0)
		exit(NO_ANSWER);
	while (len < ANSWER_MAX && (n = read(fd, all + len, ANSWER_MAX - len)) > 0)
		len += (size_t)n;
	all[len] = 0;
	(void)close(fd);
	return all;
}

static int print(const json_t *value)
{
	if (json_is_object(value) || json_is_array(value) || json_is_real(value))
		return NOT_OURS;
	if (json_is_string(value))
		(void)puts(json_string_value(value));
	else if (json_is_integer(value))
		(void)printf("%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
	else
		(void)puts(json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
	return 0;
}

static int walk(const json_t *at, const char *filter);

static int walk_each(const json_t *at, const char *rest)
{
	int status = json_is_array(at) ? 0 : NO_PLACE;
	for (size_t i = 0; status == 0 && i < json_array_size(at); i++)
		status = walk(json_array_get(at, i), rest);
	return status;
}

static int walk_index(const json_t *at, const char *filter)
{
	char *end;
	unsigned long i = strtoul(filter + 1, &end, 10);
	return json_is_array(at) || !at || json_is_null(at) ? walk(json_array_get(at, i), end + 1) : NO_PLACE;
}

// What is not there is null, as in jq; a name of what has no names is an error.
static int walk(const json_t *at, const char *filter)
{
	if (!*filter)
		return print(at);
	if (*filter == '[')
		return filter[1] == ']' ? walk_each(at, filter + 2) : walk_index(at, filter);
	size_t len = strcspn(++filter, ".[");
	char name[128];
	if (at && !json_is_null(at) && !json_is_object(at))
		return NO_PLACE;
	(void)snprintf(name, sizeof(name), "%.*s", (int)len, filter);
	return walk(json_object_get(at, name), filter + len);
}

static const char *past_name(const char *at)
{
	if (!isalpha((unsigned char)*at) && *at != '_')
		return NULL;
	while (isalnum((unsigned char)*at) || *at == '_')
		at++;
	return at;
}

static const char *past_index(const char *at)
{
	while (isdigit((unsigned char)*at))
		at++;
	return *at == ']' ? at + 1 : NULL;
}

static int is_ours(const char *filter)
{
	const char *at = filter;
	while (at && *at)
		at = *at == '.' ? past_name(at + 1) : *at == '[' && at > filter ? past_index(at + 1) : NULL;
	return at && at > filter;
}

int main(int argc, char **argv)
{
	if (argc < 4 || argc > 5 || !is_ours(argv[3]))
		return NOT_OURS;
	(void)signal(SIGPIPE, SIG_IGN);
	char *answer = ask(argv[1], argv[2], argc == 5 ? atol(argv[4]) : 60), *body = strstr(answer, "\r\n\r\n");
	if (!body || strncmp(answer, "HTTP/1.", 7) != 0)
		return NO_ANSWER;
	int refused = answer[9] != '2';
	json_t *json = json_loads(body + 4, JSON_DECODE_ANY, NULL);
	if (!json)
		return NOT_OURS;
	int status = walk(json, argv[3]);
	if (status == NOT_OURS)
		_exit(NOT_OURS); // without what is in the buffer
	(void)fflush(stdout);
	return status ? status : refused ? REFUSED : 0;
}
