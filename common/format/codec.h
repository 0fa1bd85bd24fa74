// SPDX-License-Identifier: Apache-2.0
// Compression of what travels, in the forms that qcow2 stores as they come.
//
// zstd: one frame without dictionary, window at most 64 KiB. zlib: a raw deflate stream (RFC 1951) with a window of
// 4 KiB, which is what QEMU inflates with. lz4: one LZ4 block; qcow2 has no such type, so the receiver unpacks it.
#ifndef KAGAMI_FORMAT_CODEC_H
#define KAGAMI_FORMAT_CODEC_H

#include <stdbool.h>
#include <stddef.h>

enum codec { CODEC_NONE = 0, CODEC_ZSTD = 1, CODEC_ZLIB = 2, CODEC_LZ4 = 3 };

enum { CODEC_LEVEL = 1, CODEC_LEVEL_MIN = -7, CODEC_LEVEL_MAX = 9 }; // of zstd; the others have one

const char *codec_name(enum codec codec);
bool codec_read(const char *name, enum codec *ret_codec);
bool codec_known(unsigned number);

// A compressor's state; one per thread, any codec. NULL when out of memory.
struct codec_context *codec_new(void);
void codec_free(struct codec_context *context); // takes NULL

// Packs `len` bytes into at most `cap`. Returns the packed length, or 0 when it does not fit or CODEC_NONE was asked:
// then the caller sends the bytes plain. Pass a `cap` below `len` to take only what is worth it.
size_t codec_pack(struct codec_context *context, enum codec codec, const void *from, size_t len, void *to, size_t cap);
// The same at a level of the codec's: lower is faster, higher is smaller. Whatever it was, it is unpacked alike.
size_t codec_pack_level(struct codec_context *context, enum codec codec, int level, const void *from, size_t len, void *to, size_t cap);

// Unpacks into exactly `len` bytes: one frame, nothing before, between or behind. -EBADMSG for anything else;
// never writes past `to + len`, never takes memory that the input names. The input is not trusted.
int codec_unpack(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *to, size_t len);
// As codec_unpack, for a stream that lies in a larger area (a compressed cluster is padded to sectors): bytes may follow.
int codec_unpack_padded(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *to,
			size_t len);

// How long the stream is that begins such an area, for a caller that copies it as it is: of zstd its frames are walked, of zlib it is
// unpacked into `scratch`, `len` bytes. -EBADMSG when it is damaged as far as that shows, or of another codec.
int codec_stream_length(struct codec_context *context, enum codec codec, const void *from, size_t from_len, void *scratch, size_t len,
			size_t *ret_len);

#endif
