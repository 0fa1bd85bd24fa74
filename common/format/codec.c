// SPDX-License-Identifier: Apache-2.0
#include "format/codec.h"

#include <errno.h>
#include <limits.h>
#include <lz4.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#define ZSTD_STATIC_LINKING_ONLY // for ZSTD_getFrameHeader
#include <zstd.h>

enum {
	ZSTD_WINDOW_LOG_MAX = 20, // what a peer's frame may ask for
	ZLIB_LEVEL = 1,
	ZLIB_WINDOW_BITS = -12, // raw deflate, 4 KiB: QEMU inflates clusters with this window
	ZLIB_MEMORY_LEVEL = 8,
};

struct codec_context {
	ZSTD_CCtx *zstd_pack;
	ZSTD_DCtx *zstd_unpack;
	z_stream deflate;
	z_stream inflate;
	bool deflate_ready;
	bool inflate_ready;
};

static const char *const names[] = {"none", "zstd", "zlib", "lz4"};

const char *codec_name(enum codec codec)
{
	return codec_known((unsigned)codec) ? names[codec] : "unknown";
}

bool codec_read(const char *name, enum codec *ret_codec)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0) {
			*ret_codec = (enum codec)i;
			return true;
		}
	return false;
}

bool codec_known(unsigned number)
{
	return number < sizeof(names) / sizeof(names[0]);
}

struct codec_context *codec_new(void)
{
	struct codec_context *context = calloc(1, sizeof(*context));
	if (!context)
		return NULL;
	context->zstd_pack = ZSTD_createCCtx();
	context->zstd_unpack = ZSTD_createDCtx();
	context->deflate_ready = deflateInit2(&context->deflate, ZLIB_LEVEL, Z_DEFLATED, ZLIB_WINDOW_BITS,
					      ZLIB_MEMORY_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
	context->inflate_ready = inflateInit2(&context->inflate, ZLIB_WINDOW_BITS) == Z_OK;
	if (!context->zstd_pack || !context->zstd_unpack || !context->deflate_ready || !context->inflate_ready) {
		codec_free(context);
		return NULL;
	}
	return context;
}

void codec_free(struct codec_context *context)
{
	if (!context)
		return;
	(void)ZSTD_freeCCtx(context->zstd_pack);
	(void)ZSTD_freeDCtx(context->zstd_unpack);
	if (context->deflate_ready)
		(void)deflateEnd(&context->deflate);
	if (context->inflate_ready)
		(void)inflateEnd(&context->inflate);
	free(context);
}

static size_t zlib_pack(z_stream *z, const void *from, size_t len, void *to, size_t cap)
{
	(void)deflateReset(z);
	z->next_in = (Bytef *)(uintptr_t)from;
	z->avail_in = (uInt)len;
	z->next_out = to;
	z->avail_out = (uInt)cap;
	return deflate(z, Z_FINISH) == Z_STREAM_END ? cap - z->avail_out : 0;
}

static int zlib_unpack(z_stream *z, const void *from, size_t from_len, void *to, size_t len, bool padded)
{
	(void)inflateReset(z);
	z->next_in = (Bytef *)(uintptr_t)from;
	z->avail_in = (uInt)from_len;
	z->next_out = to;
	z->avail_out = (uInt)len;
	if (inflate(z, Z_FINISH) != Z_STREAM_END || z->avail_out != 0)
		return -EBADMSG;
	return z->avail_in == 0 || padded ? 0 : -EBADMSG;
}

static size_t zstd_pack(ZSTD_CCtx *zstd, int level, const void *from, size_t len, void *to, size_t cap)
{
	size_t packed = ZSTD_compressCCtx(zstd, to, cap, from, len, level);
	return ZSTD_isError(packed) ? 0 : packed;
}

// The length of a frame that we would unpack, in front of at most `from_len` bytes.
static int zstd_frame(const void *from, size_t from_len, size_t *ret_len)
{
	ZSTD_frameHeader header;
	if (ZSTD_getFrameHeader(&header, from, from_len) != 0 || header.frameType != ZSTD_frame || header.dictID != 0 ||
	    header.windowSize > UINT64_C(1) << ZSTD_WINDOW_LOG_MAX)
		return -EBADMSG;
	*ret_len = ZSTD_findFrameCompressedSize(from, from_len);
	return ZSTD_isError(*ret_len) ? -EBADMSG : 0;
}

static int zstd_unpack(ZSTD_DCtx *zstd, const void *from, size_t from_len, void *to, size_t len, bool padded)
{
	size_t frame = 0;
	if (zstd_frame(from, from_len, &frame) || (frame != from_len && !padded))
		return -EBADMSG;
	size_t got = ZSTD_decompressDCtx(zstd, to, len, from, frame);
	return !ZSTD_isError(got) && got == len ? 0 : -EBADMSG;
}

size_t codec_pack_level(struct codec_context *context, enum codec codec, int level, const void *from, size_t len, void *to, size_t cap)
{
	if (len > INT_MAX || cap > INT_MAX)
		return 0;
	switch (codec) {
	case CODEC_ZSTD:
		return zstd_pack(context->zstd_pack, level, from, len, to, cap);
	case CODEC_ZLIB:
		return zlib_pack(&context->deflate, from, len, to, cap);
	case CODEC_LZ4:
		return (size_t)LZ4_compress_default(from, to, (int)len, (int)cap);
	case CODEC_NONE:
		break;
	}
	return 0;
}

size_t codec_pack(struct codec_context *context, enum codec codec, const void *from, size_t len, void *to, size_t cap)
{
	return codec_pack_level(context, codec, CODEC_LEVEL, from, len, to, cap);
}

static int unpack(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *to,
		  size_t len, bool padded)
{
	if (len > INT_MAX || from_len > INT_MAX)
		return -EBADMSG;
	switch (codec) {
	case CODEC_ZSTD:
		return zstd_unpack(context->zstd_unpack, from, from_len, to, len, padded);
	case CODEC_ZLIB:
		return zlib_unpack(&context->inflate, from, from_len, to, len, padded);
	case CODEC_LZ4:
		return !padded && LZ4_decompress_safe(from, to, (int)from_len, (int)len) == (int)len ? 0 : -EBADMSG;
	case CODEC_NONE:
		if (from_len < len || (from_len != len && !padded))
			return -EBADMSG;
		memcpy(to, from, len);
		return 0;
	}
	return -EBADMSG;
}

int codec_unpack(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *to, size_t len)
{
	return unpack(context, codec, from, from_len, to, len, false);
}

int codec_unpack_padded(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *to,
			size_t len)
{
	return unpack(context, codec, from, from_len, to, len, true);
}

int codec_stream_length(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *scratch, size_t len,
			size_t *ret_len)
{
	if (codec == CODEC_ZSTD)
		return zstd_frame(from, from_len, ret_len);
	if (codec != CODEC_ZLIB || unpack(context, codec, from, from_len, scratch, len, true))
		return -EBADMSG;
	*ret_len = from_len - context->inflate.avail_in;
	return 0;
}
