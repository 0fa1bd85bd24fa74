// SPDX-License-Identifier: Apache-2.0
// What an operator's change of settings has changed: the event of it. docs/rpo.md, "Events".
#ifndef KAGAMI_REPLICATOR_SETTINGS_CHANGE_H
#define KAGAMI_REPLICATOR_SETTINGS_CHANGE_H

#include "replicator/settings.h"

enum { SETTINGS_CHANGE_SIZE = 400 }; // of the text: what is too long for it is cut short, and whole in the JSON

// "RPO 2 h (was 1 h), bandwidth 20mbit (was unlimited)", and {"was": {member: value}, "is": {member: value}} with the members that differ, as the status has
// them. NULL with "" where none does.
json_t *settings_change(const struct protection_settings *was, const struct protection_settings *is, char text[SETTINGS_CHANGE_SIZE]);
json_t *agent_settings_change(const struct agent_settings *was, const struct agent_settings *is, char text[SETTINGS_CHANGE_SIZE]);

#endif
