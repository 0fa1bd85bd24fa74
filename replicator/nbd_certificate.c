// SPDX-License-Identifier: Apache-2.0
// What a client does with the certificate, done here: the chain up to the CA, the dates, and that it is meant for a server. Its name is not looked at: under which one
// clients know this host is not known here.
#include "replicator/nbd_certificate.h"

#include "base/when.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

enum { DAY_S = 86400 };

static int64_t expires_s(const X509 *certificate)
{
	struct tm tm;
	return ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
}

static int say_rejected(X509_STORE_CTX *check, const char *directory, struct err *err)
{
	int why = X509_STORE_CTX_get_error(check);
	X509 *at = X509_STORE_CTX_get_current_cert(check);
	char when[WHEN_SIZE] = "";
	if (why == X509_V_ERR_CERT_HAS_EXPIRED && at)
		when_format(expires_s(at) * INT64_C(1000000000), when);
	return err_set(err, -EKEYREJECTED,
		       "NBD clients over TCP will refuse %s/server-cert.pem: %s%s%s%s; guests on unix sockets are served. Have the CA of ca-cert.pem sign a new one: the next "
		       "client is served with it",
		       directory, X509_STORE_CTX_get_error_depth(check) > 0 ? "one that has signed it: " : "", X509_verify_cert_error_string(why), *when ? ", at " : "", when);
}

static int look_ahead(X509_STORE_CTX *check, const char *directory, int64_t now_s, struct err *err)
{
	const STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(check);
	int64_t first_s = INT64_MAX;
	int first = 0;
	for (int i = 0; i < sk_X509_num(chain); i++) {
		int64_t s = expires_s(sk_X509_value(chain, i));
		if (s < first_s) {
			first_s = s;
			first = i;
		}
	}
	if (first_s == INT64_MAX || first_s - now_s >= NBD_CERTIFICATE_SOON_DAYS * DAY_S)
		return 0;
	char when[WHEN_SIZE];
	when_format(first_s * INT64_C(1000000000), when);
	return err_set(err, -EKEYEXPIRED,
		       "NBD clients over TCP will refuse %s/server-cert.pem from %s on, in %lld days, when %s expires: replace it before (no restart is needed)", directory, when,
		       (long long)((first_s - now_s) / DAY_S), first ? "one that has signed it" : "it");
}

int nbd_certificate_check(SSL_CTX *context, const char *directory, int64_t now_s, struct err *err)
{
	STACK_OF(X509) *between = NULL; // what the file has besides: sent to clients
	(void)SSL_CTX_get0_chain_certs(context, &between);
	X509_STORE_CTX *check = X509_STORE_CTX_new();
	int rc = -ENOMEM;
	if (check && X509_STORE_CTX_init(check, SSL_CTX_get_cert_store(context), SSL_CTX_get0_certificate(context), between) == 1 &&
	    X509_STORE_CTX_set_purpose(check, X509_PURPOSE_SSL_SERVER) == 1) {
		X509_STORE_CTX_set_time(check, 0, (time_t)now_s);
		rc = X509_verify_cert(check) == 1 ? look_ahead(check, directory, now_s, err) : say_rejected(check, directory, err);
	} else {
		(void)err_set(err, rc, "%s/server-cert.pem cannot be looked at", directory);
	}
	X509_STORE_CTX_free(check);
	ERR_clear_error();
	return rc;
}
