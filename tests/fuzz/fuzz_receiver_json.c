// SPDX-License-Identifier: Apache-2.0
// The JSON that the receiver keeps beside the store's own (fuzz_point_json.c): pins.json, test.json, failover.json, mount.json and peers.json. The first
// byte says which. Where there is a check, it is put right first, so that what lies behind it is reached.
#include "base/auto.h"
#include "base/names.h"
#include "receiver/failover.h"
#include "receiver/json_file.h"
#include "receiver/mount_session.h"
#include "receiver/pairing.h"
#include "receiver/replica.h"
#include "receiver/test_dir.h"
#include "tests/sim/env_sim.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { POINTS = 3 };

// A world with one file; what it holds is framed as `format` where it is an object, and as it is otherwise.
static void world_make(struct sim *sim, const char *dir, const char *path, const char *format, const uint8_t *data, size_t len,
		       struct env_root **ret_root)
{
	struct env_file *file = NULL;
	char at[64] = "";
	AUTO_FREE char *text = NULL;
	AUTO_JSON json_t *object = format ? json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (json_is_object(object) && json_file_encode(object, format, 1, &text, &len))
		text = NULL;
	if (env_root_open(sim_env(sim), "/", ret_root))
		__builtin_trap();
	for (const char *slash = dir; *dir && slash; slash = strchr(slash + 1, '/')) { // each directory on the way
		const char *end = strchr(slash + 1, '/');
		memcpy(at, dir, end ? (size_t)(end - dir) : strlen(dir) + 1);
		if (end)
			at[end - dir] = 0;
		if (env_mkdir(*ret_root, at))
			__builtin_trap();
	}
	if (env_open(*ret_root, path, ENV_CREATE, &file) || (len && env_pwrite(file, text ? text : (const char *)data, len, 0)))
		__builtin_trap();
	env_close(file);
}

// A pin is of a point that is there, its text ends; and what was read can be written, and read again.
static void fuzz_pins(struct sim *sim, const uint8_t *data, size_t len)
{
	struct env_root *root = NULL;
	world_make(sim, "vm1", "vm1/pins.json", "kagami-pins", data, len, &root);
	struct replica *r = replica_new(root, "/", "vm1");
	r->points = calloc(POINTS, sizeof(*r->points));
	r->point_count = POINTS;
	for (unsigned i = 0; i < POINTS; i++)
		r->points[i].number = i * 2 + 1;
	if (pins_load(r, NULL) == 0) {
		struct point_info was[POINTS];
		memcpy(was, r->points, sizeof(was));
		for (unsigned i = 0; i < POINTS; i++)
			if (strnlen(was[i].pin_text, POINT_PIN_SIZE) == POINT_PIN_SIZE)
				__builtin_trap();
		if (replica_unpin(r, 1, NULL) == 0) { // writes all of them
			for (unsigned i = 0; i < POINTS; i++)
				r->points[i].pinned = false;
			if (pins_load(r, NULL))
				__builtin_trap();
			for (unsigned i = 1; i < POINTS; i++)
				if (r->points[i].pinned != was[i].pinned ||
				    (was[i].pinned && strcmp(r->points[i].pin_text, was[i].pin_text) != 0))
					__builtin_trap();
		}
	}
	replica_free(r);
	env_root_close(root);
}

static void fuzz_test(struct sim *sim, const uint8_t *data, size_t len)
{
	static struct test_info test;
	struct env_root *root = NULL;
	world_make(sim, "vm1/tests/fire", "vm1/tests/fire/test.json", "kagami-test", data, len, &root);
	if (test_dir_load(root, "vm1", "fire", &test, NULL) == 0) {
		if (test.point == 0 || test.disk_count == 0 || test.disk_count > DISKS_MAX || strcmp(test.name, "fire") != 0)
			__builtin_trap();
		for (unsigned i = 0; i < test.disk_count; i++) // they become parts of paths
			if (!name_ok(test.disk[i]))
				__builtin_trap();
	}
	env_root_close(root);
}

static void fuzz_failover(const uint8_t *data, size_t len)
{
	static struct failover_info failover;
	AUTO_FREE char *text = NULL;
	AUTO_JSON json_t *object = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(object) && json_file_encode(object, "kagami-failover", 1, &text, &len))
		text = NULL;
	if (failover_decode(text ? text : (const char *)data, len, &failover, NULL))
		return;
	if (failover.point == 0 || failover.disk_count == 0 || failover.disk_count > DISKS_MAX || !name_ok(failover.name))
		__builtin_trap();
	for (unsigned i = 0; i < failover.disk_count; i++)
		if (!name_ok(failover.disk[i]))
			__builtin_trap();
}

static void fuzz_mount(struct sim *sim, const uint8_t *data, size_t len)
{
	static struct mount_session session;
	struct env_root *root = NULL;
	uint64_t point = 0;
	world_make(sim, "vm1/tests/mount-1", "vm1/tests/mount-1/mount.json", NULL, data, len, &root);
	if (mount_session_found(&session, "/", "vm1", "mount-1", NULL))
		__builtin_trap();
	if (mount_session_point(&session, root, &point) == 0 && (point == 0 || point > INT64_MAX))
		__builtin_trap();
	env_root_close(root);
}

static void fuzz_peers(struct sim *sim, const uint8_t *data, size_t len)
{
	static const struct pin own;
	struct pairing *pairing = NULL;
	struct env_root *root = NULL;
	world_make(sim, "", "peers.json", NULL, data, len, &root);
	if (pairing_open(root, &own, &pairing, NULL) == 0) {
		json_decref(pairing_json(pairing));
		(void)pairing_known(pairing, &own);
		pairing_close(pairing);
	}
	env_root_close(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len < 1)
		return 0;
	struct sim *sim = sim_new(1);
	switch (data[0] % 5) {
	case 0: fuzz_pins(sim, data + 1, len - 1); break;
	case 1: fuzz_test(sim, data + 1, len - 1); break;
	case 2: fuzz_failover(data + 1, len - 1); break;
	case 3: fuzz_mount(sim, data + 1, len - 1); break;
	case 4: fuzz_peers(sim, data + 1, len - 1); break;
	}
	sim_free(sim);
	return 0;
}
