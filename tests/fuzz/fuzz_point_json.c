// SPDX-License-Identifier: Apache-2.0
// The decoders of what the store keeps: protection.json, point.json, scrub.json, lists and tables of digests. The first byte says which. For JSON the
// check is put right first, so that what lies behind it is reached; for sectors, their CRC.
#include "base/auto.h"
#include "receiver/digest_sector.h"
#include "receiver/json_file.h"
#include "receiver/point_file.h"
#include "receiver/scrub_file.h"
#include "tests/sim/env_sim.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const struct digest_disk disk = {.kind = DIGEST_XXH3, .number = 0, .size = 100 * BLOCK_SIZE};

// Gives an object that parses the frame of `format`.
static char *json_reframed(const uint8_t *data, size_t len, const char *format, size_t *ret_len)
{
	char *text = NULL;
	AUTO_JSON json_t *object = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(object) || json_file_encode(object, format, 1, &text, ret_len))
		return NULL;
	return text;
}

static void fuzz_json(const uint8_t *data, size_t len, bool point)
{
	struct protection protection = {.disk_count = 1, .disk = {{.name = "vda", .size = 100 * BLOCK_SIZE}}};
	struct point_file p;
	size_t text_len = 0, again_len = 0;
	AUTO_FREE char *again = NULL;
	AUTO_FREE char *text = json_reframed(data, len, point ? "kagami-point" : "kagami-protection", &text_len);
	const char *from = text ? text : (const char *)data;
	size_t from_len = text ? text_len : len;
	int rc;
	if (point) {
		rc = point_decode(from, from_len, &protection, &p, NULL);
		if (rc == 0 && (point_encode(&p, &protection, &again, &again_len) ||
				point_decode(again, again_len, &protection, &p, NULL)))
			__builtin_trap();
	} else {
		rc = protection_decode(from, from_len, &protection, NULL);
		if (rc == 0 && (protection_encode(&protection, &again, &again_len) ||
				protection_decode(again, again_len, &protection, NULL)))
			__builtin_trap();
	}
}

// What it reads is what it writes, and no disk or block is one that there cannot be.
static void fuzz_scrub(const uint8_t *data, size_t len)
{
	struct protection protection = {.disk_count = 1, .disk = {{.name = "vda", .size = 100 * BLOCK_SIZE}}};
	struct scrub_state state, same;
	size_t text_len = 0, again_len = 0;
	AUTO_FREE char *again = NULL;
	AUTO_FREE char *text = json_reframed(data, len, "kagami-scrub", &text_len);
	if (scrub_decode(text ? text : (const char *)data, text ? text_len : len, &protection, &state, NULL))
		return;
	if (state.pass.disk || state.damage.count > DAMAGE_MAX || scrub_encode(&state, &protection, &again, &again_len) ||
	    scrub_decode(again, again_len, &protection, &same, NULL) || same.damage.count != state.damage.count)
		__builtin_trap();
}

static int inside(void *context, uint64_t index, const struct digest *digest, struct err *err)
{
	(void)context;
	(void)digest;
	(void)err;
	if (index >= size_blocks(disk.size))
		__builtin_trap();
	return 0;
}

static int within(void *context, uint64_t first, uint64_t end, uint64_t missing, struct err *err)
{
	(void)context;
	(void)err;
	if (first >= end || end > size_blocks(disk.size) || missing == 0)
		__builtin_trap();
	return 0;
}

// What a survey found is what a load of just that accepts.
static void fuzz_survey(struct env_file *file)
{
	unsigned char found[DIGEST_ROOT_SIZE];
	uint64_t entries = 0;
	if (digest_list_survey(file, &disk, inside, NULL, &entries, found, NULL) == 0 && digest_list_load(file, &disk, entries, found, inside, NULL, NULL))
		__builtin_trap();
}

static void fuzz_digests(const uint8_t *data, size_t len, bool table)
{
	struct sim *sim = sim_new(1);
	static unsigned char image[16 * DIGEST_SECTOR];
	static const unsigned char root[DIGEST_ROOT_SIZE];
	struct env_root *at = NULL;
	struct env_file *file = NULL;
	uint64_t entries = len ? data[0] % 101 : 0;
	size_t size = (size_t)(table ? digest_table_length(disk.size) : digest_list_length(entries));
	struct digest_prelude prelude = {.kind = table ? DIGEST_TABLE : DIGEST_LIST, .disk = disk};
	prelude.entries = table ? size_blocks(disk.size) : entries;
	memset(image, 0, sizeof(image));
	digest_prelude_encode(image, &prelude);
	memcpy(image + DIGEST_SECTOR, data, len < size - DIGEST_SECTOR ? len : size - DIGEST_SECTOR);
	for (size_t sector = 1; sector < size / DIGEST_SECTOR; sector++) {
		unsigned char *s = image + sector * DIGEST_SECTOR;
		if (!(s[DIGEST_PAYLOAD] & 0x80)) // leave some as they are
			digest_sector_seal(s, sector, table ? DIGEST_TABLE_PER_SECTOR : s[DIGEST_PAYLOAD + 1] % 32);
	}
	if (env_root_open(sim_env(sim), "/", &at) || env_open(at, "f", ENV_CREATE, &file) || env_pwrite(file, image, size, 0))
		__builtin_trap();
	if (table)
		(void)digest_table_load(file, &disk, inside, NULL, NULL);
	else
		(void)digest_list_load(file, &disk, entries, root, inside, NULL, NULL);
	uint64_t first = len > 1 ? data[1] % 101 : 0;
	if (table)
		(void)digest_table_range(file, &disk, first, size_blocks(disk.size), inside, within, NULL, NULL);
	else
		(void)digest_list_range(file, &disk, entries, first, size_blocks(disk.size), inside, within, NULL, NULL);
	if (table)
		(void)digest_table_salvage(file, &disk, inside, within, NULL, NULL);
	else
		(void)digest_list_salvage(file, &disk, entries, root, inside, within, NULL, NULL);
	if (!table)
		fuzz_survey(file);
	env_close(file);
	env_root_close(at);
	sim_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	if (data[0] & 4)
		fuzz_scrub(data + 1, len - 1);
	else if (data[0] & 2)
		fuzz_digests(data + 1, len - 1, data[0] & 1);
	else
		fuzz_json(data + 1, len - 1, data[0] & 1);
	return 0;
}
