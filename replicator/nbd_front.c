// SPDX-License-Identifier: Apache-2.0
// The options of a client over TCP: TLS before anything else, and names with a protection in front.
//
// "Mandatory TLS" of proto.md: outside of TLS every option but STARTTLS and ABORT is refused with REP_ERR_TLS_REQD, and
// EXPORT_NAME, which knows no refusal, ends the connection. What was said outside of TLS counts for nothing inside, but
// the client's flags, which are not said again.
#include "replicator/nbd_front.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OPTION_MAGIC UINT64_C(0x49484156454f5054) // "IHAVEOPT"
#define REPLY_MAGIC UINT64_C(0x0003e889045565a9)

enum {
	OPT_EXPORT_NAME = 1,
	OPT_ABORT = 2,
	OPT_LIST = 3,
	OPT_STARTTLS = 5,
	OPT_INFO = 6,
	OPT_GO = 7,
	OPT_STRUCTURED_REPLY = 8,
	OPT_LIST_META_CONTEXT = 9,
	OPT_SET_META_CONTEXT = 10,
};
enum { REP_ACK = 1, REP_SERVER = 2, REPLY_HEAD_SIZE = 20 };
#define REP_ERR_POLICY UINT32_C(0x80000002)
#define REP_ERR_INVALID UINT32_C(0x80000003)
#define REP_ERR_TLS_REQD UINT32_C(0x80000005)
#define REP_ERR_SHUTDOWN UINT32_C(0x80000007)

// Outside of TLS nothing that is worth so much is said.
enum { PLAIN_OPTION_DATA_MAX = 4096 };

static const char context_name[] = "base:allocation";

void nbd_front_init(struct nbd_front *front, const struct nbd_front_exports *exports)
{
	*front = (struct nbd_front){.exports = exports};
	nbd_handshake_init(&front->handshake, &front->named, 1);
}

void nbd_front_secured(struct nbd_front *front)
{
	front->secure = true;
}

int nbd_front_need(const struct nbd_front *front, const unsigned char *in, size_t len, size_t *ret_need)
{
	int code = nbd_handshake_need(&front->handshake, in, len, ret_need);
	if (code == 0 && !front->secure && *ret_need > NBD_OPTION_HEAD_SIZE + PLAIN_OPTION_DATA_MAX)
		return -EBADMSG;
	return code;
}

bool nbd_front_too_big(const struct nbd_front *front, const unsigned char *in, size_t len, unsigned char answer[NBD_ANSWER_MAX], size_t *ret_answered,
		       uint32_t *ret_skip)
{
	return front->secure && nbd_handshake_too_big(&front->handshake, in, len, answer, ret_answered, ret_skip);
}

static unsigned char *reply_head(unsigned char *to, uint32_t option, uint32_t type, uint32_t len)
{
	put_be64(to, REPLY_MAGIC);
	put_be32(to + 8, option);
	put_be32(to + 12, type);
	put_be32(to + 16, len);
	return to + REPLY_HEAD_SIZE;
}

static size_t reply_text(unsigned char *to, uint32_t option, uint32_t type, const char *text)
{
	memcpy(reply_head(to, option, type, (uint32_t)strlen(text)), text, strlen(text));
	return REPLY_HEAD_SIZE + strlen(text);
}

static size_t full_name(const struct nbd_front_export *export, char name[NBD_NAME_SIZE])
{
	return (size_t)snprintf(name, NBD_NAME_SIZE, "%s/%s", export->protection, export->disk);
}

size_t nbd_front_list_item(const struct nbd_front *front, unsigned n, unsigned char answer[NBD_ANSWER_MAX], bool *ret_last)
{
	struct nbd_front_export export;
	*ret_last = !front->exports->at(front->exports->context, n, &export);
	if (*ret_last) {
		(void)reply_head(answer, OPT_LIST, REP_ACK, 0);
		return REPLY_HEAD_SIZE;
	}
	char name[NBD_NAME_SIZE];
	size_t len = full_name(&export, name);
	unsigned char *to = reply_head(answer, OPT_LIST, REP_SERVER, (uint32_t)(4 + len));
	put_be32(to, (uint32_t)len);
	memcpy(to + 4, name, len);
	return REPLY_HEAD_SIZE + 4 + len;
}

// The export of that name; the empty name is the only export's there is, when there is only one.
static bool find(const struct nbd_front *front, const unsigned char *name, size_t len, struct nbd_front_export *ret_export)
{
	struct nbd_front_export export, other;
	char full[NBD_NAME_SIZE];
	const struct nbd_front_exports *exports = front->exports;
	for (unsigned n = 0; exports->at(exports->context, n, &export); n++) {
		bool found = full_name(&export, full) == len && memcmp(full, name, len) == 0;
		if (len == 0)
			found = n == 0 && !exports->at(exports->context, 1, &other);
		if (found)
			*ret_export = export;
		if (found || len == 0)
			return found;
	}
	return false;
}

// Where an option holds an export's name. An option that is shorter than it says is left to the handshake to refuse: it
// names nothing.
static bool name_in(uint32_t option, const unsigned char *data, size_t len, const unsigned char **ret_name, size_t *ret_len)
{
	*ret_name = data;
	*ret_len = len;
	if (option == OPT_EXPORT_NAME)
		return true;
	if (len < 4 || get_be32(data) > len - 4)
		return false;
	*ret_name = data + 4;
	*ret_len = get_be32(data);
	return true;
}

// Makes the handshake's table the one export that the option names, or an empty one.
static void take_name(struct nbd_front *front, uint32_t option, const unsigned char *data, size_t len)
{
	const unsigned char *name;
	size_t name_len;
	front->handshake.count = name_in(option, data, len, &name, &name_len) && find(front, name, name_len, &front->chosen);
	if (!front->handshake.count)
		return;
	(void)full_name(&front->chosen, front->named.name);
	front->named.size = front->chosen.size;
	front->named.read_only = front->chosen.read_only;
	// The handshake knows exports by their place in the table, where there is but one: whose the context is we remember.
	bool enters = option == OPT_GO || option == OPT_EXPORT_NAME;
	if (enters && strcmp(front->named.name, front->context_name) != 0)
		front->handshake.context = false;
}

static int step_plain(struct nbd_front *front, uint32_t option, size_t len, unsigned char *answer, size_t *ret_answered,
		      enum nbd_front_next *ret_next)
{
	switch (option) {
	case OPT_EXPORT_NAME:
		return -EBADMSG;
	case OPT_ABORT:
		(void)reply_head(answer, option, REP_ACK, 0);
		*ret_answered = REPLY_HEAD_SIZE;
		*ret_next = NBD_FRONT_CLOSE;
		front->handshake.state = NBD_CLOSING;
		return 0;
	case OPT_STARTTLS:
		if (len) {
			*ret_answered = reply_text(answer, option, REP_ERR_INVALID, "STARTTLS takes no data");
			return 0;
		}
		(void)reply_head(answer, option, REP_ACK, 0);
		*ret_answered = REPLY_HEAD_SIZE;
		*ret_next = NBD_FRONT_START_TLS;
		return 0;
	default:
		*ret_answered = reply_text(answer, option, REP_ERR_TLS_REQD, "this server speaks TLS only: use nbds:// or tls-creds");
		return 0;
	}
}

static int step_secure(struct nbd_front *front, const unsigned char *in, size_t len, unsigned char *answer,
		       size_t *ret_answered, enum nbd_front_next *ret_next)
{
	uint32_t option = get_be32(in + 8);
	const unsigned char *data = in + NBD_OPTION_HEAD_SIZE;
	size_t data_len = len - NBD_OPTION_HEAD_SIZE;
	switch (option) {
	case OPT_STARTTLS:
		*ret_answered = reply_text(answer, option, REP_ERR_INVALID, "this is TLS already");
		return 0;
	case OPT_LIST:
		if (data_len)
			*ret_answered = reply_text(answer, option, REP_ERR_INVALID, "LIST takes no data");
		else
			*ret_next = NBD_FRONT_LIST;
		return 0;
	case OPT_EXPORT_NAME:
	case OPT_INFO:
	case OPT_GO:
	case OPT_LIST_META_CONTEXT:
	case OPT_SET_META_CONTEXT:
		take_name(front, option, data, data_len);
		break;
	default:
		break;
	}
	int code = nbd_handshake_step(&front->handshake, in, len, answer, ret_answered);
	if (option == OPT_SET_META_CONTEXT && front->handshake.context)
		memcpy(front->context_name, front->named.name, NBD_NAME_SIZE);
	if (front->handshake.state == NBD_TRANSMISSION)
		*ret_next = NBD_FRONT_ATTACH;
	else if (front->handshake.state == NBD_CLOSING)
		*ret_next = NBD_FRONT_CLOSE;
	return code;
}

int nbd_front_step(struct nbd_front *front, const unsigned char *in, size_t len, unsigned char answer[NBD_ANSWER_MAX],
		   size_t *ret_answered, enum nbd_front_next *ret_next)
{
	*ret_answered = 0;
	*ret_next = NBD_FRONT_ON;
	if (front->handshake.state == NBD_FLAGS)
		return nbd_handshake_step(&front->handshake, in, len, answer, ret_answered);
	if (front->handshake.state != NBD_OPTIONS || len < NBD_OPTION_HEAD_SIZE || get_be64(in) != OPTION_MAGIC)
		return -EBADMSG;
	if (!front->secure)
		return step_plain(front, get_be32(in + 8), len - NBD_OPTION_HEAD_SIZE, answer, ret_answered, ret_next);
	return step_secure(front, in, len, answer, ret_answered, ret_next);
}

size_t nbd_front_refuse(const unsigned char *in, bool full, unsigned char answer[NBD_ANSWER_MAX])
{
	uint32_t option = get_be32(in + 8);
	if (option == OPT_EXPORT_NAME)
		return 0;
	if (full)
		return reply_text(answer, option, REP_ERR_POLICY, "as many clients as there may be are attached already");
	return reply_text(answer, option, REP_ERR_SHUTDOWN, "the disk is not to be had now: ask again");
}

// ---- towards the protection's own socket

static unsigned char *option_head(unsigned char *to, uint32_t option, size_t len)
{
	put_be64(to, OPTION_MAGIC);
	put_be32(to + 8, option);
	put_be32(to + 12, (uint32_t)len);
	return to + NBD_OPTION_HEAD_SIZE;
}

static unsigned char *put_string(unsigned char *to, const char *text)
{
	size_t len = strlen(text);
	put_be32(to, (uint32_t)len);
	memcpy(to + 4, text, len);
	return to + 4 + len;
}

size_t nbd_front_introduce(const struct nbd_front *front, unsigned char to[NBD_ANSWER_MAX], unsigned *ret_options)
{
	const char *disk = front->chosen.disk;
	unsigned char *at = to;
	*ret_options = 1;
	put_be32(at, 3); // fixed newstyle, no zeroes: both programs are ours
	at += 4;
	if (front->handshake.structured) {
		at = option_head(at, OPT_STRUCTURED_REPLY, 0);
		++*ret_options;
	}
	if (front->handshake.context) {
		at = option_head(at, OPT_SET_META_CONTEXT, 4 + strlen(disk) + 4 + 4 + strlen(context_name));
		at = put_string(at, disk);
		put_be32(at, 1);
		at = put_string(at + 4, context_name);
		++*ret_options;
	}
	at = option_head(at, OPT_GO, 4 + strlen(disk) + 2);
	at = put_string(at, disk);
	put_be16(at, 0); // no information asked for
	return (size_t)(at + 2 - to);
}
