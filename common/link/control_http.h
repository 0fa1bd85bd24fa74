// SPDX-License-Identifier: Apache-2.0
// What the control server and the web listener do alike with a request of libmicrohttpd. Private to control.c and web.c.
#ifndef KAGAMI_LINK_CONTROL_HTTP_H
#define KAGAMI_LINK_CONTROL_HTTP_H

#include "link/control.h"

#include <microhttpd.h>

// A request on its way to a handler, without a body.
struct control_request control_request_of(struct MHD_Connection *connection, struct control_stream *stream);
// Whether the path of `url` is one that `pattern` describes.
bool control_path_like(const char *url, const char *pattern);
// Finds the handler and calls it, or says why there is none.
unsigned control_dispatch(const struct control_route *routes, size_t count, void *context, const char *method, const char *url,
			  struct control_request *request, json_t **ret_body);
// Decodes %XX in a path or a value; the option MHD_OPTION_UNESCAPE_CALLBACK.
size_t control_unescape(void *context, struct MHD_Connection *connection, char *text);

#endif
