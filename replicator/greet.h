// SPDX-License-Identifier: Apache-2.0
// The first words of a connection, from the source's side: versions, and which protection from which state.
#ifndef KAGAMI_REPLICATOR_GREET_H
#define KAGAMI_REPLICATOR_GREET_H

#include "base/err.h"
#include "link/channel.h"

// Exchanges HELLO. -EPROTONOSUPPORT when the majors differ.
int greet(struct channel *channel, struct wire_hello *ret_theirs, struct err *err);

// Sends OPEN and takes OPENED, and DAMAGED and DOUBTED when `theirs` announced them: what they name are disks of `open`. -EREMOTEIO with *ret_failure
// filled when the receiver refuses.
int greet_open(struct channel *channel, const struct wire_hello *theirs, const struct wire_open *open, struct wire_opened *ret_opened,
	       struct wire_damaged *ret_damaged, struct wire_doubted *ret_doubted, struct wire_failure *ret_failure, struct err *err);

#endif
