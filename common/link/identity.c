// SPDX-License-Identifier: Apache-2.0
#include "link/identity.h"

#include "base/bytes.h"
#include "base/names.h"
#include "format/wire.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>

enum { IDENTITY_FILE_MAX = 16384, IDENTITY_YEARS = 100 };

struct identity {
	EVP_PKEY *key;
	X509 *certificate;
	struct pin pin;
};

void pin_format(const struct pin *pin, char text[PIN_TEXT_SIZE])
{
	for (size_t i = 0; i < PIN_SIZE; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", pin->bytes[i]);
}

bool pin_read(const char *text, struct pin *ret_pin)
{
	struct pin pin;
	if (strlen(text) != PIN_TEXT_SIZE - 1)
		return false;
	for (size_t i = 0; i < PIN_SIZE; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		pin.bytes[i] = (unsigned char)(high << 4 | low);
	}
	*ret_pin = pin;
	return true;
}

bool pin_equal(const struct pin *a, const struct pin *b)
{
	return CRYPTO_memcmp(a->bytes, b->bytes, PIN_SIZE) == 0;
}

static int openssl_fail(struct err *err, const char *what)
{
	char reason[200] = "unknown error";
	unsigned long code = ERR_get_error();
	if (code)
		ERR_error_string_n(code, reason, sizeof(reason));
	ERR_clear_error();
	return err_set(err, -EIO, "%s: %s", what, reason);
}

static bool certificate_make(struct identity *identity)
{
	X509 *cert = X509_new();
	identity->certificate = cert;
	if (!cert || !X509_set_version(cert, X509_VERSION_3) || !ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) ||
	    !X509_gmtime_adj(X509_getm_notBefore(cert), -86400) ||
	    !X509_time_adj_ex(X509_getm_notAfter(cert), 365 * IDENTITY_YEARS, 0, NULL) ||
	    !X509_set_pubkey(cert, identity->key))
		return false;
	X509_NAME *name = X509_get_subject_name(cert);
	return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"kagami", -1, -1, 0) &&
	       X509_set_issuer_name(cert, name) && X509_sign(cert, identity->key, NULL) > 0;
}

static bool pin_of(X509 *certificate, struct pin *ret_pin)
{
	unsigned char *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
	bool ok = len > 0 && EVP_Digest(der, (size_t)len, ret_pin->bytes, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	return ok;
}

static int identity_store(const struct identity *identity, struct env_root *root, const char *name, struct err *err)
{
	BIO *out = BIO_new(BIO_s_secmem());
	if (!out)
		out = BIO_new(BIO_s_mem());
	char *data = NULL;
	int rc = -EIO;
	if (out && PEM_write_bio_PrivateKey(out, identity->key, NULL, NULL, 0, NULL, NULL) &&
	    PEM_write_bio_X509(out, identity->certificate)) {
		long len = BIO_get_mem_data(out, &data);
		rc = env_replace(root, ".", name, data, (size_t)len);
		if (rc)
			err_sys(err, rc, "write the key %s", name);
		OPENSSL_cleanse(data, (size_t)len);
	} else {
		openssl_fail(err, "write the key");
	}
	BIO_free(out);
	return rc;
}

static int identity_make(struct identity *identity, struct env_root *root, const char *name, struct err *err)
{
	identity->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!identity->key || !certificate_make(identity))
		return openssl_fail(err, "make a key");
	return identity_store(identity, root, name, err);
}

static int identity_parse(struct identity *identity, char *data, size_t len, const char *name, struct err *err)
{
	BIO *in = BIO_new_mem_buf(data, (int)len);
	if (in) {
		identity->key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
		identity->certificate = PEM_read_bio_X509(in, NULL, NULL, NULL);
	}
	BIO_free(in);
	ERR_clear_error();
	if (!identity->key || !identity->certificate || X509_check_private_key(identity->certificate, identity->key) != 1)
		return err_set(err, -EBADMSG,
			       "%s holds no key and certificate that fit: restore it from a backup, or remove it and pair anew",
			       name);
	return 0;
}

int identity_load(struct env_root *root, const char *name, struct identity **ret_identity, struct err *err)
{
	struct identity *identity = calloc(1, sizeof(*identity));
	if (!identity)
		return err_sys(err, -ENOMEM, "load the key");
	char *data = NULL;
	size_t len = 0;
	int rc = env_read_file(root, name, IDENTITY_FILE_MAX, &data, &len);
	if (rc == 0) {
		rc = identity_parse(identity, data, len, name, err);
		OPENSSL_cleanse(data, len);
		free(data);
	} else if (rc == -ENOENT) {
		rc = identity_make(identity, root, name, err);
	} else {
		err_sys(err, rc, "read the key %s", name);
	}
	if (rc == 0 && !pin_of(identity->certificate, &identity->pin))
		rc = openssl_fail(err, "digest of the key");
	if (rc) {
		identity_free(identity);
		return rc;
	}
	*ret_identity = identity;
	return 0;
}

int identity_keep(const struct identity *identity, struct env_root *root, const char *name, struct err *err)
{
	struct env_stat st;
	int rc = env_stat(root, name, &st);
	if (rc != -ENOENT && rc != -ENOTDIR)
		return 0;
	rc = identity_store(identity, root, name, err);
	return rc ? rc : 1;
}

void identity_free(struct identity *identity)
{
	if (!identity)
		return;
	EVP_PKEY_free(identity->key);
	X509_free(identity->certificate);
	free(identity);
}

const struct pin *identity_pin(const struct identity *identity)
{
	return &identity->pin;
}

static const unsigned char alpn[] = {sizeof(WIRE_ALPN) - 1, 'k', 'a', 'g', 'a', 'm', 'i', '/', '1'};

// A peer that does not ask for our protocol by name and major version gets a fatal alert.
static int alpn_select(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		       unsigned in_len, void *arg)
{
	(void)ssl;
	(void)arg;
	unsigned char *chosen = NULL;
	if (SSL_select_next_proto(&chosen, out_len, alpn, sizeof(alpn), in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

// The chain says nothing here: who the peer is, the caller decides by its pin.
static int accept_any(int ok, X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 1;
}

SSL_CTX *identity_context(const struct identity *identity, bool server, struct err *err)
{
	SSL_CTX *context = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	bool ok = context && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) &&
		  SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) &&
		  SSL_CTX_set_ciphersuites(
			  context, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") &&
		  SSL_CTX_use_certificate(context, identity->certificate) == 1 &&
		  SSL_CTX_use_PrivateKey(context, identity->key) == 1 && SSL_CTX_set_num_tickets(context, 0) &&
		  SSL_CTX_set_alpn_protos(context, alpn, sizeof(alpn)) == 0;
	if (!ok) {
		SSL_CTX_free(context);
		openssl_fail(err, "set up TLS");
		return NULL;
	}
	(void)SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION);
	(void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
	if (server)
		SSL_CTX_set_alpn_select_cb(context, alpn_select, NULL);
	return context;
}
