// SPDX-License-Identifier: Apache-2.0
// What is asked of the images before they are protected, and at no other time: mistakes in a command, which an image that is served cannot make.
#ifndef KAGAMI_REPLICATOR_PROTECT_CHECK_H
#define KAGAMI_REPLICATOR_PROTECT_CHECK_H

#include "base/err.h"
#include "replicator/protection_config.h"

#include <stdbool.h>

// Of disk `disk`. -EINVAL: it is the image of an earlier disk, too, or lies in the state directory, of which the replicator removes and replaces what it likes, or begins (a VHD of fixed size: ends) as one of another format than raw does; `raw`: it is raw even so, as its
// owner says. -ENOENT and others: nothing is found at its path. What cannot be opened or read is left to who opens the images. The image may not answer.
int protect_check(const struct protection_config *config, const char *state_dir, uint16_t disk, bool raw, struct err *err);

#endif
