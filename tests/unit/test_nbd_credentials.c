// SPDX-License-Identifier: Apache-2.0
// Certificates that are replaced under a server: the next client has the new ones, and what cannot be used changes nothing and is said once.
#include "replicator/nbd_credentials.h"
#include "replicator/nbd_renewal.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static char directory[] = "/tmp/kagami-credentials.XXXXXX";
static struct err err;

struct pair {
	EVP_PKEY *key;
	X509 *certificate; // of itself: CA and server at once
};

static struct pair make(const char *name)
{
	struct pair p = {.key = EVP_EC_gen("P-256"), .certificate = X509_new()};
	assert_true(p.key && p.certificate);
	X509_NAME *subject = X509_get_subject_name(p.certificate);
	(void)X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	(void)X509_set_issuer_name(p.certificate, subject);
	(void)X509_gmtime_adj(X509_getm_notBefore(p.certificate), -1000);
	(void)X509_gmtime_adj(X509_getm_notAfter(p.certificate), 1000);
	(void)X509_set_pubkey(p.certificate, p.key);
	assert_true(X509_sign(p.certificate, p.key, EVP_sha256()) > 0);
	return p;
}

static void let_go(struct pair *p)
{
	EVP_PKEY_free(p->key);
	X509_free(p->certificate);
}

static const char *path_of(const char *name)
{
	static char path[PATH_MAX];
	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static void put_certificate(const char *name, const struct pair *p)
{
	FILE *file = fopen(path_of(name), "w");
	assert_non_null(file);
	assert_int_equal(PEM_write_X509(file, p->certificate), 1);
	assert_int_equal(fclose(file), 0);
}

static void put_key(const struct pair *p)
{
	FILE *file = fopen(path_of("server-key.pem"), "w");
	assert_non_null(file);
	assert_int_equal(PEM_write_PrivateKey(file, p->key, NULL, NULL, 0, NULL, NULL), 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path_of("server-key.pem"), 0600), 0);
}

static void put(const struct pair *p)
{
	put_certificate("ca-cert.pem", p);
	put_certificate("server-cert.pem", p);
	put_key(p);
}

static int renew(struct nbd_credentials *c)
{
	err = (struct err){.code = 0};
	return nbd_credentials_renew(c, &err);
}

static bool serves(const struct nbd_credentials *c, const struct pair *p)
{
	return X509_cmp(SSL_CTX_get0_certificate(nbd_credentials_context(c)), p->certificate) == 0;
}

static bool trusts(const struct nbd_credentials *c, const struct pair *p)
{
	X509_STORE_CTX *check = X509_STORE_CTX_new();
	assert_int_equal(X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(nbd_credentials_context(c)), p->certificate, NULL), 1);
	bool good = X509_verify_cert(check) == 1;
	X509_STORE_CTX_free(check);
	return good;
}

static struct nbd_credentials *opened(const struct pair *p)
{
	struct nbd_credentials *c;
	put(p);
	assert_int_equal(nbd_credentials_open(directory, &c, NULL), 0);
	return c;
}

static void files_that_stay_are_not_read_anew(void **state)
{
	(void)state;
	struct pair a = make("a");
	struct nbd_credentials *c = opened(&a);
	SSL_CTX *context = nbd_credentials_context(c);
	assert_int_equal(renew(c), 0);
	put(&a); // with new times
	assert_int_equal(renew(c), 0);
	assert_ptr_equal(nbd_credentials_context(c), context);
	nbd_credentials_close(c);
	let_go(&a);
}

static void next_client_has_the_new_ones(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b");
	struct nbd_credentials *c = opened(&a);
	assert_true(serves(c, &a) && trusts(c, &a) && !trusts(c, &b));
	put(&b);
	assert_int_equal(renew(c), 1);
	assert_true(serves(c, &b) && trusts(c, &b) && !trusts(c, &a));
	assert_int_equal(renew(c), 0);
	nbd_credentials_close(c);
	let_go(&a), let_go(&b);
}

// Of each file alone. Only the CA can change without the others.
static void each_file_is_looked_at(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b");
	struct nbd_credentials *c = opened(&a);
	put_certificate("ca-cert.pem", &b);
	assert_int_equal(renew(c), 1);
	assert_true(serves(c, &a) && trusts(c, &b) && !trusts(c, &a));
	put_certificate("server-cert.pem", &b);
	assert_true(renew(c) < 0);
	put(&a);
	assert_int_equal(renew(c), 1);
	put_key(&b);
	assert_true(renew(c) < 0);
	nbd_credentials_close(c);
	let_go(&a), let_go(&b);
}

static void what_cannot_be_used_changes_nothing_and_is_said_once(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b");
	struct nbd_credentials *c = opened(&a);
	put_certificate("server-cert.pem", &b);
	assert_int_equal(renew(c), -EBADMSG);
	assert_non_null(strstr(err.text, "server-key.pem: not the key of server-cert.pem"));
	assert_true(serves(c, &a) && trusts(c, &a));
	assert_int_equal(renew(c), 0);
	assert_int_equal(unlink(path_of("ca-cert.pem")), 0); // another reason
	assert_int_equal(renew(c), -ENOENT);
	assert_int_equal(renew(c), 0);
	put_certificate("ca-cert.pem", &b);
	put_key(&b);
	assert_int_equal(chmod(path_of("server-key.pem"), 0644), 0);
	assert_int_equal(renew(c), -EPERM);
	assert_true(serves(c, &a));
	assert_int_equal(chmod(path_of("server-key.pem"), 0600), 0);
	assert_int_equal(renew(c), 1);
	assert_true(serves(c, &b));
	nbd_credentials_close(c);
	let_go(&a), let_go(&b);
}

// A reason that went away with the files from before is said again when it is back.
static void files_put_back_are_silent(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b");
	struct nbd_credentials *c = opened(&a);
	for (int i = 0; i < 2; i++) {
		put_key(&b);
		assert_int_equal(renew(c), -EBADMSG);
		put_key(&a);
		assert_int_equal(renew(c), 0);
	}
	assert_true(serves(c, &a));
	nbd_credentials_close(c);
	let_go(&a), let_go(&b);
}

static void a_clients_own_reference_goes_on(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b");
	struct nbd_credentials *c = opened(&a);
	SSL_CTX *client = nbd_credentials_context(c);
	(void)SSL_CTX_up_ref(client);
	put(&b);
	assert_int_equal(renew(c), 1);
	nbd_credentials_close(c);
	assert_int_equal(X509_cmp(SSL_CTX_get0_certificate(client), a.certificate), 0);
	SSL_CTX_free(client);
	let_go(&a), let_go(&b);
}

// ---- a directory that hangs

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool hangs;
static unsigned inside;

// In the place of the C library's, for the program's own code.
int open(const char *path, int flags, ...)
{
	(void)pthread_mutex_lock(&lock);
	inside++;
	(void)pthread_cond_broadcast(&changed);
	while (hangs)
		(void)pthread_cond_wait(&changed, &lock);
	inside--;
	(void)pthread_cond_broadcast(&changed);
	(void)pthread_mutex_unlock(&lock);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}

static void hang(bool on)
{
	(void)pthread_mutex_lock(&lock);
	hangs = on;
	(void)pthread_cond_broadcast(&changed);
	while (!on && inside)
		(void)pthread_cond_wait(&changed, &lock);
	(void)pthread_mutex_unlock(&lock);
}

static bool offers(const struct nbd_renewal *r, const struct pair *p)
{
	return X509_cmp(SSL_CTX_get0_certificate(nbd_renewal_context(r)), p->certificate) == 0;
}

static int look(struct nbd_renewal *r)
{
	err = (struct err){.code = 0};
	return nbd_renewal_look(r, &err);
}

// A look that ends before whoever began it goes on is one that ended.
static void looks_that_are_quick_are_not_taken_for_a_hang(void **state)
{
	(void)state;
	struct pair a = make("a");
	struct nbd_renewal *r;
	put(&a);
	assert_int_equal(nbd_renewal_open(directory, &r, NULL), 0);
	for (unsigned i = 0; i < 5000; i++)
		assert_int_equal(look(r), 0);
	nbd_renewal_close(r);
	let_go(&a);
}

// What a look found that hung is told, though the next one hangs as well.
static void what_a_late_look_found_is_told(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b");
	struct nbd_renewal *r;
	put(&a);
	assert_int_equal(nbd_renewal_open(directory, &r, NULL), 0);
	put(&b);
	hang(true);
	assert_int_equal(look(r), -ETIMEDOUT);
	hang(false);
	(void)usleep(300000); // it ends
	hang(true);
	assert_int_equal(look(r), 1);
	assert_true(offers(r, &b));
	assert_int_equal(look(r), 0);
	hang(false);
	nbd_renewal_close(r);
	let_go(&a), let_go(&b);
}

static void directory_that_hangs_holds_no_client_up(void **state)
{
	(void)state;
	struct pair a = make("a"), b = make("b"), c = make("c");
	struct nbd_renewal *r;
	put(&a);
	assert_int_equal(nbd_renewal_open(directory, &r, NULL), 0);
	assert_int_equal(look(r), 0);
	put(&b);
	assert_int_equal(look(r), 1);
	assert_true(offers(r, &b));
	put(&c);
	hang(true);
	assert_int_equal(look(r), -ETIMEDOUT);
	assert_non_null(strstr(err.text, "has not answered for 2 s"));
	assert_non_null(strstr(err.text, directory));
	int64_t begin_ms = clock_mono_ms();
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(look(r), 0); // said once, and nobody waits again
	assert_true(clock_mono_ms() - begin_ms < NBD_RENEWAL_WAIT_MS * 5); // of ten times as much
	assert_true(offers(r, &b));
	hang(false);
	int rc = 0;
	for (unsigned i = 0; i < 10000 && rc == 0; i++, (void)usleep(1000))
		rc = look(r);
	assert_int_equal(rc, 1);
	assert_true(offers(r, &c));
	put(&a); // behind the one that hung the next look is the next client's own
	assert_int_equal(look(r), 1);
	assert_true(offers(r, &a));
	hang(true);
	assert_int_equal(look(r), -ETIMEDOUT); // once more
	nbd_renewal_close(r); // waits for nothing
	assert_int_equal(nbd_renewal_open(directory, &r, &err), -ETIMEDOUT); // nor does a start, for ever
	assert_non_null(strstr(err.text, "has not answered for 10 s"));
	let_go(&a), let_go(&b), let_go(&c);
}

static void directory_without_them_is_refused(void **state)
{
	(void)state;
	struct nbd_credentials *c;
	(void)unlink(path_of("server-cert.pem"));
	err = (struct err){.code = 0};
	assert_int_equal(nbd_credentials_open(directory, &c, &err), -ENOENT);
	assert_non_null(strstr(err.text, "server-cert.pem"));
	assert_int_equal(nbd_credentials_open(directory, &c, NULL), -ENOENT);
}

static int group_setup(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	(void)unlink(path_of("ca-cert.pem"));
	(void)unlink(path_of("server-cert.pem"));
	(void)unlink(path_of("server-key.pem"));
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_that_stay_are_not_read_anew),
		cmocka_unit_test(next_client_has_the_new_ones),
		cmocka_unit_test(each_file_is_looked_at),
		cmocka_unit_test(what_cannot_be_used_changes_nothing_and_is_said_once),
		cmocka_unit_test(files_put_back_are_silent),
		cmocka_unit_test(a_clients_own_reference_goes_on),
		cmocka_unit_test(looks_that_are_quick_are_not_taken_for_a_hang),
		cmocka_unit_test(what_a_late_look_found_is_told),
		cmocka_unit_test(directory_without_them_is_refused),
		cmocka_unit_test(directory_that_hangs_holds_no_client_up), // the last: it leaves one that hangs
	};
	return cmocka_run_group_tests_name("nbd_credentials", tests, group_setup, group_teardown);
}
