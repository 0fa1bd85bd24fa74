// SPDX-License-Identifier: Apache-2.0
// From a member back to the struct that embeds it.
#ifndef KAGAMI_REPLICATOR_HOLDER_H
#define KAGAMI_REPLICATOR_HOLDER_H

#include <stddef.h>

#define HOLDER(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

#endif
