// SPDX-License-Identifier: Apache-2.0
// Pairing: what a token is, how often and how long it serves, and that a peer is known when that is durable and not before.
#include "receiver/pairing.h"

#include "base/log.h"
#include "tests/sim/env_sim.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000000)
#define ADDRESS "receiver.example:9787"

struct fixture {
	struct sim *sim;
	struct env_root *root;
	struct pin own, source;
	struct pairing *pairing;
	struct err err;
};

static int reopen(struct fixture *f)
{
	pairing_close(f->pairing);
	f->pairing = NULL;
	f->err = (struct err){0};
	return pairing_open(f->root, &f->own, &f->pairing, &f->err);
}

static void power_cut(struct fixture *f)
{
	pairing_close(f->pairing);
	f->pairing = NULL;
	env_root_close(f->root);
	sim_power_off(f->sim);
	sim_power_on(f->sim);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
	assert_int_equal(reopen(f), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->sim = sim_new(1);
	memset(f->own.bytes, 0x11, PIN_SIZE);
	memset(f->source.bytes, 0x22, PIN_SIZE);
	assert_int_equal(env_root_open(sim_env(f->sim), "/", &f->root), 0);
	assert_int_equal(reopen(f), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	pairing_close(f->pairing);
	env_root_close(f->root);
	sim_free(f->sim);
	free(f);
	return 0;
}

static struct token token_new(struct fixture *f)
{
	struct token token;
	char text[TOKEN_TEXT_SIZE];
	int64_t expires;
	assert_int_equal(pairing_token(f->pairing, ADDRESS, text, &expires, &f->err), 0);
	assert_int_equal(token_read(text, &token, &f->err), 0);
	return token;
}

static struct wire_pair proof_of(const struct token *token, const struct pin *source, const struct pin *receiver)
{
	struct wire_pair proof = {.name = "host1"};
	token_id(token->secret, proof.token_id);
	token_proof(token->secret, false, source, receiver, proof.mac);
	return proof;
}

static int accept_proof(struct fixture *f, const struct wire_pair *proof, const struct pin *peer)
{
	struct wire_pair answer;
	f->err = (struct err){0};
	return pairing_accept(f->pairing, proof, peer, &answer, &f->err);
}

static size_t peer_count(struct fixture *f)
{
	json_t *json = pairing_json(f->pairing);
	size_t count = json_array_size(json);
	json_decref(json);
	return count;
}

// --- tokens ---

static void token_reads_back_with_addresses_of_every_length(void **state)
{
	(void)state;
	for (size_t host = 1; host < NET_ADDRESS_SIZE - 6; host++) {
		struct token token, back;
		char text[TOKEN_TEXT_SIZE];
		memset(token.receiver.bytes, (int)host, PIN_SIZE);
		memset(token.secret, (int)(3 * host), TOKEN_SECRET_SIZE);
		memset(token.address, 'h', host);
		(void)snprintf(token.address + host, sizeof(token.address) - host, ":%zu", 1 + host);
		assert_int_equal(token_format(&token, text), 0);
		assert_true(strlen(text) < TOKEN_TEXT_SIZE);
		for (const char *c = text; *c; c++)
			assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", *c));
		assert_int_equal(token_read(text, &back, NULL), 0);
		assert_memory_equal(&back.receiver, &token.receiver, PIN_SIZE);
		assert_memory_equal(back.secret, token.secret, TOKEN_SECRET_SIZE);
		assert_string_equal(back.address, token.address);
	}
}

static void token_with_any_other_character_is_refused(void **state)
{
	(void)state;
	static const char *const addresses[] = {"h:1", "hh:1", "hhh:1"}; // the last character holds 6, 4 and 2 bits
	for (int a = 0; a < 3; a++) {
		struct token token = {.secret = {1, 2, 3}}, back;
		char text[TOKEN_TEXT_SIZE];
		struct err err = {0};
		(void)snprintf(token.address, sizeof(token.address), "%s", addresses[a]);
		assert_int_equal(token_format(&token, text), 0);
		for (char *at = text; *at; at++)
			for (unsigned byte = 0; byte < 256; byte++) {
				char good = *at;
				if ((unsigned char)good == byte)
					continue;
				*at = (char)byte;
				assert_int_equal(token_read(text, &back, &err), -EBADMSG);
				assert_non_null(strstr(err.text, "pair-token")); // where to get the right one
				*at = good;
			}
		assert_int_equal(token_read(text, &back, &err), 0);
	}
}

static void token_cut_lengthened_or_shuffled_is_refused(void **state)
{
	(void)state;
	struct token token = {.secret = {1, 2, 3}, .address = ADDRESS}, back;
	char text[TOKEN_TEXT_SIZE], other[2 * TOKEN_TEXT_SIZE];
	assert_int_equal(token_format(&token, text), 0);
	size_t len = strlen(text);
	for (size_t cut = 0; cut < len; cut++) {
		(void)snprintf(other, sizeof(other), "%.*s", (int)cut, text);
		assert_int_equal(token_read(other, &back, NULL), -EBADMSG);
		(void)snprintf(other, sizeof(other), "%.*s%s", (int)cut, text, text + cut + 1); // one is missing
		assert_int_equal(token_read(other, &back, NULL), -EBADMSG);
		memcpy(other, text, len + 1);
		if (cut + 1 < len && text[cut] != text[cut + 1]) {
			other[cut] = text[cut + 1];
			other[cut + 1] = text[cut];
			assert_int_equal(token_read(other, &back, NULL), -EBADMSG);
		}
	}
	for (const char *more = "A_ \n=-"; *more; more++) {
		(void)snprintf(other, sizeof(other), "%s%c", text, *more);
		assert_int_equal(token_read(other, &back, NULL), -EBADMSG);
		(void)snprintf(other, sizeof(other), "%c%s", *more, text);
		assert_int_equal(token_read(other, &back, NULL), -EBADMSG);
	}
	memset(other, 'A', sizeof(other));
	memcpy(other, text, 5);
	other[sizeof(other) - 1] = 0;
	assert_int_equal(token_read(other, &back, NULL), -EBADMSG);
}

static void token_for_no_address_is_not_made(void **state)
{
	struct fixture *f = *state;
	char text[TOKEN_TEXT_SIZE];
	int64_t expires;
	static const char *const bad[] = {"", "host", "host:", "host:65536", "host:x", ":"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		f->err = (struct err){0};
		assert_int_equal(pairing_token(f->pairing, bad[i], text, &expires, &f->err), -EINVAL);
		assert_true(f->err.text[0]);
	}
}

// --- what a token does ---

static void right_proof_makes_the_peer_known_and_is_answered(void **state)
{
	struct fixture *f = *state;
	struct token token = token_new(f);
	assert_string_equal(token.address, ADDRESS);
	assert_true(pin_equal(&token.receiver, &f->own));
	struct wire_pair proof = proof_of(&token, &f->source, &f->own), answer;
	unsigned char expected[WIRE_MAC_SIZE];
	assert_false(pairing_known(f->pairing, &f->source));
	assert_int_equal(pairing_accept(f->pairing, &proof, &f->source, &answer, &f->err), 0);
	assert_true(pairing_known(f->pairing, &f->source));
	assert_false(pairing_known(f->pairing, &f->own));
	token_proof(token.secret, true, &f->source, &f->own, expected);
	assert_memory_equal(answer.mac, expected, WIRE_MAC_SIZE);
	assert_memory_not_equal(answer.mac, proof.mac, WIRE_MAC_SIZE); // a reflection proves nothing
}

static void token_serves_once(void **state)
{
	struct fixture *f = *state;
	struct token token = token_new(f);
	struct wire_pair proof = proof_of(&token, &f->source, &f->own);
	assert_int_equal(accept_proof(f, &proof, &f->source), 0);
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	struct pin other = {{0x33}};
	proof = proof_of(&token, &other, &f->own);
	assert_int_equal(accept_proof(f, &proof, &other), -EACCES);
	assert_int_equal(peer_count(f), 1);
}

static void token_expires_after_ten_minutes_whatever_the_wall_clock_says(void **state)
{
	struct fixture *f = *state;
	struct token token = token_new(f);
	struct wire_pair proof = proof_of(&token, &f->source, &f->own);
	sim_clock_advance(f->sim, (PAIRING_SECONDS - 1) * SECOND);
	sim_clock_step(f->sim, INT64_C(365) * 86400 * (int64_t)SECOND);
	assert_int_equal(accept_proof(f, &proof, &f->source), 0);
	token = token_new(f);
	proof = proof_of(&token, &f->source, &f->own);
	sim_clock_step(f->sim, -INT64_C(365) * 86400 * (int64_t)SECOND);
	sim_clock_advance(f->sim, PAIRING_SECONDS * SECOND);
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
}

static void five_wrong_proofs_kill_the_token_that_they_name_and_no_other(void **state)
{
	struct fixture *f = *state;
	struct token first = token_new(f), second = token_new(f);
	struct wire_pair wrong = proof_of(&first, &f->source, &f->own), right = wrong;
	wrong.mac[31] ^= 1;
	for (int i = 0; i < PAIRING_TRIES_MAX - 1; i++)
		assert_int_equal(accept_proof(f, &wrong, &f->source), -EACCES);
	assert_int_equal(accept_proof(f, &right, &f->source), 0); // the fifth try is still one
	first = token_new(f);
	wrong = right = proof_of(&first, &f->source, &f->own);
	wrong.mac[0] ^= 0x80;
	for (int i = 0; i < PAIRING_TRIES_MAX; i++)
		assert_int_equal(accept_proof(f, &wrong, &f->source), -EACCES);
	assert_int_equal(accept_proof(f, &right, &f->source), -EACCES);
	right = proof_of(&second, &f->source, &f->own);
	assert_int_equal(accept_proof(f, &right, &f->source), 0);
}

static void proof_is_bound_to_both_keys_and_to_its_side(void **state)
{
	struct fixture *f = *state;
	struct token token = token_new(f);
	struct pin other = {{0x33}};
	struct wire_pair proof = proof_of(&token, &other, &f->own); // overheard, and said by another
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	proof = proof_of(&token, &f->source, &other); // made for another receiver
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	token_proof(token.secret, true, &f->source, &f->own, proof.mac); // the receiver's own
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	proof = proof_of(&token, &f->source, &f->own);
	proof.token_id[0] ^= 1; // an unknown token does not count as a try of this one
	for (int i = 0; i < 20; i++)
		assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	assert_int_equal(peer_count(f), 0);
	proof.token_id[0] ^= 1;
	assert_int_equal(accept_proof(f, &proof, &f->source), 0);
}

static void refusals_do_not_tell_wrong_used_and_expired_apart(void **state)
{
	struct fixture *f = *state;
	char texts[3][ERR_TEXT_MAX];
	struct token token = token_new(f);
	struct wire_pair proof = proof_of(&token, &f->source, &f->own);
	proof.mac[0] ^= 1;
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	memcpy(texts[0], f->err.text, ERR_TEXT_MAX);
	proof.mac[0] ^= 1;
	assert_int_equal(accept_proof(f, &proof, &f->source), 0);
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	memcpy(texts[1], f->err.text, ERR_TEXT_MAX);
	token = token_new(f);
	proof = proof_of(&token, &f->source, &f->own);
	sim_clock_advance(f->sim, PAIRING_SECONDS * SECOND);
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	memcpy(texts[2], f->err.text, ERR_TEXT_MAX);
	assert_string_equal(texts[0], texts[1]);
	assert_string_equal(texts[0], texts[2]);
	assert_non_null(strstr(texts[0], "pair-token"));
}

static void tokens_are_bounded_and_the_oldest_goes(void **state)
{
	struct fixture *f = *state;
	struct token first = token_new(f), second = {.address = ""};
	for (int i = 0; i < PAIRING_TOKENS_MAX; i++) {
		sim_clock_advance(f->sim, SECOND);
		struct token next = token_new(f);
		if (i == 0)
			second = next;
	}
	struct wire_pair proof = proof_of(&first, &f->source, &f->own);
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	proof = proof_of(&second, &f->source, &f->own);
	assert_int_equal(accept_proof(f, &proof, &f->source), 0);
}

// --- peers ---

static void pair_one(struct fixture *f, const struct pin *pin)
{
	struct token token = token_new(f);
	struct wire_pair proof = proof_of(&token, pin, &f->own);
	assert_int_equal(accept_proof(f, &proof, pin), 0);
}

static void peers_are_known_after_a_power_cut_and_tokens_are_not(void **state)
{
	struct fixture *f = *state;
	struct pin other = {{0x33}};
	pair_one(f, &f->source);
	pair_one(f, &other);
	pair_one(f, &other); // anew: no second entry
	struct token token = token_new(f);
	power_cut(f);
	assert_int_equal(peer_count(f), 2);
	assert_true(pairing_known(f->pairing, &f->source) && pairing_known(f->pairing, &other));
	struct wire_pair proof = proof_of(&token, &f->source, &f->own);
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
}

static void peer_that_could_not_be_written_down_is_not_known(void **state)
{
	struct fixture *f = *state;
	struct pin other = {{0x33}};
	pair_one(f, &f->source);
	for (uint64_t op = 0;; op++) {
		struct token token = token_new(f);
		struct wire_pair proof = proof_of(&token, &other, &f->own),
				 again = proof_of(&token, &f->source, &f->own);
		bool known = op & 1; // a new peer, and one that pairs anew
		(void)snprintf(again.name, sizeof(again.name), "renamed");
		sim_fail_at(f->sim, sim_ops(f->sim) + op / 2, -EIO, true);
		int rc = accept_proof(f, known ? &again : &proof, known ? &f->source : &other);
		bool failed = sim_has_failed(f->sim);
		sim_fail_at(f->sim, SIM_NEVER, 0, false);
		assert_int_equal(rc != 0, failed);
		if (!failed)
			break;
		assert_true(f->err.text[0]);
		assert_false(pairing_known(f->pairing, &other));
		assert_true(pairing_known(f->pairing, &f->source));
		json_t *json = pairing_json(f->pairing);
		assert_int_equal(json_array_size(json), 1);
		assert_string_equal(json_string_value(json_object_get(json_array_get(json, 0), "name")), "host1");
		json_decref(json);
		assert_true(op < 100);
	}
}

static void peer_that_is_unpaired_stays_so(void **state)
{
	struct fixture *f = *state;
	struct pin other = {{0x33}};
	char name[NAME_SIZE];
	pair_one(f, &f->source);
	pair_one(f, &other);
	struct token token = token_new(f);
	assert_int_equal(pairing_remove(f->pairing, &f->source, name, &f->err), 0);
	assert_string_equal(name, "host1");
	assert_false(pairing_known(f->pairing, &f->source));
	assert_true(pairing_known(f->pairing, &other));
	assert_int_equal(pairing_remove(f->pairing, &f->source, name, &f->err), -ENOENT);
	struct wire_pair proof = proof_of(&token, &f->source, &f->own); // it may have been given one more
	assert_int_equal(accept_proof(f, &proof, &f->source), -EACCES);
	power_cut(f);
	assert_int_equal(peer_count(f), 1);
	assert_false(pairing_known(f->pairing, &f->source));
	pair_one(f, &f->source); // until the operator lets it in again
	assert_true(pairing_known(f->pairing, &f->source));
}

static void unpairing_that_could_not_be_written_down_is_told(void **state)
{
	struct fixture *f = *state;
	char name[NAME_SIZE];
	pair_one(f, &f->source);
	for (uint64_t op = 0;; op++) {
		sim_fail_at(f->sim, sim_ops(f->sim) + op, -EIO, true);
		int rc = pairing_remove(f->pairing, &f->source, name, &f->err);
		bool failed = sim_has_failed(f->sim);
		sim_fail_at(f->sim, SIM_NEVER, 0, false);
		assert_int_equal(rc != 0, failed);
		assert_int_equal(pairing_known(f->pairing, &f->source), failed);
		if (!failed)
			break;
		assert_true(f->err.text[0]);
		assert_true(op < 100);
	}
}

static void peers_file_write(struct fixture *f, const char *text, size_t len)
{
	assert_int_equal(env_replace(f->root, ".", "peers.json", text, len), 0);
}

static void damaged_peers_are_refused_with_a_reason_and_what_to_do(void **state)
{
	struct fixture *f = *state;
#define PIN64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PEER "{\"name\": \"host1\", \"pin\": \"" PIN64 "\", \"paired_ns\": 5}"
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"null",
		"7",
		"\"x\"",
		"\xff\xfe",
		"{}",
		"{\"version\": 1}",
		"{\"version\": 2, \"peers\": []}",
		"{\"version\": 1, \"peers\": {}}",
		"{\"version\": 1, \"peers\": [], \"more\": 1}",
		"{\"version\": 1, \"version\": 1, \"peers\": []}",
		"{\"version\": 1, \"peers\": [7]}",
		"{\"version\": 1, \"peers\": [{}]}",
		// NOLINTNEXTLINE(bugprone-suspicious-missing-comma)
		"{\"version\": 1, \"peers\": [{\"name\": \"../x\", \"pin\": \"" PIN64 "\", \"paired_ns\": 5}]}",
		"{\"version\": 1, \"peers\": [{\"name\": \"host1\", \"pin\": \"0123\", \"paired_ns\": 5}]}",
		"{\"version\": 1, \"peers\": [{\"name\": \"host1\", \"pin\": \"" PIN64 "\", \"paired_ns\": -1}]}",
		"{\"version\": 1, \"peers\": [" PEER "]} x",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		peers_file_write(f, bad[i], strlen(bad[i]));
		assert_true(reopen(f) < 0);
		assert_null(f->pairing);
		assert_non_null(strstr(f->err.text, "peers.json (restore it"));
		assert_null(strstr(f->err.text, "request"));
	}
	static const char good[] = "{\"version\": 1, \"peers\": [" PEER "]}";
	peers_file_write(f, good, strlen(good));
	assert_int_equal(reopen(f), 0);
	assert_int_equal(peer_count(f), 1);
}

static void every_truncation_of_the_peers_is_refused(void **state)
{
	struct fixture *f = *state;
	char *text = NULL;
	size_t len;
	pair_one(f, &f->source);
	assert_int_equal(env_read_file(f->root, "peers.json", 1 << 20, &text, &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		peers_file_write(f, text, cut);
		assert_true(reopen(f) < 0);
		assert_true(f->err.text[0]);
	}
	peers_file_write(f, text, len);
	assert_int_equal(reopen(f), 0);
	free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	log_init("test_pairing", LOG_LEVEL_ERROR);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(token_reads_back_with_addresses_of_every_length),
		cmocka_unit_test(token_with_any_other_character_is_refused),
		cmocka_unit_test(token_cut_lengthened_or_shuffled_is_refused),
		TEST(token_for_no_address_is_not_made),
		TEST(right_proof_makes_the_peer_known_and_is_answered),
		TEST(token_serves_once),
		TEST(token_expires_after_ten_minutes_whatever_the_wall_clock_says),
		TEST(five_wrong_proofs_kill_the_token_that_they_name_and_no_other),
		TEST(proof_is_bound_to_both_keys_and_to_its_side),
		TEST(refusals_do_not_tell_wrong_used_and_expired_apart),
		TEST(tokens_are_bounded_and_the_oldest_goes),
		TEST(peers_are_known_after_a_power_cut_and_tokens_are_not),
		TEST(peer_that_could_not_be_written_down_is_not_known),
		TEST(peer_that_is_unpaired_stays_so),
		TEST(unpairing_that_could_not_be_written_down_is_told),
		TEST(damaged_peers_are_refused_with_a_reason_and_what_to_do),
		TEST(every_truncation_of_the_peers_is_refused),
	};
	return cmocka_run_group_tests_name("pairing", tests, NULL, NULL);
}
