// SPDX-License-Identifier: Apache-2.0
// From a request to a handler, and from what it says to an answer: what the control socket and the page's listener have in common.
#ifndef KAGAMI_LINK_CONTROL_HTTP_H
#define KAGAMI_LINK_CONTROL_HTTP_H

#include "link/control.h"

#include <microhttpd.h>

// Finds the route of `method` and `url` and calls its handler; what is not there is answered with 404, and a method that it has not with 405.
unsigned control_dispatch(const struct control_route *routes, size_t count, void *context, const char *method, const char *url,
			  struct control_request *request, json_t **ret_body);
// Whether `url` is one that `pattern` ("/v1/protections/*") describes.
bool control_path_is(const char *url, const char *pattern);
// request->query of a request whose private member is its connection.
const char *control_query(const struct control_request *request, const char *name);
const char *control_header(const struct control_request *request, const char *name); // likewise request->header
// The text that a handler left in `request` (NULL: none), or `body` as JSON; takes both over. NULL without memory.
struct MHD_Response *control_response(json_t *body, struct control_request *request);
// Of MHD_OPTION_UNESCAPE_CALLBACK.
size_t control_unescape(void *context, struct MHD_Connection *connection, char *text);

#endif
