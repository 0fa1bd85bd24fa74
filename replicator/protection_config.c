// SPDX-License-Identifier: Apache-2.0
#include "replicator/protection_config.h"

#include "base/auto.h"
#include "link/control.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_FILE_MAX = 1 << 20, CONFIG_PATH_SIZE = NAME_SIZE + 40, SECRET_TEXT_SIZE = 2 * DIGEST_SECRET_SIZE + 1 };

void protection_dir(const char *name, char path[NAME_SIZE + 16])
{
	(void)snprintf(path, NAME_SIZE + 16, "protections/%s", name);
}

static void config_path(const char *name, char path[CONFIG_PATH_SIZE])
{
	(void)snprintf(path, CONFIG_PATH_SIZE, "protections/%s/protection.json", name);
}

static void secret_format(const unsigned char *secret, char *text)
{
	for (size_t i = 0; i < DIGEST_SECRET_SIZE; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", secret[i]);
}

static bool secret_read(const char *text, unsigned char *secret)
{
	long len = 0;
	unsigned char *bytes = OPENSSL_hexstr2buf(text, &len);
	bool ok = bytes && len == DIGEST_SECRET_SIZE;
	if (ok)
		memcpy(secret, bytes, DIGEST_SECRET_SIZE);
	OPENSSL_free(bytes);
	return ok;
}

const char *protection_codec_name(const struct protection_config *config)
{
	return config->codec_auto ? "auto" : codec_name(config->codec);
}

bool protection_codec_read(const char *name, struct protection_config *config)
{
	config->codec_auto = strcmp(name, "auto") == 0;
	return codec_read(config->codec_auto ? codec_name(CODEC_ZSTD) : name, &config->codec);
}

static json_t *config_encode(const struct protection_config *config)
{
	char uuid[UUID_TEXT_SIZE], generation[UUID_TEXT_SIZE], secret[SECRET_TEXT_SIZE];
	uuid_format(&config->uuid, uuid);
	uuid_format(&config->generation, generation);
	secret_format(config->digest.secret, secret);
	json_t *disks = json_array();
	for (unsigned i = 0; i < config->disk_count; i++)
		if (json_array_append_new(
			    disks, json_pack("{s:s, s:s, s:b}", "name", config->disk[i].name, "path", config->disk[i].path,
					     "read_only", (int)config->disk[i].read_only))) {
			json_decref(disks);
			return NULL; // a path that is not UTF-8 cannot be written down, and a disk must not go missing
		}
	json_t *json = json_pack("{s:i, s:s, s:s, s:s, s:s, s:I, s:i, s:s, s:s, s:s, s:b, s:o}", "version", 1, "name", config->name, "uuid",
			 uuid, "generation", generation, "site", config->site, "rpo_ms", (json_int_t)config->rpo_ms,
			 "points", (int)config->points_keep, "codec", protection_codec_name(config), "digest", digest_kind_name(config->digest.kind), "digest_secret", secret,
			 "paused", (int)config->paused, "disks", disks);
	if (json && config->seed_since_wall_ns)
		(void)json_object_set_new(json, "seed_since_ns", json_integer((json_int_t)config->seed_since_wall_ns));
	if (json && config->compare)
		(void)json_object_set_new(json, "compare", json_true());
	if (json)
		settings_encode(&config->settings, json);
	return json;
}

int protection_config_save(struct env_root *state, const struct protection_config *config, struct err *err)
{
	char dir[NAME_SIZE + 16], path[CONFIG_PATH_SIZE];
	protection_dir(config->name, dir);
	config_path(config->name, path);
	json_t *json = config_encode(config);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	int rc = text ? env_replace(state, dir, path, text, strlen(text)) : -EILSEQ;
	if (rc == 0)
		rc = env_sync_dir(state, "protections");
	if (rc == 0)
		rc = env_sync_dir(state, ".");
	return rc ? err_sys(err, rc, "write the configuration of %s", config->name) : 0;
}

static int disks_decode(json_t *disks, struct protection_config *config, struct err *err)
{
	config->disk_count = (uint16_t)json_array_size(disks);
	for (unsigned i = 0; i < config->disk_count; i++) {
		const char *name = NULL, *path = NULL;
		const struct control_member members[] = {
			{"name", true, .text = &name, .is_name = true},
			{"path", true, .text = &path, .least = 1, .most = PATH_MAX - 1},
			{"read_only", .flag = &config->disk[i].read_only},
		};
		int rc = control_read_file(json_array_get(disks, i), members, 3, err);
		for (unsigned other = 0; other < i && rc == 0; other++)
			if (strcmp(config->disk[other].name, name) == 0) // they would share a state file
				rc = err_set(err, -EBADMSG, "\"%s\" is there twice", name);
		if (rc == 0 && path[0] != '/') // it would be another image wherever the daemon was started in
			rc = err_set(err, -EBADMSG, "\"%.300s\" is not an absolute path", path);
		if (rc)
			return err_wrap(err, "disk %u", i);
		(void)snprintf(config->disk[i].name, sizeof(config->disk[i].name), "%s", name);
		(void)snprintf(config->disk[i].path, sizeof(config->disk[i].path), "%s", path);
	}
	return 0;
}

// Where it is not what it was saved as, the member is named.
static int identity_decode(const char *uuid, const char *generation, const char *secret, struct protection_config *config, struct err *err)
{
	if (!uuid_read(uuid, &config->uuid))
		return err_set(err, -EBADMSG, "\"uuid\": \"%.80s\" is not a UUID", uuid);
	if (!uuid_read(generation, &config->generation))
		return err_set(err, -EBADMSG, "\"generation\": \"%.80s\" is not a UUID", generation);
	if (!secret_read(secret, config->digest.secret))
		return err_set(err, -EBADMSG, "\"digest_secret\" is not %d bytes in hex", DIGEST_SECRET_SIZE);
	return 0;
}

static int kinds_decode(const char *codec, const char *digest, struct protection_config *config, struct err *err)
{
	if (!protection_codec_read(codec, config))
		return err_set(err, -EBADMSG, "\"codec\": \"%.80s\" is none of zstd, auto, zlib, lz4 and none", codec);
	if (!digest_kind_read(digest, &config->digest.kind))
		return err_set(err, -EBADMSG, "\"digest\": \"%.80s\" is neither xxh3 nor blake2b", digest);
	return 0;
}

static int config_decode(json_t *json, struct protection_config *config, struct err *err)
{
	const char *name = NULL, *uuid = NULL, *generation = NULL, *site = NULL, *codec = NULL, *secret = NULL;
	const char *digest = "xxh3"; // what the first versions had, and did not write down
	uint64_t version = 0, points = 0, seed_since_ns = 0;
	json_t *disks = NULL;
	struct protection_settings *settings = &config->settings;
	struct settings_text text = {.priority = NULL}; // what the first versions did not have
	settings->objective_ppm = OBJECTIVE_PPM_DEFAULT;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"name", true, .text = &name, .is_name = true},
		{"uuid", true, .text = &uuid},
		{"generation", true, .text = &generation},
		{"site", true, .text = &site, .is_name = true},
		{"rpo_ms", true, .number = &config->rpo_ms, .least = RPO_MS_MIN, .most = RPO_MS_MAX},
		{"points", true, .number = &points, .least = 1, .most = POINTS_KEEP_MAX},
		{"codec", true, .text = &codec},
		{"digest", .text = &digest},
		{"digest_secret", true, .text = &secret},
		{"paused", true, .flag = &config->paused},
		{"compare", .flag = &config->compare},
		{"seed_since_ns", .number = &seed_since_ns, .most = INT64_MAX},
		{"priority", .text = &text.priority},
		{"objective_ppm", .number = &settings->objective_ppm, .least = OBJECTIVE_PPM_MIN, .most = OBJECTIVE_PPM_MAX},
		{"offpeak", .text = &text.offpeak, .least = 1},
		{"bandwidth", .array = &text.bandwidth, .most = BANDWIDTH_RULES_MAX},
		{"disks", true, .array = &disks, .least = 1, .most = DISKS_MAX},
	};
	int rc = control_read_file(json, members, sizeof(members) / sizeof(members[0]), err);
	if (rc == 0 && strcmp(name, config->name) != 0)
		rc = err_set(err, -EBADMSG, "\"name\" is %s, and the directory that it lies in is %s's", name, config->name);
	if (rc == 0)
		rc = identity_decode(uuid, generation, secret, config, err);
	if (rc == 0)
		rc = kinds_decode(codec, digest, config, err);
	if (rc)
		return rc;
	(void)snprintf(config->site, sizeof(config->site), "%s", site);
	config->points_keep = (uint32_t)points;
	config->seed_since_wall_ns = (int64_t)seed_since_ns;
	settings->rpo_ms = config->rpo_ms;
	rc = settings_read(&text, settings, err);
	if (rc)
		return rc;
	return disks_decode(disks, config, err);
}

int protection_config_load(struct env_root *state, const char *name, struct protection_config *ret_config, struct err *err)
{
	char path[CONFIG_PATH_SIZE];
	config_path(name, path);
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(state, path, CONFIG_FILE_MAX, &text, &len);
	if (rc)
		return err_sys(err, rc, "read %s", path);
	json_error_t where;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	memset(ret_config, 0, sizeof(*ret_config));
	(void)snprintf(ret_config->name, sizeof(ret_config->name), "%s", name);
	rc = json_is_object(json) ? config_decode(json, ret_config, err)
				  : err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	json_decref(json);
	return rc ? err_wrap(err, "%s", path) : 0;
}

// The configuration first, so that what a crash leaves is no protection any more. What is gone already was removed by a call that could not end it.
int protection_remove(struct env_root *state, const char *name, struct err *err)
{
	char dir[NAME_SIZE + 16], path[CONFIG_PATH_SIZE];
	protection_dir(name, dir);
	config_path(name, path);
	int rc = env_unlink(state, path);
	if (rc == 0 || rc == -ENOENT)
		rc = env_sync_dir(state, dir);
	if (rc == 0 || rc == -ENOENT)
		rc = env_remove_tree(state, dir);
	if (rc == 0)
		rc = env_sync_dir(state, "protections");
	return rc ? err_sys(err, rc, "remove the state of %s", name) : 0;
}
