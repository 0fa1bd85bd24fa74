// SPDX-License-Identifier: Apache-2.0
// Posts an event to a URL, by libcurl: http or https, whose certificate is verified; no redirections.
#ifndef KAGAMI_LINK_WEBHOOK_H
#define KAGAMI_LINK_WEBHOOK_H

#include "link/events.h"

#include <stdatomic.h>

enum { WEBHOOK_LIMIT_MS = 10000, WEBHOOK_TRIES = 4, WEBHOOK_URL_MAX = 2000 };

struct webhook;
int webhook_check(const char *url, struct err *err); // -EINVAL where it is neither a URL nor @FILE; no file is read
// `url`, or @FILE whose first line is it: so that a secret in it is not in the list of processes.
int webhook_new(const char *url, struct webhook **ret_webhook, struct err *err);
void webhook_free(struct webhook *webhook); // takes NULL
// One try. 0 when the answer's status is 2xx; -EREMOTEIO or -EIO with what happened, which never holds the URL. Ends early when *stop_ns has passed.
int webhook_post(struct webhook *webhook, const struct event *event, const _Atomic uint64_t *stop_ns, struct err *err);

#endif
