// SPDX-License-Identifier: Apache-2.0
// An HTTP listener on TCP: metrics, and the web page with what it reads. It answers GET and HEAD, and nothing else; it changes nothing.
//
// Whom it serves:
//	metrics_only		anybody who reaches the address; /metrics and nothing else
//	without a token		loopback addresses alone, and requests whose Host is one (a page of elsewhere whose name leads here is refused)
//	with a token		any address; assets are open (they hold no data), everything else takes the token: `Authorization: Bearer TOKEN`, or the
//				cookie kagami_token. Compared in constant time; a wrong one is answered the later the more of them there were
// Connections are bounded (WEB_CLIENTS_MAX, WEB_CLIENTS_PER_ADDRESS), and end when nothing happens for WEB_IDLE_SECONDS.
#ifndef KAGAMI_LINK_WEB_H
#define KAGAMI_LINK_WEB_H

#include "link/control.h"

enum { WEB_CLIENTS_MAX = 64, WEB_CLIENTS_PER_ADDRESS = 16, WEB_IDLE_SECONDS = 60, WEB_TOKEN_MIN = 16, WEB_TOKEN_MAX = 256 };

struct web_asset {
	const char *path; // "/", "/style.css"
	const char *content_type;
	const void *bytes;
	size_t length;
};

struct web_config {
	const char *option;  // for errors: "--web"
	const char *address; // HOST:PORT
	const char *token_file; // its first line is the token; NULL: none
	bool metrics_only;
	const struct web_asset *assets;
	size_t asset_count;
	const struct control_route *routes; // those of the control server: of them, GET of what web_paths lists
	size_t route_count;
	void *context;
};

extern const char *const web_paths[]; // patterns; ends with NULL

struct web;
// What `config` points to stays the caller's, and is kept.
int web_start(const struct web_config *config, struct web **ret_web, struct err *err);
const char *web_address(const struct web *web); // with the port that was chosen for port 0
void web_stop(struct web *web); // takes NULL; waits for requests under way

#endif
