// SPDX-License-Identifier: Apache-2.0
// Whether what is a daemon's own is nobody else's: its directories, its key, and the files that secrets are read from.
//
// Looked at once, at the start. What is too open is said, as a warning in the log and as an event, with what to do, and the daemon goes on: the disks of guests
// are served by it, and a start that is refused would take them away. docs/security.md.
#ifndef KAGAMI_LINK_PRIVATE_H
#define KAGAMI_LINK_PRIVATE_H

#include <stdbool.h>

// Nobody but root and this user may write to the directory: who can puts files of his own there. `what`: "state". True where it is so, or cannot be told.
bool private_directory(const char *what, const char *path);
// Nobody but root, this user and, with `group`, the file's group may read it, and nobody but the first two write to it. `what`: "the key".
bool private_file(const char *what, const char *path, bool group);

#endif
