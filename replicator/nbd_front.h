// SPDX-License-Identifier: Apache-2.0
// What an NBD client that comes over TCP says before it reaches a disk, as bytes: no input or output, no waiting.
//
//	nbd_greeting ──► nbd_front_step … ──► NBD_FRONT_START_TLS ──► nbd_front_step … ──► NBD_FRONT_ATTACH
//	                 (TLS is asked for,                           (inside TLS: the
//	                  all else refused)                            options of nbd.h)
//
// One port has the disks of all protections: an export's name here is PROTECTION/DISK. The options themselves are answered by
// nbd_handshake_step(), over a table of one: the export that the option names.
#ifndef KAGAMI_REPLICATOR_NBD_FRONT_H
#define KAGAMI_REPLICATOR_NBD_FRONT_H

#include "replicator/nbd.h"

struct nbd_front_export {
	char protection[NAME_SIZE];
	char disk[NAME_SIZE];
	uint64_t size;
	bool read_only;
};

// The exports there are now. `at` stores the n-th and answers true, or answers false when there are not so many; any thread.
struct nbd_front_exports {
	bool (*at)(void *context, unsigned n, struct nbd_front_export *ret_export);
	void *context;
};

struct nbd_front { // not to be moved once it is initialised
	const struct nbd_front_exports *exports;
	struct nbd_handshake handshake; // its table is `named`
	struct nbd_export named;
	struct nbd_front_export chosen; // what the newest option named
	char context_name[NBD_NAME_SIZE]; // the export that base:allocation was agreed for
	bool secure;			  // inside TLS
};

enum nbd_front_next {
	NBD_FRONT_ON,	     // send the answer; an option follows
	NBD_FRONT_START_TLS, // send the answer, shake hands by TLS, call nbd_front_secured()
	NBD_FRONT_LIST,	     // send every nbd_front_list_item(); an option follows
	NBD_FRONT_ATTACH,    // `chosen` is the disk: attach, then send the answer; requests follow
	NBD_FRONT_CLOSE,     // send the answer, then close
};

void nbd_front_init(struct nbd_front *front, const struct nbd_front_exports *exports);
// As nbd_handshake_need(), with the limits that a client has before it is known who it is.
int nbd_front_need(const struct nbd_front *front, const unsigned char *in, size_t len, size_t *ret_need);
// As nbd_handshake_too_big(); outside of TLS never: there what is too long ends the connection.
bool nbd_front_too_big(const struct nbd_front *front, const unsigned char *in, size_t len, unsigned char answer[NBD_ANSWER_MAX], size_t *ret_answered,
		       uint32_t *ret_skip);
// Takes the flags or one whole option. -EBADMSG where the client broke the protocol, or took TLS for optional by a request
// that has no refusal: close.
int nbd_front_step(struct nbd_front *front, const unsigned char *in, size_t len, unsigned char answer[NBD_ANSWER_MAX],
		   size_t *ret_answered, enum nbd_front_next *ret_next);
void nbd_front_secured(struct nbd_front *front);
// In place of the answer of a step that said NBD_FRONT_ATTACH: the disk is not to be had now. `in` is that option. 0: it was EXPORT_NAME, which has no
// refusal. Then close. `full`: as many as may be have one.
size_t nbd_front_refuse(const unsigned char *in, bool full, unsigned char answer[NBD_ANSWER_MAX]);

// The n-th reply to NBD_OPT_LIST; its length. *ret_last: it was the one that ends the list.
size_t nbd_front_list_item(const struct nbd_front *front, unsigned n, unsigned char answer[NBD_ANSWER_MAX], bool *ret_last);

// What to send to the protection's own socket so that it is in the state that the client was told of: the flags and then
// `*ret_options` options, each answered by replies up to an ACK; the last one is GO.
size_t nbd_front_introduce(const struct nbd_front *front, unsigned char to[NBD_ANSWER_MAX], unsigned *ret_options);

#endif
