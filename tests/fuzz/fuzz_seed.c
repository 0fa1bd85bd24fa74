// SPDX-License-Identifier: Apache-2.0
// What a seed is judged by: the header of a qcow2 file, and seed.json. The first byte says which; the check of the JSON is put right first.
#include "base/auto.h"
#include "base/size.h"
#include "receiver/json_file.h"
#include "receiver/seed.h"
#include "receiver/seed_file.h"
#include "tests/sim/env_sim.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void file_put(struct env_root *root, const char *name, const void *data, size_t len)
{
	struct env_file *file = NULL;
	if (env_open(root, name, ENV_CREATE, &file) || env_pwrite(file, data, len, 0))
		abort();
	env_close(file);
}

static void fuzz_json(const uint8_t *data, size_t len)
{
	AUTO_FREE char *text = NULL;
	size_t text_len = 0;
	struct seed seed;
	struct env_root *root = NULL;
	AUTO_JSON json_t *object = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(object) && json_file_encode(object, "kagami-seed", 1, &text, &text_len) == 0) {
		data = (const uint8_t *)text;
		len = text_len;
	}
	struct sim *sim = sim_new(1);
	if (env_root_open(sim_env(sim), "/", &root) || env_mkdir(root, ".seeds") || env_mkdir(root, ".seeds/vm1") || env_mkdir(root, ".seeds/vm1/vda"))
		abort();
	file_put(root, ".seeds/vm1/vda/raw", "x", 1);
	file_put(root, ".seeds/vm1/vda/seed.json", data, len);
	if (seed_load(root, "vm1", "vda", &seed, NULL) == 0 && (!name_ok(seed.name) || seed.size == 0 || seed.size > DISK_SIZE_MAX))
		__builtin_trap();
	env_root_close(root);
	sim_free(sim);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint64_t size = 0;
	if (len == 0)
		return 0;
	if (data[0] & 1)
		fuzz_json(data + 1, len - 1);
	else if (seed_qcow2_check(data + 1, len - 1, &size, NULL) == 0 && (size == 0 || size > DISK_SIZE_MAX))
		__builtin_trap();
	return 0;
}
