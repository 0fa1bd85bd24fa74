// SPDX-License-Identifier: Apache-2.0
// Who may look: what the headers of a request say of it. Pure; the texts come from anybody.
#ifndef KAGAMI_LINK_WEB_GUARD_H
#define KAGAMI_LINK_WEB_GUARD_H

#include <stdbool.h>

// Whether a Host header names this machine to itself: "localhost:80", "127.0.0.1", "[::1]:80". A page of another site that had its name resolved
// to a loopback address (DNS rebinding) still sends its own name.
bool web_host_is_loopback(const char *host);
// Whether a Cookie header holds `name` with `value`, or an Authorization header is a bearer's `token`. In constant time for a text of the right length.
bool web_cookie_is(const char *cookies, const char *name, const char *value);
bool web_bearer_is(const char *authorization, const char *token);

#endif
