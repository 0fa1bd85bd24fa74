// SPDX-License-Identifier: Apache-2.0
// Certificates for NBD over TCP, from a directory laid out as for QEMU's tls-creds-x509.
//
// Here there is a CA, other than between replicator and receiver: NBD's clients are other people's programs, and this is
// how they are told whom to trust.
#include "replicator/nbd_tls_session.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/err.h>

static int path_in(const char *directory, const char *name, char path[PATH_MAX], struct err *err)
{
	if (snprintf(path, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "--nbd-tls: the path of the directory is too long");
	struct stat st;
	if (stat(path, &st))
		return err_sys(err, -errno, "--nbd-tls: %s (the directory must hold ca-cert.pem, server-cert.pem and server-key.pem)",
			       path);
	if (strcmp(name, "server-key.pem") == 0 && st.st_mode & S_IRWXO)
		return err_set(err, -EPERM, "--nbd-tls: everybody may use %s: make it private (chmod o= %s)", path, path);
	return 0;
}

static int refused(struct err *err, const char *path, const char *what)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return err_set(err, -EBADMSG, "--nbd-tls: %s: %s (%s)", path, what, why ? why : "no reason given");
}

static int load(SSL_CTX *context, const char *directory, struct err *err)
{
	char ca[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];
	int rc = path_in(directory, "ca-cert.pem", ca, err);
	if (rc == 0)
		rc = path_in(directory, "server-cert.pem", certificate, err);
	if (rc == 0)
		rc = path_in(directory, "server-key.pem", key, err);
	if (rc)
		return rc;
	STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(ca);
	if (!names)
		return refused(err, ca, "no certificate of a CA in PEM");
	SSL_CTX_set_client_CA_list(context, names);
	if (SSL_CTX_load_verify_locations(context, ca, NULL) != 1)
		return refused(err, ca, "cannot be used as a CA");
	if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
		return refused(err, certificate, "no certificate in PEM");
	bool asked = false;
	SSL_CTX_set_default_passwd_cb_userdata(context, &asked);
	bool good = SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(context) == 1;
	SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
	if (!good && asked) {
		ERR_clear_error();
		return err_set(err, -EBADMSG, "--nbd-tls: %s is encrypted, and a daemon has nobody to ask for the passphrase: write it without one (openssl pkey -in %s -out NEW.pem) and put that in its place", key, key);
	}
	if (!good)
		return refused(err, key, "not the key of server-cert.pem");
	return 0;
}

static int no_password(char *to, int cap, int writing, void *context)
{
	(void)to;
	(void)cap;
	(void)writing;
	if (context)
		*(bool *)context = true;
	return -1; // a daemon has nobody to ask
}

SSL_CTX *nbd_tls_context(const char *directory, struct err *err)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	if (!context || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1) {
		(void)err_set(err, -ENOMEM, "--nbd-tls: TLS cannot be set up");
		SSL_CTX_free(context);
		return NULL;
	}
	SSL_CTX_set_default_passwd_cb(context, no_password);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	// No resumption: who was let in once is looked at again the next time. And a client that goes away without a word
	// is no error: NBD's own framing shows what was whole.
	SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	(void)SSL_CTX_set_num_tickets(context, 0);
	(void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	(void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	if (load(context, directory, err)) {
		SSL_CTX_free(context);
		return NULL;
	}
	return context;
}
