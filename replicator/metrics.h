// SPDX-License-Identifier: Apache-2.0
#ifndef KAGAMI_REPLICATOR_METRICS_H
#define KAGAMI_REPLICATOR_METRICS_H

#include "link/control.h"

// Answers GET /metrics from the protections as GET /v1/protections lists them, and what GET /v1/settings tells; both stay the caller's.
unsigned replicator_metrics(const json_t *protections, const json_t *settings, const struct control_request *request, json_t **ret_body);

#endif
