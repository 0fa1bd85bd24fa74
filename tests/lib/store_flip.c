// SPDX-License-Identifier: Apache-2.0
#include "tests/lib/store_flip.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { NAME_MOST = 320, L1_AT = 40, HOST_MASK_BITS = 54 };
#define PLAIN_MASK UINT64_C(0x00fffffffffffe00)

void store_flip_at(struct store_twin *t, const char *rest, uint64_t off)
{
	char name[NAME_MOST];
	struct env_file *file = NULL;
	unsigned char byte;
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	assert_int_equal(env_open(t->temp.root, name, ENV_WRITE, &file), 0);
	assert_int_equal(env_pread_full(file, &byte, 1, off), 0);
	byte ^= 0x40;
	assert_int_equal(env_pwrite(file, &byte, 1, off), 0);
	env_close(file);
}

static uint64_t be64_at(struct env_file *file, uint64_t off)
{
	unsigned char bytes[8];
	assert_int_equal(env_pread_full(file, bytes, 8, off), 0);
	return get_be64(bytes);
}

void store_flip_block(struct store_twin *t, uint64_t point, unsigned disk, uint64_t index)
{
	char rest[NAME_MOST - 8], name[NAME_MOST];
	struct env_file *file = NULL;
	(void)snprintf(rest, sizeof(rest), "points/%llu/%s.qcow2", (unsigned long long)point, t->open.disk[disk].name);
	(void)snprintf(name, sizeof(name), "vm1/%s", rest);
	assert_int_equal(env_open(t->temp.root, name, ENV_READ, &file), 0);
	uint64_t at = (be64_at(file, be64_at(file, L1_AT)) & PLAIN_MASK) + index * 16;
	uint64_t where = be64_at(file, at), bits = be64_at(file, at + 8);
	env_close(file);
	assert_true(where != 0);
	if (where >> 62 & 1)
		store_flip_at(t, rest, (where & ((UINT64_C(1) << HOST_MASK_BITS) - 1)) + 20);
	else
		store_flip_at(t, rest, (where & PLAIN_MASK) + (uint64_t)__builtin_ctz((uint32_t)bits) * 2048 + 100);
}
