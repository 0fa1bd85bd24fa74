// SPDX-License-Identifier: Apache-2.0
// A server's certificate that clients will refuse is told before the first of them comes.
#include "replicator/nbd_certificate.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/x509v3.h>

enum { DAY = 86400, NOW = 1800000000 }; // 2027-01-15

struct signer {
	EVP_PKEY *key;
	X509 *certificate;
};

static void extend(X509 *certificate, int nid, const char *value)
{
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	assert_non_null(extension);
	assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
	X509_EXTENSION_free(extension);
}

// Valid from `from` to `to`, in days from NOW. `by` NULL: by itself, a CA. `use` NULL: a CA.
static struct signer sign(const struct signer *by, const char *name, const char *use, int from, int to)
{
	struct signer s = {.key = EVP_EC_gen("P-256"), .certificate = X509_new()};
	static long serial;
	assert_true(s.key && s.certificate);
	X509_NAME *subject = X509_get_subject_name(s.certificate);
	(void)X509_set_version(s.certificate, 2);
	(void)ASN1_INTEGER_set(X509_get_serialNumber(s.certificate), ++serial);
	(void)X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
	(void)X509_set_issuer_name(s.certificate, by ? X509_get_subject_name(by->certificate) : subject);
	(void)ASN1_TIME_set(X509_getm_notBefore(s.certificate), NOW + (time_t)from * DAY);
	(void)ASN1_TIME_set(X509_getm_notAfter(s.certificate), NOW + (time_t)to * DAY);
	(void)X509_set_pubkey(s.certificate, s.key);
	extend(s.certificate, NID_basic_constraints, use ? "critical,CA:FALSE" : "critical,CA:TRUE");
	if (use)
		extend(s.certificate, NID_ext_key_usage, use);
	assert_true(X509_sign(s.certificate, by ? by->key : s.key, EVP_sha256()) > 0);
	return s;
}

static void let_go(struct signer *s)
{
	EVP_PKEY_free(s->key);
	X509_free(s->certificate);
}

static struct err err;

// `between`: NULL, or one that is sent with the server's.
static int check(const struct signer *ca, const struct signer *server, const struct signer *between)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	assert_non_null(context);
	assert_int_equal(X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca->certificate), 1);
	assert_int_equal(SSL_CTX_use_certificate(context, server->certificate), 1);
	if (between)
		assert_int_equal(SSL_CTX_add1_chain_cert(context, between->certificate), 1);
	err = (struct err){.code = 0};
	int rc = nbd_certificate_check(context, "/etc/tls", NOW, &err);
	SSL_CTX_free(context);
	return rc;
}

static void says(const char *text)
{
	if (!strstr(err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

static void good_certificate_is_silent(void **state)
{
	(void)state;
	struct signer ca = sign(NULL, "ca", NULL, -10, 1000), server = sign(&ca, "server", "serverAuth", -1, NBD_CERTIFICATE_SOON_DAYS);
	assert_int_equal(check(&ca, &server, NULL), 0);
	struct signer between = sign(&ca, "between", NULL, -10, 1000), below = sign(&between, "below", "serverAuth", -1, 30);
	assert_int_equal(check(&ca, &below, &between), 0);
	let_go(&ca), let_go(&server), let_go(&between), let_go(&below);
}

static void expired_certificate_is_told_with_its_date(void **state)
{
	(void)state;
	struct signer ca = sign(NULL, "ca", NULL, -10, 1000), server = sign(&ca, "server", "serverAuth", -9, -1);
	assert_int_equal(check(&ca, &server, NULL), -EKEYREJECTED);
	says("/etc/tls/server-cert.pem: certificate has expired, at 2027-01-14");
	says("sign a new one");
	struct signer later = sign(&ca, "later", "serverAuth", 1, 90);
	assert_int_equal(check(&ca, &later, NULL), -EKEYREJECTED);
	says("not yet valid");
	let_go(&ca), let_go(&server), let_go(&later);
}

static void certificate_of_another_ca_or_for_another_purpose_is_told(void **state)
{
	(void)state;
	struct signer ca = sign(NULL, "ca", NULL, -10, 1000), other = sign(NULL, "other", NULL, -10, 1000);
	struct signer server = sign(&other, "server", "serverAuth", -1, 90), client = sign(&ca, "client", "clientAuth", -1, 90);
	assert_int_equal(check(&ca, &server, NULL), -EKEYREJECTED);
	says("issuer");
	assert_int_equal(check(&ca, &client, NULL), -EKEYREJECTED);
	says("purpose");
	let_go(&ca), let_go(&other), let_go(&server), let_go(&client);
}

static void expired_ca_is_told_as_one_that_has_signed_it(void **state)
{
	(void)state;
	struct signer ca = sign(NULL, "ca", NULL, -10, -2), server = sign(&ca, "server", "serverAuth", -9, 90);
	assert_int_equal(check(&ca, &server, NULL), -EKEYREJECTED);
	says("one that has signed it: certificate has expired, at 2027-01-13");
	let_go(&ca), let_go(&server);
}

static void certificate_that_expires_within_two_weeks_is_told(void **state)
{
	(void)state;
	struct signer ca = sign(NULL, "ca", NULL, -10, 1000), server = sign(&ca, "server", "serverAuth", -1, NBD_CERTIFICATE_SOON_DAYS - 1);
	assert_int_equal(check(&ca, &server, NULL), -EKEYEXPIRED);
	says("from 2027-01-28");
	says("in 13 days, when it expires");
	struct signer old = sign(NULL, "old", NULL, -10, 3), below = sign(&old, "below", "serverAuth", -1, 90);
	assert_int_equal(check(&old, &below, NULL), -EKEYEXPIRED);
	says("in 3 days, when one that has signed it expires");
	let_go(&ca), let_go(&server), let_go(&old), let_go(&below);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_certificate_is_silent),
		cmocka_unit_test(expired_certificate_is_told_with_its_date),
		cmocka_unit_test(certificate_of_another_ca_or_for_another_purpose_is_told),
		cmocka_unit_test(expired_ca_is_told_as_one_that_has_signed_it),
		cmocka_unit_test(certificate_that_expires_within_two_weeks_is_told),
	};
	return cmocka_run_group_tests_name("nbd_certificate", tests, NULL, NULL);
}
