// SPDX-License-Identifier: Apache-2.0
// Sites: what is kept of a receiver, damage to it, and pairing against receivers that are not the right one.
#include "replicator/site.h"

#include "base/log.h"
#include "receiver/pairing.h"
#include "receiver/server.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fixture {
	struct temp temp;
	struct site site;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	temp_open(&f->temp);
	f->site = (struct site){.name = "dr", .address = "dr.example:9787"};
	memset(f->site.pin.bytes, 0xab, PIN_SIZE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	temp_close(&f->temp);
	free(f);
	return 0;
}

static int load(struct fixture *f, const char *name, struct site *site)
{
	f->err = (struct err){0};
	int rc = site_load(f->temp.root, name, site, &f->err);
	assert_true(rc == 0 || f->err.text[0]);
	return rc;
}

static void site_loads_as_it_was_saved(void **state)
{
	struct fixture *f = *state;
	struct site back;
	assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	assert_int_equal(load(f, "dr", &back), 0);
	assert_memory_equal(&back, &f->site, sizeof(back));
	(void)snprintf(f->site.address, sizeof(f->site.address), "[2001:db8::1]:1"); // paired anew
	f->site.pin.bytes[0] = 1;
	assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	assert_int_equal(load(f, "dr", &back), 0);
	assert_memory_equal(&back, &f->site, sizeof(back));
}

// Paired with again: the same receiver. Another one does not get its name, until that is said.
static void name_of_a_site_is_its_receiver_s(void **state)
{
	struct fixture *f = *state;
	struct site there;
	struct pin other = f->site.pin;
	other.bytes[31] ^= 1;
	assert_int_equal(site_free_for(f->temp.root, "dr", &other, &there, &f->err), 0);
	assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	assert_int_equal(site_free_for(f->temp.root, "dr", &f->site.pin, &there, &f->err), 0);
	assert_int_equal(site_free_for(f->temp.root, "dr", &other, &there, &f->err), -EEXIST);
	assert_memory_equal(&there, &f->site, sizeof(there));
	assert_non_null(strstr(f->err.text, there.address));
	assert_int_equal(site_free_for(f->temp.root, "dr2", &other, &there, &f->err), 0);
	static const char *const damaged[] = {"", "{}", "{\"version\": 2}"};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(env_replace(f->temp.root, "sites", "sites/dr.json", damaged[i], strlen(damaged[i])), 0);
		assert_int_equal(site_free_for(f->temp.root, "dr", &other, &there, &f->err), 0);
	}
}

static void site_that_is_unknown_says_how_to_pair(void **state)
{
	struct fixture *f = *state;
	struct site site;
	assert_int_equal(load(f, "dr", &site), -ENOENT);
	assert_non_null(strstr(f->err.text, "kagami pair dr TOKEN"));
	static const char *const bad[] = {"", "..", "../sites/dr", "DR", "a/b"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(load(f, bad[i], &site), -EINVAL);
}

static void sites_are_listed_by_name(void **state)
{
	struct fixture *f = *state;
	char **names = NULL;
	size_t count = 9;
	assert_int_equal(site_list(f->temp.root, &names, &count), 0);
	assert_int_equal(count, 0);
	env_list_free(names, count);
	static const char *const all[] = {"dr", "a.json", "b"};
	for (int i = 0; i < 3; i++) {
		(void)snprintf(f->site.name, NAME_SIZE, "%s", all[i]);
		assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	}
	assert_int_equal(env_replace(f->temp.root, "sites", "sites/leftover", "x", 1), 0);
	assert_int_equal(site_list(f->temp.root, &names, &count), 0);
	assert_int_equal(count, 3);
	assert_string_equal(names[0], "a.json");
	assert_string_equal(names[1], "b");
	assert_string_equal(names[2], "dr");
	env_list_free(names, count);
}

static void damaged_site_gets_a_reason_and_what_to_do(void **state)
{
	struct fixture *f = *state;
	struct site site;
	char *text = NULL;
	size_t len;
#define PIN64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	static const char *const bad[] = {
		"",
		"{",
		"[1]",
		"null",
		"{}",
		"\xff",
		"{\"version\": 2, \"address\": \"h:1\", \"pin\": \"" PIN64 "\"}",
		"{\"version\": 1, \"address\": 7, \"pin\": \"" PIN64 "\"}",
		"{\"version\": 1, \"pin\": \"" PIN64 "\"}",
		"{\"version\": 1, \"address\": \"h:1\", \"pin\": \"" PIN64 "0\"}",
		"{\"version\": 1, \"address\": \"h:1\", \"pin\": \"\"}",
		"{\"version\": 1, \"address\": \"h:1\", \"pin\": \"" PIN64 "\", \"x\": 1}",
		"{\"version\": 1, \"address\": \"h:1\", \"pin\": \"" PIN64 "\", \"pin\": \"" PIN64 "\"}",
	};
	assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(env_replace(f->temp.root, "sites", "sites/dr.json", bad[i], strlen(bad[i])), 0);
		int rc = load(f, "dr", &site);
		assert_true(rc == -EBADMSG || rc == -EINVAL);
		assert_non_null(strstr(f->err.text, "site dr (pair with it anew"));
		assert_null(strstr(f->err.text, "request"));
	}
	assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	assert_int_equal(env_read_file(f->temp.root, "sites/dr.json", 8192, &text, &len), 0);
	for (size_t cut = 0; cut < len; cut++) {
		assert_int_equal(env_replace(f->temp.root, "sites", "sites/dr.json", text, cut), 0);
		assert_true(load(f, "dr", &site) < 0);
	}
	free(text);
}

static void site_file_of_any_length_is_read_in_bounds(void **state)
{
	struct fixture *f = *state;
	struct site site;
	char *huge = calloc(1, 1 << 20);
	memset(huge, ' ', 1 << 20);
	assert_int_equal(site_save(f->temp.root, &f->site, &f->err), 0);
	assert_int_equal(env_replace(f->temp.root, "sites", "sites/dr.json", huge, 1 << 20), 0);
	assert_int_equal(load(f, "dr", &site), -EFBIG);
	free(huge);
}

// --- pairing ---

struct receiver {
	struct identity *identity;
	struct pairing *pairing;
	struct store *store;
	struct server *server;
	char token[TOKEN_TEXT_SIZE];
};

static void receiver_begin(struct fixture *f, struct receiver *r, const char *name)
{
	char path[512];
	int64_t expires;
	(void)snprintf(path, sizeof(path), "%s.pem", name);
	assert_int_equal(identity_load(f->temp.root, path, &r->identity, &f->err), 0);
	assert_int_equal(env_mkdir(f->temp.root, name), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", f->temp.dir, name);
	assert_int_equal(store_open(env_posix(), path, &r->store, &f->err), 0);
	assert_int_equal(pairing_open(f->temp.root, identity_pin(r->identity), &r->pairing, &f->err), 0);
	assert_int_equal(server_start("127.0.0.1:0", r->identity, r->store, r->pairing, NULL, &r->server, &f->err), 0);
	assert_int_equal(pairing_token(r->pairing, server_address(r->server), r->token, &expires, &f->err), 0);
}

static void receiver_end(struct receiver *r)
{
	server_stop(r->server);
	pairing_close(r->pairing);
	store_close(r->store);
	identity_free(r->identity);
}

static void token_pairs_with_its_receiver_and_no_other(void **state)
{
	struct fixture *f = *state;
	struct receiver right, wrong;
	struct identity *source = NULL;
	struct site site;
	receiver_begin(f, &right, "right");
	receiver_begin(f, &wrong, "wrong");
	assert_int_equal(identity_load(f->temp.root, "source.pem", &source, &f->err), 0);
	// The man in the middle: another key at the address.
	assert_int_equal(site_pair(source, "host1", "dr", right.token, server_address(wrong.server), &site, &f->err),
			 -EKEYREJECTED);
	assert_false(pairing_known(right.pairing, identity_pin(source)) ||
		     pairing_known(wrong.pairing, identity_pin(source)));
	assert_int_equal(site_pair(source, "host1", "dr", right.token, NULL, &site, &f->err), 0);
	assert_true(pairing_known(right.pairing, identity_pin(source)));
	assert_true(pin_equal(&site.pin, identity_pin(right.identity)));
	assert_string_equal(site.name, "dr");
	assert_int_equal(site_pair(source, "host1", "dr", right.token, NULL, &site, &f->err), -EREMOTEIO); // used
	assert_non_null(strstr(f->err.text, "wrong, used or expired"));
	identity_free(source);
	receiver_end(&right);
	receiver_end(&wrong);
}

static void pairing_that_cannot_reach_the_receiver_says_where_it_looked(void **state)
{
	struct fixture *f = *state;
	struct receiver r;
	struct identity *source = NULL;
	struct site site;
	char address[NET_ADDRESS_SIZE];
	receiver_begin(f, &r, "receiver");
	(void)snprintf(address, sizeof(address), "%s", server_address(r.server));
	char token[TOKEN_TEXT_SIZE];
	memcpy(token, r.token, sizeof(token));
	receiver_end(&r); // nobody listens there any more
	assert_int_equal(identity_load(f->temp.root, "source.pem", &source, &f->err), 0);
	assert_int_equal(site_pair(source, "host1", "dr", token, NULL, &site, &f->err), -ECONNREFUSED);
	assert_non_null(strstr(f->err.text, address));
	assert_int_equal(site_pair(source, "host1", "dr", "kgm1-nonsense", NULL, &site, &f->err), -EBADMSG);
	assert_int_equal(site_pair(source, "host1", "dr", token, "nowhere", &site, &f->err), -EINVAL);
	identity_free(source);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	log_init("test_site", LOG_LEVEL_ERROR);
	(void)signal(SIGPIPE, SIG_IGN); // as the daemons do
	const struct CMUnitTest tests[] = {
		TEST(site_loads_as_it_was_saved),
		TEST(name_of_a_site_is_its_receiver_s),
		TEST(site_that_is_unknown_says_how_to_pair),
		TEST(sites_are_listed_by_name),
		TEST(damaged_site_gets_a_reason_and_what_to_do),
		TEST(site_file_of_any_length_is_read_in_bounds),
		TEST(token_pairs_with_its_receiver_and_no_other),
		TEST(pairing_that_cannot_reach_the_receiver_says_where_it_looked),
	};
	return cmocka_run_group_tests_name("site", tests, NULL, NULL);
}
