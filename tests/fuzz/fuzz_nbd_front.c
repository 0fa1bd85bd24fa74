// SPDX-License-Identifier: Apache-2.0
// Any bytes as an NBD client's side of a connection over TCP: in the clear, then inside TLS, up to a disk.
#include "replicator/nbd_front.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static bool export_at(void *context, unsigned n, struct nbd_front_export *ret_export)
{
	(void)context;
	*ret_export = (struct nbd_front_export){.size = 4096 * (n + 1), .read_only = n == 1};
	(void)snprintf(ret_export->protection, NAME_SIZE, "vm%u", n / 2);
	(void)snprintf(ret_export->disk, NAME_SIZE, "vd%c", 'a' + (int)n % 2);
	return n < 3;
}

static const struct nbd_front_exports exports = {.at = export_at};

static void check_list(const struct nbd_front *front, unsigned char *answer)
{
	bool last = false;
	for (unsigned n = 0; !last; n++) {
		assert(n <= 3);
		assert(nbd_front_list_item(front, n, answer, &last) <= NBD_ANSWER_MAX);
	}
}

// No disk is reached but inside of TLS, and then it is the one that is named.
static void check_attach(const struct nbd_front *front, unsigned char *answer)
{
	unsigned options = 0;
	assert(front->secure && front->handshake.state == NBD_TRANSMISSION);
	assert(front->chosen.size == front->named.size && front->chosen.read_only == front->named.read_only);
	assert(nbd_front_introduce(front, answer, &options) <= NBD_ANSWER_MAX);
	assert(options >= 1 && options <= 3);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static unsigned char answer[NBD_ANSWER_MAX];
	struct nbd_front front;
	enum nbd_front_next next = NBD_FRONT_ON;
	nbd_front_init(&front, &exports);
	while (next != NBD_FRONT_CLOSE && next != NBD_FRONT_ATTACH) {
		size_t need, answered = 0;
		uint32_t skip = 0;
		if (nbd_front_too_big(&front, data, size, answer, &answered, &skip)) {
			assert(front.secure && answered <= NBD_ANSWER_MAX && skip <= NBD_OPTION_SKIP_MAX);
			if (size - NBD_OPTION_HEAD_SIZE < skip)
				return 0;
			data += NBD_OPTION_HEAD_SIZE + skip;
			size -= NBD_OPTION_HEAD_SIZE + skip;
			continue;
		}
		if (nbd_front_need(&front, data, size, &need) || need > size)
			return 0;
		unsigned char *exact = malloc(need); // so that a read past the option is seen
		assert(exact);
		memcpy(exact, data, need);
		int code = nbd_front_step(&front, exact, need, answer, &answered, &next);
		free(exact);
		assert(answered <= NBD_ANSWER_MAX);
		if (code)
			return 0;
		data += need;
		size -= need;
		if (next == NBD_FRONT_START_TLS)
			nbd_front_secured(&front);
		if (next == NBD_FRONT_LIST)
			check_list(&front, answer);
	}
	if (next == NBD_FRONT_ATTACH)
		check_attach(&front, answer);
	return 0;
}
