// SPDX-License-Identifier: Apache-2.0
#include "link/web_guard.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { NAME_SIZE_MAX = 64 };

// Behind the name there may be a port, and nothing else.
static bool port_ok(const char *rest)
{
	return rest[0] == 0 || (rest[0] == ':' && rest[1 + strspn(rest + 1, "0123456789")] == 0);
}

bool web_host_is_loopback(const char *host)
{
	char name[NAME_SIZE_MAX];
	struct in_addr address;
	struct in6_addr address6;
	bool six = host[0] == '[';
	const char *begin = host + six, *end = begin + strcspn(begin, six ? "]" : ":");
	if ((size_t)(end - begin) >= sizeof(name) || (six && *end != ']') || !port_ok(end + six))
		return false;
	(void)snprintf(name, sizeof(name), "%.*s", (int)(end - begin), begin);
	if (six)
		return inet_pton(AF_INET6, name, &address6) == 1 && IN6_IS_ADDR_LOOPBACK(&address6);
	if (inet_pton(AF_INET, name, &address) == 1)
		return ntohl(address.s_addr) >> 24 == 127;
	return strcasecmp(name, "localhost") == 0;
}

static bool same(const char *given, size_t len, const char *wanted)
{
	return wanted[0] && len == strlen(wanted) && CRYPTO_memcmp(given, wanted, len) == 0;
}

bool web_cookie_is(const char *cookies, const char *name, const char *value)
{
	size_t len = strlen(name);
	for (const char *at = cookies; *at; at += strcspn(at, ";"), at += strspn(at, "; "))
		if (strncmp(at, name, len) == 0 && at[len] == '=' && same(at + len + 1, strcspn(at + len + 1, "; "), value))
			return true;
	return false;
}

bool web_bearer_is(const char *authorization, const char *token)
{
	static const char scheme[] = "Bearer ";
	size_t len = sizeof(scheme) - 1;
	return strncasecmp(authorization, scheme, len) == 0 && same(authorization + len, strlen(authorization + len), token);
}
