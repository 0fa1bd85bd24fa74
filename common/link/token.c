// SPDX-License-Identifier: Apache-2.0
#include "link/token.h"

#include "base/crc32c.h"
#include "base/cursor.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

#define TOKEN_PREFIX "kgm1-"
enum { TOKEN_RAW_MAX = 360, TOKEN_CRC_SIZE = 4 };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; // RFC 4648, 5

static void base64_write(const unsigned char *raw, size_t len, char *text)
{
	uint32_t bits = 0;
	unsigned held = 0;
	for (size_t i = 0; i < len; i++) {
		bits = bits << 8 | raw[i];
		for (held += 8; held >= 6; held -= 6)
			*text++ = alphabet[bits >> (held - 6) & 63];
	}
	if (held)
		*text++ = alphabet[bits << (6 - held) & 63];
	*text = 0;
}

// The number of bytes read, or -1 for what base64_write() does not write: bits left over must be few and zero, so that
// no two texts are one token.
static int base64_read(const char *text, unsigned char *raw, size_t cap)
{
	uint32_t bits = 0;
	unsigned held = 0;
	size_t len = 0;
	for (; *text; text++) {
		const char *at = strchr(alphabet, *text);
		if (!at)
			return -1;
		bits = bits << 6 | (uint32_t)(at - alphabet);
		held += 6;
		if (held >= 8) {
			if (len == cap)
				return -1;
			held -= 8;
			raw[len++] = (unsigned char)(bits >> held);
		}
	}
	return held < 6 && (bits & ((1u << held) - 1)) == 0 ? (int)len : -1;
}

int token_format(const struct token *token, char text[TOKEN_TEXT_SIZE])
{
	unsigned char raw[TOKEN_RAW_MAX];
	struct cursor c = cursor_over(raw, sizeof(raw));
	cursor_put_bytes(&c, token->receiver.bytes, PIN_SIZE);
	cursor_put_bytes(&c, token->secret, TOKEN_SECRET_SIZE);
	cursor_put_string(&c, token->address);
	cursor_put_u32(&c, cursor_ok(&c) ? crc32c(raw, (size_t)(c.at - raw)) : 0);
	if (!cursor_ok(&c))
		return -EINVAL;
	memcpy(text, TOKEN_PREFIX, strlen(TOKEN_PREFIX));
	base64_write(raw, (size_t)(c.at - raw), text + strlen(TOKEN_PREFIX));
	return 0;
}

int token_read(const char *text, struct token *ret_token, struct err *err)
{
	unsigned char raw[TOKEN_RAW_MAX];
	int len = strncmp(text, TOKEN_PREFIX, strlen(TOKEN_PREFIX)) == 0 && strlen(text) < TOKEN_TEXT_SIZE
			  ? base64_read(text + strlen(TOKEN_PREFIX), raw, sizeof(raw))
			  : -1;
	struct cursor c = cursor_over(raw, len > 0 ? (size_t)len : 0);
	cursor_get_bytes(&c, ret_token->receiver.bytes, PIN_SIZE);
	cursor_get_bytes(&c, ret_token->secret, TOKEN_SECRET_SIZE);
	cursor_get_string(&c, ret_token->address, sizeof(ret_token->address));
	uint32_t crc = cursor_get_u32(&c);
	if (!cursor_done(&c) || crc != crc32c(raw, (size_t)len - TOKEN_CRC_SIZE) || net_check(ret_token->address, NULL))
		return err_set(err, -EBADMSG,
			       "that is not a pairing token: copy the whole line that `kagami pair-token` printed on the target");
	return 0;
}

void token_id(const unsigned char secret[TOKEN_SECRET_SIZE], unsigned char id[WIRE_TOKEN_ID_SIZE])
{
	static const char label[] = "kagami token id";
	unsigned char mac[EVP_MAX_MD_SIZE];
	(void)HMAC(EVP_sha256(), secret, TOKEN_SECRET_SIZE, (const unsigned char *)label, sizeof(label), mac, NULL);
	memcpy(id, mac, WIRE_TOKEN_ID_SIZE);
}

void token_proof(const unsigned char secret[TOKEN_SECRET_SIZE], bool by_receiver, const struct pin *source,
		 const struct pin *receiver, unsigned char mac[WIRE_MAC_SIZE])
{
	unsigned char text[32 + 2 * PIN_SIZE] = {0};
	(void)snprintf((char *)text, 32, "kagami pair %s", by_receiver ? "receiver" : "source");
	memcpy(text + 32, source->bytes, PIN_SIZE);
	memcpy(text + 32 + PIN_SIZE, receiver->bytes, PIN_SIZE);
	unsigned char whole[EVP_MAX_MD_SIZE];
	(void)HMAC(EVP_sha256(), secret, TOKEN_SECRET_SIZE, text, sizeof(text), whole, NULL);
	memcpy(mac, whole, WIRE_MAC_SIZE);
}
