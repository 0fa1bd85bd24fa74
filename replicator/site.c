// SPDX-License-Identifier: Apache-2.0
#include "replicator/site.h"

#include "base/auto.h"
#include "link/channel.h"
#include "link/control.h"
#include "link/token.h"
#include "replicator/greet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SITE_FILE_MAX = 8192, SITE_PATH_SIZE = 96 };

static int pair_over(struct channel *channel, const struct token *token, const struct pin *own, const char *own_name,
		     struct err *err)
{
	struct wire_hello hello;
	int rc = greet(channel, &hello, err);
	if (rc)
		return rc;
	struct wire_pair proof = {.name = ""};
	token_id(token->secret, proof.token_id);
	token_proof(token->secret, false, own, &token->receiver, proof.mac);
	(void)snprintf(proof.name, sizeof(proof.name), "%s", own_name);
	void *to = channel_room(channel, WIRE_FRAME_MAX);
	if (!to || channel_put(channel, wire_put_pair(to, WIRE_FRAME_MAX, WIRE_PAIR, &proof)))
		return err_set(err, -ECONNRESET, "the connection broke");
	rc = channel_flush(channel, err);
	struct wire_frame frame;
	struct wire_failure failure;
	if (rc == 0)
		rc = channel_expect(channel, WIRE_PAIRED, CHANNEL_STALL_MS, &frame, &failure, err);
	if (rc)
		return rc;
	struct wire_pair answer;
	unsigned char expected[WIRE_MAC_SIZE];
	token_proof(token->secret, true, own, &token->receiver, expected);
	if (wire_get_pair(&frame, &answer) || CRYPTO_memcmp(answer.mac, expected, sizeof(expected)) != 0)
		return err_set(err, -EKEYREJECTED, "the receiver does not know the token: nothing was paired");
	return 0;
}

int site_pair(const struct identity *identity, const char *own_name, const char *name, const char *token_text,
	      const char *address, struct site *ret_site, struct err *err)
{
	struct token token;
	int rc = token_read(token_text, &token, err);
	if (rc)
		return rc;
	if (address && (rc = net_check(address, err)))
		return rc;
	if (address)
		(void)snprintf(token.address, sizeof(token.address), "%s", address);
	SSL_CTX *context = identity_context(identity, false, err);
	if (!context)
		return -EIO;
	struct channel *channel = NULL;
	rc = channel_connect(context, token.address, &token.receiver, &channel, err);
	if (rc == 0)
		rc = pair_over(channel, &token, identity_pin(identity), own_name, err);
	channel_close(channel);
	SSL_CTX_free(context);
	if (rc)
		return rc;
	struct site site = {.pin = token.receiver};
	(void)snprintf(site.name, sizeof(site.name), "%s", name);
	(void)snprintf(site.address, sizeof(site.address), "%s", token.address);
	*ret_site = site;
	return 0;
}

static void site_path(const char *name, char path[SITE_PATH_SIZE])
{
	(void)snprintf(path, SITE_PATH_SIZE, "sites/%s.json", name);
}

int site_save(struct env_root *state, const struct site *site, struct err *err)
{
	char path[SITE_PATH_SIZE], pin[PIN_TEXT_SIZE];
	site_path(site->name, path);
	pin_format(&site->pin, pin);
	json_t *json = json_pack("{s:i, s:s, s:s}", "version", 1, "address", site->address, "pin", pin);
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	int rc = text ? env_mkdir(state, "sites") : -ENOMEM;
	if (rc == 0 || rc == -EEXIST)
		rc = env_sync_dir(state, ".");
	if (rc == 0)
		rc = env_replace(state, "sites", path, text, strlen(text));
	return rc ? err_sys(err, rc, "write the site %s", site->name) : 0;
}

int site_keep(struct env_root *state, const struct site *site, struct err *err)
{
	char path[SITE_PATH_SIZE];
	struct env_stat st;
	site_path(site->name, path);
	int rc = env_stat(state, path, &st);
	if (rc != -ENOENT && rc != -ENOTDIR)
		return 0;
	rc = site_save(state, site, err);
	return rc ? rc : 1;
}

static int site_decode(const char *text, size_t len, struct site *site, struct err *err)
{
	json_error_t where;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	if (!json_is_object(json)) {
		json_decref(json);
		return err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	}
	uint64_t version = 0;
	const char *address = NULL, *pin = NULL;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"address", true, .text = &address, .most = NET_ADDRESS_SIZE - 1},
		{"pin", true, .text = &pin},
	};
	int rc = control_read_file(json, members, sizeof(members) / sizeof(members[0]), err);
	if (rc == 0 && !pin_read(pin, &site->pin))
		rc = err_set(err, -EBADMSG, "pin: not a SHA-256 in hex");
	if (rc == 0)
		(void)snprintf(site->address, sizeof(site->address), "%s", address);
	json_decref(json);
	return rc;
}

int site_load(struct env_root *state, const char *name, struct site *ret_site, struct err *err)
{
	char path[SITE_PATH_SIZE];
	if (!name_ok(name))
		return err_set(err, -EINVAL, "\"%s\" is not a site: " NAME_RULE, name);
	site_path(name, path);
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(state, path, SITE_FILE_MAX, &text, &len);
	if (rc == -ENOENT)
		return err_set(err, rc,
			       "there is no site \"%s\": pair with it first (`kagami pair-token` on the target host, then `kagami "
			       "pair %s TOKEN` here)",
			       name, name);
	if (rc)
		return err_sys(err, rc, "read the site %s", name);
	struct site site = {.name = ""};
	rc = site_decode(text, len, &site, err);
	if (rc)
		return err_wrap(err, "site %s (pair with it anew to replace its file)", name);
	(void)snprintf(site.name, sizeof(site.name), "%s", name);
	*ret_site = site;
	return 0;
}

int site_free_for(struct env_root *state, const char *name, const struct pin *pin, struct site *ret_site, struct err *err)
{
	struct err why = {0};
	int rc = site_load(state, name, ret_site, &why);
	if (rc == -ENOENT || rc == -EBADMSG || rc == -EINVAL) // damaged: a pairing is what makes it good
		return 0;
	if (rc)
		return err_set(err, rc, "%s", why.text);
	return pin_equal(&ret_site->pin, pin) ? 0 : err_set(err, -EEXIST, "the site %s is another receiver, at %s", name, ret_site->address);
}

int site_list(struct env_root *state, char ***ret_names, size_t *ret_count)
{
	int rc = env_list(state, "sites", ret_names, ret_count);
	if (rc == -ENOENT) {
		*ret_names = NULL;
		*ret_count = 0;
		return 0;
	}
	size_t kept = 0;
	for (size_t i = 0; rc == 0 && i < *ret_count; i++) {
		char *name = (*ret_names)[i], *dot = strrchr(name, '.');
		if (dot && strcmp(dot, ".json") == 0) {
			*dot = 0;
			(*ret_names)[kept++] = name;
		} else {
			free(name);
		}
	}
	if (rc == 0)
		*ret_count = kept;
	return rc;
}
