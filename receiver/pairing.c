// SPDX-License-Identifier: Apache-2.0
#include "receiver/pairing.h"

#include "base/auto.h"
#include "base/log.h"
#include "link/control.h"
#include "link/json.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

enum { PEERS_FILE_MAX = 4 << 20 };
#define PEERS_FILE "peers.json"
#define SECOND_NS UINT64_C(1000000000)

struct live_token {
	bool live;
	unsigned char secret[TOKEN_SECRET_SIZE];
	unsigned char id[WIRE_TOKEN_ID_SIZE];
	uint64_t expires_ns;
	unsigned tries;
};

struct peer {
	char name[NAME_SIZE];
	struct pin pin;
	int64_t paired_wall_ns;
};

struct pairing {
	struct env_root *state;
	struct pin own;
	pthread_mutex_t adding; // one peer at a time, taken before `lock`; held over the disk
	pthread_mutex_t lock;	// everything below; never held over the disk: every connection asks whether its peer is known
	struct live_token token[PAIRING_TOKENS_MAX];
	struct peer *peer;
	size_t peers;
};

static json_t *peers_json(const struct pairing *pairing, bool for_file)
{
	json_t *list = json_array();
	for (size_t i = 0; i < pairing->peers; i++) {
		const struct peer *peer = &pairing->peer[i];
		char pin[PIN_TEXT_SIZE];
		pin_format(&peer->pin, pin);
		(void)json_array_append_new(
			list, for_file ? json_pack("{s:s, s:s, s:I}", "name", peer->name, "pin", pin, "paired_ns",
						   (json_int_t)peer->paired_wall_ns)
				       : json_pack("{s:s, s:s, s:o}", "name", peer->name, "fingerprint", pin, "paired",
						   json_when(peer->paired_wall_ns)));
	}
	return list;
}

static int peers_save(const struct pairing *pairing, struct err *err)
{
	json_t *json = json_pack("{s:i, s:o}", "version", 1, "peers", peers_json(pairing, true));
	AUTO_FREE char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	json_decref(json);
	int rc = text ? env_replace(pairing->state, ".", PEERS_FILE, text, strlen(text)) : -ENOMEM;
	if (rc == -ENOSPC || rc == -EDQUOT)
		return err_sys(err, rc, "the file system of the receiver's state directory is full: free space there, and ask again; write the peers");
	return rc ? err_sys(err, rc, "write the peers") : 0;
}

// Where the peer with this key is, or would come.
static size_t peer_place(const struct pairing *pairing, const struct pin *pin)
{
	size_t at = 0;
	while (at < pairing->peers && !pin_equal(&pairing->peer[at].pin, pin))
		at++;
	return at;
}

// Adds the peer, or takes the place of the one with the same key.
static int peer_put(struct pairing *pairing, const char *name, const struct pin *pin, int64_t paired_wall_ns)
{
	size_t at = peer_place(pairing, pin);
	if (at == pairing->peers) {
		if (pairing->peers >= PAIRING_PEERS_MAX)
			return -ENOSPC;
		struct peer *more = realloc(pairing->peer, (pairing->peers + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		pairing->peer = more;
		pairing->peers++;
	}
	struct peer *peer = &pairing->peer[at];
	(void)snprintf(peer->name, sizeof(peer->name), "%s", name);
	peer->pin = *pin;
	peer->paired_wall_ns = paired_wall_ns;
	return 0;
}

static int peer_load(struct pairing *pairing, const json_t *json, struct err *err)
{
	const char *name = NULL, *text = NULL;
	uint64_t paired = 0;
	struct pin pin;
	const struct control_member members[] = {
		{"name", true, .text = &name, .is_name = true},
		{"pin", true, .text = &text},
		{"paired_ns", true, .number = &paired, .most = INT64_MAX},
	};
	int rc = control_read_file(json, members, 3, err);
	if (rc == 0 && !pin_read(text, &pin))
		rc = err_set(err, -EBADMSG, "pin: not a SHA-256 in hex");
	return rc ? rc : peer_put(pairing, name, &pin, (int64_t)paired);
}

static int peers_load(struct pairing *pairing, struct err *err)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int rc = env_read_file(pairing->state, PEERS_FILE, PEERS_FILE_MAX, &text, &len);
	if (rc)
		return rc == -ENOENT ? 0 : err_sys(err, rc, "read " PEERS_FILE);
	json_error_t where;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where), *list = NULL;
	uint64_t version = 0;
	const struct control_member members[] = {
		{"version", true, .number = &version, .least = 1, .most = 1},
		{"peers", true, .array = &list},
	};
	rc = json_is_object(json) ? control_read_file(json, members, 2, err)
				  : err_set(err, -EBADMSG, "not a JSON object (line %d: %s)", where.line, where.text);
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = peer_load(pairing, json_array_get(list, i), err);
	json_decref(json);
	return rc ? err_wrap(err, PEERS_FILE " (restore it, or remove it and pair every source anew)") : 0;
}

int pairing_open(struct env_root *state, const struct pin *own, struct pairing **ret_pairing, struct err *err)
{
	struct pairing *pairing = calloc(1, sizeof(*pairing));
	if (!pairing)
		return err_sys(err, -ENOMEM, "load the peers");
	pairing->state = state;
	pairing->own = *own;
	(void)pthread_mutex_init(&pairing->adding, NULL);
	(void)pthread_mutex_init(&pairing->lock, NULL);
	int rc = peers_load(pairing, err);
	if (rc) {
		pairing_close(pairing);
		return rc;
	}
	*ret_pairing = pairing;
	return 0;
}

void pairing_close(struct pairing *pairing)
{
	if (!pairing)
		return;
	OPENSSL_cleanse(pairing->token, sizeof(pairing->token));
	(void)pthread_mutex_destroy(&pairing->lock);
	(void)pthread_mutex_destroy(&pairing->adding);
	free(pairing->peer);
	free(pairing);
}

static void token_drop(struct live_token *token)
{
	OPENSSL_cleanse(token, sizeof(*token));
}

// A free place, or that of the token that would expire first. Expired ones are dropped on the way.
static struct live_token *token_place(struct pairing *pairing, uint64_t now_ns)
{
	struct live_token *place = &pairing->token[0];
	for (size_t i = 0; i < PAIRING_TOKENS_MAX; i++) {
		struct live_token *token = &pairing->token[i];
		if (token->live && now_ns >= token->expires_ns)
			token_drop(token);
		if (!token->live)
			return token;
		if (token->expires_ns < place->expires_ns)
			place = token;
	}
	return place;
}

int pairing_token(struct pairing *pairing, const char *address, char text[TOKEN_TEXT_SIZE], int64_t *ret_expires_wall_ns,
		  struct err *err)
{
	struct env *env = pairing->state->env;
	struct token token = {.receiver = pairing->own};
	int rc = net_check(address, err);
	if (rc)
		return rc;
	(void)snprintf(token.address, sizeof(token.address), "%s", address);
	rc = env_random(env, token.secret, sizeof(token.secret));
	if (rc)
		return err_sys(err, rc, "draw a token");
	rc = token_format(&token, text);
	if (rc)
		return err_set(err, rc, "the address %s is too long for a token", address);
	LOCK_SCOPE(&pairing->lock);
	uint64_t now_ns = env_mono_ns(env);
	struct live_token *place = token_place(pairing, now_ns);
	place->live = true;
	place->tries = 0;
	place->expires_ns = now_ns + PAIRING_SECONDS * SECOND_NS;
	memcpy(place->secret, token.secret, sizeof(place->secret));
	token_id(token.secret, place->id);
	OPENSSL_cleanse(&token, sizeof(token));
	*ret_expires_wall_ns = env_wall_ns(env) + (int64_t)(PAIRING_SECONDS * SECOND_NS);
	return 0;
}

static struct live_token *token_find(struct pairing *pairing, const unsigned char *id)
{
	uint64_t now_ns = env_mono_ns(pairing->state->env);
	for (size_t i = 0; i < PAIRING_TOKENS_MAX; i++) {
		struct live_token *token = &pairing->token[i];
		if (token->live && CRYPTO_memcmp(token->id, id, WIRE_TOKEN_ID_SIZE) == 0)
			return now_ns < token->expires_ns ? token : NULL;
	}
	return NULL;
}

// Whether the proof shows one of our tokens. A wrong one counts against the token that it names.
static struct live_token *token_prove(struct pairing *pairing, const struct wire_pair *proof, const struct pin *peer)
{
	struct live_token *token = token_find(pairing, proof->token_id);
	if (!token)
		return NULL;
	unsigned char expected[WIRE_MAC_SIZE];
	token_proof(token->secret, false, peer, &pairing->own, expected);
	if (CRYPTO_memcmp(expected, proof->mac, WIRE_MAC_SIZE) == 0)
		return token;
	if (++token->tries >= PAIRING_TRIES_MAX)
		token_drop(token);
	return NULL;
}

// The peers as they will be, with room for one more. Needs `adding`: nobody else changes them.
static int peers_copy(const struct pairing *pairing, struct pairing *ret_next)
{
	*ret_next = (struct pairing){.state = pairing->state, .peers = pairing->peers};
	ret_next->peer = malloc((pairing->peers + 1) * sizeof(*ret_next->peer));
	if (!ret_next->peer)
		return -ENOMEM;
	if (pairing->peers)
		memcpy(ret_next->peer, pairing->peer, pairing->peers * sizeof(*ret_next->peer));
	return 0;
}

// Makes `next`, with what it has on the heap, what counts.
static void peers_take(struct pairing *pairing, const struct pairing *next)
{
	LOCK_SCOPE(&pairing->lock);
	free(pairing->peer);
	pairing->peer = next->peer;
	pairing->peers = next->peers;
}

// Makes the peer known when that is durable, and not at all otherwise. Needs `adding`: nobody else changes the peers.
static int peer_add(struct pairing *pairing, const char *name, const struct pin *pin, struct err *err)
{
	struct pairing next;
	int rc = peers_copy(pairing, &next);
	if (rc == 0)
		rc = peer_put(&next, name, pin, env_wall_ns(pairing->state->env));
	rc = rc ? err_sys(err, rc, "remember the source") : peers_save(&next, err);
	if (rc) {
		free(next.peer);
		return rc;
	}
	peers_take(pairing, &next);
	return 0;
}

// Uses up the token that the proof shows. False: there is none.
static bool token_take(struct pairing *pairing, const struct wire_pair *proof, const struct pin *peer, struct wire_pair *answer)
{
	LOCK_SCOPE(&pairing->lock);
	struct live_token *token = token_prove(pairing, proof, peer);
	if (!token)
		return false;
	memcpy(answer->token_id, token->id, sizeof(answer->token_id));
	token_proof(token->secret, true, peer, &pairing->own, answer->mac);
	token_drop(token);
	return true;
}

int pairing_accept(struct pairing *pairing, const struct wire_pair *proof, const struct pin *peer,
		   struct wire_pair *ret_answer, struct err *err)
{
	struct wire_pair answer = {.name = "receiver"};
	if (!token_take(pairing, proof, peer, &answer))
		return err_set(err, -EACCES,
			       "the token is wrong, used or expired: make a new one with `kagami pair-token` on the target");
	LOCK_SCOPE(&pairing->adding);
	int rc = peer_add(pairing, proof->name, peer, err);
	if (rc)
		return rc;
	char pin[PIN_TEXT_SIZE];
	pin_format(peer, pin);
	log_info("paired source=%s key=%s", proof->name, pin);
	*ret_answer = answer;
	return 0;
}

// Whoever was let in, and is not to be any more, may know of tokens.
static void tokens_drop(struct pairing *pairing)
{
	LOCK_SCOPE(&pairing->lock);
	for (size_t i = 0; i < PAIRING_TOKENS_MAX; i++)
		token_drop(&pairing->token[i]);
}

int pairing_remove(struct pairing *pairing, const struct pin *peer, char ret_name[NAME_SIZE], struct err *err)
{
	struct pairing next;
	LOCK_SCOPE(&pairing->adding);
	size_t at = peer_place(pairing, peer);
	if (at == pairing->peers)
		return err_set(err, -ENOENT, "no source with this key is paired; list them with 'kagami peers'");
	int rc = peers_copy(pairing, &next);
	if (rc)
		return err_sys(err, rc, "forget the source");
	(void)snprintf(ret_name, NAME_SIZE, "%s", next.peer[at].name);
	next.peers--;
	memmove(next.peer + at, next.peer + at + 1, (next.peers - at) * sizeof(*next.peer));
	rc = peers_save(&next, err);
	if (rc) {
		free(next.peer);
		return rc;
	}
	peers_take(pairing, &next);
	tokens_drop(pairing);
	log_info("unpaired source=%s", ret_name);
	return 0;
}

bool pairing_known(struct pairing *pairing, const struct pin *peer)
{
	LOCK_SCOPE(&pairing->lock);
	for (size_t i = 0; i < pairing->peers; i++)
		if (pin_equal(&pairing->peer[i].pin, peer))
			return true;
	return false;
}

json_t *pairing_json(struct pairing *pairing)
{
	LOCK_SCOPE(&pairing->lock);
	return peers_json(pairing, false);
}
