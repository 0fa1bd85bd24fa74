// SPDX-License-Identifier: Apache-2.0
// What the files of the receiver's routes share: finding the replica that is asked for, and answering.
#ifndef KAGAMI_RECEIVER_ROUTE_H
#define KAGAMI_RECEIVER_ROUTE_H

#include "receiver/recovery.h"

enum { HTTP_OK = 200, HTTP_CREATED = 201, HTTP_ACCEPTED = 202 };

// The replica that the path names. NULL: -ENOENT, and where to look.
struct replica *route_find(const struct recovery *recovery, const struct control_request *request, struct err *err);
// Answers with `json`, which may be NULL: out of memory.
unsigned route_answer(unsigned status, json_t *json, json_t **ret_body);
// A number from `least` to `most` in decimal digits, and nothing else. -EINVAL.
int route_number(const char *text, uint64_t least, uint64_t most, uint64_t *ret_number);
unsigned route_fail(const struct err *err, json_t **ret_body);

#endif
