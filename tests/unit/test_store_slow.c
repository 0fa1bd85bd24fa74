// SPDX-License-Identifier: Apache-2.0
// A disk that does not answer keeps only those waiting that want the same: what one protection, or a pairing, waits for holds no lock that
// the sessions of others need. A gate in the seam keeps a chosen operation until the test lets it go; a lock held meanwhile
// would make the test hang, and so fail.
#include "base/log.h"
#include "receiver/pairing.h"
#include "receiver/recovery.h"
#include "receiver/store.h"
#include "receiver/tests.h"
#include "tests/lib/twin.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// --- the gate ---

static struct {
	struct env env;
	struct env_ops ops;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const char *name; // whose next sync is kept; NULL: none
	bool held;
} gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int gate_sync_dir(struct env_root *root, const char *name)
{
	(void)pthread_mutex_lock(&gate.lock);
	if (gate.name && strcmp(gate.name, name) == 0) {
		gate.held = true;
		(void)pthread_cond_broadcast(&gate.changed);
		while (gate.name)
			(void)pthread_cond_wait(&gate.changed, &gate.lock);
		gate.held = false;
	}
	(void)pthread_mutex_unlock(&gate.lock);
	return env_posix()->ops->sync_dir(root, name);
}

static void gate_shut(const char *name)
{
	(void)pthread_mutex_lock(&gate.lock);
	gate.name = name;
	(void)pthread_mutex_unlock(&gate.lock);
}

static void gate_wait(void)
{
	(void)pthread_mutex_lock(&gate.lock);
	while (!gate.held)
		(void)pthread_cond_wait(&gate.changed, &gate.lock);
	(void)pthread_mutex_unlock(&gate.lock);
}

static void gate_open(void)
{
	(void)pthread_mutex_lock(&gate.lock);
	gate.name = NULL;
	(void)pthread_cond_broadcast(&gate.changed);
	(void)pthread_mutex_unlock(&gate.lock);
}

// --- the store ---

struct slow {
	struct temp temp;
	struct store *store;
	struct replica *vm1;
	struct err err;
};

static const unsigned char pin[OWNER_PIN_SIZE] = {3};

static struct wire_open open_message(const char *name)
{
	struct wire_open open = {.protection = {{1}},
				 .generation = {{2}},
				 .digest = {.kind = DIGEST_XXH3},
				 .codec = CODEC_ZSTD,
				 .points_keep = 9,
				 .rpo_ms = 15000,
				 .disk_count = 1,
				 .disk = {{.name = "vda", .size = 1 << 20}}};
	(void)snprintf(open.name, sizeof(open.name), "%s", name);
	return open;
}

static int setup(void **state)
{
	struct slow *s = calloc(1, sizeof(*s));
	struct wire_open open = open_message("vm1");
	assert_non_null(s);
	gate.ops = *env_posix()->ops;
	gate.ops.sync_dir = gate_sync_dir;
	gate.env.ops = &gate.ops;
	temp_open(&s->temp);
	assert_int_equal(store_open(&gate.env, s->temp.dir, &s->store, &s->err), 0);
	assert_int_equal(store_create(s->store, &open, pin, &s->vm1, &s->err), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct slow *s = *state;
	store_close(s->store);
	temp_close(&s->temp);
	free(s);
	return 0;
}

// All that a session does, from its first message to a point.
static void a_session_goes_on(struct slow *s)
{
	struct wire_open open = open_message("vm1");
	struct wire_opened opened;
	struct wire_committed committed;
	struct wire_zeros zeros = {.disk = 0, .first = 0, .count = 1};
	struct replica *r = store_find(s->store, "vm1");
	assert_ptr_equal(r, s->vm1);
	assert_int_equal(replica_session_begin(r, &open, pin, &opened, &s->err), 0);
	assert_int_equal(replica_write_zeros(r, &zeros, &s->err), 0);
	struct wire_seal seal = {.predecessor = opened.last_point,
				 .head = opened.head,
				 .cut = {{9}},
				 .consistency = POINT_CRASH};
	assert_int_equal(replica_seal(r, &seal, &committed, &s->err), 0);
	replica_session_end(r);
	assert_int_equal(replica_retain(r, &s->err), 0);
	assert_ptr_equal(store_at(s->store, 0), s->vm1);
}

struct job {
	struct slow *slow;
	struct replica *replica;
	int rc;
	struct err err;
};

static void *create_vm2(void *context)
{
	struct job *job = context;
	struct wire_open open = open_message("vm2");
	job->rc = store_create(job->slow->store, &open, pin, &job->replica, &job->err);
	return NULL;
}

static void *forget_vm2(void *context)
{
	struct job *job = context;
	job->rc = store_forget(job->slow->store, "vm2", &job->err);
	return NULL;
}

static void creation_on_a_slow_disk_keeps_no_session_waiting(void **state)
{
	struct slow *s = *state;
	struct job first = {.slow = s}, second = {.slow = s};
	pthread_t thread[2];
	gate_shut(".new/vm2/points");
	assert_int_equal(pthread_create(&thread[0], NULL, create_vm2, &first), 0);
	gate_wait();
	a_session_goes_on(s);
	assert_null(store_find(s->store, "vm2")); // not there before it is there as a whole
	assert_int_equal(pthread_create(&thread[1], NULL, create_vm2, &second),
			 0); // its source is back by another connection
	a_session_goes_on(s);
	gate_open();
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(first.rc, 0);
	assert_int_equal(second.rc, -EEXIST);
	assert_ptr_equal(store_find(s->store, "vm2"), first.replica);
}

// Else a source that begins them all at once would have more than it may.
static void protection_that_is_being_made_is_counted(void **state)
{
	struct slow *s = *state;
	struct job first = {.slow = s};
	struct wire_open open = open_message("vm3");
	struct replica *r = NULL;
	pthread_t thread;
	store_set_owner_most(s->store, 2);
	gate_shut(".new/vm2/points");
	assert_int_equal(pthread_create(&thread, NULL, create_vm2, &first), 0);
	gate_wait();
	assert_int_equal(store_create(s->store, &open, pin, &r, &s->err), -EDQUOT);
	gate_open();
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(first.rc, 0);
	assert_int_equal(store_owned(s->store, pin), 2);
}

static void removal_on_a_slow_disk_keeps_no_session_waiting(void **state)
{
	struct slow *s = *state;
	struct job create = {.slow = s}, forget = {.slow = s}, again = {.slow = s};
	pthread_t thread[2];
	create_vm2(&create);
	assert_int_equal(create.rc, 0);
	gate_shut(".trash");
	assert_int_equal(pthread_create(&thread[0], NULL, forget_vm2, &forget), 0);
	gate_wait();
	a_session_goes_on(s);
	assert_null(store_find(s->store, "vm2"));
	assert_int_equal(pthread_create(&thread[1], NULL, create_vm2, &again),
			 0); // waits until the old one is gone for certain
	a_session_goes_on(s);
	gate_open();
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	assert_int_equal(forget.rc, 0);
	assert_int_equal(again.rc, 0);
	assert_ptr_equal(store_find(s->store, "vm2"), again.replica);
}

static void *commit_vm2(void *context)
{
	struct job *job = context;
	struct wire_open open = open_message("vm2");
	struct wire_opened opened;
	struct wire_committed committed;
	job->rc = replica_session_begin(job->replica, &open, pin, &opened, &job->err);
	struct wire_seal seal = {.predecessor = 0, .head = opened.head, .cut = {{9}}, .consistency = POINT_CRASH};
	if (job->rc == 0)
		job->rc = replica_seal(job->replica, &seal, &committed, &job->err);
	if (job->rc == 0)
		replica_session_end(job->replica);
	return NULL;
}

static void commit_on_a_slow_disk_keeps_no_other_session_waiting(void **state)
{
	struct slow *s = *state;
	struct job job = {.slow = s};
	pthread_t thread;
	create_vm2(&job);
	assert_int_equal(job.rc, 0);
	gate_shut("vm2/points");
	assert_int_equal(pthread_create(&thread, NULL, commit_vm2, &job), 0);
	gate_wait();
	a_session_goes_on(s);
	gate_open();
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(job.rc, 0);
}

// --- recovery, as an operator asks for it ---

static const char *no_query(const struct control_request *request, const char *name)
{
	(void)request;
	(void)name;
	return NULL;
}

static unsigned ask(struct recovery *recovery, const char *method, const char *path, const char *name)
{
	struct control_request request = {.arg = {name}, .body = json_object(), .query = no_query};
	json_t *answer = NULL;
	unsigned status = 0;
	for (size_t i = 0; i < recovery_route_count; i++)
		if (strcmp(recovery_routes[i].method, method) == 0 && strcmp(recovery_routes[i].path, path) == 0)
			status = recovery_routes[i].handler(recovery, &request, &answer);
	json_decref(request.body);
	json_decref(answer);
	return status;
}

static void *delete_vm2(void *context)
{
	return (void *)(uintptr_t)ask(context, "DELETE", "/v1/protections/*", "vm2");
}

static void removal_on_a_slow_disk_keeps_no_failover_of_another_waiting(void **state)
{
	struct slow *s = *state;
	struct job create = {.slow = s};
	struct recovery recovery;
	void *status = NULL;
	pthread_t thread;
	create_vm2(&create);
	a_session_goes_on(s);
	recovery_init(&recovery, &gate.env, s->store, NULL);
	assert_int_equal(tests_open(s->store, &recovery.tests, &s->err), 0);
	gate_shut(".trash");
	assert_int_equal(pthread_create(&thread, NULL, delete_vm2, &recovery), 0);
	gate_wait();
	assert_int_equal(ask(&recovery, "POST", "/v1/protections/*/failover", "vm1"), 200);
	assert_int_equal(ask(&recovery, "POST", "/v1/protections/*/failover/rollback", "vm1"), 200);
	gate_open();
	assert_int_equal(pthread_join(thread, &status), 0);
	assert_int_equal((uintptr_t)status, 200);
	tests_close(recovery.tests);
}

// --- pairing ---

struct pair_job {
	struct pairing *pairing;
	struct wire_pair proof, answer;
	struct pin peer;
	int rc;
	struct err err;
};

static void *pair_one(void *context)
{
	struct pair_job *job = context;
	job->rc = pairing_accept(job->pairing, &job->proof, &job->peer, &job->answer, &job->err);
	return NULL;
}

static void pairing_on_a_slow_disk_keeps_no_connection_waiting(void **state)
{
	struct slow *s = *state;
	struct pin own = {{1}}, stranger = {{2}};
	struct env_root *root;
	struct pair_job job = {.proof = {.name = "host1"}, .peer = {{4}}};
	struct token token;
	char text[TOKEN_TEXT_SIZE];
	int64_t expires;
	pthread_t thread;
	assert_int_equal(env_root_open(&gate.env, s->temp.dir, &root), 0);
	assert_int_equal(pairing_open(root, &own, &job.pairing, &s->err), 0);
	assert_int_equal(pairing_token(job.pairing, "127.0.0.1:7000", text, &expires, &s->err), 0);
	assert_int_equal(token_read(text, &token, &s->err), 0);
	token_id(token.secret, job.proof.token_id);
	token_proof(token.secret, false, &job.peer, &own, job.proof.mac);
	gate_shut(".");
	assert_int_equal(pthread_create(&thread, NULL, pair_one, &job), 0);
	gate_wait();
	assert_false(pairing_known(job.pairing, &stranger));
	assert_false(pairing_known(job.pairing, &job.peer)); // not before it is durable
	assert_int_equal(pairing_token(job.pairing, "127.0.0.1:7000", text, &expires, &s->err), 0);
	gate_open();
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(job.rc, 0);
	assert_true(pairing_known(job.pairing, &job.peer));
	pairing_close(job.pairing);
	env_root_close(root);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(creation_on_a_slow_disk_keeps_no_session_waiting),
		TEST(protection_that_is_being_made_is_counted),
		TEST(removal_on_a_slow_disk_keeps_no_session_waiting),
		TEST(commit_on_a_slow_disk_keeps_no_other_session_waiting),
		TEST(removal_on_a_slow_disk_keeps_no_failover_of_another_waiting),
		TEST(pairing_on_a_slow_disk_keeps_no_connection_waiting),
	};
	log_init("test_store_slow", LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("store_slow", tests, NULL, NULL);
}
