// SPDX-License-Identifier: Apache-2.0
// A disk of a point over NBD for one client, the storage daemon of a mount: read-only, and each block is proven before a byte of it is
// answered. What is damaged is an I/O error, and is remembered; what could not be read for want of memory is ENOMEM, and says nothing of the point.
//
// The socket is an abstract one of a random name, and takes one client, of our own user; so no path of the store bounds it, and nobody else reads.
#ifndef KAGAMI_RECEIVER_PROVEN_VIEW_H
#define KAGAMI_RECEIVER_PROVEN_VIEW_H

#include "receiver/store.h"
#include "receiver/verifier.h"

enum { PROVEN_VIEW_NAME_SIZE = 64 };

struct proven_view;

// The caller holds the point until proven_view_stop(). What is found damaged is verified too (`verifier` may be NULL), and so gets into quarantine.
int proven_view_start(struct replica *replica, uint64_t point, const char *disk, struct verifier *verifier, struct proven_view **ret_view,
		      struct err *err);
const char *proven_view_name(const struct proven_view *view); // of the socket
// True when something that was asked for was damaged: the first of it is in `err`.
bool proven_view_damaged(struct proven_view *view, struct err *err);
void proven_view_stop(struct proven_view *view); // takes NULL; the client may be there still

#endif
