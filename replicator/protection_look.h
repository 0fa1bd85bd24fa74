// SPDX-License-Identifier: Apache-2.0
// Whether what a protection needs at its next start is still there, and its images are where they were: files that are open go on to work when they were removed,
// and nothing but their names tells.
#ifndef KAGAMI_REPLICATOR_PROTECTION_LOOK_H
#define KAGAMI_REPLICATOR_PROTECTION_LOOK_H

struct protection;

// All of it: the state files (tracking_look()), the configuration, the images. What is found is told, and shown in the status until it is so no more. Waits for the
// state directory and for the disks, with no lock that a guest, a request or a cycle waits for. Between protection_use() and protection_unuse().
void protection_look(struct protection *protection);

#endif
