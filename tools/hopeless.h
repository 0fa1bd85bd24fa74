// SPDX-License-Identifier: Apache-2.0
// When it is of no use to wait for a cycle any longer: until somebody acts, none is committed.
#ifndef KAGAMI_TOOLS_HOPELESS_H
#define KAGAMI_TOOLS_HOPELESS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

enum { HOPELESS_TEXT = 640 };

// Why `cycle` of this protection (as the replicator's status has it) will not be committed, and what to do, in `text`; NULL where it may be by itself, as when the receiver is
// away or the line is down, and while a cycle is under way.
const char *hopeless(const json_t *protection, uint64_t cycle, char text[HOPELESS_TEXT]);

// Why the receiver takes no cycle until somebody acts, as a try to connect found since there had been `failures` of them (`connect_failures`): borrowed. NULL where it was not
// tried since, or may take one by itself.
const char *hopeless_refused(const json_t *protection, uint64_t failures);

#endif
