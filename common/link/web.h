// SPDX-License-Identifier: Apache-2.0
// What a daemon shows over TCP: the page (--web) and its metrics (--metrics). GET and HEAD alone; docs/rpo.md, "The web page".
//
// The page's listener has the files of common/web, the routes of the control API that tell how things are (the list in web.c; none gives the content of
// a disk, and none does anything) and /metrics. Without a token it listens on loopback alone, and answers only who asks for it by a loopback name,
// so that no page of another site reads it through a browser. The metrics' listener has /metrics and nothing else, on any address.
// Whoever asks for nothing keeps nobody out: web_seats.h.
#ifndef KAGAMI_LINK_WEB_H
#define KAGAMI_LINK_WEB_H

#include "link/control.h"

struct web_config {
	const char *web, *metrics; // HOST:PORT; NULL: not served
	const char *token_file;	   // NULL: the page needs none
};
// Those of a daemon's options that fill in a struct web_config.
#define WEB_OPTIONS(config)                                                                                                        \
	{"web", "ADDRESS", "HOST:PORT: a page for the browser, read-only; loopback, unless --web-token is given", &(config)->web, false},  \
		{"web-token", "FILE", "the page asks for the token in FILE (16 to 256 printable characters)", &(config)->token_file, false}, \
		{"metrics", "ADDRESS", "HOST:PORT: /metrics for Prometheus, and nothing else", &(config)->metrics, false}

enum { WEB_ANSWER_S = 20, WEB_TOKEN_LEAST = 16, WEB_TOKEN_MOST = 256 };

struct web;

// -EINVAL where no such thing can be started, on whatever host: what is no address, a token for no page, a page without one that is for all to see.
int web_check(const struct web_config *config, struct err *err);
// Starts what `config` asks for; *ret_web is NULL when that is nothing. `routes` are those of the control server, kept by the caller. -EINVAL when an
// address is no loopback one and there is no token, or the token is none.
int web_start(const struct web_config *config, const struct control_route *routes, size_t count, void *context, struct web **ret_web, struct err *err);
void web_stop(struct web *web); // takes NULL; waits for answers under way
// Where the page is served, with the port that was chosen for port 0; "" when it is not.
const char *web_address(const struct web *web);

#endif
