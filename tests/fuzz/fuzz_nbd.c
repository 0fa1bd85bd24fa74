// SPDX-License-Identifier: Apache-2.0
// Any bytes as an NBD client's side of a connection: the handshake, then requests.
#include "replicator/nbd.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static const struct nbd_export exports[] = {
	{.name = "vda", .size = 1 << 20},
	{.name = "vdb", .size = 4096, .read_only = true},
};

// Steps over one item; false when the connection would end or wait for more.
static bool step_option(struct nbd_handshake *h, const unsigned char **data, size_t *size)
{
	static unsigned char answer[NBD_ANSWER_MAX];
	size_t need, answered = 0;
	if (nbd_handshake_need(h, *data, *size, &need) || need > *size)
		return false;
	unsigned char *exact = malloc(need); // so that a read past the item is seen
	assert(exact);
	memcpy(exact, *data, need);
	int code = nbd_handshake_step(h, exact, need, answer, &answered);
	assert(answered <= NBD_ANSWER_MAX);
	free(exact);
	*data += need;
	*size -= need;
	return code == 0 && h->state != NBD_CLOSING;
}

static bool step_request(const struct nbd_handshake *h, const unsigned char **data, size_t *size)
{
	struct nbd_request request;
	unsigned char head[NBD_REPLY_HEAD_MAX];
	if (*size < NBD_REQUEST_SIZE || nbd_request_decode(*data, &request))
		return false;
	int code = nbd_request_check(&request, h);
	if (code == 0 && request.command != NBD_FLUSH)
		assert(request.len && size_within(request.off, request.len, exports[h->chosen].size));
	assert(nbd_reply_error(head, &request, h->structured, code) <= sizeof(head));
	assert(nbd_reply_data(head, &request, h->structured) <= sizeof(head));
	*data += NBD_REQUEST_SIZE;
	*size -= NBD_REQUEST_SIZE;
	return true;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct nbd_handshake h;
	nbd_handshake_init(&h, exports, 2);
	bool on = true;
	while (on && h.state != NBD_TRANSMISSION)
		on = step_option(&h, &data, &size);
	while (on)
		on = step_request(&h, &data, &size);
	return 0;
}
