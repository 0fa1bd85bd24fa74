// SPDX-License-Identifier: Apache-2.0
// Any bytes as a payload: byte 0 says which codec and whether padding may follow, bytes 1 and 2 how long it should become. What is
// taken has exactly that length, and packs and unpacks to itself.
#include "base/bytes.h"
#include "base/size.h"
#include "format/codec.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void round_trip(struct codec_context *context, enum codec codec, const unsigned char *plain, size_t len)
{
	size_t cap = 2 * len + 512;
	unsigned char *packed = malloc(cap), *back = malloc(len + 1);
	assert(packed && back);
	size_t packed_len = codec_pack(context, codec, plain, len, packed, cap);
	assert((packed_len > 0) == (codec != CODEC_NONE));
	if (packed_len) {
		assert(codec_unpack(context, codec, packed, packed_len, back, len) == 0);
		assert(memcmp(back, plain, len) == 0);
	}
	free(packed);
	free(back);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static struct codec_context *context; // one for all: an input leaves nothing in it that the next one sees
	if (!context)
		context = codec_new();
	assert(context);
	if (size < 3)
		return 0;
	enum codec codec = (enum codec)(data[0] & 7);
	bool padded = data[0] & 8;
	size_t len = get_le16(data + 1) + (data[0] & 16 ? 1 : 0); // up to a block
	unsigned char *from = malloc(size - 3 ? size - 3 : 1),
		      *to = malloc(len ? len : 1); // exact, so that a step past is seen
	assert(from && to);
	memcpy(from, data + 3, size - 3);
	int rc = padded ? codec_unpack_padded(context, codec, from, size - 3, to, len)
			: codec_unpack(context, codec, from, size - 3, to, len);
	assert(rc == 0 || rc == -EBADMSG);
	if (rc == 0 && len)
		round_trip(context, codec, to, len);
	free(from);
	free(to);
	return 0;
}
